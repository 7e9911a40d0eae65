import errno
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dualsight.checkpoints import weights
from dualsight.checkpoints.weights import CheckpointError, WeightFiles, load_weights, save_weights


def test_saved_weights_replace_older_ones_of_another_layout(tmp_path):
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"old")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    save_weights({"a": torch.ones(2)}, tmp_path, torch.float16)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert load_file(tmp_path / "model.safetensors")["a"].dtype == torch.float16


def test_a_full_disk_leaves_the_older_checkpoint_as_it_was(tmp_path, monkeypatch):
    model = nn.Linear(2, 2)
    save_weights(model.state_dict(), tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "save_torch_state_dict", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, tmp_path)
    other = nn.Linear(2, 2)
    load_weights(other, WeightFiles(tmp_path))
    assert torch.equal(other.weight, model.weight)


def test_an_index_that_is_none_is_refused(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weights": {}}))
    with pytest.raises(CheckpointError, match="not an index of shards"):
        WeightFiles(tmp_path)
