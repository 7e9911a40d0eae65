"""Scenes at random, and the combinations that training never sees.

A scene holds *combinations*: a colour on a shape, a texture on a shape, a shape beside another, two shapes together,
so many of one shape. `HELD_OUT` lists some of each kind. ``sample(rng)`` draws scenes for training, which hold none
of them; ``sample(rng, held_out=kind)`` draws scenes for a test, which hold at least one of that kind. Every shape and
every colour is seen in training, in all other combinations; so is every number and every relation.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations as pairs

import numpy as np

from dualsight.data.scenes import COLORS, REACH, SHAPES, SIZES, TEXTURES, WORDS, Figure, Ground, Scene, relation

Combination = tuple[str, ...]
"""Its kind, then what is combined: ``("color", "red", "star")``, ``("relation", "star", "left of", "ring")``..."""

NUMBERS = ("zero", "one", "two", "three", "four")
POPULAR = ("circle", "square", "triangle")
"""The shapes that are drawn twice as often as the others: the world has more boxes than hearts."""
GAP = 0.045
"""Between the circles around two figures: enough that a blurred picture still shows two."""
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
COUNTS = {"single": (1, 2), "pair": (2, 3), "group": (2, 5), "free": (2, 5)}
"""How many figures a layout has: from, and up to but not including."""
LAYOUTS = tuple(COUNTS)
TRIES = 16
"""Places that are tried for a figure before the whole scene is drawn anew."""
KIND_LAYOUTS = {
    "color": ("single", "pair", "free"),
    "texture": ("single", "free"),
    "together": ("pair", "free"),
    "relation": ("pair", "free"),
    "count": ("group", "free"),
}
"""In which layouts a kind of combination can be met."""


def _held_out() -> frozenset[Combination]:
    """By steps through the list of shapes, so that no shape and no colour misses much more than another."""
    found: set[Combination] = set()
    words, n = tuple(COLORS), len(SHAPES)
    for i, shape in enumerate(SHAPES):
        found.add(("color", words[(3 * i + 1) % len(words)], shape))  # 8 of 64
        found.add(("relation", shape, "left of", SHAPES[(i + 3) % n]))  # 8 of 56
        found.add(("relation", shape, "above", SHAPES[(i + 2) % n]))  # 8 of 56
        if i % 2 == 0:
            found.add(("texture", TEXTURES[1 + i // 2 % 2], shape))  # 4 of 16 with a pattern
        if i < 6:
            found.add(("count", NUMBERS[2 + i % 3], shape))  # 6 of 24 from two on
        if i < n // 2:
            found.add(together(shape, SHAPES[i + n // 2]))  # 4 of 28
    return frozenset(found)


def left_out(figure: Figure, attribute: str) -> tuple[str, ...]:
    """The values of an attribute (of those in ``WORDS``; others have none) that no such figure of training has."""
    others = {value: _on(replace(figure, **{attribute: value})) for value in WORDS.get(attribute, ())}
    return tuple(value for value, combined in others.items() if not HELD_OUT.isdisjoint(combined))


def together(a: str, b: str) -> Combination:
    """Two shapes in one picture."""
    return ("together", *sorted((a, b)))


def beside(a: str, word: str, b: str) -> Combination:
    """One shape left of, right of, above or below another; "star right of ring" is "ring left of star"."""
    return ("relation", a, word, b) if word in ("left of", "above") else ("relation", b, INVERSE[word], a)


HELD_OUT = _held_out()


def combinations(scene: Scene) -> set[Combination]:
    """Everything that is combined in a scene."""
    figures = scene.figures
    found: set[Combination] = {combination for figure in figures for combination in _on(figure)}
    found |= {combination for a, b in pairs(figures, 2) for combination in _between(a, b)}
    return found | {("count", NUMBERS[n], s) for s, n in Counter(f.shape for f in figures).items() if n > 1}


def _on(figure: Figure) -> tuple[Combination, ...]:
    return ("color", figure.color, figure.shape), ("texture", figure.texture, figure.shape)


def _between(a: Figure, b: Figure) -> tuple[Combination, ...]:
    if a.shape == b.shape:
        return ()
    return together(a.shape, b.shape), beside(a.shape, relation(a, b), b.shape)


def sample(rng: np.random.Generator, layout: str | None = None, held_out: str | None = None) -> Scene:
    """A scene that holds no held-out combination or, if ``held_out`` names a kind, at least one of that kind.

    Args:
        layout: "single" (one figure), "pair" (two of different shapes, clearly beside or above one another), "group"
            (two to four of one shape and nothing else), "free" (two to four of anything); drawn if not given.

    Raises:
        ValueError: there is no such layout or kind, or the kind cannot be met in that layout.
    """
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    if held_out is not None and layout not in (None, *KIND_LAYOUTS.get(held_out, ())):
        raise ValueError(f"no {held_out!r} is held out in the layout {layout!r}; there are {KIND_LAYOUTS}")
    layout = layout or _choice(rng, KIND_LAYOUTS[held_out] if held_out else LAYOUTS)
    count = int(rng.integers(*COUNTS[layout]))
    while True:  # the number stays: else scenes of many figures, which are refused more often, would be rare
        scene = _draw(rng, layout, count, avoid=HELD_OUT if held_out is None else frozenset())
        if scene is None:
            continue
        forbidden = combinations(scene) & HELD_OUT
        if any(kind == held_out for kind, *_ in forbidden) if held_out else not forbidden:
            return scene


def _draw(rng: np.random.Generator, layout: str, count: int, avoid: frozenset[Combination]) -> Scene | None:
    """A scene; None where the figures found no room, or not where the layout wants them.

    Args:
        avoid: figures that would bring one of these are drawn anew at once, which is much faster than the whole scene.
    """
    figures: list[Figure] = []
    for _ in range(count):
        figure = _placed(rng, _figure(rng, figures, layout, avoid), figures, avoid)
        if figure is None:
            return None
        figures.append(figure)
    if layout == "pair" and not relation(*figures, clear=1.5):
        return None
    return Scene(tuple(figures), _ground(rng))


def _figure(rng: np.random.Generator, others: list[Figure], layout: str, avoid: frozenset[Combination]) -> Figure:
    """A figure, not yet in its place. Among others it often repeats a shape or a colour, to be counted."""
    while True:
        shape = _choice(rng, (*SHAPES, *POPULAR))
        color = _choice(rng, tuple(COLORS))
        if others and layout != "pair":
            like = others[int(rng.integers(len(others)))]
            shape = like.shape if layout == "group" or rng.random() < 0.3 else shape
            color = like.color if rng.random() < (0.6 if layout == "group" else 0.2) else color
        size = _choice(rng, tuple(SIZES))
        texture = TEXTURES[max(0, int(rng.integers(-1, 3)))]  # half of all are solid
        radius, shade = float(rng.uniform(*SIZES[size])), float(rng.uniform(0.92, 1.06))
        figure = Figure(shape, color, size, texture, 0.5, 0.5, radius, shade)
        repeated = layout == "pair" and any(other.shape == shape for other in others)
        if not repeated and avoid.isdisjoint(_on(figure)):
            return figure


def _placed(
    rng: np.random.Generator, figure: Figure, others: list[Figure], avoid: frozenset[Combination]
) -> Figure | None:
    """``figure`` at a place clear of the others and without relations to avoid; None where none was found."""
    edge = REACH * figure.radius
    for x, y in rng.uniform(edge, 1 - edge, (TRIES, 2)):
        here = replace(figure, x=float(x), y=float(y))
        if _free(here, others) and all(avoid.isdisjoint(_between(here, other)) for other in others):
            return here
    return None


def _free(figure: Figure, others: list[Figure]) -> bool:
    """Does it stay clear of the others?"""
    return all(
        math.hypot(figure.x - other.x, figure.y - other.y) > REACH * (figure.radius + other.radius) + GAP
        for other in others
    )


def _ground(rng: np.random.Generator) -> Ground:
    """Plain half of the time, else fading a little."""
    first = rng.uniform(222, 246) + rng.uniform(-8, 8, 3)
    fade = 0.0 if rng.random() < 0.5 else 1.0
    second = np.clip(first + fade * (rng.uniform(-14, 8) + rng.uniform(-5, 5, 3)), 205, 252)
    tones = (float(first[0]), float(first[1]), float(first[2])), (float(second[0]), float(second[1]), float(second[2]))
    return Ground(tones, float(rng.uniform(0, 2 * math.pi)))


def _choice(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]
