"""An empty rectangular room whose geometry is arithmetic: distances are Euclidean, walls are the lines of a rectangle.

It stands in for a building where a test, or an explanation, wants numbers that can be worked by hand, and it needs
neither mesh nor renderer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualsight.envs.world import World
from dualsight.types import Camera, Point, Pose, View


@dataclass(frozen=True)
class StraightLines:
    """Distances and paths to ``goal`` where nothing is in the way."""

    goal: Point

    def distance(self, point: Point) -> float:
        return float(np.linalg.norm(np.asarray(point, float) - self.goal))

    def path(self, point: Point) -> np.ndarray:
        return np.stack([np.asarray(point, float), self.goal])


@dataclass(frozen=True)
class BoxGround:
    """The floor ``|x| <= half``, ``|z| <= half`` at height 0."""

    half: float = 5.0

    def is_navigable(self, point: Point) -> bool:
        x, y, z = point
        return bool(max(abs(x), abs(z)) <= self.half and abs(y) < 0.5)

    def snap(self, point: Point, max_distance: float = 1.0) -> Point:
        x, _, z = np.clip(point, -self.half, self.half)
        return np.array([x, 0.0, z])

    def try_step(self, start: Point, end: Point, slide: bool) -> Point:
        if slide:
            return self.snap(end)
        move = end - start
        with np.errstate(divide="ignore", invalid="ignore"):
            until_wall = np.where(move == 0, np.inf, (np.sign(move) * self.half - start) / move)
        return start + min(1.0, until_wall[0], until_wall[2]) * move

    def distance_field(self, goal: Point) -> StraightLines:
        goal = np.asarray(goal, float)
        if not self.is_navigable(goal):
            raise ValueError(f"{goal.tolist()} is outside the room of half width {self.half}")
        return StraightLines(goal)


class FlatPictures:
    """Pictures of one colour that encodes the pose: red and green the place, blue the heading."""

    def render(self, pose: Pose, camera: Camera) -> View:
        x, _, z = pose.position
        colour = (128 + 10 * x, 128 + 10 * z, 128 + 40 * pose.heading)
        rgb = np.broadcast_to(np.array(colour).round() % 256, (camera.height, camera.width, 3)).astype(np.uint8)
        shape = (camera.height, camera.width)
        return View(rgb, np.ones(shape, np.float32), np.zeros(shape, np.int32))


def open_box(scene_id: str = "box", rules: object = None) -> World:
    """A box room of 10 x 10 m, whatever the scene is called."""
    return World(FlatPictures(), BoxGround())
