"""A few steps on one batch: what can be learnt must be."""

import torch
from torch import nn


def learn(training: nn.Module, batch: dict, steps: int, rate: float) -> list[dict[str, float]]:
    """What ``training(**batch)`` gave at every step of AdamW."""
    optimiser = torch.optim.AdamW([p for p in training.parameters() if p.requires_grad], rate)
    seen = []
    for _ in range(steps):
        outputs = training(**batch)
        optimiser.zero_grad()
        outputs["loss"].backward()
        optimiser.step()
        seen.append({name: float(value.detach()) for name, value in outputs.items()})
    return seen
