"""Chats in the formats of Hugging Face: what `datasets` saved to disk, and parquet. Needs the extra ``data``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualsight.data.image_folder import ImageFolder
from dualsight.data.reader import Reader
from dualsight.data.rows import BadData
from dualsight.extras import install


class HubDataset(Reader):
    """The rows of a folder written by ``save_to_disk``, or of a parquet file, memory-mapped.

    `datasets` rewrites a parquet file once as Arrow, in its cache, because parquet itself has no random access.

    Args:
        split: which one of a ``DatasetDict``; not needed where there is only one.

    Raises:
        ImportError: the extra is missing.
        BadData: `datasets` cannot read it, or the split is not there or not named.
    """

    def __init__(
        self,
        path: Path,
        folder: ImageFolder | None = None,
        columns: Mapping[str, str] | None = None,
        split: str | None = None,
    ):
        super().__init__(path, folder, columns)
        # As Arrow, an image column gives the bytes that the file holds, also inside lists; as Python it would decode.
        self._rows = _load(path, split).with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, index: int) -> str:
        return f"{self.path}, row {index}"

    def row(self, index: int) -> dict[str, Any]:
        return self.renamed(self._rows[index].to_pylist()[0])


def _load(path: Path, split: str | None) -> Any:
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise ImportError(f"{path}: this format needs Hugging Face datasets: {install('data')}") from error
    try:
        if path.is_file():
            return datasets.load_dataset("parquet", data_files=[str(path)], split="train")
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets, pyarrow and fsspec raise what they please at a damaged file
        raise BadData(f"{path} cannot be read by Hugging Face datasets: {error}") from error
    if not isinstance(loaded, dict):
        return loaded
    chosen = split or (next(iter(loaded)) if len(loaded) == 1 else None)
    if chosen not in loaded:
        wrong = f"has no split {split!r}" if split else "has several splits; name one as split"
        raise BadData(f"{path} {wrong}: {', '.join(map(str, loaded))}")
    return loaded[chosen]
