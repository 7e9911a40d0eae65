"""HouseTalk: talks (``talks``) about what one sees around oneself in a generated house, four views in one picture.

=======  ==============================  ===================  =====================================================
type     question                        answer               needs
=======  ==============================  ===================  =====================================================
color    ``ask sofa color``              ``sofa : red``       the only one of its kind
count    ``ask chair many``              ``chair : two``      all views
where    ``ask bed where``               ``bed : behind``     which view it is in, if any: ahead, right, left, behind
side     ``ask lamp sofa``               ``lamp : left``      which of two things in one view is left of the other
largest  ``ask behind most``             ``behind : bed``     what fills most of a view
text     ``ask apple fig``               ``last : fig``       nothing but what was just said
=======  ==============================  ===================  =====================================================

The pictures are collected beforehand (``dualsight data views``). A question is asked only where its answer is beyond
doubt: what is too small to be seen well, but is there, is not asked about.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dualsight.data.shards import read_shards, write_shard
from dualsight.data.talks import ANSWER, ASKED, FILLERS, FRUITS, SPECIAL, Sentence, Talk, check_types, question, repeat
from dualsight.types import Frame

DIRECTIONS = ("ahead", "right", "left", "behind")
"""In the order of the picture, row by row."""
_RIGHTWARDS = ("ahead", "right", "behind", "left")
COLORS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "beige", "white", "grey", "black",
)  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five", "six")
KINDS = {
    "sofa": ("sofa", "corner sofa", "armchair"),
    "chair": ("chair", "stool", "bench"),
    "table": ("table", "coffee table", "desk", "dining table", "drafting table", "round table", "side table",
              "pool table", "foosball table"),
    "bed": ("bed", "bunk bed", "crib"),
    "cupboard": ("cupboard", "cabinet", "bedside table", "dresser", "sideboard", "shoe cabinet", "wall cabinet",
                 "wardrobe", "tv stand"),
    "shelf": ("shelf", "bookcase", "storage rack", "wall shelf"),
    "counter": ("kitchen counter", "kitchen island"),
    "stove": ("stove", "cooktop", "oven", "microwave", "range hood"),
    "fridge": ("fridge",),
    "sink": ("sink", "washbasin"),
    "bathtub": ("bathtub", "shower"),
    "toilet": ("toilet", "bidet"),
    "washer": ("washing machine",),
    "lamp": ("desk lamp", "floor lamp", "table lamp", "wall light"),
    "plant": ("plant", "potted plant", "cactus", "flowers", "vase"),
    "picture": ("painting", "whiteboard"),
    "mirror": ("mirror",),
    "curtain": ("curtain",),
    "rug": ("rug",),
    "television": ("television",),
    "clock": ("clock", "cuckoo clock", "grandfather clock"),
    "box": ("box", "barrel", "briefcase", "crate", "dustbin", "laundry basket"),
    "heater": ("radiator", "fireplace", "water heater"),
    "piano": ("piano",),
}  # fmt: skip
"""What things are called here, and which of the houses' categories are: at 16 pixels a desk and a table are the same.
What is not among them, a treadmill or a teddy bear, is not spoken of."""
KIND_OF = {category: kind for kind, categories in KINDS.items() for category in categories}
NAMES = tuple(KINDS)
TYPES = ("color", "count", "where", "side", "largest", "text")
VOCABULARY: tuple[str, ...] = (
    *SPECIAL, *FILLERS, *FRUITS, "first", "last", "color", "many", "where", "most", "nowhere", *DIRECTIONS, *COLORS,
    *NUMBERS, *NAMES,
)  # fmt: skip
VISIBLE = 0.02
"""Share of a view from which on a thing is well seen."""
COLORED = 0.04
"""Share from which on its colour is."""
APART = 0.2
"""So far are two things apart, in widths of a view, of which one is left of the other."""
LARGER = 1.5
"""The largest thing of a view is larger than the next by this factor."""
PARTS = 64
"""Of a picture, row by row: four of each view a side."""
ABSENT = 1
"""Things that are nowhere: so many of a picture are asked about."""
SINGLE = 0.3
"""Share of the things that are alone of their kind which are counted: else "one" would nearly always be right."""


class Seen(NamedTuple):
    """A thing in the view that shows most of it."""

    category: str
    """Of the houses."""
    color: str
    """"" where no word fits."""
    direction: str
    share: float
    """Of that view."""
    x: float
    """Its middle in that view, 0 left to 1 right."""

    @property
    def kind(self) -> str:
        """What it is called; "" if it is not spoken of."""
        return KIND_OF.get(self.category, "")


class Around(NamedTuple):
    """A picture of four views."""

    image: Frame
    things: tuple[Seen, ...]
    parts: tuple[int, ...] = (-1,) * PARTS
    """Which of the things fills most of each part; -1 where none does."""


class Labelled(Protocol):
    """What ``envs.sim.surroundings`` takes."""

    @property
    def image(self) -> Frame: ...
    @property
    def things(self) -> Sequence[Any]: ...
    @property
    def parts(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class HouseTalk:
    """What is asked, and of which pictures."""

    types: tuple[str, ...] = TYPES
    fillers: int = 3
    """At most so many words between sentences."""
    view: int = 64
    """Pixels a side of each of the four views."""
    views: str = ""
    """The folder of the pictures (``dualsight data views``). A policy's config does not keep it."""

    vocabulary: ClassVar[tuple[str, ...]] = VOCABULARY
    subjects: ClassVar[int] = 36
    """Most pictures give fewer; words fill up."""
    shown: ClassVar[tuple[int, ...]] = (1 + len(NAMES), 1 + len(COLORS), 1 + len(DIRECTIONS), PARTS)
    """How many kinds of things and colours can fill a part, how many views it can be in, none first, and places."""
    shown_words: ClassVar[tuple[tuple[str, ...], ...]] = (NAMES, COLORS, DIRECTIONS, ())

    def __post_init__(self) -> None:
        check_types(self.types, TYPES)

    @property
    def side(self) -> int:
        return 2 * self.view

    def sample(self, sentences: int, rng: np.random.Generator, types: Sequence[str] = (), among: int = 0) -> Talk:
        """A picture and questions about it in any order; see `TalkTask.sample`. Where a picture gives fewer, words are
        asked about in the middle, and in the end one comes back to it. Things have no order, so ``among`` does nothing.

        Raises:
            ValueError: the task knows no pictures, or they have another size.
        """
        if not self.views:
            raise ValueError("talks about houses need pictures: give the folder that `dualsight data views` wrote")
        pictures = read_views(self.views)
        around = faced(pictures[int(rng.integers(len(pictures)))], int(rng.integers(4)))
        if around.image.shape[0] != self.side:
            raise ValueError(f"pictures of {around.image.shape[0]} pixels in {self.views}; expected {self.side}")
        open_ = [one for one in questions(around, rng) if one.type in self.types]
        rng.shuffle(open_)
        if types:  # those first that are wanted
            open_.sort(key=lambda one: one.type not in types)
        asked: list[Sentence] = []
        texts = int(rng.binomial(sentences, 1 / len(self.types))) if "text" in self.types and not types else 0
        while open_ and len(asked) < sentences - texts:
            asked.append(open_.pop(0))
            open_ = [one for one in open_ if not _same(one, asked[-1])]
        said = [*asked, *(repeat(FRUITS, rng) for _ in range(min(texts, sentences - len(asked))))]
        rng.shuffle(said)
        said[len(said) // 2 : len(said) // 2] = [repeat(FRUITS, rng) for _ in range(sentences - len(said))]
        return Talk(around.image, around, tuple(said))

    def shown_in(self, talk: Talk) -> NDArray[np.int64]:
        around: Around = talk.content
        filling = [around.things[part] if part >= 0 else None for part in around.parts]
        things = [thing if thing and thing.kind else None for thing in filling]
        kinds = [1 + NAMES.index(thing.kind) if thing else 0 for thing in things]
        colors = [1 + COLORS.index(thing.color) if thing and thing.color else 0 for thing in things]
        return np.stack([kinds, colors, [1 + _view(part) for part in range(PARTS)], range(PARTS)], -1)

    def looked_at(self, talk: Talk, sentence: Sentence) -> list[int]:
        """The things that are named, or all of the view."""
        if sentence.type == "largest":
            first = DIRECTIONS.index(sentence.words[1])
            return [n for n in range(PARTS) if _view(n) == first]
        named = sentence.words[1 : ASKED - 1] if sentence.subject >= 0 else ()
        things = talk.content.things
        return [n for n, part in enumerate(talk.content.parts) if part >= 0 and things[part].kind in named]

    def answer_about(self, other: Talk, sentence: Sentence) -> str:
        """Empty where that picture has no such question."""
        if sentence.subject < 0:
            return sentence.words[ANSWER]
        if sentence.type == "where" and all(t.kind != sentence.words[1] for t in other.content.things):
            return "nowhere"
        same = (q for q in questions(other.content) if q.words[:ASKED] == sentence.words[:ASKED])
        return next((q.words[ANSWER] for q in same), "")


def _view(part: int) -> int:
    """Which of the four views it is in."""
    side = math.isqrt(PARTS)
    return part // side // (side // 2) * 2 + part % side // (side // 2)


def faced(around: Around, quarters: int) -> Around:
    """What one sees who turned so many quarters to the right: the same views, in another order."""
    place = {DIRECTIONS[n]: n for n in range(4)}
    was = [_RIGHTWARDS[(_RIGHTWARDS.index(direction) + quarters) % 4] for direction in DIRECTIONS]
    now = {old: new for new, old in zip(DIRECTIONS, was, strict=True)}

    def moved(picture: NDArray[Any]) -> NDArray[Any]:
        side = len(picture) // 2
        views = [picture[y * side : (y + 1) * side, x * side : (x + 1) * side] for y in range(2) for x in range(2)]
        ahead, right, left, behind = (views[place[direction]] for direction in was)
        return np.concatenate([np.concatenate([ahead, right], 1), np.concatenate([left, behind], 1)])

    parts = np.array(around.parts).reshape(math.isqrt(PARTS), -1)
    things = tuple(thing._replace(direction=now[thing.direction]) for thing in around.things)
    return Around(moved(around.image), things, tuple(moved(parts).ravel().tolist()))


def questions(around: Around, rng: np.random.Generator | None = None) -> Iterator[Sentence]:
    """All that can be asked of a picture beyond doubt; with ``rng`` also where some things are that are not there."""
    kinds = defaultdict(list)
    for thing in around.things:
        if thing.kind:
            kinds[thing.kind].append(thing)
    certain = {kind: those for kind, those in kinds.items() if all(thing.share >= VISIBLE for thing in those)}
    for kind, those in certain.items():
        number = NAMES.index(kind)
        if len(those) == 1 and those[0].color and those[0].share >= COLORED:
            yield question("color", (kind, "color"), kind, those[0].color, number)
        if len(those) <= len(NUMBERS) and (len(those) > 1 or rng is None or rng.random() < SINGLE):
            yield question("count", (kind, "many"), kind, NUMBERS[len(those) - 1], number)
        if len({thing.direction for thing in those}) == 1:
            yield question("where", (kind, "where"), kind, those[0].direction, number)
    single = sorted((those[0] for those in certain.values() if len(those) == 1), key=lambda thing: thing.kind)
    for a, b in combinations(single, 2):
        if a.direction == b.direction and abs(a.x - b.x) >= APART:
            side = "left" if a.x < b.x else "right"
            yield question("side", (a.kind, b.kind), a.kind, side, NAMES.index(a.kind))
    for direction in DIRECTIONS:
        shares = sorted(((t.share, t.kind) for t in around.things if t.direction == direction), reverse=True)
        clear = shares and shares[0][0] >= COLORED and (len(shares) == 1 or shares[0][0] >= LARGER * shares[1][0])
        if clear and (answer := shares[0][1]):
            yield question("largest", (direction, "most"), direction, answer, DIRECTIONS.index(direction))
    absent = [kind for kind in NAMES if kind not in kinds]
    for number in rng.choice(len(absent), ABSENT, replace=False) if rng and absent else ():
        kind = absent[number]
        yield question("where", (kind, "where"), kind, "nowhere", NAMES.index(kind))


def _same(one: Sentence, other: Sentence) -> bool:
    """Does one of the two say where a thing is, the other that this thing is the largest there?"""
    where, largest = (one, other) if one.type == "where" else (other, one)
    return (where.type, largest.type) == ("where", "largest") and where.words[1] == largest.words[ANSWER]


# --- on disk ----------------------------------------------------------------------------------------------------------


def write_views(path: Path, pictures: Sequence[Labelled]) -> None:
    """Write a shard, ``views-*.safetensors``; see `write_shard`."""
    labels = []
    for p in pictures:
        things = [[t.category, t.color, t.direction, round(t.share, 4), round(t.x, 3)] for t in p.things]
        labels.append({"things": things, "parts": list(p.parts)})
    write_shard(path, [picture.image for picture in pictures], labels)


def is_views(folder: Path) -> bool:
    """Did `write_views` write there?"""
    return any(folder.glob("views-*.safetensors"))


@lru_cache(maxsize=4)
def read_views(folder: str) -> list[Around]:
    """All pictures in the shards of a folder; see `read_shards` for what is raised, and ValueError where they do
    not tell what fills the parts."""
    read = []
    for image, told in read_shards(Path(folder), "views"):
        if not isinstance(told, dict):
            raise ValueError(f"{folder} holds pictures of an older release, without their parts: take them again")
        read.append(Around(image, tuple(Seen(*thing) for thing in told["things"]), tuple(told["parts"])))
    return read
