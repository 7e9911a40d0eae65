"""SigLIP's vision transformer (arXiv:2303.15343), as Janus understands images through it.

Patches, a learned position for each, pre-norm blocks, a last LayerNorm; no class token. The parameter names are those
of the released Janus checkpoints (timm's), so that they load without a map. They also carry the attention pooling of
SigLIP's own pre-training, which Janus never calls: ``pool=True`` keeps it, so that a checkpoint goes back whole.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dualsight.nn.attention import Block, Mlp
from dualsight.pathways.dino import PatchProjection

EPS = 1e-6


class Siglip(nn.Module):
    """Images of one fixed size to one token per patch."""

    def __init__(self, image_size: int, patch: int, dim: int, depth: int, heads: int, mlp_ratio: float, pool: bool):
        super().__init__()
        self.patch_embed = PatchProjection(patch, dim)
        self.pos_embed = nn.Parameter(torch.randn(1, (image_size // patch) ** 2, dim) * 0.02)
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=mlp_ratio, layer_scale=None, eps=EPS) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=EPS)
        if pool:
            self.attn_pool = _AttentionPool(dim, mlp_ratio)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        """Normalised images to the output of the last block, after the last norm."""
        x = self.patch_embed(images).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class _AttentionPool(nn.Module):
    """Parameters of the pooling head: nothing here calls it."""

    def __init__(self, dim: int, mlp_ratio: float):
        super().__init__()
        self.latent = nn.Parameter(torch.zeros(1, 1, dim))
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
