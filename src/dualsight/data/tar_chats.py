"""Chats in tar files, as webdataset writes them: neighbours that share a stem are one example.

::

    000017.jpg  000017.txt                  text to image: the caption
    000018.jpg  000018.json                 a row (`dualsight.data.rows`), its image beside it
    000019.0.jpg  000019.1.jpg  000019.json several images, in the order of their numbers

Where an example has both, the ``.txt`` is the caption and the ``.json`` is about the image (img2dataset). Image names
that a ``.json`` holds are not followed: its images are the neighbours. Nothing is ever extracted to the disk.
"""

from __future__ import annotations

import io
import re
import tarfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dualsight.data.json_chats import parse_json, utf8
from dualsight.data.reader import Reader
from dualsight.data.rows import BadData

IMAGE_SUFFIX = re.compile(r"(?:(\d+)\.)?(?:jpg|jpeg|png|webp)")
DAMAGED = (tarfile.TarError, ValueError, OverflowError, RecursionError, OSError)
"""What tarfile raises at damaged headers: all but the first for numbers and chains of headers that make no sense."""


class _File(NamedTuple):
    """A member of a shard."""

    name: str
    data: bytes
    regular: bool
    """A link or a device is not, and has no data of its own."""


class TarShard(Reader):
    """The examples of one shard; random access costs one read of the example's bytes.

    Raises:
        BadData: it is compressed, cut off or damaged.
    """

    def __init__(self, path: Path, columns: Mapping[str, str] | None = None):
        super().__init__(path, columns=columns)
        self._starts, self._ends = array("q"), array("q")  # of an example's members with their headers, bytes
        stem = None
        for member, end in _members(path):
            own = _stem_and_suffix(member.name)[0]
            if own != stem or not self._starts:
                self._starts.append(member.offset)
                self._ends.append(end)
            self._ends[-1] = end
            stem = own

    def __len__(self) -> int:
        return len(self._starts)

    def where(self, index: int) -> str:
        try:
            name = _stem_and_suffix(next(self._read(index)).name)[0]
        except ValueError:
            name = f"example {index}"
        return f"{self.path}, {name}"

    def row(self, index: int) -> dict[str, Any]:
        files = self._files(index)
        images = sorted((int(found[1] or -1), suffix) for suffix in files if (found := IMAGE_SUFFIX.fullmatch(suffix)))
        pictures = [{"bytes": files[suffix].data, "path": f"{self.path}:{files[suffix].name}"} for _, suffix in images]
        if "txt" in files:
            return {"prompt": utf8(files["txt"].data).strip(), "images": pictures}
        if "json" not in files:
            raise ValueError(f"has no .json and no .txt, only {', '.join(sorted(files))}")
        row = self.renamed(parse_json(files["json"].data))
        return {key: value for key, value in row.items() if key not in ("image", "images")} | {"images": pictures}

    def _files(self, index: int) -> dict[str, _File]:
        """The members of an example, by suffix."""
        files = {}
        for file in self._read(index):
            suffix = _stem_and_suffix(file.name)[1]
            if suffix in files:
                raise ValueError(f"{file.name} is there twice")
            if not file.regular:
                raise ValueError(f"{file.name} is a link or a special file; a regular one is expected")
            files[suffix] = file
        return files

    def _read(self, index: int) -> Iterator[_File]:
        start, end = self._starts[index], self._ends[index]
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
                for member in filter(_counts, tar):
                    regular = member.isreg() and not member.issparse()
                    content = tar.extractfile(member) if regular else None
                    yield _File(member.name, content.read() if content else b"", regular)
        except tarfile.TarError as error:
            raise ValueError(f"is no longer at byte {start}; the file has changed since it was opened") from error


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """What belongs to examples, with the byte after its data."""
    end, size = 0, path.stat().st_size
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    if not end < tar.offset <= size:  # older Pythons follow a negative size backwards, for ever
                        raise tarfile.ReadError("a member that does not end within the file")
                    end = tar.offset
                    if _counts(member):
                        yield member, end
                    tar.members.clear()  # ty: ignore[missing-attribute]  tarfile would keep every header
        except DAMAGED as error:
            raise BadData(f"{path} is no whole tar file ({error} after byte {end}): write or fetch it again") from error
        file.seek(end)
        marker = file.read(tarfile.BLOCKSIZE)
    if marker != tarfile.NUL * tarfile.BLOCKSIZE:  # tarfile takes a damaged header for the end
        raise BadData(f"{path} is cut off or damaged after byte {end}: a header or the end mark is expected there")


def _counts(member: tarfile.TarInfo) -> bool:
    """Folders, and hidden files (macOS adds some), belong to no example."""
    return not member.isdir() and not PurePosixPath(member.name).name.startswith(".")


def _stem_and_suffix(name: str) -> tuple[str, str]:
    """``a/b.0.JPG`` -> ``a/b``, ``0.jpg``: the file's name is cut at its first dot, as webdataset does."""
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, suffix.lower()
