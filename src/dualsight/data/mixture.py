"""Sources mixed inside every step by a ratio, as the Janus papers do (understanding : text : generation, e.g. 2:3:5).

Which example stands where is a function of the seed and the step, not of what was drawn before: a run that was killed
and resumed sees the examples that it would have seen, and N processes share a step's examples out among themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Pick:
    """Example ``index`` of the source of that name."""

    source: str
    index: int


class Mixture:
    """Which examples make up step 0, 1, 2...

    Of source k a step holds ``batch * ratio_k / sum(ratios)`` examples, rounded down or up so that the step is full;
    over any ``sum(ratios)`` steps from a multiple of it (ratios in lowest terms) the counts are exact. Each source is
    walked in epochs of its own, every one a permutation of all its examples, so a small source comes round more often.

    Args:
        lengths: how many examples each source has, by its name.
        ratios: its share, a whole number; 0 leaves it out (Janus, stage I: 1:0:1).
        batch: examples of one step, in all processes together.
        seed: of the orders.

    Raises:
        ValueError: names differ between the two, a ratio is no whole number, or a source that is wanted is empty.
    """

    def __init__(self, lengths: Mapping[str, int], ratios: Mapping[str, int], batch: int, seed: int):
        _check(lengths, ratios, batch)
        self.names = [name for name in ratios if ratios[name]]
        self.lengths = [lengths[name] for name in self.names]
        self.batch, self.seed = batch, seed
        shares = np.array([ratios[name] for name in self.names], dtype=np.int64)
        shares //= np.gcd.reduce(shares)
        self.period = int(shares.sum())
        self._counts = _schedule(shares, batch)  # (period, K)
        self._before = np.concatenate([np.zeros_like(self._counts[:1]), self._counts.cumsum(0)])  # (period + 1, K)
        self._epochs: dict[int, tuple[int, np.ndarray]] = {}  # by source: its latest epoch and that one's permutation

    def counts(self, step: int) -> dict[str, int]:
        """How many examples of each source the step holds."""
        return dict(zip(self.names, self._counts[step % self.period].tolist(), strict=True))

    def picks(self, step: int, process: int = 0, processes: int = 1) -> list[Pick]:
        """The examples that one of ``processes`` gets in a step; each gets as many, and its part of every source.

        Raises:
            ValueError: ``batch`` cannot be shared out evenly, or there is no such process.
        """
        if self.batch % processes or not 0 <= process < processes:
            raise ValueError(f"process {process} of {processes}: a batch of {self.batch} must divide among them evenly")
        rounds, within = divmod(step, self.period)
        first = rounds * self._before[-1] + self._before[within]  # (K,) examples of each source in the steps before
        dealt = [
            Pick(name, self._example(source, int(first[source]) + n))
            for source, name in enumerate(self.names)
            for n in range(self._counts[within, source])
        ]
        return dealt[(process + step) % processes :: processes]  # + step: no process always gets the odd one

    def _example(self, source: int, position: int) -> int:
        """What stands at a position of a source's endless walk."""
        epoch, within = divmod(position, self.lengths[source])
        if self._epochs.get(source, (-1,))[0] != epoch:
            order = np.random.default_rng((self.seed, source, epoch)).permutation(self.lengths[source])
            self._epochs[source] = (epoch, order)
        return int(self._epochs[source][1][within])


def _check(lengths: Mapping[str, int], ratios: Mapping[str, int], batch: int) -> None:
    if lengths.keys() != ratios.keys():
        raise ValueError(f"sources {', '.join(lengths)}, but ratios for {', '.join(ratios)}; one for each is expected")
    if not all(isinstance(ratio, int) and ratio >= 0 for ratio in ratios.values()) or not any(ratios.values()):
        raise ValueError(f"ratios {dict(ratios)}; whole numbers are expected (14:80:6 for 0.14, 0.8, 0.06), not all 0")
    if empty := [name for name in ratios if ratios[name] and lengths[name] < 1]:
        raise ValueError(f"source {', '.join(empty)} is empty, but its ratio is not 0")
    if batch < 1:
        raise ValueError(f"a batch of {batch} examples; at least 1 is expected")


def _schedule(shares: np.ndarray, batch: int) -> np.ndarray:
    """Examples of each source in each step of a period, (period, K): rows sum to ``batch``, columns to their share.

    Systematic sampling. Every step holds floor(batch * share) of each source; what is left of the shares, fractions
    below 1 laid end to end, is a line of whole length L, and the L points u, u + 1, ... on it say who gets one more.
    In a period u takes every multiple of 1 / period once, which makes the columns exact.
    """
    period = int(shares.sum())
    whole, rest = np.divmod(batch * shares, period)
    ends = rest.cumsum()  # where each source's part of the line ends, in units of 1 / period
    stride = next(g for g in range(max(1, round(GOLDEN * period)), 2 * period) if math.gcd(g, period) == 1)
    u = (np.arange(period) * stride % period)[:, None]  # strides of the golden ratio spread the odd ones over the steps
    points = -((u - ends) // period)  # how many of u, u + 1, ... lie before each end
    return whole + np.diff(points, axis=1, prepend=0)
