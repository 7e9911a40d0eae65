"""The colour words of the world and what they look like."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rgb = tuple[float, float, float]
"""sRGB in 0..1."""

COLORS: dict[str, Rgb] = {
    "red": (0.76, 0.10, 0.10),
    "orange": (0.93, 0.45, 0.08),
    "yellow": (0.95, 0.80, 0.12),
    "green": (0.13, 0.50, 0.20),
    "blue": (0.12, 0.27, 0.70),
    "purple": (0.43, 0.16, 0.55),
    "pink": (0.95, 0.52, 0.68),
    "brown": (0.42, 0.25, 0.14),
    "beige": (0.86, 0.77, 0.62),
    "white": (0.95, 0.95, 0.94),
    "grey": (0.50, 0.50, 0.51),
    "black": (0.08, 0.08, 0.09),
}
"""Colour words, far enough apart to be told under warm light and in the shade."""

WOODS: dict[str, Rgb] = {
    "light brown": (0.76, 0.58, 0.38),
    "brown": (0.52, 0.33, 0.18),
    "dark brown": (0.27, 0.16, 0.09),
    "grey": (0.58, 0.56, 0.53),
    "white": (0.90, 0.88, 0.84),
    "black": (0.12, 0.10, 0.09),
}
"""Tones of wood."""


def rgb(word: str, words: dict[str, Rgb] = COLORS) -> Rgb:
    """What a colour word looks like.

    Raises:
        KeyError: it is none of ``words``.
    """
    if word not in words:
        raise KeyError(f"no colour {word!r}; there are {', '.join(words)}")
    return words[word]


def mix(a: ArrayLike, b: ArrayLike, share: float) -> NDArray[np.float64]:
    """``share`` of ``b`` in ``a``, (3,)."""
    return (1 - share) * np.asarray(a, float) + share * np.asarray(b, float)
