"""Where a path changes rooms: through which door or stairs, and in which direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dualsight.envs.sim.building import Door, House, Room, Stairs
from dualsight.envs.sim.polyline import Polyline, heading_of
from dualsight.types import Point


class RouteError(ValueError):
    """A path that cannot be told room by room; the message says where it breaks."""


@dataclass(frozen=True)
class Crossing:
    """The moment of entering a room: where, in which direction, through what (None at the start)."""

    room: Room
    at: float
    """Metres along the path."""
    position: Point
    heading: float
    through: Door | Stairs | None
    left_at: float
    """Metres along the path where the previous room was left: at the foot of the stairs, or ``at`` the door."""
    left_position: Point


def find_crossings(house: House, path: Polyline) -> list[Crossing]:
    """The rooms entered along the path, the first one included."""
    step = 0.05
    marks = np.arange(0.0, path.length + step, step).clip(max=path.length)
    visits: list[list[float | Room]] = []  # [room, first metre, last metre]
    for mark, place in zip(marks, path.at(marks), strict=True):
        room = house.room_at(place)
        if room is None:
            continue
        if visits and visits[-1][0] is room:
            visits[-1][2] = mark
        else:
            visits.append([room, mark, mark])
    visits = _without_flicker(visits)
    if not visits:
        raise RouteError("the path touches no room of the house")
    room = visits[0][0]
    found = [Crossing(room, 0.0, path.at(0.0), path.heading(0.0), None, 0.0, path.at(0.0))]
    for (a, _, left), (b, entered, _) in pairwise(visits):
        found.append(_through(house, path, a, b, left, entered))
    return found


def _without_flicker(visits, shortest: float = 0.4):
    """Visits without those of a few centimetres where the path grazes the edge of a room."""
    kept = []
    for index, visit in enumerate(visits):
        grazed = visit[2] - visit[1] < shortest and 0 < index < len(visits) - 1
        if grazed and visits[index - 1][0] is visits[index + 1][0]:
            continue
        if kept and kept[-1][0] is visit[0]:
            kept[-1][2] = visit[2]
        else:
            kept.append(list(visit))
    return kept


def _through(house: House, path: Polyline, a: Room, b: Room, left: float, entered: float) -> Crossing:
    """How the path gets from room ``a``, left at metre ``left``, into ``b``."""
    if a.storey != b.storey:
        flights = [s for s in house.stairs if set(s.rooms) == {a.index, b.index}]
        if not flights:
            raise RouteError(f"no stairs join {a.type} {a.index} and {b.type} {b.index}")
        middle = path.at((left + entered) / 2)
        flight = min(flights, key=lambda s: float(np.linalg.norm((s.bottom + s.top) / 2 - middle)))
        foot, head = (flight.bottom, flight.top) if b.storey > a.storey else (flight.top, flight.bottom)
        return Crossing(b, path.nearest(head), head, heading_of(head - foot), flight, path.nearest(foot), foot)
    doors = [d for d in house.doors if set(d.rooms) == {a.index, b.index}]
    if not doors:
        raise RouteError(f"no door joins {a.type} {a.index} and {b.type} {b.index}")
    middle = (left + entered) / 2
    door = min(doors, key=lambda d: float(np.linalg.norm(d.position - path.at(middle))))
    place = path.at(middle)
    return Crossing(b, middle, place, out_of(a, door), door, middle, place)


def out_of(room: Room, door: Door) -> float:
    """The heading of somebody who leaves ``room`` straight through ``door``."""
    offset = door.position - room.centre
    if door.axis == "x":
        return heading_of(np.array([math.copysign(1.0, offset[0]), 0.0, 0.0]))
    return heading_of(np.array([0.0, 0.0, math.copysign(1.0, offset[2])]))
