import pytest

from dualsight.mirror import mirrored_action, mirrored_text
from dualsight.types import Action


def test_left_and_right_change_places_and_nothing_else():
    told = "Left of the leftmost bright copyright door, turn right; the left-hand rightmost one stays."
    other = "Right of the rightmost bright copyright door, turn left; the right-hand leftmost one stays."
    assert mirrored_text(told) == other and mirrored_text(other) == told


@pytest.mark.parametrize(
    ("action", "other"),
    [(Action.TURN_LEFT, Action.TURN_RIGHT), (Action.TURN_RIGHT, Action.TURN_LEFT), (Action.STOP, Action.STOP),
     (Action.MOVE_FORWARD, Action.MOVE_FORWARD), (-1, -1)],
)  # fmt: skip
def test_turns_change_sides(action, other):
    assert mirrored_action(action) == other
