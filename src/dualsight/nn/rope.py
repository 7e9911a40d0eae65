"""Rotary position embedding over the rows and columns of an image.

RoPE (arXiv:2104.09864) in the two-axis form of VGGT (arXiv:2503.11651): the first half of a head's channels turns
with the row of a token, the second half with its column. Within a half of ``d`` channels, channel pair ``i`` turns
by ``position * base ** (-2i / d)`` radians.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Rope(NamedTuple):
    """The turn of every token, ready to apply: both ``(N, head_dim)``, or whatever broadcasts with the rotated."""

    cos: Tensor
    sin: Tensor
    """Negated on the first member of each channel pair, so that ``x * cos + swapped(x) * sin`` is the rotation."""

    def tiled(self, times: int) -> Rope:
        """The table of ``times`` equal frames laid end to end: ``(times * N, head_dim)``."""
        return Rope(self.cos.repeat(times, 1), self.sin.repeat(times, 1))


def grid_positions(rows: int, columns: int, special: int) -> Tensor:
    """``(special + rows * columns, 2)``: special tokens at (0, 0), then the patches at (row + 1, column + 1)."""
    patches = torch.cartesian_prod(torch.arange(1, rows + 1), torch.arange(1, columns + 1))
    return torch.cat([torch.zeros(special, 2, dtype=patches.dtype), patches])


def axial_rope(positions: Tensor, head_dim: int, base: float = 100.0) -> Rope:
    """The rotation table of tokens at ``positions`` (N, 2). ``head_dim`` must be a multiple of four."""
    if head_dim % 4:
        raise ValueError(f"two-axis RoPE turns pairs of channels on each axis: head_dim {head_dim} is not 4n")
    half = head_dim // 2
    frequency = base ** (-torch.arange(0, half, 2, dtype=torch.float32) / half)
    angle = positions[:, :, None].float() * frequency  # (N, 2 axes, half / 2)
    cos = torch.stack([angle.cos(), angle.cos()], 2).flatten(1)  # a pair's members lie half / 2 channels apart
    sin = torch.stack([-angle.sin(), angle.sin()], 2).flatten(1)
    return Rope(cos, sin)


@lru_cache(maxsize=64)
def grid_rope(rows: int, columns: int, special: int, head_dim: int, base: float, device: torch.device) -> Rope:
    """:func:`axial_rope` of an image grid, computed once per shape and device.

    Outside inference mode whatever the caller's mode is: a cached inference tensor could not enter a later
    training pass.
    """
    with torch.inference_mode(False), torch.no_grad():
        rope = axial_rope(grid_positions(rows, columns, special), head_dim, base)
        return Rope(rope.cos.to(device), rope.sin.to(device))


def half_rope(cos: Tensor, sin: Tensor) -> Rope:
    """The table for :func:`rotate_half` from cosines and sines (..., head_dim) as Qwen's models have them."""
    first, second = sin.chunk(2, -1)
    return Rope(cos, torch.cat([-first, second], -1))


def rotate_half(x: Tensor, rope: Rope) -> Tensor:
    """Turn ``x`` (..., head_dim), channel i together with channel i + head_dim / 2, as in Qwen's models."""
    first, second = x.chunk(2, -1)
    return (x * rope.cos + torch.cat([second, first], -1) * rope.sin).to(x.dtype)


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Turn ``x`` (..., N, head_dim) by its positions; computed in float32 and returned in the type of ``x``."""
    quarter = x.shape[-1] // 4
    swapped = x.unflatten(-1, (2, 2, quarter)).flip(-2).flatten(-3)
    return (x * rope.cos + swapped * rope.sin).to(x.dtype)
