"""The patch embedding of VGGT: a DINOv2 vision transformer with register tokens (arXiv:2304.07193, 2309.16588)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualsight.nn.attention import Block


class PatchProjection(nn.Module):
    """Cuts an image into patches and projects each: a strided convolution."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """``images`` (B, 3, H, W) to (B, dim, H / patch, W / patch)."""
        return self.proj(images)


class DinoPatchEmbed(nn.Module):
    """DINOv2 with registers; returns the normalised patch tokens only.

    ``image_size`` is the size the position embedding was learned at; other sizes interpolate it.
    """

    def __init__(self, image_size: int, patch: int, dim: int, depth: int, heads: int, registers: int = 4) -> None:
        super().__init__()
        self.patch = patch
        self.patch_embed = PatchProjection(patch, dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 1e-6)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (image_size // patch) ** 2, dim) * 0.02)
        self.register_tokens = nn.Parameter(torch.randn(1, registers, dim) * 1e-6)
        # Part of every DINOv2 checkpoint, used by its own pre-training only.
        self.mask_token = nn.Parameter(torch.zeros(1, dim), requires_grad=False)
        self.blocks = nn.ModuleList(Block(dim, heads, layer_scale=1.0, eps=1e-6) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised ``images`` (B, 3, H, W) to patch tokens (B, H / patch * W / patch, dim), row by row."""
        x = self.patch_embed(images)
        rows, columns = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.positions(rows, columns)
        x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 1 + self.register_tokens.shape[1] :])

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position embedding of a ``rows`` x ``columns`` grid, ``(1, 1 + rows * columns, dim)``: bicubic."""
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if (rows, columns) == (side, side):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].float().transpose(1, 2).unflatten(2, (side, side))
        grid = F.interpolate(grid, (rows, columns), mode="bicubic", antialias=True)
        grid = grid.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], grid], 1)
