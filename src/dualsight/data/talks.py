"""Talks: an image that is looked at once, and a long stream of questions about it.

::

    <image>  ask c17 color ; c17 : red .  um well  ask c03 dot ; c03 : yes .  ...

Every sentence has eight tokens and a delimiter ``;`` between question and answer: there, memory may be called. A
language model whose window slides along the stream loses the image after a while, and what it says must then come from
memory. What the images are and what is asked of them is a `TalkTask`: grids of cells (``gridtalk``), or the rooms of
generated houses (``housetalk``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dualsight.types import Frame

SPECIAL = ("<pad>", "<eos>", "<image>", "</image>", "<seen>", "ask", ";", ":", ".")
"""The first words of every vocabulary..."""
MARK = {word: number for number, word in enumerate(SPECIAL)}
"""... and their ids."""
FILLERS = ("um", "well", "so", "then", "okay", "next")
FRUITS = ("apple", "pear", "plum", "fig", "lime", "kiwi")
"""Words to be repeated."""
SENTENCE = 8
"""Tokens of every sentence."""
ASKED, ANSWER = 4, 6
"""Within a sentence: where what follows the delimiter begins, and where the answer stands."""


class Sentence(NamedTuple):
    """A question with its answer."""

    type: str
    words: tuple[str, ...]
    """All eight."""
    subject: int
    """Which thing of the image is asked about; -1 if none is."""


class Talk(NamedTuple):
    """An image and the stream about it."""

    image: Frame
    content: Any
    """What is in the image, as its task knows it."""
    sentences: tuple[Sentence, ...]


class TalkTask(Protocol):
    """What the images of talks are, and what is asked of them."""

    @property
    def types(self) -> tuple[str, ...]: ...

    @property
    def fillers(self) -> int:
        """Words between sentences, at most."""
        ...

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All words, `SPECIAL` first."""
        ...

    @property
    def side(self) -> int:
        """Pixels a side of an image."""
        ...

    @property
    def subjects(self) -> int:
        """So many questions can be asked of an image without asking twice about the same."""
        ...

    def sample(self, sentences: int, rng: np.random.Generator, types: Sequence[str] = (), among: int = 0) -> Talk:
        """An image and so many questions, none about the same thing twice as long as there are others.

        Args:
            types: of the questions; drawn from the task's by default.
            among: only the first so many things are asked about, where things have an order; 0 is all.
        """
        ...

    @property
    def shown(self) -> tuple[int, ...]:
        """Classes of each of the features that a part of an image can have; the last is where it is."""
        ...

    @property
    def shown_words(self) -> tuple[tuple[str, ...], ...]:
        """What the last of these classes are called in talks; nothing where they have no names."""
        ...

    def shown_in(self, talk: Talk) -> NDArray[np.int64]:
        """Those of an image's parts, (parts, features), row by row."""
        ...

    def looked_at(self, talk: Talk, sentence: Sentence) -> list[int]:
        """The parts of the image in which the answer is; none for words."""
        ...

    def answer_about(self, other: Talk, sentence: Sentence) -> str:
        """What would be right if the picture were that of another talk."""
        ...


def check_types(asked: Sequence[str], known: Sequence[str]) -> None:
    """Raises ValueError unless a task asks something, and only what there is."""
    if unknown := set(asked) - set(known) or not asked:
        raise ValueError(f"no questions of type {unknown}; there are {', '.join(known)}")


def question(kind: str, asked: Sequence[str], subject: str, answer: str, number: int) -> Sentence:
    """``ask c17 color ; c17 : red .`` from ``("c17", "color")``, ``"c17"`` and ``"red"``."""
    return Sentence(kind, ("ask", *asked, ";", subject, ":", answer, "."), number)


def repeat(words: Sequence[str], rng: np.random.Generator) -> Sentence:
    """A question of the type "text", about two words that it says itself: ``ask apple vex ; last : vex .``"""
    a, b = (words[i] for i in rng.choice(len(words), 2, replace=False))
    which, answer = ("first", a) if rng.random() < 0.5 else ("last", b)
    return question("text", (a, b), which, answer, -1)


def gaps(task: TalkTask, sentences: int, rng: np.random.Generator) -> list[int]:
    """How many words stand behind each sentence: one layout for all rows of a batch."""
    return rng.integers(task.fillers + 1, size=sentences).tolist()


def filler(rng: np.random.Generator) -> str:
    """A word that says nothing."""
    return FILLERS[int(rng.integers(len(FILLERS)))]
