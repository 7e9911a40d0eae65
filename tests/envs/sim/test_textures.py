import numpy as np
import pytest

from dualsight.envs.sim.colors import COLORS, mix, rgb
from dualsight.envs.sim.textures import KINDS, REPEAT, SIZE, colors_of, noise, texture

EVERY = [(kind, color) for kind in KINDS for color in colors_of(kind)]


@pytest.mark.parametrize(("kind", "color"), EVERY)
def test_a_texture_has_no_seam(kind, color):
    """The step across the border is no larger than the steps inside, whether the texture is smooth or not."""
    image = texture(kind, color).texture.astype(float)
    for axis in (0, 1):
        steps = np.abs(np.diff(image, axis=axis, append=image.take([0], axis)))
        means = steps.mean(axis=(1 - axis, 2))
        assert means[-1] <= 1.05 * means.max() if means[:-1].max() == 0 else means[-1] <= 1.05 * means[:-1].max()


@pytest.mark.parametrize(("kind", "color"), EVERY)
def test_a_texture_is_uint8_and_repeats_every_so_many_metres(kind, color):
    material = texture(kind, color)
    assert material.texture.shape == (SIZE, SIZE, 3) and material.texture.dtype == np.uint8
    assert material.color == (1.0, 1.0, 1.0) and material.name == f"{color} {kind}"
    assert 0.2 <= REPEAT[kind] <= 20


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others():
    for kind, color in EVERY:
        paint, words = KINDS[kind]
        again = paint(np.array(words[color]), np.random.default_rng([3, len(kind), *color.encode()]))
        assert np.array_equal(texture(kind, color, 3).texture, (np.clip(again, 0, 1) * 255 + 0.5).astype(np.uint8))
        assert not np.array_equal(texture(kind, color, 3).texture, texture(kind, color, 4).texture)


@pytest.mark.parametrize("kind", ["plaster", "carpet", "fabric", "tiles"])
def test_a_colour_is_told_from_every_other(kind):
    means = np.array([texture(kind, color).texture.mean(axis=(0, 1)) for color in COLORS])
    apart = np.linalg.norm(means[:, None] - means[None], axis=2) + 1e3 * np.eye(len(means))
    assert apart.min() > 20


def test_unknown_words_are_named():
    with pytest.raises(KeyError, match="no texture 'lava'; there are planks"):
        texture("lava")
    with pytest.raises(KeyError, match="no colour 'mauve'; there are red"):
        texture("plaster", "mauve")


def test_noise_is_normed_and_stretched_along_x():
    grain = noise(np.random.default_rng(0), 1.2, stretch=12)
    assert grain.mean() == pytest.approx(0, abs=1e-9) and grain.std() == pytest.approx(1)
    along, across = np.abs(np.diff(grain, axis=1)).mean(), np.abs(np.diff(grain, axis=0)).mean()
    assert along < 0.5 * across


def test_colours_mix():
    assert mix(rgb("white"), (0, 0, 0), 1.0).tolist() == [0, 0, 0]
    assert mix((0.2, 0.4, 0.6), (1, 1, 1), 0.5) == pytest.approx([0.6, 0.7, 0.8])
