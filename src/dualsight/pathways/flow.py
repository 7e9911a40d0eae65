"""Rectified flow (arXiv:2209.03003): noise becomes an image along straight lines. It knows no network.

    x_t = (1 - t) x_0 + t x_1        x_0 ~ N(0, I), x_1 an image, t in [0, 1]
    v(x_t, t) = E[x_1 - x_0 | x_t]   the velocity, learnt by regression on x_1 - x_0
    dx/dt = v(x, t)                  from t = 0 to t = 1: sampling

In training, t is logit-normal (arXiv:2403.03206), sigmoid of N(-log shift, 1): the middle of the way is the hard part,
and where the middle lies depends on the images. Those of few, large, flat parts are decided while nearly all is noise
still; a shift above 1 learns more of the points there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "B ..."]
Velocity = Callable[[Latents, Float[Tensor, " B"]], Latents]
"""``v(x, t)``, one t for each row."""
Progress = Callable[[int, int, Latents], None]
"""Called after each step with the number of steps done, that of all steps, and where the path leads by now."""
Solver = Literal["euler", "heun"]


class Sampling(NamedTuple):
    """How a model draws unless it is told otherwise."""

    guidance: float
    steps: int
    solver: Solver


def on_the_way(
    images: Latents, generator: torch.Generator | None = None, shift: float = 1.0
) -> tuple[Latents, Float[Tensor, " B"], Latents]:
    """What a batch of latents ``x_1`` teaches: ``x_t``, t and ``x_1 - x_0``, one t and one noise for each. The loss is
    ``E |v(x_t, t) - (x_1 - x_0)|^2``."""
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    t = (torch.randn(len(images), generator=generator, device=images.device) - math.log(shift)).sigmoid()
    share = t.view(-1, *[1] * (images.ndim - 1))
    target = images - noise
    return noise + share * target, t, target


def seeded_noise(seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> Latents:
    """``x_0``, one image for each seed. Drawn on the CPU: an image depends neither on its batch nor on the device."""
    rows = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def guided(conditional: Velocity, unconditional: Velocity | None, scale: float) -> Velocity:
    """Classifier-free guidance, ``v_u + scale (v_c - v_u)`` (arXiv:2207.12598). At 1 that is ``v_c``, and no second
    pass is made.

    Raises:
        ValueError: the scale is another, and there is nothing to guide away from.
    """
    if scale == 1.0:
        return conditional
    if unconditional is None:
        raise ValueError(f"guidance {scale:g} needs an unconditional velocity, too; only 1.0 does without")

    def velocity(x: Latents, t: Tensor) -> Latents:
        away = unconditional(x, t)
        return away + scale * (conditional(x, t) - away)

    return velocity


@torch.no_grad()
def integrate(
    velocity: Velocity, noise: Latents, steps: int, solver: Solver = "heun", on_step: Progress | None = None
) -> Latents:
    """Follow the velocity from ``noise`` at t = 0 to an image at t = 1, in steps of equal length.

    ``"euler"`` asks for the velocity once in a step, ``"heun"`` twice: it goes on with the mean of the velocities at
    both ends of Euler's step, and its error falls with the square of the number of steps.

    Raises:
        ValueError: there is no step to make, or no such solver.
    """
    if steps < 1 or solver not in ("euler", "heun"):
        raise ValueError(f"{steps} steps of solver {solver!r}; expected at least one step of euler or heun")
    x = noise
    times = torch.linspace(0, 1, steps + 1).tolist()
    for step, (now, then) in enumerate(pairwise(times), 1):
        v = velocity(x, x.new_full((len(x),), now))
        if solver == "heun":
            ahead = velocity(x + (then - now) * v, x.new_full((len(x),), then))
            v = (v + ahead) / 2
        x = x + (then - now) * v
        if on_step:
            on_step(step, steps, x + (1 - then) * v)
    return x
