"""Scenes with what every patch of them shows: what an encoder learns to see from, before a language model asks it.

A patch belongs to the figure that covers the most of it, if any covers enough; its labels are that figure's words and
the way from the patch's centre to the figure's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dualsight.data.scene_sampling import left_out, sample
from dualsight.data.scenes import INSIDE, WORDS, Figure, Scene, render
from dualsight.types import Frame

NOTHING = -100
"""The label of a patch that shows no figure; cross-entropy's own mark for targets to leave out."""
COVERED = 0.05
"""A figure that covers less of a patch than this is not its label."""
SAMPLES = 8
"""Points a side at which a patch is looked at."""


class PatchLabels(NamedTuple):
    """Labels of the P patches of a picture, row by row."""

    words: NDArray[np.int64]
    """(P, 4) places in the lists of ``WORDS``; ``NOTHING`` where there is no figure."""
    centre: NDArray[np.float32]
    """(P, 2) from the patch's centre to the figure's, x and y in shares of the canvas; 0 where there is none."""


@cache
def _untaught(attribute: str) -> NDArray[np.bool_]:
    """``untaught`` of every shape, colour, size and texture."""
    values = WORDS[attribute]
    figures = (Figure(*words, x=0.5, y=0.5, radius=0.1) for words in product(*WORDS.values()))
    table = np.array([[value in left_out(figure, attribute) for value in values] for figure in figures])
    return table.reshape(*(len(words) for words in WORDS.values()), len(values))


def untaught(words: NDArray[np.int64], attribute: str) -> NDArray[np.bool_]:
    """``words`` (P, 4) of patches that show a figure -> (P, V): the values of an attribute that no such figure of
    training has. A loss over all of them would teach that no star can be red."""
    return _untaught(attribute)[tuple(words.T)]


@dataclass(frozen=True)
class LabelledScenes:
    """``count`` scenes of training, none with a held-out combination; scene ``i`` is a function of ``(seed, i)``."""

    count: int
    seed: int = 0
    size: int = 64
    """Pixels a side."""
    patch: int = 8
    """Pixels a side of a patch."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Frame, PatchLabels]:
        if not 0 <= index < self.count:
            raise IndexError(f"there are {self.count} scenes, not {index + 1}")
        scene = sample(np.random.default_rng((self.seed, index)))
        return render(scene, self.size), label(scene, self.size // self.patch)


def label(scene: Scene, grid: int) -> PatchLabels:
    """The labels of ``grid`` times ``grid`` patches."""
    at = (np.arange(grid * SAMPLES) + 0.5) / (grid * SAMPLES)
    covered = np.stack(
        [
            INSIDE[figure.shape]((at[None] - figure.x) / figure.radius, (at[:, None] - figure.y) / figure.radius)
            .reshape(grid, SAMPLES, grid, SAMPLES)
            .mean((1, 3))
            .ravel()
            for figure in scene.figures
        ]
    )  # (figures, P)
    owner, there = covered.argmax(0), covered.max(0) >= COVERED
    words = np.array([[values.index(getattr(f, field)) for field, values in WORDS.items()] for f in scene.figures])
    middle = (np.arange(grid) + 0.5) / grid
    patches = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)  # x, y
    figures = np.array([(figure.x, figure.y) for figure in scene.figures])
    return PatchLabels(
        np.where(there[:, None], words[owner], NOTHING),
        np.where(there[:, None], figures[owner] - patches, 0.0).astype(np.float32),
    )
