"""What is seen along a path, and how it can be named so that nobody takes it for another thing.

Seen means rendered: a thing counts when it covers at least ``VISIBLE`` of a picture taken on the way, in the walking
direction. Named means distinct: by its category alone where there is no other of that category in the room or in view,
else by its colour, else by what it stands next to; a thing that none of these tells apart is not mentioned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim.building import Door, House, Room, Thing
from dualsight.envs.sim.polyline import Polyline, heading_of, wrap
from dualsight.types import Camera, Pose, View

VISIBLE = 0.01
"""Share of the picture from which on a thing counts as seen."""

SALIENCE = {
    "aquarium": 3, "armchair": 2, "barrel": 2, "bathtub": 4, "bed": 4, "bedside table": 2, "bench": 2, "bidet": 2,
    "bookcase": 3, "box": 1, "briefcase": 1, "bunk bed": 4, "cabinet": 2, "cactus": 2, "chair": 1,
    "clock": 1, "coat rack": 2, "coffee table": 2, "cooktop": 3, "corner sofa": 4, "crate": 1,
    "crib": 3, "cuckoo clock": 1, "cupboard": 2, "curtain": 2, "desk": 3, "desk lamp": 1, "dining table": 3,
    "drafting table": 3, "dresser": 2, "dustbin": 2, "fan": 2, "fire extinguisher": 1, "fireplace": 4,
    "floor lamp": 2, "flowers": 2, "foosball table": 4, "fridge": 4, "grandfather clock": 3, "guitar": 2,
    "ironing board": 2, "kitchen counter": 2, "kitchen island": 3, "laundry basket": 2, "microwave": 1, "mirror": 2,
    "oven": 3, "painting": 2, "piano": 4, "plant": 2, "pool table": 4, "potted plant": 2,
    "radiator": 1, "range hood": 1, "rocking horse": 3, "round table": 3, "rug": 2, "shelf": 2, "shoe cabinet": 2,
    "shower": 3, "side table": 2, "sideboard": 3, "sink": 3, "sofa": 4, "speaker": 1, "stool": 1, "storage rack": 3,
    "stove": 3, "table": 3, "table lamp": 1, "teddy bear": 1, "television": 3, "toilet": 3, "towel rack": 1,
    "treadmill": 3, "tv stand": 2, "vase": 1, "wall cabinet": 1, "wall light": 1, "wall shelf": 1, "wardrobe": 3,
    "washbasin": 3, "washing machine": 3, "water heater": 2, "whiteboard": 3,
}  # fmt: skip
"""The categories that an instruction may name, and how much a person would notice each."""


class Renderer(Protocol):
    """What draws a view: ``raster.Rasteriser`` or another with its method."""

    def render(self, pose: Pose, camera: Camera) -> View: ...


UNCOLORED = ("aquarium", "cactus", "flowers", "plant", "potted plant", "shower", "television")
"""Things whose colour word is that of a pot or a rim: nobody would say "the blue plant"."""


@dataclass(frozen=True)
class Landmark:
    """A thing that was seen on the way, with what tells it apart."""

    thing: Thing
    side: str = ""
    """"left" | "right" | "ahead" of somebody who walks by, or "" where it does not matter."""
    color_needed: bool = False
    """Only its colour tells it from others of its category."""
    beside: str = ""
    """Category of the thing it stands next to, where only that tells it apart."""

    @property
    def color(self) -> str:
        """The colour it may be named with, or ""."""
        return color_of(self.thing)

    @property
    def salience(self) -> int:
        """How much a person would notice it."""
        return SALIENCE[self.thing.category]


@dataclass(frozen=True)
class _Look:
    """One picture on the way: after how many metres, and the share of it that each instance covers."""

    metre: float
    share: NDArray[np.float64]


def look_along(
    house: House, path: Polyline, start: Pose, renderer: Renderer, camera: Camera, every: float = 1.0
) -> Sights:
    """Render at the start pose, then every ``every`` metres in the walking direction, the end included."""
    marks = np.linspace(0.0, path.length, math.ceil(path.length / every) + 1)
    poses = [(0.0, start)] + [(float(m), Pose(path.at(m), path.heading(m))) for m in marks]
    looks = []
    for metre, pose in poses:
        ids = renderer.render(pose, camera).instances
        counts = np.bincount(ids.ravel(), minlength=len(house.scene.instances))
        looks.append(_Look(metre, counts / ids.size))
    return Sights(house, path, start, looks)


class Sights:
    """The things of a house as they are met along one path."""

    def __init__(self, house: House, path: Polyline, start: Pose, looks: list[_Look]):
        self._house, self._path, self._start, self._looks = house, path, start, looks

    def share(self, thing: Thing, first: float, last: float) -> float:
        """The largest share of a picture that ``thing`` covers between two metres of the path."""
        return max((look.share[thing.instance] for look in self._looks if first <= look.metre <= last), default=0.0)

    def facing(self, room: Room) -> Landmark | None:
        """The most striking thing straight in front of the start pose."""
        first = self._looks[0].share
        ahead = [
            thing
            for thing in self._in(room)
            if first[thing.instance] >= VISIBLE and abs(_bearing(self._start, thing)) < math.radians(20)
        ]
        ahead.sort(key=lambda thing: -first[thing.instance] * SALIENCE[thing.category])
        return next(filter(None, (self._named(thing, 0.0, 0.0) for thing in ahead)), None)

    def passed(
        self, room: Room, first: float, last: float, reach: float = 1.5
    ) -> tuple[tuple[Landmark, ...], Landmark | None]:
        """Things of ``room`` that one walks past between two metres, in order, and the one at the far end."""
        met: list[tuple[float, Landmark]] = []
        toward: list[Landmark] = []
        far_end = self._path.at(last)
        for thing in self._in(room):
            metre = self._closest(thing, first, last)
            pose = Pose(self._path.at(metre), self._path.heading(metre))
            gap, bearing = footprint_gap(thing, pose.position), _bearing(pose, thing)
            begin = Pose(self._path.at(first), heading_of(far_end - self._path.at(first)))
            if self.share(thing, max(first - 1.0, metre - 4.0), metre) < VISIBLE:
                continue
            if first + 0.3 < metre < last - 0.3 and 0.05 < gap < reach and 0.7 < abs(bearing) < 2.4:
                landmark = self._named(thing, first, last)
                if landmark:
                    met.append((metre, replace(landmark, side="left" if bearing > 0 else "right")))
            elif last - first > 2.5 and footprint_gap(thing, far_end) < reach and abs(_bearing(begin, thing)) < 0.35:
                landmark = self._named(thing, first, last)
                if landmark:
                    toward.append(replace(landmark, side="ahead"))
        met.sort(key=lambda pair: pair[0])
        return tuple(landmark for _, landmark in met), max(toward, key=lambda t: t.salience, default=None)

    def beside(self, door: Door, room: Room, metre: float, reach: float = 0.6) -> Landmark | None:
        """The most striking thing next to ``door``, which is reached at ``metre``, on the side of ``room``."""
        others = [d for d in self._house.doors if room.index in d.rooms and d is not door]
        candidates = [
            landmark
            for thing in self._in(room)
            if footprint_gap(thing, door.position) - door.width / 2 < reach
            and thing.category != "rug"
            and all(footprint_gap(thing, other.position) > 1.5 for other in others)
            and self.share(thing, metre - 5.0, metre) >= VISIBLE
            and (landmark := self._named(thing, metre - 5.0, metre))
        ]
        return max(candidates, key=lambda landmark: landmark.salience, default=None)

    def near_end(self, room: Room, entered: float, reach: float = 1.0) -> tuple[Landmark, ...]:
        """The things within ``reach`` of the end of the path (rugs under it) that were seen in its last four metres,
        nearest first, where a striking one counts as a little nearer."""
        end = self._path.length
        pose = Pose(self._path.at(end), self._path.heading(end))
        found = []
        for thing in self._in(room):
            gap = float(footprint_gap(thing, pose.position))
            seen = self.share(thing, max(end - 4.0, entered - 1.0), end) >= VISIBLE
            if (
                seen
                and gap <= (0 if thing.category == "rug" else reach)
                and (named := self._named(thing, entered, end))
            ):
                bearing = _bearing(pose, thing)
                side = "ahead" if abs(bearing) < math.radians(35) else "left" if bearing > 0 else "right"
                found.append((gap - 0.1 * named.salience, replace(named, side=side)))
        return tuple(landmark for _, landmark in sorted(found, key=lambda pair: pair[0]))

    def _closest(self, thing: Thing, first: float, last: float, step: float = 0.1) -> float:
        """The metre between two metres of the path at which its middle is nearest."""
        marks = np.arange(first, max(last, first + step), step)
        away = (self._path.at(marks) - thing.centre)[:, [0, 2]]
        return float(marks[np.hypot(*away.T).argmin()])

    def _in(self, room: Room) -> list[Thing]:
        """The things of a room that have a word."""
        return [thing for thing in self._house.things if thing.room == room.index and thing.category in SALIENCE]

    def _named(self, thing: Thing, first: float, last: float) -> Landmark | None:
        """``thing`` with what tells it from all others of its room and of the pictures between two metres, or None."""
        rivals = [
            other
            for other in self._house.things
            if f" {other.category}".endswith(f" {thing.category}")  # a corner sofa is a sofa, too
            and other is not thing
            and (other.room == thing.room or self.share(other, first, last) > VISIBLE / 2)
        ]
        if not rivals:
            return Landmark(thing)
        if color_of(thing) and all(other.color != thing.color for other in rivals):
            return Landmark(thing, color_needed=True)
        by_instance = {other.instance: other for other in self._house.things}
        for relation, instance in thing.relations:
            anchor = by_instance.get(instance)
            if relation == "next to" and anchor and self._only_one_beside(anchor, thing, rivals):
                return Landmark(thing, beside=anchor.category)
        return None

    def _only_one_beside(self, anchor: Thing, thing: Thing, rivals: list[Thing]) -> bool:
        """Is ``anchor`` the only one of its category in the room, and ``thing`` the only one of its category there?"""
        alike = [t for t in self._in(self._house.rooms[thing.room]) if t.category == anchor.category]
        return (
            len(alike) == 1
            and anchor.category != thing.category
            and all(footprint_gap(anchor, other.centre) > 1.5 for other in rivals)
        )


def color_of(thing: Thing) -> str:
    """The word by which a person would tell its colour, or ""."""
    return "" if thing.category in UNCOLORED else thing.color


def footprint_gap(thing: Thing, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres on the floor from ``points`` (..., 3) to the edge of the thing's footprint, (...); 0 inside."""
    outside = np.maximum(np.abs(points - thing.centre) - thing.size / 2, 0.0)
    return np.hypot(outside[..., 0], outside[..., 2])


def _bearing(pose: Pose, thing: Thing) -> float:
    """The angle at which somebody at ``pose`` has the thing's middle: 0 ahead, positive left."""
    return wrap(heading_of(thing.centre - pose.position) - pose.heading)
