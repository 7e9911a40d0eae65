"""A path through a house as a person tells it: rooms, doors, turns, and the things seen on the way.

Rooms are axis-aligned rectangles and one walks straight through a door, so a route is told room by room, in *legs*:
one enters in some direction, turns (or not), walks, and leaves through an exit on the left, on the right or ahead.
Turns are those between the directions of doors, not the fifteen-degree steps an agent needs around a chair; the sum of
all turns told is the change of direction that was walked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim.building import Door, House, Room
from dualsight.envs.sim.crossings import Crossing, RouteError, find_crossings, out_of
from dualsight.envs.sim.landmarks import Landmark, Renderer, Sights, look_along
from dualsight.envs.sim.polyline import Polyline, heading_of, wrap
from dualsight.types import Camera, Point, Pose

SIGHT = Camera(width=112, height=112, hfov=90.0)
"""The camera whose pictures decide what has been seen."""

WIDE = 1.3
"""Metres: a wider doorway is an arch."""


AHEAD = math.radians(40)
"""Doors this far from the walking direction, or less, are ahead."""


class DistanceField(Protocol):
    """Shortest ways to one goal: ``NavMesh.distance_field``."""

    def distance(self, point: Point) -> float: ...

    def path(self, point: Point) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Exit:
    """How a leg leaves its room."""

    kind: str
    """"door" | "arch" (a wide one) | "opening" (counted among both) | "up" | "down" (stairs)."""
    side: str
    """"ahead" | "left" | "right" of the direction walked in the room, or "around" (stairs only)."""
    ordinal: int
    """It is the n-th on that side as one walks; 0 where it is the only one."""
    last: bool
    """It is the last of several on that side."""
    rank: str
    """"left" | "middle" | "right" among several in the wall ahead, or ""."""
    choices: int
    """Ways out of the room besides the one that was entered by: above 1, the exit has to be told."""
    into: Room
    beside: Landmark | None = None
    """What stands next to it."""


@dataclass(frozen=True)
class Leg:
    """One room of a route."""

    room: Room
    turn: str
    """On entering, or from the start pose: "straight", "around", "left", "right", "slight left" or "slight right"."""
    length: float
    """Metres walked in it."""
    exit: Exit | None
    """None for the last."""
    passed: tuple[Landmark, ...] = ()
    """Things one walks past, in order, each with its side."""
    toward: Landmark | None = None
    """What one walks up to, at the far end."""


@dataclass(frozen=True)
class Stop:
    """Where to stop."""

    relation: str
    """"next to" | "in front of" | "on" | "between" (two things) | "inside" | "middle" (of the room)."""
    things: tuple[Landmark, ...]
    room: Room


@dataclass(frozen=True)
class Route:
    """A shortest path, and everything an instruction may say about it."""

    start: Pose
    path: Polyline
    legs: tuple[Leg, ...]
    facing: Landmark | None
    """What one looks at before the first step."""
    stop: Stop

    @property
    def rooms(self) -> list[Room]:
        """The rooms in the order in which they are entered."""
        return [leg.room for leg in self.legs]

    @property
    def storeys_crossed(self) -> int:
        """How many flights of stairs are walked."""
        return sum(leg.exit is not None and leg.exit.kind in ("up", "down") for leg in self.legs)

    @property
    def decisions(self) -> int:
        """Rooms with more than one way on."""
        return sum(leg.exit is not None and leg.exit.choices > 1 for leg in self.legs)

    def expert_steps(self, forward: float = 0.25, turn: float = math.radians(15)) -> int:
        """About how many actions an expert needs, STOP included: metres walked, angles turned."""
        flat = self.path.simplified(0.1).points
        headings = [self.start.heading] + [heading_of(b - a) for a, b in pairwise(flat)]
        turned = sum(abs(wrap(b - a)) for a, b in pairwise(headings))
        return math.ceil(self.path.length / forward) + round(turned / turn) + 1


def analyse(house: House, field: DistanceField, start: Pose, renderer: Renderer, camera: Camera = SIGHT) -> Route:
    """The route from ``start`` to the goal of ``field``.

    Raises RouteError where the path is empty or jumps between rooms that no door or stairs join.
    """
    points = field.path(start.position)
    if len(points) < 2 or not np.isfinite(points).all():
        raise RouteError(f"no path from {start.position.tolist()}: start and goal must be apart and connected")
    path = Polyline(points)
    crossings = find_crossings(house, path)
    sights = look_along(house, path, start, renderer, camera)
    legs = []
    for index, here in enumerate(crossings):
        after = crossings[index + 1] if index + 1 < len(crossings) else None
        legs.append(_leg(house, path, sights, here, after, start if index == 0 else None))
    last = crossings[-1]
    return Route(start, path, tuple(legs), sights.facing(legs[0].room), _stop(path, sights, last))


def turn_word(angle: float) -> str:
    """The word for a turn by ``angle`` radians (positive is left): below 30 degrees straight, below 60 slight,
    above 135 around."""
    degrees = abs(math.degrees(angle))
    side = "left" if angle > 0 else "right"
    if degrees < 30:
        return "straight"
    if degrees < 60:
        return f"slight {side}"
    return side if degrees <= 135 else "around"


def cross_room(entry: float, chord: float, through: float) -> tuple[str, str]:
    """Turn on entering and side of the exit, for somebody who enters with heading ``entry``, finds the exit in the
    direction ``chord`` and leaves with heading ``through``.

    A door in the side wall is "on the left" unless it lies abeam, where one turns left and it is ahead; a door in the
    far wall, but far off to the left, means walking left along the room with the door on the right. Stairs, which may
    stand anywhere, can also ask to turn around.
    """
    bearing = wrap(chord - entry)
    quarters = round(wrap(through - entry) / (math.pi / 2))
    straight = 60 if quarters == 0 else 70 if abs(quarters) == 1 and quarters * bearing > 0 else 45
    if abs(bearing) < math.radians(straight):
        return turn_word(bearing) if quarters == 0 else "straight", _side(wrap(through - entry))
    walked = entry + math.copysign(math.pi / 2, bearing)
    return "left" if bearing > 0 else "right", _side(wrap(through - walked))


def _leg(
    house: House, path: Polyline, sights: Sights, here: Crossing, after: Crossing | None, start: Pose | None
) -> Leg:
    """One room: from ``here`` to the crossing ``after``, or to the end of the path."""
    until = after.left_at if after else path.length
    target = after.left_position if after else path.at(path.length)
    chord = heading_of(target - here.position)
    entry = start.heading if start else here.heading
    turn, way_out = turn_word(wrap(chord - entry)), None
    if after:
        if start:
            side, walked = _side(wrap(after.heading - chord)), chord
        else:
            turn, side = cross_room(entry, chord, after.heading)
            walked = entry + {"left": 1, "right": -1}.get(turn, 0) * math.pi / 2
        way_out = _exit(house, sights, here, after, side, chord if side == "ahead" else walked)
    passed, toward = sights.passed(here.room, here.at, until)
    return Leg(here.room, turn, until - here.at, way_out, passed, toward)


def _side(angle: float) -> str:
    """On which side something is that one goes through by turning ``angle``."""
    if abs(angle) < math.radians(50):
        return "ahead"
    if abs(angle) > math.radians(130):
        return "around"
    return "left" if angle > 0 else "right"


def _exit(house: House, sights: Sights, here: Crossing, after: Crossing, side: str, walked: float) -> Exit:
    """The way out through ``after``, on ``side`` of somebody who walks with heading ``walked`` from ``here``."""
    room, door = here.room, after.through
    doors = [d for d in house.doors if room.index in d.rooms and d is not here.through]
    flights = [s for s in house.stairs if room.index in s.rooms and s is not here.through]
    choices = len(doors) + len(flights)
    if not isinstance(door, Door):
        kind = "up" if after.room.storey > room.storey else "down"
        return Exit(kind, side, 0, False, "", choices, after.room)
    same_wall = [d for d in doors if abs(wrap(out_of(room, d) - after.heading)) < 0.1]
    ordinal, rank = 0, ""
    if side == "ahead":
        alike = [
            d for d in same_wall if abs(wrap(heading_of(d.position - here.position) - walked)) < AHEAD or d is door
        ]
        rank = _rank(_offset(door, here.position, walked), [_offset(d, here.position, walked) for d in alike])
    else:
        axis = round(walked / (math.pi / 2)) * (math.pi / 2) - math.pi / 2
        reached = _offset(door, here.position, axis)
        alike = [d for d in same_wall if _offset(d, here.position, axis) > -0.3 or d is door]
        if len(alike) > 1:
            ordinal = sum(_offset(d, here.position, axis) <= reached for d in alike)
    wide = {d.width > WIDE for d in alike}
    kind = "opening" if len(wide) == 2 else "arch" if door.width > WIDE else "door"
    last = len(alike) > 1 and ordinal == len(alike)
    return Exit(kind, side, ordinal, last, rank, choices, after.room, sights.beside(door, room, after.at))


def _offset(door: Door, origin: Point, heading: float) -> float:
    """How far to the left of somebody at ``origin`` with that heading the door lies, in metres."""
    return float((door.position - origin) @ Pose(origin, heading).turned(math.pi / 2).forward)


def _rank(leftward: float, all_leftward: list[float]) -> str:
    """Which of several doors side by side it is, by how far left each lies; "" for the only one."""
    if len(all_leftward) == 1:
        return ""
    if leftward == max(all_leftward):
        return "left"
    return "right" if leftward == min(all_leftward) else "middle"


def _stop(path: Polyline, sights: Sights, last: Crossing) -> Stop:
    """The words for the end of the path: the nearest things that were seen, or the part of the room."""
    goal, room = path.at(path.length), last.room
    near = sights.near_end(room, last.at)
    if near and near[0].thing.category == "rug":
        return Stop("on", near[:1], room)
    if near:
        opposite = next((other for other in near[1:3] if _between(goal, near[0], other)), None)
        if opposite:
            return Stop("between", (near[0], opposite), room)
        return Stop("in front of" if near[0].side == "ahead" else "next to", near[:1], room)
    if last.through is not None and np.linalg.norm(goal - last.position) < 1.6:
        return Stop("inside", (), room)
    size = min(room.x1 - room.x0, room.z1 - room.z0)
    if np.linalg.norm(goal - room.centre) < min(1.0, 0.3 * size):
        return Stop("middle", (), room)
    raise RouteError(f"nothing to say about where to stop in the {room.type} at {goal.round(2).tolist()}")


def _between(goal: Point, a: Landmark, b: Landmark) -> bool:
    """Do the two stand on opposite sides of the goal?"""
    angle = wrap(heading_of(a.thing.centre - goal) - heading_of(b.thing.centre - goal))
    return b.thing.category != "rug" and abs(angle) > math.radians(140)
