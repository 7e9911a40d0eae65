"""Chats and texts to images, in any format that users have: `open_data` finds out which.

=============================  =======================================================================================
``*.jsonl``                    one row per line (`json_chats.JsonLines`)
``*.json``                     one list of rows, LLaVA's (`json_chats.JsonList`)
``*.tar``                      webdataset shards (`tar_chats.TarShard`)
a folder, ``*.parquet``        Hugging Face ``datasets`` (`hub_chats.HubDataset`), extra ``data``
=============================  =======================================================================================

What a row may hold is drawn in `dualsight.data.rows`. Nothing is decoded, and no row is kept, before it is asked for.
"""

from __future__ import annotations

import glob
import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

from dualsight.data.hub_chats import HubDataset
from dualsight.data.image_folder import ImageFolder
from dualsight.data.json_chats import BOM, JsonLines, JsonList
from dualsight.data.reader import Chats, Chosen, Joined, Reader
from dualsight.data.rows import KINDS, BadData, Kind, kind_of
from dualsight.data.tar_chats import TarShard

KNOWN = "JSON lines, a JSON list, webdataset tar, parquet or a folder saved by Hugging Face datasets"
HEAD = 4096
"""Bytes that a file is recognised by."""
COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""How gzip, zip, bzip2, xz and zstandard begin: none of them can be read from the middle."""


def open_data(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
) -> Chats:
    """The examples of a file, a folder, or of many files: ``shard-{000..127}.tar``, ``part-*.jsonl``.

    Args:
        columns: which of the file's fields is which of ours, ``{"prompt": "caption", "image": "jpg"}``; others are
            passed over. None: the file uses our names, and a field that is unknown is an error.
        images: the folder that image names start at; by default the one that the file is in.
        root: refuse images that are not under this folder.
        split: of a ``DatasetDict``.

    Raises:
        FileNotFoundError: there is nothing at ``path``; of several files, one is missing.
        BadData: a file is of no known kind, empty or cut off.
        ImportError: the extra that a format needs is missing.
    """
    parts = [open_file(file, columns=columns, images=images, root=root, split=split) for file in expand(path)]
    return parts[0] if len(parts) == 1 else Joined(parts)


def open_file(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
) -> Reader:
    """`open_data` of one file or folder."""
    folder = ImageFolder(images or path.parent, root)
    if path.is_dir():
        if not any((path / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
            raise BadData(f"{path} is a folder that Hugging Face datasets did not save; name the files: {path}/*.tar")
        return HubDataset(path, folder, columns, split)
    with path.open("rb") as file:
        head = file.read(HEAD)
    text = head.removeprefix(BOM).lstrip()
    if head.startswith(COMPRESSED):
        raise BadData(f"{path} is compressed and cannot be read from the middle; decompress it first")
    if head.startswith(b"PAR1"):
        return HubDataset(path, folder, columns)
    if head[257:262] == b"ustar" or (path.suffix == ".tar" and head):
        return TarShard(path, columns)
    if text.startswith(b"["):
        return JsonList(path, folder, columns)
    if text.startswith(b"{") or (path.suffix in (".jsonl", ".ndjson") and head):
        return JsonLines(path, folder, columns)
    raise BadData(f"{path} is {'of no known kind' if head else 'empty'}; expected {KNOWN}")


def expand(path: Path | str) -> list[Path]:
    """The files that a path with ``{000..127}``, ``{a,b}``, ``*``, ``?`` or ``[0-9]`` stands for, in order.

    Raises:
        FileNotFoundError: one that is named is missing, or a pattern fits none.
    """
    if Path(path).exists():  # a file may well be called a[1].jsonl
        return [Path(path)]
    files = []
    for name in _braces(str(path)):
        found = sorted(glob.glob(name)) if glob.has_magic(name) and not Path(name).exists() else [name]
        if not found or not Path(found[0]).exists():
            raise FileNotFoundError(f"{name}: no such file")
        files += map(Path, found)
    if not files:
        raise FileNotFoundError(f"{path}: no such file; the range in it is empty")
    return files


def _braces(text: str) -> Iterator[str]:
    """``a{1..3}`` as a1, a2, a3, zeros in front kept; ``{x,y}`` as x, y."""
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", text)
    if not found:
        yield text
        return
    first, last, listed = found.groups()
    if listed is None:
        words = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    else:
        words = iter(listed.split(","))
    for word in words:
        for rest in _braces(text[found.end() :]):
            yield text[: found.start()] + word + rest


def by_kind(chats: Chats) -> dict[Kind, Chosen]:
    """The examples of a mixed set apart, for a `dualsight.data.mixture.Mixture`; kinds that do not occur are left out.

    Reads every row once (no image is decoded). Raises BadData at the first row that cannot be read.
    """
    indices: dict[Kind, array[int]] = {kind: array("q") for kind in KINDS}
    for index, example in enumerate(chats):
        indices[kind_of(example)].append(index)
    return {kind: Chosen(chats, chosen) for kind, chosen in indices.items() if chosen}
