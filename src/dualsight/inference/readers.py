"""How each behaviour of JanusVLN turns frames into an answer, and what it remembers of its sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dualsight.models.janus_vln import JanusVLN
from dualsight.models.janus_vln_release import ReleaseMemory, greedy, look, new_release_memory, prefill, sampled_history
from dualsight.models.vln_processor import VLNProcessor, release_prompt


def make_reader(model: JanusVLN, processor: VLNProcessor, sessions: int) -> Reader:
    """The reader of the model's own behaviour."""
    kind = ReleaseReader if model.config.behaviour == "release" else PaperReader
    return kind(model, processor, sessions)


class Reader(Protocol):
    """What a navigator asks of a behaviour."""

    def start(self, row: int, instruction: str) -> None:
        """A new episode begins in ``row``."""
        ...

    def read(self, frames: Tensor, rows: list[int], executed: Tensor) -> tuple[list[str], list[Tensor]]:
        """For each of ``rows``: the answer to its frame (R, 3, H, W), and the scores (V,) of its first token.

        ``executed`` (sessions,) holds the last action of every session, -1 where there was none.
        """
        ...

    def frames(self, row: int) -> list[int]:
        """The frames that the next step of ``row`` will see."""
        ...


class PaperReader:
    """Each frame enters once; the dual memory holds the past."""

    def __init__(self, model: JanusVLN, processor: VLNProcessor, sessions: int) -> None:
        self.model, self.processor = model, processor
        self.memory = model.new_memory(sessions)

    def start(self, row: int, instruction: str) -> None:
        self.model.start(self.memory, *self.processor.prompts([instruction]), rows=[row])

    def read(self, frames: Tensor, rows: list[int], executed: Tensor) -> tuple[list[str], list[Tensor]]:
        everybody = rows == list(range(self.memory.batch))
        previous = self.processor.previous(executed)
        output = self.model.step(
            _spread(frames, rows, self.memory.batch), self.memory, previous, None if everybody else rows
        )
        ids = self.model.decode_action(output).tolist()
        return [self.processor.decode(ids[row]) for row in rows], [output.logits[row] for row in rows]

    def frames(self, row: int) -> list[int]:
        return self.memory.frames(row)


class ReleaseReader:
    """Sampled images are read again at every step, with the release's evaluation prompt."""

    def __init__(self, model: JanusVLN, processor: VLNProcessor, sessions: int) -> None:
        self.model, self.processor, self.sessions = model, processor, sessions
        self.instructions = [""] * sessions
        self.memory: ReleaseMemory | None = None
        """Made at the first frame, whose size decides that of the memory."""

    def start(self, row: int, instruction: str) -> None:
        self.instructions[row] = instruction
        if self.memory is not None:
            self.memory.reset([row])

    def read(self, frames: Tensor, rows: list[int], executed: Tensor) -> tuple[list[str], list[Tensor]]:
        if self.memory is None:
            self.memory = new_release_memory(self.model, *frames.shape[-2:], self.sessions)
        images = look(self.model, _spread(frames, rows, self.sessions), self.memory, rows)
        prompts = [self._prompt(row, image) for row, image in zip(rows, images, strict=True)]
        logits, ids = greedy(self.model, prefill(self.model, prompts, images, self.memory.grid))
        return [self.processor.decode(row) for row in ids.tolist()], list(logits)

    def _prompt(self, row: int, images: Tensor) -> Tensor:
        text = release_prompt(self.instructions[row], [images.shape[1]] * len(images))
        return torch.tensor(self.processor.tokenizer.encode(text, add_special_tokens=False))

    def frames(self, row: int) -> list[int]:
        if self.memory is None:
            return []
        return sampled_history(len(self.memory.semantic[row]), self.model.config.num_history)[:-1]


def _spread(frames: Tensor, rows: Sequence[int], sessions: int) -> Tensor:
    """Frames (R, 3, H, W) at their sessions' places, (sessions, 3, H, W); zeros for those that sit out."""
    spread = frames.new_zeros(sessions, *frames.shape[1:])
    spread[list(rows)] = frames
    return spread
