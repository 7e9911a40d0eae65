"""Where a memory should look, told by the frozen model itself.

A language model that is to read N latents is best served, at first, by N different sharp looks that ask nothing: they
cover a share of the image, whatever the question is, and once they are sharp no gradient leads away from them. So the
first steps of a memory also teach which visual tokens the model would answer from: the image is put in its reach
(where it has lost it, once more, in the place of the memory), and what its answer leans on is read off one gradient:

    t_j  = |d logit(answer) / d v_j|^2, over their sum       v_j: visual token j, as it enters the decoder
    S    = the tokens before the largest drop of t_j, from the most leant on down
    j_n  = number (n + 1/2) |S| / N, rounded down, of S in the order of the image
    loss = - mean over latents n of  log a_{n, j_n}          a: where latent n looks, see below

So latents share what is needed among them: where the answer is in one token, all of them look at it, and where it is in
the six cells of a row, one after another. A short memory looks by the weights of its second look
(`memory.latent.Relook`), a long one by what its slots pay to visual tokens in the decoder's last layers, and the
paper's short former, alone, by what its slots pay to the image in the blocks of the encoder. What these two make of
what they see must be read as visual tokens are, by their place and then their content, of which no gradient tells
before they have both. So they are also taught to make the tokens themselves:

    loss = mean over latents n of  |M_n - v_{j_n}|^2 / spread of the v_j

of the answers that the model gives rightly where it sees the image. What it does not know then, no token can tell it,
and its memory has to say it in words of its own.

Of 36 cells the asked one gets nine tenths of ``t``. How likely each token by itself would make the answer, as in
perplexity distillation (Atlas, arXiv:2208.03299), says next to nothing where many cells look alike, and takes a pass
for each token (``docs/log.md``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import Kind, VisMem, in_front

LESSON = 0.5
"""Share of a memory's steps, at the beginning, that have lessons. Without any it was a gist of the image."""
LEAST = 0.01
"""Drops are looked for among the tokens that are leant on at least so much, of what the first one is."""
TINY = 1e-30


class Leaning(NamedTuple):
    """What the answers of a frozen model lean on."""

    told: Float[Tensor, "B V"]
    """``t`` above; zeros where an answer leans on no token."""
    seen: Float[Tensor, "B V D"]
    """``v`` above."""
    known: Float[Tensor, " B"]
    """Which share of an answer's tokens the model gives rightly from them."""


def leaning(
    memory: VisMem,
    input_ids: Int[Tensor, "B L"],
    attention_mask: Int[Tensor, "B L"],
    labels: Int[Tensor, "B L"],
    **vision: Any,
) -> Leaning:
    """What answers lean on in all images of a row, padded behind.

    Args:
        input_ids: what is said, without memories; rows may be padded on the left.
        labels: of the next token, `IGNORE` where there is none. An answer of several tokens has the sum of logits.
        vision: pixel values and what comes with them, for the stock model.
    """
    entered: list[Tensor] = []

    def begins(layer: Any, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        named = "hidden_states" in keywords
        entered.append((keywords["hidden_states"] if named else arguments[0]).detach().requires_grad_())
        if named:
            return arguments, keywords | {"hidden_states": entered[0]}
        return (entered[0], *arguments[1:]), keywords

    learnt = labels != IGNORE
    handle = memory.parts.text.layers[0].register_forward_pre_hook(begins, with_kwargs=True)
    try:
        with torch.enable_grad():
            hidden = memory.parts.core(**memory.whole(input_ids, attention_mask, vision)).last_hidden_state[learnt]
            logits, answers = memory.vlm.get_output_embeddings()(hidden).float(), labels[learnt]
            (gradient,) = torch.autograd.grad(logits.gather(1, answers[:, None]).sum(), entered[0])
    finally:
        handle.remove()
    order, there = in_front(memory.parts.shows(input_ids))
    leant = gradient.float().square().sum(-1).gather(1, order) * there
    seen = entered[0].detach().take_along_dim(order[..., None], 1)
    right = torch.zeros_like(learnt, dtype=torch.float).masked_scatter(learnt, (logits.argmax(-1) == answers).float())
    return Leaning(F.normalize(leant, 1, eps=TINY), seen, right.sum(1) / learnt.sum(1).clamp(min=1))


def shared_out(told: Float[Tensor, "B V"], latents: int) -> Float[Tensor, "B N V"]:
    """Which token each latent should be, ``j_n`` above, as ones among zeros; nothing where nothing is told."""
    told = told.float()
    ordered = told.sort(1, descending=True).values
    ordered = ordered.clamp(min=TINY).maximum(LEAST * ordered[:, :1])
    below = torch.cat([ordered[:, 1:], ordered[:, -1:]], 1)
    last = (ordered / below).argmax(1, keepdim=True)  # of S
    needed = (told >= ordered.gather(1, last)) & (told > 0)
    wanted = ((torch.arange(latents, device=told.device) + 0.5) / latents * needed.sum(1, keepdim=True)).long() + 1
    tokens = torch.searchsorted(needed.cumsum(1), wanted).clamp(max=told.shape[1] - 1)
    return F.one_hot(tokens, told.shape[1]) * needed.any(1)[:, None, None].float()


def look_loss(looks: Float[Tensor, "B N V"], wanted: Float[Tensor, "B N V"]) -> Float[Tensor, ""]:
    """The first loss above, mean over the latents of which something is wanted."""
    missed = -(wanted * looks.float().clamp(min=1e-9).log()).sum()
    return missed / wanted.sum().clamp(min=1)


def token_loss(
    latents: Float[Tensor, "B N D"],
    wanted: Float[Tensor, "B N V"],
    seen: Float[Tensor, "B V D"],
    known: Float[Tensor, " B"],
) -> Float[Tensor, ""]:
    """The second one, mean over the latents of which something is wanted, as far as the model knows the answer."""
    spread = (seen.float() - seen.float().mean((0, 1))).square().sum(-1).mean()
    counts = wanted.sum(-1) * known[:, None]
    missed = (latents.float() - wanted @ seen.float()).square().sum(-1) * counts
    return missed.sum() / counts.sum().clamp(min=1) / spread


def lesson_loss(
    memory: VisMem, kind: Kind, looks: Float[Tensor, "B N V"], latents: Float[Tensor, "B N D"], leant: Leaning
) -> Float[Tensor, ""]:
    """Those of the two that memories of this kind need."""
    wanted = shared_out(leant.told, latents.shape[1])
    loss = look_loss(looks, wanted)
    if kind == "short" and memory.relook is not None:
        return loss
    return loss + token_loss(latents, wanted, leant.seen, leant.known)
