"""Furniture: inside its room, apart from each other, never in the way; relations that hold."""

from collections import Counter

import numpy as np
import pytest

from dualsight.envs.sim import house
from dualsight.envs.sim.decorator import flat_top
from dualsight.envs.sim.furnish import RECIPES
from dualsight.envs.sim.furniture import models
from dualsight.envs.sim.layouts import KINDS
from dualsight.envs.sim.navmesh import AgentShape, NavMesh


@pytest.fixture(scope="module")
def houses():
    return [house.build(seed) for seed in (0, 1, 5, 9)]


def rect(thing):
    return *(thing.centre[[0, 2]] - thing.size[[0, 2]] / 2), *(thing.centre[[0, 2]] + thing.size[[0, 2]] / 2)


def standing(home):
    """What stands on a floor and is not flat."""
    return [t for t in home.things if abs(t.centre[1] - home.rooms[t.room].y) < 1e-9 and t.size[1] > 0.1]


def reached_area(mesh, room):
    """Square metres of a room's floor on the largest island of the navmesh (tables are islands of their own)."""
    cells = mesh.floor.island == 0
    x, z = (mesh.origin + (mesh.floor.column[cells] + 0.5) * mesh.shape.cell).T
    inside = (room.x0 < x) & (x < room.x1) & (room.z0 < z) & (z < room.z1)
    return (inside & (abs(mesh.floor.height[cells] - room.y) < 0.1)).sum() * mesh.shape.cell**2


def test_every_type_of_room_has_a_recipe():
    assert set(RECIPES) == set(KINDS)


def test_things_lie_inside_their_rooms(houses):
    for home in houses:
        for thing in home.things:
            room, (x0, z0, x1, z1) = home.rooms[thing.room], rect(thing)
            assert room.x0 - 0.03 < x0 and x1 < room.x1 + 0.03 and room.z0 - 0.03 < z0 and z1 < room.z1 + 0.03, thing


def test_things_are_the_instances_of_the_scene(houses):
    for home in houses:
        for thing in home.things:
            instance = home.scene.instances[thing.instance]
            assert (instance.category, instance.color, instance.room) == (thing.category, thing.color, thing.room)
            vertices = home.scene.vertices[home.scene.triangles[home.scene.instance == thing.instance]].reshape(-1, 3)
            low, high = thing.centre - thing.size * (0.5, 0, 0.5), thing.centre + thing.size * (0.5, 1, 0.5)
            assert (vertices.min(axis=0) > low - 0.02).all() and (vertices.max(axis=0) < high + 0.02).all(), thing


def test_only_chairs_share_floor_with_their_table(houses):
    for home in houses:
        things = standing(home)
        for i, a in enumerate(things):
            for b in things[:i]:
                if a.room != b.room or {"chair", "stool", "bench"} & {a.category, b.category}:
                    continue
                (ax0, az0, ax1, az1), (bx0, bz0, bx1, bz1) = rect(a), rect(b)
                assert not (ax0 < bx1 and bx0 < ax1 and az0 < bz1 and bz0 < az1), (a, b)


def test_relations_name_neighbours(houses):
    for home in houses:
        by_instance = {thing.instance: thing for thing in home.things}
        for thing in home.things:
            for word, other in thing.relations:
                assert by_instance[other].room == thing.room and other != thing.instance
                gap = np.abs(thing.centre - by_instance[other].centre)[[0, 2]]
                if word == "on":
                    assert thing.centre[1] > by_instance[other].centre[1] + 0.2
                if word == "next to":
                    reach = (thing.size + by_instance[other].size)[[0, 2]] / 2
                    assert (gap <= reach + 0.7).all(), (thing, by_instance[other])


def test_every_room_is_reached_by_a_wide_body(houses):
    for home in houses[:2]:
        mesh = NavMesh.build(home.scene.vertices, home.scene.triangles, AgentShape(radius=0.18))
        for door in home.doors:
            assert mesh.island(mesh.snap(door.position)) == 0, door
        for room in home.rooms:
            assert reached_area(mesh, room) > 0.5, room


def test_rooms_have_what_makes_them_so(houses):
    seen = Counter((home.rooms[t.room].type, t.category) for home in houses for t in home.things)
    for pair in (("bedroom", "bed"), ("kitchen", "fridge"), ("bathroom", "toilet"), ("living room", "coffee table")):
        assert seen[pair], pair


def test_flat_tops():
    table = models("coffee table")[0]
    assert flat_top(table, 0, 0, 0.2, 0.2) == pytest.approx(table.height, abs=0.01)
    assert flat_top(table, 5, 5, 0.2, 0.2) is None
    assert flat_top(models("plant")[0], 0, 0, 0.3, 0.3) is None


@pytest.mark.parametrize("seed", [200_004, 200_062])
def test_open_doors_shut_nobody_in(seed):
    home = house.build(seed)
    mesh = NavMesh.build(home.scene.vertices, home.scene.triangles)
    assert all(reached_area(mesh, room) > 1.0 for room in home.rooms)


@pytest.mark.slow
def test_two_hundred_houses_and_all_rooms_reachable():
    for seed in range(200_000, 200_200):
        home = house.build(seed)
        mesh = NavMesh.build(home.scene.vertices, home.scene.triangles)
        assert len(home.scene.triangles) < 90_000
        for room in home.rooms:
            assert reached_area(mesh, room) > 1.0, (seed, room)
