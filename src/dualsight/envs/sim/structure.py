"""The building itself: walls with their openings, floors, ceilings, frames, windows and stairs of a floor plan.

Every room is a closed box of planes on the inner sides of its walls, with a hole for each opening; the space between
two boxes is lined by the reveals of the openings. So walls are as thick as ``WALL`` and no plane lies on another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim import textures
from dualsight.envs.sim.assembly import Assembly, lines
from dualsight.envs.sim.building import Door, Room, Stairs
from dualsight.envs.sim.colors import COLORS
from dualsight.envs.sim.floorplan import OUTSIDE, Cell, Flight, FloorPlan, Opening
from dualsight.envs.sim.layouts import WALL, Rect
from dualsight.envs.sim.scene import Material

CEILING = 2.6
"""Height of rooms, metres."""
STOREY = 2.84
"""From floor to floor."""
STEPS = 16
"""Risers of a flight, 0.1775 m each; the last one ends on the upper floor."""
REVEAL = 0.18
"""How far outer walls reach outwards from their centre line."""
RAIL = 0.95
"""Height of railings."""

WOOD_TONES = ("light brown", "brown", "dark brown", "grey")
FLOORS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "hall": [("planks", WOOD_TONES), ("tiles", ("grey", "beige", "white")), ("checker", ("black", "grey", "brown"))],
    "living room": [("planks", WOOD_TONES), ("parquet", WOOD_TONES), ("carpet", ("beige", "grey", "brown"))],
    "dining room": [("parquet", WOOD_TONES), ("planks", WOOD_TONES), ("tiles", ("orange", "beige"))],
    "kitchen": [
        ("tiles", ("white", "grey", "beige", "orange", "black")),
        ("checker", ("black", "red", "blue", "green")),
    ],
    "bedroom": [("carpet", ("blue", "grey", "beige", "green", "purple", "red", "pink")), ("planks", WOOD_TONES)],
    "bathroom": [
        ("tiles", ("white", "blue", "green", "grey", "black", "pink")),
        ("checker", ("black", "blue", "green")),
    ],
    "office": [("carpet", ("grey", "blue", "green", "brown")), ("planks", WOOD_TONES)],
    "library": [("parquet", WOOD_TONES), ("carpet", ("red", "green", "brown"))],
    "playroom": [("carpet", ("yellow", "green", "blue", "orange", "red")), ("planks", WOOD_TONES)],
    "laundry room": [("tiles", ("white", "grey", "blue")), ("concrete", ("grey",))],
    "storage room": [("concrete", ("grey",)), ("tiles", ("grey", "brown"))],
}
"""Floors by type of room: kinds of texture and the colours they come in."""
WALLS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "bathroom": [("tiles", ("white", "blue", "green", "pink", "beige")), ("plaster", ("white", "blue", "green"))],
    "kitchen": [("plaster", ("white", "yellow", "beige", "green", "orange"))],
    "bedroom": [
        ("plaster", ("white", "blue", "green", "pink", "purple", "beige")),
        ("stripes", ("blue", "green", "pink", "yellow")),
    ],
    "living room": [("plaster", ("white", "beige", "yellow", "green", "red", "blue")), ("brick", ("red", "white"))],
    "playroom": [("plaster", ("yellow", "orange", "green", "blue", "pink")), ("stripes", ("red", "blue", "orange"))],
    "storage room": [("plaster", ("white", "grey")), ("brick", ("grey", "red"))],
    "hall": [("plaster", ("white", "beige", "yellow", "grey")), ("stripes", ("beige", "green"))],
}
ANY_WALL = [("plaster", ("white", "beige", "green", "blue", "grey", "yellow", "orange"))]
FLOOR_WORDS = {
    "planks": "wooden floor", "parquet": "wooden floor", "tiles": "{} tiles", "checker": "{} and white tiles",
    "carpet": "{} carpet", "concrete": "concrete floor",
}  # fmt: skip
"""What a floor is called."""

Paint = tuple[int, float]
"""A material of the assembly and the metres in which its texture repeats."""


@dataclass(frozen=True)
class Building:
    """What the structure hands on: the records of a house, and where its lamps hang."""

    rooms: list[Room]
    doors: list[Door]
    stairs: list[Stairs]
    lights: list[NDArray[np.float64]]


@dataclass(frozen=True)
class _Finish:
    """The surfaces of one room."""

    floor: Paint
    wall: Paint
    ceiling: Paint
    trim: Paint
    floor_words: str
    wall_word: str


def build(plan: FloorPlan, assembly: Assembly, rng: Random) -> Building:
    """Add the structure of ``plan`` to ``assembly``, with materials drawn from ``rng``."""
    builder = _Builder(plan, assembly, rng)
    for index in range(len(plan.cells)):
        builder.room(index)
    for opening in plan.openings:
        builder.opening(opening)
    if plan.flight:
        builder.stairs(plan.flight)
    rooms = [
        Room(
            i,
            c.type,
            c.storey,
            base(c),
            *_corners(inner(c)),
            builder.finish[i].floor_words,
            builder.finish[i].wall_word,
        )
        for i, c in enumerate(plan.cells)
    ]
    doors = [
        Door(np.array([o.middle[0], base(plan.cells[o.cells[0]]), o.middle[1]]), o.cells, o.width, o.axis)
        for o in plan.openings
        if o.kind in ("door", "arch")
    ]
    lights = [light for room in rooms for light in _lamps(room)]
    return Building(rooms, doors, [_stairs(plan.flight)] if plan.flight else [], lights)


def base(cell: Cell) -> float:
    """Height of a room's floor."""
    return cell.storey * STOREY


def inner(cell: Cell) -> Rect:
    """The floor of a room between its walls."""
    return cell.rect.inset(WALL / 2)


def _corners(r: Rect) -> tuple[float, float, float, float]:
    return r.x0, r.z0, r.x1, r.z1


def _lamps(room: Room) -> list[NDArray[np.float64]]:
    """One lamp in the middle of a room, or several along a long one, 0.2 m below the ceiling."""
    width, depth = room.x1 - room.x0, room.z1 - room.z0
    count = max(1, round(max(width, depth) / 4.0))
    shares = (np.arange(count) + 0.5) / count
    x = room.x0 + width * (shares if width >= depth else np.full(count, 0.5))
    z = room.z0 + depth * (shares if depth > width else np.full(count, 0.5))
    return [np.array([a, room.y + CEILING - 0.2, b]) for a, b in zip(x, z, strict=True)]


def _stairs(flight: Flight) -> Stairs:
    r = flight.rect
    low, high = ((r.x0, r.x1) if flight.axis == "x" else (r.z0, r.z1))[:: flight.sign]
    low, high = low - 0.3 * flight.sign, high + 0.3 * flight.sign
    middle = (r.z0 + r.z1) / 2 if flight.axis == "x" else (r.x0 + r.x1) / 2
    points = [
        np.array([a, y, middle] if flight.axis == "x" else [middle, y, a]) for a, y in ((low, 0.0), (high, STOREY))
    ]
    return Stairs(points[0], points[1], flight.cells, min(r.size))


class _Builder:
    """Adds rooms, openings and stairs of one plan to an assembly."""

    def __init__(self, plan: FloorPlan, assembly: Assembly, rng: Random) -> None:
        self.plan, self.assembly, self.rng = plan, assembly, rng
        frame = rng.choice(["white", "white", "brown", "dark brown"])
        self.frame = (
            self.paint("wood", frame)
            if frame != "white"
            else (assembly.material(Material("white paint", (0.93, 0.92, 0.9))), 1.0)
        )
        self.white = (assembly.material(Material("white paint", (0.93, 0.92, 0.9))), 1.0)
        self.metal = (assembly.material(Material("dark metal", (0.2, 0.2, 0.21))), 1.0)
        self.tread = self.paint("wood", rng.choice(["light brown", "brown", "dark brown"]))
        self.outdoors = (assembly.material(_outdoors()), 1.0)
        used: set[str] = set()
        self.finish = [self._finish(cell.type, used) for cell in plan.cells]

    def paint(self, kind: str, color: str) -> Paint:
        """A texture of ``textures`` as paint."""
        return self.assembly.material(textures.texture(kind, color)), textures.REPEAT[kind]

    def _finish(self, kind: str, used: set[str]) -> _Finish:
        """Floor and walls for a room; wall colours that the house has already come up less often."""
        floor_kind, floor_colors = self.rng.choice(FLOORS[kind])
        floor_color = self.rng.choice(floor_colors)
        wall_kind, wall_colors = self.rng.choice(WALLS.get(kind, ANY_WALL))
        fresh = [color for color in wall_colors if color not in used]
        wall_color = self.rng.choice(fresh or wall_colors)
        if wall_color != "white":
            used.add(wall_color)
        return _Finish(
            self.paint(floor_kind, floor_color),
            self.paint(wall_kind, wall_color),
            self.paint("ceiling", "white"),
            self.frame,
            FLOOR_WORDS[floor_kind].format(floor_color),
            wall_color,
        )

    # ---- rooms

    def room(self, index: int) -> None:
        """Floor, ceiling, four walls and skirting of a room."""
        cell, finish, assembly = self.plan.cells[index], self.finish[index], self.assembly
        r, y = inner(cell), base(cell)
        shaft = self._shaft(index)
        cuts_x, cuts_z = ((shaft.x0, shaft.x1), (shaft.z0, shaft.z1)) if shaft else ((), ())
        x, z = lines(r.x0, r.x1, cuts_x), lines(r.z0, r.z1, cuts_z)
        hole = [_corners(shaft)] if shaft else []
        floor, ceiling = assembly.instance("floor", room=index), assembly.instance("ceiling", room=index)
        up = hole if cell.storey == 1 else []
        down = hole if cell.storey == 0 else []
        assembly.plane(x, z, lambda a, b: (a, y, b), True, finish.floor, floor, up)
        assembly.plane(x, z, lambda a, b: (a, y + CEILING, b), False, finish.ceiling, ceiling, down)
        wall = assembly.instance("wall", finish.wall_word, index)
        for axis, at, sign in (("x", r.x0, 1), ("x", r.x1, -1), ("z", r.z0, 1), ("z", r.z1, -1)):
            self._wall(index, axis, at, sign, wall)

    def _shaft(self, index: int) -> Rect | None:
        """The hole that the stairs make in the floor or the ceiling of a hall."""
        flight = self.plan.flight
        return flight.rect if flight and index in flight.cells else None

    def _wall(self, index: int, axis: str, at: float, sign: int, instance: int) -> None:
        """One side of a room, facing ``sign`` along ``axis``, with holes for its openings and skirting between."""
        cell, finish = self.plan.cells[index], self.finish[index]
        r, y = inner(cell), base(cell)
        low, high = (r.z0, r.z1) if axis == "x" else (r.x0, r.x1)
        openings = [
            o
            for o in self.plan.openings
            if index in o.cells and o.axis == axis and abs(o.wall - (at - sign * WALL / 2)) < 1e-6
        ]
        holes = [(o.centre - o.width / 2, o.sill, o.centre + o.width / 2, o.head) for o in openings]
        a = lines(low, high, [edge for hole in holes for edge in (hole[0], hole[2])])
        b = lines(0.0, CEILING, [edge for hole in holes for edge in (hole[1], hole[3])], 0.7)
        flip = (sign > 0) == (axis == "x")
        self.assembly.plane(a, b, self._place(axis, at, y), flip, finish.wall, instance, holes)
        doors = [hole for hole in holes if hole[1] == 0.0]
        starts = [low, *sorted(hole[2] + 0.07 for hole in doors)]
        ends = [*sorted(hole[0] - 0.07 for hole in doors), high]
        for start, end in zip(starts, ends, strict=True):
            if end - start > 0.05:
                self._skirting(axis, at, sign, y, start, end, instance)

    def _skirting(self, axis: str, at: float, sign: int, y: float, low: float, high: float, instance: int) -> None:
        """A board 8 cm high along the foot of a wall: its front and its top."""
        front, flip = at + 0.012 * sign, (sign > 0) == (axis == "x")
        a = lines(low, high, step=1.0)
        self.assembly.plane(a, [0.0, 0.08], self._place(axis, front, y), flip, self.white, instance)
        depth = sorted((at, front))
        if axis == "x":
            self.assembly.plane(depth, a, lambda p, q: (p, y + 0.08, q), True, self.white, instance)
        else:
            self.assembly.plane(a, depth, lambda p, q: (p, y + 0.08, q), True, self.white, instance)

    @staticmethod
    def _place(axis: str, at: float, y: float) -> Callable[[NDArray, NDArray], tuple]:
        """Where the point (along the wall, above the floor) of an upright plane lies."""
        if axis == "x":
            return lambda a, b: (at, y + b, a)
        return lambda a, b: (a, y + b, at)

    # ---- openings

    def opening(self, o: Opening) -> None:
        """The reveal of an opening and what stands in it: frame and threshold, or window."""
        cell = self.plan.cells[o.cells[0]]
        near, far = o.wall - WALL / 2, o.wall + WALL / 2
        if o.cells[1] == OUTSIDE:
            outwards = self._outwards(o)
            near, far = (o.wall - WALL / 2, o.wall + REVEAL) if outwards > 0 else (o.wall - REVEAL, o.wall + WALL / 2)
        category = {"arch": "wall", "front door": "front door"}.get(o.kind, o.kind)
        color = self.rng.choice(["red", "blue", "green", "white", "brown", "black"]) if o.kind == "front door" else ""
        instance = self.assembly.instance(category, color, o.cells[0], f"{o.kind} {o.cells[0]}-{o.cells[1]}")
        lining = self.finish[o.cells[0]].wall if o.kind == "arch" else self.frame if o.kind == "door" else self.white
        self._reveal(o, near, far, base(cell), lining, instance)
        if o.kind in ("door", "front door"):
            sides = (
                ((near, -1), (far, 1)) if o.kind == "door" else ((near, -1),) if self._outwards(o) > 0 else ((far, 1),)
            )
            for at, sign in sides:
                self._casing(o, at, sign, base(cell), self.frame, instance)
        if o.kind == "front door":
            self._leaf(o, base(cell), color, instance)
        if o.kind == "window":
            self._window(o, cell, instance)

    def _outwards(self, o: Opening) -> int:
        """The sense of ``o.axis`` that leads out of the house."""
        r = self.plan.cells[o.cells[0]].rect
        return 1 if o.wall > ((r.x0 + r.x1) if o.axis == "x" else (r.z0 + r.z1)) / 2 else -1

    def _span(self, axis: str, across: tuple[float, float], along: tuple[float, float], up: tuple[float, float]):
        """Corners of a box given across the wall, along it and upwards."""
        (p, q), (a, b), (low, high) = sorted(across), along, up
        return ((p, low, a), (q, high, b)) if axis == "x" else ((a, low, p), (b, high, q))

    def _block(self, axis: str, across, along, up, paint: Paint, instance: int) -> None:
        self.assembly.box(*self._span(axis, across, along, up), paint, instance)

    def _reveal(self, o: Opening, near: float, far: float, y: float, lining: Paint, instance: int) -> None:
        """The two jambs, the head, and the sill or threshold."""
        a0, a1 = o.centre - o.width / 2, o.centre + o.width / 2
        depth = [near, far]
        upright = lines(o.sill, o.head, step=0.7)
        ground = self.finish[o.cells[0]].floor if o.sill == 0 else self.white
        plane = self.assembly.plane
        if o.axis == "x":
            plane(depth, upright, lambda p, q: (p, y + q, a0), False, lining, instance)
            plane(depth, upright, lambda p, q: (p, y + q, a1), True, lining, instance)
            plane(depth, [a0, a1], lambda p, q: (p, y + o.head, q), False, lining, instance)
            plane(depth, [a0, a1], lambda p, q: (p, y + o.sill, q), True, ground, instance)
        else:
            plane(depth, upright, lambda p, q: (a0, y + q, p), True, lining, instance)
            plane(depth, upright, lambda p, q: (a1, y + q, p), False, lining, instance)
            plane([a0, a1], depth, lambda p, q: (p, y + o.head, q), False, lining, instance)
            plane([a0, a1], depth, lambda p, q: (p, y + o.sill, q), True, ground, instance)

    def _casing(self, o: Opening, at: float, sign: int, y: float, paint: Paint, instance: int) -> None:
        """Boards 7 cm wide around a door on one side of the wall."""
        a0, a1, across = o.centre - o.width / 2, o.centre + o.width / 2, (at - 0.005 * sign, at + 0.018 * sign)
        self._block(o.axis, across, (a0 - 0.07, a0), (y, y + o.head + 0.07), paint, instance)
        self._block(o.axis, across, (a1, a1 + 0.07), (y, y + o.head + 0.07), paint, instance)
        self._block(o.axis, across, (a0, a1), (y + o.head, y + o.head + 0.07), paint, instance)

    def _leaf(self, o: Opening, y: float, color: str, instance: int) -> None:
        """A closed door leaf with two panels and a handle."""
        paint = (self.assembly.material(Material(f"{color} door", COLORS[color])), 1.0)
        out = self._outwards(o)
        a0, a1 = o.centre - o.width / 2, o.centre + o.width / 2
        face = o.wall + 0.04 * out
        self._block(o.axis, (face, face + 0.05 * out), (a0, a1), (y, y + o.head), paint, instance)
        for low, high in ((0.25, 0.95), (1.1, 1.85)):
            self._block(
                o.axis, (face - 0.015 * out, face), (a0 + 0.15, a1 - 0.15), (y + low, y + high), paint, instance
            )
        self._block(
            o.axis, (face - 0.06 * out, face), (a1 - 0.11, a1 - 0.08), (y + 1.0, y + 1.03), self.metal, instance
        )

    def _window(self, o: Opening, cell: Cell, instance: int) -> None:
        """A frame with a cross of bars, and behind it the bright outside."""
        out, y = self._outwards(o), base(cell)
        a0, a1 = o.centre - o.width / 2, o.centre + o.width / 2
        inside, outside = o.wall + 0.06 * out, o.wall + 0.1 * out
        sign_flip = (out < 0) == (o.axis == "x")
        shift = self.rng.random()
        v0 = 0.12 if cell.storey == 0 else 0.3

        def place(a, b):
            return self._place(o.axis, o.wall + (REVEAL - 0.02) * out, y)(a0 + (a - shift), o.sill + (b - v0) / 0.3)

        self.assembly.plane(
            [shift, shift + a1 - a0], [v0, v0 + 0.3 * (o.head - o.sill)], place, sign_flip, self.outdoors, instance
        )
        bars = [(a0, a0 + 0.05), (a1 - 0.05, a1)]
        if o.width > 0.9:
            bars.append((o.centre - 0.025, o.centre + 0.025))
        for bar in bars:
            self._block(o.axis, (inside, outside), bar, (y + o.sill, y + o.head), self.white, instance)
        for low in (o.sill, o.head - 0.05):
            self._block(
                o.axis, (inside - 0.002 * out, outside), (a0, a1), (y + low, y + low + 0.05), self.white, instance
            )
        board = (o.wall - (WALL / 2 + 0.04) * out, o.wall)
        self._block(
            o.axis, board, (a0 - 0.04, a1 + 0.04), (y + o.sill - 0.03, y + o.sill + 0.005), self.white, instance
        )

    # ---- stairs

    def stairs(self, flight: Flight) -> None:
        """Solid steps, the edges of the hole above them, and railings."""
        self.flight = flight
        instance = self.assembly.instance("stairs", room=flight.cells[0])
        run, rise = (flight.rect.size[0 if flight.axis == "x" else 1]) / (STEPS - 1), STOREY / STEPS
        start, side0, side1 = self._flight_frame(flight)
        for step in range(STEPS - 1):
            at, after = start + flight.sign * run * step, start + flight.sign * run * (step + 1)
            along = (min(at, after), max(at, after))
            self._step(flight, along, (side0, side1), rise * (step + 1), instance)
        self._shaft_edges(flight, instance)
        self._railings(flight, run, rise)

    def _flight_frame(self, flight: Flight) -> tuple[float, float, float]:
        """Where the flight starts along its axis, and its two sides across."""
        r = flight.rect
        low, high, *sides = (r.x0, r.x1, r.z0, r.z1) if flight.axis == "x" else (r.z0, r.z1, r.x0, r.x1)
        return (low if flight.sign > 0 else high), *sides

    def _step(self, flight: Flight, along, across, height: float, instance: int) -> None:
        """One step as a block down to the floor: white, with a wooden tread of 3 cm."""
        for low, high, paint in ((0.0, height - 0.03, self.white), (height - 0.03, height, self.tread)):
            if flight.axis == "x":
                self.assembly.box((along[0], low, across[0]), (along[1], high, across[1]), paint, instance)
            else:
                self.assembly.box((across[0], low, along[0]), (across[1], high, along[1]), paint, instance)

    def _shaft_edges(self, flight: Flight, instance: int) -> None:
        """The thickness of the upper floor around the hole."""
        r, up = flight.rect, [CEILING, STOREY]
        for axis, at, low, high, flip in (
            ("x", r.x0, r.z0, r.z1, True),
            ("x", r.x1, r.z0, r.z1, False),
            ("z", r.z0, r.x0, r.x1, False),
            ("z", r.z1, r.x0, r.x1, True),
        ):
            self.assembly.plane(lines(low, high), up, self._place(axis, at, 0.0), flip, self.white, instance)

    def _railings(self, flight: Flight, run: float, rise: float) -> None:
        """A handrail with bars along the open side of the steps, and around the hole upstairs but for its exit."""
        start, side0, side1 = self._flight_frame(flight)
        hall = inner(self.plan.cells[flight.cells[0]])
        walls = (hall.z0, hall.z1) if flight.axis == "x" else (hall.x0, hall.x1)
        open_side = side1 if abs(side0 - walls[0]) < abs(side1 - walls[1]) else side0
        inwards = -1 if open_side == side1 else 1
        instance = self.assembly.instance("railing", room=flight.cells[1])
        bars = [start + flight.sign * run * (step + 0.5) for step in range(STEPS - 1)]
        across = (open_side + 0.02 * inwards, open_side + 0.05 * inwards)
        for step, bar in enumerate(bars):
            top = rise * (step + 1)
            self._post(flight.axis, bar, across, (top, top + RAIL - 0.1), instance)
            self._handrail(flight.axis, (bar - run / 2, bar + run / 2), across, top + RAIL - 0.1, instance)
        end = start + flight.sign * run * (STEPS - 1)
        edge = (open_side - 0.05 * inwards, open_side - 0.02 * inwards)
        low, high = min(start, end), max(start, end)
        for bar in np.linspace(low, high, 30):
            self._post(flight.axis, float(bar), edge, (STOREY, STOREY + RAIL), instance)
        self._handrail(flight.axis, (low - 0.05, high + 0.02), edge, STOREY + RAIL, instance)
        other = "z" if flight.axis == "x" else "x"
        edge = (start - 0.05 * flight.sign, start - 0.02 * flight.sign)
        for bar in np.linspace(side0, side1, 8):
            self._post(other, float(bar), edge, (STOREY, STOREY + RAIL), instance)
        self._handrail(other, (side0, side1), edge, STOREY + RAIL, instance)

    def _post(self, axis: str, at: float, across, up, instance: int) -> None:
        other = "z" if axis == "x" else "x"
        self._block(other, across, (at - 0.015, at + 0.015), up, self.metal, instance)

    def _handrail(self, axis: str, along, across, height: float, instance: int) -> None:
        other = "z" if axis == "x" else "x"
        middle = sum(across) / 2
        self._block(other, (middle - 0.03, middle + 0.03), along, (height, height + 0.05), self.tread, instance)


@cache
def _outdoors() -> Material:
    """What windows show: lawn below, a hedge, sky above, brighter than the room."""
    sky, grass = (textures.texture(kind).texture.astype(float) for kind in ("sky", "grass"))
    size = len(sky)
    up = 1 - (np.arange(size)[:, None, None] + 0.5) / size  # v of each row
    ridge = 0.46 + 0.02 * np.sin(2 * np.pi * np.arange(size) / size * 3)[None, :, None]
    hedge = grass * np.array([0.55, 0.62, 0.55])
    picture = np.where(up < 0.32, grass, np.where(up < ridge, hedge, sky))
    return Material("outdoors", (1.0, 1.0, 1.0), np.clip(picture * 1.1 + 12, 0, 255).astype(np.uint8))
