"""Paths by arc length: points, headings and corners of a polyline on the floor."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dualsight.types import Point


def wrap(angle: float) -> float:
    """The same angle in (-pi, pi]."""
    return math.atan2(math.sin(angle), math.cos(angle))


def heading_of(direction: NDArray[np.float64]) -> float:
    """The heading of somebody who looks along ``direction`` (3,): 0 is -Z, left is positive."""
    return math.atan2(-direction[0], -direction[2])


class Polyline:
    """A path as (N, 3) points, N >= 2, read by the metres walked along it."""

    def __init__(self, points: NDArray[np.float64]):
        points = np.asarray(points, float)
        moved = np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6
        self.points = points[np.concatenate([[True], moved])]
        self._metres = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    @property
    def length(self) -> float:
        """Metres from end to end."""
        return float(self._metres[-1])

    def at(self, metre: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """The point after ``metre`` metres, (3,), or those after several (M,), (M, 3)."""
        metre = np.asarray(metre, float)
        return np.stack([np.interp(metre, self._metres, axis) for axis in self.points.T], axis=-1)

    def heading(self, metre: float, reach: float = 0.5) -> float:
        """The direction walked there, over ``reach`` metres to either side so that small bends do not count."""
        return heading_of(self.at(metre + reach) - self.at(metre - reach))

    def nearest(self, point: Point, step: float = 0.05) -> float:
        """The metre at which the path comes nearest to ``point``."""
        marks = np.linspace(0.0, self.length, max(2, math.ceil(self.length / step) + 1))
        return float(marks[np.linalg.norm(self.at(marks) - point, axis=1).argmin()])

    def resampled(self, spacing: float) -> NDArray[np.float64]:
        """The corners, and points between them so that neighbours are at most ``spacing`` apart, (M, 3)."""
        marks = [self._metres[:1]]
        for a, b in zip(self._metres, self._metres[1:], strict=False):
            pieces = max(1, math.ceil((b - a) / spacing))
            marks.append(np.linspace(a, b, pieces + 1)[1:])
        return self.at(np.concatenate(marks))

    def simplified(self, tolerance: float) -> Polyline:
        """Without the corners that stand less than ``tolerance`` metres off (Douglas and Peucker, 1973)."""
        return Polyline(self.points[_corners(self.points, tolerance)])


def _corners(points: NDArray[np.float64], tolerance: float) -> list[int]:
    """Indices of the points that a line within ``tolerance`` must keep."""
    if len(points) < 3:
        return list(range(len(points)))
    chord = points[-1] - points[0]
    share = np.clip((points - points[0]) @ chord / max(chord @ chord, 1e-12), 0.0, 1.0)
    off = np.linalg.norm(points - points[0] - share[:, None] * chord, axis=1)
    far = int(off.argmax())
    if off[far] <= tolerance:
        return [0, len(points) - 1]
    return _corners(points[: far + 1], tolerance)[:-1] + [far + i for i in _corners(points[far:], tolerance)]
