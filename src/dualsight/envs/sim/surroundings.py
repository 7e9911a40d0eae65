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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

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
PARTS = 8
"""Parts a side of a picture, for each of which is told what fills it."""
FILLED = 0.25
"""Share of a part from which on a thing fills it."""
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
    parts: tuple[int, ...]
    """Which of the things fills most of each part of the picture, row by row; -1 where none does."""


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
    sightings: dict[int, Sighting] = {}
    for thing in house.things:
        view = int(shares[:, thing.instance].argmax())
        share = float(shares[view, thing.instance])
        if share > 0 and thing.category in SALIENCE:
            x = float(middles[view, thing.instance]) / share
            sightings[thing.instance] = Sighting(thing.category, color_of(thing), tuple(TURNS)[view], share, x)
    largest = sorted(sightings, key=lambda instance: -sightings[instance].share)
    image, instances = (
        np.concatenate([np.concatenate(two, 1) for two in (of[:2], of[2:])])
        for of in ([view.rgb for view in views], [view.instances for view in views])
    )
    things = tuple(sightings[instance] for instance in largest)
    return Surroundings(image, room, things, _filling(instances, largest))


def _filling(instances: Int[np.ndarray, "H W"], things: Sequence[int]) -> tuple[int, ...]:
    """See `Surroundings.parts`."""
    side = len(instances) // PARTS
    parts = instances.reshape(PARTS, side, PARTS, side).swapaxes(1, 2).reshape(PARTS**2, -1)
    shares = np.stack([(parts == thing).mean(1) for thing in things] or [np.zeros(PARTS**2)])
    return tuple(np.where(shares.max(0) >= FILLED, shares.argmax(0), -1).tolist())
