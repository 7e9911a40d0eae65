"""What a Janus that makes images by a flow has besides: the autoencoder in whose latents the flow runs.

A small one is a part of the model, saved and loaded with it; one of diffusers' is fetched by its name when it is first
asked for, and is no part of the model.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dualsight.models.janus_config import JanusConfig
from dualsight.models.janus_core import JanusCore
from dualsight.pathways.flow import Latents, Sampling
from dualsight.pathways.vae import VAE, DiffusersVAE, LatentCodec, PretrainedVAE, VAEConfig


class LatentJanus(JanusCore):
    """``JanusDiT`` and ``JanusFlow``."""

    sampling: Sampling
    """How it draws unless it is told otherwise."""

    def __init__(self, config: JanusConfig, vae: VAEConfig | PretrainedVAE):
        super().__init__(config)
        self._vae = vae
        if isinstance(vae, VAEConfig):
            self.gen_vae = VAE(vae)
        self._fetched: list[LatentCodec] = []  # no module in it is a part of this one

    @property
    def codec(self) -> LatentCodec:
        """Between images and the latents of the flow: its own, or diffusers', on the device of the model."""
        if isinstance(self._vae, VAEConfig):
            return self.gen_vae
        if not self._fetched:  # in float32: SDXL's does not work in float16
            self.use_codec(DiffusersVAE.from_pretrained(self._vae.name).eval())
        codec = self._fetched[0]
        return codec.to(self.device) if isinstance(codec, nn.Module) else codec

    def use_codec(self, codec: LatentCodec) -> None:
        """Take this codec in place of the one that the config names.

        Raises:
            ValueError: the model has one of its own, or the latents of this one are others.
        """
        vae = self._vae
        if isinstance(vae, VAEConfig):
            raise ValueError("this model has a codec of its own, which is saved and loaded with it")
        if (codec.channels, codec.factor) != (vae.latent_channels, vae.factor):
            raise ValueError(
                f"a codec of {codec.channels} channels, {codec.factor} pixels per cell; the model was made for "
                f"{vae.latent_channels} and {vae.factor}"
            )
        self._fetched = [codec]

    def ask(self, ids: Int[Tensor, "B L"], valid: Bool[Tensor, "B L"]) -> Any:
        """Read left-padded prompts for images: what all steps of sampling go by."""
        raise NotImplementedError

    def velocity(self, x: Latents, t: Float[Tensor, " B"], asked: Any) -> Latents:
        """The velocity of the flow for each prompt."""
        raise NotImplementedError
