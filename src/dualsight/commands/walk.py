"""Walking with a navigator: ``demo`` in simulated houses, ``navigate`` on frames of one's own."""

from __future__ import annotations

from pathlib import Path

from jsonargparse.typing import PositiveInt

from dualsight.commands.options import NAVIGATOR


def demo(
    out: Path | None = None,
    episodes: PositiveInt = 20,
    checkpoint: Path = NAVIGATOR,
    videos: bool = True,
    rows: PositiveInt = 4,
) -> None:
    """Walk unseen houses with the shipped navigator: a table, an MP4 per episode, one report.html.

    Args:
        out: where results go; the same command goes on where it was. By default runs/demo, where walks of other
            weights make room first: they are moved to runs/demo-WEIGHTS.
        episodes: how many, each in a house of its own.
        checkpoint: the navigator's folder.
        videos: whether to film.
        rows: episodes walked side by side.
    """
    from dualsight.demo import run_demo

    run_demo(out, episodes, checkpoint, videos, rows)


def navigate(
    frames: Path,
    instruction: str,
    checkpoint: Path = NAVIGATOR,
    out: Path | None = None,
    every: PositiveInt = 1,
) -> None:
    """Name the action for each frame of a folder of images or of a video file; no simulator is needed.

    Args:
        frames: a folder of PNG or JPEG files (in the order of their names), or a video (extra: video).
        instruction: what the agent is told.
        checkpoint: the navigator's folder.
        out: a JSON file for the actions.
        every: of so many frames the first one is shown. A film has thirty a second; an agent sees one after each step
            of 25 cm or turn of 15 degrees.
    """
    from dualsight.inference.offline import navigate_frames

    navigate_frames(frames, instruction, checkpoint, out, every)
