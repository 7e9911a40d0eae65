"""Which answers are accepted."""

import pytest

from dualsight.data.answers import accepted, canonical


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("left", "To the left of."), ("two", "2"), ("two", "There are two."), ("red", "It's red"), ("above", "over"),
        ("yes", "Yes, there is one."), ("no", "No."), ("star", "a star"), ("top left", "in the top left corner"),
        ("kitchen", "This is a kitchen."), ("grey", "Gray"), ("large", "It is big."),
        ("living room", "the living room"),
    ],
)  # fmt: skip
def test_accepted(answer, reply):
    assert accepted(answer, reply)


@pytest.mark.parametrize(
    ("answer", "reply"),
    [("left", "right"), ("two", "three"), ("yes", "no"), ("no", "There is nothing."), ("red", "red and blue"),
     ("star", "stars and rings"), ("no", "yes, no doubt"), ("red", ""), ("yes", "")],
)  # fmt: skip
def test_not_accepted(answer, reply):
    assert not accepted(answer, reply)


def test_canonical_is_a_fixed_point():
    for text in ("It's on the left.", "THERE ARE 3", "an upper left corner", "the the"):
        assert canonical(canonical(text)) == canonical(text)
