"""What is around a place, against the views rendered one by one."""

import math

import numpy as np
import pytest

from dualsight.data import housetalk as house_talk
from dualsight.envs.sim.house import load, load_navmesh
from dualsight.envs.sim.landmarks import SALIENCE
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.surroundings import FEWEST, FILLED, NOTICED, PARTS, TURNS, look_around, surroundings
from dualsight.types import Camera, Pose


@pytest.fixture(scope="module")
def place():
    house = load(900003)
    return house, load_navmesh(house), Rasteriser(house.scene)


def test_four_views_make_a_picture(place):
    house, navmesh, renderer = place
    pose = Pose(navmesh.random_point(np.random.default_rng(1)), 0.3)
    seen = look_around(house, renderer, pose, "kitchen", 32)
    corners = {"ahead": (0, 0), "right": (0, 32), "left": (32, 0), "behind": (32, 32)}
    views = {}
    for name, (row, column) in corners.items():
        views[name] = renderer.render(Pose(pose.position, pose.heading + TURNS[name] * math.pi), Camera(32, 32, 90.0))
        assert np.array_equal(seen.image[row : row + 32, column : column + 32], views[name].rgb)
    right = Pose(pose.position, pose.heading - math.pi / 2)
    assert np.allclose(right.forward, pose.right), "to the right is clockwise"
    by_instance = {thing.instance: thing for thing in house.things}
    for thing in seen.things:
        mine = views[thing.direction].instances
        fitting = [i for i, t in by_instance.items() if t.category == thing.category]
        columns = [np.argwhere(mine == i)[:, 1] for i in fitting if (mine == i).mean() == pytest.approx(thing.share)]
        assert any((c.mean() + 0.5) / 32 == pytest.approx(thing.x) for c in columns)
    for number, part in enumerate(seen.parts):  # four a side of every view
        row, column = divmod(number, 8)
        name = next(name for name, corner in corners.items() if corner == (32 * (row // 4), 32 * (column // 4)))
        inside = views[name].instances[8 * (row % 4) :][:8, 8 * (column % 4) :][:, :8]
        shares = {}
        for instance in np.unique(inside):
            thing = by_instance.get(int(instance))
            if thing and thing.category in SALIENCE:
                shares[thing.category] = max(shares.get(thing.category, 0.0), float((inside == instance).mean()))
        largest = max(shares.values(), default=0.0)
        assert (part >= 0) == (largest >= FILLED)
        assert part < 0 or shares[seen.things[part].category] == largest
    assert len(seen.parts) == PARTS**2 == house_talk.PARTS and len(set(seen.parts)) > 2
    assert [t.share for t in seen.things] == sorted((t.share for t in seen.things), reverse=True)


def test_every_picture_has_enough_to_talk_about(place):
    house, navmesh, renderer = place
    taken = surroundings(house, navmesh, renderer, 4, np.random.default_rng(0), 32)
    assert len(taken) == 4
    for seen in taken:
        assert seen.image.shape == (64, 64, 3) and seen.room in {room.type for room in house.rooms}
        assert len({thing.category for thing in seen.things if thing.share >= NOTICED}) >= FEWEST
