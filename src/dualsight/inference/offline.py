"""A navigator on recorded frames, a folder of images or a video, without any simulator: ``dualsight navigate``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.markup import escape

from dualsight.data.files import write_json
from dualsight.extras import install
from dualsight.inference.navigator import Navigator
from dualsight.models.vln_processor import check_instruction
from dualsight.types import Action, Frame

IMAGES = {".png", ".jpg", ".jpeg"}


def navigate_frames(
    frames: Path, instruction: str, checkpoint: Path, out: Path | None = None, every: int = 1
) -> list[dict]:
    """Print the action for each frame as soon as it is known; returns, and writes to ``out``, one record per frame.

    A record has the frame's name, the action, the probability of each action, and whether the answer was one at all.
    The frames are what was seen, whatever the navigator says: it goes on after a STOP. Of ``every`` so many frames it
    sees the first.

    Raises:
        ValueError: there are no frames, a file is damaged or not RGB (it is named), or the instruction is unusable.
        ImportError: ``frames`` is a video and the extra is missing.
        CheckpointError: there is no navigator in ``checkpoint``.
    """
    check_instruction(instruction)
    recording = islice(read_frames(frames), None, None, every)
    navigator = Navigator.from_pretrained(checkpoint).reset(instruction)
    console = Console(highlight=False)
    console.print(f"[dim]{escape(instruction)}[/]")
    records = []
    for name, frame in recording:
        before = navigator.unparsed
        action = navigator.act(frame)
        record = {
            "frame": name,
            "action": action.name,
            "probabilities": probabilities(navigator.scores),
            "parsed": navigator.unparsed == before,
        }
        records.append(record)
        console.print(_line(len(records) - 1, record), soft_wrap=True)
    if out is not None:
        described = {"instruction": instruction, "checkpoint": str(checkpoint), "frames": str(frames)}
        write_json(out, {**described, "actions": records, "unparsed": navigator.unparsed})
        console.print(f"[dim]{len(records)} actions in {escape(str(out))}[/]")
    return records


def probabilities(scores: dict[Action, float]) -> dict[str, float]:
    """Softmax over the four actions alone."""
    shares = torch.tensor(list(scores.values())).softmax(0).tolist()
    return {action.name: round(share, 4) for action, share in zip(scores, shares, strict=True)}


def read_frames(path: Path) -> Iterator[tuple[str, Frame]]:
    """Names and pictures (H, W, 3) of a folder's images in natural order, or of a video.

    Whatever can be told without decoding is told at once: no frames, no image, a mode that is not RGB, a PNG cut off.
    """
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix.lower() in IMAGES), key=_natural)
        if not files:
            raise ValueError(f"{path} holds no frames: expected files named *.png, *.jpg or *.jpeg")
        for file in files:
            _check_file(file)
        return ((file.name, _decode(file)) for file in files)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; --frames is a folder of images or a video file")
    if path.suffix.lower() in IMAGES:
        raise ValueError(f"{path} is one image; --frames is a folder of images or a video file")
    return _read_video(path)


def _natural(file: Path) -> list[tuple[bool, int, str]]:
    """frame_2 before frame_10: digits are compared as numbers."""
    parts = re.split(r"(\d+)", file.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _check_file(file: Path) -> None:
    """Mode, and of a PNG also that all of its chunks are there and whole."""
    try:
        with Image.open(file) as image:
            mode = image.mode
            image.verify()
    except UnidentifiedImageError:
        raise ValueError(f"{file} is no image that can be read; remove it or write it again") from None
    except (OSError, SyntaxError) as error:  # Pillow's, for a damaged PNG
        raise _damaged(file, error) from error
    if mode != "RGB":
        raise ValueError(
            f"{file} has mode {mode}; expected RGB with 8 bits per channel. Convert it, with Pillow for example: "
            "Image.open(name).convert('RGB').save(name)"
        )


def _decode(file: Path) -> Frame:
    try:
        with Image.open(file) as image:
            return np.asarray(image)
    except (OSError, SyntaxError) as error:  # a JPEG shows its damage only now
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} is cut off or damaged ({error}); write it again")


def _read_video(path: Path) -> Iterator[tuple[str, Frame]]:
    try:
        import av
    except ImportError as error:
        raise ImportError(f"reading a video needs PyAV: {install('video')}") from error
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise ValueError(f"{path} is no video that can be read ({error.strerror})") from error
    if not container.streams.video:
        raise ValueError(f"{path} holds no frames: it has no video stream")
    return _decode_video(path, container)


def _decode_video(path: Path, container) -> Iterator[tuple[str, Frame]]:
    import av

    count = 0
    try:
        with container:
            for count, picture in enumerate(container.decode(video=0), 1):
                yield f"{path.name}#{count - 1}", picture.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise ValueError(f"{path} is damaged after frame {count} ({error.strerror})") from error
    if not count:
        raise ValueError(f"{path} holds no frames")


def _line(step: int, record: dict) -> str:
    name, share = record["action"], record["probabilities"][record["action"]]
    colour = "red" if name == "STOP" else "bold"
    doubt = "" if record["parsed"] else "  [yellow]the answer was no action[/]"
    return f"{step:4}  {escape(record['frame']):28}  [{colour}]{name:12}[/]  [dim]{share:.2f}[/]{doubt}"
