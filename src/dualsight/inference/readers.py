"""How each behaviour of JanusVLN turns frames into an answer, and what it remembers of its sessions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dualsight.mirror import mirrored_action, mirrored_text
from dualsight.models.janus_vln import JanusVLN, Output
from dualsight.models.janus_vln_release import ReleaseMemory, greedy, look, new_release_memory, prefill, sampled_history
from dualsight.models.recollection import Content, Recollection
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
        output = self.step(frames, rows, executed)
        ids = self.model.decode_action(output).tolist()
        return [self.processor.decode(ids[row]) for row in rows], [output.logits[row] for row in rows]

    def step(self, frames: Tensor, rows: list[int], executed: Tensor) -> Output:
        """The frames of ``rows`` enter the memory."""
        everybody = rows == list(range(self.memory.batch))
        previous = self.processor.previous(executed)
        return self.model.step(
            _spread(frames, rows, self.memory.batch), self.memory, previous, None if everybody else rows
        )

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


class RecollectingReader(PaperReader):
    """Calls up a memory of the frames that left the window, where there are any and the navigator is not sure.

    Args:
        content: what the memory is.
        below: called where the likeliest token is less likely than this; by default always.
    """

    def __init__(
        self,
        recollection: Recollection,
        processor: VLNProcessor,
        sessions: int,
        content: Content = "own",
        below: float = 1.0,
    ) -> None:
        super().__init__(recollection.navigator, processor, sessions)
        self.recollection, self.content, self.below = recollection, content, below
        self.calls = [0] * sessions
        """In each session's episode."""
        self.held: list[deque[Tensor]] = [deque() for _ in range(sessions)]
        """Frames in the window behind the first ones."""
        self.lost: list[deque[Tensor]] = [deque(maxlen=recollection.config.capacity) for _ in range(sessions)]

    def start(self, row: int, instruction: str) -> None:
        super().start(row, instruction)
        self.calls[row] = 0
        self.held[row].clear()
        self.lost[row].clear()

    def read(self, frames: Tensor, rows: list[int], executed: Tensor) -> tuple[list[str], list[Tensor]]:
        output = self.step(frames, rows, executed)
        scores, surest = output.logits, output.logits.softmax(-1).amax(-1)
        for row in rows:
            self._keep(row, output.image[row])
        if calling := [row for row in rows if self.lost[row] and surest[row] < self.below]:
            nothing = output.image.new_zeros(0, output.image.shape[-1])
            lost = [torch.cat(list(self.lost[row])) if row in calling else nothing for row in range(self.memory.batch)]
            there = [torch.ones(len(tokens), dtype=torch.bool, device=scores.device) for tokens in lost]
            padded = (pad_sequence(tensors, batch_first=True) for tensors in (lost, there))
            recalled = self.recollection.recall(output, *padded, content=self.content)
            scores = scores.clone()
            scores[calling] = recalled[calling]
            for row in calling:
                self.calls[row] += 1
        return [self.processor.decode([int(scores[row].argmax())]) for row in rows], [scores[row] for row in rows]

    def _keep(self, row: int, image: Tensor) -> None:
        config = self.model.config
        if self.memory.steps(row) > config.initial:
            self.held[row].append(image)
        if len(self.held[row]) > config.recent + 1:  # the current frame and those that it sees
            self.lost[row].append(self.held[row].popleft())


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
