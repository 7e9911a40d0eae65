"""Captions say what is there, and can be checked against what is there."""

from dataclasses import replace

import numpy as np
import pytest

from dualsight.data.scene_sampling import HELD_OUT, beside, together
from dualsight.data.scene_text import CATEGORIES, WHOLE, Caption, Phrase, describe, plural, sample_caption, with_article
from dualsight.data.scenes import Figure, Ground, Scene


def figure(shape, color, x=0.5, y=0.5, size="small", texture="solid"):
    return Figure(shape, color, size, texture, x, y, 0.13)


@pytest.mark.parametrize("category", (*CATEGORIES, WHOLE))
def test_a_caption_holds_of_its_scene_and_of_no_scene_with_less_or_other(category):
    rng = np.random.default_rng(0)
    for _ in range(40):
        scene, caption = sample_caption(rng, category)
        figures = scene.figures
        assert caption.holds(figures), caption.text
        assert caption.holds(figures[::-1]), "in any order"
        assert not caption.holds(figures[1:])
        assert not caption.holds((*figures, figures[0]))
        nameless = not any(phrase.shape for phrase in caption.phrases)
        assert caption.holds([replace(f, shape="") for f in figures]) == nameless


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_held_out_caption_says_a_held_out_combination(category):
    rng = np.random.default_rng(1)
    kind = CATEGORIES[category][1]
    for _ in range(20):
        _, caption = sample_caption(rng, category, held_out=True)
        first, *others = caption.phrases
        said = {
            "color": [("color", p.color, p.shape) for p in caption.phrases],
            "texture": [("texture", first.texture, first.shape)],
            "count": [("count", ("", "", "two", "three", "four")[first.count], first.shape)],
            "together": [together(first.shape, p.shape) for p in others],
            "relation": [beside(first.shape, caption.relation or "left of", p.shape) for p in others],
        }[kind]
        assert set(said) & HELD_OUT, caption.text


def test_wording_varies():
    rng = np.random.default_rng(2)
    for category in CATEGORIES:
        assert len({sample_caption(rng, category)[1].text for _ in range(40)}) >= 20


def test_relations_are_checked_on_the_longer_way():
    caption = Caption("position", "a star left of a ring", (Phrase("star"), Phrase("ring")), "left of")
    assert caption.holds([figure("star", "red", 0.2, 0.4), figure("ring", "blue", 0.7, 0.5)])
    assert not caption.holds([figure("star", "red", 0.7, 0.4), figure("ring", "blue", 0.2, 0.5)])
    assert not caption.holds([figure("star", "red", 0.4, 0.2), figure("ring", "blue", 0.5, 0.8)])


def test_binding_is_checked():
    caption = Caption("attribute_binding", "", (Phrase("star", "red"), Phrase("ring", "blue")))
    assert caption.holds([figure("star", "red"), figure("ring", "blue")])
    assert not caption.holds([figure("star", "blue"), figure("ring", "red")])


def test_words():
    assert str(Phrase("cross", "orange", "small", "striped")) == "a small striped orange cross"
    assert str(Phrase("cross", count=3)) == "three crosses"
    assert str(Phrase("star", "orange", place="top left")) == "an orange star in the top left"
    assert plural("circle") == "circles" and with_article("orange star") == "an orange star"


def test_a_description_goes_from_left_to_right():
    figures = figure("star", "red", 0.8), figure("ring", "blue", 0.2), figure("star", "red", 0.5)
    assert describe(Scene(figures, Ground(((240.0,) * 3,) * 2, 0.0))) == "a blue ring and two red stars"


def test_unknown_categories_are_named():
    with pytest.raises(ValueError, match="no category 'style'"):
        sample_caption(np.random.default_rng(0), "style")
    with pytest.raises(ValueError, match="no category 'scene'"):
        sample_caption(np.random.default_rng(0), WHOLE, held_out=True)


def test_of_some_pairs_in_whole_scenes_it_is_said_how_they_lie():
    captions = [sample_caption(np.random.default_rng(seed), WHOLE)[1] for seed in range(200)]
    related = [caption for caption in captions if caption.relation]
    assert 20 < len(related) < 100
    for caption in related:
        assert len(caption.phrases) == 2 and not any(phrase.place for phrase in caption.phrases)


def test_shapes_may_have_to_suffice():
    captions = [sample_caption(np.random.default_rng(seed), WHOLE)[1] for seed in range(200)]
    colorless = [caption for caption in captions if not any(phrase.color for phrase in caption.phrases)]
    assert 10 < len(colorless) < 80
    for caption in colorless:
        assert len({phrase.shape for phrase in caption.phrases}) == len(caption.phrases)


@pytest.mark.parametrize("category", ("single_object", WHOLE))
def test_a_texture_that_the_shape_gives_away_may_be_left_unsaid(category):
    one_sided = {shape for kind, *_, shape in HELD_OUT if kind == "texture"}
    said = {True: set(), False: set()}
    for keep, textures in said.items():
        for seed in range(150):
            scene, caption = sample_caption(np.random.default_rng(seed), category, one_sided=keep)
            assert caption.holds(scene.figures)
            textures |= {phrase.shape for phrase in caption.phrases if phrase.texture}
    assert said[True] & one_sided and not said[False] & one_sided and said[False] - one_sided


def test_some_figures_of_a_whole_scene_are_not_named():
    captions = [sample_caption(np.random.default_rng(seed), WHOLE)[1] for seed in range(200)]
    nameless = [caption for caption in captions if any(not phrase.shape for phrase in caption.phrases)]
    assert 10 < len(nameless) < 100
    assert all("figure" in caption.text for caption in nameless)
    for caption in nameless:
        colors = [phrase.color for phrase in caption.phrases]
        assert len(set(colors)) == len(colors)
