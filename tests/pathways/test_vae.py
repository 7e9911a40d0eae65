import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dualsight.pathways.vae import TINY, VAE, DiffusersVAE, VAEConfig

SMALL = replace(TINY, base_channels=8, ch_mult=(1, 2))


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return VAE(SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_tiny_makes_4_x_16_x_16_of_64_x_64_pixels():
    with torch.device("meta"):
        model = VAE(TINY)
        assert (model.channels, model.factor) == (4, 4)
        latents = model.encode(torch.zeros(2, 3, 64, 64))
        assert latents.shape == (2, 4, 16, 16) and model.decode(latents).shape == (2, 3, 64, 64)


def test_standardised_latents_have_zero_mean_and_unit_variance(vae, images):
    decoded = vae.decode(vae.encode(images))
    vae.standardise(images)
    latents = vae.encode(images)
    close(latents.mean((0, 2, 3)), torch.zeros(4))
    close(latents.std((0, 2, 3)), torch.ones(4))
    close(vae.decode(latents), decoded)
    assert {"shift", "scale"} <= vae.state_dict().keys(), "a checkpoint keeps the standard"


def test_a_batch_in_chunks_equals_one_by_one(vae, images):
    latents = vae.encode(images, chunk=2)
    close(latents, torch.cat([vae.encode(image[None]) for image in images]))
    close(vae.decode(latents, chunk=2), torch.cat([vae.decode(row[None]) for row in latents]))


def test_the_divergence_is_that_of_the_closed_form(vae, images):
    output = vae(images)
    mean, log_variance = vae.posterior(images)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    close(output.kl, torch.distributions.kl_divergence(q, standard).mean())


def test_bad_sizes_are_named(vae, images):
    with pytest.raises(ValueError, match=r"8 x 11 pixels.*multiples of 2"):
        vae.encode(images[..., :11])


class Halves:
    """The interface of diffusers' AutoencoderKL: every 2 x 2 pixels become their mean."""

    dtype = torch.float32
    config = SimpleNamespace(latent_channels=3, block_out_channels=(8, 16), scaling_factor=0.5, shift_factor=0.25)

    def encode(self, images):
        mean = torch.nn.functional.avg_pool2d(images, 2)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: mean))

    def decode(self, latents):
        return SimpleNamespace(sample=torch.nn.functional.interpolate(latents, scale_factor=2))


def test_diffusers_latents_are_shifted_and_scaled(images):
    codec = DiffusersVAE(Halves())
    latents = codec.encode(images)
    means = torch.nn.functional.avg_pool2d(images, 2)
    close(latents, (means - 0.25) * 0.5)
    close(codec.decode(latents), torch.nn.functional.interpolate(means, scale_factor=2))
    assert (codec.channels, codec.factor) == (3, 2)


def test_the_real_autoencoder_fits(images, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    block = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    made = diffusers.AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, **block)
    made.save_pretrained(tmp_path)
    codec = DiffusersVAE.from_pretrained(tmp_path).requires_grad_(False)
    latents = codec.encode(images, chunk=2)
    assert latents.shape == (5, codec.channels, 8 // codec.factor, 12 // codec.factor)
    close(latents, made.encode(images).latent_dist.mode() * made.config.scaling_factor)
    close(codec.decode(latents, chunk=2), made.decode(latents / made.config.scaling_factor).sample)


def test_a_missing_diffusers_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"\.\[diffusion\]"):
        DiffusersVAE.from_pretrained("sdxl-vae")


def test_latents_are_exact_under_autocast(images):
    torch.manual_seed(0)
    vae = VAE(VAEConfig(base_channels=8, ch_mult=(1, 2), norm_groups=4)).eval()
    expected = vae.encode(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vae.encode(images), expected)
        assert vae.posterior(images)[0].dtype == torch.bfloat16, "it would not be by itself"
