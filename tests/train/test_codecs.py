"""Both codecs trained for a few steps on plain shapes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualsight.checkpoints.codecs import load_codec
from dualsight.pathways.vae import TINY as TINY_VAE
from dualsight.pathways.vae import VAE
from dualsight.pathways.vq import TINY as TINY_VQ
from dualsight.pathways.vq import VQTokenizer
from dualsight.train.codecs import (
    LossWeights,
    Revival,
    VAETraining,
    VQTraining,
    band_distance,
    pixels,
    train_vae,
    train_vq,
)
from dualsight.train.trainer import Run
from tests.train.learning import learn

SMALL_VQ = replace(
    TINY_VQ,
    base_channels=8,
    encoder_ch_mult=(1, 2),
    decoder_ch_mult=(1, 2),
    z_channels=8,
    codebook_size=32,
    norm_groups=2,
)
SMALL_VAE = replace(TINY_VAE, base_channels=8, ch_mult=(1, 2), norm_groups=2)


def shapes(count: int = 12) -> list[np.ndarray]:
    """Boxes of a plain colour on a plain ground, 16 x 16."""
    rng = np.random.default_rng(0)
    images = np.empty((count, 16, 16, 3), np.uint8)
    for image in images:
        image[:] = rng.integers(256, size=3)
        top, left = rng.integers(1, 8, size=2)
        image[top : top + 6, left : left + 6] = rng.integers(256, size=3)
    return list(images)


def losses(model, steps: int, rate: float = 5e-3) -> list[dict[str, float]]:
    return learn(model, pixels(shapes()), steps, rate)


def test_pixels_lie_in_minus_one_to_one():
    image = np.zeros((2, 4, 3), np.uint8)
    image[0, 1] = (255, 0, 51)
    batch = pixels([image])["images"]
    assert batch.shape == (1, 3, 2, 4) and batch.dtype == torch.float32
    assert batch[0, :, 0, 1].tolist() == pytest.approx([1, -1, -0.6])


def test_a_line_that_is_missing_costs_more_in_its_bands_than_a_shade_that_is_off():
    image = torch.zeros(1, 3, 16, 16)
    line, shade = image.clone(), image + 1 / 16
    line[..., 5] = 1  # the same L1 distance
    assert band_distance(image, image) == 0
    assert band_distance(line, image) > 10 * band_distance(shade, image)


def test_the_tokenizer_learns_and_reports():
    torch.manual_seed(0)
    seen = losses(VQTraining(VQTokenizer(SMALL_VQ), LossWeights(squared=1.0), Revival()), 40)
    assert seen[-1]["loss"] < 0.6 * seen[0]["loss"]
    assert seen[-1]["psnr"] > seen[0]["psnr"] + 2.5
    assert seen[0]["revived"] > 16, "the codebook starts on the features of the first batch"
    assert 0.2 < seen[-1]["codebook_use"] <= 1
    assert {"bands", "commitment", "revived"} <= seen[-1].keys()


def test_the_vae_learns_and_reports():
    torch.manual_seed(0)
    seen = losses(VAETraining(VAE(SMALL_VAE), LossWeights()), 30)
    assert seen[-1]["loss"] < 0.6 * seen[0]["loss"]
    assert seen[-1]["psnr"] > seen[0]["psnr"] + 2.5 and seen[-1]["kl"] > 0


def test_the_first_steps_are_not_quantised():
    torch.manual_seed(0)
    model = VQTraining(VQTokenizer(SMALL_VQ), LossWeights(), Revival(), free_steps=2)
    batch = pixels(shapes())["images"]
    codes = model.tokenizer.quantize.embedding.weight
    before = codes.detach().clone()
    with torch.no_grad():
        free = model.tokenizer(batch, quantise=False).images
        assert torch.equal(
            free,
            model.tokenizer._decode(model.tokenizer.features(batch), model.tokenizer.config.grid(*batch.shape[-2:])),
        )
        assert "revived" not in model(batch) and torch.equal(codes, before)
        assert model(batch)["revived"] > 16, "then all codes go where features are"


def test_codes_that_nothing_chooses_come_back_where_features_are():
    torch.manual_seed(0)
    model = VQTraining(VQTokenizer(SMALL_VQ), LossWeights(), Revival(decay=0.5, share=0.2))
    model.uses.fill_(1)
    batch = pixels(shapes())["images"]
    codes = model.tokenizer.quantize.embedding.weight
    alive = model.tokenizer(batch).ids.unique()
    before = codes.detach().clone()
    revived = [int(model(batch)["revived"]) for _ in range(3)]
    assert revived[:2] == [0, 0] and revived[2] > 0, "a share of 0.2 is reached in the third halving"
    moved = (codes != before).any(1)
    assert int(moved.sum()) == revived[2]
    features = model.tokenizer.features(batch).flatten(0, 1)
    assert (torch.cdist(codes[moved], features).amin(1) < 1e-3).all()
    assert len(model.tokenizer(batch).ids.unique()) > len(alive)
    model.eval()
    before = codes.detach().clone()
    assert "revived" not in model(batch) and torch.equal(codes, before)


def test_use_is_one_when_all_codes_are_chosen_alike():
    model = VQTraining(VQTokenizer(SMALL_VQ), LossWeights(), Revival(decay=0.0))
    model.count(torch.arange(32).repeat(3)[None])
    assert torch.equal(model.uses, torch.ones(32))
    model.count(torch.zeros(1, 10, dtype=torch.long))
    assert model.uses.tolist() == [32] + [0] * 31


def test_trained_codecs_are_written_and_read_back(tmp_path):
    vq = load_codec(train_vq(iter(shapes()), Run(tmp_path / "vq", 2, batch=4), SMALL_VQ))
    assert isinstance(vq, VQTokenizer) and vq.config == SMALL_VQ
    vae = load_codec(train_vae(shapes(), Run(tmp_path / "vae", 2, batch=4), SMALL_VAE))
    assert isinstance(vae, VAE) and vae.config == SMALL_VAE
    latents = vae.encode(pixels(shapes())["images"])
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)


def test_training_is_a_function_of_its_seed(tmp_path):
    one, two = (load_codec(train_vq(shapes(), Run(tmp_path / name, 2, batch=4), SMALL_VQ)) for name in "ab")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
