"""JanusVLN as its released code runs it: sampled images are read again at every step.

Only the spatial pathway remembers through keys and values. The language model gets a fresh prompt at every step, with
up to eight images sampled evenly from the whole episode and the current one, and the geometry of the *current* frame is
added to all of them. What differs here, without a difference in the numbers: image features of past frames are kept
instead of computed again (the ViT sees one image at a time, so they cannot change), scores are computed at the last
position only, and several sessions share a batch (each image belongs to its own session).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from dualsight.memory.window import WindowMemory
from dualsight.models.decoder import decode
from dualsight.models.janus_vln import JanusVLN

MAX_NEW_TOKENS = 24


def sampled_history(step: int, num_history: int) -> list[int]:
    """The frames in the prompt of step ``step``, the current one last: all while they are few, then evenly spread."""
    if step <= num_history:
        return list(range(step + 1))
    return np.linspace(0, step, num_history + 1, dtype=int).tolist()


@dataclass
class ReleaseMemory:
    """What sessions keep: image features of every frame, since sampling calls old ones back, and VGGT's window."""

    spatial: WindowMemory
    semantic: list[list[Float[Tensor, "N D"]]] = field(default_factory=list)
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of image tokens of the frames, which all have one size."""

    @property
    def nbytes(self) -> int:
        return self.spatial.nbytes + sum(tokens.nbytes for row in self.semantic for tokens in row)

    def frames(self, row: int = 0) -> list[int]:
        """The frames that VGGT holds for session ``row``."""
        return self.spatial.frames(row)

    def reset(self, rows: Sequence[int]) -> None:
        self.spatial.reset(rows)
        for row in rows:
            self.semantic[row].clear()


def new_release_memory(model: JanusVLN, height: int, width: int, batch: int = 1) -> ReleaseMemory:
    """An empty memory for ``batch`` sessions with frames of ``height`` x ``width`` prepared pixels."""
    spatial = model.new_spatial_memory(batch, height, width)
    return ReleaseMemory(spatial, [[] for _ in range(batch)], model.config.grid_of(height, width))


@torch.no_grad()
def look(
    model: JanusVLN, frames: Float[Tensor, "B 3 H W"], memory: ReleaseMemory, rows: Sequence[int] | None = None
) -> list[Float[Tensor, "K N D"]]:
    """Take in one frame of each session in ``rows`` (default: all) and return the images of their next prompts.

    The geometry of a session's current frame is fused into each of its images, history included.
    """
    rows = range(len(frames)) if rows is None else rows
    frames = frames.to(model.device)
    semantic, spatial = model.encode_semantic(frames), model.encode_next(frames, memory.spatial, rows)
    current, geometry = model.merge_semantic(semantic), model.merger(spatial)
    images = []
    for row in rows:
        memory.semantic[row].append(current[row])
        history = sampled_history(len(memory.semantic[row]) - 1, model.config.num_history)
        seen = torch.stack([memory.semantic[row][frame] for frame in history])  # (K, N, D)
        images.append(seen if model.fusion is None else model.fusion(seen, geometry[row].expand_as(seen)))
    return images


@dataclass
class Prefill:
    """Prompts that were read: hidden states (R, S, D), right-padded, the cache and what continues it."""

    hidden: Tensor
    cache: DynamicCache
    valid: Tensor
    """(R, S), true where there is a token."""
    following: Tensor
    """(R,): the M-RoPE position of the next token."""

    @property
    def last(self) -> Tensor:
        """The hidden state of each prompt's last token, (R, D)."""
        return self.hidden[torch.arange(len(self.hidden)), self.valid.sum(1) - 1]


@torch.no_grad()
def prefill(
    model: JanusVLN,
    prompts: Sequence[Int[Tensor, " S"]],
    images: Sequence[Float[Tensor, "K N D"]],
    grid: tuple[int, int],
) -> Prefill:
    """Read prompts of any length whose image tokens are, in order, those of ``images``.

    Raises:
        ValueError: a prompt has room for another number of image tokens than its images have.
    """
    rows = [_embed(model, ids.to(model.device), image) for ids, image in zip(prompts, images, strict=True)]
    places = [rope_positions(ids, model.config.tokens.image, grid) for ids in prompts]
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    embeddings = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    positions = torch.nn.utils.rnn.pad_sequence([place.T for place in places], batch_first=True).permute(2, 0, 1)
    index = torch.arange(embeddings.shape[1], device=model.device)
    valid = index < lengths[:, None]
    # padding stands at the end, where causality hides it
    cache = DynamicCache()
    hidden = decode(model.model, embeddings, positions.to(model.device), None, cache)
    following = torch.stack([place.max() + 1 for place in places]).to(model.device)
    return Prefill(hidden, cache, valid, following)


def _embed(model: JanusVLN, ids: Int[Tensor, " S"], images: Float[Tensor, "K N D"]) -> Float[Tensor, "S D"]:
    is_image = ids == model.config.tokens.image
    if (room := int(is_image.sum())) != (tokens := images.shape[0] * images.shape[1]):
        raise ValueError(f"the prompt has room for {room} image tokens, its {len(images)} images have {tokens}")
    embeddings = model.model.embed_tokens(ids).clone()
    embeddings[is_image] = images.flatten(0, 1).to(embeddings.dtype)
    return embeddings


def rope_positions(ids: Int[Tensor, " S"], image_token: int, grid: tuple[int, int]) -> Int[Tensor, "3 S"]:
    """M-RoPE positions (time, row, column) of a prompt with images of ``grid`` tokens, as Qwen2.5-VL counts them."""
    rows, cols = grid
    cells = torch.arange(rows * cols)
    image = torch.stack([torch.zeros_like(cells), cells // cols, cells % cols])
    parts, start, index = [], 0, 0
    while index < len(ids):
        if ids[index] == image_token:
            parts.append(image + start)
            start, index = start + max(grid), index + rows * cols
        else:
            parts.append(torch.full((3, 1), start))
            start, index = start + 1, index + 1
    return torch.cat(parts, dim=1)


@torch.no_grad()
def greedy(model: JanusVLN, read: Prefill, max_new_tokens: int = MAX_NEW_TOKENS) -> tuple[Tensor, Tensor]:
    """Continue prompts greedily until all have ended their turn: scores of the first token (R, V), ids (R, M).

    A row that has ended goes on with the end-of-turn token.
    """
    end = model.config.tokens.end_of_turn
    first = model.lm_head(read.last)
    ids = [first.argmax(-1)]
    valid, over = read.valid, ids[-1] == end
    for offset in range(max_new_tokens - 1):
        if bool(over.all()):
            break
        valid = torch.nn.functional.pad(valid, (0, 1), value=True)
        positions = (read.following + offset).expand(3, -1)[..., None]
        embedding = model.model.embed_tokens(ids[-1][:, None])
        hidden = decode(model.model, embedding, positions, valid[:, None, None], read.cache)
        chosen = model.lm_head(hidden[:, -1]).argmax(-1).masked_fill(over, end)
        ids.append(chosen)
        over = over | (chosen == end)
    return first, torch.stack(ids, dim=1)
