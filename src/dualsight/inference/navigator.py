"""The navigator: instruction and frames in, actions out. The only place where an observation meets a model.

    navigator = Navigator.from_pretrained("checkpoints/janus_vln_tiny")
    navigator.reset("Leave the bedroom and stop next to the red sofa.")
    action = navigator.act(rgb)  # again and again, until it is Action.STOP

``NavigatorBatch`` does the same for several sessions at once, each with its own instruction, memory and step count.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dualsight.checkpoints.janus_vln import from_pretrained
from dualsight.inference.readers import Reader, make_reader
from dualsight.inference.tryout import Tryout
from dualsight.models.janus_vln import JanusVLN
from dualsight.models.vln_processor import (
    NO_INSTRUCTION,
    VLNProcessor,
    check_instruction,
    parse_action,
)
from dualsight.types import Action, Episode, Frame, Observation

logger = logging.getLogger(__name__)

GREY = 128
Control = Literal["none", "blind", "deaf"]
"""``blind`` shows grey frames only, ``deaf`` gives no instruction: what still works did not need the sense."""


class NavigatorBatch:
    """Several sessions over one model.

    Text that is not exactly the name of an action is an event: it is counted (``unparsed``), logged, and answered by
    ``on_unparsed``. The default is to turn left: the agent looks around and is asked again; the release's rule, a
    silent STOP, would end the episode.

    Args:
        control: ``blind`` or ``deaf`` for a control run.
        on_unparsed: the action that stands in for one that cannot be read.
        tryout: do not step forward again where that has changed nothing (``inference/tryout.py``).
        mirror: look twice, once in a mirror (``MirrorReader``): surer, for twice the computation.
        reader: of as many sessions, in place of the model's own.
    """

    def __init__(
        self,
        model: JanusVLN,
        processor: VLNProcessor,
        sessions: int = 1,
        control: Control = "none",
        on_unparsed: Action = Action.TURN_LEFT,
        tryout: bool = False,
        mirror: bool = False,
        reader: Reader | None = None,
    ):
        if control not in ("none", "blind", "deaf"):
            raise ValueError(f"control is {control!r}; expected none, blind or deaf")
        if tryout and control == "blind":
            raise ValueError("tryout looks at frames, which control='blind' hides: choose one of them")
        self.model, self.processor, self.sessions = model, processor, sessions
        self.control, self.on_unparsed = control, on_unparsed
        self.reader = reader or make_reader(model, processor, sessions, mirror)
        self.started = [False] * sessions
        self.unparsed = [0] * sessions
        """Answers that were no action, in each session's episode."""
        self.scores: list[Tensor | None] = [None] * sessions
        """Scores (V,) of the first token of each session's last answer."""
        self.tryouts = [Tryout() for _ in range(sessions)] if tryout else None
        self._executed = torch.full((sessions,), -1)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        memory: tuple[int, int] | None = None,
        **options,
    ) -> Self:
        """Load a navigator from a folder of ours or of the release.

        Args:
            device: by default a GPU where there is one.
            memory: another number of ``(initial, recent)`` frames to remember than the model was trained with.
            options: ``sessions``, ``control``, ``on_unparsed``, ``tryout`` and ``mirror`` of the constructor.

        Raises:
            CheckpointError: what is wrong with the folder.
        """
        model, processor = from_pretrained(path, device or ("cuda" if torch.cuda.is_available() else "cpu"), dtype)
        if memory is not None:
            model.config = replace(model.config, initial=memory[0], recent=memory[1])
        return cls(model, processor, **options)

    def reset(self, row: int, instruction: str) -> None:
        """Begin a new episode in session ``row``; the others go on.

        Raises:
            ValueError: the instruction is empty, or longer than the model's ``max_prompt`` tokens.
        """
        check_instruction(instruction)
        self.reader.start(row, NO_INSTRUCTION if self.control == "deaf" else instruction)
        self.started[row], self.unparsed[row], self.scores[row] = True, 0, None
        self._executed[row] = -1
        if self.tryouts:
            self.tryouts[row] = Tryout()

    def act(self, frames: Sequence[Frame | Image.Image], rows: Sequence[int] | None = None) -> list[Action]:
        """One action for each frame; ``rows`` (default: all sessions) says whose frames they are.

        Sessions that are not named stay exactly as they are.

        Raises:
            RuntimeError: a session has no instruction yet.
            TypeError, ValueError: a frame is not RGB, uint8, (H, W, 3); nothing was remembered of any of them.
            FloatingPointError: the model's scores are not finite.
        """
        rows = list(range(self.sessions) if rows is None else rows)
        if len(frames) != len(rows) or len(set(rows)) != len(rows):
            raise ValueError(f"{len(frames)} frames for sessions {rows}: expected one frame for each")
        for row in rows:
            if not self.started[row]:
                raise RuntimeError(f"session {row} has no instruction: reset it before it acts")
        prepared = self.processor.frames(self._seen(frame) for frame in frames)
        texts, scores = self.reader.read(prepared, rows, self._executed)
        for row, score in zip(rows, scores, strict=True):
            if not bool(score.isfinite().all()):
                raise FloatingPointError(f"the scores of session {row} are not finite: the weights are damaged, or too "
                                         "narrow a dtype was chosen")  # fmt: skip
            self.scores[row] = score
        if self.tryouts:
            for row, frame in zip(rows, frames, strict=True):
                executed = int(self._executed[row])
                self.tryouts[row].see(frame, Action(executed) if executed >= 0 else None)
        return [self._action(row, text) for row, text in zip(rows, texts, strict=True)]

    def executed(self, row: int, action: Action) -> None:
        """Say that session ``row`` executed another action than it was told to (an expert took over, for example)."""
        self._executed[row] = int(action)

    def memory_frames(self, row: int = 0) -> list[int]:
        """The frames of session ``row`` that its next step will see, oldest first."""
        return self.reader.frames(row)

    def action_scores(self, row: int = 0) -> dict[Action, float]:
        """The last answer's scores of each action's first token."""
        if (scores := self.scores[row]) is None:
            return {}
        return {action: float(scores[self.processor.action_ids[action][0]]) for action in Action}

    def _seen(self, frame: Frame | Image.Image) -> Frame | Image.Image:
        if self.control != "blind":
            return frame
        return np.full_like(np.asarray(frame), GREY)

    def _action(self, row: int, text: str) -> Action:
        action = parse_action(text)
        if action is None:
            self.unparsed[row] += 1
            action = self.on_unparsed
            logger.warning("session %d said %r, which is no action: %s instead", row, text, action.name)
        if self.tryouts:
            action = self.tryouts[row].choose(action, self.action_scores(row))
        self._executed[row] = int(action)
        return action


class Navigator:
    """One session: ``reset(instruction)``, then ``act(rgb)`` for every frame. Options are ``NavigatorBatch``'s."""

    def __init__(self, model: JanusVLN, processor: VLNProcessor, **options):
        self.batch = NavigatorBatch(model, processor, **options)

    @classmethod
    def from_pretrained(cls, path: str | Path, device: torch.device | str | None = None, **options) -> Self:
        """See ``NavigatorBatch.from_pretrained``."""
        navigator = cls.__new__(cls)
        navigator.batch = NavigatorBatch.from_pretrained(path, device, **options)
        return navigator

    def reset(self, instruction: str) -> Self:
        """Begin a new episode; ValueError for an empty or over-long instruction."""
        self.batch.reset(0, instruction)
        return self

    def act(self, rgb: Frame | Image.Image) -> Action:
        """The next action after seeing ``rgb``; see ``NavigatorBatch.act`` for what it raises."""
        return self.batch.act([rgb])[0]

    @property
    def unparsed(self) -> int:
        """Answers of this episode that were no action."""
        return self.batch.unparsed[0]

    @property
    def scores(self) -> dict[Action, float]:
        """The last answer's scores of each action's first token."""
        return self.batch.action_scores()

    def memory_frames(self) -> list[int]:
        """The frames that the next step will see, oldest first."""
        return self.batch.memory_frames()


class NavigatorAgent:
    """A navigator as the agent of a rollout: rows are sessions, episodes bring their instructions."""

    def __init__(self, navigator: NavigatorBatch):
        self.navigator = navigator

    @classmethod
    def from_pretrained(cls, path: str | Path, rows: int = 1, **options) -> Self:
        """The navigator of a checkpoint folder, for ``rows`` episodes side by side."""
        return cls(NavigatorBatch.from_pretrained(path, sessions=rows, **options))

    def reset(self, row: int, episode: Episode) -> None:
        self.navigator.reset(row, episode.instruction)

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[Action]:
        return self.navigator.act([observation.rgb for observation in observations], rows)

    def executed(self, row: int, action: Action) -> None:
        """Say that another action was executed in ``row`` than the navigator's: its memory holds what was done."""
        self.navigator.executed(row, action)

    def report(self, row: int) -> dict:
        """What an episode's record says of its navigator."""
        return {"unparsed": self.navigator.unparsed[row], "control": self.navigator.control}
