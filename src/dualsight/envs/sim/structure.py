"""The building itself: walls with their openings, floors, ceilings and stairs of a floor plan, and its records.

Every room is a closed box of planes on the inner sides of its walls, with a hole for each opening; the space between
two boxes is lined by the reveals of the openings. So walls are as thick as ``WALL`` and no plane lies on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from dualsight.envs.sim.assembly import Assembly, lines
from dualsight.envs.sim.building import Door, Room, Stairs
from dualsight.envs.sim.finishes import Finishes
from dualsight.envs.sim.floorplan import FloorPlan, Opening
from dualsight.envs.sim.layouts import WALL, Rect
from dualsight.envs.sim.measures import CEILING, base, inner
from dualsight.envs.sim.openings import CASING, add_opening
from dualsight.envs.sim.stairs import add_stairs, record
from dualsight.types import Point

SKIRTING = (0.08, 0.012)
"""Height and thickness of the board along the foot of walls, metres."""


@dataclass(frozen=True)
class Building:
    """What the structure hands on: the records of a house, and where its lamps hang."""

    rooms: list[Room]
    doors: list[Door]
    stairs: list[Stairs]
    lights: list[Point]


def build(plan: FloorPlan, assembly: Assembly, rng: Random) -> Building:
    """Add the structure of ``plan`` to ``assembly``, with materials drawn from ``rng``."""
    finishes = Finishes([cell.type for cell in plan.cells], assembly, rng)
    rooms = []
    for index, cell in enumerate(plan.cells):
        r, finish = inner(cell), finishes.rooms[index]
        rooms.append(
            Room(
                index, cell.type, cell.storey, base(cell), r.x0, r.z0, r.x1, r.z1, finish.floor_words, finish.wall_word
            )
        )
        _add_room(plan, index, assembly, finishes)
    for opening in plan.openings:
        add_opening(plan, opening, assembly, finishes, rng)
    if plan.flight:
        add_stairs(plan, plan.flight, assembly, finishes)
    lights = [light for room in rooms for light in _add_lamps(room, assembly, finishes)]
    doors = [_door(plan, opening) for opening in plan.openings if opening.kind in ("door", "arch")]
    return Building(rooms, doors, [record(plan.flight)] if plan.flight else [], lights)


def _door(plan: FloorPlan, opening: Opening) -> Door:
    x, z = opening.middle
    return Door(np.array([x, base(plan.cells[opening.cells[0]]), z]), opening.cells, opening.width, opening.axis)


def _add_room(plan: FloorPlan, index: int, assembly: Assembly, finishes: Finishes) -> None:
    """Floor, ceiling and four walls of a room; the hole of the stairs in the floor or the ceiling of its hall."""
    cell, finish = plan.cells[index], finishes.rooms[index]
    r, y = inner(cell), base(cell)
    shaft = [plan.flight.rect] if plan.flight and index in plan.flight.cells else []
    x = lines(r.x0, r.x1, [edge for hole in shaft for edge in (hole.x0, hole.x1)])
    z = lines(r.z0, r.z1, [edge for hole in shaft for edge in (hole.z0, hole.z1)])
    holes = [(hole.x0, hole.z0, hole.x1, hole.z1) for hole in shaft]
    floor, ceiling = assembly.instance("floor", room=index), assembly.instance("ceiling", room=index)
    assembly.level(x, z, y, True, finish.floor, floor, holes if cell.storey == 1 else [])
    assembly.level(x, z, y + CEILING, False, finishes.ceiling, ceiling, holes if cell.storey == 0 else [])
    wall = assembly.instance("wall", finish.wall_word, index)
    for axis, at, front in (("x", r.x0, 1), ("x", r.x1, -1), ("z", r.z0, 1), ("z", r.z1, -1)):
        _add_wall(plan, index, axis, at, front, assembly, finishes, wall)


def _add_wall(
    plan: FloorPlan, index: int, axis: str, at: float, front: int, assembly: Assembly, finishes: Finishes, instance: int
) -> None:
    """One side of a room, facing the sense ``front`` of ``axis``, with holes for its openings and skirting between."""
    r, y = inner(plan.cells[index]), base(plan.cells[index])
    low, high = (r.z0, r.z1) if axis == "x" else (r.x0, r.x1)
    openings = [
        o for o in plan.openings if index in o.cells and o.axis == axis and abs(o.wall - at + front * WALL / 2) < 1e-6
    ]
    holes = [(o.centre - o.width / 2, y + o.sill, o.centre + o.width / 2, y + o.head) for o in openings]
    along = lines(low, high, [edge for hole in holes for edge in (hole[0], hole[2])])
    up = lines(y, y + CEILING, [edge for hole in holes for edge in (hole[1], hole[3])], 0.7)
    assembly.upright(axis, at, front, along, up, finishes.rooms[index].wall, instance, holes)
    doorways = sorted(
        (o.centre - o.width / 2 - CASING, o.centre + o.width / 2 + CASING) for o in openings if o.sill == 0
    )
    starts, ends = [low, *(end for _, end in doorways)], [*(start for start, _ in doorways), high]
    height, thickness = SKIRTING
    for start, end in zip(starts, ends, strict=True):
        if end - start > 0.05:
            board, depth = lines(start, end, step=1.0), sorted((at, at + front * thickness))
            assembly.upright(axis, at + front * thickness, front, board, [y, y + height], finishes.white, instance)
            x, z = (depth, board) if axis == "x" else (board, depth)
            assembly.level(x, z, y + height, True, finishes.white, instance)


def _add_lamps(room: Room, assembly: Assembly, finishes: Finishes) -> list[Point]:
    """A flat lamp on the ceiling in the middle of a room, or several along a long one; returns where they shine."""
    floor = Rect(room.x0, room.z0, room.x1, room.z1)
    width, depth = floor.size
    count = max(1, round(max(width, depth) / 4.0))
    shares = (np.arange(count) + 0.5) / count
    x = room.x0 + width * (shares if width >= depth else np.full(count, 0.5))
    z = room.z0 + depth * (shares if depth > width else np.full(count, 0.5))
    top = room.y + CEILING
    instance = assembly.instance("ceiling lamp", room=room.index)
    for a, b in zip(x, z, strict=True):
        assembly.box((a - 0.2, top - 0.05, b - 0.2), (a + 0.2, top - 0.001, b + 0.2), finishes.lamp, instance)
    return [np.array([a, top - 0.2, b]) for a, b in zip(x, z, strict=True)]
