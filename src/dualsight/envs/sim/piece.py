"""A piece of furniture: its triangles, its size, where it belongs, and the colours in which it comes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim.colors import COLORS, Rgb, rgb
from dualsight.envs.sim.scene import Material

Placement = Literal["floor_wall", "floor_free", "table", "wall", "ceiling"]
"""Where a piece goes: on the floor with its back to a wall, free on the floor, on top of something, hung on a wall at
``Model.elevation``, or hung from the ceiling."""

PALETTES: dict[str, tuple[str, ...]] = {
    "": (),
    "appliance": ("grey", "white", "black", "red"),
    "ceramic": ("white", "pink", "green", "black"),
    "fabric": tuple(COLORS),
    "felt": ("green", "blue", "red"),
    "paint": ("white", "grey", "black", "blue", "green", "red", "yellow"),
    "piano": ("black", "white", "brown"),
    "wood": ("brown", "white", "black"),
}
"""Colours in which kinds of things come."""


@dataclass(frozen=True)
class Model:
    """A piece of furniture, ready to be placed: V vertices, T triangles, its materials, and what it is."""

    name: str
    category: str
    """The word that an instruction uses: "sofa", "fridge"."""
    rooms: tuple[str, ...]
    """Types of rooms where it belongs."""
    placement: Placement
    width: float
    """Metres along X."""
    height: float
    depth: float
    """Metres along Z."""
    elevation: float
    """Height of its lowest point above the floor, metres; for "ceiling", its top touches the ceiling instead."""
    vertices: NDArray[np.float32]
    """(V, 3)"""
    uv: NDArray[np.float32]
    """(V, 2), in texture repeats."""
    triangles: NDArray[np.int32]
    """(T, 3)"""
    material: NDArray[np.int32]
    """(T,) index into ``materials``."""
    materials: list[Material]
    occlusion: NDArray[np.float32]
    """(V,) ambient light that reaches a vertex when the piece stands alone on a floor; 1 is all of it."""
    tintable: tuple[int, ...] = ()
    """Materials that take another colour."""
    color: str = ""
    """The colour word that fits it as it is, or ""."""
    colors: tuple[str, ...] = ()
    """The colour words in which it comes."""


def tinted(model: Model, color: str) -> list[Material]:
    """The materials of ``model`` with its tintable ones in ``color``, a word of ``COLORS``; "" changes nothing.

    The pattern of a texture stays: its brightness, over its mean brightness, darkens and lightens the colour.

    Raises:
        KeyError: ``color`` is not a word of ``COLORS``.
    """
    if not color:
        return model.materials
    paint = rgb(color)
    return [
        _tint(material, color, paint) if index in model.tintable else material
        for index, material in enumerate(model.materials)
    ]


def _tint(material: Material, color: str, paint: Rgb) -> Material:
    name = f"{color} {material.name}"
    if material.texture is None:
        return Material(name, paint)
    return Material(name, texture=_painted(material.texture.tobytes(), material.texture.shape, paint))


@cache
def _painted(texture: bytes, shape: tuple[int, ...], paint: Rgb) -> NDArray[np.uint8]:
    """A texture in another colour; cached, for houses repeat them."""
    brightness = np.frombuffer(texture, np.uint8).reshape(shape) @ np.array([0.299, 0.587, 0.114])
    pattern = brightness / brightness.mean()
    return np.clip(255 * pattern[..., None] * np.array(paint), 0, 255).astype(np.uint8)
