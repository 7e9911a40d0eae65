"""What a memory needs to know of a vision-language model of transformers: where its parts are, and how to run them.

A memory wraps any VLM. All that differs between families stands here: which blocks the vision encoder has and how one
of them is called, how its output becomes tokens of the language model, and which images belong to which row. The
decoders are alike: a list of layers that take hidden states, a mask and rotary factors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel


class Anatomy(ABC):
    """The parts of one VLM. Nothing here has weights of its own."""

    vision_targets: str
    """Which linear layers of the vision encoder a LoRA adapts by default, as the end of their names."""
    text_targets = r"self_attn\.(q_proj|v_proj)"
    """The same of the decoder's layers."""

    def __init__(self, vlm: PreTrainedModel):
        self.vlm: Any = vlm
        self.core: Any = vlm.model
        self.config: Any = vlm.config

    # --- the decoder ----------------------------------------------------------------------------------------------

    @property
    def text(self) -> Any:
        """The decoder: ``layers``, ``norm``."""
        return self.core.language_model

    @property
    def width(self) -> int:
        """Of the decoder."""
        return self.config.text_config.hidden_size

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding: ids from here on are free."""
        return self.vlm.get_input_embeddings().weight.shape[0]

    @property
    @abstractmethod
    def image_token(self) -> int:
        """The id at the places of visual tokens."""

    @property
    def vision_ids(self) -> tuple[int, ...]:
        """All ids that mark visual places; a model never says them."""
        return (self.image_token,)

    def shows(self, ids: Int[Tensor, "B L"]) -> Bool[Tensor, "B L"]:
        """Which ids are such marks."""
        return torch.isin(ids, torch.tensor(self.vision_ids, device=ids.device))

    def positions(
        self, ids: Int[Tensor, "B L"], there: Bool[Tensor, "B L"], inputs: Mapping[str, Any]
    ) -> Int[Tensor, "*axes B L"]:
        """The positions that the stock model would give to whole sequences, left-padded or not."""
        return (there.long().cumsum(-1) - 1).clamp(min=0)

    # --- the vision encoder ---------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def tower(self) -> Any:
        """The vision encoder."""

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """Its blocks that are used."""

    @property
    def vision_width(self) -> int:
        return self.config.vision_config.hidden_size

    @property
    @abstractmethod
    def merge(self) -> int:
        """Patches that become one token of the language model."""

    def sees_image(self, block: int) -> bool:
        """Does the attention of this block reach the whole image? Windowed blocks do not."""
        return True

    @abstractmethod
    def run_block(self, block: int, slots: Float[Tensor, "R S C"]) -> Float[Tensor, "R S C"]:
        """Tokens that stand nowhere in the image through one block, each row by itself."""

    @abstractmethod
    def project(self, slots: Float[Tensor, "R MN C"]) -> Float[Tensor, "R N D"]:
        """The encoder's output through the VLM's own projector, ``merge`` slots to a token."""

    def tokens_of(self, patches: Float[Tensor, "R T P"]) -> Float[Tensor, "R T V"]:
        """What is paid to the keys of an image in the encoder, as what is paid to its visual tokens.

        Raises:
            ValueError: it is not known here which patches make a token.
        """
        raise ValueError(f"where slots look in the encoder is not known in {type(self).__name__}")

    @abstractmethod
    def images_of_rows(self, ids: Int[Tensor, "B L"], inputs: Mapping[str, Any]) -> list[int]:
        """How many images (tiles, where images are cut into tiles) of the encoder's batch belong to each row."""

    def generate(self, **inputs: Any) -> Any:
        """Stock ``generate``, with every logits processor that it is given."""
        return self.vlm.generate(**inputs)

    @contextmanager
    def sharing_prompts(self, copies: int) -> Generator[None]:
        """Within, the decoder reads a prompt once for all of the ``copies`` of it, rows one behind the other, that
        ``generate(num_return_sequences=copies)`` begins with; its keys and values are repeated. Static caches are left
        as they are."""

        def before(text: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
            nonlocal shared
            cache = keywords.get("past_key_values")
            shared = copies > 1 and isinstance(cache, DynamicCache) and cache.get_seq_length() == 0
            return arguments, self.each_once(keywords, copies) if shared else keywords

        def behind(text: nn.Module, arguments: tuple, outputs: Any) -> Any:
            if shared:
                outputs.last_hidden_state = outputs.last_hidden_state.repeat_interleave(copies, 0)
                outputs.past_key_values.batch_repeat_interleave(copies)
            return outputs

        shared = False
        hooks = (
            self.text.register_forward_pre_hook(before, with_kwargs=True),
            self.text.register_forward_hook(behind),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def each_once(self, given: Mapping[str, Any], copies: int) -> dict[str, Any]:
        """What the decoder is given, of the first of every ``copies`` rows."""
        first = {"inputs_embeds": lambda x: x[::copies], "attention_mask": lambda x: x[::copies],
                 "position_ids": lambda x: x[..., ::copies, :]}  # fmt: skip
        return {name: first[name](x) if name in first and x is not None else x for name, x in given.items()}


class _Qwen(Anatomy):
    """Qwen2.5-VL and Qwen3-VL: packed patches with 2D RoPE, 3D positions in the decoder."""

    vision_targets = r"attn\.(qkv|proj)"

    @property
    def image_token(self) -> int:
        return self.config.image_token_id

    @property
    def vision_ids(self) -> tuple[int, ...]:
        return (self.config.image_token_id, self.config.video_token_id)

    @property
    def tower(self) -> Any:
        return self.core.visual

    @property
    def blocks(self) -> nn.ModuleList:
        return self.tower.blocks

    @property
    def merge(self) -> int:
        return self.tower.spatial_merge_size**2

    def positions(
        self, ids: Int[Tensor, "B L"], there: Bool[Tensor, "B L"], inputs: Mapping[str, Any]
    ) -> Int[Tensor, "*axes B L"]:
        grid = inputs.get("image_grid_thw")
        if grid is None:
            return super().positions(ids, there, inputs).expand(3, -1, -1)
        kinds = (ids == self.image_token).int()
        return self.core.get_rope_index(ids, kinds, image_grid_thw=grid, attention_mask=there.long())[0]

    def run_block(self, block: int, slots: Float[Tensor, "R S C"]) -> Float[Tensor, "R S C"]:
        rows, size, _ = slots.shape
        bounds = torch.arange(rows + 1, dtype=torch.int32, device=slots.device) * size
        head = self.vision_width // self.config.vision_config.num_heads
        still = slots.new_ones(rows * size, head), slots.new_zeros(rows * size, head)  # cos, sin of no rotation
        out = self.blocks[block](slots.flatten(0, 1), cu_seqlens=bounds, max_seqlen=size, position_embeddings=still)
        return out.view_as(slots)

    def project(self, slots: Float[Tensor, "R MN C"]) -> Float[Tensor, "R N D"]:
        return self.tower.merger(slots.flatten(0, 1)).unflatten(0, (len(slots), -1))

    def images_of_rows(self, ids: Int[Tensor, "B L"], inputs: Mapping[str, Any]) -> list[int]:
        grid = inputs["image_grid_thw"]
        sizes = (grid.prod(-1) // self.merge).tolist()
        counts, image = [], 0
        for tokens in (ids == self.image_token).sum(1).tolist():
            first = image
            while tokens > 0 and image < len(sizes):
                tokens -= sizes[image]
                image += 1
            if tokens:
                raise ValueError(f"the image tokens of the rows do not agree with image_grid_thw {grid.tolist()}")
            counts.append(image - first)
        return counts


class Qwen25VL(_Qwen):
    """Qwen2.5-VL: most blocks of the encoder see a window only."""

    def sees_image(self, block: int) -> bool:
        return block in self.tower.fullatt_block_indexes


class Qwen3VL(_Qwen):
    """Qwen3-VL. Its DeepStack adds features of the image inside the decoder; latents get none."""

    def each_once(self, given: Mapping[str, Any], copies: int) -> dict[str, Any]:
        once, places = super().each_once(given, copies), given["visual_pos_masks"]
        if places is None:
            return once
        kept = places.nonzero()[:, 0] % copies == 0
        features = [of_layer[kept] for of_layer in given["deepstack_visual_embeds"]]
        return once | {"visual_pos_masks": places[::copies], "deepstack_visual_embeds": features}


class _Tiles(Anatomy):
    """Vision encoders that take a batch of images of one size."""

    vision_targets = r"(q_proj|v_proj)"

    @property
    def image_token(self) -> int:
        return self.config.image_token_id

    @property
    def tower(self) -> Any:
        return self.core.vision_tower

    @property
    def _used(self) -> int:
        """How many blocks there are before the layer that is read."""
        layer, layers = self.config.vision_feature_layer, self.config.vision_config.num_hidden_layers
        if not isinstance(layer, int):
            raise ValueError(f"a memory needs one vision feature layer, not {layer}")
        return layers + 1 + layer if layer < 0 else layer


class InternVL(_Tiles):
    """InternVL: tiles of 448 pixels, four patches to a token."""

    @property
    def blocks(self) -> nn.ModuleList:
        return self.tower.encoder.layer[: self._used]

    @property
    def vision_width(self) -> int:
        return self.config.vision_config.hidden_size

    @property
    def merge(self) -> int:
        return round(1 / self.config.downsample_ratio) ** 2

    def run_block(self, block: int, slots: Float[Tensor, "R S C"]) -> Float[Tensor, "R S C"]:
        return self.blocks[block](slots)

    def project(self, slots: Float[Tensor, "R MN C"]) -> Float[Tensor, "R N D"]:
        if self.config.vision_feature_layer == -1:
            slots = self.tower.layernorm(slots)
        return self.core.multi_modal_projector(slots.unflatten(1, (-1, self.merge)).flatten(2))

    def tokens_of(self, patches: Float[Tensor, "R T P"]) -> Float[Tensor, "R T V"]:
        """The class token aside, patches stand row by row, and so do their squares."""
        vision, side = self.config.vision_config, round(self.merge**0.5)
        high, wide = (pixels // patch for pixels, patch in zip(vision.image_size, vision.patch_size, strict=True))
        tiles = patches.unflatten(-1, (-1, 1 + high * wide))[..., 1:]
        squares = tiles.unflatten(-1, (high // side, side, wide // side, side)).sum((-3, -1))
        return squares.flatten(2)

    def images_of_rows(self, ids: Int[Tensor, "B L"], inputs: Mapping[str, Any]) -> list[int]:
        vision = self.config.vision_config
        patches = (vision.image_size[0] // vision.patch_size[0]) * (vision.image_size[1] // vision.patch_size[1])
        return ((ids == self.image_token).sum(1) // (patches // self.merge)).tolist()


class LlavaOnevision(_Tiles):
    """LLaVA-OneVision: SigLIP on the image and its tiles, a token per patch."""

    merge = 1

    @property
    def blocks(self) -> nn.ModuleList:
        return self.tower.encoder.layers[: self._used]

    def run_block(self, block: int, slots: Float[Tensor, "R S C"]) -> Float[Tensor, "R S C"]:
        return self.blocks[block](slots, attention_mask=None)

    def project(self, slots: Float[Tensor, "R MN C"]) -> Float[Tensor, "R N D"]:
        return self.core.multi_modal_projector(slots)

    def images_of_rows(self, ids: Int[Tensor, "B L"], inputs: Mapping[str, Any]) -> list[int]:
        from transformers.models.llava_onevision.modeling_llava_onevision import image_size_to_num_patches

        sizes, per_row = inputs["image_sizes"], inputs.get("batch_num_images")
        rows = self.shows(ids).any(1).long().tolist() if per_row is None else [int(number) for number in per_row]
        if sum(rows) != len(sizes):
            raise ValueError(f"{len(sizes)} images for {len(ids)} rows: say how many each has in batch_num_images")
        tiles, image = [], 0
        for number in rows:
            of_row = sizes[image : image + number]
            cut = number == 1  # images of a row with several are not cut into tiles
            tiles.append(sum(self._tiles(size, image_size_to_num_patches) if cut else 1 for size in of_row))
            image += number
        return tiles

    def _tiles(self, size: Any, count: Any) -> int:
        return count(
            image_size=size,
            grid_pinpoints=self.config.image_grid_pinpoints,
            patch_size=self.config.vision_config.image_size,
        )


class Janus(Anatomy):
    """Janus, where it understands: SigLIP on images of one size, a token per patch. What makes images has no part."""

    vision_targets = r"(q_proj|v_proj)"
    merge = 1

    @property
    def image_token(self) -> int:
        return self.config.image_token_id

    @property
    def tower(self) -> Any:
        return self.core.vision_model

    @property
    def blocks(self) -> nn.ModuleList:
        return self.tower.encoder.layers

    def run_block(self, block: int, slots: Float[Tensor, "R S C"]) -> Float[Tensor, "R S C"]:
        return self.blocks[block](slots, attention_mask=None)

    def project(self, slots: Float[Tensor, "R MN C"]) -> Float[Tensor, "R N D"]:
        return self.core.aligner(self.tower.post_layernorm(slots))

    def images_of_rows(self, ids: Int[Tensor, "B L"], inputs: Mapping[str, Any]) -> list[int]:
        vision = self.config.vision_config
        return ((ids == self.image_token).sum(1) // (vision.image_size // vision.patch_size) ** 2).tolist()

    def generate(self, **inputs: Any) -> Any:
        """Janus's own ``generate`` chooses between text and images, and drops logits processors on the way to text."""
        return GenerationMixin.generate(self.vlm, guidance_scale=None, **inputs)


TEXT_INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
"""Inputs with a column for each token; all others describe images."""


def together(prompts: Sequence[Mapping[str, Tensor]], pad: int) -> dict[str, Tensor]:
    """Inputs of several prompts, a batch of one each, as one batch: texts padded on the left, images one behind the
    other. Where images have different numbers of tiles, empty ones fill up."""
    prompts = [{"attention_mask": torch.ones_like(prompt["input_ids"])} | dict(prompt) for prompt in prompts]
    longest = max(prompt["input_ids"].shape[1] for prompt in prompts)
    batch = {}
    for name in {name: None for prompt in prompts for name in prompt}:
        parts = [prompt[name] for prompt in prompts if name in prompt]
        if name in TEXT_INPUTS:
            fill = pad if name == "input_ids" else 0
            parts = [F.pad(part, (longest - part.shape[1], 0), value=fill) for part in parts]
        elif len({part.shape[1:] for part in parts}) > 1:
            most, behind = max(part.shape[1] for part in parts), [0, 0] * (parts[0].ndim - 2)
            parts = [F.pad(part, (*behind, 0, most - part.shape[1])) for part in parts]
        batch[name] = torch.cat(parts)
    return batch


FAMILIES: dict[str, type[Anatomy]] = {
    "qwen2_5_vl": Qwen25VL,
    "qwen3_vl": Qwen3VL,
    "internvl": InternVL,
    "llava_onevision": LlavaOnevision,
    "janus": Janus,
}
"""By ``config.model_type``."""


def anatomy(vlm: PreTrainedModel) -> Anatomy:
    """The parts of ``vlm``.

    Raises:
        ValueError: its family is not known here.
    """
    kind = vlm.config.model_type
    if kind not in FAMILIES:
        raise ValueError(f"no memory for VLMs of type {kind!r} yet; there are {', '.join(FAMILIES)} (memory/vlms.py)")
    return FAMILIES[kind](vlm)
