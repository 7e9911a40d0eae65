"""Drawing token by token with Janus: many prompts in one batch, several images of each, a seed for every image.

One token at a time, as in the release: scores with and without the prompt are joined to ``u + s (c - u)`` and one token
is drawn from their softmax. Three things are done otherwise, with the same tokens as a result:

- each *different* prompt is read once, each unconditional prompt once for its length (it says nothing else), and all
  images of a prompt go on from copies of that memory;
- without guidance (``guidance=1``) nothing unconditional is computed;
- an image has a noise of its own, drawn from its seed, and takes ``argmax(scores / T + Gumbel noise)``, which is a
  sample of the softmax: what is drawn depends on prompt and seed, not on the batch it is drawn in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dualsight.inference.token_graph import ROOM, TokenGraph, choose, gumbel
from dualsight.models.janus import Janus
from dualsight.models.janus_core import JanusCore, Reading
from dualsight.models.janus_processor import JanusProcessor
from dualsight.types import Frame

OnStep = Callable[[int, int], None]
"""Called after each token with how many of how many are drawn."""
OnPartial = Callable[[list[Frame]], None]
"""Called now and then with the images as far as they are."""


@torch.inference_mode()
def draw(
    model: Janus,
    processor: JanusProcessor,
    prompts: Sequence[str],
    seeds: Sequence[int] | None = None,
    per_prompt: int = 1,
    guidance: float = 5.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    on_step: OnStep | None = None,
    on_partial: OnPartial | None = None,
    partial_every: int = 64,
    compile: bool = False,
) -> list[Frame]:
    """Images of ``prompts``, ``per_prompt`` of each, those of a prompt side by side; uint8 (H, W, 3).

    Args:
        seeds: one for each image; by default 0, 1, 2, ...
        guidance: ``s`` above; 1 is no guidance.
        temperature: of sampling; 0 takes the best token.
        top_k: sample from so many of the best tokens only (the release: from all).
        compile: every token by one compiled graph (``token_graph``), for GPUs. The first image waits for it; rounding
            may differ, and so, now and then, a token.

    Raises:
        ValueError: no prompt, an empty one or one that is too long for the model; not one seed per image; a negative
            temperature, a guidance below 1, or a ``top_k`` below 1.
    """
    codes = draw_codes(
        model, processor, prompts, seeds, per_prompt, guidance, temperature, top_k,
        on_step, on_partial, partial_every, compile,
    )  # fmt: skip
    return develop(model, processor, codes)


@torch.inference_mode()
def draw_codes(
    model: Janus,
    processor: JanusProcessor,
    prompts: Sequence[str],
    seeds: Sequence[int] | None = None,
    per_prompt: int = 1,
    guidance: float = 5.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    on_step: OnStep | None = None,
    on_partial: OnPartial | None = None,
    partial_every: int = 64,
    compile: bool = False,
) -> Int[Tensor, "I N"]:
    """The tokens of the images that :func:`draw` makes."""
    _check(guidance, temperature, top_k)
    seeds = seeds_of(prompts, per_prompt, seeds)
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    reading, hidden = _read_prompts(model, processor, prompts, per_prompt, guidance != 1, ROOM if compile else 1)
    total, size = model.config.drawn_tokens, model.gen_embed.num_embeddings
    codes = torch.empty(len(seeds), total, dtype=torch.long, device=model.device)
    graph = TokenGraph(model, reading, guidance, temperature, top_k) if compile else None
    for step in range(total):
        dice = gumbel(noise, size, model.device) if temperature else None
        if graph and step:
            codes[:, step] = graph.next(codes[:, step - 1], dice)
        else:
            codes[:, step] = choose(model.gen_head(hidden).float(), dice, guidance, temperature, top_k)
        if on_step:
            on_step(step + 1, total)
        if on_partial and (step + 1) % partial_every == 0 and step + 1 < total:
            # what is not there yet is filled with the last token
            on_partial(
                develop(
                    model, processor, codes.where(torch.arange(total, device=codes.device) <= step, codes[:, [step]])
                )
            )
        if step + 1 < total and not graph:
            newest = model.embed_codes(codes[:, [step]])
            hidden = model.read(newest.repeat(2 if guidance != 1 else 1, 1, 1), reading)[:, -1]
    return codes


def _read_prompts(
    model: Janus, processor: JanusProcessor, prompts: Sequence[str], per_prompt: int, guided: bool, multiple: int
) -> tuple[Reading, Float[Tensor, "R D"]]:
    """Read every prompt: the memory of each image's row and its last hidden state. Under guidance the second half of
    the rows has read the unconditional prompts. The memory's capacity is a multiple of ``multiple``."""
    different, rows = rows_of(model, processor, prompts, per_prompt, guided)
    ids, valid = processor.left_padded(different)
    ids, valid = ids.to(model.device), valid.to(model.device)
    reading = model.begin(len(ids), ids.shape[1])
    hidden = model.read(model.embed(ids), reading, valid)[:, -1]
    chosen = torch.tensor(rows, device=model.device)
    room = ids.shape[1] + model.config.drawn_tokens
    return reading.select(chosen, -(-room // multiple) * multiple), hidden[chosen]


def rows_of(
    model: JanusCore, processor: JanusProcessor, prompts: Sequence[str], per_prompt: int, guided: bool
) -> tuple[list[tuple[int, ...]], list[int]]:
    """The different prompts to read, as tokens, and which of them each image goes on from; under guidance, behind
    them, which unconditional one.

    Raises:
        ValueError: a prompt is empty, or too long for the model.
    """
    asked = [processor.drawing(prompt) for prompt in prompts]
    longest, image = max(map(len, asked)), model.config.drawn_tokens
    if longest + image > model.config.text.max_position_embeddings:
        raise ValueError(
            f"the longest prompt has {longest} tokens; with the {image} of an image that is more than the "
            f"{model.config.text.max_position_embeddings} of this model: shorten it"
        )
    different: dict[tuple[int, ...], int] = {}

    def row_of(ids: list[int]) -> int:
        return different.setdefault(tuple(ids), len(different))

    rows = [row_of(ids) for ids in asked for _ in range(per_prompt)]
    if guided:
        rows += [row_of(processor.unconditional(ids)) for ids in asked for _ in range(per_prompt)]
    return list(different), rows


def seeds_of(prompts: Sequence[str], per_prompt: int, seeds: Sequence[int] | None) -> list[int]:
    """One seed for each image; 0, 1, 2... unless they are given.

    Raises:
        TypeError: ``prompts`` is one text.
        ValueError: there is no prompt, no image of each, or not one seed for each.
    """
    if isinstance(prompts, str):
        raise TypeError("prompts is one text; expected a list of texts (['...'])")
    if not prompts:
        raise ValueError("no prompt: expected at least one text that says what to draw")
    if per_prompt < 1:
        raise ValueError(f"{per_prompt} images of each prompt; expected at least 1")
    images = len(prompts) * per_prompt
    if seeds is not None and len(seeds) != images:
        raise ValueError(f"{len(seeds)} seeds for {images} images ({len(prompts)} prompts, {per_prompt} of each)")
    return [int(seed) for seed in (range(images) if seeds is None else seeds)]


def develop(model: Janus, processor: JanusProcessor, codes: Int[Tensor, "I N"]) -> list[Frame]:
    """The images of their tokens."""
    side = model.config.side
    return processor.finished(model.gen_vision_model.decode(codes, (side, side)))


def _check(guidance: float, temperature: float, top_k: int | None) -> None:
    if guidance < 1:
        raise ValueError(f"guidance is {guidance:g}; expected 1 (none) or more (the release draws with 5)")
    if temperature < 0:
        raise ValueError(f"temperature is {temperature:g}; expected 0 (the best token) or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1, or None for all tokens")
