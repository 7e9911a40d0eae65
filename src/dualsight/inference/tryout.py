"""Try-out: a step forward that changed nothing is not tried again (as agents of VLN-CE do, arXiv:2304.03047).

Who stands before a table that the instruction leads past sees the same frame after every step, and a policy that
follows its frames says the same again, until the episode is over. A frame that a step forward left as it was tells so,
from RGB alone. From there on, until a step succeeds:

- the headings in which a step failed are closed;
- whoever began to turn away goes on turning that way.

The best answer that is left is taken. What else the model says is not touched.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from dualsight.types import Action, Frame

SAME = 1.0
"""Two frames whose pixels differ by less than this on average, of 255, show the same."""
TURNS = {Action.TURN_LEFT: 1, Action.TURN_RIGHT: -1}


class Tryout:
    """One session's: ``see`` every frame, ``choose`` among the scores."""

    def __init__(self) -> None:
        self._before: Frame | None = None
        self._leave()

    def _leave(self) -> None:
        self._heading = 0
        """Turns to the left since the last step that succeeded."""
        self._closed: set[int] = set()
        self._turning: Action | None = None

    def see(self, frame: Frame | Image.Image, executed: Action | None) -> None:
        """A frame, and what was executed before it, whoever chose that; None at the first one."""
        frame, before = np.asarray(frame), self._before
        self._before = frame
        if executed in TURNS:
            self._heading += TURNS[executed]
            if self._closed:
                self._turning = executed
        elif executed is Action.MOVE_FORWARD and before is not None:
            if frame.shape == before.shape and np.abs(frame.astype(float) - before).mean() < SAME:
                self._closed.add(self._heading)
            else:
                self._leave()

    def choose(self, answer: Action, scores: Mapping[Action, float]) -> Action:
        """``answer``, or the best other one where that is closed."""
        if self._is_open(answer):
            return answer
        return max(filter(self._is_open, scores), key=lambda action: scores[action])

    def _is_open(self, action: Action) -> bool:
        if action is Action.MOVE_FORWARD:
            return self._heading not in self._closed
        return self._turning in (None, action) or action not in TURNS
