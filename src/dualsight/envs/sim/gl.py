"""The same pictures from OpenGL, through EGL and without a display: for machines with a GPU. Needs the extra ``gl``.

Geometry, camera and light are those of ``raster``; texture filtering is the driver's, so colours differ by some levels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim.camera import intrinsics, world_to_camera
from dualsight.envs.sim.packing import check
from dualsight.envs.sim.scene import Material, Scene
from dualsight.envs.sim.shading import BACKGROUND
from dualsight.envs.sim.visibility import NEAR
from dualsight.extras import install
from dualsight.types import Camera, Pose, View

try:
    import moderngl
except ModuleNotFoundError as error:
    raise ImportError(f"the OpenGL renderer needs moderngl: {install('gl')}") from error

VERTEX_SHADER = """
#version 330
uniform mat4 projection;
in vec3 position; in vec2 uv; in vec3 light; in int instance;
out vec2 f_uv; out vec3 f_light; flat out int f_instance;
void main() {
    gl_Position = projection * vec4(position, 1.0);
    f_uv = uv; f_light = light; f_instance = instance;
}
"""
FRAGMENT_SHADER = """
#version 330
uniform sampler2D image; uniform vec3 color;
in vec2 f_uv; in vec3 f_light; flat in int f_instance;
layout(location = 0) out vec4 rgb; layout(location = 1) out float depth; layout(location = 2) out int instances;
void main() {
    rgb = vec4(texture(image, f_uv).rgb * color * f_light, 1.0);
    depth = 1.0 / gl_FragCoord.w;
    instances = f_instance;
}
"""


class GLRenderer:
    """Draws one scene with OpenGL. Its context belongs to the thread that made it.

    Raises:
        RuntimeError: EGL or a driver is missing.
        ValueError: the scene cannot be drawn (``packing.check``).
    """

    def __init__(self, scene: Scene):
        check(scene)
        try:
            self._context = moderngl.create_standalone_context(backend="egl")  # ty: ignore[invalid-argument-type]
        except Exception as error:  # glcontext raises bare exceptions of several kinds
            raise RuntimeError(
                f"no EGL context ({error}); install a driver, on Debian `apt install libegl1 libgl1-mesa-dri`, "
                "or use the numba renderer"
            ) from error
        self._context.enable_only(moderngl.DEPTH_TEST)
        self._program = self._context.program(VERTEX_SHADER, FRAGMENT_SHADER)
        order = np.argsort(scene.material, kind="stable")
        self._ends = np.searchsorted(scene.material[order], np.arange(len(scene.materials)), side="right")
        vertices = self._context.buffer(_corners(scene, order).tobytes())
        layout = (vertices, "3f 2f 3f 1i", "position", "uv", "light", "instance")
        self._triangles = self._context.vertex_array(self._program, [layout])
        self._colors = [material.color for material in scene.materials]
        self._textures = [self._texture(material) for material in scene.materials]
        self._frames: dict[tuple[int, int], moderngl.Framebuffer] = {}

    def render(self, pose: Pose, camera: Camera) -> View:
        """What ``camera`` on an agent at ``pose`` sees."""
        width, height = size = camera.width, camera.height
        if size not in self._frames:
            self._frames[size] = self._framebuffer(size)
        frame = self._frames[size]
        frame.use()
        frame.clear(depth=1.0)
        self._program["projection"] = tuple(_projection(pose, camera).T.flat)
        start = 0
        for color, texture, end in zip(self._colors, self._textures, self._ends, strict=True):
            if end > start:
                texture.use()
                self._program["color"] = color
                self._triangles.render(moderngl.TRIANGLES, 3 * (end - start), 3 * start)
            start = end
        rgb = np.frombuffer(frame.read(components=3, alignment=1), np.uint8).reshape(height, width, 3)
        depth = np.frombuffer(frame.read(components=1, attachment=1, dtype="f4"), np.float32).reshape(height, width)
        instances = np.frombuffer(frame.read(components=1, attachment=2, dtype="i4"), np.int32).reshape(height, width)
        return _with_sky(rgb.copy(), depth.copy(), instances.copy())

    def _texture(self, material: Material) -> moderngl.Texture:
        image = np.full((1, 1, 3), 255, np.uint8) if material.texture is None else material.texture
        height, width = image.shape[:2]
        texture = self._context.texture((width, height), 3, image[::-1].tobytes(), alignment=1)
        texture.build_mipmaps()
        texture.filter = moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR
        return texture

    def _framebuffer(self, size: tuple[int, int]) -> moderngl.Framebuffer:
        context = self._context
        rgb, depth = context.texture(size, 4), context.texture(size, 1, dtype="f4")
        return context.framebuffer([rgb, depth, context.texture(size, 1, dtype="i4")], context.depth_texture(size))


def _with_sky(rgb: NDArray[np.uint8], depth: NDArray[np.float32], instances: NDArray[np.int32]) -> View:
    """Mark the pixels that nothing was drawn to: OpenGL leaves open what clearing does to integer images."""
    sky = depth == 0
    rgb[sky], instances[sky] = BACKGROUND, 0
    return View(rgb, depth, instances)


def _projection(pose: Pose, camera: Camera) -> NDArray[np.float64]:
    """(4, 4) matrix to clip coordinates, the far plane at infinity. The upper image row comes first when it is read."""
    px, py, z = intrinsics(camera) @ world_to_camera(pose, camera)  # (x z, y z, z), pixel centres at integers
    x = 2 / camera.width * (px + 0.5 * z) - z
    y = 2 / camera.height * (py + 0.5 * z) - z
    return np.stack([x, y, z - [0, 0, 0, 2 * NEAR], z])


def _corners(scene: Scene, order: NDArray[np.int64]) -> NDArray:
    """(3 T,) records for the vertex buffer, triangles in ``order``; three each, for instances belong to triangles."""
    index = scene.triangles[order].reshape(-1)
    corners = np.empty(len(index), [("position", "f4", 3), ("uv", "f4", 2), ("light", "f4", 3), ("instance", "i4")])
    corners["position"], corners["uv"], corners["light"] = scene.vertices[index], scene.uv[index], scene.light[index]
    corners["instance"] = np.repeat(scene.instance[order], 3)
    return corners
