"""Questions about scenes, in varied wording, with answers of one or two words (`answers` says which are accepted).

Kinds: *attribute* (colour, shape, size, texture, place on the canvas), *count*, *relation*, and *existence* with the
three ways of POPE (Li et al., arXiv:2305.10355) to choose what is asked for where the answer is no: any absent figure
(random), an absent one of a frequent shape (popular), one whose colour and shape are both there but on different
figures (adversarial). Half of the answers are yes. Training also asks whether whole captions hold (`scene_negatives`).

In a test, each question turns on a held-out combination: the figure asked about has one, the number or the relation
is one; an existence question names one whether it is there or not, so that its wording does not give the answer away.
In training no question names one either. So a loss over all answers would teach as rules what is only missing: that
there are never four crosses, that no star is red. A question of training names the answers that would make a
combination that is held out (``untaught``), and nothing is taught of them, neither for nor against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from dualsight.data.scene_negatives import captioned
from dualsight.data.scene_sampling import HELD_OUT, NUMBERS, POPULAR, beside, left_out, sample
from dualsight.data.scene_text import RELATION_WORDS, pick, plural, with_article
from dualsight.data.scenes import COLORS, SHAPES, Figure, Scene, place, relation

EXISTENCE = ("existence_random", "existence_popular", "existence_adversarial")
KINDS = ("attribute", "count", "relation", *EXISTENCE)
CAPTION = "caption"
"""The kind that training has besides: whether a picture shows all that a caption says."""
HELD_OUT_KINDS = {"attribute": ("color", "texture"), "count": ("count",), "relation": ("relation",)}
"""What a test question of a kind turns on; existence turns on colours."""

ASKING = {
    "color": ("What color is {}?", "What colour is {}?", "Which color does {} have?", "What is the color of {}?"),
    "shape": ("What shape is {}?", "Which shape does {} have?", "What is the shape of {}?"),
    "size": ("What size is {}?", "Is {} small or large?", "How big is {}?"),
    "texture": ("What texture does {} have?", "Is {} solid, striped or dotted?", "Which pattern does {} have?"),
    "place": ("Where is {}?", "In which corner is {}?", "In which part of the picture is {}?"),
}
COUNTING = ("How many {} are there?", "How many {} do you see?", "Count the {}.", "What is the number of {}?")
WHERE = ("Where is {} relative to {}?", "Where is {}, seen from {}?", "Where does {} lie in relation to {}?")
WHETHER = ("Is {} {} {}?", "Does {} lie {} {}?")
WHICH = ("What shape is {} {}?", "Which shape is {} {}?")
SHOWING = ("Does the picture show {}?", "Does the picture show {}?", "Is there {}?", "Do you see {}?")
EXISTING = ("Is there {}?", "Do you see {}?", "Does the picture show {}?", "Is {} in the picture?")

Pair = tuple[str, str]
"""A colour and a shape; one of them "" where it is not said."""
PAIRS: tuple[Pair, ...] = tuple((color, shape) for color in COLORS for shape in SHAPES)


@dataclass(frozen=True)
class Question:
    """What is asked of a picture, and the answer."""

    kind: str
    text: str
    answer: str
    untaught: tuple[str, ...] = ()
    """Answers of which this question's training says nothing, since it holds no picture where they would be right."""


def sample_question(rng: np.random.Generator, kind: str, held_out: bool = False) -> tuple[Scene, Question]:
    """A scene and a question of a kind about it, of training or of a test.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of question {kind!r}; there are {', '.join(KINDS)}")
    number = pick(rng, NUMBERS[2:]) if kind == "count" and held_out else None  # equally often, as in training
    while True:
        turns_on = pick(rng, HELD_OUT_KINDS.get(kind, ("color",))) if held_out else None
        scene = sample(rng, held_out=turns_on)
        question = ask(scene, kind, rng, turns_on)
        if question is not None and number in (None, question.answer):
            return scene, question


def ask(scene: Scene, kind: str, rng: np.random.Generator, turns_on: str | None = None) -> Question | None:
    """A question of a kind about ``scene``, or None where it gives no occasion for the one that was drawn.

    Args:
        turns_on: the kind of held-out combination that it has to turn on; None in training.
    """
    if kind == "attribute":
        asked = _attribute(scene, rng, turns_on)
    elif kind == "count":
        asked = _count(scene, rng, turns_on)
    elif kind == "relation":
        asked = _relation(scene, rng, turns_on)
    elif kind == CAPTION:
        asked = _caption(scene, rng)
    else:
        asked = _existence(scene, rng, kind, turns_on)
    if asked is None:
        return None
    text, answer, untaught = asked
    text = text.replace("figure", pick(rng, ("figure", "object")))
    return Question(kind, text, answer, () if turns_on else untaught)


Asked = tuple[str, str, tuple[str, ...]]
"""A question, its answer, and the answers that no scene of training could have made right."""


def _attribute(scene: Scene, rng: np.random.Generator, turns_on: str | None) -> Asked | None:
    figures = scene.figures
    if turns_on:
        figures = [f for f in figures if (turns_on, getattr(f, turns_on), f.shape) in HELD_OUT]
    figure = figures[rng.integers(len(figures))]
    attribute = pick(rng, (turns_on, "shape") if turns_on else tuple(ASKING))
    names = _names(figure, scene, hide=attribute)
    answer = _attributes(figure)[attribute]
    if not names or not answer:
        return None
    return pick(rng, ASKING[attribute]).format(pick(rng, names)), answer, left_out(figure, attribute)


def _count(scene: Scene, rng: np.random.Generator, turns_on: str | None) -> Asked:
    figures = scene.figures
    shapes = Counter(f.shape for f in figures)
    counts = {plural(shape): n for shape, n in shapes.items()}
    if turns_on:
        counts = {plural(s): n for s, n in shapes.items() if n > 1 and ("count", NUMBERS[n], s) in HELD_OUT}
    else:
        # Many kinds of things, so that counting does not become a matter of what is counted.
        said = [(getattr(f, attribute), f.shape) for f in figures for attribute in ("color", "size", "texture")]
        counts |= {f"{word} figures": n for word, n in Counter(word for word, _ in said).items()}
        counts |= {plural(f"{word} {shape}"): n for (word, shape), n in Counter(said).items()}
        counts |= {f"{plural(a)} and {plural(b)}": m + n for (a, m), (b, n) in permutations(shapes.items(), 2)}
        counts["figures"] = len(figures)
    # Numbers are asked for equally often as far as the scene has them: else "one" would nearly always be right.
    number = int(rng.permutation(sorted(set(counts.values())))[0])
    subject = pick(rng, [words for words, n in counts.items() if n == number])
    untaught = [n for shape in SHAPES if subject == plural(shape) for n in NUMBERS if ("count", n, shape) in HELD_OUT]
    return pick(rng, COUNTING).format(subject), NUMBERS[number], tuple(untaught)


def _relation(scene: Scene, rng: np.random.Generator, turns_on: str | None) -> Asked | None:
    ordered = [(a, b) for a, b in permutations(scene.figures, 2) if relation(a, b, clear=1.5)]
    if turns_on:
        ordered = [(a, b) for a, b in ordered if beside(a.shape, relation(a, b), b.shape) in HELD_OUT]
    if not ordered:
        return None
    a, b = ordered[rng.integers(len(ordered))]
    names = [[n for n in _names(f, scene, hide="place") if n.endswith(f.shape)] for f in (a, b)]
    if not all(names):
        return None
    name_a, name_b = (pick(rng, options) for options in names)
    actual = relation(a, b)
    form = rng.integers(3)
    if form == 0 and len(scene.figures) == 2:
        text = pick(rng, WHICH).format(pick(rng, RELATION_WORDS[actual]), name_b)
        return text, a.shape, tuple(shape for shape in SHAPES if beside(shape, actual, b.shape) in HELD_OUT)
    if form == 1:
        said = actual if rng.random() < 0.5 else pick(rng, [word for word in RELATION_WORDS if word != actual])
        if not turns_on and a.shape != b.shape and beside(a.shape, said, b.shape) in HELD_OUT:
            return None
        text = pick(rng, WHETHER).format(name_a, pick(rng, RELATION_WORDS[said]), name_b)
        return text, "yes" if said == actual else "no", ()
    untaught = tuple(word.removesuffix(" of") for word in RELATION_WORDS if beside(a.shape, word, b.shape) in HELD_OUT)
    return pick(rng, WHERE).format(name_a, name_b), actual.removesuffix(" of"), untaught


def _existence(scene: Scene, rng: np.random.Generator, kind: str, turns_on: str | None) -> Asked | None:
    present: set[Pair] = {(f.color, f.shape) for f in scene.figures}
    absent: Iterable[Pair] = set(PAIRS) - present
    colors, shapes = {color for color, _ in present}, {shape for _, shape in present}
    if kind == "existence_popular":
        absent = [(color, shape) for color, shape in absent if shape in POPULAR]
    elif kind == "existence_adversarial":
        absent = [(color, shape) for color, shape in absent if color in colors and shape in shapes]
    elif not turns_on and rng.random() < 0.4:  # a shape or a colour alone
        present = {("", shape) for shape in shapes} | {(color, "") for color in colors}
        absent = {*(("", shape) for shape in SHAPES), *((color, "") for color in COLORS)} - present
    named = [sorted(p for p in pairs if (("color", *p) in HELD_OUT) == bool(turns_on)) for pairs in (present, absent)]
    if not all(named):
        return None  # only where both answers are possible: else the harder way would mostly be answered by yes
    yes = rng.random() < 0.5
    candidates = named[0] if yes else named[1]
    color, shape = candidates[rng.integers(len(candidates))]
    words = with_article(f"{color} {shape}".strip()) if shape else f"anything {color}"
    return pick(rng, EXISTING).format(words), "yes" if yes else "no", ()


def _caption(scene: Scene, rng: np.random.Generator) -> Asked | None:
    true = rng.random() < 0.5
    said = captioned(scene, rng, true)
    return (pick(rng, SHOWING).format(said.text), "yes" if true else "no", ()) if said else None


def _attributes(figure: Figure) -> dict[str, str]:
    return {
        "color": figure.color,
        "shape": figure.shape,
        "size": figure.size,
        "texture": figure.texture,
        "place": place(figure),
    }


def _names(figure: Figure, scene: Scene, hide: str) -> Sequence[str]:
    """Every way to name ``figure`` and no other, without the attribute ``hide``."""
    own, others = _attributes(figure), [_attributes(f) for f in scene.figures if f is not figure]
    names = []
    for said in (("shape",), ("color", "shape"), ("size", "shape"), ("texture", "shape"), ("color",), ("place",)):
        unique = not any(all(other[key] == own[key] for key in said) for other in others)
        if hide in said or not all(own[key] for key in said) or not unique:
            continue
        if said == ("place",):
            if not _alone_there(figure, scene):
                continue
            names.append(f"the figure in the {own['place']}")
        else:
            names.append("the " + " ".join(own[key] for key in said) + ("" if "shape" in said else " figure"))
    return names


def _alone_there(figure: Figure, scene: Scene) -> bool:
    """Does no other figure have its centre in the same quarter, not even near a middle line?"""
    return sum(place(f, margin=0.0) == place(figure) for f in scene.figures) == 1
