"""Images of a data set: found inside its folder."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from os.path import realpath  # unlike Path's own, it takes any name: a loop of links, 5000 letters
from pathlib import Path
from typing import Any

from dualsight.pictures import opened
from dualsight.types import Picture


@dataclass(frozen=True)
class ImageFolder:
    """Where the image names of a data set lead: relative ones start at ``folder``, and none leaves ``root``."""

    folder: Path
    root: Path | None = None
    """None: an image may lie anywhere. Set it for data that others wrote."""

    def __call__(self, name: str) -> Path:
        """The path of ``name``, which need not exist. Raises ValueError when it leads out of ``root``."""
        path = self.folder / name
        if self.root is not None and not Path(realpath(path)).is_relative_to(realpath(self.root)):
            raise ValueError(f"image {name!r} leads out of {self.root}, where all images are expected to be")
        return path


def picture_of(value: Any, folder: ImageFolder) -> Picture:
    """What a row gives for an image: a file's name, encoded bytes, or the ``{"bytes", "path"}`` of `datasets`.

    Bytes are opened, so that what is no image fails here, but not decoded before their pixels are asked for.

    Raises:
        ValueError: it is none of these, leads out of the folder's root, is no image, or is too large.
    """
    if isinstance(value, dict) and value.keys() <= {"bytes", "path"}:
        if value.get("bytes") is None:
            return picture_of(value.get("path"), folder)
        return opened(BytesIO(value["bytes"]), str(value.get("path") or "given as bytes"))
    if isinstance(value, bytes):
        return opened(BytesIO(value), "given as bytes")
    if isinstance(value, str) and value:
        return folder(value)
    raise ValueError(f"an image is given as {value!r:.80}; the name of a file is expected")
