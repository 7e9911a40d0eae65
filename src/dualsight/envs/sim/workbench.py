"""Where a piece of furniture is put together from boxes, turned profiles and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim.piece import PALETTES, Model, Placement
from dualsight.envs.sim.scene import Material

Place = tuple[float, float, float]
TOP_ONLY = "front back left right bottom"
"""What ``Bench.box`` hides when only the upper face is wanted."""
METAL, DARK, WHITE, GLASS = (0.68, 0.69, 0.70), (0.10, 0.10, 0.11), (0.94, 0.94, 0.93), (0.16, 0.20, 0.24)
"""Colours of steel, of what is nearly black, of enamel, of dark glass."""

FACES = np.array(
    [
        # corners of a unit box seen from outside, counter-clockwise from the lower left
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],  # front, +Z
        [[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]],  # back
        [[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]],  # right, +X
        [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0]],  # left
        [[0, 1, 1], [1, 1, 1], [1, 1, 0], [0, 1, 0]],  # top, +Y
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],  # bottom
    ],
    float,
)


class Bench:
    """A piece in the making: add parts, then ``finish`` it.

    Parts name their material; texture coordinates follow from the sizes of the parts, at ``repeat`` metres a repeat.
    """

    def __init__(self) -> None:
        self.vertices: list[NDArray] = []
        self.uv: list[NDArray] = []
        self.normals: list[NDArray] = []
        self.triangles: list[NDArray] = []
        self.material: list[NDArray] = []
        self.materials: list[Material] = []
        self.tints: set[int] = set()

    def paint(self, color: Sequence[float], name: str = "paint", tint: bool = False) -> int:
        """A plain material; ``tint`` lets the piece come in other colours. Returns its number."""
        red, green, blue = color
        return self.use(Material(name, (red, green, blue)), tint)

    def use(self, material: Material, tint: bool = False) -> int:
        """Any material. Returns its number."""
        self.materials.append(material)
        if tint:
            self.tints.add(len(self.materials) - 1)
        return len(self.materials) - 1

    def quad(self, corners: NDArray, material: int, uv: NDArray) -> None:
        """A flat quadrilateral: ``corners`` (4, 3), counter-clockwise seen from its front; ``uv`` (4, 2)."""
        normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
        normal /= np.linalg.norm(normal)
        self._add(corners, uv, np.tile(normal, (4, 1)), np.array([[0, 1, 2], [0, 2, 3]]), material)

    def box(
        self, low: Sequence[float], high: Sequence[float], material: int, repeat: float = 1.0, hidden: str = "bottom"
    ) -> None:
        """An axis-aligned box from ``low`` to ``high``, without the faces named in ``hidden``."""
        low_, extent = np.array(low, float), np.subtract(high, low)
        for name, face in zip(("front", "back", "right", "left", "top", "bottom"), FACES, strict=True):
            if name not in hidden.split():
                corners = low_ + face * extent
                size = np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[3] - corners[0])
                uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size / repeat
                self.quad(corners, material, uv)

    def picture(self, low: Sequence[float], high: Sequence[float], material: int) -> None:
        """A rectangle in a plane of constant z that faces +Z and shows the texture once."""
        x0, y0, z = low
        x1, y1, _ = high
        corners = np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]], float)
        self.quad(corners, material, np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float))

    def open_box(
        self, low: Sequence[float], high: Sequence[float], wall: float, material: int, repeat: float = 1.0
    ) -> None:
        """A box without a lid, with walls and a floor of thickness ``wall``."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        self.box((x0, y0, z0), (x0 + wall, y1, z1), material, repeat)
        self.box((x1 - wall, y0, z0), (x1, y1, z1), material, repeat)
        self.box((x0 + wall, y0, z0), (x1 - wall, y1, z0 + wall), material, repeat, "left right bottom")
        self.box((x0 + wall, y0, z1 - wall), (x1 - wall, y1, z1), material, repeat, "left right bottom")
        self.box((x0 + wall, y0, z0 + wall), (x1 - wall, y0 + wall, z1 - wall), material, repeat, TOP_ONLY)

    def legs(self, low: Sequence[float], high: Sequence[float], thickness: float, material: int) -> None:
        """Four square legs in the corners of a box."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        for x in (x0, x1 - thickness):
            for z in (z0, z1 - thickness):
                self.box((x, y0, z), (x + thickness, y1, z + thickness), material, hidden="top bottom")

    def disc(self, centre: Place, radius: float, material: int, sides: int = 16) -> None:
        """A flat disc that faces +Z."""
        angle = 2 * np.pi * np.arange(sides) / sides
        circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(sides)], axis=1)
        k = np.arange(1, sides - 1)
        self._add(
            np.array(centre) + radius * circle,
            circle[:, :2] / 2 + 0.5,
            np.tile([0.0, 0.0, 1.0], (sides, 1)),
            np.stack([np.zeros_like(k), k, k + 1], axis=1),
            material,
        )

    def turned(
        self, profile: Sequence[tuple[float, float]], material: int, at=(0.0, 0.0, 0.0), sides: int = 12
    ) -> None:
        """A body of revolution about a vertical axis through ``at``: ``profile`` lists (radius, height) upwards."""
        angle = 2 * np.pi * np.arange(sides + 1) / sides
        around = np.stack([np.sin(angle), np.zeros(sides + 1), np.cos(angle)], axis=1)
        length = 0.0
        for (r0, y0), (r1, y1) in pairwise(profile):
            step = float(np.hypot(r1 - r0, y1 - y0))
            ring = np.concatenate([around * r0 + [0, y0, 0], around * r1 + [0, y1, 0]]) + np.array(at)
            normal = (around * (y1 - y0) + np.array([0, r0 - r1, 0])) / step
            u = angle * max(r0, r1)
            k = np.arange(sides)
            lower = np.stack([k, k + 1, k + sides + 2], axis=1)
            upper = np.stack([k, k + sides + 2, k + sides + 1], axis=1)
            faces = np.concatenate([*([lower] if r0 > 0 else []), *([upper] if r1 > 0 else [])])
            uv = np.concatenate([np.stack([u, u * 0 + length + d], axis=1) for d in (0, step)])
            self._add(ring, uv, np.concatenate([normal, normal]), faces, material)
            length += step

    def _add(self, vertices: NDArray, uv: NDArray, normals: NDArray, triangles: NDArray, material: int) -> None:
        self.triangles.append(triangles + sum(len(part) for part in self.vertices))
        self.vertices.append(vertices)
        self.uv.append(uv)
        self.normals.append(normals)
        self.material.append(np.full(len(triangles), material))

    def finish(
        self,
        name: str,
        category: str,
        rooms: str,
        placement: Placement,
        color: str = "",
        palette: str = "",
        elevation: float = 0.0,
    ) -> Model:
        """The piece, moved so that its footprint is centred and its lowest point is at y = 0."""
        vertices = np.concatenate(self.vertices)
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        vertices = vertices - [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2]
        width, height, depth = (float(extent) for extent in high - low)
        # The share of the sky that a convex body alone on a floor leaves to a surface with this normal.
        occlusion = (1 + np.concatenate(self.normals)[:, 1]) / 2
        room_types = tuple(word for word in rooms.split(", ") if word)
        return Model(
            name, category, room_types, placement, width, height, depth, elevation,
            vertices.astype(np.float32), np.concatenate(self.uv).astype(np.float32),
            np.concatenate(self.triangles).astype(np.int32), np.concatenate(self.material).astype(np.int32),
            self.materials, occlusion.astype(np.float32), tuple(sorted(self.tints)), color, PALETTES[palette],
        )  # fmt: skip
