"""The transformer block that DINOv2, VGGT, its camera head and SigLIP share, with their parameter names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualsight.nn.rope import Rope, rotate

SHORT = 512
"""Keys up to which the scores of a row may be kept for the backward pass."""
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Decides what a query may see: maps queries, keys, values ``(B, heads, N, head_dim)`` to the attended values."""


def attend_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every token sees every other token of its row."""
    return attend_where(q, k, v, None)


def attend_where(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """Tokens see those that ``visible`` (boolean or additive, broadcast over heads) lets them see; None: all."""
    if not by_products(q, k):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if visible is not None:
        lowest = torch.finfo(scores.dtype).min  # not -inf: a padded row that sees nothing would be NaN
        scores = scores.masked_fill(~visible, lowest) if visible.dtype == torch.bool else scores + visible
    return scores.softmax(-1).to(v.dtype) @ v


def by_products(q: Tensor, k: Tensor) -> bool:
    """Is attention better computed by its two products than by torch's fused kernel? On CPUs, that one has a backward
    pass for bfloat16 that is two to nine times as slow; so short rows are trained with the products."""
    trained = torch.is_grad_enabled() and q.requires_grad
    return trained and q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] <= SHORT


class Attention(nn.Module):
    """Multi-head self-attention with one joint projection, optional LayerNorm on queries and keys, optional RoPE."""

    def __init__(self, dim: int, heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"a width of {dim} does not split into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rope: Rope | None = None, attend: Attend = attend_all) -> Tensor:
        """``x`` (B, N, dim) to (B, N, dim)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, N, head_dim)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out or dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch (arXiv:2103.17239)."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm transformer block: attention, then MLP, each scaled per channel (unless ``layer_scale`` is None) and
    added to its input."""

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = 0.01,
        qk_norm: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qk_norm)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(self, x: Tensor, rope: Rope | None = None, attend: Attend = attend_all) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), rope, attend))
        return x + self.ls2(self.mlp(self.norm2(x)))
