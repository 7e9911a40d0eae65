"""Reading and writing weights in safetensors, one file or sharded, with every name and shape checked first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class CheckpointError(ValueError):
    """A checkpoint that is not what it should be: what was found, what was expected."""


class WeightFiles:
    """The tensors of a folder (one ``model.safetensors``, or shards with an index) or of one safetensors file.

    Shapes are read without the data, so a foreign checkpoint is refused before anything is loaded.

    Raises:
        CheckpointError: there are no weights, a shard is missing, or a file is damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.files = [self.path] if self.path.is_file() else _files_of(self.path)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._home: dict[str, Path] = {}
        for file in self.files:
            with _open(file) as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    self.shapes[name] = tuple(tensors.get_slice(name).get_shape())
                    self._home[name] = file

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors, as they are stored."""
        wanted, found = set(names), {}
        for file in self.files:
            with _open(file) as tensors:
                found |= {name: tensors.get_tensor(name) for name in wanted if self._home[name] == file}
        return found


def _open(file: Path):
    try:
        return safe_open(file, "pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a readable safetensors file ({error}); copy or download it again"
        ) from error


def _files_of(folder: Path) -> list[Path]:
    if (folder / INDEX).exists():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{folder / INDEX} is not an index of shards: {error!r}") from error
        if absent := [name for name in names if not (folder / name).exists()]:
            raise CheckpointError(f"{folder} lacks {', '.join(absent)}, which its index names")
        return [folder / name for name in names]
    if not (folder / SINGLE).exists():
        raise CheckpointError(f"{folder} holds no weights: expected {SINGLE} or {INDEX}")
    return [folder / SINGLE]


def load_weights(
    model: nn.Module, weights: WeightFiles, dtype: torch.dtype = torch.float32, ignore: Sequence[str] = ()
) -> None:
    """Put ``weights`` into ``model``, whose parameters may still be on the meta device.

    Args:
        ignore: prefixes of tensors that the file may hold and the model does not want.

    Raises:
        CheckpointError: names are missing or unknown, or shapes differ; the error lists them.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: shape for name, shape in weights.shapes.items() if not name.startswith(tuple(ignore))}
    check_names(found, expected, str(weights.path))
    state = {name: tensor.to(dtype) for name, tensor in weights.read(expected).items()}
    model.load_state_dict(state, assign=True)


def check_names(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], where: str) -> None:
    """Raise a CheckpointError that lists what is missing, what is unknown and what has another shape."""
    wrong = [
        f"{name} has shape {found[name]}, the model {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    groups = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "wrong shape": wrong,
    }
    if not any(groups.values()):
        return
    lines = [f"{kind} ({len(names)}): {_some(names)}" for kind, names in groups.items() if names]
    raise CheckpointError(f"{where} does not fit this model:\n  " + "\n  ".join(lines))


def _some(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def save_weights(state: dict[str, Tensor], folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a state dict as safetensors, in shards of 5 GB. Files get their names only once they are whole."""
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in state.items()}
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_torch_state_dict(state, partial, max_shard_size="5GB")
        for old in [*folder.glob("model*.safetensors"), folder / INDEX]:
            if not (partial / old.name).exists():
                old.unlink(missing_ok=True)
        for file in sorted(partial.iterdir(), key=lambda file: file.name == INDEX):
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_config(folder: Path, kind: str, what: str, maker: str) -> dict[str, Any]:
    """``config.json`` of a folder of ours, whose ``model_type`` is ``kind``, without it.

    Args:
        what: is sought there, for messages.
        maker: the command that writes one.

    Raises:
        CheckpointError: there is none, or it is of something else.
    """
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text())
        found = data.pop("model_type")
    except FileNotFoundError as error:
        raise CheckpointError(f"no {what} in {folder}: config.json is missing (`{maker}` writes one)") from error
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is no config: {error!r}") from error
    if found != kind:
        raise CheckpointError(f"{path} is of a {found!r}, not of a {what} ({kind!r})")
    return data


def save_tensors(state: dict[str, Tensor], path: Path, dtype: torch.dtype | None = None) -> None:
    """Write one safetensors file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file({name: t.detach().to("cpu", dtype).contiguous() for name, t in state.items()}, temporary)
    temporary.chmod(0o644)
    os.replace(temporary, path)


def write_json(path: Path, data: dict) -> None:
    """Write JSON whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(data, indent=2) + "\n")
    os.replace(temporary, path)
