"""What a streaming model may assume of its memory. The memories themselves live in ``dualsight.memory``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class UnitMemory(Protocol):
    """Keys and values of past units (frames), per attention layer, for a batch of sessions.

    A step appends its unit once to every layer, in order, and then commits. Until the commit nothing is lost: a step
    that failed half-way may simply be run again.
    """

    @property
    def counts(self) -> list[int]:
        """Units committed so far, per session (row of the batch)."""
        ...

    @property
    def layers(self) -> int:
        """How many attention layers it remembers for."""
        ...

    @property
    def unit(self) -> int:
        """Tokens per unit."""
        ...

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store the current unit, ``(B, heads, unit, head_dim)``, keys after norm and rotation.

        Returns the keys and values ``(B, heads, K, head_dim)`` the current unit may attend to, itself included, and
        a boolean mask ``(B, 1, 1, K)``, true where attention is allowed; None where everything is.
        """
        ...

    def commit(self, rows: Sequence[int] | None = None) -> None:
        """End the step: the current unit becomes a past one, in ``rows`` (default: all)."""
        ...
