"""The suite ``janus-house``: short answers about generated scenes and rooms that no training has seen.

Categories: attribute, count, relation and existence on scenes (each question turns on a held-out combination,
`data.scene_questions`; existence is asked in POPE's three ways) and room (which room, is there, what colour) in
houses of the test split. The overall score is the mean over the five; what is accepted says `data.answers`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualsight.bench.scores import Score, last_line, score, write_result
from dualsight.data.answers import accepted
from dualsight.data.rooms import KINDS as ROOM_KINDS
from dualsight.data.rooms import RoomTalk
from dualsight.data.scene_questions import KINDS as SCENE_KINDS
from dualsight.data.scene_questions import sample_question
from dualsight.data.scenes import render
from dualsight.envs.sim.house import load, load_navmesh
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.snapshots import Snapshot, snapshots
from dualsight.envs.sim.splits import SPLITS
from dualsight.types import Camera, Frame

__all__ = ["Item", "MostFrequent", "evaluate", "last_line", "make_items"]

PROTOCOL = {
    "name": "janus-house",
    "version": 1,
    "scenes": "held-out combinations",
    "accepted": "dualsight.data.answers",
    "per_house": 12,
}
"""What a number of this suite means; the version goes up whenever the questions or the rule change."""

CATEGORIES = {
    "attribute": ("attribute",),
    "count": ("count",),
    "relation": ("relation",),
    "existence": ("existence_random", "existence_popular", "existence_adversarial"),
    "room": ROOM_KINDS,
}
"""The kinds of questions in each category."""

Answer = Callable[[Sequence[Frame], Sequence[str]], list[str]]
"""What is judged: pictures and a question for each -> an answer for each."""


@dataclass(frozen=True)
class Item:
    """A question about a picture."""

    kind: str
    frame: Frame
    question: str
    answer: str


def make_items(
    per_kind: int,
    seed: int,
    size: int = 64,
    held_out: bool = True,
    split: str = "test",
    cache: Path | None = None,
) -> list[Item]:
    """``per_kind`` questions of each kind about scenes, and as many in all about rooms; a function of the arguments.

    Args:
        held_out: False takes scenes like those of training, for comparison and to fit `MostFrequent`.
        split: of the houses. Each seed takes houses of its own, ``per_house`` pictures of each.
        cache: where houses keep their light.
    """
    items = []
    for number, kind in enumerate(SCENE_KINDS):
        rng = np.random.default_rng((seed, number))
        for _ in range(per_kind):
            scene, question = sample_question(rng, kind, held_out)
            items.append(Item(kind, render(scene, size), question.text, question.answer))
    return items + _room_items(per_kind, seed, size, split, cache)


def evaluate(
    answer: Answer,
    per_kind: int = 100,
    seed: int = 0,
    batch: int = 64,
    held_out: bool = True,
    out: Path | None = None,
    config: dict | None = None,
    items: Sequence[Item] | None = None,
) -> dict:
    """Ask and score; a fresh set of questions for every seed.

    Args:
        batch: questions that ``answer`` gets at once.
        held_out: False asks about scenes like those of training, for comparison.
        out: a folder for ``results.json``.
        config: what was judged, plain JSON.
        items: the questions, if they are not to be those of :func:`make_items`.

    Returns:
        The content of ``results.json``: protocol, seed, ``overall``, ``categories`` and ``kinds``, with intervals.

    Raises:
        ValueError: ``answer`` returned another number of answers than it was asked for.
    """
    items = make_items(per_kind, seed, held_out=held_out) if items is None else items
    replies: list[str] = []
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        given = answer([item.frame for item in part], [item.question for item in part])
        if len(given) != len(part):
            raise ValueError(f"{len(part)} questions were asked, {len(given)} answers came back")
        replies += given
    right, count = Counter[str](), Counter[str]()
    for item, reply in zip(items, replies, strict=True):
        right[item.kind] += accepted(item.answer, reply)
        count[item.kind] += 1
    categories: dict[str, Score] = {
        name: score(sum(right[k] for k in kinds), sum(count[k] for k in kinds))
        for name, kinds in CATEGORIES.items()
        if any(count[k] for k in kinds)
    }
    result = {
        "protocol": {**PROTOCOL, "held_out": held_out},
        "seed": seed,
        "questions": len(items),
        "overall": score(sum(right.values()), len(items), mean_of=[c["score"] for c in categories.values()]),
        "categories": categories,
        "kinds": {kind: score(right[kind], count[kind]) for kind in count},
        "config": config or {},
    }
    if out is not None:
        write_result(out / "results.json", result)
    return result


class MostFrequent:
    """The control that sees no picture: to each question the answer that is most frequent for it in ``items``.

    Questions that it has not met get the most frequent answer to those that begin with the same two words.
    """

    def __init__(self, items: Iterable[Item]):
        self._answers: dict[str, Counter[str]] = defaultdict(Counter)
        for item in items:
            for key in (item.question, _opening(item.question), ""):
                self._answers[key][item.answer] += 1

    def __call__(self, frames: Sequence[Frame], questions: Sequence[str]) -> list[str]:
        return [self._guess(question) for question in questions]

    def _guess(self, question: str) -> str:
        known = next(key for key in (question, _opening(question), "") if key in self._answers)
        return self._answers[known].most_common(1)[0][0]


def _opening(question: str) -> str:
    return " ".join(question.split()[:2])


def _room_items(count: int, seed: int, size: int, split: str, cache: Path | None) -> list[Item]:
    """Questions about pictures of houses, kind after kind in turn."""
    rng = np.random.default_rng((seed, len(SCENE_KINDS)))
    per_house = int(PROTOCOL["per_house"])
    pictures: list[Snapshot] = []
    houses = iter(rng.permutation(len(SPLITS[split])))
    while len(pictures) < count:
        house = load(SPLITS[split][int(next(houses))], cache)
        navmesh = load_navmesh(house, cache=cache)
        pictures += snapshots(house, navmesh, Rasteriser(house.scene), per_house, rng, Camera(size, size))
    talk = RoomTalk(pictures)
    items: list[Item] = []
    while len(items) < count:
        picture = pictures[int(rng.integers(len(pictures)))]
        question = talk.ask(picture, ROOM_KINDS[len(items) % len(ROOM_KINDS)], rng)
        if question is not None:
            items.append(Item(question.kind, picture.image, question.text, question.answer))
    return items
