"""The way into a language model that is itself in the loop of a flow, and out of it (JanusFlow, arXiv:2411.07975).

    t ----> sines and cosines -> MLP --> c, which the language model reads, too
    x_t --> patches -> n x ConvNeXt(c) --> tokens, and the skip
    hidden states -> norm --+--> n x ConvNeXt(c) -> norm, linear -> patches --> velocity
                     skip --+

    ConvNeXt(x, c):   y = x + W_2 GRN(GELU(W_1 RMSNorm(depthwise(x))))        (arXiv:2301.00808)
                      y (1 + scale(c)) + shift(c)                             (FiLM, arXiv:1709.07871)

A patch of 2 x 2 cells is one token. What is fine about an image goes round the language model, through the skip, as in
the U-ViT of arXiv:2301.11093. Parameter names are those of the released checkpoint.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dualsight.pathways.dit import time_embedding

PATCH = 2
"""Cells of the latents per token, on each axis."""
EPS = 1e-6

Latents = Float[Tensor, "B C H W"]
Features = Float[Tensor, "B D h w"]
Time = Float[Tensor, "B T"]


class ShallowUViTEncoder(nn.Module):
    """``x_t`` and t to features, one for each patch, and the embedding of t."""

    def __init__(self, channels: int, width: int, blocks: int, time_width: int) -> None:
        super().__init__()
        self.channels = channels
        self.time_embed = TimeEmbedding(width, time_width)
        self.in_conv = nn.Conv2d(channels, width, PATCH, stride=PATCH)
        self.mid_block = ConvNeXtBlocks(width, blocks, time_width)

    def forward(self, x: Latents, t: Float[Tensor, " B"]) -> tuple[Features, Time]:
        """
        Raises:
            ValueError: the latents have other channels, or do not divide into patches.
        """
        if x.shape[1] != self.channels or x.shape[2] % PATCH or x.shape[3] % PATCH:
            raise ValueError(
                f"latents {tuple(x.shape)}; expected {self.channels} channels, and sides that are multiples of {PATCH}"
            )
        time = self.time_embed(t)
        return self.mid_block(self.in_conv(x), time), time


class ShallowUViTDecoder(nn.Module):
    """What the language model made of the features, and the features themselves, to the velocity."""

    def __init__(self, channels: int, width: int, blocks: int, time_width: int) -> None:
        super().__init__()
        self.input_norm = ChannelNorm(width)
        self.mid_block = ConvNeXtBlocks(2 * width, blocks, time_width)
        self.out_convs = nn.ModuleList([Unpatchify(2 * width, channels)])  # a list of one: the name it was given

    def forward(self, x: Features, skip: Features, time: Time) -> Latents:
        x = self.mid_block(torch.cat([self.input_norm(x), skip], 1), time)
        return self.out_convs[0](x)


class TimeEmbedding(nn.Module):
    """t in [0, 1] to a vector."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, t: Float[Tensor, " B"]) -> Time:
        sines = time_embedding(t, self.linear_1.in_features).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(sines)))


class ConvNeXtBlocks(nn.Module):
    """Blocks one behind the other."""

    def __init__(self, width: int, blocks: int, time_width: int) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList(ConvNeXtBlock(width, time_width) for _ in range(blocks))

    def forward(self, x: Features, time: Time) -> Features:
        for block in self.res_blocks:
            x = block(x, time)
        return x


class ConvNeXtBlock(nn.Module):
    """A 7 x 7 neighbourhood of each channel, then an MLP over the channels of each place; scaled and shifted by t."""

    def __init__(self, width: int, time_width: int, expansion: int = 4) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.RMSNorm(width, eps=EPS)
        self.channelwise_linear_1 = nn.Linear(width, expansion * width)
        self.channelwise_norm = GlobalResponseNorm(expansion * width)
        self.channelwise_linear_2 = nn.Linear(expansion * width, width)
        self.cond_embeds_mapper = nn.Linear(time_width, 2 * width)

    def forward(self, x: Features, time: Time) -> Features:
        y = self.norm(self.depthwise(x).movedim(1, -1))  # (B, h, w, D)
        y = self.channelwise_linear_2(self.channelwise_norm(F.gelu(self.channelwise_linear_1(y))))
        scale, shift = self.cond_embeds_mapper(F.silu(time))[..., None, None].chunk(2, 1)
        return (x + y.movedim(-1, 1)) * (1 + scale) + shift


class GlobalResponseNorm(nn.Module):
    """``x (1 + weight n) + bias``, where n is the norm of a channel over the image by the mean of all channels' norms:
    channels compete (ConvNeXt V2). At first it passes its input on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.zeros(1, 1, 1, width)) for _ in range(2))

    def forward(self, x: Float[Tensor, "B h w D"]) -> Float[Tensor, "B h w D"]:
        norms = x.norm(dim=(1, 2), keepdim=True)
        return x * (1 + self.weight * norms / (norms.mean(-1, keepdim=True) + EPS)) + self.bias


class ChannelNorm(nn.RMSNorm):
    """RMSNorm over the channels of each place."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: Features) -> Features:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Unpatchify(nn.Module):
    """Features to patches of the latents."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.unpatch_conv = nn.Conv2d(width, channels * PATCH**2, 1)

    def forward(self, x: Features) -> Latents:
        return F.pixel_shuffle(self.unpatch_conv(self.norm(x)), PATCH)
