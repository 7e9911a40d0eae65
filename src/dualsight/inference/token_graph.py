"""One token of a drawing as one graph of fixed shapes, for ``torch.compile``: embed, decode, guide, sample.

The loop in ``image`` reads a memory that grows, so every token has other shapes, and Python starts each of its hundreds
of kernels by hand. Here keys and values lie in a buffer of fixed size, a
tensor says where the next ones go, and a mask hides what is not written yet. Nothing depends on the token's number but
what is in tensors, so one compiled graph (on CUDA, one recorded graph of kernels) serves all tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualsight.models.decoder import decode
from dualsight.models.janus import Janus
from dualsight.models.janus_core import Reading

ROOM = 64
"""Buffers are a multiple of this long: prompts of like length share a graph."""
GRAPHS = 64
"""Most graphs that are kept; one more is an error."""


class FixedMemory:
    """A buffer of keys and values that is attended to as a whole; the newest token goes to ``place``."""

    def __init__(self, buffer: Float[Tensor, "2 L B H C d"], place: Int[Tensor, " P"]):
        self.buffer, self.place = buffer, place

    def update(
        self, keys: Float[Tensor, "B H 1 d"], values: Float[Tensor, "B H 1 d"], layer: int
    ) -> tuple[Float[Tensor, "B H C d"], Float[Tensor, "B H C d"]]:
        """Write the newest token of a layer; returns all places, written or not."""
        self.buffer[0, layer].index_copy_(2, self.place, keys)
        self.buffer[1, layer].index_copy_(2, self.place, values)
        return self.buffer[0, layer], self.buffer[1, layer]


def choose(
    scores: Float[Tensor, "R V"],
    noise: Float[Tensor, "I V"] | None,
    guidance: float,
    temperature: float,
    top_k: int | None,
) -> Int[Tensor, " I"]:
    """One token for each image; under guidance the second half of the rows is unconditional.

    Args:
        noise: Gumbel noise, in the type of the scores; None takes the best token.
    """
    if guidance != 1:
        conditional, unconditional = scores.chunk(2)
        scores = unconditional + guidance * (conditional - unconditional)
    if noise is None:
        return scores.argmax(-1)
    if top_k is not None and top_k < scores.shape[-1]:
        least = scores.topk(top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    return (scores / temperature + noise).argmax(-1)


def _token(
    model: Janus,
    codes: Int[Tensor, " I"],
    buffer: Float[Tensor, "2 L B H C d"],
    place: Int[Tensor, " P"],
    position: Int[Tensor, " B"],
    valid: Bool[Tensor, "B C"],
    noise: Float[Tensor, "I V"] | None,
    guidance: float,
    temperature: float,
    top_k: int | None,
) -> Int[Tensor, " I"]:
    newest = model.embed_codes(codes[:, None]).repeat(len(position) // len(codes), 1, 1)
    there = valid & (torch.arange(valid.shape[1], device=valid.device) <= place)
    memory = FixedMemory(buffer, place)
    hidden = decode(model.language_model.model, newest, position[:, None], there[:, None, None], memory)
    return choose(model.gen_head(hidden[:, -1]).float(), noise, guidance, temperature, top_k)


@cache
def _compiled(device: str) -> Callable[..., Tensor]:
    # every length, number of rows and setting has a graph of its own: a server would soon be past the default of 8
    setattr(torch._dynamo.config, "recompile_limit", max(torch._dynamo.config.recompile_limit, GRAPHS))  # noqa: B010
    return torch.compile(_token, dynamic=False, fullgraph=True, mode="reduce-overhead" if device == "cuda" else None)


class TokenGraph:
    """Goes on from what has been read, one token at a time. It takes ``reading`` over: nobody else reads on from it."""

    def __init__(self, model: Janus, reading: Reading, guidance: float, temperature: float, top_k: int | None):
        self.model, self.settings = model, (guidance, temperature, top_k)
        self.run = _compiled(model.device.type)
        self.buffer, length = reading.memory.buffer, reading.memory.length
        self.buffer[..., length:, :] = 0  # what was never written may be nan, which passes any mask
        torch._dynamo.mark_static_address(self.buffer)  # CUDA records no graph that writes to what may move
        self.valid = reading.valid
        if self.valid is None:
            rows, capacity = self.buffer.shape[2], reading.memory.capacity
            self.valid = torch.ones(rows, capacity, dtype=torch.bool, device=self.buffer.device)
        self.place = torch.tensor([length], device=self.buffer.device)
        self.position = reading.position.clone()

    def next(self, codes: Int[Tensor, " I"], noise: Float[Tensor, "I V"] | None) -> Int[Tensor, " I"]:
        """The token that follows ``codes``, one for each image."""
        chosen = self.run(
            self.model, codes, self.buffer, self.place, self.position, self.valid, noise, *self.settings
        ).clone()  # a recorded graph writes its next result to the same place
        self.place += 1
        self.position += 1
        return chosen


def gumbel(noise: Sequence[torch.Generator], size: int, device: torch.device) -> Float[Tensor, "I V"]:
    """Gumbel noise, each row from its own dice: ``argmax(scores / T + it)`` is a sample of the softmax.

    The dice are thrown on the CPU, the same for every device: while a GPU computes the token before, and through pinned
    memory, as any other copy would wait for that token."""
    exponential = torch.empty(len(noise), size, pin_memory=device.type == "cuda")
    for row, generator in zip(exponential, noise, strict=True):
        row.exponential_(generator=generator)
    return -exponential.to(device, non_blocking=True).clamp(min=torch.finfo(torch.float32).tiny).log()
