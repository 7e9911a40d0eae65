"""Grids, what they look like, and what is asked of them."""

from dataclasses import replace

import numpy as np
import pytest

from dualsight.data.gridtalk import (
    BARS,
    CELL,
    COLORS,
    KINDS,
    NUMBERS,
    TABLE,
    TYPES,
    VOCABULARY,
    GridTalk,
    render,
    sample_grid,
)
from dualsight.data.talks import SENTENCE

TASK = GridTalk()


@pytest.fixture
def talk():
    return TASK.sample(400, np.random.default_rng(0))


def cell_of(talk, sentence):
    return {name: int(values[sentence.subject]) for name, values in talk.content._asdict().items()}


def test_a_word_has_one_number():
    assert len(set(VOCABULARY)) == len(VOCABULARY) < 128


def test_every_sentence_has_eight_known_words(talk):
    assert {len(sentence.words) for sentence in talk.sentences} == {SENTENCE}
    assert all(word in VOCABULARY for sentence in talk.sentences for word in sentence.words)
    assert {sentence.type for sentence in talk.sentences} == set(TYPES)


def test_answers_are_true(talk):
    for sentence in talk.sentences:
        _, subject, feature, _, again, _, answer, _ = sentence.words
        if sentence.type == "text":
            assert answer == (subject if again == "first" else feature)
            continue
        assert again == subject
        cell = cell_of(talk, sentence)
        if sentence.type == "count":
            row = int(subject[3:])
            colors = [list(COLORS)[c] for c in talk.content.color[row * 6 : row * 6 + 6]]
            assert answer == NUMBERS[colors.count(feature)]
            continue
        assert subject == f"c{sentence.subject:02d}"
        true = {
            "color": list(COLORS)[cell["color"]],
            "bar": BARS[cell["bar"]],
            "dot": ["no", "yes"][cell["dot"]],
            "kind": KINDS[TABLE[cell["color"], cell["bar"]]],
        }
        assert answer == true[feature]


def test_no_cell_is_asked_about_twice_while_there_are_others():
    talk = GridTalk(types=("color",)).sample(36, np.random.default_rng(3))
    assert sorted(sentence.subject for sentence in talk.sentences) == list(range(36))


def test_every_kind_can_be_met():
    assert set(TABLE.ravel()) == set(range(len(KINDS)))


def test_a_cell_shows_its_color_bar_and_dot():
    rng = np.random.default_rng(1)
    grid = sample_grid(TASK, rng)
    images = np.stack([render(grid, 6, rng) for _ in range(60)]).mean(0)  # the noise averages out
    cells = images.reshape(6, CELL, 6, CELL, 3).transpose(0, 2, 1, 3, 4).reshape(36, CELL, CELL, 3)
    for number in range(36):
        color = np.array(list(COLORS.values())[grid.color[number]])
        assert np.abs(cells[number, 2, 5] - color).max() < 30 or BARS[grid.bar[number]] in ("rising", "falling")
        assert (cells[number, 0, 7].min() > 200) == bool(grid.dot[number])
    flat, upright = (cells[grid.bar == bar] for bar in (0, 1))
    assert flat[:, 4, 1:7].mean() < 40 < flat[:, 1:4, 4].mean()
    assert upright[:, 1:7, 4].mean() < 40 < upright[:, 4, 1:4].mean()


def test_the_same_seed_gives_the_same_talk(talk):
    again = TASK.sample(400, np.random.default_rng(0))
    assert again.sentences == talk.sentences
    assert np.array_equal(again.image, talk.image)


@pytest.mark.parametrize("wrong", [{"size": 7}, {"colors": 1}, {"types": ("smell",)}, {"types": ()}])
def test_impossible_tasks_are_refused(wrong):
    with pytest.raises(ValueError, match=r"2 to 6|there are color"):
        GridTalk(**wrong)


def test_rows_may_lean_to_a_color():
    """Then numbers go up to six; other grids of the same seed stay what they are."""
    leaning = replace(TASK, leaning=1.0)

    def most(task):
        return [
            np.bincount(row).max()
            for seed in range(50)
            for row in sample_grid(task, np.random.default_rng(seed)).color.reshape(6, 6)
        ]

    assert np.mean(most(leaning)) > np.mean(most(TASK)) + 1 and max(most(leaning)) == 6 > max(most(TASK))
    few = replace(TASK, leaning=0.3)
    same = [
        np.array_equal(sample_grid(few, np.random.default_rng(s)), sample_grid(TASK, np.random.default_rng(s)))
        for s in range(100)
    ]
    assert 55 < sum(same) < 85
