"""Procedural textures for floors, walls and furniture: periodic (no seam), the same bytes for the same arguments.

A texture is 128 x 128 pixels and covers ``REPEAT[kind]`` metres each way, so that a wall of 4 m under a kind with a
repeat of 1 m has texture coordinates from 0 to 4. Coordinate u runs to the right, v up, as on a wall.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualsight.envs.sim.colors import COLORS, WOODS, Rgb, mix, rgb
from dualsight.envs.sim.scene import Material

SIZE = 128
"""Pixels a side."""

Grey = NDArray[np.float64]
"""(SIZE, SIZE), a factor of brightness around 1."""
Picture = NDArray[np.float64]
"""(SIZE, SIZE, 3) sRGB in 0..1."""


def texture(kind: str, color: str = "", seed: int = 0) -> Material:
    """The material of a surface.

    Args:
        kind: a key of ``KINDS``: "planks", "tiles", "carpet", "plaster"...
        color: one of ``colors_of(kind)``; "" takes the first.
        seed: another grain, another arrangement of planks; the same pattern.

    Raises:
        KeyError: ``kind`` or ``color`` is unknown.
    """
    if kind not in KINDS:
        raise KeyError(f"no texture {kind!r}; there are {', '.join(KINDS)}")
    return _texture(kind, color or colors_of(kind)[0], seed)


def colors_of(kind: str) -> tuple[str, ...]:
    """The colour words in which a kind of texture comes."""
    return tuple(KINDS[kind][1])


@cache
def _texture(kind: str, color: str, seed: int) -> Material:
    paint, words = KINDS[kind]
    picture = paint(np.array(rgb(color, words)), np.random.default_rng([seed, len(kind), *color.encode()]))
    return Material(f"{color} {kind}", (1.0, 1.0, 1.0), (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


# ---------------------------------------------------------------- noise and tilings

Y, X = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE


def noise(rng: np.random.Generator, smoothness: float = 1.0, stretch: float = 1.0) -> Grey:
    """Periodic noise of mean 0 and deviation 1: white noise shaped to the spectrum ``|f|^-smoothness``.

    ``stretch`` > 1 draws it out along X (wood grain), < 1 along Y.
    """
    fy, fx = np.meshgrid(np.fft.fftfreq(SIZE), np.fft.rfftfreq(SIZE), indexing="ij")
    frequency = np.hypot(fy, fx * stretch)
    frequency[0, 0] = np.inf
    shaped = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * frequency**-smoothness, (SIZE, SIZE))
    return shaped / shaped.std()


def cells(columns: int, rows: int, shift: float = 0.0) -> tuple[NDArray[np.int64], Grey]:
    """A running bond of ``columns`` x ``rows`` bricks, each row ``shift`` bricks further.

    Returns:
        the number of the brick at each pixel, and the distance to its nearest border in pixels.
    """
    row = np.floor(Y * rows).astype(int)
    along = X * columns + shift * row
    column = np.floor(along).astype(int) % columns
    to_side = np.minimum(along % 1, 1 - along % 1) * SIZE / columns
    to_end = np.minimum(Y * rows % 1, 1 - Y * rows % 1) * SIZE / rows
    return row * columns + column, np.minimum(to_side, to_end)


def varied(number: NDArray[np.int64], rng: np.random.Generator, amount: float) -> Grey:
    """A brightness for each cell, around 1."""
    return (1 + amount * rng.standard_normal(number.max() + 1))[number]


def shaded(color: NDArray, brightness: Grey) -> Picture:
    """``color`` (3,) or (SIZE, SIZE, 3) times ``brightness``."""
    return color * brightness[..., None]


def joints(picture: Picture, border: Grey, width: float, color: ArrayLike) -> Picture:
    """Draw ``color`` where ``border`` (pixels from the edge of a cell) is below ``width``, with a soft edge."""
    share = np.clip(width + 0.5 - border, 0, 1)[..., None]
    return (1 - share) * picture + share * np.asarray(color, float)


# ---------------------------------------------------------------- what surfaces are made of


def grain(rng: np.random.Generator) -> Grey:
    """Wood grain along X."""
    return 1 + 0.07 * noise(rng, 1.2, stretch=12) + 0.03 * noise(rng, 0.3, stretch=30)


def wood(color: NDArray, rng: np.random.Generator) -> Picture:
    """A board."""
    return shaded(color, grain(rng))


def planks(color: NDArray, rng: np.random.Generator) -> Picture:
    """Floor boards along X, 12.5 cm wide."""
    row = np.floor(Y * 8).astype(int)
    to_side = np.minimum(Y * 8 % 1, 1 - Y * 8 % 1) * SIZE / 8
    to_end = np.abs((X - rng.random(8)[row] + 0.5) % 1 - 0.5) * SIZE
    picture = shaded(color, grain(rng) * varied(row, rng, 0.10))
    return joints(picture, np.minimum(to_side, to_end), 0.6, mix(color, (0, 0, 0), 0.6))


def parquet(color: NDArray, rng: np.random.Generator) -> Picture:
    """Squares of four strips, turned by a right angle from square to square."""
    turned = (np.floor(X * 4) + np.floor(Y * 4)) % 2 == 1
    strip = np.floor(np.where(turned, X, Y) * 16).astype(int)
    square = np.floor(X * 4).astype(int) * 4 + np.floor(Y * 4).astype(int)
    along = grain(rng)
    picture = shaded(color, np.where(turned, along.T, along) * varied(square * 16 + strip, rng, 0.09))
    edge = np.where(turned, X, Y) * 16 % 1
    _, border = cells(4, 4)
    return joints(picture, np.minimum(border, np.minimum(edge, 1 - edge) * SIZE / 16), 0.4, mix(color, (0, 0, 0), 0.6))


def tiles(color: NDArray, rng: np.random.Generator) -> Picture:
    """Square ceramic tiles of 30 cm with light joints."""
    number, border = cells(4, 4)
    picture = shaded(mix(color, (1, 1, 1), 0.2), 1 + 0.02 * noise(rng)) * varied(number, rng, 0.03)[..., None]
    return joints(picture, border, 1.0, (0.72, 0.71, 0.69) if color.mean() > 0.4 else (0.55, 0.55, 0.54))


def checker(color: NDArray, rng: np.random.Generator) -> Picture:
    """Tiles of ``color`` and of white in turn."""
    number, border = cells(4, 4)
    colored = ((number // 4 + number) % 2 == 1)[..., None]
    picture = np.where(colored, color, np.array([0.93, 0.93, 0.91])) * (1 + 0.02 * noise(rng))[..., None]
    return joints(picture, border, 0.7, (0.6, 0.6, 0.58))


def carpet(color: NDArray, rng: np.random.Generator) -> Picture:
    """Short pile."""
    return shaded(mix(color, (0.6, 0.58, 0.55), 0.15), 1 + 0.10 * noise(rng, 0.0) + 0.04 * noise(rng))


def fabric(color: NDArray, rng: np.random.Generator) -> Picture:
    """A plain weave."""
    weave = np.cos(2 * np.pi * 32 * X) * np.cos(2 * np.pi * 32 * Y)
    return shaded(color, 1 + 0.05 * weave + 0.04 * noise(rng, 0.5))


def plaster(color: NDArray, rng: np.random.Generator) -> Picture:
    """A painted wall."""
    return shaded(mix(color, (1, 1, 1), 0.35), 1 + 0.015 * noise(rng, 1.0))


def stripes(color: NDArray, rng: np.random.Generator) -> Picture:
    """Wallpaper with upright stripes, eight a metre."""
    light, dark = mix(color, (1, 1, 1), 0.65), mix(color, (1, 1, 1), 0.25)
    share = np.clip(0.5 + 6 * np.cos(2 * np.pi * 8 * X), 0, 1)[..., None]
    return shaded(share * dark + (1 - share) * light, 1 + 0.01 * noise(rng))


def brick(color: NDArray, rng: np.random.Generator) -> Picture:
    """Bricks of 25 x 12.5 cm (stretched for 128 pixels) in a running bond."""
    number, border = cells(4, 8, shift=0.5)
    picture = shaded(color, varied(number, rng, 0.12) * (1 + 0.06 * noise(rng, 0.5)))
    return joints(picture, border, 1.2, (0.78, 0.75, 0.70))


def marble(color: NDArray, rng: np.random.Generator) -> Picture:
    """Stone with veins: the zero crossings of a warped wave."""
    veins = np.abs(np.sin(np.pi * (2 * X + 2 * Y) + 1.3 * noise(rng, 1.6)))
    vein = mix(color, (0.45, 0.45, 0.47) if color.mean() > 0.3 else (0.9, 0.9, 0.9), 0.6)
    share = (np.clip(1 - 4 * veins, 0, 1) * 0.7)[..., None]
    return shaded((1 - share) * mix(color, (1, 1, 1), 0.1) + share * vein, 1 + 0.03 * noise(rng, 1.4))


def concrete(color: NDArray, rng: np.random.Generator) -> Picture:
    """Screed."""
    return shaded(color, 1 + 0.06 * noise(rng, 1.3) + 0.03 * noise(rng, 0.0))


def grass(color: NDArray, rng: np.random.Generator) -> Picture:
    """A lawn, seen from a window."""
    return shaded(color, 1 + 0.18 * noise(rng, 0.4) + 0.08 * noise(rng, 1.5))


def sky(color: NDArray, rng: np.random.Generator) -> Picture:
    """White clouds."""
    share = (0.85 * np.clip(0.15 + 0.45 * noise(rng, 1.7, stretch=0.6).T, 0, 1))[..., None]
    return (1 - share) * color + share * np.array([0.97, 0.98, 1.0])


STONES: dict[str, Rgb] = {
    "white": (0.93, 0.92, 0.90),
    "grey": (0.60, 0.60, 0.61),
    "black": (0.10, 0.10, 0.11),
    "green": (0.18, 0.38, 0.30),
    "pink": (0.85, 0.66, 0.62),
}
BRICKS: dict[str, Rgb] = {"red": (0.60, 0.26, 0.18), "white": (0.88, 0.86, 0.82), "grey": (0.52, 0.51, 0.50)}
OUTDOORS: dict[str, dict[str, Rgb]] = {"grass": {"green": (0.27, 0.45, 0.17)}, "sky": {"blue": (0.46, 0.66, 0.90)}}

KINDS: dict[str, tuple[Callable[[NDArray, np.random.Generator], Picture], dict[str, Rgb]]] = {
    "planks": (planks, WOODS),
    "parquet": (parquet, WOODS),
    "wood": (wood, WOODS),
    "tiles": (tiles, COLORS),
    "checker": (checker, COLORS),
    "carpet": (carpet, COLORS),
    "fabric": (fabric, COLORS),
    "plaster": (plaster, COLORS),
    "stripes": (stripes, COLORS),
    "brick": (brick, BRICKS),
    "marble": (marble, STONES),
    "concrete": (concrete, {"grey": (0.55, 0.55, 0.54)}),
    "ceiling": (plaster, {"white": (0.93, 0.93, 0.91)}),
    "grass": (grass, OUTDOORS["grass"]),
    "sky": (sky, OUTDOORS["sky"]),
}
"""How each kind is painted, and the colour words it understands."""

REPEAT: dict[str, float] = {
    "planks": 1.0, "parquet": 1.2, "wood": 1.0, "tiles": 1.2, "checker": 1.2, "carpet": 1.0, "fabric": 0.4,
    "plaster": 2.0, "stripes": 1.0, "brick": 1.0, "marble": 1.5, "concrete": 2.0, "ceiling": 2.0, "grass": 4.0,
    "sky": 20.0,
}  # fmt: skip
"""Metres that one repeat of each kind covers."""
