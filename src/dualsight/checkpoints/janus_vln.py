"""JanusVLN on disk: our own folders, and the released checkpoints read and written in their own layout.

A folder holds ``config.json``, ``model.safetensors`` (or shards with an index) and the tokenizer. The parameter names
are the release's in both cases, since the model's attributes are named after it. What differs is the config: the
release has transformers 4.50's flat Qwen2.5-VL config with ``lam`` and ``vggt_merger_hidden_dim`` added, and VGGT's
sizes nowhere, as they are always VGGT-1B's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from dualsight.checkpoints.weights import CheckpointError, WeightFiles, load_weights, save_weights, write_json
from dualsight.models.janus_vln import JanusVLN
from dualsight.models.janus_vln_config import JANUS_VLN_7B, JanusVLNConfig, TextConfig, TokenIds, VisionConfig
from dualsight.models.vln_processor import VLNProcessor

RELEASED_CLASS = "Qwen2_5_VLForConditionalGenerationForJanusVLN"
DENSE_HEADS = ("vggt.point_head.", "vggt.depth_head.")
"""In every released file, never called by the release."""


def save_pretrained(
    model: JanusVLN, processor: VLNProcessor, folder: str | Path, dtype: torch.dtype | None = None
) -> None:
    """Write model and tokenizer. ``dtype`` is that of the stored weights (float16 halves the file)."""
    _save(model, processor, Path(folder), model.config.to_dict(), dtype)


def save_released(
    model: JanusVLN, processor: VLNProcessor, folder: str | Path, dtype: torch.dtype | None = torch.bfloat16
) -> None:
    """Write model and tokenizer as the release does: what was loaded from it, with its dense heads, goes back whole."""
    _save(model, processor, Path(folder), released_config(model.config), dtype)


def _save(model: JanusVLN, processor: VLNProcessor, folder: Path, config: dict, dtype: torch.dtype | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model.state_dict(), folder, dtype)
    processor.tokenizer.save_pretrained(folder)
    write_json(folder / "config.json", config)


def from_pretrained(
    folder: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    dense_heads: bool = False,
) -> tuple[JanusVLN, VLNProcessor]:
    """Load a model and its processor from a folder of ours or of the release.

    Args:
        dense_heads: also load VGGT's point and depth heads from a released checkpoint (to save it back whole).

    Raises:
        CheckpointError: the folder holds no such checkpoint, or a damaged or foreign one; what is wrong is named.
    """
    folder = Path(folder)
    config, released = read_config(folder)
    tokenizer = load_tokenizer(folder, released)
    if released and not dense_heads:
        config = replace(config, vggt=replace(config.vggt, heads=()))
    with init_empty_weights():
        model = JanusVLN(config)
    load_weights(model, WeightFiles(folder), dtype, ignore=DENSE_HEADS if released and not dense_heads else ())
    return model.to(device).eval(), VLNProcessor(config, tokenizer)


def load_tokenizer(folder: Path, released: bool) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder; CheckpointError where there is none."""
    try:
        # AutoTokenizer would ask for a config of a model type it knows; ours is one tokenizer.json
        return (AutoTokenizer if released else PreTrainedTokenizerFast).from_pretrained(folder)  # ty: ignore[invalid-explicit-return]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} holds no readable tokenizer: {error}") from error


def read_config(folder: Path) -> tuple[JanusVLNConfig, bool]:
    """The config of a folder, and whether it is a released checkpoint."""
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text())
        released = data.get("model_type") == "qwen2_5_vl"
        return (config_of_release(data) if released else JanusVLNConfig.from_dict(data)), released
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no config.json. What dualsight ships lies in checkpoints/ of its "
            "repository; `dualsight train imitate` makes others"
        ) from error
    except (json.JSONDecodeError, AttributeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a JanusVLN config: {error}") from error


def config_of_release(data: dict[str, Any]) -> JanusVLNConfig:
    """Our config for a released ``config.json`` (transformers 4.50 layout); KeyError names what it lacks."""
    vision = data["vision_config"]
    text = {name: data[name] for name in _TEXT_NAMES}
    return replace(
        JANUS_VLN_7B,
        vision=VisionConfig(
            **{
                name: vision[name] for name in ("depth", "hidden_size", "intermediate_size", "num_heads", "window_size")
            },
            fullatt_block_indexes=tuple(vision["fullatt_block_indexes"]),
            patch_size=vision.get("patch_size", 14),
        ),
        text=TextConfig(**text, mrope_section=tuple(data["rope_scaling"]["mrope_section"])),
        merger_hidden=data.get("vggt_merger_hidden_dim", 4096),
        lam=data.get("lam", 0.2),
        tokens=TokenIds(
            data["image_token_id"], data["vision_start_token_id"], data["vision_end_token_id"], data["eos_token_id"]
        ),
    )


def released_config(config: JanusVLNConfig) -> dict[str, Any]:
    """The released ``config.json`` of a model: the inverse of ``config_of_release``.

    Raises:
        ValueError: the model has something the released class cannot express.
    """
    if config.fusion != "add" or replace(config.vggt, heads=()) != replace(JANUS_VLN_7B.vggt, heads=()):
        raise ValueError("the released class adds VGGT-1B's features; this model does not: use save_pretrained")
    text = asdict(config.text)
    section = list(text.pop("mrope_section"))
    vision = {**asdict(config.vision), "out_hidden_size": config.text.hidden_size, "model_type": "qwen2_5_vl"}
    return {
        "architectures": [RELEASED_CLASS],
        "model_type": "qwen2_5_vl",
        **text,
        "rope_scaling": {"type": "mrope", "mrope_section": section},
        "vision_config": {**vision, "fullatt_block_indexes": list(config.vision.fullatt_block_indexes)},
        "image_token_id": config.tokens.image,
        "vision_start_token_id": config.tokens.vision_start,
        "vision_end_token_id": config.tokens.vision_end,
        "eos_token_id": config.tokens.end_of_turn,
        "vggt_merger_hidden_dim": config.merger_hidden,
        "lam": config.lam,
        "tie_word_embeddings": False,
    }


_TEXT_NAMES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rope_theta",
    "rms_norm_eps",
)
