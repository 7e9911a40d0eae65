"""Models of transformers learn the same with it: outputs and gradients, causal, masked, grouped, and both ways."""

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model
from transformers.models.internvl.modeling_internvl import InternVLVisionConfig, InternVLVisionModel

from dualsight.nn import hf_attention
from dualsight.nn.hf_attention import QUICK


def text(window=None):
    torch.manual_seed(0)
    sliding = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 0} if window else {}
    sizes = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return Qwen2Model(Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2, **sliding))


def vision():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    images = {"image_size": [16, 16], "patch_size": [4, 4], "layer_scale_init_value": 1.0}
    return InternVLVisionModel(InternVLVisionConfig(**sizes, **images))


IDS = torch.randint(20, (3, 9), generator=torch.Generator().manual_seed(1))
PADDED = torch.ones(3, 9, dtype=torch.long)
PADDED[0, :4] = 0
CASES = {
    "causal": (text, {"input_ids": IDS}),
    "a sliding window": (lambda: text(window=4), {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}),
    "left-padded": (text, {"input_ids": IDS, "attention_mask": PADDED}),
    "both ways": (vision, {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))}),
}


def test_one_query_stands_behind_all_keys():
    """As with a cache; and a model's own scale is its own."""
    layer = text().layers[0].self_attn
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, n, 8, generator=generator).bfloat16().requires_grad_()
        for heads, n in ((4, 1), (2, 5), (2, 5))
    )
    for scaling in (8**-0.5, 0.1):
        ours, _ = hf_attention.attend(layer, query, key, value, None, scaling=scaling)
        with torch.no_grad():  # the fused kernel
            theirs, _ = hf_attention.attend(layer, query, key, value, None, scaling=scaling)
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def learnt(model, inputs, implementation, dtype):
    model.set_attn_implementation(implementation)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = model(**inputs).last_hidden_state.float()
    real = inputs["attention_mask"][..., None] if "attention_mask" in inputs else torch.ones(1)
    (out * real).square().mean().backward()
    return (out * real).detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("case", CASES)
def test_it_learns_what_sdpa_learns(case, monkeypatch):
    make, inputs = CASES[case]
    model, used = make().train(), []
    attend = hf_attention.attend_where
    monkeypatch.setattr(hf_attention, "attend_where", lambda *given: (used.append(1), attend(*given))[1])
    expected, gradients = learnt(model, inputs, "sdpa", torch.float32)
    same, same_gradients = learnt(model, inputs, QUICK, torch.float32)
    assert not used, "in float32 it is sdpa"
    assert torch.equal(same, expected) and all(torch.equal(g, same_gradients[n]) for n, g in gradients.items())
    made, made_gradients = learnt(model, inputs, QUICK, torch.bfloat16)
    assert len(used) == 2, "both layers"
    torch.testing.assert_close(made, expected, atol=0.06, rtol=0.06)
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        assert float((made_gradients[name] - gradient).abs().max()) <= 0.05 * scale + 1e-5, name
