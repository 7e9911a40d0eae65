"""Pictures of furnished rooms with labels, and what can be said and asked of them.

A shard is one house: ``rooms-<seed>.safetensors`` holds ``images`` (N, H, W, 3) uint8; its metadata names for each the
type of room and the things in it. Kinds of questions: *room_type* ("Which room is this?"), *room_existence* ("Is there
a sofa?": half yes; where the answer is no, a thing that is anywhere, that is frequent, or that is often in such a
room), *room_color* ("What colour is the sofa?", of the only one in the picture).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from dualsight.data.scene_examples import conversation
from dualsight.data.scene_questions import Question
from dualsight.data.scene_text import pick, with_article
from dualsight.data.shards import read_shards, write_shard
from dualsight.types import Conversation, Drawing, Frame

KINDS = ("room_type", "room_existence", "room_color")
VISIBLE = 0.025
"""Share of a picture from which on one sees that a thing is there."""
COLORED = 0.04
"""Share from which on one sees its colour."""
FREQUENT = 12
"""So many categories, the most frequent ones, count as popular."""
ALIKE = (
    {"table", "desk", "stool", "bench"}, {"chair", "armchair", "stool", "sofa", "bench"}, {"bed", "crib", "sofa"},
    {"cabinet", "cupboard", "sideboard", "dresser", "wardrobe", "counter", "stand", "island", "bookcase", "shelf",
     "rack"},
    {"stove", "oven", "cooktop", "microwave", "counter"}, {"plant", "flowers", "cactus", "vase"},
    {"sink", "washbasin", "bathtub", "bidet", "toilet", "shower"}, {"painting", "mirror", "whiteboard", "television"},
    {"box", "crate", "barrel"}, {"basket", "dustbin", "box"}, {"machine", "oven", "dryer"},
)  # fmt: skip
"""Last words of categories that a small picture hardly tells apart: one is not asked for where the other is seen."""
MANY_COLORED = ("painting",)
"""Categories whose colour word says little of what one sees."""

WHICH = ("Which room is this?", "What kind of room is this?", "What room does the picture show?", "Where are we?")
EXISTING = ("Is there {}?", "Do you see {}?", "Does the picture show {}?", "Is there {} in this room?")
COLORING = ("What color is the {}?", "What colour is the {}?", "Which color does the {} have?")
FRAMES = ("{}", "a picture of {}", "an image of {}", "a view of {}", "inside {}", "{}, seen from inside")


class Labelled(Protocol):
    """A picture of a room: `RoomPicture`, or what ``envs.sim.snapshots`` takes."""

    @property
    def image(self) -> Frame: ...
    @property
    def room(self) -> str: ...
    @property
    def things(self) -> tuple[tuple[str, str, float], ...]: ...


@dataclass(frozen=True)
class RoomPicture:
    """A picture read from a shard."""

    image: Frame
    room: str
    """The type of room: "kitchen"."""
    things: tuple[tuple[str, str, float], ...]
    """Category, colour word ("" where none fits) and share of the picture of each thing in it, the largest first."""


def write_rooms(path: Path, pictures: Sequence[Labelled]) -> None:
    """Write a shard; see `write_shard`."""
    labels = [{"room": p.room, "things": [(c, color, round(s, 4)) for c, color, s in p.things]} for p in pictures]
    write_shard(path, [picture.image for picture in pictures], labels)


def read_rooms(folder: Path) -> list[RoomPicture]:
    """The pictures of all shards in a folder; see `read_shards` for what is raised."""
    pictures = []
    for image, label in read_shards(folder, "rooms"):
        things = tuple((str(category), str(color), float(share)) for category, color, share in label["things"])
        pictures.append(RoomPicture(image, label["room"], things))
    return pictures


class RoomTalk:
    """Captions of and questions about pictures; what is frequent, and where, is counted in ``pictures``."""

    def __init__(self, pictures: Sequence[Labelled]):
        self._rooms: dict[str, Counter[str]] = defaultdict(Counter)
        for picture in pictures:
            self._rooms[picture.room].update({category for category, _, _ in picture.things})
        self._everywhere = sum(self._rooms.values(), Counter())

    def ask(self, picture: Labelled, kind: str, rng: np.random.Generator) -> Question | None:
        """A question of a kind, or None where the picture gives no occasion for it.

        Raises:
            ValueError: there is no such kind.
        """
        if kind == "room_type":
            return Question(kind, pick(rng, WHICH), picture.room)
        if kind == "room_color":
            colors = _certain_colors(picture)
            if not colors:
                return None
            category = pick(rng, sorted(colors))
            return Question(kind, pick(rng, COLORING).format(category), colors[category])
        if kind == "room_existence":
            return self._existence(picture, rng)
        raise ValueError(f"no kind of question {kind!r} about rooms; there are {', '.join(KINDS)}")

    def _existence(self, picture: Labelled, rng: np.random.Generator) -> Question | None:
        present = sorted({category for category, _, share in picture.things if share >= VISIBLE})
        way = rng.integers(3)
        if way == 0:
            candidates = list(self._everywhere)
        elif way == 1:
            candidates = [category for category, _ in self._everywhere.most_common(FREQUENT)]
        else:
            candidates = [category for category, _ in self._rooms[picture.room].most_common(FREQUENT)]
        seen = {category for category, _, _ in picture.things}
        absent = sorted(c for c in candidates if not any(_alike(c, other) for other in seen))
        if not present or not absent:
            return None
        yes = rng.random() < 0.5
        category = pick(rng, present if yes else absent)
        return Question("room_existence", pick(rng, EXISTING).format(_noun(category)), "yes" if yes else "no")


def room_caption(picture: Labelled, rng: np.random.Generator) -> str:
    """``"a kitchen with a red stove and a table"``: up to three things that are well visible."""
    colors = _certain_colors(picture)
    seen = list(dict.fromkeys(category for category, _, share in picture.things if share >= VISIBLE))[:3]
    named = [_noun(f"{colors[c]} {c}" if c in colors and rng.random() < 0.8 else c) for c in seen]
    if len(named) > 1 and rng.random() < 0.3:
        named.pop()
    room = with_article(picture.room)
    joined = f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else "".join(named)
    return pick(rng, FRAMES).format(f"{room} with {joined}" if named else room)


@dataclass(frozen=True)
class RoomConversations:
    """``count`` conversations about ``pictures``; each is a function of ``(seed, index)``."""

    pictures: Sequence[Labelled]
    count: int
    seed: int = 0
    turns: int = 3

    @cached_property
    def talk(self) -> RoomTalk:
        """What is frequent is counted once."""
        return RoomTalk(self.pictures)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Conversation]:
        return (self[i] for i in range(self.count))

    def __getitem__(self, index: int) -> Conversation:
        rng, picture = _drawn(self, index)
        said: dict[str, Question] = {}
        for _ in range(rng.integers(1, self.turns + 1)):
            question = self.talk.ask(picture, pick(rng, KINDS), rng)
            question = question or Question("room_type", pick(rng, WHICH), picture.room)
            said.setdefault(question.text, question)
        return conversation(said.values(), picture.image)


@dataclass(frozen=True)
class RoomDrawings:
    """``count`` captions of ``pictures``, with them; each is a function of ``(seed, index)``."""

    pictures: Sequence[Labelled]
    count: int
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Drawing]:
        return (self[i] for i in range(self.count))

    def __getitem__(self, index: int) -> Drawing:
        rng, picture = _drawn(self, index)
        return Drawing(room_caption(picture, rng), picture.image)


def _drawn(examples: RoomConversations | RoomDrawings, index: int) -> tuple[np.random.Generator, Labelled]:
    """The dice and the picture of one example.

    Raises:
        IndexError: there are fewer examples.
    """
    if not 0 <= index < examples.count:
        raise IndexError(f"there are {examples.count} examples, not {index + 1}")
    rng = np.random.default_rng((examples.seed, index))
    return rng, examples.pictures[int(rng.integers(len(examples.pictures)))]


def _certain_colors(picture: Labelled) -> dict[str, str]:
    """The colours of things that are large enough, and the only ones of their category or alike."""
    colors = {}
    for n, (category, color, share) in enumerate(picture.things):
        others = [other for other, _, _ in picture.things[:n] + picture.things[n + 1 :]]
        told = color and category not in MANY_COLORED and share >= COLORED
        if told and not any(_alike(category, other) for other in others):
            colors[category] = color
    return colors


def _alike(a: str, b: str) -> bool:
    """Could one be taken for the other?"""
    last = {a.split()[-1], b.split()[-1]}
    return len(last) == 1 or any(last <= words for words in ALIKE)


def _noun(words: str) -> str:
    return words if words.endswith("flowers") else with_article(words)
