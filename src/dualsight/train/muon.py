"""Muon (Jordan et al., 2024): momentum whose singular values are all made one, for matrices and convolutions.

    M <- mu M + G            G + mu M = U S V^T,   O = U V^T   (by Newton-Schulz, without the decomposition)
    W <- (1 - lr decay) W - lr 0.2 sqrt(max(rows, columns)) O

A filter of a convolution (O, I, h, w) counts as a matrix of O rows.

The factor gives an update the size that AdamW's has (arXiv:2502.16982), so learning rates carry over. A decoder that is
trained from nothing needs about two thirds of AdamW's steps (docs/log.md). Everything that is no such matrix
(embeddings, norms, biases, heads) stays with AdamW. ``torch.optim.Muon`` always iterates in bfloat16, which is slow on
CPUs that have no instructions for it, and twice as fast on those that do.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values towards one; five rounds bring all above 0.01 between 0.7 and 1.2."""
ROUNDS = 5


class Muon(torch.optim.AdamW):
    """Muon for the parameters in groups with ``"muon": True``, AdamW for the others."""

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            raise ValueError("Muon takes no closure: compute the gradients, then call step()")
        for group in self.param_groups:
            for parameter in group["params"] if group.get("muon") else ():
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state.setdefault("step", torch.tensor(0.0))  # AdamW looks for it when a state is loaded
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.mul_(MOMENTUM).add_(parameter.grad)
                direction = (parameter.grad + MOMENTUM * momentum).flatten(1)
                update = orthogonal(direction.to(group.get("dtype", torch.float32))).to(parameter.dtype)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-0.2 * group["lr"] * max(update.shape) ** 0.5)
                parameter.grad = None  # spent: AdamW passes over what has none
        super().step()


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrix to (R, C), roughly: all its singular values are near one."""
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def muon(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    matrices: Iterable[nn.Parameter],
    dtype: torch.dtype = torch.float32,
) -> Muon:
    """The optimiser of ``model``: Muon for ``matrices``, iterating in ``dtype``, AdamW for what else is trained, decay
    for matrices only."""
    chosen = {id(parameter) for parameter in matrices}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rest = [parameter for parameter in trained if id(parameter) not in chosen]
    return Muon(
        [
            {"params": [p for p in trained if id(p) in chosen], "muon": True, "dtype": dtype},
            {"params": [p for p in rest if p.ndim > 1]},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=learning_rate,
        weight_decay=weight_decay,
    )
