"""Training weights that are kept in half precision.

Near 1 the next number of bfloat16 is 1/128 away: a step of 1e-4 is rounded off, and AdamW around a VLM of that
precision trains next to nothing, without a word. So steps are taken by copies of the weights in 32 bits
(arXiv:1710.03740, section 3.1), and the weights are these copies, rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class MasterAdamW(torch.optim.AdamW):
    """AdamW over 32-bit copies of ``weights``, whose gradients are those of the weights. Only matrices decay."""

    def __init__(self, weights: Iterable[nn.Parameter], learning_rate: float, weight_decay: float, **settings: Any):
        ordered = sorted((w for w in weights if w.requires_grad), key=lambda weight: weight.ndim > 1)
        self.weights = ordered
        copies = [nn.Parameter(weight.detach().float().clone()) for weight in ordered]
        groups = [
            {"params": [c for c in copies if c.ndim > 1], "weight_decay": weight_decay},
            {"params": [c for c in copies if c.ndim <= 1], "weight_decay": 0.0},
        ]
        self.copies = copies
        super().__init__([group for group in groups if group["params"]], learning_rate, **settings)

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            raise ValueError("compute the gradients, then call step(): there is no closure")
        for weight, copy in zip(self.weights, self.copies, strict=True):
            copy.grad = None if weight.grad is None else weight.grad.float()
        super().step()
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        for weight, copy in zip(self.weights, self.copies, strict=True):
            weight.copy_(copy)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for weight in self.weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "copies": [copy.detach() for copy in self.copies]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        copies: list[Tensor] = state_dict["copies"]
        super().load_state_dict({name: state_dict[name] for name in ("state", "param_groups")})
        for copy, was in zip(self.copies, copies, strict=True):
            copy.copy_(was)
        self._publish()
