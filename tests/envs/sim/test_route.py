"""Routes through the house of ``corridor_house``, told as its drawing shows them."""

import dataclasses
import math

import numpy as np
import pytest
from corridor_house import BEDROOM, HALL, LIVING, corridor_house, corridor_mesh, corridor_views

from dualsight.envs.sim.building import Room, Stairs
from dualsight.envs.sim.crossings import RouteError, find_crossings, out_of
from dualsight.envs.sim.navmesh import NavMesh
from dualsight.envs.sim.polyline import Polyline
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.route import analyse, cross_room, turn_word
from dualsight.types import Pose

NORTH, WEST, SOUTH, EAST = 0.0, math.pi / 2, math.pi, -math.pi / 2


def route(start, heading, goal):
    """The route between two (x, z)."""
    field = corridor_mesh().distance_field(np.array([goal[0], 0.0, goal[1]]))
    return analyse(corridor_house(), field, Pose(np.array([start[0], 0.0, start[1]]), heading), corridor_views())


@pytest.mark.parametrize(
    ("degrees", "word"),
    [(0, "straight"), (-29, "straight"), (31, "slight left"), (-59, "slight right"), (90, "left"), (-130, "right"),
     (140, "around"), (-180, "around")],
)  # fmt: skip
def test_turn_words(degrees, word):
    assert turn_word(math.radians(degrees)) == word


@pytest.mark.parametrize(
    ("bearing", "through", "told"),
    [
        (10, 0, ("straight", "ahead")),
        (45, 0, ("slight left", "ahead")),
        (80, 0, ("left", "right")),  # along the wall of a corridor, then right through its other wall
        (30, 90, ("straight", "left")),
        (85, 90, ("left", "ahead")),
        (90, 180, ("left", "left")),  # back through the wall one came from, further along
        (80, -90, ("left", "around")),  # past a flight of stairs, then back up
        (10, 180, ("straight", "around")),
    ],
)
def test_crossing_a_room_and_its_mirror_image(bearing, through, told):
    entry = math.radians(37)
    turn, side = cross_room(entry, entry + math.radians(bearing), entry + math.radians(through))
    assert (turn, side) == told
    mirrored = cross_room(entry, entry - math.radians(bearing), entry - math.radians(through))
    assert mirrored == tuple(swapped(word) for word in told)


def swapped(text):
    return text.replace("left", "?").replace("right", "left").replace("?", "right")


def test_the_second_door_on_the_left():
    first, hall, last = route((1.3, -3.0), NORTH, (6.7, -2.5)).legs
    assert [leg.room.type for leg in (first, hall, last)] == ["bedroom", "hall", "bathroom"]
    assert first.turn == "around"
    assert (first.exit.kind, first.exit.side, first.exit.choices) == ("door", "ahead", 1)
    assert hall.turn == "left"
    assert (hall.exit.side, hall.exit.ordinal, hall.exit.last) == ("left", 2, True)  # the office is the first
    assert hall.exit.choices == 4
    assert last.exit is None


def test_the_first_door_on_the_right_of_the_same_corridor():
    hall = route((6.7, -3.0), SOUTH, (4.0, -3.0)).legs[1]
    assert hall.turn == "right"
    assert (hall.exit.side, hall.exit.ordinal, hall.exit.last) == ("right", 1, False)


def test_an_arch_and_doors_across_a_corridor():
    told = route((6.0, 2.5), WEST, (1.3, -3.0))
    if told.rooms[1].index == LIVING:
        assert told.legs[0].exit.kind == "arch"
    hall = next(leg for leg in told.legs if leg.room.index == HALL)
    assert hall.exit.into.index == BEDROOM
    assert told.decisions >= 1


def test_things_passed_have_the_side_on_which_they_stand():
    eastward = route((1.0, 0.0), EAST, (6.7, -2.5)).legs[0]
    westward = route((7.0, 0.0), WEST, (1.3, -2.5)).legs[0]
    assert [(t.thing.category, t.side) for t in eastward.passed] == [("bench", "right")]
    assert [(t.thing.category, t.side) for t in westward.passed] == [("bench", "left")]
    assert eastward.exit.ordinal == 2 or eastward.exit.ordinal == 3


def test_stop_beside_the_bed_and_not_beside_one_of_two_equal_chairs():
    bed = route((4.0, -3.0), SOUTH, (1.5, -4.0)).stop
    assert [thing.thing.category for thing in bed.things] == ["bed"]
    with pytest.raises(RouteError, match="nothing to say"):
        route((4.0, -3.0), SOUTH, (2.7, 4.2))


def test_the_mirrored_house_swaps_left_and_right():
    house = corridor_house()
    width = 8.0
    mirror = np.array([-1.0, 1.0, 1.0])
    shift = np.array([width, 0.0, 0.0])
    vertices = (house.scene.vertices * mirror + shift).astype(np.float32)
    flipped = dataclasses.replace(
        house,
        scene=dataclasses.replace(house.scene, vertices=vertices),
        rooms=[dataclasses.replace(r, x0=width - r.x1, x1=width - r.x0) for r in house.rooms],
        doors=[dataclasses.replace(d, position=d.position * mirror + shift) for d in house.doors],
        things=[dataclasses.replace(t, centre=t.centre * mirror + shift) for t in house.things],
    )
    mesh, views = NavMesh.build(vertices, house.scene.triangles), Rasteriser(flipped.scene)
    for start, heading, goal in [
        ((1.3, -3.0), 0.3, (6.9, 4.3)),
        ((6.0, 2.5), 2.0, (1.5, -4.0)),
        ((1.0, 0.0), -1.0, (6.0, 2.4)),
        ((4.0, -3.0), 0.9, (6.9, 4.3)),
    ]:
        told = route(start, heading, goal)
        pose = Pose(np.array([width - start[0], 0.0, start[1]]), -heading)
        other = analyse(flipped, mesh.distance_field(np.array([width - goal[0], 0.0, goal[1]])), pose, views)
        for leg, mirrored in zip(told.legs, other.legs, strict=True):
            assert mirrored.turn == swapped(leg.turn)
            assert (mirrored.exit is None) == (leg.exit is None)
            assert [(t.thing.category, t.side) for t in mirrored.passed] == [
                (t.thing.category, swapped(t.side)) for t in leg.passed
            ]
            if leg.exit and mirrored.exit:
                assert mirrored.exit.side == swapped(leg.exit.side)
                assert (mirrored.exit.kind, mirrored.exit.ordinal) == (leg.exit.kind, leg.exit.ordinal)
                assert mirrored.exit.rank == swapped(leg.exit.rank)


def test_out_of_a_room():
    bedroom, hall = corridor_house().rooms[BEDROOM], corridor_house().rooms[HALL]
    door = corridor_house().doors[0]
    assert abs(out_of(bedroom, door)) == pytest.approx(math.pi)
    assert out_of(hall, door) == 0


def test_stairs_are_crossed_between_storeys():
    low = Room(0, "hall", 0, 0.0, 0, 0, 4, 4)
    high = Room(1, "hall", 1, 2.8, 0, -8, 4, 0)
    flight = Stairs(np.array([2.0, 0, 0]), np.array([2.0, 2.8, -4]), (0, 1), 1.0)
    house = dataclasses.replace(corridor_house(), rooms=[low, high], doors=[], stairs=[flight])
    path = Polyline(np.array([[2.0, 0, 3], [2, 0, 0], [2, 2.8, -4], [2, 2.8, -7]]))
    start, up = find_crossings(house, path)
    assert (start.room, up.room, up.through) == (low, high, flight)
    assert up.left_at == pytest.approx(3.0, abs=0.05)
    assert up.at == pytest.approx(3 + math.hypot(4, 2.8), abs=0.05)
    assert up.heading == 0


def test_rooms_without_a_door_between_them_are_an_error():
    house = dataclasses.replace(corridor_house(), doors=[])
    with pytest.raises(RouteError, match="no door joins bedroom 0 and hall 3"):
        find_crossings(house, Polyline(np.array([[1.3, 0, -3.0], [1.3, 0, 0.0]])))


def test_expert_steps_of_a_straight_walk_after_a_half_turn():
    told = route((1.0, 0.0), WEST, (7.2, 0.0))  # 6.2 m east: 25 steps, 12 turns, STOP
    assert told.expert_steps() == pytest.approx(25 + 12 + 1, abs=1)
