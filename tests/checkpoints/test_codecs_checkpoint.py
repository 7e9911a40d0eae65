import json
from dataclasses import replace

import pytest
import torch

from dualsight.checkpoints.codecs import load_codec, save_codec
from dualsight.checkpoints.weights import CheckpointError
from dualsight.pathways.vae import TINY as TINY_VAE
from dualsight.pathways.vae import VAE
from dualsight.pathways.vq import TINY as TINY_VQ
from dualsight.pathways.vq import VQTokenizer

SMALL = {"base_channels": 8, "norm_groups": 4}


@pytest.mark.parametrize("codec", [VQTokenizer(replace(TINY_VQ, **SMALL)), VAE(replace(TINY_VAE, **SMALL))])
def test_there_and_back_is_identity(codec, tmp_path):
    save_codec(codec, tmp_path)
    loaded = load_codec(tmp_path)
    assert type(loaded) is type(codec) and loaded.config == codec.config and not loaded.training
    weights, state = codec.state_dict(), loaded.state_dict()
    assert weights.keys() == state.keys() and all(torch.equal(weights[name], state[name]) for name in weights)


def test_what_is_no_codec_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_codec(tmp_path)
    path = tmp_path / "config.json"
    for text, message in (
        ("{", "no codec's config"),
        ("[]", "no codec's config"),
        (json.dumps({"model_type": "janus"}), "expected one of vq, vae"),
        (json.dumps({"model_type": "vae", "width": 3}), "unknown key width"),
    ):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            load_codec(tmp_path)
