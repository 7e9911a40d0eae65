"""Scenes and their pictures."""

import numpy as np
import pytest

from dualsight.data.scene_sampling import sample
from dualsight.data.scenes import COLORS, SHAPES, SIZES, TEXTURES, Figure, Ground, Scene, place, relation, render, tones

PAPER = Ground(((240.0, 240.0, 240.0), (240.0, 240.0, 240.0)), 0.0)


def figure(shape="circle", color="red", x=0.5, y=0.5, texture="solid", size="large"):
    return Figure(shape, color, size, texture, x, y, sum(SIZES[size]) / 2)


def test_a_picture_is_a_function_of_its_scene():
    scene = sample(np.random.default_rng(3))
    again = sample(np.random.default_rng(3))
    assert scene == again
    assert np.array_equal(render(scene), render(again))
    assert render(scene).shape == (64, 64, 3) and render(scene).dtype == np.uint8


def test_the_vocabulary_is_wide_enough():
    assert len(SHAPES) >= 6 and len(COLORS) >= 8 and len(SIZES) == 2 and len(TEXTURES) == 3


@pytest.mark.parametrize("shape", SHAPES)
def test_a_picture_at_twice_the_size_is_the_same_picture(shape):
    scene = Scene((figure(shape, "blue", texture="dotted"),), PAPER)
    small, large = render(scene, 64).astype(float), render(scene, 128).astype(float)
    assert np.abs(small - large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))).mean() < 0.5


def test_edges_are_smooth_and_insides_have_the_named_colour():
    picture = render(Scene((figure(color="green"),), PAPER))
    assert tuple(picture[32, 32]) == COLORS["green"]
    assert tuple(picture[0, 0]) == (240, 240, 240)
    between = (picture != 240).any(-1) & (picture != COLORS["green"]).any(-1)
    assert 20 < between.sum() < 120, "an edge of one pixel"


@pytest.mark.parametrize("color", COLORS)
def test_the_tone_of_a_pattern_stands_out_and_keeps_the_hue(color):
    main, second = tones(color)
    assert np.abs(main - second).max() > 60
    assert np.abs(main / main.sum() - second / second.sum()).max() < 0.02


def test_patterns_cover_part_of_a_figure():
    shares = {}
    for texture in TEXTURES:
        picture = render(Scene((figure("square", "red", texture=texture),), PAPER))[22:42, 22:42, 0].astype(float)
        shares[texture] = (picture < 150).mean()
    assert shares["solid"] == 0 and 0.35 < shares["striped"] < 0.65 and 0.15 < shares["dotted"] < 0.5


def test_relations_by_hand():
    left, right, diagonal = figure(x=0.2), figure(x=0.8, y=0.6), figure(x=0.5, y=0.75)
    assert relation(left, right) == "left of" and relation(right, left) == "right of"
    assert relation(figure(y=0.2), figure(y=0.8)) == "above"
    assert relation(diagonal, left, clear=1.5) == "" and relation(diagonal, left) == "right of"


def test_places_by_hand():
    assert place(figure(x=0.2, y=0.2)) == "top left"
    assert place(figure(x=0.8, y=0.7)) == "bottom right"
    assert place(figure(x=0.55, y=0.2)) == "" and place(figure(x=0.55, y=0.2), margin=0.0) == "top right"


def test_figures_never_touch():
    rng = np.random.default_rng(0)
    for _ in range(60):
        scene = sample(rng, layout="free")
        alone = [(render(Scene((f,), PAPER)) != 240).any(-1) for f in scene.figures]
        assert np.sum(alone, axis=0).max() <= 1
