"""GenEval (Ghosh et al., arXiv:2310.11513) on its own prompt file, with a detector of your choice.

Each line of ``evaluation_metadata.jsonl`` says what a picture has to show::

    {"tag": "position", "prompt": "...", "include": [{"class": "dog", "count": 1},
     {"class": "cat", "count": 1, "color": "black", "position": ["left of", 0]}],
     "exclude": [{"class": "cat", "count": 2}]}

A picture is right when, of every class in ``include``, at least so many objects are found, so many of them in that
colour, and each of them in that relation to every object of the entry that ``position`` points to; and when of no class
in ``exclude`` so many are found. The score of a tag is the share of right pictures, the overall score the mean over
tags.

The rules are those of the published scorer: an object counts above a score of 0.3, in prompts of the tag ``counting``
above 0.9, and of one class the 16 surest. It finds objects with Mask2Former and tells colours with CLIP: numbers are
comparable only where the detector is the same, so its name stands in the result.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualsight.bench.prompted import Draw, Wanted, draw_missing, picture_seed, read_frame
from dualsight.bench.scores import Score, score, write_result
from dualsight.data.files import replacing
from dualsight.types import Frame

THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9
"""Objects count above this score of the detector; the second is for the tag ``counting``."""
MOST = 16
"""Objects of one class that count at most, the surest."""
NEAR = 0.1
"""Centres closer than this share of the two objects' sizes stand in no relation."""
CLEAR = 0.5
"""A direction counts from this share of the distance of the centres on, after what is near was taken from it: up to 60
degrees to either side, less for objects that are large for their distance."""

PROTOCOL = {
    "name": "geneval",
    "version": 2,
    "threshold": THRESHOLD,
    "counting_threshold": COUNTING_THRESHOLD,
    "max_objects": MOST,
    "position_threshold": NEAR,
}
"""What a number of this suite means; the version goes up whenever the rules change. Version 1 had no thresholds, and
took a direction as a share of what is beyond what is near."""


@dataclass(frozen=True)
class Detected:
    """An object that a detector found."""

    label: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in pixels."""
    score: float = 1.0
    """How sure the detector is, from 0 to 1. One that does not tell counts everything that it returns."""
    color: str = ""
    """As a word; detectors that do not tell leave it empty, and no prompt with colours is ever right."""


Detector = Callable[[Frame, Sequence[str]], Sequence[Detected]]
"""A picture and the classes asked for -> what was found, with scores: what is unsure is left out here, by `counted`."""


@dataclass(frozen=True)
class Requirement:
    """An entry of ``include`` or ``exclude``."""

    label: str
    count: int
    color: str = ""
    position: tuple[str, int] | None = None
    """The relation, and the index of the entry it is a relation to."""


@dataclass(frozen=True)
class Prompt:
    """One line of the file."""

    tag: str
    text: str
    include: tuple[Requirement, ...]
    exclude: tuple[Requirement, ...] = ()
    line: str = ""
    """As it stands in the file: GenEval's own scorer reads it beside the pictures."""


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a GenEval metadata file.

    Raises:
        ValueError: a line is not as above; it is named.
        OSError: the file cannot be read.
    """
    prompts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            prompts.append(_prompt(json.loads(line), line))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{path}, line {number}: {error!r}; expected tag, prompt and include: a list of class and count, "
                'each with an optional color and an optional position such as ["left of", 0]'
            ) from error
    if not prompts:
        raise ValueError(f"{path} holds no prompts")
    return prompts


def _prompt(row: Mapping[str, Any], line: str) -> Prompt:
    include, exclude = (
        tuple(
            Requirement(
                str(entry["class"]),
                int(entry["count"]),
                str(entry.get("color", "")),
                (str(entry["position"][0]), int(entry["position"][1])) if "position" in entry else None,
            )
            for entry in row.get(name, [])
        )
        for name in ("include", "exclude")
    )
    if not include:
        raise ValueError("include is empty")
    for entry in include:
        if entry.position and not 0 <= entry.position[1] < len(include):
            raise ValueError(f"position points to entry {entry.position[1]} of {len(include)}")
    return Prompt(str(row["tag"]), str(row["prompt"]), include, exclude, line)


def relations(a: Detected, b: Detected) -> set[str]:
    """Where ``a`` lies as seen from ``b``: left of, right of, above or below, or two of them; none if they are near."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = a.box, b.box
    offset = np.array([x0 + x1 - u0 - u1, y0 + y1 - v0 - v1]) / 2
    sizes = np.array([x1 - x0 + u1 - u0, y1 - y0 + v1 - v0])
    beyond = np.sign(offset) * np.maximum(np.abs(offset) - NEAR * sizes, 0)
    if np.abs(beyond).max() < 1e-3:
        return set()
    dx, dy = beyond / np.linalg.norm(offset)  # GenEval's: of the whole distance, not of what is beyond
    there = {"left of": dx < -CLEAR, "right of": dx > CLEAR, "above": dy < -CLEAR, "below": dy > CLEAR}
    return {word for word, holds in there.items() if holds}


def counted(tag: str, found: Sequence[Detected]) -> dict[str, list[Detected]]:
    """The objects that count for a prompt of that tag, by class, the surest first."""
    threshold = COUNTING_THRESHOLD if tag == "counting" else THRESHOLD
    objects: dict[str, list[Detected]] = defaultdict(list)
    for thing in sorted(found, key=lambda thing: -thing.score):
        if thing.score > threshold and len(objects[thing.label]) < MOST:
            objects[thing.label].append(thing)
    return objects


def mistakes(prompt: Prompt, found: Sequence[Detected]) -> list[str]:
    """What is wrong with a picture in which ``found`` was found; empty if it is right."""
    wrong: list[str] = []
    objects = counted(prompt.tag, found)
    groups: list[list[Detected]] = []
    for entry in prompt.include:
        there = objects[entry.label][: entry.count]
        groups.append(there)
        if len(there) < entry.count:
            wrong.append(f"{entry.count} of {entry.label} expected, {len(there)} found")
            continue
        if entry.color and sum(thing.color == entry.color for thing in there) < entry.count:
            colors = ", ".join(thing.color or "?" for thing in there)
            wrong.append(f"{entry.label} expected to be {entry.color}, found {colors}")
        if entry.position and not _placed(there, *entry.position, groups):
            wrong.append(f"{entry.label} expected {entry.position[0]} {prompt.include[entry.position[1]].label}")
    wrong += [
        f"fewer than {entry.count} of {entry.label} expected, {len(objects[entry.label])} found"
        for entry in prompt.exclude
        if len(objects[entry.label]) >= entry.count
    ]
    return wrong


def _placed(there: Sequence[Detected], word: str, other: int, groups: Sequence[Sequence[Detected]]) -> bool:
    """Does each object stand in that relation to each one of the other entry, which came before?"""
    targets = groups[other] if other < len(groups) else []
    return bool(targets) and all(word in relations(thing, target) for thing in there for target in targets)


def evaluate(
    draw: Draw,
    detector: Detector,
    prompts: Sequence[Prompt],
    out: Path,
    images: int = 4,
    seed: int = 0,
    drawing: dict | None = None,
    config: dict | None = None,
) -> dict:
    """Draw ``images`` pictures of each prompt into ``out/images`` (GenEval's own layout, so that its scorer reads them,
    too) and judge them. Run again, it draws what is missing.

    Args:
        drawing: what draws, plain JSON: weights and settings. Pictures by others in ``out`` are refused.
        config: whatever else the result should say, plain JSON.

    Returns:
        The content of ``out/results.json``: ``overall``, ``categories`` (by tag), and the mistakes of every picture.

    Raises:
        DifferentRun: ``out`` holds pictures of other prompts, seeds or weights.
        ValueError: ``draw`` returned another number of pictures than it was asked for.
    """
    folders = [out / "images" / f"{number:05d}" for number in range(len(prompts))]
    wanted = [
        Wanted(folder / "samples" / f"{n:04d}.png", prompt.text, picture_seed(seed, number * images + n))
        for number, (folder, prompt) in enumerate(zip(folders, prompts, strict=True))
        for n in range(images)
    ]
    draw_missing(draw, wanted, out, {"seed": seed, "images_per_prompt": images, **(drawing or {})})
    for folder, prompt in zip(folders, prompts, strict=True):
        with replacing(folder / "metadata.jsonl") as temporary:
            temporary.write_text(prompt.line + "\n", encoding="utf-8")
    by_tag: dict[str, list[bool]] = defaultdict(list)
    pictures = []
    for number, item in enumerate(wanted):
        prompt = prompts[number // images]
        classes = [entry.label for entry in (*prompt.include, *prompt.exclude)]
        wrong = mistakes(prompt, detector(read_frame(item.path), list(dict.fromkeys(classes))))
        by_tag[prompt.tag].append(not wrong)
        pictures.append({"file": str(item.path.relative_to(out)), "prompt": prompt.text, "mistakes": wrong})
    categories: dict[str, Score] = {tag: score(sum(right), len(right)) for tag, right in by_tag.items()}
    result = {
        "protocol": {**PROTOCOL, "images_per_prompt": images},
        "seed": seed,
        "overall": score(
            sum(map(sum, by_tag.values())), len(wanted), mean_of=[part["score"] for part in categories.values()]
        ),
        "categories": categories,
        "pictures": pictures,
        "config": {**(config or {}), **(drawing or {})},
    }
    write_result(out / "results.json", result)
    return result
