"""Pictures of prompts, for suites that judge them: asked for in batches; those of a file of prompts are kept, and drawn
on where a run was stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from dualsight.data.files import replacing
from dualsight.pictures import open_picture
from dualsight.types import Frame

Draw = Callable[[Sequence[str], Sequence[int]], list[Frame]]
"""Prompts and a seed for each -> a picture for each, (H, W, 3) uint8."""


@dataclass(frozen=True)
class Wanted:
    """A picture to be drawn."""

    path: Path
    prompt: str
    seed: int


def picture_seed(seed: int, number: int) -> int:
    """The seed of picture ``number`` of a run with ``seed``; runs of up to a million pictures share none."""
    return seed * 1_000_003 + number


def draw_batch(draw: Draw, prompts: Sequence[str], seeds: Sequence[int]) -> list[Frame]:
    """One call of ``draw``.

    Raises:
        ValueError: it returned another number of pictures than it was asked for.
    """
    frames = draw(prompts, seeds)
    if len(frames) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts were given, {len(frames)} pictures came back")
    return frames


def draw_missing(draw: Draw, wanted: Sequence[Wanted], batch: int = 16) -> None:
    """Draw the pictures whose files are not there yet, ``batch`` at a time.

    Raises:
        ValueError: ``draw`` returned another number of pictures than it was asked for.
        NotWritten: the disk is full.
    """
    missing = [item for item in wanted if not item.path.exists()]
    for start in track(range(0, len(missing), batch), "drawing", disable=not missing):
        part = missing[start : start + batch]
        frames = draw_batch(draw, [item.prompt for item in part], [item.seed for item in part])
        for item, frame in zip(part, frames, strict=True):
            item.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(item.path) as temporary:
                Image.fromarray(frame).save(temporary, "png")


def read_frame(path: Path) -> Frame:
    """A picture as an array (H, W, 3)."""
    return np.asarray(open_picture(path).convert("RGB"))
