"""Where the rooms of a house lie: families of layouts, each a way to tile a footprint with rectangles around a hub.

A layout is drawn, not optimised: sizes follow from the target areas of the rooms that were dealt to each side of the
hub, and a draw in which some room comes out too small, too big or too narrow is thrown away. Rectangles are cells
between the centre lines of walls, on a grid of 0.1 m; X runs along the hub, Z across it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random

GRID = 0.1
WALL = 0.14
"""Thickness of a wall, metres."""
FLIGHT = (3.9, 1.0)
"""Length (15 treads of 0.26 m) and width of a flight of stairs."""
LANDING = 1.15
"""Free hall before the first and after the last step, metres."""
LONGEST = 13.0
"""Length of a hub beyond which a house is a barracks, metres."""


@dataclass(frozen=True)
class Kind:
    """What makes a room of a type realistic: the range of its floor area (m2) and its least side (m)."""

    area: tuple[float, float]
    side: float

    @property
    def target(self) -> float:
        """The area to aim at, m2."""
        return (self.area[0] + self.area[1]) / 2


KINDS = {
    "hall": Kind((3.5, 34.0), 1.2),
    "living room": Kind((16.0, 32.0), 3.3),
    "kitchen": Kind((9.0, 16.0), 2.5),
    "dining room": Kind((9.0, 16.0), 2.6),
    "bedroom": Kind((9.0, 16.5), 2.6),
    "bathroom": Kind((4.0, 7.5), 1.6),
    "office": Kind((7.0, 12.5), 2.3),
    "library": Kind((8.5, 15.0), 2.5),
    "playroom": Kind((15.0, 25.0), 3.3),
    "laundry room": Kind((4.0, 7.5), 1.6),
    "storage room": Kind((3.2, 7.0), 1.4),
}


@dataclass(frozen=True)
class Rect:
    """An axis-aligned rectangle in the plane of the floor, metres."""

    x0: float
    z0: float
    x1: float
    z1: float

    @property
    def size(self) -> tuple[float, float]:
        """Extent along X and Z."""
        return self.x1 - self.x0, self.z1 - self.z0

    def inset(self, margin: float) -> Rect:
        """The same rectangle with every side moved inwards."""
        return Rect(self.x0 + margin, self.z0 + margin, self.x1 - margin, self.z1 - margin)

    def overlaps(self, other: Rect) -> bool:
        """Do the interiors meet?"""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.z0 < other.z1 and other.z0 < self.z1


Layout = list[tuple[str, Rect]]
"""Room types and cells of one storey; the hub comes first."""


def fits(kind: str, cell: Rect, tolerance: float = 1.0) -> bool:
    """Is the floor inside ``cell`` (less its walls) of a realistic size for a room of this type?"""
    (width, depth), limits = cell.inset(WALL / 2).size, KINDS[kind]
    if min(width, depth) < limits.side or (kind != "hall" and max(width, depth) > 2.6 * min(width, depth)):
        return False
    return limits.area[0] / tolerance <= width * depth <= limits.area[1] * tolerance


def snap(value: float) -> float:
    """The nearest multiple of the grid."""
    return round(round(value / GRID) * GRID, 6)


def _area(kinds: Sequence[str]) -> float:
    return sum(KINDS[kind].target for kind in kinds)


def _widths(kinds: Sequence[str], depth: float) -> list[float]:
    """How wide each room of a row ``depth`` metres deep would like to be."""
    return [max(KINDS[kind].target / depth, KINDS[kind].side + 1.5 * WALL) for kind in kinds]


def _slices(kinds: Sequence[str], cell: Rect, along: str, rng: Random) -> Layout:
    """Cut ``cell`` into one slice per type, along "x" or "z", in proportion to the wanted widths (within 8 %)."""
    low, high, depth = (cell.x0, cell.x1, cell.size[1]) if along == "x" else (cell.z0, cell.z1, cell.size[0])
    shares = [width * rng.uniform(0.92, 1.08) for width in _widths(kinds, depth)]
    cuts = [snap(low + (high - low) * part / sum(shares)) for part in accumulate(shares, initial=0.0)]
    pieces = pairwise(cuts)
    if along == "x":
        return [(kind, Rect(a, cell.z0, b, cell.z1)) for kind, (a, b) in zip(kinds, pieces, strict=True)]
    return [(kind, Rect(cell.x0, a, cell.x1, b)) for kind, (a, b) in zip(kinds, pieces, strict=True)]


def _halves(kinds: Sequence[str], depth: float) -> tuple[Sequence[str], Sequence[str]]:
    """Cut a row where both parts come closest in length."""
    widths = _widths(kinds, depth)
    cut = min(range(len(kinds) + 1), key=lambda i: abs(sum(widths[:i]) - sum(widths[i:])))
    return kinds[:cut], kinds[cut:]


def _matching_depth(kinds: Sequence[str], length: float) -> float:
    """The depth between 3 and 4.6 m at which a row of these rooms comes closest to ``length``."""
    return min((snap(3.0 + GRID * i) for i in range(17)), key=lambda depth: abs(sum(_widths(kinds, depth)) - length))


def spine(kinds: Sequence[str], hub_width: float, columns: int, rng: Random) -> Layout | None:
    """A hub along X with a row of rooms on one or both long sides and up to two columns of rooms across its ends.

    ``kinds[0]`` is the hub: a corridor (a hall 1.4 m wide), a central hall (3 m), or a living room that everything
    opens to. Both rows take the length of the hub. None where the draw does not fit.
    """
    hub, others = kinds[0], rng.sample(kinds[1:], len(kinds) - 1)
    one_sided = len(others) < 5 and rng.random() < 0.6
    depth = rng.uniform(3.2, 4.2)
    ends: list[list[str]] = [[], []]
    for column in ends[:columns]:
        while others and _area(column) < 2.7 * (hub_width + (1 if one_sided else 2) * depth):
            column.append(others.pop())
    north, south = (others, []) if one_sided else _halves(others, depth)
    if not north or (not one_sided and not south):
        return None
    length = snap(sum(_widths(north, depth)))
    if length > LONGEST:
        return None
    z0, z1 = -snap(depth), snap(hub_width + (_matching_depth(south, length) if south else 0.0))
    cells = [(hub, Rect(0.0, 0.0, length, hub_width)), *_slices(north, Rect(0.0, z0, length, 0.0), "x", rng)]
    if south:
        cells += _slices(south, Rect(0.0, hub_width, length, z1), "x", rng)
    for column, start, direction in zip(ends, (0.0, length), (-1, 1), strict=True):
        if column:
            end = snap(start + direction * _area(column) / (z1 - z0))
            cells += _slices(column, Rect(min(start, end), z0, max(start, end), z1), "z", rng)
    return cells if all(fits(kind, cell) for kind, cell in cells) else None


def ell(kinds: Sequence[str], width: float, rng: Random) -> Layout | None:
    """Two halls that meet at a corner: rows north and south of the first, columns west and east of the second.

    ``kinds[:2]`` are the halls. None where the draw does not fit.
    """
    others = rng.sample(kinds[2:], len(kinds) - 2)
    west = [others.pop()] if rng.random() < 0.6 else []
    south = [others.pop() for _ in range(rng.randint(1, max(1, len(others) // 3)))]
    depth_n, depth_w, depth_e = (snap(rng.uniform(3.0, 4.2)) for _ in range(3))
    north, east = _halves(others, depth_n)
    corner = snap(sum(_widths(north, depth_n)) - width)
    end = snap(sum(_widths(east, depth_e)) - depth_n)
    below = snap(width + _matching_depth(south, corner))
    if corner < 2.5 or end < width + 2.5 or (west and end < below + 1.5):
        return None
    cells = [(kinds[0], Rect(0.0, 0.0, corner, width)), (kinds[1], Rect(corner, 0.0, snap(corner + width), end))]
    cells += _slices(north, Rect(0.0, -depth_n, snap(corner + width), 0.0), "x", rng)
    cells += _slices(east, Rect(snap(corner + width), -depth_n, snap(corner + width + depth_e), end), "z", rng)
    cells += _slices(south, Rect(0.0, width, corner, below), "x", rng)
    if west:
        cells += _slices(west, Rect(snap(corner - depth_w), below, corner, end), "z", rng)
    return cells if all(fits(kind, cell) for kind, cell in cells) else None


def upstairs(kinds: Sequence[str], ground: Layout, flight: Rect, rng: Random) -> Layout | None:
    """A spine above the hall of ``ground``: same hall walls, same outer walls along X, its ends within the house.

    The hall keeps a landing at both ends of ``flight``. Areas may leave their range by a fifth, since the depth of
    the rows is given.
    """
    hall = ground[0][1]
    low, high = min(cell.x0 for _, cell in ground), max(cell.x1 for _, cell in ground)
    bands = [(min(cell.z0 for _, cell in ground), hall.z0), (hall.z1, max(cell.z1 for _, cell in ground))]
    bands = [(a, b) for a, b in bands if b - a > 1.5]
    rooms = rng.sample(kinds[1:], len(kinds) - 1)
    if len(bands) == 2 and rng.random() < 0.35:
        bands = [bands[rng.randrange(2)]]
    rows = [rooms] if len(bands) == 1 else _halves(rooms, bands[0][1] - bands[0][0])
    wanted = [sum(_widths(row, b - a)) for row, (a, b) in zip(rows, bands, strict=True)]
    length = max(snap(sum(wanted) / len(wanted)), snap(FLIGHT[0] + 2 * LANDING + WALL))
    first, last = max(low, flight.x1 + LANDING + WALL - length), min(high - length, flight.x0 - LANDING - WALL)
    if not all(rows) or last < first:
        return None
    start = snap(rng.uniform(first, last))
    cells = [(kinds[0], Rect(start, hall.z0, snap(start + length), hall.z1))]
    for row, (a, b) in zip(rows, bands, strict=True):
        cells += _slices(row, Rect(start, a, snap(start + length), b), "x", rng)
    return cells if all(fits(kind, cell, 1.2) for kind, cell in cells) else None
