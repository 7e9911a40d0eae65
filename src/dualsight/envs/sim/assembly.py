"""Putting a scene together: planes with holes, boxes and ready meshes, each with its material and instance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualsight.envs.sim.scene import NOTHING, Instance, Material, Scene

Paint = tuple[int, float]
"""A material of an assembly and the metres in which its texture repeats."""
Hole = tuple[float, float, float, float]
"""(a0, b0, a1, b1) in the coordinates of a plane, metres."""
Span = tuple[float, float]
"""From, to; metres."""

FACES = np.array(
    [
        # the corners of a unit box, face by face, counter-clockwise seen from outside
        [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0]],
        [[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],
        [[0, 1, 1], [1, 1, 1], [1, 1, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]],
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],
    ],
    float,
)
IN_PLANE = np.repeat([[2, 1], [2, 1], [0, 2], [0, 2], [0, 1], [0, 1]], 4, axis=0)
"""For each of the 24 corners, the axes along which its face extends."""
BOX_TRIANGLES = (np.arange(6)[:, None] * 4 + [0, 1, 2, 0, 2, 3]).reshape(12, 3)

STEP = 0.5
"""Metres between vertices on walls and floors, close enough for soft light to show."""


class Assembly:
    """A scene in the making. ``scene()`` gives what has been added so far, with light 1 everywhere."""

    def __init__(self) -> None:
        self.materials: list[Material] = []
        self.instances: list[Instance] = [NOTHING]
        self._numbers: dict[tuple, int] = {}
        self._parts: list[tuple[NDArray, NDArray, NDArray, NDArray, int]] = []
        self._vertices = 0

    def material(self, material: Material) -> int:
        """The number of a material; equal names and colours share one."""
        key = (material.name, material.color, id(material.texture))
        if key not in self._numbers:
            self._numbers[key] = len(self.materials)
            self.materials.append(material)
        return self._numbers[key]

    def instance(self, category: str, color: str = "", room: int = -1, name: str = "") -> int:
        """The number of a new instance."""
        self.instances.append(Instance(category, color, room, name))
        return len(self.instances) - 1

    def mesh(self, vertices, uv, triangles, materials: ArrayLike, instance: int) -> None:
        """Any triangles: ``vertices`` (V, 3), ``uv`` (V, 2), ``triangles`` (T, 3), one material each or one for all."""
        material = np.broadcast_to(np.asarray(materials, np.int32), (len(triangles),))
        self._parts.append((vertices, uv, np.asarray(triangles) + self._vertices, material, instance))
        self._vertices += len(vertices)

    def plane(
        self,
        a: ArrayLike,
        b: ArrayLike,
        place: Callable[[NDArray, NDArray], Sequence[ArrayLike]],
        flip: bool,
        paint: Paint,
        instance: int,
        holes: Iterable[Hole] = (),
    ) -> None:
        """A flat grid over the lines ``a`` and ``b`` (metres, ascending), without the cells inside ``holes``.

        ``place(a, b)`` gives x, y, z. The front is where a x b points, or the other side with ``flip``.
        ``paint`` is a material and the metres that its texture repeats in.
        """
        a, b = np.asarray(a, float), np.asarray(b, float)
        grid_a, grid_b = np.meshgrid(a, b, indexing="ij")
        vertices = np.empty((*grid_a.shape, 3))
        vertices[..., 0], vertices[..., 1], vertices[..., 2] = place(grid_a, grid_b)
        middle_a, middle_b = np.meshgrid((a[1:] + a[:-1]) / 2, (b[1:] + b[:-1]) / 2, indexing="ij")
        solid = np.ones(middle_a.shape, bool)
        for a0, b0, a1, b1 in holes:
            solid &= ~((middle_a > a0) & (middle_a < a1) & (middle_b > b0) & (middle_b < b1))
        number = np.arange(grid_a.size).reshape(grid_a.shape)
        corners = np.stack([number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]], -1)[solid]  # (Q, 4)
        if flip:
            corners = corners[:, ::-1]
        triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
        used, index = np.unique(triangles, return_inverse=True)
        uv = np.stack([grid_a.ravel(), grid_b.ravel()], -1)[used] / paint[1]
        self.mesh(vertices.reshape(-1, 3)[used], uv, index.reshape(-1, 3), [paint[0]], instance)

    def box(self, low: ArrayLike, high: ArrayLike, paint: Paint, instance: int) -> None:
        """A box with its six faces outwards, from corner to corner."""
        low, high = np.asarray(low, float), np.asarray(high, float)
        corners = (low + FACES * (high - low)).reshape(-1, 3)
        self.mesh(corners, corners[np.arange(24)[:, None], IN_PLANE] / paint[1], BOX_TRIANGLES, [paint[0]], instance)

    def level(
        self, x: ArrayLike, z: ArrayLike, y: float, up: bool, paint: Paint, instance: int, holes: Iterable[Hole] = ()
    ):
        """A horizontal plane at height ``y``, its front upwards or downwards."""
        self.plane(x, z, lambda a, b: (a, y, b), up, paint, instance, holes)

    def upright(
        self,
        axis: str,
        at: float,
        front: int,
        along: ArrayLike,
        up: ArrayLike,
        paint: Paint,
        instance: int,
        holes: Iterable[Hole] = (),
    ) -> None:
        """A plane across ``axis`` ("x" or "z") that faces the sense ``front`` of it: a wall."""
        place = (lambda a, b: (at, b, a)) if axis == "x" else (lambda a, b: (a, b, at))
        self.plane(along, up, place, (front > 0) == (axis == "x"), paint, instance, holes)

    def block(self, axis: str, across: Span, along: Span, up: Span, paint: Paint, instance: int) -> None:
        """A box given by its extent along ``axis``, along the wall across it, and upwards."""
        (p, q), (a, b), (low, high) = sorted(across), sorted(along), up
        corners = ((p, low, a), (q, high, b)) if axis == "x" else ((a, low, p), (b, high, q))
        self.box(*corners, paint, instance)

    def scene(self) -> Scene:
        """Everything added so far."""
        vertices, uv, triangles, material, instance = zip(*self._parts, strict=True)
        counts = [len(part) for part in triangles]
        return Scene(
            vertices=np.concatenate(vertices).astype(np.float32),
            uv=np.concatenate(uv).astype(np.float32),
            light=np.ones((self._vertices, 3), np.float32),
            triangles=np.concatenate(triangles).astype(np.int32),
            material=np.concatenate(material).astype(np.int32),
            instance=np.repeat(np.array(instance, np.int32), counts),
            materials=list(self.materials),
            instances=list(self.instances),
        )


def lines(low: float, high: float, cuts: Iterable[float] = (), step: float = STEP) -> NDArray[np.float64]:
    """Grid lines from ``low`` to ``high``, through every cut between them and at most ``step`` apart."""
    fixed = sorted({low, high, *(cut for cut in cuts if low < cut < high)})
    pieces = [np.linspace(a, b, max(1, math.ceil((b - a) / step - 1e-9)) + 1)[:-1] for a, b in pairwise(fixed)]
    return np.concatenate([*pieces, [high]])
