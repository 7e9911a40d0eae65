"""A scene: textured triangles with baked light, and what each triangle belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Material:
    """A surface: ``color`` (sRGB in 0..1) times ``texture`` ((H, W, 3) uint8 sRGB, repeating), or plain ``color``."""

    name: str
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Instance:
    """A thing that can be named: a sofa, a wall, a flight of stairs."""

    category: str
    """A word that an instruction can use: "sofa", "bed", "door", "wall"."""
    color: str = ""
    """A colour word ("red", "dark grey") or "" where none fits."""
    room: int = -1
    """Index of its room in ``House.rooms``, or -1."""
    name: str = ""
    """The furniture model or the part of the building it comes from."""


NOTHING = Instance("nothing")
"""Instance 0 of every scene: pixels that show no triangle."""


@dataclass(frozen=True)
class Scene:
    """Triangles (T) over vertices (V), Y up, metres.

    A vertex belongs to one smooth patch of one material: ``uv`` and ``light`` are per vertex.
    A pixel shows ``texture(uv) * color * light``, interpolated with perspective.
    """

    vertices: NDArray[np.float32]
    """(V, 3)"""
    uv: NDArray[np.float32]
    """(V, 2), in texture repeats."""
    light: NDArray[np.float32]
    """(V, 3) baked light; 1 shows the material as it is."""
    triangles: NDArray[np.int32]
    """(T, 3) vertex indices, counter-clockwise seen from outside; both sides are drawn."""
    material: NDArray[np.int32]
    """(T,) index into ``materials``."""
    instance: NDArray[np.int32]
    """(T,) index into ``instances``."""
    materials: list[Material] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=lambda: [NOTHING])

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The lowest and the highest corner, each (3,)."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)
