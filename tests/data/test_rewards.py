"""What answers are worth."""

import pytest

from dualsight.data.rewards import exact_match, multiple_choice, numeric_match


@pytest.mark.parametrize(
    ("reward", "right", "answer", "score"),
    [
        (exact_match, "a red cup", "A  red cup.", 1),
        (exact_match, "a red cup", "It is a red cup.", 0),
        (numeric_match, "1,234.5", "So 12 and then 1234.5.", 1),
        (numeric_match, "-3", "x = -3", 1),
        (numeric_match, 3, "-3", 0),
        (numeric_match, "0.5", ".5", 1),
        (numeric_match, 7, "seven", 0),
        (numeric_match, 3, "8-5=3", 1),
        (multiple_choice, "B", "B", 1),
        (multiple_choice, "b", "(B) a cup", 1),
        (multiple_choice, "(B)", "(A) is tempting. The answer is B.", 1),
        (multiple_choice, "B", "Option B: a cup", 1),
        (multiple_choice, "B", r"(A) or so: \boxed{B}", 1),
        (multiple_choice, "B", "The answer is: **B**", 1),
        (multiple_choice, "A", "A cup stands there", 0),
        (multiple_choice, "C", "B. a cup", 0),
        (numeric_match, "1/2", "3/2", 0),
        (numeric_match, "1/2", "0.5", 1),
        (numeric_match, "1e-3", "2e-3", 0),
        (numeric_match, "1e-3", "0.001", 1),
        (numeric_match, "3", "3/0", 0),
        (multiple_choice, "B. red", "B. red", 1),
        (multiple_choice, "(B) red", "B", 1),
        (multiple_choice, "b) red", "C", 0),
        (multiple_choice, "B", "The answer is b.", 1),
        (multiple_choice, "B", "I pick B", 1),
        (multiple_choice, "B", "b", 1),
        (multiple_choice, "A", "The answer is a cup", 0),
        (multiple_choice, "A", "a cup", 0),
    ],
)
def test_rewards(reward, right, answer, score):
    assert reward("?", answer, {"answer": right}) == score


def test_an_answer_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="'red' is no number"):
        numeric_match("?", "3", {"answer": "red"})


@pytest.mark.parametrize("right", ["red", "A cup", ""])
def test_an_answer_that_is_no_choice_is_named(right):
    with pytest.raises(ValueError, match=f"'{right}' is no choice"):
        multiple_choice("?", "B", {"answer": right})
