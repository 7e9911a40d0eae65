"""What Janus can understand images through: SigLIP, CLIP's ViT or DINOv2, each to one token per patch.

SigLIP is the released one. The other two come from transformers and only drop what is no patch (the class token,
registers). Which image statistics belong to an encoder is part of its config, since it decides what the encoder sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from dualsight.pathways.siglip import Siglip

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class EncoderConfig:
    """An understanding encoder. Images are squares of ``image_size`` pixels."""

    kind: Literal["siglip", "clip", "dinov2"]
    image_size: int
    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_ratio: float = 4.0
    layer: int = -1
    """Which hidden layer is read; -1 is the last. LLaVA reads CLIP at -2."""
    pool: bool = False
    """Keep the parameters of SigLIP's pooling head, which the released files hold and nothing reads."""
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF

    def __post_init__(self):
        if self.kind not in ("siglip", "clip", "dinov2"):
            raise ValueError(f"encoder kind is {self.kind!r}; expected siglip, clip or dinov2")
        if self.image_size % self.patch_size:
            raise ValueError(f"an image of {self.image_size} pixels is not made of {self.patch_size}-pixel patches")
        if self.kind == "siglip" and self.layer != -1:
            raise ValueError(f"SigLIP is read at its last layer (-1), not at {self.layer}")

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return (self.image_size // self.patch_size) ** 2


SIGLIP_LARGE = EncoderConfig("siglip", 384, 16, 1024, 24, 16, pool=True)
"""The encoder of every released Janus."""

CLIP_LARGE = EncoderConfig(
    "clip", 336, 14, 1024, 24, 16, layer=-2,
    mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711),
)  # fmt: skip
"""ViT-L/14 at 336 pixels: 576 tokens, as many as SigLIP's, so prompts stay as they are."""

DINOV2_LARGE = EncoderConfig(
    "dinov2", 518, 14, 1024, 24, 16, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)  # fmt: skip


class Encoder(nn.Module):
    """Normalised images to patch tokens. ``vision_tower`` is the name that the released files have for it."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.vision_tower = _BUILDERS[config.kind](config)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        if self.config.kind == "siglip":
            return self.vision_tower(images)
        if self.config.layer == -1:
            tokens = self.vision_tower(pixel_values=images).last_hidden_state
        else:
            tokens = self.vision_tower(pixel_values=images, output_hidden_states=True).hidden_states[self.config.layer]
        return tokens[:, -self.config.tokens :]  # patches come last, behind the class token and registers


def _siglip(c: EncoderConfig) -> nn.Module:
    return Siglip(c.image_size, c.patch_size, c.hidden_size, c.num_layers, c.num_heads, c.mlp_ratio, c.pool)


def _clip(c: EncoderConfig) -> nn.Module:
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=c.hidden_size, intermediate_size=int(c.hidden_size * c.mlp_ratio),
            num_hidden_layers=c.num_layers, num_attention_heads=c.num_heads,
            image_size=c.image_size, patch_size=c.patch_size,
        )
    )  # fmt: skip


def _dinov2(c: EncoderConfig) -> nn.Module:
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=c.hidden_size, mlp_ratio=int(c.mlp_ratio), num_hidden_layers=c.num_layers,
            num_attention_heads=c.num_heads, image_size=c.image_size, patch_size=c.patch_size,
        )
    )  # fmt: skip


_BUILDERS = {"siglip": _siglip, "clip": _clip, "dinov2": _dinov2}
