"""The decoders of Qwen2.5-VL, Qwen2 and Llama over embeddings, for readers that know which positions they want.

Modules and weights are transformers'. Their own forward passes compute every position up to the last layer, and copy
keys and values for each of the heads that share them. A navigator reads one token out of a unit,
and the keys it remembers are most of what attention touches; so here the last layer computes only what is read, and the
heads of a group attend together to the one copy of their keys. Where a whole sequence is read, as in training, a mask
has PyTorch compute all pairs of its positions; read block by block, the pairs ahead of a block are left out. The values
are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaModel, Qwen2Model
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer, Qwen2_5_VLTextModel

from dualsight.nn.rope import Rope, half_rope, rotate_half

ALL, LAST, NONE = slice(None), slice(-1, None), slice(0)
"""Positions to read."""
BLOCK = 256
"""Positions of a whole sequence that attend together."""


class KeyValues(Protocol):
    """What decoding asks of a cache: ``transformers.Cache`` and the memories of ``dualsight.memory`` have it."""

    def update(self, keys: Tensor, values: Tensor, layer: int, /) -> tuple[Tensor, Tensor]:
        """Take the newest keys and values of a layer; return all that may be attended to."""
        ...


def decode(
    model: Qwen2_5_VLTextModel | LlamaModel | Qwen2Model,
    embeddings: Float[Tensor, "B Q D"],
    positions: Int[Tensor, "*axes B Q"],
    visible: Tensor | None,
    cache: KeyValues | None = None,
    read: slice | Tensor = ALL,
) -> Float[Tensor, "B R D"]:
    """The hidden states at the positions ``read``. All positions enter the ``cache``.

    Args:
        positions: time, row and column (M-RoPE, of Qwen2.5-VL), or one axis only.
        visible: who sees whom, (B, 1, Q, K), boolean or additive; nobody sees what stands behind it. None is causal,
            among all positions.
    """
    rope = Rope(*(table[:, :, None] for table in half_rope(*model.rotary_emb(embeddings, positions))))
    *layers, last = cast(Iterable[Qwen2_5_VLDecoderLayer], model.layers)
    x, groups = embeddings, last.self_attn.num_key_value_groups
    visible = _additive(visible, x.dtype)
    mask = visible if cache is None else _grouped(visible, groups)
    for layer in layers:
        x = _layer(layer, x, rope, mask, cache)
    if visible is not None and not (cache is None and read is ALL):
        mask = _grouped(visible[:, :, read], groups)
    return model.norm(_layer(last, x, rope, mask, cache, read))


def _layer(
    layer: Qwen2_5_VLDecoderLayer,
    x: Tensor,
    rope: Rope,
    visible: Tensor | None,
    cache: KeyValues | None,
    read: slice | Tensor = ALL,
) -> Float[Tensor, "B R D"]:
    """One layer of the decoder: keys and values of all positions, everything else at the positions ``read``."""
    normed, attention = layer.input_layernorm(x), layer.self_attn
    heads = (-1, attention.head_dim)
    queries = attention.q_proj(normed[:, read]).unflatten(-1, heads)  # (B, R, heads, head_dim)
    keys, values = (project(normed).unflatten(-1, heads) for project in (attention.k_proj, attention.v_proj))
    queries = rotate_half(queries, Rope(*(table[:, read] for table in rope))).transpose(1, 2)
    keys, values = rotate_half(keys, rope).transpose(1, 2), values.transpose(1, 2)  # (B, key heads, Q, head_dim)
    if cache is not None:
        keys, values = cache.update(keys, values, cast(int, attention.layer_idx))
    attended = _attend(queries, keys, values, visible)
    x = x[:, read] + attention.o_proj(attended.transpose(1, 2).flatten(2))
    return x + layer.mlp(layer.post_attention_layernorm(x))


def _attend(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Float[Tensor, "B heads R d"]:
    """Attention in which consecutive query heads share a key head, under a mask of a whole sequence, (B, 1, Q, Q), or
    one from :func:`_grouped`."""
    if visible is None:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=queries.shape[2] > 1, enable_gqa=True)
    if visible.shape[2] == queries.shape[2] == keys.shape[2]:
        keys, values = (x.repeat_interleave(queries.shape[1] // x.shape[1], dim=1) for x in (keys, values))
        blocks = [
            F.scaled_dot_product_attention(block, keys[:, :, :end], values[:, :, :end], mask[..., :end])
            for block, mask, end in zip(
                queries.split(BLOCK, 2), visible.split(BLOCK, 2), _ends(queries.shape[2]), strict=True
            )
        ]
        return torch.cat(blocks, dim=2)
    shared = queries.unflatten(1, (keys.shape[1], -1)).flatten(2, 3)  # (B, key heads, groups * R, head_dim)
    attended = F.scaled_dot_product_attention(shared, keys, values, attn_mask=visible)
    return attended.reshape(queries.shape)


def _ends(length: int) -> list[int]:
    """Where the blocks of a sequence end."""
    return [min(start + BLOCK, length) for start in range(0, length, BLOCK)]


def _additive(visible: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What attention would make of a boolean mask in every layer anew."""
    if visible is None or visible.dtype != torch.bool:
        return visible
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, float("-inf"))


def _grouped(visible: Tensor | None, groups: int) -> Tensor | None:
    """The mask of the queries of a group's heads laid end to end: (B, 1, R, K) to (B, 1, groups * R, K)."""
    return None if visible is None else visible.repeat(1, 1, groups, 1)
