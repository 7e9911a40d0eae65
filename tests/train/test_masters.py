"""Weights in half precision are trained as well as others."""

import io

import torch
from torch import nn

from dualsight.train.masters import MasterAdamW

SETTINGS = {"betas": (0.9, 0.99), "eps": 1e-8}


def weights(dtype: torch.dtype) -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    made = [torch.randn(size, generator=rng).bfloat16() for size in ((6, 5), (7,), ())]
    return [nn.Parameter(tensor.to(dtype)) for tensor in made]


def steps(optimiser: torch.optim.Optimizer, of: list[nn.Parameter], first: int, last: int) -> None:
    """Gradients follow from the number of the step; the second weight has none in every other one."""
    for step in range(first, last):
        rng = torch.Generator().manual_seed(step)
        for place, weight in enumerate(of):
            gradient = torch.randn(weight.shape, generator=rng).bfloat16()
            weight.grad = None if place == 1 and step % 2 else gradient.to(weight.dtype)
        optimiser.step()
        optimiser.zero_grad()


def test_steps_that_bfloat16_would_not_notice_add_up():
    """To what AdamW makes of 32-bit weights, rounded; AdamW on the weights themselves leaves most where they are."""
    exact, half, lost = weights(torch.float32), weights(torch.bfloat16), weights(torch.bfloat16)
    groups = [{"params": exact[:1], "weight_decay": 0.1}, {"params": exact[1:], "weight_decay": 0.0}]
    steps(torch.optim.AdamW(groups, 1e-4, **SETTINGS), exact, 0, 50)
    steps(MasterAdamW(half, 1e-4, 0.1, **SETTINGS), half, 0, 50)
    steps(torch.optim.AdamW(lost, 1e-4, weight_decay=0.0, **SETTINGS), lost, 0, 50)
    for ours, wanted in zip(half, exact, strict=True):
        assert torch.equal(ours, wanted.bfloat16())
    moved = [(now != was).float().mean() for now, was in zip(half, weights(torch.bfloat16), strict=True)]
    stuck = [(now != was).float().mean() for now, was in zip(lost, weights(torch.bfloat16), strict=True)]
    assert moved[0] > 2 * stuck[0]
    assert all(weight.grad is None for weight in half)


def test_what_the_weights_do_not_show_is_in_the_checkpoint():
    whole, parts = weights(torch.bfloat16), weights(torch.bfloat16)
    steps(MasterAdamW(whole, 1e-4, 0.1, **SETTINGS), whole, 0, 40)
    first = MasterAdamW(parts, 1e-4, 0.1, **SETTINGS)
    steps(first, parts, 0, 13)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    with torch.no_grad():
        for weight in parts:
            weight.zero_()
    second = MasterAdamW(parts, 1e-4, 0.1, **SETTINGS)
    second.load_state_dict(torch.load(file, weights_only=True))
    steps(second, parts, 13, 40)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
