"""Recollections on disk: ``config.json`` and ``recollection.safetensors``, never the navigator."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dualsight.checkpoints.weights import (
    CheckpointError,
    WeightFiles,
    load_weights,
    read_config,
    save_tensors,
    write_json,
)
from dualsight.models.janus_vln import JanusVLN
from dualsight.models.recollection import Recollection, RecollectionConfig
from dualsight.nn.config import build

WEIGHTS = "recollection.safetensors"


def save_recollection(memory: Recollection, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write what was learnt to ``folder``; ``dtype`` is that of the weights on disk, as they are by default."""
    save_tensors(memory.state_dict(), folder / WEIGHTS, dtype)
    choices = {"navigator": _owner(memory.navigator), "memory": asdict(memory.config)}
    write_json(folder / "config.json", {"model_type": "recollection", **choices})


def load_recollection(navigator: JanusVLN, folder: Path) -> Recollection:
    """The memory in ``folder`` around ``navigator``.

    Raises:
        CheckpointError: there is none, it belongs to a navigator of other sizes, or its weights are not its config's.
        ValueError: its config has what no recollection has.
    """
    data = read_config(folder, "recollection", "memory", "dualsight study navigator-memory")
    memory = Recollection(navigator, build(RecollectionConfig, data["memory"], f"{folder}/config.json: memory"))
    if (owner := _owner(navigator)) != data["navigator"]:
        raise CheckpointError(
            f"the memory in {folder} belongs to a navigator of {data['navigator']}; this one: {owner}"
        )
    load_weights(memory, WeightFiles(folder / WEIGHTS))
    return memory


def _owner(navigator: JanusVLN) -> dict[str, Any]:
    """What a navigator must be like for a memory to fit it."""
    config = navigator.config
    return {
        "width": config.text.hidden_size, "image_tokens": config.image_tokens,
        "initial": config.initial, "recent": config.recent,
    }  # fmt: skip
