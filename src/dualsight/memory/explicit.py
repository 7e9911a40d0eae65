"""The baseline that implicit memory replaces: keep the raw frames and look at all of them again at every step."""

from __future__ import annotations

import torch
from torch import Tensor


class ExplicitMemory:
    """Raw frames of one session, those that a :class:`~dualsight.memory.window.WindowMemory` of that size would hold.

    Its cost per step is that of encoding ``initial + recent + 1`` frames, not one::

        walk = memory.append(frame)
        features = aggregator(walk[None], layers=(-2,))[0][0, -1]

    What differs from the implicit memory is not only the cost: a key kept since frame ``t`` still knows what frame
    ``t`` could see, whereas a frame that is encoded again sees only frames that are still held.
    """

    def __init__(self, initial: int = 8, recent: int = 48) -> None:
        if min(initial, recent) < 0:
            raise ValueError(f"windows cannot be negative: initial={initial}, recent={recent}")
        self.initial, self.recent = initial, recent
        self.count = 0
        self._held: dict[int, Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the frames it holds."""
        return sum(frame.nbytes for frame in self._held.values())

    def frames(self) -> list[int]:
        """The frames that the next one will be seen together with, oldest first."""
        return list(self._held)

    def append(self, frame: Tensor) -> Tensor:
        """Take in one frame (...) and return all that is to be encoded now, (F, ...): what is held, then this one."""
        walk = torch.stack([*self._held.values(), frame])
        self._held[self.count] = frame
        self.count += 1
        if (expired := self.count - 1 - self.recent) >= self.initial:
            del self._held[expired]
        return walk

    def reset(self) -> None:
        """Begin a new session."""
        self.count, self._held = 0, {}
