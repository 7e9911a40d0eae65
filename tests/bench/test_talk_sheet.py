"""Pictures of talks."""

import numpy as np
import pytest
import torch
from PIL import Image

from dualsight.bench.talk_sheet import DARK, GAP, KEY, TILE, WORDS, talk_sheet
from dualsight.bench.talks import Played
from dualsight.data.gridtalk import GridTalk
from dualsight.data.talks import ANSWER

TASK = GridTalk()
COUNT = 12


@pytest.fixture
def talk():
    rng = np.random.default_rng(0)
    types = ["color", "fine", "kind", "count", "text", *["color"] * (COUNT - 5)]
    return TASK.sample(COUNT, rng, types)


def played(talk, wrong=()):
    return [
        Played(0, n, sentence.type, True, n not in wrong, "no" if n in wrong else sentence.words[ANSWER])
        for n, sentence in enumerate(talk.sentences)
    ]


def tile(path, column, row=0):
    left, top = GAP + column * (TILE + GAP), KEY + row * (TILE + WORDS + GAP)
    return np.asarray(Image.open(path).convert("RGB"), float)[top : top + TILE + WORDS, left : left + TILE]


def middle(picture, cell):
    """Of a cell, without its frame."""
    side = TILE // TASK.size
    y, x = cell // TASK.size * side, cell % TASK.size * side
    return picture[y + 8 : y + 18, x + 8 : x + 18]


def test_where_memory_looked_is_as_bright_as_the_image_and_the_rest_dark(talk, tmp_path):
    """The last question of each type, and where the answer is stands in a frame."""
    number = 3  # of the only question about a number, the last but one that is shown
    cells = TASK.looked_at(talk, talk.sentences[number])
    look = torch.zeros(TASK.cells)
    look[cells[0]] = 0.5
    talk_sheet(tmp_path / "a.png", TASK, [talk], played(talk), {(0, number): look})
    whole, shown = tile(tmp_path / "a.png", 0), tile(tmp_path / "a.png", 3)
    np.testing.assert_allclose(middle(shown, cells[0]), middle(whole, cells[0]), atol=1)
    np.testing.assert_allclose(middle(shown, cells[1]), DARK * middle(whole, cells[1]), atol=1)
    assert (shown[: TILE // 6 * 6] == 255).all(-1).sum() > 4 * TILE, "six white frames"


def test_an_answer_is_green_or_red_and_no_look_is_dark(talk, tmp_path):
    talk_sheet(tmp_path / "a.png", TASK, [talk, talk], [*played(talk), *played(talk, [COUNT - 1])], {})
    for row, of in enumerate(("green", "red")):
        words = tile(tmp_path / "a.png", 5, row)[TILE + 18 :]
        reddest, greenest = (words[..., one] - words[..., other] for one, other in ((0, 1), (1, 0)))
        assert (reddest.max() > 60) == (of == "red") and (greenest.max() > 60) == (of == "green")
    whole, shown = tile(tmp_path / "a.png", 0), tile(tmp_path / "a.png", 5)
    asked = TASK.looked_at(talk, talk.sentences[-1])[0]
    np.testing.assert_allclose(middle(shown, asked), DARK * middle(whole, asked), atol=1)
