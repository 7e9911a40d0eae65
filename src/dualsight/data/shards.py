"""Shards of labelled pictures: ``images`` (N, H, W, 3) uint8 in a safetensors file, their labels in its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dualsight.data.files import replacing
from dualsight.types import Frame


def write_shard(path: Path, images: Sequence[Frame], labels: Sequence[Any]) -> None:
    """Write a shard; the labels are plain JSON, one for each picture.

    Raises:
        ValueError: there are no pictures.
        NotWritten: the disk is full.
    """
    if not images:
        raise ValueError(f"no pictures to write to {path}")
    with replacing(path) as temporary:
        save_file({"images": np.stack(images)}, temporary, {"labels": json.dumps(labels)})


def shards_in(folder: Path, name: str) -> list[Path]:
    """The shards in a folder, ``NAME-*.safetensors``.

    Args:
        name: of the ``dualsight data`` command that makes them.

    Raises:
        FileNotFoundError: there are none.
    """
    found = sorted(folder.glob(f"{name}-*.safetensors"))
    if not found:
        raise FileNotFoundError(f"no shards of {name} in {folder}: run `dualsight data {name}` first")
    return found


def read_shards(folder: Path, name: str) -> Iterator[tuple[Frame, Any]]:
    """The pictures of all shards in a folder with their labels. Arguments as for `shards_in`.

    Raises:
        FileNotFoundError: there are no shards.
        ValueError: a file has no labels.
    """
    for path in shards_in(folder, name):
        with safe_open(path, framework="np") as file:
            labels = json.loads((file.metadata() or {}).get("labels", "[]"))
            images = file.get_tensor("images")
        if len(labels) != len(images):
            raise ValueError(f"{path} is no shard of {name}: {len(images)} images, {len(labels)} labels")
        yield from zip(images, labels, strict=True)
