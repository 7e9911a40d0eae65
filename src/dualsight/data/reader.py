"""What every reader of chats is: examples by number, each error with its place, no rows held in memory."""

from __future__ import annotations

import bisect
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from dualsight.data.image_folder import ImageFolder, picture_of
from dualsight.data.rows import BadData, Example, example_of


class Chats(ABC):
    """Conversations and drawings by number. Safe to share between processes: no file stays open between two calls."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Example:
        """Example ``index``. Raises BadData, which names the row, and IndexError."""

    @abstractmethod
    def where(self, index: int) -> str:
        """The place of a row, for people: ``train.jsonl, line 7``."""

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))


class Reader(Chats):
    """The rows of one file (or of one folder that belongs together).

    Args:
        path: what to read.
        folder: where the image names lead; by default the folder that ``path`` is in.
        columns: which of the file's fields is which of ours (``{"prompt": "caption"}``); all others are passed over.
            None: the file uses our names (`dualsight.data.rows`), and a field that is unknown is an error.
    """

    def __init__(self, path: Path, folder: ImageFolder | None = None, columns: Mapping[str, str] | None = None):
        self.path, self.columns = path, columns
        self.folder = folder or ImageFolder(path.parent)

    @abstractmethod
    def row(self, index: int) -> dict[str, Any]:
        """The fields of a row under our names. Raises ValueError saying what is wrong with it."""

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[operator.index(index)]
        try:
            return example_of(self.row(index), lambda value: picture_of(value, self.folder))
        except ValueError as error:
            raise BadData(f"{self.where(index)}: {error}") from error

    def renamed(self, row: Any) -> dict[str, Any]:
        """What the file holds for a row, as the fields that ``columns`` asks for."""
        if not isinstance(row, dict):
            raise ValueError(f"is {row!r:.80}; an object is expected")
        if self.columns is None:
            return row
        found = {ours: row[theirs] for ours, theirs in self.columns.items() if theirs in row}
        if not found:
            raise ValueError(f"has none of {', '.join(self.columns.values())}; its keys: {', '.join(row)}"[:300])
        return found


class Joined(Chats):
    """Several sets of chats, one after the other."""

    def __init__(self, parts: Sequence[Chats]):
        self.parts = list(parts)
        self._ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Example:
        part, within = self._place(index)
        return part[within]

    def where(self, index: int) -> str:
        part, within = self._place(index)
        return part.where(within)

    def _place(self, index: int) -> tuple[Chats, int]:
        index = range(len(self))[operator.index(index)]
        number = bisect.bisect_right(self._ends, index)
        return self.parts[number], index - (self._ends[number - 1] if number else 0)


class Chosen(Chats):
    """Some of a set's examples, in the order that ``indices`` gives."""

    def __init__(self, chats: Chats, indices: Sequence[int]):
        self.chats, self.indices = chats, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.chats[self.indices[index]]

    def where(self, index: int) -> str:
        return self.chats.where(self.indices[index])
