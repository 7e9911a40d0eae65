"""VLMs of five families with random weights, small enough to test on, and a batch of prompts for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessor,
    JanusProcessor,
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "internvl", "llava_onevision", "janus")
SEEDS = {"janus": 1}
"""Of weights whose greedy answers have delimiters enough for both kinds of memory; 0 for all others."""
VOCABULARY, IMAGE, VIDEO, START, END = 60, 50, 51, 52, 53
DELIMITERS = (5, 6)
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "max_position_embeddings": 512,
}  # fmt: skip
VISION = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}


def tiny_vlm(family: str, **text: Any):
    """One of ``FAMILIES``; ``text`` changes the decoder's settings."""
    torch.manual_seed(SEEDS.get(family, 0))
    language = TEXT | text
    ids = {"image_token_id": IMAGE, "video_token_id": VIDEO}
    if family == "qwen2_5_vl":
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
        vision = {
            "depth": 3, "hidden_size": 24, "intermediate_size": 40, "num_heads": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 1, "window_size": 16, "fullatt_block_indexes": [1, 2],
            "out_hidden_size": 32,
        }  # fmt: skip
        marks = {"vision_start_token_id": START, "vision_end_token_id": END}
        config = Qwen2_5_VLConfig(
            text_config=language | {"rope_parameters": rope}, vision_config=vision, **ids, **marks
        )
        model = Qwen2_5_VLForConditionalGeneration(config)
    elif family == "qwen3_vl":
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "mrope_interleaved": True, "rope_theta": 10000.0}
        vision = {
            "depth": 3, "hidden_size": 24, "intermediate_size": 40, "num_heads": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 1, "out_hidden_size": 32, "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        }  # fmt: skip
        marks = {"vision_start_token_id": START, "vision_end_token_id": END}
        config = Qwen3VLConfig(
            text_config=language | {"rope_parameters": rope, "head_dim": 8}, vision_config=vision, **ids, **marks
        )
        model = Qwen3VLForConditionalGeneration(config)
    elif family == "internvl":
        vision = InternVLVisionConfig(**VISION, image_size=[16, 16], patch_size=[4, 4])
        config = InternVLConfig(
            vision_config=vision, text_config=Qwen2Config(**language), image_token_id=IMAGE, image_seq_length=4
        )
        model = InternVLForConditionalGeneration(config)
    elif family == "janus":
        vision = VISION | {"image_size": 16, "patch_size": 8, "num_image_tokens": 4, "projection_dim": 32}
        vq = {
            "embed_dim": 4, "num_embeddings": 8, "latent_channels": 32, "base_channels": 32,
            "channel_multiplier": [1, 1], "num_res_blocks": 1, "projection_dim": 32, "image_token_embed_dim": 32,
            "num_patches": 2,
        }  # fmt: skip
        config = JanusConfig(
            text_config=LlamaConfig(**language), vision_config=vision, vq_config=vq, image_token_id=IMAGE,
            tie_word_embeddings=False,
        )  # fmt: skip
        model = JanusForConditionalGeneration(config)
    else:
        vision = SiglipVisionConfig(**VISION, image_size=16, patch_size=4, vision_use_head=False)
        config = LlavaOnevisionConfig(
            vision_config=vision, text_config=Qwen2Config(**language), image_grid_pinpoints=[[16, 16]],
            image_token_id=IMAGE, video_token_id=VIDEO, vision_feature_layer=-1,
        )  # fmt: skip
        model = LlavaOnevisionForConditionalGeneration(config)
    with torch.no_grad():  # sharper than transformers' start, so that a difference in what is read shows
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model.eval()


def images(family: str, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """``count`` images of 16 x 16 pixels as the model takes them."""
    rng = torch.Generator().manual_seed(seed)
    if family.startswith("qwen"):
        pixels = torch.randn(count * 16, 3 * 4 * 4, generator=rng)
        return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 4, 4]] * count)}
    if family in ("internvl", "janus"):
        return {"pixel_values": torch.randn(count, 3, 16, 16, generator=rng)}
    pixels = torch.randn(count, 2, 3, 16, 16, generator=rng)
    return {"pixel_values": pixels, "image_sizes": torch.tensor([[16, 16]] * count)}


def image_tokens(family: str, model: Any) -> int:
    """Tokens of one of these images."""
    if family != "llava_onevision":
        return 4
    features = model.get_image_features(**images(family, 1)).pooler_output
    return len(features[0])


def take(family: str, inputs: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """The image of one row."""
    if family.startswith("qwen"):
        return {
            "pixel_values": inputs["pixel_values"][row * 16 : row * 16 + 16],
            "image_grid_thw": inputs["image_grid_thw"][row : row + 1],
        }
    return {name: tensor[row : row + 1] for name, tensor in inputs.items()}


def prompts(family: str, model: Any, texts: list[list[int]]) -> dict[str, torch.Tensor]:
    """An image and some text for each row, padded on the left."""
    marks = [START, *[IMAGE] * image_tokens(family, model), END]
    rows = [[*marks, *text] for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    there = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    found = {"input_ids": ids, "attention_mask": there, **images(family, len(rows))}
    if family.startswith("qwen"):
        found["mm_token_type_ids"] = (ids == IMAGE).int()
    return found


def janus_folder(folder: Path) -> Path:
    """A Janus of transformers with its processor, as a user has it on disk; words are ``w0`` to ``w49``."""
    marks = {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    words = {f"w{number}": number for number in range(50)} | {"<image>": IMAGE, "<boi>": START, "<eoi>": END, ":": 5}
    words = {word: number for word, number in words.items() if word == ":" or number != 5}
    made = Tokenizer(WordLevel(words, unk_token="w3"))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    made.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks.values()])
    ends = {"pad_token": "w0", "bos_token": "w1", "eos_token": "w2"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w3", extra_special_tokens=marks, **ends)
    template = (
        "{% for message in messages %}{% for part in message.content %}{{ part.text if part.type == 'text' else "
        "'<image>' }} {% endfor %}{% endfor %}{% if add_generation_prompt %}:{% endif %}"
    )
    images = JanusImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    JanusProcessor(images, tokenizer, chat_template=template, num_image_tokens=4).save_pretrained(folder)
    tiny_vlm("janus").save_pretrained(folder)
    return folder
