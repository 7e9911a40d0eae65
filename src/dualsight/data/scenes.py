"""Scenes of one to four figures on a pale ground: what they are, and what they look like.

A `Scene` says everything there is to know of a picture, and `render` draws it: the same bytes for the same scene.
Places and lengths are shares of the canvas, x to the right and y down, so that a scene can be drawn at any size.
`scene_sampling` draws scenes at random, `scene_text` talks about them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dualsight.types import Frame

Plane = NDArray[np.float64]
"""A coordinate at every point of a grid, in radii from a figure's centre."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 34, 38),
    "orange": (242, 132, 16),
    "yellow": (240, 212, 30),
    "green": (36, 158, 62),
    "blue": (36, 84, 212),
    "purple": (132, 44, 172),
    "pink": (246, 98, 176),
    "black": (36, 36, 38),
}
"""sRGB. Their chromaticities (rgb over its sum) are far apart, so that no shade of one is a shade of another."""
DARKER = 0.45
"""Stripes and dots have the figure's colour times this..."""
GREY = (128, 128, 130)
"""... but for black, which cannot get darker: they are grey."""

SIZES: dict[str, tuple[float, float]] = {"small": (0.12, 0.14), "large": (0.18, 0.205)}
"""The radii of each size; what lies between is neither."""
TEXTURES = ("solid", "striped", "dotted")
REACH = 1.15
"""No figure has a point farther than this from its centre, in radii."""
SUBSAMPLES = 4
"""A pixel's coverage is counted at this many points each way."""


def _star(u: Plane, v: Plane, outer: float = 1.13, inner: float = 0.5) -> NDArray[np.bool_]:
    """Five points, one up: a sector of 36 degrees between a point and a notch, mirrored and repeated."""
    sector = 2 * math.pi / 5
    angle = np.abs((np.arctan2(u, -v) + sector / 2) % sector - sector / 2)
    along, across = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    notch_along, notch_across = inner * math.cos(sector / 2), inner * math.sin(sector / 2)
    return (outer - along) * notch_across >= across * (outer - notch_along)


def _heart(u: Plane, v: Plane) -> NDArray[np.bool_]:
    """(x^2 + y^2 - 1)^3 <= x^2 y^3, moved so that its centre is the figure's."""
    x, y = 1.12 * u, 0.1 - 1.12 * v
    return (x**2 + y**2 - 1) ** 3 <= x**2 * y**3


INSIDE: dict[str, Callable[[Plane, Plane], NDArray[np.bool_]]] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.8,
    "triangle": lambda u, v: (v <= 0.65) & (np.abs(u) <= (v + 0.95) / math.sqrt(3)),
    "diamond": lambda u, v: np.abs(u) / 0.8 + np.abs(v) / 1.1 <= 1,
    "star": _star,
    "cross": lambda u, v: (np.minimum(np.abs(u), np.abs(v)) <= 0.33) & (np.maximum(np.abs(u), np.abs(v)) <= 1),
    "heart": _heart,
    "ring": lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.55**2),
}
"""Which points belong to a shape of radius 1 around the origin; v grows downward."""
SHAPES = tuple(INSIDE)
WORDS: dict[str, tuple[str, ...]] = {"shape": SHAPES, "color": tuple(COLORS), "size": tuple(SIZES), "texture": TEXTURES}
"""What is said of a figure, and its values."""

PATTERN: dict[str, Callable[[Plane, Plane], NDArray[np.bool_]]] = {
    "solid": lambda u, v: np.zeros(np.broadcast_shapes(u.shape, v.shape), bool),
    "striped": lambda u, v: np.cos(v * 2 * math.pi / 0.62) + 0 * u < 0,
    "dotted": lambda u, v: (u - 0.62 * np.round(u / 0.62)) ** 2 + (v - 0.62 * np.round(v / 0.62)) ** 2 < 0.2**2,
}
"""Which points of a figure have the second tone, by texture."""


class Seen(Protocol):
    """A figure: of a scene, or found in an image."""

    @property
    def shape(self) -> str: ...
    @property
    def color(self) -> str: ...
    @property
    def size(self) -> str: ...
    @property
    def texture(self) -> str: ...
    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...


@dataclass(frozen=True)
class Figure:
    """One shape on the canvas."""

    shape: str
    color: str
    size: str
    texture: str
    x: float
    y: float
    radius: float
    shade: float = 1.0
    """Its colour is the named one times this, 0.92 to 1.06."""


@dataclass(frozen=True)
class Ground:
    """What is behind the figures: one pale tone that fades into another along a direction."""

    tones: tuple[tuple[float, float, float], tuple[float, float, float]]
    """sRGB in 0..255."""
    angle: float
    """Radians from the x axis."""


@dataclass(frozen=True)
class Scene:
    """Figures that do not overlap, on their ground."""

    figures: tuple[Figure, ...]
    ground: Ground


def relation(a: Seen, b: Seen, clear: float = 1.0) -> str:
    """Where ``a`` is as seen from ``b``: "left of", "right of", "above" or "below"; the longer way counts.

    Args:
        clear: how many times longer it has to be than the other; "" if it is not.
    """
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) >= clear * abs(dy):
        return "left of" if dx < 0 else "right of"
    if abs(dy) >= clear * abs(dx):
        return "above" if dy < 0 else "below"
    return ""


def place(figure: Seen, margin: float = 0.08) -> str:
    """The quarter of the canvas it lies in, "top left" and so on; "" within ``margin`` of a middle line."""
    if min(abs(figure.x - 0.5), abs(figure.y - 0.5)) < margin:
        return ""
    return f"{'top' if figure.y < 0.5 else 'bottom'} {'left' if figure.x < 0.5 else 'right'}"


def tones(color: str, shade: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A colour's main tone and that of its stripes and dots, each (3,) sRGB in 0..255."""
    main = np.array(COLORS[color], float)
    second = np.array(GREY, float) if color == "black" else DARKER * main
    return np.minimum(main * shade, 255.0), np.minimum(second * shade, 255.0)


def render(scene: Scene, size: int = 64) -> Frame:
    """The picture, (size, size, 3) uint8, with smooth edges."""
    canvas = _ground(scene.ground, size)
    for figure in scene.figures:
        _draw(canvas, figure)
    return np.round(canvas).astype(np.uint8)


def _ground(ground: Ground, size: int) -> NDArray[np.float64]:
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    share = 0.5 + (x * math.cos(ground.angle) + y * math.sin(ground.angle)) / math.sqrt(2)  # 0 to 1, corner to corner
    first, second = np.array(ground.tones)
    return first + share[..., None] * (second - first)


def _draw(canvas: NDArray[np.float64], figure: Figure) -> None:
    """Lay a figure over the canvas, in place, weighted by how much of each pixel it covers."""
    size = len(canvas)
    reach = REACH * figure.radius
    rows, columns = (
        slice(max(0, math.floor((centre - reach) * size)), min(size, math.ceil((centre + reach) * size)))
        for centre in (figure.y, figure.x)
    )
    v, u = (
        ((np.arange(span.start * SUBSAMPLES, span.stop * SUBSAMPLES) + 0.5) / (SUBSAMPLES * size) - c) / figure.radius
        for span, c in ((rows, figure.y), (columns, figure.x))
    )
    u, v = u[None, :], v[:, None]
    inside = INSIDE[figure.shape](u, v)
    covered = _per_pixel(inside)
    patterned = _per_pixel(inside & PATTERN[figure.texture](u, v))
    main, second = tones(figure.color, figure.shade)
    behind = canvas[rows, columns] * (1 - covered)
    canvas[rows, columns] = behind + (covered - patterned) * main + patterned * second


def _per_pixel(points: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of each pixel's subsamples that is set, (h, w, 1)."""
    height, width = (n // SUBSAMPLES for n in points.shape)
    return points.reshape(height, SUBSAMPLES, width, SUBSAMPLES).mean(axis=(1, 3))[..., None]
