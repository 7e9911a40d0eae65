from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from dualsight.checkpoints.vggt import load_vggt
from dualsight.checkpoints.weights import CheckpointError
from dualsight.pathways.vggt import TINY, VGGT

WHOLE = replace(TINY, depth=2, dino_depth=1, dpt_layers=(0, 0, 1, 1), heads=("camera", "point", "depth"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file with the names of facebook/VGGT-1B, its tracking head included."""
    state = VGGT(WHOLE).state_dict() | {"track_head.feature_extractor.norm.weight": torch.zeros(3)}
    path = tmp_path_factory.mktemp("vggt") / "model.safetensors"
    save_file(state, path)
    return state, path


@pytest.mark.parametrize("heads", [(), ("depth",), ("camera", "point", "depth")])
def test_heads_that_are_not_built_are_left_out(published, heads):
    state, path = published
    model = load_vggt(VGGT(replace(WHOLE, heads=heads)), path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert load_vggt(VGGT(replace(WHOLE, heads=heads)), path.parent) is not None  # a folder, too


def test_another_size_is_refused(published):
    with pytest.raises(CheckpointError, match=r"camera_token has shape \(1, 2, 1, 96\), the model \(1, 2, 1, 48\)"):
        load_vggt(VGGT(replace(WHOLE, embed_dim=48, heads=())), published[1])
