"""The optimiser of matrices: what it makes of a gradient, and what it leaves to AdamW."""

import copy

import pytest
import torch
from torch import nn

from dualsight.train.muon import MOMENTUM, Muon, muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_singular_values_become_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    made = torch.linalg.svd(orthogonal(matrix), full_matrices=False)
    assert made.S.min() > 0.6 and made.S.max() < 1.3
    # the singular vectors stay: u^T O v is diagonal
    inside = u.T @ orthogonal(matrix) @ v.T
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-6


def test_a_step_is_as_large_as_one_of_adamw():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(64, 128))
    optimiser = Muon([{"params": [weight], "muon": True}], lr=0.01, weight_decay=0.0)
    weight.grad = torch.randn(64, 128)
    optimiser.step()
    size = weight.detach().square().mean().sqrt()
    assert 0.6 * 0.2 * 0.01 < size < 1.3 * 0.2 * 0.01


def test_momentum_is_nesterovs():
    gradients = [torch.randn(4, 6) for _ in range(2)]
    weight = nn.Parameter(torch.zeros(4, 6))
    optimiser = Muon([{"params": [weight], "muon": True}], lr=1.0, weight_decay=0.0)
    for gradient in gradients:
        weight.grad = gradient.clone()
        before = weight.detach().clone()
        optimiser.step()
    momentum = MOMENTUM * gradients[0] + gradients[1]
    expected = -0.2 * 6**0.5 * orthogonal(gradients[1] + MOMENTUM * momentum)
    assert torch.allclose(weight.detach() - before, expected, atol=1e-5)


def test_a_filter_is_a_matrix_of_its_outputs():
    torch.manual_seed(0)
    gradient, filters = torch.randn(8, 3, 3, 3), nn.Parameter(torch.zeros(8, 3, 3, 3))
    matrix = nn.Parameter(torch.zeros(8, 27))
    for weight in (filters, matrix):
        weight.grad = gradient.reshape(weight.shape).clone()
        Muon([{"params": [weight], "muon": True}], lr=0.1, weight_decay=0.0).step()
    assert filters.detach().abs().max() > 0 and torch.equal(filters.flatten(1), matrix)


def test_the_rest_is_adamw():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    theirs = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    theirs.load_state_dict(ours.state_dict())
    optimiser = muon(ours, 0.01, 0.1, [ours[0].weight])
    decayed = [theirs[0].weight, theirs[1].weight]
    reference = torch.optim.AdamW(
        [{"params": decayed}, {"params": [theirs[0].bias, theirs[1].bias], "weight_decay": 0.0}], 0.01, weight_decay=0.1
    )
    x = torch.randn(8, 4)
    for model, steps in ((ours, optimiser), (theirs, reference)):
        model(x).square().sum().backward()
        steps.step()
    assert torch.equal(ours[1].weight, theirs[1].weight)
    assert torch.equal(ours[0].bias, theirs[0].bias)
    assert not torch.allclose(ours[0].weight, theirs[0].weight)


def test_it_resumes_as_it_was():
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimiser = muon(model, 0.01, 0.0, [model.weight])
    x = torch.randn(8, 4)

    def step(model, optimiser):
        model(x).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    step(model, optimiser)
    twin = nn.Linear(4, 4)
    twin.load_state_dict(model.state_dict())
    resumed = muon(twin, 0.01, 0.0, [twin.weight])
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    step(model, optimiser)
    step(twin, resumed)
    assert torch.equal(model.weight, twin.weight)


def test_a_closure_is_refused():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="no closure"):
        muon(model, 0.01, 0.0, [model.weight]).step(lambda: 0.0)
