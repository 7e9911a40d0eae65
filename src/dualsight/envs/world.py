"""A world: what an environment needs to know of a building, pictures of it and the ground to walk on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dualsight.envs.protocols import Protocol as Rules
from dualsight.envs.sim.building import House
from dualsight.types import Camera, Point, Pose, View

if TYPE_CHECKING:
    from dualsight.envs.sim.navmesh import AgentShape

ROOMY = 0.25
"""Metres from walls and furniture at which the expert likes to walk: a door is 0.8 m wide or more."""


class Renderer(Protocol):
    """Pictures from a pose: `envs.sim.raster.Rasteriser`, or anything else that can."""

    def render(self, pose: Pose, camera: Camera) -> View: ...


class DistanceField(Protocol):
    """Geodesic distances and shortest paths to one goal."""

    def distance(self, point: Point) -> float: ...

    def path(self, point: Point) -> np.ndarray: ...


class Ground(Protocol):
    """Where an agent can stand and go: `envs.sim.navmesh.NavMesh`."""

    def is_navigable(self, point: Point) -> bool: ...

    def snap(self, point: Point, max_distance: float = 1.0) -> Point: ...

    def try_step(self, start: Point, end: Point, slide: bool) -> Point: ...

    def distance_field(self, goal: Point) -> DistanceField: ...


@dataclass(frozen=True)
class World:
    """One building, ready to be walked."""

    renderer: Renderer
    ground: Ground
    house: House | None = None
    """What a generated building knows of itself."""
    shape: AgentShape | None = None
    """The agent that ``ground`` is for."""

    @cached_property
    def roomy(self) -> Ground | None:
        """The part of the ground that is ``ROOMY`` metres from walls and furniture; None where it cannot be known."""
        from dualsight.envs.sim.navmesh import NavMesh

        if self.house is None or self.shape is None:
            return None
        scene = self.house.scene
        return NavMesh.build(scene.vertices, scene.triangles, replace(self.shape, radius=ROOMY))


@lru_cache(maxsize=8)
def open_house(scene_id: str, rules: Rules) -> World:
    """The generated house ``house/000123`` with the ground for an agent of ``rules.radius`` and ``rules.height``.

    The last eight are kept: environments that step side by side in one house share it.
    """
    from dualsight.envs.sim.house import load
    from dualsight.envs.sim.navmesh import AgentShape, NavMesh
    from dualsight.envs.sim.raster import Rasteriser

    kind, _, seed = scene_id.partition("/")
    if kind != "house" or not seed.isdigit():
        raise ValueError(f"a generated house is called 'house/' and its seed, like house/000123; got {scene_id!r}")
    house = load(int(seed))
    shape = AgentShape(radius=rules.radius, height=rules.height)
    ground = NavMesh.build(house.scene.vertices, house.scene.triangles, shape)
    return World(Rasteriser(house.scene), ground, house, shape)
