"""Captions of scenes in GenEval's six categories, each with what it says in a form that can be checked.

A `Caption` names every figure of its scene and nothing else, so that ``caption.holds(figures)`` can ask for exactly
these: the judge of generated images calls it with what a detector found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dualsight.data.scene_sampling import INVERSE, NUMBERS, left_out, sample
from dualsight.data.scenes import Scene, Seen, place, relation

CATEGORIES = {
    "single_object": ("single", "texture"),
    "two_objects": ("pair", "together"),
    "counting": ("group", "count"),
    "colors": ("single", "color"),
    "position": ("pair", "relation"),
    "attribute_binding": ("pair", "color"),
}
"""GenEval's categories (Ghosh et al., arXiv:2310.11513): the layout of their scenes, the kind that a test holds out."""
WHOLE = "scene"
"""The category of captions that name every figure of any scene, for training only."""

NAMELESS = 0.2
"""Share of figures whose shape is not said, where their colour suffices."""
COLORLESS = 0.25
"""Share of whole scenes whose colours are not said, where all figures differ in shape: shapes have to suffice."""
RELATED = 0.7
"""Share of the pairs in whole scenes of which it is said how they lie to each other, not where on the canvas."""

FRAMES = (
    "{}", "{}", "a picture of {}", "an image of {}", "a drawing of {}", "{} on a plain background",
    "a picture that shows {}", "{} in front of a pale background",
)  # fmt: skip
BOTH = ("{} and {}", "{} and {}", "both {} and {}", "{} together with {}")
RELATION_WORDS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
}


@dataclass(frozen=True)
class Phrase:
    """ "two small striped red stars": what is "" is not said."""

    shape: str
    color: str = ""
    size: str = ""
    texture: str = ""
    place: str = ""
    count: int = 1

    def __str__(self) -> str:
        words = " ".join(filter(None, (self.size, self.texture, self.color, self.shape or "figure")))
        if self.count > 1:
            return f"{NUMBERS[self.count]} {plural(words)}"
        return with_article(words) + (f" in the {self.place}" if self.place else "")

    def matches(self, figure: Seen) -> bool:
        """Is ``figure`` all that is said?"""
        said = ((self.shape, figure.shape), (self.color, figure.color), (self.size, figure.size))
        said += ((self.texture, figure.texture), (self.place, place(figure, margin=0.0)))
        return all(word in ("", actual) for word, actual in said)


@dataclass(frozen=True)
class Caption:
    """A sentence about a scene, and what it says."""

    category: str
    text: str
    phrases: tuple[Phrase, ...]
    relation: str = ""
    """Where the first phrase's figure is as seen from the second's."""

    def holds(self, figures: Sequence[Seen]) -> bool:
        """Are ``figures`` exactly those that are named, and where they are said to be?

        Stricter than GenEval, which lets a picture show more than was asked for in all categories but counting.
        """
        matching = [[figure for figure in figures if phrase.matches(figure)] for phrase in self.phrases]
        counts = [phrase.count for phrase in self.phrases]
        if [len(found) for found in matching] != counts or len(figures) != sum(counts):
            return False
        return not self.relation or relation(matching[0][0], matching[1][0]) == self.relation


def plural(words: str) -> str:
    """``"red cross"`` -> ``"red crosses"``."""
    return words + ("es" if words.endswith(("s", "x", "ch", "sh")) else "s")


def with_article(words: str) -> str:
    """``"orange star"`` -> ``"an orange star"``."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of ``options``."""
    return options[int(rng.integers(len(options)))]


def sample_caption(
    rng: np.random.Generator,
    category: str,
    held_out: bool = False,
    layout: str | None = None,
    one_sided: bool = True,
) -> tuple[Scene, Caption]:
    """A scene and its caption in a category, of training or of a test (`scene_sampling`).

    Args:
        layout: of a `WHOLE` scene, by default any; those of the categories are given.
        one_sided: say textures also of shapes that training shows with one pattern only. There the shape gives the
            pattern away, and who learns from such captions learns that the word does not matter.

    Raises:
        ValueError: there is no such category, or it is `WHOLE` and should hold out.
    """
    if category not in (*CATEGORIES, WHOLE) or (held_out and category == WHOLE):
        raise ValueError(f"no category {category!r} (held_out={held_out}); there are {', '.join(CATEGORIES)}")
    layout, kind = CATEGORIES.get(category, (layout, ""))
    while True:
        scene = sample(rng, layout, kind if held_out else None)
        if category != "attribute_binding" or scene.figures[0].color != scene.figures[1].color:
            return scene, caption(scene if one_sided else _two_sided(scene), category, rng)


def _two_sided(scene: Scene) -> Scene:
    """The scene, but nothing can be said of textures where some texture is left out."""
    figures = (replace(f, texture="") if left_out(f, "texture") else f for f in scene.figures)
    return replace(scene, figures=tuple(figures))


def caption(scene: Scene, category: str, rng: np.random.Generator) -> Caption:
    """What a category's caption says of ``scene``, in one of many wordings."""
    first, *others = scene.figures
    colored = rng.random() < 0.3
    between = ""
    if category == "single_object":
        texture = first.texture if first.texture != "solid" or rng.random() < 0.3 else ""
        phrases = [Phrase(first.shape, size=first.size if rng.random() < 0.4 else "", texture=texture)]
    elif category == "counting":
        alike = colored and len({figure.color for figure in scene.figures}) == 1
        phrases = [Phrase(first.shape, first.color if alike else "", count=len(scene.figures))]
    elif category == "two_objects":
        phrases = [Phrase(figure.shape) for figure in (first, *others)]
    elif category == "position":
        phrases = [Phrase(figure.shape, figure.color if colored else "") for figure in (first, *others)]
        between = relation(first, others[0])
    elif category in ("colors", "attribute_binding"):
        phrases = [Phrase(figure.shape, figure.color) for figure in (first, *others)]
    else:
        phrases = _every(scene, rng)
        if len(phrases) == len(scene.figures) == 2 and rng.random() < RELATED:
            between = relation(first, others[0], clear=1.5)
    if between:
        phrases = [replace(phrase, place="") for phrase in phrases]
    elif category == WHOLE:
        phrases = [phrases[i] for i in rng.permutation(len(phrases))]
    if len(phrases) == 2 and rng.random() < 0.5:
        phrases, between = phrases[::-1], INVERSE.get(between, "")
    return Caption(category, pick(rng, FRAMES).format(_joined(phrases, between, rng)), tuple(phrases), between)


def describe(scene: Scene) -> str:
    """The one description of a scene that needs no dice: its figures from left to right."""
    ordered = replace(scene, figures=tuple(sorted(scene.figures, key=lambda figure: figure.x)))
    return _listed([str(phrase) for phrase in _grouped(ordered)])


def _every(scene: Scene, rng: np.random.Generator) -> list[Phrase]:
    """All figures in their order, equal ones together; mostly with their colours, different ones with more than that.

    Where colours tell figures apart, some are called figures: what "dotted" means is learnt apart from what is dotted.
    """
    phrases = _grouped(scene)
    apart = len({figure.color for figure in scene.figures}) == len(scene.figures)
    if len(phrases) == len(scene.figures) and rng.random() < 0.9:
        sized, textured, placed = rng.random(3) < 0.75
        phrases = [
            replace(
                phrase,
                size=figure.size if sized else "",
                texture=figure.texture if textured and figure.texture != "solid" else "",
                place=place(figure) if placed else "",
                shape="" if apart and rng.random() < NAMELESS else figure.shape,
            )
            for phrase, figure in zip(phrases, scene.figures, strict=True)
        ]
        if len({phrase.shape for phrase in phrases} - {""}) == len(phrases) and rng.random() < COLORLESS:
            phrases = [replace(phrase, color="") for phrase in phrases]
    return phrases


def _grouped(scene: Scene) -> list[Phrase]:
    """Colours and shapes, in the order of their first figures."""
    counts = Counter((figure.shape, figure.color) for figure in scene.figures)
    return [Phrase(shape, color, count=count) for (shape, color), count in counts.items()]


def _joined(phrases: Sequence[Phrase], between: str, rng: np.random.Generator) -> str:
    words = [str(phrase) for phrase in phrases]
    if between:
        return f"{words[0]} {pick(rng, RELATION_WORDS[between])} {words[1]}"
    return pick(rng, BOTH).format(*words) if len(words) == 2 else _listed(words)


def _listed(words: Sequence[str]) -> str:
    """``"a, b and c"``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
