"""What patches of scenes show."""

import math

import numpy as np
import pytest

from dualsight.data.scene_labels import NOTHING, WORDS, LabelledScenes, label, untaught
from dualsight.data.scene_sampling import HELD_OUT
from dualsight.data.scenes import Figure, Ground, Scene

GROUND = Ground(((240.0, 240.0, 240.0), (240.0, 240.0, 240.0)), 0.0)


def word(labels, patch, field):
    column = list(WORDS).index(field)
    return WORDS[field][labels.words[patch, column]]


def test_a_patch_belongs_to_the_figure_that_covers_most_of_it():
    star = Figure("square", "red", "large", "striped", 0.25, 0.25, 0.2)
    ring = Figure("circle", "blue", "small", "solid", 0.75, 0.75, 0.13)
    labels = label(Scene((star, ring), GROUND), 4)
    assert [word(labels, 0, field) for field in WORDS] == ["square", "red", "large", "striped"]
    assert [word(labels, 15, field) for field in WORDS] == ["circle", "blue", "small", "solid"]
    assert (labels.words[3] == NOTHING).all(), "the top right patch is empty"
    # the first patch's centre is at 1/8, the figure's at 1/4
    assert labels.centre[0] == pytest.approx([0.125, 0.125])
    assert labels.centre[3] == pytest.approx([0.0, 0.0])


def test_x_runs_along_a_row_of_patches():
    labels = label(Scene((Figure("circle", "red", "small", "solid", 0.7, 0.3, 0.13),), GROUND), 8)
    shown = np.flatnonzero(labels.words[:, 0] != NOTHING)
    patches = np.stack([shown % 8, shown // 8], -1) / 8 + 1 / 16
    assert labels.centre[shown] + patches == pytest.approx(np.tile([0.7, 0.3], (len(shown), 1)))
    area = math.pi * 0.13**2 * 64
    assert area < len(shown) < 3 * area


def test_scenes_follow_from_seed_and_number():
    scenes = LabelledScenes(3, seed=4)
    picture, labels = scenes[2]
    again, same = LabelledScenes(9, seed=4)[2]
    assert np.array_equal(picture, again) and np.array_equal(labels.words, same.words)
    assert picture.shape == (64, 64, 3) and labels.words.shape == (64, 4)
    with pytest.raises(IndexError, match="3 scenes"):
        scenes[3]


def test_a_patch_is_not_taught_against_what_training_leaves_out():
    for said in (("star", "blue", "small", "dotted"), ("cross", "pink", "large", "solid")):
        words = np.array([[values.index(word) for values, word in zip(WORDS.values(), said, strict=True)]])
        shape, color, _, texture = said
        pairs = {
            "shape": lambda value, c=color, t=texture: {("color", c, value), ("texture", t, value)},
            "color": lambda value, s=shape: {("color", value, s)},
            "size": lambda value: set(),
            "texture": lambda value, s=shape: {("texture", value, s)},
        }
        for field, values in WORDS.items():
            expected = [bool(pairs[field](value) & HELD_OUT) for value in values]
            assert untaught(words, field)[0].tolist() == expected, (said, field)
    assert untaught(words, "color").sum() == 1
