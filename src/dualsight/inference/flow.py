"""Drawing by rectified flow: each prompt is read once, and every step asks for the velocity that it implies.

With a diffusion transformer (``JanusDiT``) the language model is done by then; with ``JanusFlow`` it computes the
velocity, behind keys and values of the prompt that stay. As token by token (``image``), an image depends on its prompt
and its seed alone, different prompts are read once, and without guidance nothing unconditional is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dualsight.inference.image import OnPartial, OnStep, rows_of, seeds_of
from dualsight.models.janus_latent import LatentJanus
from dualsight.models.janus_processor import JanusProcessor
from dualsight.pathways.flow import Solver, Velocity, guided, integrate, seeded_noise
from dualsight.types import Frame


@torch.inference_mode()
def draw_by_flow(
    model: LatentJanus,
    processor: JanusProcessor,
    prompts: Sequence[str],
    seeds: Sequence[int] | None = None,
    per_prompt: int = 1,
    guidance: float | None = None,
    steps: int | None = None,
    solver: Solver | None = None,
    on_step: OnStep | None = None,
    on_partial: OnPartial | None = None,
    partial_every: int = 5,
) -> list[Frame]:
    """Images of ``prompts``, ``per_prompt`` of each, those of a prompt side by side; uint8 (H, W, 3).

    Args:
        seeds: one for each image; by default 0, 1, 2, ...
        guidance: how much the prompt counts; 1 is no guidance. None here and below: the model's ``sampling``.
        steps: of the solver, ``"euler"`` or ``"heun"`` (two evaluations a step).
        on_step: called after each step with how many of how many are done.
        on_partial: called every ``partial_every`` steps with the images that the path leads to by now.

    Raises:
        ValueError: no prompt, an empty one or one that is too long; not one seed per image; a guidance below 1, no
            steps or an unknown solver.
    """
    guidance = model.sampling.guidance if guidance is None else guidance
    if guidance < 1:
        raise ValueError(f"guidance is {guidance:g}; expected 1 (none) or more")
    seeds = seeds_of(prompts, per_prompt, seeds)
    different, rows = rows_of(model, processor, prompts, per_prompt, guided=guidance != 1)
    ids, valid = (tensor.to(model.device) for tensor in processor.left_padded(different))
    asked: Any = model.ask(ids, valid)  # what its own velocity takes

    def behind(chosen: list[int]) -> Velocity:
        return partial(model.velocity, asked=asked.select(torch.tensor(chosen, device=model.device)))

    images = len(seeds)
    velocity = guided(behind(rows[:images]), behind(rows[images:]) if guidance != 1 else None, guidance)
    latents = integrate(
        velocity,
        seeded_noise(seeds, model.config.latents, model.device),
        model.sampling.steps if steps is None else steps,
        solver or model.sampling.solver,
        _reporter(model, processor, on_step, on_partial, partial_every),
    )
    return processor.finished(model.codec.decode(latents))


def _reporter(
    model: LatentJanus,
    processor: JanusProcessor,
    on_step: OnStep | None,
    on_partial: OnPartial | None,
    every: int,
) -> Callable[[int, int, Tensor], None]:
    def report(done: int, total: int, latents: Tensor) -> None:
        if on_step:
            on_step(done, total)
        if on_partial and done % every == 0 and done < total:
            on_partial(processor.finished(model.codec.decode(latents)))

    return report
