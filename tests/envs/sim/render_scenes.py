"""Small scenes for the renderer's tests: sheets, rooms, balls."""

from __future__ import annotations

import numpy as np

from dualsight.envs.sim.scene import NOTHING, Instance, Material, Scene


class Builder:
    """Collects surfaces into a ``Scene``."""

    def __init__(self, materials: list[Material]):
        self.materials, self.instances = materials, [NOTHING]
        self.parts: list[tuple] = []
        self.size = 0

    def add(self, category: str, material: int, vertices, uv, triangles) -> None:
        self.instances.append(Instance(category))
        count = len(triangles)
        self.parts.append(
            (vertices, uv, np.asarray(triangles) + self.size, [material] * count, [len(self.instances) - 1] * count)
        )
        self.size += len(vertices)

    def sheet(self, category: str, material: int, corner, right, up, steps: int = 1) -> None:
        """A parallelogram of steps x steps cells, uv (0, 0) at ``corner``, one texture repeat over it."""
        a, b = np.meshgrid(np.linspace(0, 1, steps + 1), np.linspace(0, 1, steps + 1), indexing="ij")
        vertices = np.asarray(corner, float) + a[..., None] * np.asarray(right) + b[..., None] * np.asarray(up)
        i = np.arange((steps + 1) ** 2).reshape(steps + 1, -1)
        self.add(category, material, vertices.reshape(-1, 3), np.stack([a, b], -1).reshape(-1, 2), _cells(i))

    def ball(self, category: str, material: int, centre, radius: float, steps: int = 12) -> None:
        theta, phi = np.meshgrid(
            np.linspace(0, np.pi, steps + 1), np.linspace(0, 2 * np.pi, 2 * steps + 1), indexing="ij"
        )
        unit = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), -np.sin(theta) * np.sin(phi)], -1)
        unit[:, -1] = unit[:, 0]
        vertices = np.asarray(centre) + radius * unit
        i = np.arange(theta.size).reshape(theta.shape)
        self.add(category, material, vertices.reshape(-1, 3), np.stack([phi, theta], -1).reshape(-1, 2), _cells(i))

    def room(self, material: int, low, high, steps: int = 8) -> None:
        """Six sheets that face inward."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        x, y, z = x1 - x0, y1 - y0, z1 - z0
        self.sheet("floor", material, (x0, y0, z1), (x, 0, 0), (0, 0, -z), steps)
        self.sheet("ceiling", material, (x0, y1, z0), (x, 0, 0), (0, 0, z), steps)
        self.sheet("north wall", material, (x0, y0, z0), (x, 0, 0), (0, y, 0), steps)
        self.sheet("south wall", material, (x1, y0, z1), (-x, 0, 0), (0, y, 0), steps)
        self.sheet("west wall", material, (x0, y0, z1), (0, 0, -z), (0, y, 0), steps)
        self.sheet("east wall", material, (x1, y0, z0), (0, 0, z), (0, y, 0), steps)

    def build(self) -> Scene:
        vertices, uv, triangles, material, instance = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        return Scene(
            vertices=vertices.astype(np.float32),
            uv=uv.astype(np.float32),
            light=np.ones_like(vertices, np.float32),
            triangles=triangles.astype(np.int32),
            material=material.astype(np.int32),
            instance=instance.astype(np.int32),
            materials=self.materials,
            instances=self.instances,
        )


def _cells(i):
    a, b, c, d = i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]
    return np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])


def checkers(size: int = 64, cell: int = 8) -> np.ndarray:
    squares = np.add(*(np.indices((size, size)) // cell)) % 2
    return np.repeat((40 + 180 * squares)[..., None], 3, axis=2).astype(np.uint8)


def furnished() -> Scene:
    """Two rooms joined by a doorway, with textured walls and balls of several sizes."""
    rng = np.random.default_rng(0)
    noise = rng.integers(60, 220, (64, 32, 3)).astype(np.uint8)
    b = Builder(
        [
            Material("checks", texture=checkers()),
            Material("noise", (0.9, 0.8, 0.7), noise),
            Material("red", (0.8, 0.2, 0.1)),
        ]
    )
    b.sheet("floor", 0, (0, 0, 4), (8, 0, 0), (0, 0, -4), 12)
    b.sheet("ceiling", 1, (0, 2.6, 0), (8, 0, 0), (0, 0, 4), 12)
    b.sheet("wall", 1, (0, 0, 0), (8, 0, 0), (0, 2.6, 0), 10)
    b.sheet("wall", 1, (8, 0, 4), (-8, 0, 0), (0, 2.6, 0), 1)
    b.sheet("wall", 0, (0, 0, 4), (0, 0, -4), (0, 2.6, 0), 6)
    b.sheet("wall", 0, (8, 0, 0), (0, 0, 4), (0, 2.6, 0), 6)
    for z0, z1, y0 in ((0, 1.5, 0), (2.5, 4, 0), (1.5, 2.5, 2.0)):
        b.sheet("partition", 2, (4, y0, z0), (0, 0, z1 - z0), (0, 2.6 - y0, 0), 3)
    for k in range(24):
        radius = rng.uniform(0.08, 0.5)
        b.ball("ball", k % 3, (rng.uniform(0.5, 7.5), radius, rng.uniform(0.5, 3.5)), radius, 6 + k % 8)
    return b.build()
