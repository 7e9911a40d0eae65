"""Files that are whole or absent, and logs of lines of which none is lost.

A file is written under a temporary name beside its place and then renamed: a reader, or a process that was killed,
never meets half of it. A log is appended to line by line, each line flushed to the disk before the next begins; what
a kill leaves behind the last newline is not a line and is dropped.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class NotWritten(OSError):
    """The disk took no more; the message says what is safe."""


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    os.chmod(name, 0o644)
    temporary = Path(name)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise NotWritten(
            error.errno, f"could not write {path}: {error.strerror}; what was there before is unchanged"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON; NaN is refused (`ValueError`), since JSON has none."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_lines(path: Path, records: Iterable[dict]) -> None:
    """A whole log at once, in the place of what was there."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(_line(record) for record in records)


def read_lines(path: Path) -> list[dict]:
    """The records of a log; an unfinished last line is left out, a broken one elsewhere is a `ValueError`."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    records = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is not JSON: {line[:80]!r}") from error
    return records


class Log:
    """Appends records to a file of JSON lines; what `append` returned from is on the disk."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab+", buffering=0)  # noqa: SIM115  held until close()
        self._drop_unfinished_line()

    def append(self, record: dict) -> None:
        """Add one line.

        Raises:
            NotWritten: the disk is full or gone; the file holds the lines before this one, whole.
        """
        line = _line(record)
        end = self._file.seek(0, os.SEEK_END)
        try:
            _write_all(self._file.fileno(), line)
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)
            raise NotWritten(
                error.errno,
                f"could not append to {self.path}: {error.strerror}. The lines before are safe; "
                "make room and run the same command again, it goes on from there",
            ) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _drop_unfinished_line(self) -> None:
        self._file.seek(0)
        whole, newline, _ = self._file.read().rpartition(b"\n")
        os.ftruncate(self._file.fileno(), len(whole) + len(newline))


def _line(record: dict) -> bytes:
    return json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
