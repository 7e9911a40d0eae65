"""How each behaviour of JanusVLN turns frames into an answer, and what it remembers of its sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dualsight.mirror import mirrored_action, mirrored_text
from dualsight.models.janus_vln import JanusVLN
from dualsight.models.janus_vln_release import ReleaseMemory, greedy, look, new_release_memory, prefill, sampled_history
from dualsight.models.vln_processor import VLNProcessor, release_prompt
from dualsight.types import Action


def make_reader(model: JanusVLN, processor: VLNProcessor, sessions: int, mirror: bool = False) -> Reader:
    """The reader of the model's own behaviour; with ``mirror``, one that looks twice.

    Raises:
        ValueError: a mirror is asked of the ``release`` behaviour.
    """
    if model.config.behaviour == "release":
        if mirror:
            raise ValueError("a mirror needs the paper behaviour, in which sessions are cheap; this is the release's")
        return ReleaseReader(model, processor, sessions)
    return MirrorReader(model, processor, sessions) if mirror else PaperReader(model, processor, sessions)


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


class MirrorReader:
    """Walks every session twice, once in a mirror, and says what both find likely:

        log p(a) = (log p(a | frames, text) + log p(a' | frames', text')) / 2        ' is the mirror image

    A navigator that knew that left and right are alike would answer both the same, up to the side; a trained one does
    so nearly, and what it learnt by heart of one side is averaged away. It costs a second session of memory and
    computation, in the same batch.
    """

    def __init__(self, model: JanusVLN, processor: VLNProcessor, sessions: int) -> None:
        self.both, self.processor, self.sessions = PaperReader(model, processor, 2 * sessions), processor, sessions
        if any(len(ids) > 1 for ids in processor.action_ids):
            raise ValueError("a mirror averages the scores of one token, and this tokenizer writes actions in several")
        self.other_side = torch.arange(model.config.text.vocab_size)
        """Where the score of each token's mirror image is found."""
        for action in Action:
            self.other_side[processor.action_ids[action][0]] = processor.action_ids[mirrored_action(action)][0]

    def start(self, row: int, instruction: str) -> None:
        self.both.start(row, instruction)
        self.both.start(self.sessions + row, mirrored_text(instruction))

    def read(self, frames: Tensor, rows: list[int], executed: Tensor) -> tuple[list[str], list[Tensor]]:
        twice = torch.cat([frames, frames.flip(-1)])
        turned = torch.tensor([mirrored_action(action) for action in executed.tolist()])
        _, scores = self.both.read(
            twice, [*rows, *(self.sessions + row for row in rows)], torch.cat([executed, turned])
        )
        seen, mirrored = torch.stack(scores).float().log_softmax(-1).chunk(2)
        mean = (seen + mirrored[:, self.other_side.to(seen.device)]) / 2
        return [self.processor.decode([best]) for best in mean.argmax(-1).tolist()], list(mean)

    def frames(self, row: int) -> list[int]:
        return self.both.frames(row)


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
