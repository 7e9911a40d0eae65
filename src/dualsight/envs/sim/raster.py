"""The renderer that needs nothing but a CPU: RGB, metric depth and instance ids of a scene in one pass.

The scene is packed once (``packing``); a frame is a visibility pass (``visibility``) and a shading pass (``shading``),
both single-threaded numba kernels that release the GIL. They use no fast-math, so the same scene, pose and camera give
the same bytes in every process.
"""

from __future__ import annotations

import numpy as np

from dualsight.envs.sim.camera import eye_of, intrinsics, world_to_camera
from dualsight.envs.sim.packing import pack
from dualsight.envs.sim.scene import Scene
from dualsight.envs.sim.shading import shade
from dualsight.envs.sim.visibility import Buffers, buffers, rasterise
from dualsight.types import Camera, Pose, View


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
