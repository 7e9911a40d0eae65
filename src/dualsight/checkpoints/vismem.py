"""Memories on disk: only what was learnt, never the VLM.

::

    config.json          sizes and choices, delimiters, and which VLM they belong to
    memory.safetensors   query builder, slots, projections, rows of the new tokens
    short/, long/        the formers' LoRAs, in the layout of peft
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from dualsight.checkpoints.weights import (
    CheckpointError,
    WeightFiles,
    check_names,
    read_config,
    save_tensors,
    write_json,
)
from dualsight.memory.latent import Adapters
from dualsight.models.vismem import KINDS, VisMem, VisMemConfig
from dualsight.nn.config import build

WEIGHTS, LORA = "memory.safetensors", "adapter_model.safetensors"


def save_memory(memory: VisMem, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write what was learnt to ``folder``.

    Args:
        dtype: of the weights on disk; as they are by default.
    """
    state = {name: tensor for name, tensor in memory.state_dict().items() if ".adapters." not in name}
    save_tensors(state, folder / WEIGHTS, dtype)
    for kind, adapters in _adapters(memory):
        save_tensors(_peft_state(memory, adapters), folder / kind / LORA, dtype)
        write_json(folder / kind / "adapter_config.json", _peft_config(memory, adapters))
    choices = {"vlm": _owner(memory), "delimiters": list(memory.delimiters), "memory": asdict(memory.config)}
    write_json(folder / "config.json", {"model_type": "vismem", **choices})


def load_memory(vlm: PreTrainedModel, folder: Path) -> VisMem:
    """The memory in ``folder`` around ``vlm``.

    Raises:
        CheckpointError: there is none, it belongs to another VLM, or its weights are not those of its config.
        ValueError: its config has what no memory has.
    """
    data = read_config(folder, "vismem", "memory", "dualsight train memory")
    memory = VisMem(vlm, data["delimiters"], build(VisMemConfig, data["memory"], f"{folder}/config.json: memory"))
    if _owner(memory) != data["vlm"]:
        raise CheckpointError(f"the memory in {folder} belongs to a VLM of {data['vlm']}; this one is {_owner(memory)}")
    state = {name: tensor for name, tensor in memory.state_dict().items() if ".adapters." not in name}
    _load(state, folder / WEIGHTS)
    for kind, adapters in _adapters(memory):
        _load(_peft_state(memory, adapters), folder / kind / LORA)
    return memory


def _owner(memory: VisMem) -> dict[str, Any]:
    """What a VLM must be like for a memory to fit it."""
    return {
        "model_type": memory.vlm.config.model_type, "vocabulary": memory.tokens.first, "width": memory.parts.width,
    }  # fmt: skip


def _adapters(memory: VisMem) -> Iterator[tuple[str, Adapters]]:
    return zip(KINDS, (memory.short.adapters, memory.long.adapters), strict=True)


def _layer_names(memory: VisMem, adapters: Adapters) -> list[str]:
    """What the VLM calls the layers that are adapted."""
    names = {module: name for name, module in memory.vlm.named_modules()}
    return [names[layer] for layer in adapters.layers]


def _peft_state(memory: VisMem, adapters: Adapters) -> dict[str, Tensor]:
    state = {}
    for name, a, b in zip(_layer_names(memory, adapters), adapters.a, adapters.b, strict=True):
        state |= {f"base_model.model.{name}.lora_A.weight": a.data, f"base_model.model.{name}.lora_B.weight": b.data}
    return state


def _peft_config(memory: VisMem, adapters: Adapters) -> dict[str, Any]:
    return {
        "peft_type": "LORA", "r": memory.config.rank, "lora_alpha": memory.config.alpha, "lora_dropout": 0.0,
        "bias": "none", "target_modules": _layer_names(memory, adapters), "inference_mode": True,
    }  # fmt: skip


def _load(state: dict[str, Tensor], path: Path) -> None:
    """Fill ``state``'s tensors in place."""
    files = WeightFiles(path)
    check_names(files.shapes, {name: tuple(tensor.shape) for name, tensor in state.items()}, str(path))
    with torch.no_grad():
        for name, tensor in files.read(state).items():
            state[name].copy_(tensor)
