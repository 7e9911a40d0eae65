"""What training may see, and what only tests see."""

from collections import Counter

import numpy as np
import pytest

from dualsight.data.scene_sampling import (
    HELD_OUT,
    KIND_LAYOUTS,
    LAYOUTS,
    beside,
    combinations,
    sample,
)
from dualsight.data.scenes import COLORS, SHAPES, Figure, Ground, Scene


def test_no_training_scene_holds_a_held_out_combination():
    rng = np.random.default_rng(0)
    for n in range(500):
        assert not combinations(sample(rng, layout=(None, *LAYOUTS)[n % 5])) & HELD_OUT


@pytest.mark.parametrize("kind", KIND_LAYOUTS)
def test_a_test_scene_holds_one_of_its_kind(kind):
    rng = np.random.default_rng(1)
    for layout in (None, *KIND_LAYOUTS[kind]):
        for _ in range(3):
            held = combinations(sample(rng, layout, held_out=kind)) & HELD_OUT
            assert any(combination[0] == kind for combination in held)


def test_every_word_is_seen_in_training():
    rng = np.random.default_rng(2)
    scenes = [sample(rng) for _ in range(400)]
    seen = Counter(word for scene in scenes for c in combinations(scene) for word in (c[0], *c[1:]))
    for word in (*SHAPES, *COLORS, "two", "three", "four", "left of", "above", "striped", "dotted"):
        assert seen[word] >= 10, word


def test_each_shape_and_each_colour_misses_one_partner():
    pairs = [c[1:] for c in HELD_OUT if c[0] == "color"]
    assert sorted(color for color, _ in pairs) == sorted(COLORS)
    assert sorted(shape for _, shape in pairs) == sorted(SHAPES)
    assert Counter(c[0] for c in HELD_OUT) == {"color": 8, "relation": 16, "texture": 4, "count": 6, "together": 4}


def test_no_two_relations_of_one_pair_of_shapes_are_held_out():
    pairs = Counter(frozenset((a, b)) for kind, a, _, b in (c for c in HELD_OUT if c[0] == "relation"))
    assert max(pairs.values()) == 1


def test_combinations_by_hand():
    def figure(shape, color, x, y):
        return Figure(shape, color, "small", "solid", x, y, 0.13)

    figures = figure("star", "red", 0.2, 0.5), figure("ring", "blue", 0.8, 0.5), figure("star", "blue", 0.8, 0.1)
    scene = Scene(figures, Ground(((240.0,) * 3,) * 2, 0.0))
    assert combinations(scene) == {
        ("color", "red", "star"), ("color", "blue", "ring"), ("color", "blue", "star"),
        ("texture", "solid", "star"), ("texture", "solid", "ring"), ("count", "two", "star"),
        ("together", "ring", "star"), ("relation", "star", "left of", "ring"), ("relation", "star", "above", "ring"),
    }  # fmt: skip
    assert beside("ring", "right of", "star") == beside("star", "left of", "ring")


def test_wrong_layouts_and_kinds_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no layout 'ring'"):
        sample(rng, layout="ring")
    with pytest.raises(ValueError, match="'count' is held out in the layout 'single'"):
        sample(rng, layout="single", held_out="count")
