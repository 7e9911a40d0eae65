"""What is seen and how it is named, in the house of ``corridor_house``."""

import dataclasses

import numpy as np
import pytest
from corridor_house import BEDROOM, HALL, KITCHEN, LIVING, corridor_house, corridor_views

from dualsight.envs.sim import furniture
from dualsight.envs.sim.landmarks import SALIENCE, UNCOLORED, VISIBLE, Landmark, color_of, footprint_gap, look_along
from dualsight.envs.sim.polyline import Polyline
from dualsight.types import Camera, Pose

HOUSE = corridor_house()
CAMERA = Camera(64, 64)


def along(points, heading=0.0, house=HOUSE):
    """What is seen on the way along (x, z) points."""
    path = Polyline(np.array([[x, 0.0, z] for x, z in points]))
    return look_along(house, path, Pose(path.at(0.0), heading), corridor_views(), CAMERA, 1.0)


def thing(category, room=None):
    return next(t for t in HOUSE.things if t.category == category and room in (None, t.room))


def test_a_thing_behind_a_wall_is_not_seen_and_one_ahead_is():
    sights = along([(1.3, -1.5), (1.3, -4.5)])  # into the bedroom
    assert sights.share(thing("bed"), 0.0, 3.0) > VISIBLE
    assert sights.share(thing("desk"), 0.0, 3.0) == 0  # in the office, next door
    assert sights.share(thing("sofa"), 0.0, 3.0) == 0


def test_shares_are_of_the_pictures_between_two_metres():
    sights = along([(4.0, -1.5), (4.0, -3.5)])  # up to the desk
    shares = [sights.share(thing("desk"), metre, metre) for metre in (0.0, 1.0, 2.0)]
    assert shares[0] < shares[1] < shares[2]
    assert sights.share(thing("desk"), 0.0, 2.0) == shares[2]


def test_facing_is_what_the_start_pose_looks_at():
    north = along([(1.3, -2.0), (1.3, -1.5)], heading=0.35)  # a little to the left: the bed
    assert north.facing(HOUSE.rooms[BEDROOM]) == Landmark(thing("bed"))
    assert along([(1.3, -2.0), (1.3, -1.5)], heading=3.0).facing(HOUSE.rooms[BEDROOM]) is None


def test_two_of_a_kind_are_told_apart_by_colour_or_not_named():
    living = HOUSE.rooms[LIVING]
    path = [(2.7, 2.0), (2.7, 4.0)]
    assert "chair" not in [mark.thing.category for mark in along(path).near_end(living, 0.0)]
    red = [dataclasses.replace(t, color="red") if t is HOUSE.things[7] else t for t in HOUSE.things]
    named = along(path, house=dataclasses.replace(HOUSE, things=red)).near_end(living, 0.0)
    assert sorted(mark.color for mark in named) == ["green", "red"]
    assert all(mark.color_needed for mark in named)


def test_two_of_a_kind_and_colour_are_told_apart_by_what_they_stand_next_to():
    sofa = thing("sofa")
    near_sofa = dataclasses.replace(HOUSE.things[7], relations=(("next to", sofa.instance),))
    things = [near_sofa if t is HOUSE.things[7] else t for t in HOUSE.things]
    named = along([(2.2, 2.0), (2.2, 4.0)], house=dataclasses.replace(HOUSE, things=things))
    chairs = [mark for mark in named.near_end(HOUSE.rooms[LIVING], 0.0) if mark.thing.category == "chair"]
    assert [(mark.thing, mark.beside) for mark in chairs] == [(near_sofa, "sofa")]


def test_a_corner_sofa_is_a_rival_of_a_sofa_but_not_the_other_way_round():
    corner = dataclasses.replace(HOUSE.things[7], category="corner sofa", color="red")
    things = [corner if t is HOUSE.things[7] else t for t in HOUSE.things]
    sights = along([(1.5, 2.0), (1.5, 4.0)], house=dataclasses.replace(HOUSE, things=things))
    assert sights._named(corner, 0.0, 2.0) == Landmark(corner)
    assert sights._named(thing("sofa"), 0.0, 2.0) is None  # both are red


def test_beside_a_door():
    sights = along([(6.0, 2.5), (6.0, 1.5), (6.0, 0.0), (4.0, 0.0), (4.0, -2.0)])
    office_door = HOUSE.doors[1]
    assert sights.beside(office_door, HOUSE.rooms[HALL], 4.5) is None  # the bench stands across the hall


def test_gap_to_a_footprint():
    bed = thing("bed")  # 1.2 x 1.6 m around (0.6, -4.2)
    points = np.array([[0.6, 0, -4.2], [2.2, 0, -4.2], [1.5, 0, -3.0]])
    np.testing.assert_allclose(footprint_gap(bed, points), [0.0, 1.0, 0.5])


def test_plants_are_named_without_the_colour_of_their_pot():
    assert color_of(dataclasses.replace(thing("plant"), color="blue")) == ""
    assert color_of(thing("bed")) == "white"
    assert set(UNCOLORED) <= set(SALIENCE)


def test_all_furniture_but_doors_and_ceiling_lamps_has_a_salience():
    overhead = {"ceiling fan", "chandelier", "pendant lamp", "door"}
    assert {model.category for model in furniture.catalog()} - overhead <= set(SALIENCE)


@pytest.mark.parametrize(
    ("path", "side"),
    [([(6.0, 1.5), (6.0, 2.6)], "ahead"), ([(5.2, 2.4), (5.2, 3.4)], "left"), ([(6.8, 2.4), (6.8, 3.4)], "right")],
)
def test_the_side_of_the_table_at_the_end_of_a_walk_south(path, side):
    near = along(path).near_end(HOUSE.rooms[KITCHEN], 0.0)
    assert next(mark.side for mark in near if mark.thing.category == "table") == side
