"""Memories on disk: only what was learnt, never the VLM.

::

    config.json          sizes and choices, delimiters, and which VLM they belong to
    memory.safetensors   query builder, slots, projections, rows of the new tokens
    short/, long/        the formers' LoRAs, in the layout of peft
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from dualsight.checkpoints.weights import WeightFiles, check_names, write_json
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
    _write(state, folder / WEIGHTS, dtype)
    for kind, adapters in _adapters(memory):
        _write(_peft_state(memory, adapters), folder / kind / LORA, dtype)
        write_json(folder / kind / "adapter_config.json", _peft_config(memory, adapters))
    vlm = {"model_type": memory.vlm.config.model_type, "vocabulary": memory.tokens.first, "width": memory.parts.width}
    write_json(
        folder / "config.json",
        {"model_type": "vismem", "vlm": vlm, "delimiters": list(memory.delimiters), "memory": asdict(memory.config)},
    )


def load_memory(vlm: PreTrainedModel, folder: Path) -> VisMem:
    """The memory in ``folder`` around ``vlm``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it belongs to another VLM, or its weights are not those that its config asks for.
    """
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"no memory in {folder}: config.json is missing")
    data = json.loads(path.read_text())
    if data.get("model_type") != "vismem":
        raise ValueError(f"{path} is of a {data.get('model_type')!r}, not of a memory ('vismem')")
    memory = VisMem(vlm, data["delimiters"], build(VisMemConfig, data["memory"], f"{path}: memory"))
    own = {"model_type": vlm.config.model_type, "vocabulary": memory.tokens.first, "width": memory.parts.width}
    if own != data["vlm"]:
        raise ValueError(f"the memory in {folder} belongs to a VLM of {data['vlm']}; this one is {own}")
    state = {name: tensor for name, tensor in memory.state_dict().items() if ".adapters." not in name}
    _load(state, folder / WEIGHTS)
    for kind, adapters in _adapters(memory):
        _load(_peft_state(memory, adapters), folder / kind / LORA)
    return memory


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


def _write(state: dict[str, Tensor], path: Path, dtype: torch.dtype | None) -> None:
    cast = {name: tensor.to(dtype or tensor.dtype).contiguous().cpu() for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file(cast, temporary)
    temporary.chmod(0o644)
    os.replace(temporary, path)


def _load(state: dict[str, Tensor], path: Path) -> None:
    """Fill ``state``'s tensors in place."""
    files = WeightFiles(path)
    check_names(files.shapes, {name: tuple(tensor.shape) for name, tensor in state.items()}, str(path))
    with torch.no_grad():
        for name, tensor in files.read(state).items():
            state[name].copy_(tensor)
