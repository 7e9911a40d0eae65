"""The semantic pathway: Qwen2.5-VL's vision transformer, run over batches of frames of one size.

The modules and weights are transformers' ``Qwen2_5_VisionTransformerPretrainedModel``. Its own forward pass packs
images of any size into one sequence and attends window by window in a Python loop; frames of an episode are all of
one size, so here the windows of all frames are one batch (identical values, many times fewer kernel calls).

Tokens are kept in *merge order* throughout: the patches of one cell (2x2 in the release) are neighbours, cells run row
by row. A merged image token is then simply so many consecutive patches.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionBlock,
)

from dualsight.nn.rope import Rope, half_rope, rotate_half

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
ROPE_THETA = 10000.0


def vision_transformer(out_hidden_size: int, **config) -> Qwen2_5_VisionTransformerPretrainedModel:
    """Qwen2.5-VL's ViT with random weights; ``config`` holds transformers' own field names."""
    return Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLVisionConfig(out_hidden_size=out_hidden_size, **config))


def merge_order(rows: int, cols: int, merge: int) -> Tensor:
    """The raster index of each patch in merge order, (rows * cols,). Rows and columns left over are cut off."""
    raster = torch.arange(rows * cols).view(rows, cols)[: rows - rows % merge, : cols - cols % merge]
    return rearrange(raster, "(h m) (w n) -> (h w m n)", m=merge, n=merge)


def patchify(
    frames: Float[Tensor, "B 3 H W"], patch: int = 14, temporal: int = 2, merge: int = 2
) -> Float[Tensor, "B P D"]:
    """Cut frames in [0, 1] into normalised patches in merge order, ready for the patch embedding.

    A patch is laid out (channel, time, row, column): the still frame is repeated over the ``temporal`` axis. Pixels
    beyond an even number of patches (below and to the right) are cut off, as in the JanusVLN release.
    """
    cell = patch * merge
    frames = frames[..., : frames.shape[-2] // cell * cell, : frames.shape[-1] // cell * cell]
    mean, std = (frames.new_tensor(value).view(3, 1, 1) for value in (CLIP_MEAN, CLIP_STD))
    pattern = "b c (h m p) (w n q) -> b (h w m n) (c t p q)"
    return repeat((frames - mean) / std, pattern, m=merge, n=merge, p=patch, q=patch, t=temporal)


def encode(
    visual: Qwen2_5_VisionTransformerPretrainedModel, patches: Float[Tensor, "B P D"], rows: int, cols: int
) -> Float[Tensor, "B P Dv"]:
    """The output of the last block, before ``visual.merger``, for frames of ``rows`` x ``cols`` patches (merge order).

    ``visual.merger(encode(...).flatten(0, 1))`` equals the pooled output of transformers' own forward pass.
    """
    config = visual.config
    head_dim, merge, patch = (
        config.hidden_size // config.num_heads,
        config.spatial_merge_size,
        cast(int, config.patch_size),
    )
    layout = _layout(rows, cols, merge, config.window_size // patch, head_dim, patches.device)
    projection = visual.patch_embed.proj  # a convolution over whole patches: a product
    x = F.linear(patches.to(projection.weight.dtype), projection.weight.flatten(1))  # (B, P, Dv)
    if layout.windows:
        x = x[:, layout.order]
    for index, block in enumerate(cast(Iterable[Qwen2_5_VLVisionBlock], visual.blocks)):
        windows = () if index in config.fullatt_block_indexes else layout.windows
        x = x + _attend(block.attn, block.norm1(x), layout.rope, windows)
        x = x + block.mlp(block.norm2(x))
    return x[:, layout.inverse] if layout.windows else x


def _attend(attention, x: Tensor, rope: Rope, windows: tuple[int, ...]) -> Tensor:
    """Self-attention inside each of the consecutive ``windows`` of tokens (none: all see all), batched over frames."""
    qkv = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1))  # (B, P, 3, heads, d)
    q, k = rotate_half(qkv[:, :, :2], rope).transpose(1, 3).unbind(2)  # (B, heads, P, d)
    v = qkv[:, :, 2].transpose(1, 2)
    if not windows:
        out = F.scaled_dot_product_attention(q, k, v)
    elif len(set(windows)) == 1:  # windows of one size become rows of the batch
        q, k, v = (_fold(tensor, len(windows)) for tensor in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v).unflatten(0, (-1, len(windows))).transpose(1, 2).flatten(2, 3)
    else:
        parts = zip(*(tensor.split(windows, dim=2) for tensor in (q, k, v)), strict=True)
        out = torch.cat([F.scaled_dot_product_attention(*part) for part in parts], dim=2)
    return attention.proj(out.transpose(1, 2).flatten(2))


def _fold(tensor: Tensor, windows: int) -> Tensor:
    """(B, heads, P, d) -> (B * windows, heads, P / windows, d)."""
    return tensor.unflatten(2, (windows, -1)).transpose(1, 2).flatten(0, 1)


class Layout(NamedTuple):
    """How the patches of a frame lie while the blocks run: window by window."""

    order: Tensor
    """The permutation from merge order, (P,)."""
    inverse: Tensor
    windows: tuple[int, ...]
    """Patches of each window; empty if one window holds the whole frame, which then stays in merge order."""
    rope: Rope
    """Rotation of each patch in this order, (P, 1, 1, head_dim)."""


@lru_cache(maxsize=16)
def _layout(rows: int, cols: int, merge: int, window: int, head_dim: int, device: torch.device) -> Layout:
    """The layout for windows ``window`` patches wide, smaller at the lower and right edges.

    Outside inference mode, as a cached inference tensor could not enter a later training pass.
    """
    with torch.inference_mode(False), torch.no_grad():
        raster = merge_order(rows, cols, merge)
        positions = torch.stack([raster // cols, raster % cols], dim=1)
        tile = positions // window
        tile_index = tile[:, 0] * -(-cols // window) + tile[:, 1]
        order = tile_index.argsort(stable=True)
        counts = torch.unique(tile_index, return_counts=True)[1].tolist()
        cos, sin = (table[:, None, None].to(device) for table in half_rope(*_rope(positions[order], head_dim)))
        windows = tuple(counts) if len(counts) > 1 else ()
        return Layout(order.to(device), order.argsort().to(device), windows, Rope(cos, sin))


def _rope(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Axial rotary tables (P, head_dim): the first quarter of frequencies turns with the row, the next with the column,
    and the second half of a head repeats the first."""
    frequencies = ROPE_THETA ** -(torch.arange(0, head_dim // 2, 2) / (head_dim // 2))
    angles = (positions[:, :, None] * frequencies).flatten(1).repeat(1, 2)
    return angles.cos(), angles.sin()
