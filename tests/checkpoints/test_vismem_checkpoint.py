"""Memories on disk: only what was learnt, for the VLM that they belong to, readable by peft."""

import json

import pytest
import torch
from safetensors.torch import load_file

from dualsight.checkpoints.vismem import load_memory, save_memory
from dualsight.checkpoints.weights import CheckpointError
from dualsight.models.vismem import VisMem, VisMemConfig
from tests.models.tiny_vlms import prompts, tiny_vlm

CONFIG = VisMemConfig(queries=3, short=2, long=3, width=16, heads=2, rank=4)


@pytest.fixture
def vlm():
    return tiny_vlm("qwen2_5_vl")


@pytest.fixture
def memory(vlm):
    torch.manual_seed(3)
    memory = VisMem(vlm, range(4, 50), CONFIG)
    for former in (memory.short, memory.long):
        for b in former.adapters.b:
            torch.nn.init.normal_(b, std=0.3)
    memory.builder.whiten_h.fit(torch.randn(99, 32))
    return memory


def test_what_is_loaded_says_what_was_saved(memory, vlm, tmp_path):
    batch = prompts("qwen2_5_vl", vlm, [[7, 8], [9]])
    options = {**batch, "max_new_tokens": 16, "do_sample": False, "output_logits": True}
    before = memory.generate("always", **options, return_dict_in_generate=True)
    save_memory(memory, tmp_path)
    again = load_memory(vlm, tmp_path).generate("always", **options, return_dict_in_generate=True)
    assert torch.equal(before.sequences, again.sequences)
    assert torch.equal(torch.stack(before.logits), torch.stack(again.logits))


def test_nothing_of_the_vlm_is_written(memory, vlm, tmp_path):
    save_memory(memory, tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    learnt = sum(tensor.numel() for tensor in memory.state_dict().values()) * 4
    assert learnt < written < 1.3 * learnt + 20_000
    base = {name for name, _ in vlm.named_parameters()}
    assert not base & set(load_file(tmp_path / "memory.safetensors"))
    assert not any("language_model" in name or "visual" in name for name in memory.state_dict())


def test_peft_reads_the_loras(memory, vlm, tmp_path):
    """Each former's adapter, put into the VLM by peft, does to a layer what it does here."""
    from peft import PeftModel

    save_memory(memory, tmp_path)
    x = torch.randn(5, 24)
    layer = memory.short.adapters.layers[0]
    with memory.short.adapters.active():
        expected = layer(x)
    plain = layer(x)
    adapted = PeftModel.from_pretrained(tiny_vlm("qwen2_5_vl"), str(tmp_path / "short"))
    torch.testing.assert_close(adapted.get_submodule("base_model.model.model.visual.blocks.0.attn.qkv")(x), expected)
    assert not torch.allclose(plain, expected)


def test_a_memory_of_another_vlm_is_refused(memory, tmp_path):
    save_memory(memory, tmp_path)
    with pytest.raises(ValueError, match=r"belongs to a VLM of .*qwen2_5_vl"):
        load_memory(tiny_vlm("internvl"), tmp_path)


def test_other_folders_are_refused(memory, vlm, tmp_path):
    with pytest.raises(CheckpointError, match="train memory"):
        load_memory(vlm, tmp_path)
    save_memory(memory, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "janus"}))
    with pytest.raises(ValueError, match="'janus', not of a memory"):
        load_memory(vlm, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"memory": config["memory"] | {"rank": 5}}))
    with pytest.raises(CheckpointError, match="wrong shape"):
        load_memory(vlm, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"memory": config["memory"] | {"depth": 5}}))
    with pytest.raises(ValueError, match="unknown key depth"):
        load_memory(vlm, tmp_path)


def test_at_7b_a_memory_is_below_100_mb():
    """Counted on the meta device, in bfloat16."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
    }  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
    with torch.device("meta"):
        vlm = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))
        memory = VisMem(vlm, [0])
    assert sum(tensor.numel() for tensor in memory.state_dict().values()) * 2 < 100e6
