"""Questions: the answers are true, both answers occur, training names nothing that is held out."""

import re
from collections import Counter

import numpy as np
import pytest

from dualsight.data.scene_questions import EXISTENCE, KINDS, sample_question
from dualsight.data.scene_sampling import HELD_OUT
from dualsight.data.scenes import COLORS, SHAPES, SIZES, TEXTURES

PAIRS = re.compile(rf"({'|'.join(COLORS)}) ({'|'.join(SHAPES)})")
PATTERNS = re.compile(rf"(striped|dotted) ({'|'.join(SHAPES)})")


def drawn(kind, count, held_out=False, seed=0):
    rng = np.random.default_rng(seed)
    return [sample_question(rng, kind, held_out) for _ in range(count)]


@pytest.mark.parametrize("kind", EXISTENCE)
@pytest.mark.parametrize("held_out", [False, True])
def test_existence_is_true_and_balanced(kind, held_out):
    questions = drawn(kind, 24, held_out)
    for scene, question in questions:
        pair = PAIRS.search(question.text)
        shape = re.search("|".join(SHAPES), question.text)
        color = re.search("|".join(COLORS), question.text)
        there = any(
            (shape is None or f.shape == shape[0]) and (color is None or f.color == color[0]) for f in scene.figures
        )
        assert question.answer == ("yes" if there else "no"), question
        if pair:
            assert (("color", pair[1], pair[2]) in HELD_OUT) == held_out
        if kind == "existence_adversarial" and question.answer == "no":
            assert pair is not None
            assert any(f.color == pair[1] for f in scene.figures) and any(f.shape == pair[2] for f in scene.figures)
    assert 5 <= Counter(q.answer for _, q in questions)["yes"] <= 19


def test_counts_are_true():
    sums = 0
    for scene, question in drawn("count", 160):
        said = (*COLORS, *SIZES, *TEXTURES)
        words = re.search(
            rf"\b((?:{'|'.join(said)}) )?(?:(\w+) and )?(\w+)( are there| do you see|\?|\.)", question.text
        )
        assert words is not None
        word, *nouns = (words[1] or "").strip(), words[2] or words[3], words[3]
        nouns = [noun.removesuffix("s").replace("crosse", "cross") for noun in nouns]
        fitting = [f for f in scene.figures if any(noun in (f.shape, "figure", "object") for noun in nouns)]
        fitting = [f for f in fitting if word in ("", f.color, f.size, f.texture)]
        assert question.answer == ("zero", "one", "two", "three", "four")[len(fitting)], question
        sums += words[2] is not None
    assert sums > 10


def test_numbers_are_asked_for_equally_often_in_a_test():
    answers = Counter(question.answer for _, question in drawn("count", 36, held_out=True))
    assert set(answers) == {"two", "three", "four"} and min(answers.values()) >= 5


def test_attributes_are_those_of_the_only_figure_that_fits():
    for scene, question in drawn("attribute", 150):
        pair = PAIRS.search(question.text)
        if pair is None:
            continue
        (figure,) = (f for f in scene.figures if (f.color, f.shape) == pair.groups())
        assert question.answer in (figure.size, figure.texture) or question.answer.split()[0] in ("top", "bottom")


def test_relations_are_true():
    for scene, question in drawn("relation", 150):
        pairs = PAIRS.findall(question.text)
        if question.answer not in ("left", "right", "above", "below") or len(pairs) != 2:
            continue
        a, b = (next(f for f in scene.figures if (f.color, f.shape) == pair) for pair in pairs)
        distance = {"left": b.x - a.x, "right": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}
        assert max(distance, key=lambda word: distance[word]) == question.answer


@pytest.mark.parametrize("kind", KINDS)
def test_training_names_no_held_out_combination(kind):
    for _, question in drawn(kind, 50, seed=5):
        assert not {("color", *pair) for pair in PAIRS.findall(question.text)} & HELD_OUT
        assert not {("texture", *pair) for pair in PATTERNS.findall(question.text)} & HELD_OUT


def test_wording_varies():
    for kind in KINDS:
        assert len({question.text for _, question in drawn(kind, 30)}) >= 15


def test_unknown_kinds_are_named():
    with pytest.raises(ValueError, match="no kind of question 'taste'"):
        sample_question(np.random.default_rng(0), "taste")


def test_training_says_nothing_of_answers_that_it_leaves_out():
    """Not that there are never four crosses, that no star is red, that no ring is left of a heart."""
    left_out = Counter()
    for kind in ("attribute", "count", "relation"):
        for scene, question in drawn(kind, 300):
            assert question.answer not in question.untaught
            words = re.search(rf"({'|'.join(SHAPES)})(es|s)?\b", question.text)
            for answer in question.untaught:
                left_out[kind] += 1
                if kind == "count":
                    assert words and ("count", answer, words[1]) in HELD_OUT, question
                elif answer in COLORS:
                    assert any(("color", answer, f.shape) in HELD_OUT for f in scene.figures), question
    assert min(left_out[kind] for kind in ("attribute", "count", "relation")) > 10
    for kind in KINDS:
        assert not any(question.untaught for _, question in drawn(kind, 20, held_out=True))


def test_what_is_left_out_of_a_count():
    fours = {shape for _, number, shape in (c for c in HELD_OUT if c[0] == "count") if number == "four"}
    asked = [
        q for _, q in drawn("count", 400) for s in fours if re.search(rf"(many|the|of) {s}(es|s)\b(?! and)", q.text)
    ]
    assert asked and all("four" in question.untaught for question in asked)
