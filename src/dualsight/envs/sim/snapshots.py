"""Single pictures of a house from which one can tell the room: with the room's type and the things to be seen.

A picture is taken where an agent can stand. It is kept when most of it shows the room that the agent is in, and when
the things that are large in it, taken together, belong in no other type of room: a bed says bedroom, a chair says
little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from dualsight.envs.sim.building import House
from dualsight.envs.sim.furniture import catalog
from dualsight.envs.sim.landmarks import SALIENCE, Renderer, color_of
from dualsight.envs.sim.navmesh import NavMesh
from dualsight.types import Camera, Frame, Pose

OWN_ROOM = 0.7
"""Share of a picture that has to show the room it is taken in."""
TELLING = 0.06
"""Share of a picture from which on a thing tells the room..."""
TYPES = 3
"""... if it belongs in at most this many types of room: what is found all over a house tells nothing."""
TRIES = 40
"""Places tried for each picture that is kept, before a house counts as one without views."""


@dataclass(frozen=True)
class Snapshot:
    """A picture with what a person would say of it."""

    image: Frame
    room: str
    """The type of room: "kitchen"."""
    things: tuple[tuple[str, str, float], ...]
    """Category, colour word ("" where none fits) and share of the picture of each thing in it, the largest first."""


def snapshots(
    house: House,
    navmesh: NavMesh,
    renderer: Renderer,
    count: int,
    rng: np.random.Generator,
    camera: Camera | None = None,
) -> list[Snapshot]:
    """At most ``count`` pictures, fewer where a house has few such views; no type of room makes up most of them."""
    camera = camera or Camera(64, 64)
    most = math.ceil(2 * count / len({room.type for room in house.rooms}))
    taken: list[Snapshot] = []
    for _ in range(TRIES * count):
        if len(taken) == count:
            break
        pose = Pose(navmesh.random_point(rng), float(rng.uniform(-math.pi, math.pi)))
        snapshot = _look(house, renderer, pose, camera)
        if snapshot is not None and sum(other.room == snapshot.room for other in taken) < most:
            taken.append(snapshot)
    return taken


def _look(house: House, renderer: Renderer, pose: Pose, camera: Camera) -> Snapshot | None:
    """The picture at ``pose``, or None if it does not tell the room."""
    room = house.room_at(pose.position)
    if room is None:
        return None
    view = renderer.render(pose, camera)
    share = np.bincount(view.instances.ravel(), minlength=len(house.scene.instances)) / view.instances.size
    own = np.array([instance.room == room.index for instance in house.scene.instances])
    seen = [thing for thing in house.things if share[thing.instance] > 0 and thing.category in SALIENCE]
    telling = {t.category for t in seen if t.room == room.index and share[t.instance] >= TELLING}
    telling = {category for category in telling if len(_rooms_of(category)) <= TYPES}
    possible = set.intersection(*map(_rooms_of, telling)) if telling else set()
    if share[own].sum() < OWN_ROOM or possible != {room.type}:
        return None
    labels = sorted(((t.category, color_of(t), float(share[t.instance])) for t in seen), key=lambda label: -label[2])
    return Snapshot(view.rgb, room.type, tuple(labels))


@cache
def _rooms_of(category: str) -> set[str]:
    """The types of room in which things of a category belong."""
    return {room for model in catalog() if model.category == category for room in model.rooms}
