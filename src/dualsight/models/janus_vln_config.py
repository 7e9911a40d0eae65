"""The configuration of a JanusVLN model, and the two sizes that are shipped: the released 7B and TINY."""

from __future__ import annotations

import typing
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dualsight.nn.config import build
from dualsight.pathways.vggt import TINY as VGGT_TINY
from dualsight.pathways.vggt import VGGT_1B, VGGTConfig


@dataclass(frozen=True)
class VisionConfig:
    """The semantic encoder, Qwen2.5-VL's vision transformer; the names are those of transformers' config."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    window_size: int
    """Pixels: the side of an attention window of the blocks that are not in ``fullatt_block_indexes``."""
    fullatt_block_indexes: tuple[int, ...]
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2


@dataclass(frozen=True)
class TextConfig:
    """The language model, Qwen2.5's decoder with M-RoPE; the names are those of transformers' config."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    mrope_section: tuple[int, int, int]
    """How many of the ``head_dim / 2`` rotary frequencies turn with time, with the row and with the column."""
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class TokenIds:
    """Tokens the model itself has to know. The defaults are those of Qwen2.5's tokenizer."""

    image: int = 151655
    vision_start: int = 151652
    vision_end: int = 151653
    end_of_turn: int = 151645


@dataclass(frozen=True)
class JanusVLNConfig:
    """Everything that decides what a JanusVLN model computes.

    ``behaviour`` names the two systems that go by this name: the ``"paper"`` (each frame enters once with its own
    geometry, both pathways remember through keys and values) and the ``"release"`` (eight sampled history images and
    the current one are read again at every step, the current geometry is added to each of them).
    """

    vision: VisionConfig
    text: TextConfig
    vggt: VGGTConfig
    merger_hidden: int
    """Width of the hidden layer of the MLP that brings geometry to the width of the decoder."""
    lam: float = 0.2
    """Weight of geometry in ``F = S + lam * MLP(G)``."""
    fusion: Literal["add", "concat", "cross_attention", "none"] = "add"
    behaviour: Literal["paper", "release"] = "paper"
    geometry_layer: int = -2
    """The aggregator layer that geometry is read from; -2 is the last but one, as in the release."""
    initial: int = 8
    """Frames at the beginning of an episode that the memories never forget."""
    recent: int = 48
    """Frames before the current one that the memories hold."""
    num_history: int = 8
    """History images in a prompt of the release."""
    image_width: int = 644
    image_height: int = 490
    """Pixels of a prepared frame. The spatial pathway sees all of it, the semantic one an even number of patches."""
    fit: Literal["width", "square"] = "width"
    """Image preparation: ``width`` as the release does, ``square`` crops the centre and resizes."""
    max_prompt: int = 512
    """Tokens of the prompt, instruction included, that memory has room for."""
    action_slots: int = 8
    """Tokens of the longest action text."""
    tokens: TokenIds = TokenIds()

    def __post_init__(self):
        for name in ("fusion", "behaviour", "fit"):
            allowed = typing.get_args(typing.get_type_hints(type(self))[name])
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for patch in (self.vision.patch_size, self.vggt.patch_size):
            if self.image_width % patch or self.image_height % patch:
                size = f"{self.image_width}x{self.image_height}"
                raise ValueError(f"an image of {size} is not made of {patch}-pixel patches")
        if self.cell % self.vggt.patch_size:
            raise ValueError(f"an image token spans {self.cell} pixels, which is no multiple of VGGT's "
                             f"{self.vggt.patch_size}-pixel patches")  # fmt: skip

    @property
    def cell(self) -> int:
        """Pixels: the side of the square that becomes one image token, in both pathways."""
        return self.vision.patch_size * self.vision.spatial_merge_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens of one frame."""
        return self.grid_of(self.image_height, self.image_width)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of image tokens of a prepared frame; what is left below and to the right is cut off."""
        return height // self.cell, width // self.cell

    @property
    def geometry_merge(self) -> int:
        """The side, in patches of the spatial pathway, of the square that becomes one image token."""
        return self.cell // self.vggt.patch_size

    @property
    def image_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def unit(self) -> int:
        """Tokens one frame takes in the semantic memory: previous action, vision start, image, vision end."""
        return self.action_slots + self.image_tokens + 2

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": "janus_vln", **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JanusVLNConfig:
        """The config that ``to_dict`` wrote.

        Raises:
            ValueError: it is another model's config, or a key is unknown or missing; all of them are named.
        """
        if data.get("model_type") != "janus_vln":
            raise ValueError(f"config has model_type {data.get('model_type')!r}; expected 'janus_vln'")
        return build(cls, {key: value for key, value in data.items() if key != "model_type"}, "config")


JANUS_VLN_7B = JanusVLNConfig(
    vision=VisionConfig(32, 1280, 3420, 16, window_size=112, fullatt_block_indexes=(7, 15, 23, 31)),
    text=TextConfig(152064, 3584, 18944, 28, 28, 4, mrope_section=(16, 24, 24)),
    vggt=replace(VGGT_1B, heads=("point", "depth")),
    merger_hidden=4096,
    behaviour="release",
)
"""The released checkpoints (JanusVLN_Base, JanusVLN_Extra). Their files carry VGGT's point and depth heads, unused."""

TINY = JanusVLNConfig(
    vision=VisionConfig(4, 96, 288, 3, window_size=112, fullatt_block_indexes=(1, 3), spatial_merge_size=4),
    text=TextConfig(1024, 256, 704, 4, 8, 2, mrope_section=(4, 6, 6)),
    vggt=replace(VGGT_TINY, patch_size=28),
    merger_hidden=256,
    image_width=112,
    image_height=112,
    fit="square",
    max_prompt=256,
    action_slots=1,
    tokens=TokenIds(image=6, vision_start=4, vision_end=5, end_of_turn=3),
)
"""Small enough to train and to run on two CPU cores, about 8 M parameters. A frame becomes four image tokens, one for
each quarter of the picture (4x4 patches of the semantic pathway, 2x2 larger ones of the spatial pathway): a unit of
seven tokens makes training three times cheaper than the 16 image tokens of 2x2 merging."""
