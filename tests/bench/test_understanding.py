"""The suite janus-house, judged with answerers that are known to be right, wrong or blind."""

import json

import numpy as np
import pytest

from dualsight.bench.understanding import CATEGORIES, Item, MostFrequent, evaluate, last_line, make_items


@pytest.fixture(scope="module")
def items():
    return make_items(8, seed=1)


class Oracle:
    """Knows the answers, in the order of the questions."""

    def __init__(self, items):
        self.answers = iter([item.answer for item in items])

    def __call__(self, frames, questions):
        return [next(self.answers).upper() + "." for _ in questions]


def test_the_oracle_is_perfect_and_the_file_carries_the_protocol(items, tmp_path):
    result = evaluate(Oracle(items), seed=1, items=items, batch=7, out=tmp_path, config={"model": "oracle"})
    parts = "attribute=100.0 count=100.0 relation=100.0 existence=100.0 room=100.0"
    assert last_line(result) == f"overall=100.0 {parts}"
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["protocol"] == {**written["protocol"], "name": "janus-house", "version": 1}
    assert written["seed"] == 1 and written["questions"] == len(items) == 7 * 8
    assert set(written["kinds"]) == {kind for kinds in CATEGORIES.values() for kind in kinds}


def test_the_blind_control_is_far_from_right(items):
    training = make_items(12, seed=1, held_out=False)  # of the same house, whose light is baked already
    result = evaluate(MostFrequent(training), items=items)
    assert result["overall"]["score"] < 70
    assert result["categories"]["attribute"]["score"] < 60


def test_the_overall_score_is_the_mean_of_the_categories():
    frame = np.zeros((64, 64, 3), np.uint8)
    items = [Item("attribute", frame, "?", "red")] * 3 + [Item("count", frame, "?", "two")]
    result = evaluate(lambda frames, questions: ["red"] * len(frames), items=items)
    assert result["overall"]["score"] == 50 and result["overall"]["right"] == 3
    assert last_line(result) == "overall=50.0 attribute=100.0 count=0.0"


def test_a_wrong_number_of_answers_is_refused():
    items = [Item("count", np.zeros((64, 64, 3), np.uint8), "How many?", "two")]
    with pytest.raises(ValueError, match="1 questions were asked, 0 answers came back"):
        evaluate(lambda frames, questions: [], items=items)


def test_the_most_frequent_answer_backs_off_to_the_beginning():
    frame = np.zeros((64, 64, 3), np.uint8)
    known = [Item("", frame, "Is there a star?", "yes")] * 2 + [Item("", frame, "How many stars?", "two")]
    control = MostFrequent(known)
    assert control([frame] * 3, ["Is there a ring?", "How many rings?", "Who?"]) == ["yes", "two", "yes"]
