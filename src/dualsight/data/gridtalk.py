"""GridTalk: talks (``talks``) about a grid of cells, each with a colour, a ground, a bar and perhaps a dot.

========  =========================  ======================  ===================================================
type      question                   answer                  needs
========  =========================  ======================  ===================================================
color     ``ask c17 color``          ``c17 : red``           the image
fine      ``ask c17 bar`` / ``dot``  ``c17 : flat``          the image, closely
kind      ``ask c17 kind``           ``c17 : vex``           the image, and a table of colours and bars
count     ``ask row2 red``           ``row2 : three``        a row of the image
text      ``ask apple vex``          ``last : vex``          nothing but what was just said
========  =========================  ======================  ===================================================

A model that is taught all but ``kind`` knows the twelve words of that table, from texts, but not the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dualsight.data.talks import ANSWER, FILLERS, FRUITS, SPECIAL, Sentence, Talk, check_types, question, repeat
from dualsight.types import Frame

CELL = 8
"""Pixels a side of a cell."""
COLORS = {
    "red": (230, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 230), "yellow": (235, 225, 50),
    "pink": (235, 70, 200), "cyan": (50, 215, 225),
}  # fmt: skip
GROUNDS = ((20, 20, 20), (90, 90, 90), (20, 40, 80), (70, 30, 30), (30, 70, 40), (90, 70, 30))
BARS = ("flat", "upright", "rising", "falling")
KINDS = ("vex", "lom", "tig", "bru", "sef", "nop", "wid", "kal", "rin", "dus", "mov", "hep")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
WORDS = (*FRUITS, *KINDS)
"""Of texts."""
FEATURES = ("color", "bar", "dot", "kind", "first", "last", "yes", "no")
MOST_CELLS = 36
TYPES = ("color", "fine", "kind", "count", "text")
VOCABULARY: tuple[str, ...] = (
    *SPECIAL, *FEATURES, *COLORS, *BARS, *KINDS, *NUMBERS, *FILLERS, *FRUITS,
    *(f"c{number:02d}" for number in range(MOST_CELLS)), *(f"row{number}" for number in range(6)),
)  # fmt: skip
NOISE = 0.15
"""Of pixels, in shares of their range."""


@dataclass(frozen=True)
class GridTalk:
    """How large, and what is asked."""

    size: int = 6
    """Cells a side."""
    colors: int = 6
    types: tuple[str, ...] = TYPES
    fillers: int = 3
    """At most so many words between sentences."""
    leaning: float = 0.0
    """Share of the grids whose rows lean to a colour, each its own way and more or less. Where all cells are drawn
    alike a number is nearly always zero, one or two, and a model settles for guessing among these."""

    def __post_init__(self) -> None:
        if not 2 <= self.size <= 6 or not 2 <= self.colors <= len(COLORS):
            raise ValueError(f"a grid of 2 to 6 cells a side and 2 to 6 colours; not {self.size} and {self.colors}")
        check_types(self.types, TYPES)

    vocabulary: ClassVar[tuple[str, ...]] = VOCABULARY

    @property
    def cells(self) -> int:
        return self.size**2

    @property
    def names(self) -> list[str]:
        """Of the cells, row by row."""
        return [f"c{number:02d}" for number in range(self.cells)]

    @property
    def rows(self) -> list[str]:
        """Names of the rows, from the top."""
        return [f"row{number}" for number in range(self.size)]

    @property
    def subjects(self) -> int:
        """Cells are what is asked about."""
        return self.cells

    @property
    def side(self) -> int:
        return CELL * self.size

    @property
    def shown(self) -> tuple[int, ...]:
        """How many colours, bars and dots a cell can have, and places."""
        return self.colors, len(BARS), 2, self.cells

    @property
    def shown_words(self) -> tuple[tuple[str, ...], ...]:
        """A policy learns by itself which words go with what it sees."""
        return ((),) * len(self.shown)

    def sample(self, sentences: int, rng: np.random.Generator, types: Sequence[str] = (), among: int = 0) -> Talk:
        """A grid, its image and questions about it; see `TalkTask.sample`."""
        grid, among = sample_grid(self, rng), among or self.cells
        order = np.concatenate([rng.permutation(among) for _ in range(1 + sentences // among)])
        said = []
        for number in range(sentences):
            kind = types[number] if types else self.types[int(rng.integers(len(self.types)))]
            said.append(ask(kind, int(order[number]), grid, self, rng))
        return Talk(render(grid, self.size, rng), grid, tuple(said))

    def looked_at(self, talk: Talk, sentence: Sentence) -> list[int]:
        if sentence.type == "count":
            first = sentence.subject // self.size * self.size
            return list(range(first, first + self.size))
        return [sentence.subject] if sentence.subject >= 0 else []

    def shown_in(self, talk: Talk) -> NDArray[np.int64]:
        grid: Grid = talk.content
        return np.stack([grid.color, grid.bar, grid.dot, np.arange(self.cells)], -1)

    def answer_about(self, other: Talk, sentence: Sentence) -> str:
        if sentence.subject < 0:
            return sentence.words[ANSWER]
        return truth(sentence.type, sentence.words[2], sentence.subject, other.content, self)


class Grid(NamedTuple):
    """What is in every cell, (cells,) each. A policy can be taught to see all of it but the ground."""

    color: NDArray[np.int64]
    ground: NDArray[np.int64]
    bar: NDArray[np.int64]
    dot: NDArray[np.int64]


def sample_grid(task: GridTalk, rng: np.random.Generator) -> Grid:
    """Every cell at random; see `GridTalk.leaning`."""
    n = task.cells
    grid = Grid(
        rng.integers(task.colors, size=n), rng.integers(len(GROUNDS), size=n), rng.integers(4, size=n),
        rng.integers(2, size=n),
    )  # fmt: skip
    if not task.leaning or rng.random() >= task.leaning:
        return grid
    to, much = (np.repeat(row, task.size) for row in (rng.integers(task.colors, size=task.size), rng.random(task.size)))
    return grid._replace(color=np.where(rng.random(n) < much, to, grid.color))


def render(grid: Grid, size: int, rng: np.random.Generator) -> Frame:
    """(8 size, 8 size, 3) uint8, with noise: a block of the colour, a dark bar through it, a white dot in a corner."""
    ground, color = np.array(GROUNDS, float), np.array(list(COLORS.values()), float)
    cells = np.broadcast_to(ground[grid.ground][:, None, None], (size * size, CELL, CELL, 3)).copy()
    cells[:, 1:7, 1:7] = color[grid.color][:, None, None]
    for bar, pixels in enumerate(_BAR_PIXELS):
        rows = np.flatnonzero(grid.bar == bar)
        cells[rows[:, None], pixels[:, 0], pixels[:, 1]] = (10.0, 10.0, 10.0)
    cells[grid.dot == 1, 0, 7] = 255.0
    image = cells.reshape(size, size, CELL, CELL, 3).transpose(0, 2, 1, 3, 4).reshape(size * CELL, size * CELL, 3)
    noisy = image + 255 * NOISE * rng.standard_normal(image.shape)
    return noisy.clip(0, 255).astype(np.uint8)


_ALONG = np.arange(1, 7)
_BAR_PIXELS = (
    np.stack([np.full(6, 4), _ALONG], -1),
    np.stack([_ALONG, np.full(6, 4)], -1),
    np.stack([7 - _ALONG, _ALONG], -1),
    np.stack([_ALONG, _ALONG], -1),
)
"""Rows and columns of a cell's bar."""
TABLE = np.random.default_rng(20).permutation(24).reshape(6, 4) % len(KINDS)
"""Which kind a colour and a bar make: knowledge that is in no picture."""


def ask(kind: str, cell: int, grid: Grid, task: GridTalk, rng: np.random.Generator) -> Sentence:
    """One question."""
    if kind == "text":
        return repeat(WORDS, rng)
    subject, feature = f"c{cell:02d}", kind
    if kind == "fine":
        feature = ("bar", "dot")[int(rng.integers(2))]
    if kind == "count":  # some of the colours need not be there
        color = int(rng.integers(task.colors)) if rng.random() < 0.3 else grid.color[cell]
        subject, feature = task.rows[cell // task.size], list(COLORS)[color]
    return question(kind, (subject, feature), subject, truth(kind, feature, cell, grid, task), cell)


def truth(kind: str, feature: str, cell: int, grid: Grid, task: GridTalk) -> str:
    """The answer that a grid gives to a question about it."""
    if kind == "count":
        row = cell // task.size * task.size
        return NUMBERS[int((grid.color[row : row + task.size] == list(COLORS).index(feature)).sum())]
    return {
        "color": list(COLORS)[grid.color[cell]],
        "bar": BARS[grid.bar[cell]],
        "dot": "yes" if grid.dot[cell] else "no",
        "kind": KINDS[TABLE[grid.color[cell], grid.bar[cell]]],
    }[feature]
