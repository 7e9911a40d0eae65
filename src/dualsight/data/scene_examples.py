"""Generated scenes as examples to learn from: conversations about them, and drawings of them.

Both are sequences: example ``i`` is a function of ``(seed, i)`` alone, so that any process can make any part, in any
order, and nothing is stored. They hold no held-out combination (`scene_sampling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dualsight.data.scene_questions import CAPTION, EXISTENCE, Question, ask
from dualsight.data.scene_sampling import sample
from dualsight.data.scene_text import CATEGORIES, WHOLE, describe, pick, sample_caption
from dualsight.data.scenes import render
from dualsight.types import IMAGE_MARK, Conversation, Drawing, Frame, Turn

DESCRIBING = ("Describe the picture.", "What does the picture show?", "What do you see?", "Describe this image.")
ASKED = {
    "single": ("attribute", "attribute", CAPTION, *EXISTENCE),
    "pair": ("attribute", "attribute", *("relation",) * 6, *(CAPTION,) * 4, *EXISTENCE),
    "group": ("attribute", *("count",) * 4, *(CAPTION,) * 2, *EXISTENCE),
    "free": (*("attribute",) * 3, *("count",) * 3, *("relation",) * 4, *(CAPTION,) * 3, *EXISTENCE),
}
"""How often each kind is asked about scenes of each layout: relations take longest to learn, presence is soon known,
and where there is one of each there is nothing to count."""
LAYOUTS = ("single", *("pair",) * 3, *("group",) * 2, *("free",) * 3)
"""How often each layout is asked about, and drawn: there is little to find in a picture of one figure."""
TOLD = 0.7
"""Share of drawings whose caption tells of every figure, mostly with size, texture and place: the more a caption says,
the more a picture teaches of what words mean (as in the re-captioned data of Betker et al., 2023)."""


@dataclass(frozen=True)
class SceneConversations:
    """``count`` conversations, each about one scene: one to ``turns`` questions, sometimes a description first."""

    count: int
    seed: int = 0
    size: int = 64
    """Pixels a side."""
    turns: int = 7
    words: int = 110
    """Of questions and answers, from which on no more is asked: rows of training have an end, and captions can be
    long."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Conversation]:
        return (self[i] for i in range(self.count))

    def __getitem__(self, index: int) -> Conversation:
        rng = _generator(self, index)
        layout = pick(rng, LAYOUTS)
        scene = sample(rng, layout)
        wanted = int(rng.integers(1, self.turns + 1))
        said: dict[str, Question] = {}
        if rng.random() < 0.2:
            text = pick(rng, DESCRIBING)
            said[text] = Question("description", text, describe(scene))
        while len(said) < wanted:
            question = ask(scene, pick(rng, ASKED[layout]), rng)
            if question is None:
                continue
            if sum(map(_words, (*said.values(), question))) > self.words:
                break
            said.setdefault(question.text, question)
        return conversation(said.values(), render(scene, self.size))


@dataclass(frozen=True)
class SceneDrawings:
    """``count`` captions with their pictures, of whole scenes and of all categories."""

    count: int
    seed: int = 0
    size: int = 64
    """Pixels a side."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Drawing]:
        return (self[i] for i in range(self.count))

    def __getitem__(self, index: int) -> Drawing:
        rng = _generator(self, index)
        category = WHOLE if rng.random() < TOLD else pick(rng, tuple(CATEGORIES))
        scene, said = sample_caption(rng, category, layout=pick(rng, LAYOUTS), one_sided=False)
        return Drawing(said.text, render(scene, self.size))


def conversation(said: Iterable[Question], image: Frame) -> Conversation:
    """Questions with their answers about one image, which the first question shows."""
    turns = []
    for number, question in enumerate(said):
        asked = question.text if number else f"{IMAGE_MARK}\n{question.text}"
        turns += [Turn("user", asked), Turn("assistant", question.answer, question.untaught)]
    return Conversation(tuple(turns), (image,))


def _words(question: Question) -> int:
    return len(question.text.split()) + len(question.answer.split())


def _generator(examples: SceneConversations | SceneDrawings, index: int) -> np.random.Generator:
    """The dice of one example.

    Raises:
        IndexError: there are fewer examples.
    """
    if not 0 <= index < examples.count:
        raise IndexError(f"there are {examples.count} examples, not {index + 1}")
    return np.random.default_rng((examples.seed, index))
