"""Room to put things: what of a room's floor is taken, what must stay free, and whether one can still walk about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dualsight.envs.sim.layouts import Rect

ROUTE = 0.7
"""Width of the way that is kept free between all doors of a room, metres."""
NARROW = (2.2, 0.55)
"""Rooms less wide than the first have a way of only the second."""
CELL = 0.1
"""Grid on which walkability is checked."""
GAP = 0.02
"""Between furniture and wall, and between pieces."""


@dataclass(frozen=True)
class Spot:
    """A place for a footprint: its middle and the quarter turns about +Y by which its front leaves +Z."""

    x: float
    z: float
    turn: int

    @property
    def front(self) -> tuple[int, int]:
        """The direction (x, z) its front looks in."""
        return ((0, 1), (1, 0), (0, -1), (-1, 0))[self.turn % 4]

    @property
    def side(self) -> tuple[int, int]:
        """The direction (x, z) to the left of its front, seen by itself."""
        x, z = self.front
        return z, -x

    def moved(self, forward: float, sideways: float = 0.0, turn: int = 0) -> Spot:
        """A spot so many metres to its front and to its side, turned by ``turn`` more quarters."""
        (fx, fz), (sx, sz) = self.front, self.side
        return Spot(
            self.x + forward * fx + sideways * sx, self.z + forward * fz + sideways * sz, (self.turn + turn) % 4
        )

    def footprint(self, width: float, depth: float) -> Rect:
        """The rectangle that a thing covers here."""
        if self.turn % 2:
            width, depth = depth, width
        return Rect(self.x - width / 2, self.z - depth / 2, self.x + width / 2, self.z + depth / 2)


@dataclass(frozen=True)
class Wall:
    """One side of a room as seen by furniture: its ends along the wall, and the turn that faces the room."""

    turn: int
    at: float
    low: float
    high: float

    def spot(self, along: float, off: float) -> Spot:
        """A spot with its back to the wall, its middle ``off`` metres from it."""
        if self.turn == 1:
            return Spot(self.at + off, along, 1)
        if self.turn == 3:
            return Spot(self.at - off, along, 3)
        return Spot(along, self.at + off if self.turn == 0 else self.at - off, self.turn)


@dataclass(frozen=True)
class Gap:
    """An opening in a wall of the room, from ``low`` to ``high`` along it and from ``sill`` to ``head`` upwards."""

    turn: int
    low: float
    high: float
    sill: float
    head: float
    leaf: bool = False
    """Does a door hang in it?"""


@dataclass
class Space:
    """The floor of one room while it fills up."""

    floor: Rect
    gaps: list[Gap]
    """Doors and windows."""
    entries: list[tuple[float, float]]
    """Points (x, z) that must stay connected: just inside each door, before the stairs."""
    keep: list[Rect] = field(default_factory=list)
    """Where nothing may stand: before doors and stairs."""
    taken: list[tuple[Rect, float]] = field(default_factory=list)
    """Footprints and how high the thing reaches."""
    aprons: list[Rect] = field(default_factory=list)
    """Free floor in front of things: only what belongs to them may stand there."""
    hung: list[tuple[int, Rect, float, float]] = field(default_factory=list)
    """On walls: turn, footprint, lower and upper edge."""

    def __post_init__(self) -> None:
        x0, z0, x1, z1 = self.floor.x0, self.floor.z0, self.floor.x1, self.floor.z1
        self.walls = [Wall(1, x0, z0, z1), Wall(3, x1, z0, z1), Wall(0, z0, x0, x1), Wall(2, z1, x0, x1)]
        self._x = np.arange(x0 + CELL / 2, x1, CELL)
        self._z = np.arange(z0 + CELL / 2, z1, CELL)
        self._open = self._reachable(self._free([]))

    def wall_spots(self, width: float, depth: float, step: float = 0.1) -> Iterator[tuple[Wall, Spot]]:
        """Every place at a wall for a footprint, its back to the wall."""
        for wall in self.walls:
            low, high = wall.low + width / 2 + GAP, wall.high - width / 2 - GAP
            if high >= low:
                for along in np.linspace(low, high, int((high - low) / step) + 1):
                    yield wall, wall.spot(float(along), depth / 2 + GAP)

    def fits(self, rect: Rect, height: float, on_apron: bool = False, beside: Rect | None = None) -> bool:
        """May a thing of this height stand here? It may overlap ``beside`` (a chair its table)."""
        return self._allowed(rect, height, on_apron, beside) and self._walkable([rect])

    def fit(self, rects: list[Rect], heights: list[float]) -> bool:
        """May all of these stand here together?"""
        return all(map(self._allowed, rects, heights)) and self._walkable(rects)

    def _allowed(self, rect: Rect, height: float, on_apron: bool = False, beside: Rect | None = None) -> bool:
        if not self.within(rect) or any(rect.overlaps(zone) for zone in self.keep):
            return False
        if any(rect.overlaps(other.inset(-GAP)) for other, _ in self.taken if other is not beside):
            return False
        if not on_apron and any(rect.overlaps(apron) for apron in self.aprons):
            return False
        return not self._before_window(rect, height)

    def passable(self, rect: Rect, own: Gap) -> bool:
        """Does a door leaf here stay off the other openings, and leave all entries joined?"""
        others = [self._strip(gap, 0.9) for gap in self.gaps if gap is not own]
        return not any(rect.overlaps(strip) for strip in others) and self._walkable([rect])

    def within(self, rect: Rect) -> bool:
        """Does it lie inside the walls?"""
        f = self.floor
        return f.x0 < rect.x0 and f.z0 < rect.z0 and rect.x1 < f.x1 and rect.z1 < f.z1

    def clear(self, rect: Rect) -> bool:
        """Is this piece of floor free of furniture (doors do not matter)?"""
        return self.within(rect) and not any(rect.overlaps(other) for other, _ in self.taken)

    def hangs(self, turn: int, rect: Rect, low: float, high: float) -> bool:
        """May something hang here on a wall, between two heights: no opening, no tall furniture, nothing hung there?"""
        a0, a1 = (rect.z0, rect.z1) if turn % 2 else (rect.x0, rect.x1)
        for gap in self.gaps:
            if (
                gap.turn == turn
                and a0 < gap.high + 0.1
                and gap.low - 0.1 < a1
                and low < gap.head + 0.1
                and gap.sill < high
            ):
                return False
        if not self.within(rect) or any(rect.overlaps(other) and top > low for other, top in self.taken):
            return False
        return not any(
            rect.inset(-0.05).overlaps(other) and low < top and bottom < high for _, other, bottom, top in self.hung
        )

    def _before_window(self, rect: Rect, height: float) -> bool:
        near = rect.inset(-0.25)
        for gap in self.gaps:
            if gap.sill > 0 and height > gap.sill + 0.15 and near.overlaps(self._strip(gap, 0.1)):
                return True
        return False

    def _strip(self, gap: Gap, depth: float) -> Rect:
        """The floor before an opening."""
        f = self.floor
        return {
            1: Rect(f.x0, gap.low, f.x0 + depth, gap.high),
            3: Rect(f.x1 - depth, gap.low, f.x1, gap.high),
            0: Rect(gap.low, f.z0, gap.high, f.z0 + depth),
            2: Rect(gap.low, f.z1 - depth, gap.high, f.z1),
        }[gap.turn]

    # ---- walking

    def _walkable(self, more: list[Rect]) -> bool:
        """With ``more`` on the floor, are all entries still joined, and is a quarter of the way left?"""
        reached = self._reachable(self._free(more))
        if any(not reached[self._cell(entry)] for entry in self.entries):
            return False
        return int(reached.sum()) > 0.25 * int(self._open.sum())

    def _free(self, more: list[Rect]) -> NDArray[np.bool_]:
        """(X, Z) cells where the middle of a body of width ``ROUTE`` may be."""
        margin = (ROUTE if min(self.floor.size) >= NARROW[0] else NARROW[1]) / 2
        in_x = (self._x > self.floor.x0 + margin) & (self._x < self.floor.x1 - margin)
        in_z = (self._z > self.floor.z0 + margin) & (self._z < self.floor.z1 - margin)
        free = in_x[:, None] & in_z[None, :]
        for rect in [*(rect for rect, _ in self.taken), *more]:
            r = rect.inset(-margin)
            rows, columns = np.searchsorted(self._x, (r.x0, r.x1)), np.searchsorted(self._z, (r.z0, r.z1))
            free[rows[0] : rows[1], columns[0] : columns[1]] = False
        return free

    def _cell(self, point: tuple[float, float]) -> tuple[int, int]:
        x = min(max(int((point[0] - self.floor.x0) / CELL), 0), len(self._x) - 1)
        z = min(max(int((point[1] - self.floor.z0) / CELL), 0), len(self._z) - 1)
        return x, z

    def _reachable(self, free: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The cells of ``free`` joined to the first entry."""
        return _flood(free, *self._cell(self.entries[0]))


@njit(cache=True, nogil=True)
def _flood(free: NDArray[np.bool_], x: int, z: int) -> NDArray[np.bool_]:
    """The cells of ``free`` (X, Z) joined to cell (x, z) side by side."""
    reached = np.zeros_like(free)
    stack = np.empty((free.size + 1, 2), np.int64)
    count = 0
    if free[x, z]:
        reached[x, z] = True
        stack[0] = x, z
        count = 1
    while count:
        count -= 1
        x, z = stack[count]
        for dx, dz in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            i, k = x + dx, z + dz
            inside = 0 <= i < free.shape[0] and 0 <= k < free.shape[1]
            if inside and free[i, k] and not reached[i, k]:
                reached[i, k] = True
                stack[count] = i, k
                count += 1
    return reached
