"""Generated scenes as examples to learn from: conversations about them, and drawings of them.

Both are sequences: example ``i`` is a function of ``(seed, i)`` alone, so that any process can make any part, in any
order, and nothing is stored. They hold no held-out combination (`scene_sampling`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dualsight.data.scene_questions import EXISTENCE, ask
from dualsight.data.scene_sampling import sample
from dualsight.data.scene_text import CATEGORIES, WHOLE, describe, pick, sample_caption
from dualsight.data.scenes import render
from dualsight.types import IMAGE_MARK, Conversation, Drawing, Turn

DESCRIBING = ("Describe the picture.", "What does the picture show?", "What do you see?", "Describe this image.")
MIX = ("attribute", "attribute", "count", "relation", "relation", *EXISTENCE)
"""How often each kind is asked: colours, shapes and relations take longer to learn than presence."""


@dataclass(frozen=True)
class SceneConversations:
    """``count`` conversations, each about one scene: one to ``turns`` questions, sometimes a description first."""

    count: int
    seed: int = 0
    size: int = 64
    """Pixels a side."""
    turns: int = 6

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Conversation]:
        return (self[i] for i in range(self.count))

    def __getitem__(self, index: int) -> Conversation:
        rng = _generator(self, index)
        scene = sample(rng)
        wanted = int(rng.integers(1, self.turns + 1))
        said: dict[str, str] = {pick(rng, DESCRIBING): describe(scene)} if rng.random() < 0.2 else {}
        while len(said) < wanted:
            question = ask(scene, pick(rng, MIX), rng)
            if question is not None:
                said.setdefault(question.text, question.answer)
        return conversation(list(said.items()), render(scene, self.size))


@dataclass(frozen=True)
class SceneDrawings:
    """``count`` captions with their pictures, of all categories and of whole scenes."""

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
        scene, said = sample_caption(rng, pick(rng, (*CATEGORIES, WHOLE)))
        return Drawing(said.text, render(scene, self.size))


def conversation(said: list[tuple[str, str]], image) -> Conversation:
    """Questions with their answers about one image, which the first question shows."""
    turns = []
    for number, (question, answer) in enumerate(said):
        turns += [Turn("user", question if number else f"{IMAGE_MARK}\n{question}"), Turn("assistant", answer)]
    return Conversation(tuple(turns), (image,))


def _generator(examples: SceneConversations | SceneDrawings, index: int) -> np.random.Generator:
    """The dice of one example.

    Raises:
        IndexError: there are fewer examples.
    """
    if not 0 <= index < examples.count:
        raise IndexError(f"there are {examples.count} examples, not {index + 1}")
    return np.random.default_rng((examples.seed, index))
