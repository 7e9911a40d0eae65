"""The attention of transformers' models, made quick to train in bfloat16 on CPUs (see ``attention.by_products``).

    LlamaConfig(..., attn_implementation=QUICK)     or     model.set_attn_implementation(QUICK)

Wherever the products are not quicker, this is transformers' own "sdpa".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dualsight.nn.attention import attend_where, by_products

QUICK = "dualsight_quick"
"""Its name among transformers' implementations."""


def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options):
    """As transformers calls it: ``query`` (B, heads, Q, d); returns (B, Q, heads, d) and no weights."""
    if torch.is_autocast_enabled("cpu"):  # as the fused kernel does; rotation has made float32 of them
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    if options.get("dropout") or not by_products(query, key):
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **options)
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if attention_mask is None and causal and query.shape[2] > 1:  # one alone stands behind all keys
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    if options.get("scaling") is not None:
        query = query * (options["scaling"] * query.shape[-1] ** 0.5)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    return attend_where(query, key, value, attention_mask).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(QUICK, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(QUICK, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
