"""Chats in JSON: one object per line, or one list of objects (LLaVA's files). Only the places of the rows are kept."""

from __future__ import annotations

import json
import mmap
import re
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualsight.data.image_folder import ImageFolder
from dualsight.data.reader import Reader
from dualsight.data.rows import BadData

BOM = b"\xef\xbb\xbf"
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
BRACKET = re.compile(rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*+([\[\]{}])' % STRING, re.DOTALL)
"""All up to the next bracket that is not inside a string.
Possessive (`*+`): a string of any length takes no memory, and one that never ends fails at once."""
MARK = re.compile(rb'[^"\[\]{},]*+(?:%b[^"\[\]{},]*+)*+([\[\]{},])' % STRING, re.DOTALL)
"""All up to the next bracket or comma."""


class JsonLines(Reader):
    """A file of one JSON object per line; lines that are blank are passed over."""

    def __init__(self, path: Path, folder: ImageFolder | None = None, columns: Mapping[str, str] | None = None):
        super().__init__(path, folder, columns)
        self._starts, self._lines = array("q"), array("q")  # byte offsets, and line numbers from 1
        start = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if (line if start else line.removeprefix(BOM)).strip():
                    self._starts.append(start)
                    self._lines.append(number)
                start += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def where(self, index: int) -> str:
        return f"{self.path}, line {self._lines[index]}"

    def row(self, index: int) -> dict[str, Any]:
        with self.path.open("rb") as file:
            file.seek(self._starts[index])
            return self.renamed(parse_json(file.readline()))


class JsonList(Reader):
    """A file that is one JSON list of objects, as LLaVA's; any size, since it is never parsed as a whole.

    Raises:
        BadData: the list is not closed (the file was cut off), or something follows it.
    """

    def __init__(self, path: Path, folder: ImageFolder | None = None, columns: Mapping[str, str] | None = None):
        super().__init__(path, folder, columns)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            self._starts, self._ends, end = _elements(data)
            rest = b"" if end is None else data[end : end + 80].strip()
        if end is None:
            raise BadData(f"{path} is cut off: its list is never closed; {len(self._starts)} entries before that")
        if rest:
            raise BadData(f"{path} goes on after its list has ended at byte {end}: {rest!r}; one list is expected")

    def __len__(self) -> int:
        return len(self._starts)

    def where(self, index: int) -> str:
        return f"{self.path}, entry {index}"

    def row(self, index: int) -> dict[str, Any]:
        with self.path.open("rb") as file:
            file.seek(self._starts[index])
            return self.renamed(parse_json(file.read(self._ends[index] - self._starts[index])))


def parse_json(data: bytes) -> Any:
    """The value that ``data`` (UTF-8) spells. Raises ValueError showing the place where it is no JSON."""
    text = utf8(data)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 20) : error.pos + 20]
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos}, near {near!r}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply for JSON that describes a chat") from error


def utf8(data: bytes) -> str:
    """``data`` as text, without a byte order mark. Raises ValueError when it is in another encoding."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: byte {error.start} is {data[error.start]:#04x}; save it as UTF-8") from error


def _elements(data: mmap.mmap) -> tuple[array[int], array[int], int | None]:
    """Where the elements of the outermost list start and end, and where the list does (None: nowhere). Bytes."""
    starts, ends = array("q"), array("q")
    depth = start = position = 0
    while token := (MARK if depth == 1 else BRACKET).match(data, position):
        mark, position = token[1], token.end()
        if mark in b"[{":
            depth += 1
            if depth == 1:
                start = position
            continue
        if depth == 1 and (mark == b"," or starts or data[start : position - 1].strip()):
            starts.append(start)
            ends.append(position - 1)
            start = position
        depth -= mark != b","
        if depth == 0:
            return starts, ends, position
    return starts, ends, None
