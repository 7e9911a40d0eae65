"""Where a second look should go, told by the frozen model itself: perplexity distillation (Atlas, arXiv:2208.03299).

A language model that is to read N latents is best served, at first, by N different sharp looks that ask nothing: they
cover a share of the image, whatever the question is, and once they are sharp no gradient leads away from them. So a
second look is first taught which single visual token would have helped, before it is taught by what is said:

    t_j = softmax_j log p(answer | every latent is visual token j)      no gradient; what follows is read for each j
    loss = - mean over latents n of  sum_j t_j log a_nj                 a: the weights of `memory.latent.Relook`
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import Mode, VisMem


@torch.no_grad()
def usefulness(
    memory: VisMem,
    input_ids: Int[Tensor, "B L"],
    attention_mask: Int[Tensor, "B L"],
    prompt: int,
    labels: Int[Tensor, "B L"],
    **vision: Any,
) -> Float[Tensor, "B calls V"]:
    """``t`` above, for every memory in sequences whose memories stand in the same columns.

    Args:
        labels: of the next token, `IGNORE` where there is none. Each counts for the last memory before it.
    """
    seen = memory.parts.shows(input_ids).sum(1)
    calls = prompt + memory.tokens.calls(input_ids[0, prompt:]).nonzero()[:, 0]
    first, found = int(calls[0]), []
    alone = (Mode(content="seen", token=token) for token in range(int(seen.max())))
    for logits in memory.score_each(input_ids, attention_mask, prompt, alone, **vision):
        behind = labels[:, first:]
        said = logits.float().log_softmax(-1).gather(-1, behind.clamp(min=0)[..., None])[..., 0]
        said = said.masked_fill(behind == IGNORE, 0.0)
        parts = [part.sum(1) for part in said.tensor_split((calls - first).cpu(), dim=1)[1:]]  # up to the next call
        found.append(torch.stack(parts, 1))
    odds = torch.stack(found, -1)
    beyond = torch.arange(odds.shape[-1], device=seen.device) >= seen[:, None, None]
    return odds.masked_fill(beyond, torch.finfo(odds.dtype).min).softmax(-1)


def lesson_loss(looks: list[Float[Tensor, "B N V"]], told: Float[Tensor, "B calls V"]) -> Float[Tensor, ""]:
    """The loss above: cross-entropy of every look of every latent, call by call."""
    weights = torch.stack(looks, 1).float()
    return -(told[:, :, None] * weights.clamp(min=1e-9).log()).sum(-1).mean()
