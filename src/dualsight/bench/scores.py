"""What suites of generated questions and pictures share: scores in percent with intervals, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from dualsight.bench.provenance import versions
from dualsight.data.files import write_json
from dualsight.envs.metrics import wilson


class Score(TypedDict):
    """A share of right answers in percent, with its 95 % Wilson interval."""

    score: float
    low: float
    high: float
    right: int
    count: int


def score(right: int, count: int, mean_of: Sequence[float] | None = None) -> Score:
    """The score of ``right`` out of ``count``; the mean of other scores, if given, in the middle of that interval.

    The interval is that of all answers together, shifted to the mean where the parts are of unequal size.
    """
    low, high = wilson(right, count)
    plain = 100 * right / count if count else 0.0
    mean = sum(mean_of) / len(mean_of) if mean_of else plain
    shift = mean - plain
    return {
        "score": mean,
        "low": max(0.0, 100 * low + shift),
        "high": min(100.0, 100 * high + shift),
        "right": right,
        "count": count,
    }


def score_line(overall: Score, parts: Mapping[str, Score]) -> str:
    """``overall=93.1 attribute=97.0 ...``."""
    return " ".join(f"{name}={part['score']:.1f}" for name, part in {"overall": overall, **parts}.items())


def last_line(result: Mapping) -> str:
    """The line for machines that a suite's command prints last, in percent."""
    return score_line(result["overall"], result["categories"])


def write_result(path: Path, result: Mapping) -> None:
    """Write a suite's result with the versions that made it."""
    write_json(path, {**result, "versions": versions()})
