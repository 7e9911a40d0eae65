"""The other generation pathway: a diffusion transformer over image latents, conditioned on the LLM's hidden states.

    states -> connector -> condition tokens --+--> mean --+
    t -> sines and cosines -> MLP ------------|-----------+--> c: shift, scale and gate of every block (adaLN-zero)
                                              v           v
    x_t -> patches -> n x [self-attention, cross-attention, MLP] -> norm, linear -> patches -> velocity

The transformer and adaLN-zero are DiT's (arXiv:2212.09748), cross-attention to text is PixArt's (arXiv:2310.00426);
positions are a RoPE over rows and columns, so that other sizes and shapes run, too. Gates, cross-attention and the
last layer start at zero: at first, every block passes its input on and the velocity is zero. What is done with the
velocity stands in ``flow``. The LLM runs once per image: what follows from its states alone is a :class:`Condition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dualsight.nn.attention import Attention, Block, Mlp, attend_where
from dualsight.nn.rope import Rope, grid_rope

SINES = 256
"""Width of the embedding of t before its MLP."""
NEIGHBOURS = 9
"""Words that are mixed, four on either side: an article and three adjectives stand before a noun."""

Latents = Float[Tensor, "B C h w"]
Tokens = Float[Tensor, "B N D"]


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a diffusion transformer; the defaults are TINY's."""

    channels: int = 4
    """Of the latents."""
    patch: int = 2
    """Latent cells per token on each axis."""
    width: int = 192
    depth: int = 6
    heads: int = 6
    mlp_ratio: float = 4.0
    condition_width: int = 128
    """Width of the language model's hidden states."""
    condition_layers: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Which of them are read: 0 are the embeddings, n the states behind layer n. What the last layer says of a prompt's
    words is for predicting what follows; which words stand there is clearer before."""
    connector_depth: int = 2
    """Blocks in which the words of a prompt see each other, in both directions."""
    rope_base: float = 100.0
    shift: float = 4.0
    """Of the points that are learnt, towards noise (``flow``). At TINY, what a prompt changes lies between t = 0.05 and
    0.3, around 0.2: behind it all figures are there. Without a shift, that is one point in five."""

    def __post_init__(self) -> None:
        if self.width % (4 * self.heads):
            raise ValueError(f"a width of {self.width} does not split into {self.heads} heads of 4n channels")
        if self.shift <= 0:
            raise ValueError(f"a shift of {self.shift:g}; expected a positive number (1 is none)")


TINY = DiTConfig()
DIT_XL = DiTConfig(
    patch=2, width=1152, depth=28, heads=16, condition_width=2048, condition_layers=(0, 6, 12, 18, 24), shift=1.0
)
"""DiT-XL/2, on the hidden states of Janus-1.3B."""


@dataclass(frozen=True)
class Condition:
    """What a prompt says to the transformer: computed once, read at every step."""

    tokens: Tokens
    """The first of them is learned and says nothing: a prompt without a token is defined, too."""
    visible: Bool[Tensor, "B N"]
    pooled: Float[Tensor, "B D"]
    """The mean of the visible tokens, projected."""

    def repeat(self, times: int) -> Condition:
        """All rows, then all rows again, and so on."""
        return Condition(self.tokens.repeat(times, 1, 1), self.visible.repeat(times, 1), self.pooled.repeat(times, 1))

    def select(self, rows: Int[Tensor, " R"]) -> Condition:
        """Row i becomes a copy of row ``rows[i]``."""
        return Condition(self.tokens[rows], self.visible[rows], self.pooled[rows])


class Connector(nn.Module):
    """Hidden states of a prompt to what the image attends to.

    A causal language model has read no word with those that follow it; a few blocks in both directions bind them (the
    token refiner of HunyuanVideo, arXiv:2412.03603). They run once per image, not at every step. Before them a word
    is mixed with its neighbours (a convolution per channel, as Canon layers, arXiv:2512.17351): a noun says "red" and
    "striped", too, before attention has learnt where to look. In the blocks, half of a head's channels turn with the
    place of a word.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        c = self.config = config
        self.mlp = Mlp(len(c.condition_layers) * c.condition_width, c.width, c.width)
        self.neighbours = nn.Conv1d(c.width, c.width, NEIGHBOURS, padding="same", groups=c.width)
        blocks = [Block(c.width, c.heads, layer_scale=None, eps=1e-6) for _ in range(c.connector_depth)]
        for block in blocks:
            zero(block.attn.proj)
            zero(block.mlp.fc2)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, states: Float[Tensor, "B L S Dc"], visible: Bool[Tensor, "B L"]) -> Tokens:
        c = self.config
        if states.shape[2:] != (len(c.condition_layers), c.condition_width):
            raise ValueError(
                f"states of {states.shape[2]} layers of width {states.shape[3]}; expected those of the layers "
                f"{c.condition_layers}, of width {c.condition_width}"
            )
        tokens = self.mlp(F.rms_norm(states, states.shape[-1:], eps=1e-6).flatten(2))
        present = (tokens * visible[..., None]).transpose(1, 2)
        tokens = tokens + self.neighbours(present).transpose(1, 2)
        # tokens that are not there see themselves, so that no row of the mask is empty
        seen = visible[:, None, None] | torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)
        rope = grid_rope(tokens.shape[1], 1, 0, c.width // c.heads, c.rope_base, tokens.device)
        attend = partial(attend_where, visible=seen)
        for block in self.blocks:
            tokens = block(tokens, rope, attend)
        return tokens


class CrossAttention(nn.Module):
    """Image tokens attend to the visible tokens of a condition."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        zero(self.proj)

    def forward(self, x: Tokens, condition: Condition) -> Tokens:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, head_dim)
            for part in (self.q(x), *self.kv(condition.tokens).chunk(2, -1))
        )
        attended = attend_where(q, k, v, condition.visible[:, None, None])
        return self.proj(attended.transpose(1, 2).flatten(2))


class DiTBlock(nn.Module):
    """Self-attention, cross-attention and MLP; the first and the last modulated by ``c``."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.width
        self.norm1, self.norm3 = (nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False) for _ in range(2))
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, config.heads, qk_norm=True)
        self.cross = CrossAttention(dim, config.heads)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.modulation = nn.Linear(dim, 6 * dim)
        zero(self.modulation)

    def forward(self, x: Tokens, c: Float[Tensor, "B 1 D"], condition: Condition, rope: Rope) -> Tokens:
        shift1, scale1, gate1, shift3, scale3, gate3 = self.modulation(c).chunk(6, -1)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1), rope)
        x = x + self.cross(self.norm2(x), condition)
        return x + gate3 * self.mlp(modulate(self.norm3(x), shift3, scale3))


class DiT(nn.Module):
    """``v(x, t | condition)``, computed in the type of the weights and returned in float32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        c = self.config = config
        self.connector = Connector(c)
        self.nothing = nn.Parameter(torch.randn(1, 1, c.width) * 0.02)
        self.pool = nn.Linear(c.width, c.width)
        self.time = Mlp(SINES, c.width, c.width)
        self.patch_embed = nn.Linear(c.channels * c.patch**2, c.width)
        self.blocks = nn.ModuleList(DiTBlock(c) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(c.width, 2 * c.width)
        self.out = nn.Linear(c.width, c.channels * c.patch**2)
        zero(self.modulation)
        zero(self.out)

    def condition(self, states: Float[Tensor, "B L S Dc"], visible: Bool[Tensor, "B L"]) -> Condition:
        """What the blocks read of hidden ``states`` of the language model, behind each of ``condition_layers``; states
        that are not ``visible`` (padding) change nothing.

        Raises:
            ValueError: they are of other layers or of another width.
        """
        visible = visible.bool()
        tokens = self.connector(states.to(self.nothing.dtype), visible)
        tokens = torch.cat([self.nothing.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], 1)
        visible = F.pad(visible, (1, 0), value=True)
        weights = visible / visible.sum(1, keepdim=True)
        return Condition(tokens, visible, self.pool((weights[:, None].to(tokens.dtype) @ tokens)[:, 0]))

    def forward(self, x: Latents, t: Float[Tensor, " B"], condition: Condition) -> Latents:
        """The velocity at ``x`` and ``t`` in [0, 1]."""
        return self.run(x, t, condition)[0]

    def run(self, x: Latents, t: Float[Tensor, " B"], condition: Condition, after: int = 0) -> tuple[Latents, Tokens]:
        """The same, and the states of the patches behind block ``after``, or before the first.

        Raises:
            ValueError: the latents have other channels than the config's, or do not divide into patches.
        """
        c, (rows, columns) = self.config, x.shape[-2:]
        if x.shape[1] != c.channels or rows % c.patch or columns % c.patch:
            raise ValueError(f"latents {tuple(x.shape)}; expected {c.channels} channels, sides multiples of {c.patch}")
        rope = grid_rope(rows // c.patch, columns // c.patch, 0, c.width // c.heads, c.rope_base, x.device)
        sines = time_embedding(t).to(self.nothing.dtype)
        signal = F.silu(self.time(sines) + condition.pooled)[:, None]  # (B, 1, D)
        h = rearrange(x.to(self.nothing.dtype), "b c (h p) (w q) -> b (h w) (c p q)", p=c.patch, q=c.patch)
        states = h = self.patch_embed(h)  # (B, N, D)
        for number, block in enumerate(self.blocks, 1):
            h = block(h, signal, condition, rope)
            if number == after:
                states = h
        shift, scale = self.modulation(signal).chunk(2, -1)
        v = self.out(modulate(self.norm(h), shift, scale))
        v = rearrange(v, "b (h w) (c p q) -> b c (h p) (w q)", h=rows // c.patch, p=c.patch, q=c.patch)
        return v.float(), states


def zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def modulate(x: Tokens, shift: Tensor, scale: Tensor) -> Tokens:
    return x * (1 + scale) + shift


def time_embedding(t: Float[Tensor, " B"], width: int = SINES) -> Float[Tensor, "B {width}"]:
    """Cosines and sines of ``1000 t`` at frequencies from 1 down to 1 / 10000, as in DiT."""
    frequency = 10000.0 ** (-torch.arange(width // 2, device=t.device) / (width // 2))
    angle = 1000 * t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)
