"""Images, opened safely: with an error that names what is wrong, and none larger than PIL's limit."""

from __future__ import annotations

from io import BytesIO
from os.path import isfile  # unlike Path's own, it takes any name: a loop of links, 5000 letters
from pathlib import Path

import numpy as np
from PIL import Image

from dualsight.types import Picture


def open_picture(picture: Picture) -> Image.Image:
    """``picture`` decoded, in RGB. As in the release of Janus, transparency is dropped and a camera's note of how it
    was held is not followed.

    Raises:
        TypeError: it is neither a path, a uint8 array nor a PIL image.
        ValueError: its file is missing, it does not decode, it has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` or
            none, or the array's shape is not (H, W, 3).
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8:
            raise TypeError(f"the image is an array of {picture.dtype}; expected uint8 (H, W, 3)")
        if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ValueError(f"the image has shape {picture.shape}; expected (H, W, 3)")
        return Image.fromarray(np.ascontiguousarray(picture))
    if isinstance(picture, Path):
        if not isfile(picture):  # asked first: opening a pipe would wait for ever
            raise ValueError(f"image {picture} is missing: no such file")
        with opened(picture, str(picture)) as image:
            return _decoded(image, str(picture))
    if not isinstance(picture, Image.Image):
        raise TypeError(f"the image is {type(picture).__name__}; expected a path, a uint8 array or a PIL image")
    if 0 in picture.size:
        raise ValueError(f"the image has {picture.width}x{picture.height} pixels")
    return _decoded(picture, getattr(picture, "filename", "") or "in memory")


def opened(file: Path | BytesIO, name: str) -> Image.Image:
    """Only the header is read: the limit holds before any pixel takes memory."""
    try:
        image = Image.open(file)
    except Image.DecompressionBombError as error:
        raise ValueError(f"image {name} is too large: {error}") from error
    except Exception as error:  # a damaged header makes PIL's plug-ins raise whatever they please
        raise ValueError(f"image {name} is in no format that PIL reads, or damaged: {_line(error)}") from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:  # PIL itself refuses only twice as many
        size = f"{image.width} x {image.height}"
        image.close()
        raise ValueError(f"image {name} is too large: {size} pixels, the limit is {limit} (PIL.Image.MAX_IMAGE_PIXELS)")
    image.filename = name
    return image


def _decoded(image: Image.Image, name: str) -> Image.Image:
    try:
        return image.convert("RGB")
    except Exception as error:
        raise ValueError(f"image {name} does not decode, it is cut off or damaged: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
