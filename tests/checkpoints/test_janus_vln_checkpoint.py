import gzip
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualsight.checkpoints.janus_vln import (
    DENSE_HEADS,
    config_of_release,
    from_pretrained,
    read_config,
    released_config,
    save_pretrained,
    save_released,
)
from dualsight.checkpoints.weights import CheckpointError
from dualsight.models.janus_vln import JANUS_VLN_7B, TINY, JanusVLN
from dualsight.models.vln_processor import VLNProcessor, word_tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = replace(
        TINY,
        text=replace(TINY.text, num_hidden_layers=2, vocab_size=64, hidden_size=192, num_attention_heads=6),
        fusion="concat",
    )
    model = JanusVLN(config).eval()
    processor = VLNProcessor(config, word_tokenizer(["go", "to", "the", "red", "sofa"]))
    save_pretrained(model, processor, folder, torch.float16)
    return model, processor, folder


def test_saved_and_loaded_is_the_same_model(saved):
    model, processor, folder = saved
    loaded, other = from_pretrained(folder)
    assert loaded.config == model.config
    for (name, expected), (other_name, actual) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other_name and actual.dtype == torch.float32
        assert torch.equal(actual, expected.half().float())
    assert other.prompt("Go to the RED sofa.") == processor.prompt("Go to the RED sofa.")
    frames = torch.rand(1, 3, 112, 112)
    torch.testing.assert_close(loaded.encode_semantic(frames), model.encode_semantic(frames), atol=2e-2, rtol=2e-2)


def test_a_folder_in_shards_loads(saved, tmp_path):
    _, _, folder = saved
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:100], "model-00002-of-00002.safetensors": names[100:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded, _ = from_pretrained(tmp_path)
    assert torch.equal(loaded.lm_head.weight, tensors["lm_head.weight"].float())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks model-00002-of-00002"):
        from_pretrained(tmp_path)


def damage(folder, target, change):
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors")


def test_missing_unknown_and_misshapen_tensors_are_named_in_one_error(saved, tmp_path):
    def change(tensors):
        tensors["lm_head.bias"] = torch.zeros(64)
        tensors["model.norm.weight"] = torch.zeros(5)
        del tensors["merger.ln_q.weight"]

    damage(saved[2], tmp_path, change)
    with pytest.raises(CheckpointError) as error:
        from_pretrained(tmp_path)
    text = str(error.value)
    assert "missing (1): merger.ln_q.weight" in text
    assert "unknown (1): lm_head.bias" in text
    assert "model.norm.weight has shape (5,), the model (192,)" in text


def test_a_truncated_file_and_an_empty_folder_are_refused(saved, tmp_path):
    damage(saved[2], tmp_path, lambda tensors: None)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="no readable tokenizer"):
        from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        from_pretrained(tmp_path / "nothing")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lambda": 0.2}, "unknown key lambda"),
        ({"fusion": "sum"}, "fusion is 'sum'"),
        ({"model_type": "llama"}, "model_type 'llama'"),
        ({"text": {"hidden_size": 3}}, "missing"),
    ],
)
def test_a_config_that_is_not_ours_is_refused(tmp_path, change, message):
    (tmp_path / "config.json").write_text(json.dumps({**TINY.to_dict(), **change}))
    with pytest.raises(CheckpointError, match=message):
        read_config(tmp_path)


def test_config_there_and_back():
    data = json.loads(json.dumps(TINY.to_dict()))
    assert type(TINY).from_dict(data) == TINY


def test_every_released_key_is_accounted_for_with_its_shape():
    with gzip.open("tests/golden/janusvln_7b_keys.json.gz") as file:
        released = {name: tuple(shape) for name, shape in json.load(file).items()}
    with torch.device("meta"):
        whole = JanusVLN(JANUS_VLN_7B)
        slim = JanusVLN(replace(JANUS_VLN_7B, vggt=replace(JANUS_VLN_7B.vggt, heads=())))
    assert {name: tuple(tensor.shape) for name, tensor in whole.state_dict().items()} == released
    assert set(released) - set(slim.state_dict()) == {name for name in released if name.startswith(DENSE_HEADS)}


def test_released_config_there_and_back():
    data = released_config(JANUS_VLN_7B)
    assert config_of_release(json.loads(json.dumps(data))) == JANUS_VLN_7B
    with pytest.raises(ValueError, match="use save_pretrained"):
        released_config(TINY)


def test_a_released_checkpoint_is_loaded_and_saved_back_with_the_same_names_and_values(tmp_path):
    """The release's layout at a size that fits: its VGGT is stood in for by a small one."""
    from dualsight.checkpoints import janus_vln

    small = replace(
        JANUS_VLN_7B,
        vision=replace(JANUS_VLN_7B.vision, depth=1, hidden_size=32, intermediate_size=48, num_heads=2),
        text=replace(TINY.text, num_hidden_layers=1, vocab_size=64),
        vggt=replace(TINY.vggt, patch_size=14, depth=2, dpt_layers=(0, 0, 1, 1), heads=("point", "depth")),
        merger_hidden=16,
        tokens=TINY.tokens,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(janus_vln, "JANUS_VLN_7B", replace(JANUS_VLN_7B, vggt=small.vggt))
        model = JanusVLN(small)
        tokenizer = word_tokenizer([])
        save_released(model, VLNProcessor(replace(small, action_slots=1), tokenizer), tmp_path / "one")
        patch.setattr(janus_vln.AutoTokenizer, "from_pretrained", lambda folder: tokenizer)
        loaded, processor = from_pretrained(tmp_path / "one", dtype=torch.bfloat16, dense_heads=True)
        save_released(loaded, processor, tmp_path / "two")
        slim, _ = from_pretrained(tmp_path / "one")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys() == model.state_dict().keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert set(first) - set(slim.state_dict()) == {name for name in first if name.startswith(DENSE_HEADS)}
