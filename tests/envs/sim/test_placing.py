"""Room to put things: worked by hand in a room of 4 x 3 m with one door."""

import numpy as np
import pytest

from dualsight.envs.sim.layouts import Rect
from dualsight.envs.sim.placing import Gap, Space, Spot


@pytest.fixture
def space():
    """A door in the west wall at z = 1, a window in the north wall over x = 2."""
    door, window = Gap(1, 0.55, 1.45, 0.0, 2.05), Gap(0, 1.4, 2.6, 0.9, 2.1)
    return Space(Rect(0, 0, 4, 3), [door, window], [(0.5, 1.0)], [Rect(0, 0.4, 0.9, 1.6)])


def test_fronts_of_quarter_turns():
    assert [Spot(0, 0, turn).front for turn in range(4)] == [(0, 1), (1, 0), (0, -1), (-1, 0)]
    moved = Spot(1, 2, 1).moved(0.5, 0.25, turn=2)
    assert (moved.x, moved.z, moved.turn) == (1.5, 1.75, 3)
    assert Spot(0, 0, 1).footprint(2, 1) == Rect(-0.5, -1, 0.5, 1)


def test_walls_face_the_room(space):
    for wall, spot in space.wall_spots(0.5, 0.4):
        assert space.within(spot.footprint(0.5, 0.4)), (wall, spot)
        assert np.dot(spot.front, (2 - spot.x, 1.5 - spot.z)) > 0


def test_nothing_stands_in_the_way(space):
    assert space.fits(Rect(3, 2, 3.9, 2.9), 1.0)
    assert not space.fits(Rect(0.5, 1.0, 1.2, 1.5), 1.0), "before the door"
    assert not space.fits(Rect(3.5, 2, 4.1, 2.9), 1.0), "through the wall"
    space.taken.append((Rect(3, 2, 3.9, 2.9), 1.0))
    assert not space.fits(Rect(2.5, 2.5, 3.2, 2.9), 1.0), "on another piece"
    assert space.fits(Rect(2.5, 2.5, 3.2, 2.9), 1.0, beside=space.taken[0][0])


def test_tall_things_stay_away_from_windows(space):
    rect = Rect(1.8, 0.05, 2.4, 0.5)
    assert space.fits(rect, 0.8) and not space.fits(rect, 1.5)


def test_aprons_are_for_what_belongs_there(space):
    space.aprons.append(Rect(2, 2, 3, 3))
    assert not space.fits(Rect(2.2, 2.4, 2.8, 2.9), 0.5) and space.fits(Rect(2.2, 2.4, 2.8, 2.9), 0.5, on_apron=True)


def test_the_way_between_two_doors_stays_open(space):
    space.entries.append((3.5, 1.0))
    across = Rect(1.9, 0.02, 2.1, 2.98)
    assert not space.fits(across, 0.5), "a barrier through the whole room"
    assert not space.fits(Rect(1.9, 0.02, 2.1, 2.4), 0.5), "0.6 m are left: too narrow"
    assert space.fits(Rect(1.9, 0.02, 2.1, 1.9), 0.5), "1.1 m are left"


def test_pictures_hang_on_free_wall(space):
    north = Rect(0.2, 0.001, 0.9, 0.03)
    assert space.hangs(0, north, 1.3, 2.0)
    assert not space.hangs(0, Rect(1.5, 0.001, 2.2, 0.03), 1.3, 2.0), "in the window"
    space.taken.append((Rect(0.1, 0.0, 0.6, 0.5), 1.8))
    assert not space.hangs(0, north, 1.3, 2.0), "behind a wardrobe"


def test_an_open_door_stays_off_other_doorways(space):
    west, leaf = space.gaps[0], Rect(0.03, 2.91, 0.85, 2.95)
    assert space.passable(leaf, west)
    space.gaps.append(Gap(2, 0.3, 1.2, 0.0, 2.05))
    assert not space.passable(leaf, west)
