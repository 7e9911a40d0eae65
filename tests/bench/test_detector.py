"""The detector of generated scenes, held to what it is trusted with."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dualsight.bench.detector import detect
from dualsight.data.scene_sampling import KIND_LAYOUTS, sample
from dualsight.data.scenes import SHAPES, SIZES, Figure, Ground, Scene, render

PAPER = Ground(((238.0, 238.0, 238.0), (238.0, 238.0, 238.0)), 0.0)
ATTRIBUTES = ("shape", "color", "size", "texture")


@pytest.fixture(scope="module")
def scenes():
    """Fresh scenes, half of them with held-out combinations."""
    rng = np.random.default_rng(20_000)
    kinds = tuple(KIND_LAYOUTS)
    return [sample(rng, held_out=kinds[n % 5] if n % 2 else None) for n in range(200)]


def reads(scene: Scene, image, attributes=ATTRIBUTES) -> bool:
    """Are number and attributes of all figures right?"""
    found = Counter(tuple(getattr(f, name) for name in attributes) for f in detect(image))
    return found == Counter(tuple(getattr(f, name) for name in attributes) for f in scene.figures)


def share(scenes, spoil, attributes=ATTRIBUTES) -> float:
    return float(np.mean([reads(scene, spoil(render(scene)), attributes) for scene in scenes]))


def blurred(sigma):
    return lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(sigma):
    rng = np.random.default_rng(0)
    return lambda image: np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


def test_clean_renders_are_read_without_an_error_in_99_percent(scenes):
    assert share(scenes, lambda image: image) >= 0.99


def test_places_and_boxes_are_right(scenes):
    for scene in scenes[:30]:
        found = detect(render(scene))
        for figure, truth in zip(found, sorted(scene.figures, key=lambda f: f.x), strict=True):
            left, top, right, bottom = figure.box
            if len(scene.figures) > 1 and abs(figure.x - truth.x) > 0.05:
                continue  # two figures over each other come in either order
            assert abs(figure.radius - truth.radius) < 0.015
            assert left < truth.x < right and top < truth.y < bottom


@pytest.mark.parametrize(
    ("spoil", "least"),
    [(blurred(0.7), 0.97), (blurred(1.0), 0.93), (noisy(8), 0.97)],
    ids=["blur 0.7", "blur 1", "noise 8"],
)
def test_number_shape_and_colour_survive_what_decoders_do(scenes, spoil, least):
    assert share(scenes[:60], spoil, ("shape", "color")) >= least


@pytest.mark.parametrize("shape", SHAPES)
def test_larger_pictures_are_read_too(shape):
    figure = Figure(shape, "blue", "large", "dotted", 0.4, 0.6, sum(SIZES["large"]) / 2)
    (found,) = detect(render(Scene((figure,), PAPER), 128))
    assert (found.shape, found.color, found.size, found.texture) == (shape, "blue", "large", "dotted")


def test_what_is_no_known_shape_is_called_unknown():
    y, x = np.mgrid[:64, :64]
    blots = {
        "bar": (abs(x - 32) < 16) & (abs(y - 32) < 4),
        "half circle": ((x - 32) ** 2 + (y - 32) ** 2 < 150) & (y < 32),
        "two circles run into one": ((x - 24) ** 2 + (y - 32) ** 2 < 90) | ((x - 40) ** 2 + (y - 32) ** 2 < 90),
    }
    for name, blot in blots.items():
        image = np.full((64, 64, 3), 238, np.uint8)
        image[blot] = (214, 34, 38)
        assert [figure.shape for figure in detect(image)] == [""], name


def test_an_empty_picture_and_pure_noise_show_nothing_that_was_asked_for():
    assert detect(np.full((64, 64, 3), 230, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert not [figure for figure in detect(noise) if figure.shape]


def test_wrong_pictures_are_refused():
    with pytest.raises(ValueError, match=r"\(N, N, 3\) uint8, not \(64, 32, 3\)"):
        detect(np.zeros((64, 32, 3), np.uint8))
