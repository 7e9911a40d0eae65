"""Floor plans: rooms, the openings between them and to the outside, and the stairs, as rectangles in the plane.

``draw(seed)`` deals out a programme of rooms, draws layouts until one can be walked through properly (see
``_doors``), cuts windows into outer walls, and turns and mirrors the result. Nothing here knows of triangles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from dualsight.envs.sim.layouts import FLIGHT, LANDING, WALL, Layout, Rect, ell, snap, spine, upstairs

OUTSIDE = -1
"""The other side of an outer wall, where an opening asks for a room."""
DOOR_HEIGHT, ARCH_HEIGHT = 2.05, 2.3
PUBLIC = ("hall", "living room", "dining room", "kitchen")
"""Rooms that one may pass through to reach others."""
EXTRAS = {
    "bedroom": 3,
    "bathroom": 1,
    "dining room": 1,
    "office": 1,
    "library": 1,
    "playroom": 1,
    "laundry room": 1,
    "storage room": 1,
}
"""What a bigger house has besides the essential rooms, and how many of each at most."""
POOL = [kind for kind, most in EXTRAS.items() for _ in range(most)]


@dataclass(frozen=True)
class Cell:
    """A room of the plan: its type, its storey (0 or 1), and its rectangle between the centre lines of its walls."""

    type: str
    storey: int
    rect: Rect


@dataclass(frozen=True)
class Opening:
    """A hole in a wall: "door", "arch" (wide, no frame), "window" or "front door"."""

    kind: str
    cells: tuple[int, int]
    """The rooms on either side; the second is ``OUTSIDE`` in outer walls."""
    axis: str
    """"x" where one looks through along X (the wall stands across X), else "z"."""
    wall: float
    """Coordinate of the wall's centre line along ``axis``."""
    centre: float
    """Middle of the opening along the wall."""
    width: float
    sill: float = 0.0
    head: float = DOOR_HEIGHT
    """Heights of its lower and upper edge above the floor."""

    @property
    def middle(self) -> tuple[float, float]:
        """(x, z) of its middle."""
        return (self.wall, self.centre) if self.axis == "x" else (self.centre, self.wall)


@dataclass(frozen=True)
class Flight:
    """A straight flight of stairs over ``rect``; it rises along ``axis`` in the sense of ``sign``."""

    rect: Rect
    axis: str
    sign: int
    cells: tuple[int, int]
    """The hall it starts in and the hall it ends in."""


@dataclass(frozen=True)
class FloorPlan:
    """The rooms of a house and everything that joins them."""

    cells: tuple[Cell, ...]
    openings: tuple[Opening, ...]
    flight: Flight | None = None


def draw(seed: int, rooms: int | None = None, storeys: int | None = None) -> FloorPlan:
    """The floor plan of a seed: ``rooms`` (4 to 12, halls included) on ``storeys`` (1, or 2 from 8 rooms on).

    What is not given is drawn. Raises ValueError on numbers out of range.
    """
    rng = Random(f"floor plan {seed}")
    count = rng.randint(4, 12) if rooms is None else rooms
    if rooms is None and storeys == 2:
        count = rng.randint(8, 12)
    if not 4 <= count <= 12:
        raise ValueError(f"a house has 4 to 12 rooms, not {count}")
    levels = storeys or (2 if count >= 8 and rng.random() < 0.4 else 1)
    if levels not in (1, 2) or (levels == 2 and count < 8):
        raise ValueError(f"a house has 1 storey, or 2 from 8 rooms on; asked for {levels} with {count} rooms")
    while True:
        plan = _one_storey(count, rng) if levels == 1 else _two_storeys(count, rng)
        if plan is not None:
            return _turned(plan, *(rng.random() < 0.5 for _ in range(3)))


def _programme(essential: list[str], count: int, rng: Random) -> list[str]:
    """``essential`` filled up to ``count`` rooms with a random choice of extras."""
    return essential + rng.sample(POOL, count - len(essential))


def _one_storey(count: int, rng: Random) -> FloorPlan | None:
    """One draw of a family that suits the number of rooms, or None."""
    basics = ["living room", "kitchen", "bedroom", "bathroom"]
    family = rng.choices(["open", "corridor", "hub", "ell"], [20, 30, 25, 25])[0]
    if count == 4 or (family == "open" and count <= 8):
        kinds = _programme(basics, count, rng)
        layout = spine(kinds, snap(rng.uniform(3.8, 5.0)), rng.randint(0, 2), rng)
    elif family == "ell" and count >= 7:
        layout = ell(_programme(["hall", "hall", *basics], count, rng), snap(rng.uniform(1.4, 1.8)), rng)
    else:
        width = rng.uniform(2.4, 3.4) if family == "hub" else rng.uniform(1.4, 1.9)
        columns = rng.randint(1, 2) if family == "hub" else rng.randint(0, 1)
        layout = spine(_programme(["hall", *basics], count, rng), snap(width), columns, rng)
    return _joined([Cell(kind, 0, cell) for kind, cell in layout], None, rng) if layout else None


def _two_storeys(count: int, rng: Random) -> FloorPlan | None:
    """One draw of a house whose wide hall holds a flight along its north wall, or None."""
    below = rng.randint(max(4, count // 2), count - 3)
    low = rng.sample([kind for kind in POOL if kind != "bedroom"], below - 3)
    rest = [kind for kind in POOL if kind in ("bedroom", "office", "library", "bathroom") and kind not in low]
    high = rng.sample(rest, count - below - 3)
    ground = spine(["hall", "living room", "kitchen", *low], snap(rng.uniform(2.5, 2.8)), rng.randint(0, 2), rng)
    if ground is None or ground[0][1].size[0] < FLIGHT[0] + 2 * LANDING + WALL:
        return None
    hall = ground[0][1]
    start = snap(rng.uniform(hall.x0 + LANDING + WALL / 2, hall.x1 - LANDING - WALL / 2 - FLIGHT[0]))
    side = hall.z0 + WALL / 2
    flight = Rect(start, side, start + FLIGHT[0], side + FLIGHT[1])
    upper = _upper(["hall", "bedroom", "bathroom", *high], ground, flight, rng)
    if upper is None:
        return None
    cells = [Cell(kind, 0, cell) for kind, cell in ground] + [Cell(kind, 1, cell) for kind, cell in upper]
    sign = 1 if rng.random() < 0.5 else -1
    return _joined(cells, Flight(flight, "x", sign, (0, len(ground))), rng)


def _upper(kinds: list[str], ground: Layout, flight: Rect, rng: Random) -> Layout | None:
    draws = (upstairs(kinds, ground, flight, rng) for _ in range(40))
    return next((layout for layout in draws if layout), None)


def _joined(cells: list[Cell], flight: Flight | None, rng: Random) -> FloorPlan | None:
    """The plan with its doors and windows, or None where some room cannot be reached properly."""
    doors = _doors(cells, flight, rng)
    if doors is None:
        return None
    outer = list(_outer_walls(cells))
    front = _front_door(cells, outer, flight, rng)
    if front is None:
        return None
    openings = [*doors, front, *_windows(cells, outer, front, flight, rng)]
    return FloorPlan(tuple(cells), tuple(openings), flight)


# --- walls -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stretch:
    """A piece of wall across ``axis`` at ``wall``, from ``low`` to ``high``, between two rooms."""

    cells: tuple[int, int]
    axis: str
    wall: float
    low: float
    high: float

    @property
    def length(self) -> float:
        return self.high - self.low


def _shared_wall(cells: list[Cell], a: int, b: int) -> _Stretch | None:
    """The wall between two rooms of a storey, or None where they do not touch along one."""
    if cells[a].storey != cells[b].storey:
        return None
    p, q = cells[a].rect, cells[b].rect
    for axis, walls, low, high in (
        ("x", ((p.x1, q.x0), (p.x0, q.x1)), max(p.z0, q.z0), min(p.z1, q.z1)),
        ("z", ((p.z1, q.z0), (p.z0, q.z1)), max(p.x0, q.x0), min(p.x1, q.x1)),
    ):
        for one, other in walls:
            if abs(one - other) < 1e-6 and high - low > 1e-6:
                return _Stretch((a, b), axis, one, low, high)
    return None


def _outer_walls(cells: list[Cell]) -> Iterator[_Stretch]:
    """Every stretch of wall that no other room of the storey touches."""
    for index, cell in enumerate(cells):
        r = cell.rect
        neighbours = [_shared_wall(cells, index, other) for other in range(len(cells)) if other != index]
        sides = (("x", r.x0, r.z0, r.z1), ("x", r.x1, r.z0, r.z1), ("z", r.z0, r.x0, r.x1), ("z", r.z1, r.x0, r.x1))
        for axis, wall, low, high in sides:
            covered = sorted((s.low, s.high) for s in neighbours if s and s.axis == axis and abs(s.wall - wall) < 1e-6)
            for start, end in [*covered, (high, high)]:
                if start - low > 1e-6:
                    yield _Stretch((index, OUTSIDE), axis, wall, low, start)
                low = max(low, end)


def _without_flight(stretch: _Stretch, flight: Flight | None) -> _Stretch:
    """What remains of a stretch of a hall's wall when the part behind the stairs is taken away (the longer rest)."""
    if flight is None or not set(stretch.cells) & set(flight.cells):
        return stretch
    r, reach = flight.rect, WALL
    low, high = (r.x0, r.x1) if stretch.axis == "z" else (r.z0, r.z1)
    near, far = (r.z0, r.z1) if stretch.axis == "z" else (r.x0, r.x1)
    if not near - reach < stretch.wall < far + reach:
        return stretch
    before = replace(stretch, high=min(stretch.high, low - 0.15))
    after = replace(stretch, low=max(stretch.low, high + 0.15))
    return max(before, after, key=lambda rest: rest.length)


def _place(stretch: _Stretch, kind: str, width: float, rng: Random, **heights: float) -> Opening:
    """An opening somewhere along a stretch: often near an end, where it leaves walls for furniture."""
    margin = width / 2 + WALL / 2 + 0.12
    low, high = stretch.low + margin, max(stretch.high - margin, stretch.low + margin)
    centre = rng.choice([low, high, rng.uniform(low, high)])
    return Opening(kind, stretch.cells, stretch.axis, stretch.wall, round(centre, 3), width, **heights)


# --- doors -----------------------------------------------------------------------------------------------------------


def _may_pass(parent: str, child: str) -> bool:
    """May a room be entered from ``parent``? Through public rooms always, through a bedroom only to its bathroom."""
    if child in ("bathroom", "bedroom") and parent in ("kitchen", "dining room"):
        return False
    return parent in PUBLIC or (parent == "bedroom" and child in ("bathroom", "storage room"))


def _doors(cells: list[Cell], flight: Flight | None, rng: Random) -> list[Opening] | None:
    """Doors so that every room can be reached from the hub, and loops where public rooms touch; None if impossible."""
    walls: dict[tuple[int, int], _Stretch] = {}
    for a in range(len(cells)):
        for b in range(a + 1, len(cells)):
            stretch = _shared_wall(cells, a, b)
            if stretch and (rest := _without_flight(stretch, flight)).length > 1.3:
                walls[a, b] = rest
    hubs = [index for index, cell in enumerate(cells) if cell.type == "hall"] or [0]
    reached, joined = {0, *(flight.cells if flight else ())}, set()
    for parents in (hubs, range(len(cells)), range(len(cells))):
        for parent in parents:
            for child in sorted(set(range(len(cells))) - reached if parent in reached else ()):
                pair = (min(parent, child), max(parent, child))
                if pair in walls and _may_pass(cells[parent].type, cells[child].type):
                    reached.add(child)
                    joined.add(pair)
    if len(reached) < len(cells):
        return None
    social = ("living room", "dining room", "kitchen")
    for a, b in walls:
        kinds = (cells[a].type, cells[b].type)
        if all(kind in social for kind in kinds) or (
            sorted(kinds) in (["bathroom", "bedroom"], ["hall", "living room"]) and rng.random() < 0.3
        ):
            joined.add((a, b))
    return [_door(walls[pair], [cells[index].type for index in pair], rng) for pair in sorted(joined)]


def _door(stretch: _Stretch, kinds: list[str], rng: Random) -> Opening:
    """A door, or a wide opening between rooms where people live together and between halls."""
    room = stretch.length - WALL - 0.3
    if kinds == ["hall", "hall"]:
        return _place(stretch, "arch", min(snap(room), 2.0), rng, head=ARCH_HEIGHT)
    open_plan = all(kind in ("living room", "dining room", "kitchen") for kind in kinds)
    if room > 1.6 and (open_plan or (set(kinds) == {"hall", "living room"} and rng.random() < 0.5)):
        return _place(stretch, "arch", snap(rng.uniform(1.6, min(2.4, room))), rng, head=ARCH_HEIGHT)
    return _place(stretch, "door", rng.choice([0.9, 0.95, 1.0]), rng)


def _front_door(cells, outer: list[_Stretch], flight: Flight | None, rng: Random) -> Opening | None:
    """The closed door to the outside, in a hall of the ground floor if possible, else in the living room."""
    walls = [_without_flight(s, flight) for s in outer if cells[s.cells[0]].storey == 0]
    for kind in ("hall", "living room", "kitchen"):
        options = [wall for wall in walls if cells[wall.cells[0]].type == kind and wall.length > 1.35]
        if options:
            return _place(rng.choice(options), "front door", 1.0, rng)
    return None


def _windows(cells, outer, front: Opening, flight: Flight | None, rng: Random) -> Iterator[Opening]:
    """One or more windows in every outer wall that has room for them."""
    for stretch in outer:
        kind = cells[stretch.cells[0]].type
        rest = _without_flight(stretch, flight)
        margin = WALL / 2 + 0.3
        pane = {"bathroom": 0.7, "storage room": 0.6, "laundry room": 0.8, "hall": 0.8, "living room": 1.8}.get(
            kind, 1.3
        )
        pane = snap(pane * rng.uniform(0.9, 1.25))
        sill = {"bathroom": 1.3, "storage room": 1.5, "laundry room": 1.2, "kitchen": 1.1, "living room": 0.5}.get(
            kind, 0.9
        )
        count = int((rest.length - margin) / (pane + 1.0))
        if count < 1 or (kind == "storage room" and rng.random() < 0.5):
            continue
        step = rest.length / count
        for i in range(count):
            centre = round(rest.low + (i + 0.5) * step, 3)
            blocked = (front.axis, front.wall) == (rest.axis, rest.wall) and abs(front.centre - centre) < pane / 2 + 0.8
            if not blocked:
                yield Opening("window", rest.cells, rest.axis, rest.wall, centre, pane, sill, 2.15)


# --- symmetry --------------------------------------------------------------------------------------------------------


def _turned(plan: FloorPlan, swap: bool, flip_x: bool, flip_z: bool) -> FloorPlan:
    """The same plan mirrored along X and Z, then with X and Z exchanged: eight houses from one."""
    signs = {"x": -1 if flip_x else 1, "z": -1 if flip_z else 1}
    other = {"x": "z", "z": "x"}

    def rect(r: Rect) -> Rect:
        xs = sorted((signs["x"] * r.x0, signs["x"] * r.x1))
        zs = sorted((signs["z"] * r.z0, signs["z"] * r.z1))
        return Rect(zs[0], xs[0], zs[1], xs[1]) if swap else Rect(xs[0], zs[0], xs[1], zs[1])

    def opening(o: Opening) -> Opening:
        wall, centre = signs[o.axis] * o.wall, signs[other[o.axis]] * o.centre
        return replace(o, axis=other[o.axis] if swap else o.axis, wall=wall, centre=centre)

    flight = plan.flight
    if flight:
        axis = other[flight.axis] if swap else flight.axis
        flight = replace(flight, rect=rect(flight.rect), axis=axis, sign=flight.sign * signs[flight.axis])
    cells = tuple(replace(cell, rect=rect(cell.rect)) for cell in plan.cells)
    return FloorPlan(cells, tuple(opening(o) for o in plan.openings), flight)
