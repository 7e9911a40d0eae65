"""Where an agent can walk in a building, and how far it is from here to there.

    mesh = NavMesh.build(scene.vertices, scene.triangles, AgentShape(radius=0.1))
    start = mesh.random_point(rng)
    field = mesh.distance_field(goal)
    field.distance(start), field.path(start)
    position = mesh.try_step(start, start + 0.25 * pose.forward, slide=True)

Questions and answers are those of Habitat's ``PathFinder``. Points are (3,) metres, Y up, on the floor. What a mesh
answers never changes, so threads may share it.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim import floor as floors
from dualsight.envs.sim.geodesic import DistanceField, spread
from dualsight.envs.sim.heightfield import find_floors
from dualsight.envs.sim.topdown import TopDownMap
from dualsight.envs.sim.walk import MARGIN, step
from dualsight.types import Point

MAX_Y_DELTA = 0.5
"""A point stands on a floor that is at most this much (m) above or below it, as in Habitat."""

KEPT_FIELDS = 32
"""Distance fields that a mesh keeps, of about 1 MB each."""


class OffNavMeshError(ValueError):
    """A point is not on the navmesh, or no part of the navmesh is near it."""


@dataclass(frozen=True)
class AgentShape:
    """The body that has to fit, with the defaults of R2R-CE; metres."""

    radius: float = 0.1
    height: float = 1.5
    max_climb: float = 0.2
    """The highest step it takes."""
    max_slope: float = 45.0
    """Degrees."""
    cell: float = 0.05
    """Width of the squares that walkable ground is made of."""
    min_area: float = 1.0
    """Islands of the ground smaller than this (m2) are left out."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and (value > 0 or (name in ("radius", "min_area") and value == 0))):
                raise ValueError(f"AgentShape.{name} must be a positive number, got {value}")
        if self.max_slope >= 90:
            raise ValueError(f"AgentShape.max_slope must be below 90 degrees, got {self.max_slope}")


def collided(start, wanted, reached) -> bool:
    """Did a step from ``start`` to ``wanted`` that ended at ``reached`` hit something? Habitat's rule:
    ``|reached - start|^2 + 1e-5 < |wanted - start|^2``."""
    start = np.asarray(start, float)
    return bool(np.sum((reached - start) ** 2) + 1e-5 < np.sum((wanted - start) ** 2))


@dataclass(frozen=True)
class NavMesh:
    """The ground on which the middle of an agent may be: square cells on any number of storeys."""

    shape: AgentShape
    origin: NDArray[np.float64]
    """(2,) world x and z of the corner of the grid."""
    size: tuple[int, int]
    """Columns of the grid along X and rows along Z."""
    floor: floors.Floor
    _fields: dict[bytes, DistanceField] = field(default_factory=dict, repr=False, compare=False)
    """The last distance fields: an episode's start, its environment and its expert ask for the same one."""

    @classmethod
    def build(cls, vertices, triangles, shape: AgentShape | None = None) -> NavMesh:
        """Find the walkable ground of a scene.

        Args:
            vertices: (V, 3) metres, Y up.
            triangles: (T, 3) vertex indices; floors are counter-clockwise seen from above.
            shape: of the agent.

        Raises:
            ValueError: the arrays are no triangles, or there is no place in them for that agent.
        """
        shape = shape or AgentShape()
        vertices, triangles = _check_mesh(vertices, triangles)
        corner = np.floor(vertices.min(axis=0)[[0, 2]] / shape.cell) * shape.cell
        local = vertices - [corner[0], 0.0, corner[1]]
        width, depth = np.floor(local.max(axis=0)[[0, 2]] / shape.cell).astype(int) + 1
        size = int(width), int(depth)
        found = find_floors(local, triangles, size, shape.cell, shape.height, shape.max_climb, shape.max_slope)
        floor = floors.shrink(*found, size, shape.cell, shape.radius, shape.height, shape.max_climb, shape.min_area)
        if len(floor.column) == 0:
            raise ValueError(
                f"no walkable floor of {shape.min_area} m2 for {shape} in {len(triangles)} triangles of"
                f" {np.round(np.ptp(vertices, axis=0), 2).tolist()} m: check that Y is up, that units are metres and"
                " that floors face up (counter-clockwise seen from above)"
            )
        return cls(shape, corner, size, floor)

    # ---- places

    @property
    def island_areas(self) -> NDArray[np.float64]:
        """(K,) square metres of each island, the largest first."""
        return np.bincount(self.floor.island).astype(float) * self.shape.cell**2

    @property
    def bounds(self) -> tuple[Point, Point]:
        """The lowest and the highest corner of the walkable ground, each (3,)."""
        low, high = self.floor.column.min(axis=0), self.floor.column.max(axis=0) + 1
        (x0, z0), (x1, z1) = self.origin + low * self.shape.cell, self.origin + high * self.shape.cell
        return np.array([x0, self.floor.height.min(), z0]), np.array([x1, self.floor.height.max(), z1])

    def is_navigable(self, point, max_y_delta: float = MAX_Y_DELTA) -> bool:
        """May the middle of an agent be here, on a floor at most ``max_y_delta`` above or below ``point``?"""
        return self._find_cell(_check_point(point), max_y_delta) >= 0

    def island(self, point) -> int:
        """The number of the island that ``point`` lies on: points with the same number reach each other."""
        return int(self.floor.island[self.cell_at(point)])

    def snap(self, point, max_distance: float = 1.0) -> Point:
        """The place on the navmesh nearest to ``point``.

        Raises:
            OffNavMeshError: there is none within ``max_distance`` metres.
        """
        point = _check_point(point)
        cell = self._find_cell(point, MAX_Y_DELTA)
        if cell >= 0:
            return self.to_world(cell, self.to_grid(point))
        nearest, distance = self._nearest(point)
        if distance > max_distance:
            raise OffNavMeshError(
                f"nothing walkable within {max_distance} m of {_text(point)}: the nearest place is {_text(nearest)},"
                f" {distance:.2f} m away"
            )
        return nearest

    def random_point(self, rng: np.random.Generator, island: int = 0, y: float | None = None) -> Point:
        """A place drawn evenly from an island (0: the largest), on the floor at height ``y`` (+- 0.5 m) if given."""
        candidates = self.floor.island == island
        if y is not None:
            candidates &= np.abs(self.floor.height - y) <= MAX_Y_DELTA
        cells = np.flatnonzero(candidates)
        if len(cells) == 0:
            level = "" if y is None else f" with a floor at y = {y}"
            raise ValueError(f"no island {island}{level}; there are {len(self.island_areas)} islands")
        cell = cells[rng.integers(len(cells))]
        return self.to_world(cell, self.floor.column[cell] + rng.uniform(MARGIN, 1 - MARGIN, 2))

    def obstacle_distance(self, point) -> float:
        """Metres from ``point`` to the nearest place around it where the middle of an agent may not be."""
        around = self.floor.ground.around[self.cell_at(point)]
        walls = self.floor.wall[around[around >= 0]]  # (1..9, 2)
        here = self.to_grid(point)
        gap = np.maximum(np.maximum(walls - here, here - walls - 1), 0)
        return float(np.hypot(*gap.T).min() * self.shape.cell)

    # ---- walking

    def try_step(self, start, end, slide: bool = True) -> Point:
        """Where an agent arrives that walks straight from ``start`` to ``end``; its height follows the floor.

        At an obstacle it stops, or slides along to the nearest place to ``end`` that it can reach.

        Raises:
            OffNavMeshError: ``start`` is not on the navmesh.
        """
        end = _check_point(end)
        cell = self.cell_at(start)
        reached, x, z = step(self.floor, cell, *self.to_grid(start), *self.to_grid(end), slide)
        return self.to_world(reached, (x, z))

    def distance_field(self, goal) -> DistanceField:
        """Walking distances from everywhere to ``goal`` (3,), or to the nearest of several goals (G, 3).

        Raises:
            OffNavMeshError: a goal is not on the navmesh.
        """
        goals = np.atleast_2d(np.asarray(goal, float))
        if goals.shape[0] == 0:
            raise ValueError("a distance field needs at least one goal")
        key = goals.tobytes()
        found = self._fields.get(key)
        if found is None:
            cells = np.array([self.cell_at(point) for point in goals], np.int32)
            places = np.stack([self.to_grid(point) for point in goals])
            found = DistanceField(self, cells, places, *spread(self.floor, cells, places))
            self._fields[key] = found
            if len(self._fields) > KEPT_FIELDS:
                self._fields.pop(next(iter(self._fields)), None)
        return found

    def geodesic(self, start, goal) -> float:
        """Walking distance in metres, inf if there is no way. For many starts keep the goal's ``distance_field``."""
        return self.distance_field(goal).distance(start)

    def topdown(self, y: float, metres_per_pixel: float = 0.05) -> TopDownMap:
        """A map of the ground on the storey with its floor at height ``y``, a margin of half a metre around it.

        Islands that lie a step or more off that height, the tops of beds and sofas, are not shown.
        """
        off = np.abs(self.floor.height - y)
        level = (off <= MAX_Y_DELTA) & np.isin(self.floor.island, self.floor.island[off <= self.shape.max_climb])
        (x0, _, z0), (x1, _, z1) = self.bounds
        origin = np.array([x0, z0]) - 0.5
        width, height = np.ceil((np.array([x1, z1]) + 0.5 - origin) / metres_per_pixel).astype(int)
        walkable = np.zeros((self.size[1] + 1, self.size[0] + 1), bool)  # the last row and column: outside
        walkable[self.floor.column[level, 1], self.floor.column[level, 0]] = True
        i = np.floor((origin[0] + (np.arange(width) + 0.5) * metres_per_pixel - self.origin[0]) / self.shape.cell)
        j = np.floor((origin[1] + (np.arange(height) + 0.5) * metres_per_pixel - self.origin[1]) / self.shape.cell)
        i = np.where((i >= 0) & (i < self.size[0]), i, self.size[0]).astype(int)
        j = np.where((j >= 0) & (j < self.size[1]), j, self.size[1]).astype(int)
        return TopDownMap(walkable[np.ix_(j, i)], origin, metres_per_pixel)

    # ---- files

    def save(self, path) -> None:
        """Write the mesh to an ``.npz`` file."""
        path = Path(path)
        temporary = path.with_name(path.name + ".part")
        with open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                shape=np.array([getattr(self.shape, field.name) for field in fields(AgentShape)]),
                origin=self.origin,
                size=np.array(self.size),
                column=self.floor.column,
                height=self.floor.height,
                link=self.floor.ground.around[:, 1:5],
            )
        os.replace(temporary, path)

    @classmethod
    def load(cls, path) -> NavMesh:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is damaged or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                shape = AgentShape(*file["shape"].tolist())
                size = int(file["size"][0]), int(file["size"][1])
                floor = floors.assemble(file["column"], file["height"], file["link"], size, shape.cell)
                return cls(shape, file["origin"], size, floor)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a navmesh file written by NavMesh.save: {error}") from error

    # ---- between the world and the grid

    def cell_at(self, point) -> int:
        """The cell under (or at most ``MAX_Y_DELTA`` above) ``point``.

        Raises:
            OffNavMeshError: there is none; names the nearest place.
        """
        point = _check_point(point)
        cell = self._find_cell(point, MAX_Y_DELTA)
        if cell < 0:
            nearest, distance = self._nearest(point)
            raise OffNavMeshError(
                f"{_text(point)} is not on the navmesh: the nearest place is {_text(nearest)}, {distance:.2f} m away"
                " (snap() goes there)"
            )
        return cell

    def to_grid(self, point) -> NDArray[np.float64]:
        """(2,) x and z in cells from the corner of the grid."""
        return (np.asarray(point, float)[[0, 2]] - self.origin) / self.shape.cell

    def to_world(self, cell, place) -> Point:
        """The point (3,) on the floor of ``cell`` at ``place`` (2,), in cells."""
        x, z = self.origin + np.asarray(place) * self.shape.cell
        return np.array([x, self.floor.height[cell], z])

    def _find_cell(self, point, max_y_delta) -> int:
        """The cell in the column of ``point`` whose floor is nearest in height, -1 if none is near enough."""
        i, j = np.floor(self.to_grid(point)).astype(int)
        if not (0 <= i < self.size[0] and 0 <= j < self.size[1]):
            return -1
        begin, end = self.floor.ground.first[j * self.size[0] + i : j * self.size[0] + i + 2]
        if begin == end:
            return -1
        off = np.abs(self.floor.height[begin:end] - point[1])
        return int(begin + off.argmin()) if off.min() <= max_y_delta else -1

    def _nearest(self, point) -> tuple[Point, float]:
        """The place on the mesh nearest to any point, and how far it is."""
        here = self.to_grid(point)
        places = np.clip(here, self.floor.column + MARGIN, self.floor.column + 1 - MARGIN)  # (N, 2)
        offsets = np.column_stack([(places - here) * self.shape.cell, self.floor.height - point[1]])
        cell = int((offsets**2).sum(axis=1).argmin())
        nearest = self.to_world(cell, places[cell])
        return nearest, float(np.linalg.norm(nearest - point))


def _check_point(point) -> Point:
    point = np.asarray(point, float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ValueError(f"a point is three finite numbers (x, y, z) in metres, got {point.tolist()}")
    return point


def _check_mesh(vertices, triangles):
    vertices, triangles = np.asarray(vertices, float), np.asarray(triangles)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"expected vertices (V, 3) and triangles (T, 3), got {vertices.shape} and {triangles.shape}")
    if len(vertices) == 0 or len(triangles) == 0:
        raise ValueError("a navmesh needs at least one triangle")
    if not np.isfinite(vertices).all():
        raise ValueError(f"{(~np.isfinite(vertices)).any(axis=1).sum()} of {len(vertices)} vertices are not finite")
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise ValueError(
            f"triangle indices run from {triangles.min()} to {triangles.max()}, vertices to {len(vertices) - 1}"
        )
    return vertices, triangles


def _text(point) -> str:
    return "({:.2f}, {:.2f}, {:.2f})".format(*point)
