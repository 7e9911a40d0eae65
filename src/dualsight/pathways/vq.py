"""The generation pathway of Janus: images as grids of discrete tokens (VQ-16 of LlamaGen, arXiv:2406.06525).

    image -> encoder -> quant_conv -> z / |z| -> the nearest row of the codebook, its rows normalised, too -> id
    id -> that row, normalised -> post_quant_conv -> decoder -> image

Both sides of the comparison lie on the unit sphere, so the nearest code is the one with the largest dot product.
Tokens run row by row. Parameter names are those under ``gen_vision_model.`` in the released files, which also hold a
record of the training, ``quantize.codebook_used``: ignore it when loading (:data:`UNUSED`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dualsight.pathways.conv import Decoder, Encoder

Images = Float[Tensor, "B 3 H W"]
"""Pixels in [-1, 1]."""

UNUSED = "quantize.codebook_used"
"""Part of every released file, used by nothing: the last 65536 ids seen in training."""


@dataclass(frozen=True)
class VQConfig:
    """Sizes of a VQ tokenizer; the defaults are those of every released Janus."""

    base_channels: int = 128
    encoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Channels of each level, from the full size down, in multiples of ``base_channels``."""
    decoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    res_blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    z_channels: int = 256
    codebook_size: int = 16384
    codebook_dim: int = 8
    norm_groups: int = 32

    def __post_init__(self) -> None:
        if len(self.encoder_ch_mult) != len(self.decoder_ch_mult):
            raise ValueError(
                f"encoder_ch_mult {self.encoder_ch_mult} and decoder_ch_mult {self.decoder_ch_mult} differ in length: "
                "images would come back in another size"
            )

    @property
    def factor(self) -> int:
        """Pixels per token on each axis."""
        return 2 ** (len(self.encoder_ch_mult) - 1)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens of such an image; ValueError unless it divides into whole tokens."""
        if height % self.factor or width % self.factor:
            raise ValueError(f"images of {height} x {width} pixels: sides must be multiples of {self.factor}")
        return height // self.factor, width // self.factor


VQ_16 = VQConfig()
TINY = VQConfig(
    base_channels=16,
    encoder_ch_mult=(1, 2, 4, 4),
    decoder_ch_mult=(1, 2, 4, 4),
    res_blocks=1,
    z_channels=64,
    codebook_size=2048,
    norm_groups=8,
)
"""64 x 64 pixels as 8 x 8 tokens."""


@dataclass(frozen=True)
class VQOutput:
    """What a training pass returns."""

    images: Images
    """The reconstruction."""
    ids: Int[Tensor, "B N"]
    features: Float[Tensor, "B N D"]
    """The encoder's side of the comparison, normalised, before quantisation."""
    codebook_loss: Tensor
    """How far the codes are from the features that chose them; moves the codes."""
    commitment_loss: Tensor
    """The same distance; moves the encoder."""


class Codebook(nn.Module):
    """``size`` vectors of which only the direction counts."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, dim)
        with torch.no_grad():  # of length one, or an optimiser's first steps would turn the codes too far or too little
            self.embedding.weight.copy_(unit(self.embedding.weight))

    def nearest(self, features: Float[Tensor, "*B D"]) -> Int[Tensor, "*B"]:
        """The ids of the codes nearest to normalised ``features``."""
        return (features.float() @ unit(self.embedding.weight).float().T).argmax(-1)

    def forward(self, ids: Int[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
        return unit(self.embedding(ids))


def unit(x: Tensor) -> Tensor:
    """``x / |x|`` over the last axis; in float32, since squares of small codes vanish in float16."""
    return F.normalize(x.float(), dim=-1).to(x.dtype)


class VQTokenizer(nn.Module):
    """Images to token ids and back."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        c = self.config = config
        self.encoder = Encoder(c.base_channels, c.encoder_ch_mult, c.res_blocks, c.z_channels, c.norm_groups)
        self.decoder = Decoder(c.base_channels, c.decoder_ch_mult, c.res_blocks + 1, c.z_channels, c.norm_groups)
        self.quantize = Codebook(c.codebook_size, c.codebook_dim)
        self.quant_conv = nn.Conv2d(c.z_channels, c.codebook_dim, 1)
        self.post_quant_conv = nn.Conv2d(c.codebook_dim, c.z_channels, 1)

    def encode(self, images: Images, chunk: int = 8) -> Int[Tensor, "B N"]:
        """The ids of ``images``, row by row; ``chunk`` images at a time, to bound the memory.

        Raises:
            ValueError: the images do not divide into whole tokens.
        """
        with exactly(images):  # rounded to bfloat16, one code in eleven would be a neighbour
            return chunked(lambda part: self.quantize.nearest(self.features(part)), images, chunk)

    def lookup(self, ids: Int[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """The normalised code of each id: what the decoder reads."""
        return self.quantize(ids)

    def decode(self, tokens: Tensor, grid: tuple[int, int], chunk: int = 8) -> Images:
        """Images of ``grid`` (rows, columns) tokens: ids (B, N) or codes (B, N, D); ``chunk`` images at a time.

        Rows come first in ``grid``; the release names the other order and is right on square grids only.

        Raises:
            ValueError: the number of tokens is not that of the grid.
        """
        if tokens.shape[1] != grid[0] * grid[1]:
            raise ValueError(f"{tokens.shape[1]} tokens per image do not fill a grid of {grid[0]} x {grid[1]}")
        return chunked(lambda part: self._decode(part, grid), tokens, chunk)

    def _decode(self, tokens: Tensor, grid: tuple[int, int]) -> Images:
        codes = tokens if tokens.is_floating_point() else self.lookup(tokens)
        codes = rearrange(codes, "b (h w) d -> b d h w", h=grid[0])
        return self.decoder(self.post_quant_conv(codes.to(self.post_quant_conv.weight.dtype)))

    def features(self, images: Images) -> Float[Tensor, "B N D"]:
        """What of ``images`` is compared with the codes: one unit vector per token."""
        self.config.grid(*images.shape[-2:])
        z = self.quant_conv(self.encoder(images.to(self.quant_conv.weight.dtype)))
        return unit(rearrange(z, "b d h w -> b (h w) d"))

    def forward(self, images: Images, quantise: bool = True) -> VQOutput:
        """A training pass: the gradient passes the choice of a code as if it were none (straight-through, VQ-VAE,
        arXiv:1711.00937), and the two losses pull code and feature together. Without ``quantise`` the decoder reads the
        features themselves."""
        z = self.features(images)
        ids = self.quantize.nearest(z.detach())
        codes = self.lookup(ids)
        passed = z + (codes - z).detach() if quantise else z
        return VQOutput(
            images=self._decode(passed, self.config.grid(*images.shape[-2:])),
            ids=ids,
            features=z,
            codebook_loss=F.mse_loss(codes, z.detach()),
            commitment_loss=F.mse_loss(z, codes.detach()),
        )


def exactly(images: Images) -> AbstractContextManager:
    """In the type of the weights, also where a model is trained under autocast."""
    return nullcontext() if images.is_meta else torch.autocast(images.device.type, enabled=False)


def chunked(function: Callable[[Tensor], Tensor], batch: Tensor, size: int) -> Tensor:
    """``function(batch)``, ``size`` rows at a time."""
    return torch.cat([function(part) for part in batch.split(size)])
