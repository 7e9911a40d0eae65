"""Trajectories on disk, in the layout of the released JanusVLN and StreamVLN data.

::

    <root>/annotations.json
    <root>/train/<episode_id>/step_0000_TURN_RIGHT.png     what was seen before that action was executed
                              step_0001_MOVE_FORWARD.png
                              ...
                              step_0041_STOP.png

``annotations.json`` is a list of::

    {"id": 7, "video": "train/7", "instructions": ["...", "..."], "actions": [-1, 3, 1, ...],
     "executed": [3, 1, ..., 0], "expert": [3, 2, ..., 0], "info": {...},
     "plan": [[...], ...]}

``actions`` is the released field: -1, then the executed actions without the last; frame i's label is entry i + 1,
the last frame's is STOP. ``executed`` and ``expert`` are ours, one entry per frame: what was done, and what the
expert would have done there. (The released DAgger data keeps executed actions only, and so imitates mistakes.)
``plan``, if it is there, says for each frame where the expert's way leads (``Expert.plan``).
Files without them can be read: both are then what the released fields say.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from dualsight.data.files import Log, read_lines, write_json
from dualsight.mirror import mirrored_action, mirrored_text
from dualsight.types import Action, Frame

FRAME_NAME = re.compile(r"step_(\d+)_([A-Z_]+)\.png")


@dataclass(frozen=True)
class Trajectory:
    """One walk: its frames on disk, what was done and what the expert would have done."""

    id: str
    """The name of its folder."""
    folder: Path
    instructions: list[str]
    executed: list[int]
    expert: list[int]
    info: dict = field(default_factory=dict)
    plan: list[list[float]] = field(default_factory=list)
    """What ``Expert.plan`` said at each frame, if it was asked."""
    is_mirrored: bool = False
    """Are its frames those on disk, seen in a mirror?"""

    def __len__(self) -> int:
        return len(self.executed)

    def frame_paths(self) -> list[Path]:
        """Its frames, in order."""
        executed = [mirrored_action(action) for action in self.executed] if self.is_mirrored else self.executed
        return [self.folder / frame_name(step, action) for step, action in enumerate(executed)]

    def frames(self) -> list[Frame]:
        """Its frames, decoded; `ValueError` names one that is missing or cut off."""
        frames = [read_frame(path) for path in self.frame_paths()]
        return [np.ascontiguousarray(frame[:, ::-1]) for frame in frames] if self.is_mirrored else frames

    def mirrored(self) -> Trajectory:
        """The same walk through the mirror image of the house: left and right change places in what is seen, said and
        done. It has an id of its own."""
        return replace(
            self,
            id=f"{self.id}-mirrored",
            instructions=[mirrored_text(text) for text in self.instructions],
            executed=[mirrored_action(action) for action in self.executed],
            expert=[mirrored_action(action) for action in self.expert],
            plan=[[value if i % 2 else -value for i, value in enumerate(row[:-1])] + row[-1:] for row in self.plan],
            is_mirrored=not self.is_mirrored,
        )


def frame_name(step: int, action: int) -> str:
    """``step_0000_TURN_RIGHT.png``."""
    return f"step_{step:04d}_{Action(action).name}.png"


def read_frame(path: Path) -> Frame:
    """A PNG as (H, W, 3) uint8."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; `annotations.json` speaks of it") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} is no whole PNG ({error}); delete its folder and write the trajectory again"
        ) from error


class TrajectoryWriter:
    """Writes trajectories; one that was interrupted goes on where it was.

    A trajectory is in the data set when its line is in the log, and its line is written after its frames are in place.
    Several processes can write into one root, each with its own ``part``; `merge` makes ``annotations.json`` of all.
    """

    def __init__(self, root: Path, split: str = "train", part: int = 0):
        self.root, self.split = Path(root), split
        self._log = Log(self.root / f"annotations.part{part}.jsonl")
        self._written = {line["video"] for line in _all_lines(self.root)}

    def __contains__(self, episode_id: str) -> bool:
        """Has it been written?"""
        return f"{self.split}/{episode_id}" in self._written

    def write(
        self,
        episode_id: str,
        instructions: Sequence[str],
        frames: Sequence[Frame],
        executed: Sequence[int],
        expert: Sequence[int],
        info: dict | None = None,
        plan: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Add one trajectory: as many frames as executed actions as expert actions.

        Raises:
            ValueError: the lengths differ, or the id cannot be the name of a folder.
            NotWritten: the disk is full; the trajectories before are safe.
        """
        if not len(frames) == len(executed) == len(expert) > 0:
            raise ValueError(
                f"trajectory {episode_id}: {len(frames)} frames, {len(executed)} executed and {len(expert)} expert "
                "actions; there must be one of each per step, and at least one step"
            )
        if not re.fullmatch(r"[\w.-]+", episode_id):
            raise ValueError(f"{episode_id!r} cannot name a folder: letters, digits, '_', '-' and '.' only")
        video = f"{self.split}/{episode_id}"
        self._place_frames(self.root / video, frames, executed)
        self._log.append(
            {
                "id": int(episode_id) if episode_id.isdigit() else episode_id,
                "video": video,
                "instructions": list(instructions),
                "actions": [-1, *map(int, executed[:-1])],
                "executed": [int(a) for a in executed],
                "expert": [int(a) for a in expert],
                "info": info or {},
                **({"plan": [list(row) for row in plan]} if plan else {}),
            }
        )
        self._written.add(video)

    def close(self) -> None:
        self._log.close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _place_frames(self, folder: Path, frames: Sequence[Frame], executed: Sequence[int]) -> None:
        temporary = folder.with_name(f".{folder.name}.tmp")
        for leftover in (temporary, folder):  # of a writer that was killed before it could log them
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        for step, (frame, action) in enumerate(zip(frames, executed, strict=True)):
            Image.fromarray(frame).save(temporary / frame_name(step, action), compress_level=1)
        temporary.rename(folder)


def merge(root: Path) -> int:
    """Write ``annotations.json`` from the logs of all parts; returns how many trajectories it lists."""
    lines = sorted(_all_lines(Path(root)), key=lambda line: line["video"])
    write_json(Path(root) / "annotations.json", lines)
    return len(lines)


def read_trajectories(root: Path) -> list[Trajectory]:
    """The trajectories that ``annotations.json`` lists, or those that writers have logged so far.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: an entry lacks a field, or its fields contradict each other; it is named.
    """
    root = Path(root)
    path = root / "annotations.json"
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else _all_lines(root)
    if not entries:
        raise FileNotFoundError(f"no trajectories in {root}: neither annotations.json nor annotations.part*.jsonl")
    return [_trajectory(root, number, entry) for number, entry in enumerate(entries)]


def validate(root: Path) -> list[str]:
    """What is wrong with a data set, one line each: frames missing, cut off, of differing sizes, or too many."""
    problems = []
    for trajectory in read_trajectories(root):
        expected = trajectory.frame_paths()
        found = {path for path in trajectory.folder.glob("*.png") if FRAME_NAME.fullmatch(path.name)}
        problems += [f"{path} is in no annotation" for path in sorted(found - set(expected))]
        shapes = set()
        for path in expected:
            try:
                shapes.add(read_frame(path).shape)
            except ValueError as error:
                problems.append(str(error))
        if len(shapes) > 1:
            problems.append(f"{trajectory.folder} holds frames of different sizes: {sorted(shapes)}")
    return problems


def _trajectory(root: Path, number: int, entry: dict) -> Trajectory:
    where = f"{root}/annotations.json, entry {number}"
    missing = {"id", "video", "instructions", "actions"} - entry.keys()
    if missing:
        raise ValueError(f"{where}, lacks {', '.join(sorted(missing))}")
    if entry["actions"][:1] != [-1] or not set(entry["actions"][1:]) <= set(map(int, Action)):
        raise ValueError(
            f"{where} ({entry['video']}): actions must be -1 and then 0 to 3, got {entry['actions'][:8]}..."
        )
    executed = entry.get("executed", [*entry["actions"][1:], int(Action.STOP)])
    expert = entry.get("expert", executed)
    if not len(executed) == len(expert) == len(entry["actions"]):
        raise ValueError(
            f"{where} ({entry['video']}): {len(entry['actions'])} actions with the leading -1, "
            f"{len(executed)} executed, {len(expert)} expert; the three must be equally many"
        )
    plan = entry.get("plan", [])
    if len(plan) not in (0, len(expert)):
        raise ValueError(f"{where} ({entry['video']}): {len(plan)} rows in plan for {len(expert)} frames")
    folder = root / entry["video"]
    return Trajectory(folder.name, folder, entry["instructions"], executed, expert, entry.get("info", {}), plan)


def _all_lines(root: Path) -> list[dict]:
    return [line for path in sorted(root.glob("annotations.part*.jsonl")) for line in read_lines(path)]
