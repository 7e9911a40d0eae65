"""Captions that are true and captions that nearly are: both are what they say, and name nothing that is held out."""

import numpy as np
import pytest

from dualsight.data.scene_negatives import altered, captioned
from dualsight.data.scene_questions import CAPTION, ask
from dualsight.data.scene_sampling import HELD_OUT, LAYOUTS, combinations, sample
from dualsight.data.scene_text import CATEGORIES, WHOLE
from dualsight.data.scenes import Figure, Ground, Scene

GROUND = Ground(((230.0,) * 3,) * 2, 0.0)
PAIR = Scene(
    (
        Figure("circle", "red", "small", "solid", 0.2, 0.5, 0.13),
        Figure("cross", "blue", "large", "dotted", 0.8, 0.5, 0.19),
    ),
    GROUND,
)


def scenes(count, seed=0):
    rng = np.random.default_rng(seed)
    return [(sample(rng, layout), rng) for _ in range(count) for layout in LAYOUTS]


def test_a_caption_holds_if_it_should():
    said = [(scene, captioned(scene, rng, true), true) for scene, rng in scenes(40) for true in (True, False)]
    found = [(scene, caption, true) for scene, caption, true in said if caption]
    assert len(found) > 0.97 * len(said), "a change that can be told of is nearly always found"
    assert all(caption.holds(scene.figures) == true for scene, caption, true in found)
    assert {caption.category for _, caption, true in found if not true} == {*CATEGORIES, WHOLE}


def test_a_negative_is_hard():
    """Of its words, most would be said of the scene, too."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        caption = captioned(PAIR, rng, False)
        words = {w for p in caption.phrases for w in (p.shape, p.color, p.size, p.texture, p.place) if w}
        true = {"circle", "cross", "red", "blue", "small", "large", "solid", "dotted"}
        assert len({w for w in words if "top" not in w and "bottom" not in w} - true) <= 1, caption


def test_two_figures_exchange_colours():
    rng = np.random.default_rng(0)
    colors = {tuple(f.color for f in other.figures) for _ in range(200) if (other := altered(PAIR, rng))}
    assert ("blue", "red") in colors, "the hardest: every word is right"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_thing_is_otherwise(layout):
    rng = np.random.default_rng(2)
    for _ in range(50):
        scene = sample(rng, layout)
        other = altered(scene, rng)
        if other is None:
            continue
        assert other != scene and 1 <= len(other.figures) <= 4
        if len(other.figures) == len(scene.figures):
            assert sum(a != b for a, b in zip(scene.figures, other.figures, strict=True)) <= 2


def test_training_asks_for_nothing_that_is_held_out(monkeypatch):
    """Neither in what is there nor in what is not."""
    told = []
    from dualsight.data import scene_negatives

    tell = scene_negatives.caption
    monkeypatch.setattr(scene_negatives, "caption", lambda scene, *rest: (told.append(scene), tell(scene, *rest))[1])
    questions = [ask(scene, CAPTION, rng) for scene, rng in scenes(50, seed=3)]
    answers = [question.answer for question in questions if question]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6
    assert all(HELD_OUT.isdisjoint(combinations(scene)) for scene in told)
