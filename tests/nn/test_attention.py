"""Attention by its two products is the fused one, in value and gradient."""

import pytest
import torch
from torch.nn import functional as F

from dualsight.nn import attention
from dualsight.nn.attention import attend_where


def inputs(dtype):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, n, 8, generator=generator).to(dtype).requires_grad_() for n in (5, 7, 7)]


@pytest.mark.parametrize("mask", ["none", "boolean", "additive"])
def test_what_is_trained_in_bfloat16_is_what_the_fused_kernel_gives(mask, monkeypatch):
    visible = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    visible[..., 0] = True
    masks = {"none": None, "boolean": visible, "additive": torch.where(visible, 0.0, -torch.inf)}
    given = masks[mask] if mask != "additive" else masks[mask].bfloat16()
    fused = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy(F.scaled_dot_product_attention, fused))
    q, k, v = inputs(torch.bfloat16)
    made = attend_where(q, k, v, given)
    made.float().square().sum().backward()
    assert not fused, "the products were not used"
    exact = inputs(torch.float32)
    expected = attend_where(*exact, masks[mask])
    assert fused
    expected.square().sum().backward()
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), expected, atol=0.03, rtol=0.03)
    for ours, theirs in zip((q, k, v), exact, strict=True):
        torch.testing.assert_close(ours.grad.float(), theirs.grad, atol=0.1, rtol=0.05)


def test_long_rows_and_what_is_not_trained_take_the_fused_kernel(monkeypatch):
    fused = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy(F.scaled_dot_product_attention, fused))
    q, k, v = inputs(torch.bfloat16)
    with torch.no_grad():
        attend_where(q, k, v, None)
    assert len(fused) == 1
    monkeypatch.setattr(attention, "SHORT", 6)
    attend_where(q, k, v, None)
    assert len(fused) == 2


def spy(function, calls):
    return lambda *args, **options: (calls.append(1), function(*args, **options))[1]
