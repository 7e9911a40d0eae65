"""The metrics of vision-and-language navigation in continuous environments, with their formulas.

For the places p_0 ... p_T where the agent stood, d(p) the geodesic distance to the goal, l = d(p_0), R the reference
path and r the success distance:

=======  =========================================================  ==================================================
TL       sum |p_t - p_(t-1)|                                        trajectory length, metres, 3-D
NE       d(p_T)                                                     navigation error, metres
SR       1 if the agent said STOP and d(p_T) < r                    success
OS       1 if min_t d(p_t) < r                                      oracle success: no STOP needed
SPL      SR * l / max(l, TL)                                        Anderson et al., arXiv:1807.06757
nDTW     exp(-DTW(P, R) / (|R| r))                                  Ilharco et al., arXiv:1907.05446
sDTW     SR * nDTW
=======  =========================================================  ==================================================

P is p_0 ... p_T without consecutive repetitions; DTW is exact (VLN-CE's default `fastdtw` is an approximation).

**Unreachable goals.** Where no path leads from the start to the goal, l and d are infinite, and SPL as written is NaN:
one such episode destroys an average. Here it is a failure (SR = OS = SPL = sDTW = 0), its NE is None and left out of
the mean of NE, and `Summary.unreachable` says how many there were.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

Path = NDArray[np.float64]
"""Places one after the other, ``(N, 3)`` metres."""


@dataclass(frozen=True)
class EpisodeMetrics:
    """The metrics of one episode; names as in the records of the released JanusVLN evaluation where it has them."""

    success: float
    spl: float
    os: float
    ne: float | None
    """None where the goal cannot be reached from where the agent ended."""
    tl: float
    ndtw: float
    sdtw: float
    steps: int
    """Actions taken, STOP included."""
    collisions: int
    geodesic: float | None
    """l, None where the goal cannot be reached from the start."""

    @property
    def unreachable(self) -> bool:
        return self.geodesic is None


NOT_WALKED = EpisodeMetrics(0.0, 0.0, 0.0, None, 0.0, 0.0, 0.0, 0, 0, None)
"""Of an episode that was not begun because its goal cannot be reached."""


def measure(
    positions: Path,
    distances: Sequence[float],
    stopped: bool,
    reference: Path,
    steps: int,
    collisions: int = 0,
    success_distance: float = 3.0,
) -> EpisodeMetrics:
    """The metrics of one episode.

    Args:
        positions: (T + 1, 3), where the agent stood before each action and at the end.
        distances: (T + 1), the geodesic distance to the goal from each of them; inf where there is no path.
        stopped: whether the episode ended by STOP (said or forced), not by running out of steps.
        reference: (R, 3), the path nDTW compares with.
        steps: actions taken, STOP included.
    """
    positions = np.asarray(positions, float)
    if len(positions) != len(distances) or len(positions) == 0:
        raise ValueError(f"one distance per position is needed, got {len(distances)} for {len(positions)}")
    if np.isnan(distances).any() or not np.isfinite(positions).all():
        raise ValueError("positions must be finite and distances must not be NaN (inf stands for unreachable)")
    start, end = float(distances[0]), float(distances[-1])
    reachable = math.isfinite(start)
    length = path_length(positions)
    success = float(stopped and reachable and end < success_distance)
    longest = max(start, length)
    ndtw = normalised_dtw(positions, reference, success_distance)
    return EpisodeMetrics(
        success=success,
        spl=success * (start / longest if longest > 0 else 1.0) if success else 0.0,
        os=float(reachable and min(distances) < success_distance),
        ne=end if math.isfinite(end) else None,
        tl=length,
        ndtw=ndtw,
        sdtw=success * ndtw,
        steps=steps,
        collisions=collisions,
        geodesic=start if reachable else None,
    )


def path_length(path: Path) -> float:
    """The sum of its segments, metres."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def dtw(path: Path, reference: Path) -> float:
    """Dynamic time warping, exact: the least sum of distances over all monotone alignments of the two paths.

        D(i, j) = c(i, j) + min(D(i-1, j), D(i-1, j-1), D(i, j-1))

    One row at a time: with m_j = min(D(i-1, j), D(i-1, j-1)) and S_j = c(i, 0) + ... + c(i, j), the recurrence
    along the row unrolls to D(i, j) = S_j + min_(k <= j) (m_k - S_(k-1)).
    """
    cost = np.linalg.norm(path[:, None, :] - reference[None, :, :], axis=-1)  # (P, R)
    row = np.cumsum(cost[0])
    for c in cost[1:]:
        m = np.minimum(row, np.concatenate([[np.inf], row[:-1]]))
        s = np.cumsum(c)
        row = s + np.minimum.accumulate(m - (s - c))
    return float(row[-1])


def normalised_dtw(positions: Path, reference: Path, success_distance: float = 3.0) -> float:
    """nDTW of the walked path, consecutive repetitions removed, to ``reference``."""
    positions, reference = np.asarray(positions, float), np.asarray(reference, float)
    if reference.ndim != 2 or len(reference) == 0:
        raise ValueError("nDTW needs a reference path of at least one point, shape (R, 3)")
    moved = np.concatenate([[True], (np.diff(positions, axis=0) != 0).any(axis=1)])
    return math.exp(-dtw(positions[moved], reference) / (len(reference) * success_distance))


def resample(path: Path, spacing: float) -> Path:
    """The same polyline with a point about every ``spacing`` metres, its corners kept.

    nDTW compares densities, too: a walked path (a point every 0.25 m) needs a reference as dense as the recorded
    expert paths that VLN-CE uses.
    """
    path = np.asarray(path, float)
    if len(path) < 2:
        return path
    pieces = []
    for a, b in itertools.pairwise(path):
        n = max(1, round(float(np.linalg.norm(b - a)) / spacing))
        pieces.append(a + (b - a) * np.arange(n)[:, None] / n)
    return np.concatenate([*pieces, path[-1:]])


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a rate, in 0..1: right also near 0 and 1, where the normal one is not."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(values: Sequence[float], draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean; the same for the same values and seed."""
    if len(values) == 0:
        return math.nan, math.nan
    x = np.asarray(values, float)
    means = x[np.random.default_rng(seed).integers(0, len(x), (draws, len(x)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Summary:
    """The metrics over a set of episodes: rates and ratios in percent, lengths in metres."""

    episodes: int
    unreachable: int
    """Episodes whose goal cannot be reached; they count as failures."""
    SR: Estimate
    OS: Estimate
    SPL: Estimate
    nDTW: Estimate
    sDTW: Estimate
    NE: Estimate
    TL: Estimate
    steps: Estimate
    collisions: Estimate

    def to_dict(self) -> dict:
        """As plain JSON types; an estimate over nothing is null, never NaN."""
        return {k: None if isinstance(v, dict) and math.isnan(v["mean"]) else v for k, v in asdict(self).items()}


def aggregate(episodes: Sequence[EpisodeMetrics]) -> Summary:
    """Means and 95 % intervals: Wilson's for SR and OS, bootstrap for the others."""

    def rate(values: list[float]) -> Estimate:
        n = len(values)
        low, high = wilson(sum(values), n)
        return Estimate(100 * sum(values) / n if n else math.nan, 100 * low, 100 * high)

    def mean(values: list[float], scale: float = 1.0) -> Estimate:
        low, high = bootstrap(values)
        return Estimate(scale * (float(np.mean(values)) if values else math.nan), scale * low, scale * high)

    columns = {f.name: [getattr(e, f.name) for e in episodes] for f in fields(EpisodeMetrics)}
    return Summary(
        episodes=len(episodes),
        unreachable=sum(e.unreachable for e in episodes),
        SR=rate(columns["success"]),
        OS=rate(columns["os"]),
        SPL=mean(columns["spl"], 100.0),
        nDTW=mean(columns["ndtw"], 100.0),
        sDTW=mean(columns["sdtw"], 100.0),
        NE=mean([v for v in columns["ne"] if v is not None]),
        TL=mean(columns["tl"]),
        steps=mean(columns["steps"]),
        collisions=mean(columns["collisions"]),
    )
