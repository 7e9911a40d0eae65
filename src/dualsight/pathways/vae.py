"""Continuous image latents, for the diffusion pathway: a small KL-VAE of our own, and diffusers' at full size.

    image -> encoder -> mean, log variance        latents = (mean - shift) / scale
    latents * scale + shift -> decoder -> image   loss = reconstruction + a little KL(q(z | image) || N(0, I))

A :class:`LatentCodec` is all that the diffusion pathway knows of either. Its latents have about zero mean and unit
variance, as the noise of the flow does (latent diffusion, arXiv:2112.10752).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dualsight.extras import install
from dualsight.pathways.conv import Decoder, Encoder
from dualsight.pathways.vq import Images, chunked, exactly

Latents = Float[Tensor, "B C h w"]


class LatentCodec(Protocol):
    """Images in [-1, 1] to latents and back, ``factor`` pixels per cell on each axis."""

    @property
    def channels(self) -> int: ...

    @property
    def factor(self) -> int: ...

    def encode(self, images: Images) -> Latents: ...

    def decode(self, latents: Latents) -> Images: ...


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of a VAE; the defaults are TINY's: 64 x 64 pixels as 4 x 16 x 16 latents."""

    base_channels: int = 16
    ch_mult: tuple[int, ...] = (1, 2, 4)
    """Channels of each level, from the full size down, in multiples of ``base_channels``."""
    res_blocks: int = 1
    """Residual blocks per level of the encoder; the decoder has one more."""
    latent_channels: int = 4
    norm_groups: int = 8

    @property
    def factor(self) -> int:
        """Pixels per cell of the latents on each axis."""
        return 2 ** (len(self.ch_mult) - 1)


TINY = VAEConfig()


@dataclass(frozen=True)
class PretrainedVAE:
    """An autoencoder of diffusers' that is no part of a checkpoint of ours; the defaults are JanusFlow's."""

    name: str = "stabilityai/sdxl-vae"
    """Of the Hub, or a folder."""
    latent_channels: int = 4
    factor: int = 8
    """Pixels per cell of the latents on each axis."""


@dataclass(frozen=True)
class VAEOutput:
    """What a training pass returns."""

    images: Images
    """The reconstruction from one draw of the posterior."""
    mean: Latents
    """Of the posterior, before standardisation."""
    kl: Tensor
    """Nats per latent number, mean over the batch."""


class VAE(nn.Module):
    """A convolutional variational autoencoder (arXiv:1312.6114)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        c = self.config = config
        self.encoder = Encoder(c.base_channels, c.ch_mult, c.res_blocks, 2 * c.latent_channels, c.norm_groups)
        self.decoder = Decoder(c.base_channels, c.ch_mult, c.res_blocks + 1, c.latent_channels, c.norm_groups)
        self.register_buffer("shift", torch.zeros(c.latent_channels, 1, 1))
        self.register_buffer("scale", torch.ones(c.latent_channels, 1, 1))

    @property
    def channels(self) -> int:
        return self.config.latent_channels

    @property
    def factor(self) -> int:
        return self.config.factor

    def encode(self, images: Images, chunk: int = 8) -> Latents:
        """The mean of the posterior, standardised; ``chunk`` images at a time.

        Raises:
            ValueError: the images do not divide into whole cells.
        """
        with exactly(images):
            return chunked(lambda part: (self.posterior(part)[0] - self.shift) / self.scale, images, chunk)

    def decode(self, latents: Latents, chunk: int = 8) -> Images:
        """Images of standardised latents; ``chunk`` images at a time."""
        return chunked(lambda part: self.decoder(part.to(self.scale.dtype) * self.scale + self.shift), latents, chunk)

    def posterior(self, images: Images) -> tuple[Latents, Latents]:
        """Mean and log variance of ``q(z | image)``."""
        height, width = images.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(f"images of {height} x {width} pixels: sides must be multiples of {self.factor}")
        mean, log_variance = self.encoder(images.to(self.scale.dtype)).chunk(2, 1)
        return mean, log_variance.clamp(-30, 20)

    def forward(self, images: Images) -> VAEOutput:
        """A training pass: ``KL = (mean^2 + var - 1 - log var) / 2``, the reconstruction from one draw."""
        mean, log_variance = self.posterior(images)
        kl = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        drawn = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return VAEOutput(self.decoder(drawn), mean, kl)

    @torch.no_grad()
    def standardise(self, images: Images) -> None:
        """From now on, the latents of ``images`` have zero mean and unit variance in every channel."""
        means = chunked(lambda part: self.posterior(part)[0], images, 8)
        self.scale.copy_(means.std((0, 2, 3))[:, None, None])
        self.shift.copy_(means.mean((0, 2, 3))[:, None, None])


class DiffusersVAE(nn.Module):
    """diffusers' ``AutoencoderKL`` (SDXL's, FLUX's...) as a :class:`LatentCodec`, with its own scaling."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> DiffusersVAE:
        """Load what ``AutoencoderKL.from_pretrained`` loads; ImportError without the ``diffusion`` extra."""
        try:
            from diffusers import AutoencoderKL  # ty: ignore[import-not-found]
        except ImportError as error:
            raise ImportError(f"full-size latents need diffusers: {install('diffusion')}") from error
        return cls(AutoencoderKL.from_pretrained(name, **options))

    @property
    def channels(self) -> int:
        return self.vae.config.latent_channels

    @property
    def factor(self) -> int:
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def encode(self, images: Images, chunk: int = 8) -> Latents:
        """The mode of the posterior, shifted and scaled as the checkpoint's config says."""
        with exactly(images):
            means = chunked(lambda part: self.vae.encode(part.to(self.vae.dtype)).latent_dist.mode(), images, chunk)
        return (means - self._shift) * self.vae.config.scaling_factor

    def decode(self, latents: Latents, chunk: int = 8) -> Images:
        latents = latents.to(self.vae.dtype) / self.vae.config.scaling_factor + self._shift
        return chunked(lambda part: self.vae.decode(part).sample, latents, chunk)

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0  # None in all but the newer checkpoints
