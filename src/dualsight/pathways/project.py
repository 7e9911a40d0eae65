"""From the encoders to the language model: merging geometry, and fusing it with semantics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ImageTokens = Float[Tensor, "... N D"]


class MergeProjector(nn.Module):
    """Geometry features to decoder width: RMSNorm per patch, the patches of a cell side by side, an MLP.

    Input and output are in merge order (see ``qwen_vit``). The parameter names are those of the JanusVLN release.
    """

    def __init__(self, in_features: int, hidden: int, out_features: int, merge: int = 2):
        super().__init__()
        self.cell = merge * merge
        self.ln_q = nn.RMSNorm(in_features, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(in_features * self.cell, hidden), nn.GELU(), nn.Linear(hidden, out_features))

    def forward(self, features: Float[Tensor, "... P C"]) -> ImageTokens:
        return self.mlp(self.ln_q(features).unflatten(-2, (-1, self.cell)).flatten(-2))


class AddFusion(nn.Module):
    """``F = S + lam * G`` (JanusVLN, equation of the spatial-aware feature). No parameters."""

    def __init__(self, lam: float):
        super().__init__()
        self.lam = lam

    def forward(self, semantic: ImageTokens, spatial: ImageTokens) -> ImageTokens:
        return semantic + self.lam * spatial


class ConcatFusion(nn.Module):
    """``F = W [S; G]``, the concatenation of the paper's fusion ablation. Starts as ``F = S``."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Linear(2 * width, width, bias=False)
        with torch.no_grad():
            self.proj.weight.copy_(torch.cat([torch.eye(width), torch.zeros(width, width)], dim=1))

    def forward(self, semantic: ImageTokens, spatial: ImageTokens) -> ImageTokens:
        return self.proj(torch.cat([semantic, spatial], dim=-1))


class CrossAttentionFusion(nn.Module):
    """``F = S + W CrossAttention(S -> G)`` within a frame, of the same ablation. Starts as ``F = S``."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.proj = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, semantic: ImageTokens, spatial: ImageTokens) -> ImageTokens:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for layer, x in ((self.q, semantic), (self.k, spatial), (self.v, spatial))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)
        return semantic + self.proj(attended)


def make_fusion(kind: str, width: int, heads: int, lam: float) -> nn.Module | None:
    """The fusion module named ``kind``; ``None`` for ``"none"``, where geometry is not even computed."""
    match kind:
        case "add":
            return AddFusion(lam)
        case "concat":
            return ConcatFusion(width)
        case "cross_attention":
            return CrossAttentionFusion(width, heads)
        case "none":
            return None
    raise ValueError(f"fusion is {kind!r}; expected add, concat, cross_attention or none")
