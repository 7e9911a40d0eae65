"""A step that changed nothing is not tried again; all else is the model's."""

import numpy as np

from dualsight.inference.tryout import Tryout
from dualsight.types import Action

STOP, FORWARD, LEFT, RIGHT = Action.STOP, Action.MOVE_FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT
SCORES = {STOP: 0.0, FORWARD: 3.0, LEFT: 1.0, RIGHT: 2.0}
WALL, ASIDE, BEYOND = (np.full((4, 4, 3), grey, np.uint8) for grey in (10, 90, 200))


def walked(*steps) -> Tryout:
    tryout, executed = Tryout(), None
    for frame, action in steps:
        tryout.see(frame, executed)
        executed = action
    return tryout


def test_the_models_answer_stands_while_steps_succeed():
    tryout = walked((WALL, FORWARD), (ASIDE, FORWARD), (BEYOND, None))
    assert [tryout.choose(action, SCORES) for action in Action] == list(Action)


def test_a_step_that_changed_nothing_is_closed_and_the_next_best_is_taken():
    tryout = walked((WALL, FORWARD), (WALL, None))
    assert tryout.choose(FORWARD, SCORES) is RIGHT
    assert tryout.choose(STOP, SCORES) is STOP


def test_noise_is_no_change():
    noisy = WALL.copy()
    noisy[0, 0] += 10
    assert walked((WALL, FORWARD), (noisy, None)).choose(FORWARD, SCORES) is RIGHT


def test_a_frame_of_another_size_shows_something_else():
    assert walked((WALL, FORWARD), (WALL[:2], None)).choose(FORWARD, SCORES) is FORWARD


def test_it_goes_on_turning_the_way_it_began():
    tryout = walked((WALL, FORWARD), (WALL, RIGHT), (ASIDE, None))
    assert tryout.choose(FORWARD, SCORES) is FORWARD
    assert tryout.choose(LEFT, {**SCORES, RIGHT: 0.5}) is FORWARD
    blocked = walked((WALL, FORWARD), (WALL, RIGHT), (ASIDE, FORWARD), (ASIDE, None))
    assert blocked.choose(LEFT, SCORES) is RIGHT


def test_a_heading_stays_closed_until_a_step_succeeds():
    back = walked((WALL, FORWARD), (WALL, RIGHT), (ASIDE, LEFT), (WALL, None))  # an expert turned it back
    assert back.choose(FORWARD, SCORES) is LEFT
    freed = walked((WALL, FORWARD), (WALL, RIGHT), (ASIDE, FORWARD), (BEYOND, LEFT), (WALL, None))
    assert freed.choose(FORWARD, SCORES) is FORWARD
