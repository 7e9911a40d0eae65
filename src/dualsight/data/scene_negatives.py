"""Whether a picture shows what a caption says: captions that hold, and hard negatives, which nearly do.

A caption that does not hold is that of a scene in which one thing is otherwise: a figure has another colour, shape,
size or texture, two figures have exchanged one of these or their places, one figure is missing or there twice. So who
looks for single words cannot tell (ARO, Yuksekgonul et al., arXiv:2210.01936): all of it has to be true. Neither kind
names a combination that training leaves out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dualsight.data.scene_sampling import HELD_OUT, NUMBERS, combinations
from dualsight.data.scene_text import WHOLE, Caption, caption, pick
from dualsight.data.scenes import WORDS, Scene

TRIES = 20
"""Changes that are tried until one makes the caption wrong."""


def captioned(scene: Scene, rng: np.random.Generator, true: bool) -> Caption | None:
    """A caption of ``scene`` that is true, or nearly; None where no change was found that it would tell of."""
    if true:
        return caption(scene, _category(scene, rng), rng)
    for _ in range(TRIES):
        other = altered(scene, rng)
        if other is None or not HELD_OUT.isdisjoint(combinations(other)):
            continue
        said = caption(other, _category(other, rng), rng)
        if not said.holds(scene.figures):
            return said
    return None


def altered(scene: Scene, rng: np.random.Generator) -> Scene | None:
    """A scene in which one thing is otherwise, to be told of, not to be drawn; None where the change changes nothing
    or is not possible."""
    figures = list(scene.figures)
    first, second = rng.permutation(len(figures))[:2] if len(figures) > 1 else (0, 0)
    a, b = figures[first], figures[second]
    what = pick(rng, (*WORDS, "place", "number"))
    if what == "number":
        if first != second and rng.random() < 0.5:
            figures.pop(first)
        elif len(figures) + 1 < len(NUMBERS):
            figures.append(a)
    elif what == "place":
        figures[first], figures[second] = replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)
    elif first != second and rng.random() < 0.5:
        figures[first], figures[second] = (
            replace(one, **{what: getattr(other, what)}) for one, other in ((a, b), (b, a))
        )
    else:
        figures[first] = replace(a, **{what: pick(rng, WORDS[what])})
    return None if figures == list(scene.figures) else replace(scene, figures=tuple(figures))


def _category(scene: Scene, rng: np.random.Generator) -> str:
    """A category whose captions can tell of the scene."""
    shapes = {figure.shape for figure in scene.figures}
    fitting = {1: ("single_object", "colors"), 2: ("two_objects", "position", "attribute_binding")}
    if len(shapes) == len(scene.figures) <= 2:
        return pick(rng, (*fitting[len(shapes)], WHOLE, WHOLE))
    return pick(rng, ("counting", WHOLE)) if len(shapes) == 1 else WHOLE
