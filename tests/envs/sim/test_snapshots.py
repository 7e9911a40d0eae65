"""Pictures that tell the room."""

import numpy as np
import pytest

from dualsight.envs.sim.house import load, load_navmesh
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.snapshots import TELLING, snapshots
from dualsight.types import Camera


@pytest.fixture(scope="module")
def house():
    return load(3)


@pytest.fixture(scope="module")
def taken(house):
    return snapshots(house, load_navmesh(house), Rasteriser(house.scene), 8, np.random.default_rng(0))


def test_pictures_are_labelled_by_what_they_show(house, taken):
    assert len(taken) == 8
    types = {room.type for room in house.rooms}
    categories = {thing.category for thing in house.things}
    for snapshot in taken:
        assert snapshot.image.shape == (64, 64, 3)
        assert snapshot.room in types and {category for category, _, _ in snapshot.things} <= categories
        shares = [share for _, _, share in snapshot.things]
        assert shares == sorted(shares, reverse=True) and shares[0] >= TELLING
    assert len({snapshot.room for snapshot in taken}) >= 2


def test_pictures_are_a_function_of_the_dice(house, taken):
    again = snapshots(house, load_navmesh(house), Rasteriser(house.scene), 8, np.random.default_rng(0))
    assert all(np.array_equal(a.image, b.image) and a.things == b.things for a, b in zip(taken, again, strict=True))


def test_the_camera_sets_the_size(house):
    camera = Camera(96, 96)
    (one,) = snapshots(house, load_navmesh(house), Rasteriser(house.scene), 1, np.random.default_rng(1), camera)
    assert one.image.shape == (96, 96, 3)
