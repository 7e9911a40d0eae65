"""Renderers by name."""

from __future__ import annotations

from typing import Protocol

from dualsight.envs.sim.scene import Scene
from dualsight.types import Camera, Pose, View

BACKENDS = ("numba", "gl")


class Renderer(Protocol):
    """Draws one scene; one per thread."""

    def render(self, pose: Pose, camera: Camera) -> View: ...


def make_renderer(scene: Scene, backend: str = "numba") -> Renderer:
    """The renderer of ``scene`` on the CPU ("numba") or through OpenGL ("gl").

    Raises:
        ValueError: another backend.
        ImportError, RuntimeError: "gl" without its extra or without a driver.
    """
    if backend == "numba":
        from dualsight.envs.sim.raster import Rasteriser

        return Rasteriser(scene)
    if backend == "gl":
        from dualsight.envs.sim.gl import GLRenderer

        return GLRenderer(scene)
    raise ValueError(f"there is no renderer {backend!r}; choose one of {', '.join(BACKENDS)}")
