"""What a house knows of itself besides its triangles: rooms, doors, stairs, things. Made by ``house.generate``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualsight.envs.sim.scene import Scene
from dualsight.types import Point


@dataclass(frozen=True)
class Room:
    """One room: an axis-aligned rectangle ``x0 <= x <= x1``, ``z0 <= z <= z1`` at floor height ``y``."""

    index: int
    type: str
    """A word for instructions: "kitchen", "bedroom", "bathroom", "living room", "dining room", "office", "hall",
    "laundry room", "storage room"..."""
    storey: int
    y: float
    x0: float
    z0: float
    x1: float
    z1: float
    floor: str = ""
    """What the floor shows, in words: "wooden floor", "white tiles", "grey carpet"."""
    wall: str = ""
    """The colour word of its walls."""

    @property
    def centre(self) -> Point:
        """The middle of its floor, (3,)."""
        return np.array([(self.x0 + self.x1) / 2, self.y, (self.z0 + self.z1) / 2])

    def contains(self, point, margin: float = 0.0) -> bool:
        """Is ``point`` above this floor (within 2 m of height) and inside the walls, ``margin`` metres off them?"""
        x, y, z = point
        return bool(
            self.x0 + margin <= x <= self.x1 - margin
            and self.z0 + margin <= z <= self.z1 - margin
            and -0.6 < y - self.y < 2.0
        )


@dataclass(frozen=True)
class Door:
    """An opening between two rooms (a doorway without a leaf, or with a leaf that stands open)."""

    position: Point
    """The middle of the opening, on the floor."""
    rooms: tuple[int, int]
    width: float
    axis: str
    """"x" where one walks through along X, "z" where along Z."""


@dataclass(frozen=True)
class Stairs:
    """A straight flight: from ``bottom`` (on the floor of ``rooms[0]``) to ``top`` (on the floor of ``rooms[1]``)."""

    bottom: Point
    top: Point
    rooms: tuple[int, int]
    width: float


@dataclass(frozen=True)
class Thing:
    """A piece of furniture or decoration that an instruction may name."""

    instance: int
    """Its index in ``scene.instances``."""
    category: str
    color: str
    """A colour word, or "" where none fits."""
    room: int
    centre: Point
    """The middle of its footprint at its lowest height, (3,)."""
    size: Point
    """Extent along X, Y, Z, (3,) metres."""
    relations: tuple[tuple[str, int], ...] = ()
    """("next to" | "on" | "facing" | "under", instance of the other thing), recorded when it was placed."""


@dataclass(frozen=True)
class House:
    """A generated building: its triangles and what they mean."""

    seed: int
    scene: Scene
    rooms: list[Room]
    doors: list[Door]
    stairs: list[Stairs]
    things: list[Thing]
    lights: list[Point]

    @property
    def scene_id(self) -> str:
        """How episodes name it: ``house/000123``."""
        return f"house/{self.seed:06d}"

    @property
    def storeys(self) -> int:
        """1 or 2."""
        return 1 + max(room.storey for room in self.rooms)

    def room_at(self, point) -> Room | None:
        """The room in which a point of the floor lies, or None (in a wall, on the stairs, outside)."""
        return next((room for room in self.rooms if room.contains(point)), None)
