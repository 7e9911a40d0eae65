"""Pictures of prompts, for suites that judge them: asked for in batches; those of a file of prompts are kept, and drawn
on where a run was stopped. ``run.json`` beside them says what they are of, so that no others are judged in their place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from dualsight.bench.provenance import DifferentRun, claim
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


def draw_missing(draw: Draw, wanted: Sequence[Wanted], out: Path, drawing: Mapping[str, Any], batch: int = 16) -> None:
    """Draw the pictures whose files are not there yet, ``batch`` at a time.

    Args:
        out: the folder of them all; its ``run.json`` keeps ``drawing`` and a hash of the prompts.
        drawing: all else that the pictures follow from: weights, settings, seed. Plain JSON.

    Raises:
        DifferentRun: ``out`` holds pictures of others, or of nobody knows what.
        ValueError: ``draw`` returned another number of pictures than it was asked for.
        NotWritten: the disk is full.
    """
    if not (out / "run.json").exists() and any(item.path.exists() for item in wanted):
        raise DifferentRun(
            f"{out} holds pictures, but no run.json that says what drew them. Choose another folder (--out FOLDER)"
        )
    claim(out, {"drawing": {**drawing, "prompts_sha256": _prompts_sha256(wanted)}}, "pictures")
    missing = [item for item in wanted if not item.path.exists()]
    for start in track(range(0, len(missing), batch), "drawing", disable=not missing):
        part = missing[start : start + batch]
        frames = draw_batch(draw, [item.prompt for item in part], [item.seed for item in part])
        for item, frame in zip(part, frames, strict=True):
            item.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(item.path) as temporary:
                Image.fromarray(frame).save(temporary, "png")


def _prompts_sha256(wanted: Sequence[Wanted]) -> str:
    """A hash of the prompts, as they are and in their order."""
    return hashlib.sha256(json.dumps([item.prompt for item in wanted]).encode()).hexdigest()


def read_frame(path: Path) -> Frame:
    """A picture as an array (H, W, 3)."""
    return np.asarray(open_picture(path).convert("RGB"))
