"""The convolutional encoder and decoder of VQGAN (arXiv:2012.09841), which the VQ tokenizer and the VAE share.

    encoder   image -> conv_in -> levels, each half as wide and high as the one before -> mid -> norm, swish, conv_out
    decoder   the same backwards, one residual block more per level

The lowest level and ``mid`` also attend. Parameter names are those of LlamaGen's tokenizer (arXiv:2406.06525), and so
of Janus' ``gen_vision_model``.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Map = Float[Tensor, "B C h w"]


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResBlock(nn.Module):
    """``x + conv(swish(norm(conv(swish(norm(x))))))``; a 1x1 convolution on the shortcut where the width changes."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs, groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = group_norm(outputs, groups)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Map) -> Map:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class AttentionBlock(nn.Module):
    """Every cell of the map attends to every other, with one head as wide as the map has channels."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Map) -> Map:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))  # (B, hw, C)
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(attended.transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    """Half the height and width by a strided convolution, padded below and to the right only, as in VQGAN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Map) -> Map:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the height and width, every cell repeated, then smoothed by a convolution.

    In the type of its input: the release goes through bfloat16 for everything but float32, and so fails in float16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Map) -> Map:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks that work at one size of the map, and the change to the next size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        groups: int,
        attend: bool,
        downsample: bool = False,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * blocks
        self.res = nn.ModuleList(ResBlock(widths[i], outputs, groups) for i in range(blocks))
        self.attn = nn.ModuleList(AttentionBlock(outputs, groups) if attend else nn.Identity() for _ in range(blocks))
        self.downsample = Downsample(outputs) if downsample else nn.Identity()
        self.upsample = Upsample(outputs) if upsample else nn.Identity()

    def forward(self, x: Map) -> Map:
        for res, attn in zip(self.res, self.attn, strict=True):
            x = attn(res(x))
        return self.upsample(self.downsample(x))


def middle(channels: int, groups: int) -> nn.ModuleList:
    return nn.ModuleList(
        [ResBlock(channels, channels, groups), AttentionBlock(channels, groups), ResBlock(channels, channels, groups)]
    )


class Encoder(nn.Module):
    """Images to maps ``2 ** (len(ch_mult) - 1)`` times smaller on each side.

    Args:
        base, ch_mult: level i works at ``base * ch_mult[i]`` channels; all of these must be multiples of ``groups``.
        blocks: residual blocks of a level.
        out: channels of the map.
        groups: of every GroupNorm.
    """

    def __init__(self, base: int, ch_mult: Sequence[int], blocks: int, out: int, groups: int) -> None:
        super().__init__()
        widths = [base] + [base * factor for factor in ch_mult]
        lowest = len(ch_mult) - 1
        self.conv_in = nn.Conv2d(3, base, 3, padding=1)
        self.conv_blocks = nn.ModuleList(
            Level(widths[i], widths[i + 1], blocks, groups, attend=i == lowest, downsample=i != lowest)
            for i in range(len(ch_mult))
        )
        self.mid = middle(widths[-1], groups)
        self.norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], out, 3, padding=1)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Map:
        x = self.conv_in(images)
        for block in (*self.conv_blocks, *self.mid):
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Maps back to images; the arguments are those of the :class:`Encoder`, ``inputs`` are the channels of the map."""

    def __init__(self, base: int, ch_mult: Sequence[int], blocks: int, inputs: int, groups: int) -> None:
        super().__init__()
        widths = [base * factor for factor in reversed(ch_mult)]
        widths = [widths[0], *widths]
        highest = len(ch_mult) - 1
        self.conv_in = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.mid = middle(widths[0], groups)
        self.conv_blocks = nn.ModuleList(
            Level(widths[i], widths[i + 1], blocks, groups, attend=i == 0, upsample=i != highest)
            for i in range(len(ch_mult))
        )
        self.norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x: Map) -> Float[Tensor, "B 3 H W"]:
        x = self.conv_in(x)
        for block in (*self.mid, *self.conv_blocks):
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))
