"""Sequence packing: short examples share a sequence, so that no step is spent on padding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Packing:
    """Which examples share a sequence of at most ``capacity`` tokens."""

    sequences: list[list[int]]
    """Indices of examples, each once, in the order they came."""
    dropped: list[int]
    """Examples that are longer than a sequence."""
    tokens: int
    """In all sequences, without padding."""
    capacity: int

    @property
    def fill(self) -> float:
        """The share of all positions that hold a token; 1 when nothing is padding."""
        return self.tokens / (len(self.sequences) * self.capacity) if self.sequences else 1.0


def pack(
    lengths: Iterable[int], capacity: int, window: int = 64, too_long: Literal["raise", "drop"] = "raise"
) -> Packing:
    """Pack examples whole, first-fit: each goes into the oldest open sequence that has room for it.

    A function of the lengths alone. At most ``window`` sequences are open; the oldest is closed when one more is
    needed, so that examples of one sequence come from a bounded stretch of the data.

    Args:
        lengths: tokens of each example, at least 1.
        capacity: tokens of a sequence.
        too_long: whether an example longer than that is an error, or dropped and counted. None is ever cut.

    Raises:
        ValueError: naming the example that is too long or has no tokens.
    """
    if capacity < 1 or window < 1:
        raise ValueError(f"sequences of {capacity} tokens, {window} open at once; both must be at least 1")
    sequences: list[list[int]] = []
    open_ones: list[tuple[list[int], int]] = []  # with the room that is left
    dropped: list[int] = []
    tokens = 0
    for example, length in enumerate(lengths):
        if length < 1:
            raise ValueError(f"example {example} has {length} tokens; at least 1 is expected")
        if length > capacity:
            if too_long == "raise":
                raise ValueError(f"example {example} has {length} tokens, a sequence {capacity}: shorten it or drop it")
            dropped.append(example)
            continue
        tokens += length
        slot = next((n for n, (_, room) in enumerate(open_ones) if room >= length), None)
        if slot is None:
            sequences.append([])
            open_ones = [*open_ones[max(0, len(open_ones) + 1 - window) :], (sequences[-1], capacity)]
            slot = len(open_ones) - 1
        sequence, room = open_ones[slot]
        sequence.append(example)
        open_ones[slot] = (sequence, room - length)
    return Packing(sequences, dropped, tokens, capacity)
