"""All that is to be seen from one place of a house: four views in one picture, and what is in each of them.

::

    ahead | right
    ------+-------
    left  | behind

A question about it may ask what was behind you. Each view is 90 degrees wide, so together they show every direction
once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dualsight.envs.sim.building import House
from dualsight.envs.sim.landmarks import SALIENCE, Renderer, color_of
from dualsight.envs.sim.navmesh import NavMesh
from dualsight.types import Camera, Frame, Pose

TURNS = {"ahead": 0.0, "right": -0.5, "left": 0.5, "behind": 1.0}
"""Half turns to the left, in the order of the picture, row by row."""
FEWEST = 5
"""Kinds of things to be seen at least, or there is too little to talk about."""
NOTICED = 0.01
"""Share of a view from which on a thing counts for that."""
TRIES = 20
"""Places tried for each picture that is kept."""


@dataclass(frozen=True)
class Sighting:
    """A thing in the view that shows most of it."""

    category: str
    color: str
    """A colour word, or "" where none fits."""
    direction: str
    share: float
    """Of that view."""
    x: float
    """Where its middle is in that view, 0 left to 1 right."""


@dataclass(frozen=True)
class Surroundings:
    """A picture (2S, 2S, 3) of four views, and what is in it."""

    image: Frame
    room: str
    """The type of room one stands in."""
    things: tuple[Sighting, ...]
    """The largest first."""


def surroundings(
    house: House, navmesh: NavMesh, renderer: Renderer, count: int, rng: np.random.Generator, side: int = 64
) -> list[Surroundings]:
    """At most ``count`` pictures from random places, fewer where a house has few from which there is enough to see.

    Args:
        side: pixels of a view.
    """
    taken: list[Surroundings] = []
    for _ in range(TRIES * count):
        if len(taken) == count:
            break
        pose = Pose(navmesh.random_point(rng), float(rng.uniform(-math.pi, math.pi)))
        room = house.room_at(pose.position)
        if room is None:
            continue
        seen = look_around(house, renderer, pose, room.type, side)
        if len({thing.category for thing in seen.things if thing.share >= NOTICED}) >= FEWEST:
            taken.append(seen)
    return taken


def look_around(house: House, renderer: Renderer, pose: Pose, room: str, side: int = 64) -> Surroundings:
    """What is around ``pose``."""
    camera = Camera(side, side, 90.0)
    views = [renderer.render(Pose(pose.position, pose.heading + half * math.pi), camera) for half in TURNS.values()]
    count = len(house.scene.instances)
    shares = np.stack([np.bincount(view.instances.ravel(), minlength=count) for view in views]) / side**2
    columns = np.tile((np.arange(side) + 0.5) / side, side)
    middles = np.stack([np.bincount(view.instances.ravel(), columns, count) for view in views]) / side**2
    things = []
    for thing in house.things:
        view = int(shares[:, thing.instance].argmax())
        share = float(shares[view, thing.instance])
        if share > 0 and thing.category in SALIENCE:
            x = float(middles[view, thing.instance]) / share
            things.append(Sighting(thing.category, color_of(thing), tuple(TURNS)[view], share, x))
    rows = [np.concatenate([view.rgb for view in views[start : start + 2]], 1) for start in (0, 2)]
    return Surroundings(np.concatenate(rows), room, tuple(sorted(things, key=lambda thing: -thing.share)))
