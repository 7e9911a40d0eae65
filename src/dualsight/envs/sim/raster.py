"""The renderer that needs nothing but a CPU: RGB, metric depth and instance ids of a scene in one pass.

The scene is packed once (``packing``); a frame is a visibility pass (``visibility``) and a shading pass (``shading``),
both single-threaded numba kernels that release the GIL. They use no fast-math, so the same scene, pose and camera give
the same bytes in every process.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim.packing import pack
from dualsight.envs.sim.scene import Scene
from dualsight.envs.sim.shading import shade
from dualsight.envs.sim.visibility import Buffers, buffers, rasterise
from dualsight.types import Camera, Point, Pose, View


class Rasteriser:
    """Draws one scene. Each thread needs a rasteriser of its own: the buffers are reused from frame to frame.

    Texture coordinates follow OBJ and OpenGL: (0, 0) is the lower left corner of the image, v grows upward.

    Raises:
        ValueError: the scene holds vertices that are not finite, indices out of range, or no triangles.
    """

    def __init__(self, scene: Scene):
        self._packed = pack(scene)
        self._buffers: dict[tuple[int, int], Buffers] = {}

    def render(self, pose: Pose, camera: Camera) -> View:
        """What ``camera`` on an agent at ``pose`` sees. The arrays belong to the caller."""
        size = camera.height, camera.width
        if size not in self._buffers:
            self._buffers[size] = buffers(camera.width, camera.height)
        out = self._buffers[size]
        eye = eye_of(pose, camera)
        projection = intrinsics(camera) @ world_to_camera(pose, camera)
        rgb, depth, instances = np.empty((*size, 3), np.uint8), np.empty(size, np.float32), np.empty(size, np.int32)
        rasterise(self._packed, eye, projection, out)
        shade(self._packed, projection, out.triangle, rgb, depth, instances)
        return View(rgb, depth, instances)


def eye_of(pose: Pose, camera: Camera) -> Point:
    """Where the camera is: ``elevation`` above the agent's feet, (3,) metres."""
    return np.add(pose.position, (0.0, camera.elevation, 0.0))


def world_to_camera(pose: Pose, camera: Camera) -> NDArray[np.float64]:
    """(3, 4) matrix from world points (x, y, z, 1) to metres right of, below and before the camera."""
    sin_h, cos_h = math.sin(pose.heading), math.cos(pose.heading)
    sin_p, cos_p = math.sin(camera.pitch), math.cos(camera.pitch)
    axes = np.array(
        [
            [cos_h, 0.0, -sin_h],  # right
            [-sin_h * sin_p, -cos_p, -cos_h * sin_p],  # down
            [-sin_h * cos_p, sin_p, -cos_h * cos_p],  # forward
        ]
    )
    return np.concatenate([axes, -axes @ eye_of(pose, camera)[:, None]], axis=1)


def intrinsics(camera: Camera) -> NDArray[np.float64]:
    """(3, 3) matrix from (right, down, forward) metres to ``(x z, y z, z)``; pixel centres lie at integer x and y."""
    return np.array(
        [
            [camera.focal, 0.0, (camera.width - 1) / 2],
            [0.0, camera.focal, (camera.height - 1) / 2],
            [0.0, 0.0, 1.0],
        ]
    )
