"""A world: what an environment needs to know of a building, pictures of it and the ground to walk on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from dualsight.envs.protocols import Protocol as Rules
from dualsight.envs.sim.building import House
from dualsight.types import Camera, Point, Pose, View

if TYPE_CHECKING:
    from dualsight.envs.sim.navmesh import AgentShape
    from dualsight.envs.sim.scene import Scene

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
    scene: Scene | None = None
    """Its triangles."""
    shape: AgentShape | None = None
    """The agent that ``ground`` is for."""

    @cached_property
    def roomy(self) -> Ground | None:
        """The part of the ground that is ``ROOMY`` metres from walls and furniture; None where it cannot be known."""
        from dualsight.envs.sim.navmesh import NavMesh

        if self.scene is None or self.shape is None:
            return None
        try:
            return NavMesh.build(self.scene.vertices, self.scene.triangles, replace(self.shape, radius=ROOMY))
        except ValueError:
            return None  # so narrow a building that nobody keeps that distance


@dataclass(frozen=True)
class Worlds:
    """Opens worlds by the ``scene_id`` of an episode, for an agent of ``rules.radius`` and ``rules.height``.

    ``house/000123`` is a generated house; anything that ends in ``.glb`` is a file under ``scenes``. The last eight are
    kept: environments that step side by side in one building share it.
    """

    scenes: Path | None = None
    """Where GLB files are: the folder that holds ``mp3d`` where an episode says ``mp3d/<scan>/<scan>.glb``."""
    up: Literal["y", "z"] = "y"
    """The vertical axis of these files; scans of Matterport3D and HM3D have z."""
    renderer: Literal["numba", "gl"] = "numba"
    """Pictures by the CPU, or through OpenGL (extra: gl)."""

    def __call__(self, scene_id: str, rules: Rules) -> World:
        """Raises:
        ValueError: there is no such building, or nobody can stand in it; the message says what was expected.
        """
        return _open(self, scene_id, rules)

    def scene(self, scene_id: str) -> tuple[Scene, House | None]:
        """The triangles of a building, and what it knows of itself."""
        from dualsight.envs.sim.glb import load_glb
        from dualsight.envs.sim.house import load

        kind, _, seed = scene_id.partition("/")
        if kind == "house" and seed.isdigit():
            house = load(int(seed))
            return house.scene, house
        if not scene_id.endswith(".glb"):
            raise ValueError(
                f"a generated house is called 'house/' and its seed, like house/000123, and a scan by its file, which "
                f"ends in .glb; got {scene_id!r}"
            )
        if self.scenes is None:
            raise ValueError(f"the episode is set in {scene_id}: say where such files are (--scenes FOLDER)")
        path = self.scenes / scene_id
        if not path.resolve().is_relative_to(self.scenes.resolve()):
            raise ValueError(f"the episode's scene {scene_id!r} leads out of the folder {self.scenes}")
        if not path.exists():
            raise ValueError(f"there is no {path}: --scenes is the folder from which {scene_id} can be found")
        return load_glb(path, self.up), None


@lru_cache(maxsize=8)
def _open(worlds: Worlds, scene_id: str, rules: Rules) -> World:
    from dualsight.envs.sim.navmesh import AgentShape, NavMesh
    from dualsight.envs.sim.renderer import make_renderer

    scene, house = worlds.scene(scene_id)
    shape = AgentShape(radius=rules.radius, height=rules.height)
    ground = NavMesh.build(scene.vertices, scene.triangles, shape)
    return World(make_renderer(scene, worlds.renderer), ground, house, scene, shape)


open_house = Worlds()
"""Generated houses, rendered by the CPU."""
