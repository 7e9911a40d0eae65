"""Where the tokens of an episode stand, and which of them see each other, in JanusVLN's ``paper`` behaviour.

An episode is one sequence, ``[prompt][unit 0][unit 1]...``, and each frame is one unit::

    [tokens of the action before it][<|vision_start|>][image tokens][<|vision_end|>]

Units have a fixed size so that a memory can hold them in slots; action slots that stay empty are seen by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

EMPTY = -1
"""Marks an action slot that holds no token."""


@dataclass
class EpisodeBatch:
    """Whole episodes, padded at the end, with all their frames or with the features of a frozen encoder.

    Either ``frames`` is given, or both ``semantic`` and ``spatial`` (what ``JanusVLN.encode_semantic`` and
    ``encode_spatial`` return, in any floating dtype).
    """

    prompts: Int[Tensor, "B L"]
    prompt_lengths: Int[Tensor, " B"]
    previous: Int[Tensor, "B T A"]
    """Tokens of the action executed before each frame, ``EMPTY`` where there is none."""
    lengths: Int[Tensor, " B"]
    """Frames of each episode. What stands beyond them reaches nothing before them."""
    frames: Float[Tensor, "B T 3 H W"] | None = None
    semantic: Float[Tensor, "B T P Dv"] | None = None
    spatial: Float[Tensor, "B T P C"] | None = None
    answers: Int[Tensor, "B T A"] | None = None
    """Tokens of the answer at each step, ``EMPTY`` after its end. A step's first token is read at its last image mark,
    each further one at the token before it, as ``decode_action`` does; no other step sees them."""

    def to(self, device: torch.device | str) -> EpisodeBatch:
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if value is not None})


class Layout(NamedTuple):
    """Episodes as sequences, ready to be decoded."""

    embeddings: Float[Tensor, "B S D"]
    positions: Int[Tensor, "3 B S"]
    visible: Bool[Tensor, "B 1 S S"]
    ends: Int[Tensor, " T"]
    """Where each unit ends, and the first token of an answer is read."""
    image: Float[Tensor, "B T N D"]
    """The image tokens in it."""


def unit_positions(
    start: Int[Tensor, "*shape"], previous: Int[Tensor, "*shape A"], grid: tuple[int, int]
) -> tuple[Int[Tensor, "3 *shape U"], Int[Tensor, "*shape"]]:
    """M-RoPE positions of a unit that begins at ``start``, and where the next one begins.

    Text advances time, row and column together by one. An image at p has its tokens at (p, p + row, p + col); what
    follows continues at p + max(rows, cols), as in Qwen2.5-VL.
    """
    rows, cols = grid
    slots = previous.shape[-1]
    held = (previous != EMPTY).sum(-1, keepdim=True)  # (..., 1)
    action = (torch.arange(slots, device=held.device) - (slots - held)).clamp(min=0)  # right-aligned
    cells = torch.arange(rows * cols, device=held.device)
    image = torch.stack([torch.zeros_like(cells), cells // cols, cells % cols])  # (3, N)
    image = image.view(3, *[1] * (held.ndim - 1), -1) + held + 1
    text = [offset.expand(3, *offset.shape) for offset in (action, held, held + 1 + max(grid))]
    offsets = torch.cat([text[0], text[1], image, text[2]], dim=-1)
    return offsets + start[..., None], start + held[..., 0] + 2 + max(grid)


def unit_validity(previous: Int[Tensor, "*shape A"], image_tokens: int) -> Bool[Tensor, "*shape U"]:
    """Which tokens of a unit are there: all but the empty action slots."""
    return torch.nn.functional.pad(previous != EMPTY, (0, image_tokens + 2), value=True)


def episode_positions(
    prompt_lengths: Int[Tensor, " B"], prompt_size: int, previous: Int[Tensor, "B T A"], grid: tuple[int, int]
) -> Int[Tensor, "3 B S"]:
    """M-RoPE positions of ``[prompt][units]``: each row's units continue at the end of its own prompt."""
    advance = (previous != EMPTY).sum(-1) + 2 + max(grid)  # (B, T)
    start = prompt_lengths[:, None] + advance.cumsum(1) - advance
    units, _ = unit_positions(start, previous, grid)
    prompt = torch.arange(prompt_size, device=previous.device).expand(3, len(previous), -1)
    return torch.cat([prompt, units.flatten(2)], dim=-1)


def episode_visibility(
    prompt_lengths: Int[Tensor, " B"],
    prompt_size: int,
    valid: Bool[Tensor, "B T U"],
    initial: int,
    recent: int,
) -> Bool[Tensor, "B 1 S S"]:
    """Who sees whom when a whole episode is one sequence: exactly what the window memory holds at each step.

    A token of unit t sees, among the valid tokens before it, the prompt, the units u < initial, the units
    u >= t - recent, and its own unit up to itself. A padding token sees itself, so that no row of the mask is empty.
    """
    steps, size, device = valid.shape[1], valid.shape[2], valid.device
    unit = torch.cat([
        torch.full((prompt_size,), -1, device=device), torch.arange(steps, device=device).repeat_interleave(size)
    ])  # fmt: skip
    kept = (unit < initial) | (unit >= unit[:, None] - recent)  # (S, S); the prompt's -1 is always kept
    index = torch.arange(len(unit), device=device)
    in_prompt = index[:prompt_size] < prompt_lengths[:, None]
    there = torch.cat([in_prompt, valid.flatten(1)], dim=1)  # (B, S)
    seen = (kept & (index <= index[:, None])) & there[:, None]
    return (seen | torch.eye(len(unit), dtype=torch.bool, device=device))[:, None]


def draft_visibility(
    visible: Bool[Tensor, "B 1 S S"], ends: Int[Tensor, " T"], there: Bool[Tensor, "B T D"]
) -> Bool[Tensor, "B 1 R R"]:
    """The visibility of an episode with ``D`` draft tokens for each step behind it, ``R = S + T * D``.

    A draft sees what its step's last token (at ``ends``) sees, and the drafts of its step up to itself. Nobody else
    sees it.
    """
    batch, steps, size = there.shape
    episode = visible[:, :, ends].repeat_interleave(size, dim=2)  # (B, 1, T * D, S)
    step = torch.arange(steps, device=there.device).repeat_interleave(size)
    place = torch.arange(size, device=there.device).repeat(steps)
    own = (step == step[:, None]) & (place <= place[:, None])  # (T * D, T * D)
    own = (own & there.flatten(1)[:, None, None]) | torch.eye(len(step), dtype=torch.bool, device=there.device)
    nobody = visible.new_zeros(batch, 1, visible.shape[2], len(step))
    return torch.cat([torch.cat([visible, nobody], dim=3), torch.cat([episode, own], dim=3)], dim=2)


def draft_positions(positions: Int[Tensor, "3 B S"], ends: Int[Tensor, " T"], size: int) -> Int[Tensor, "3 B N"]:
    """Positions of ``size`` draft tokens for each step: they continue after its last token."""
    offsets = torch.arange(1, size + 1, device=positions.device)
    return (positions[:, :, ends, None] + offsets).flatten(2)
