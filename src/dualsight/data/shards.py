"""Shards of labelled pictures: ``images`` (N, H, W, 3) uint8 in a safetensors file, their labels in its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
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


def read_shards(paths: Iterable[Path], name: str, where: str = "") -> Iterator[tuple[Frame, Any]]:
    """The pictures of some shards with their labels.

    Args:
        name: of the ``dualsight data`` command that makes them.
        where: they were looked for, for the error.

    Raises:
        FileNotFoundError: there are no shards.
        ValueError: a file has no labels.
    """
    found = sorted(paths)
    if not found:
        raise FileNotFoundError(f"no shards of {name}{where}: run `dualsight data {name}` first")
    for path in found:
        with safe_open(path, framework="np") as file:
            labels = json.loads((file.metadata() or {}).get("labels", "[]"))
            images = file.get_tensor("images")
        if len(labels) != len(images):
            raise ValueError(f"{path} is no shard of {name}: {len(images)} images, {len(labels)} labels")
        yield from zip(images, labels, strict=True)
