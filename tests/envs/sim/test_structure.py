"""Walls, floors, ceilings, openings and stairs: areas worked out from the plan."""

from random import Random

import numpy as np
import pytest

from dualsight.envs.sim import floorplan, structure
from dualsight.envs.sim.assembly import Assembly, lines
from dualsight.envs.sim.floorplan import Cell, FloorPlan, Opening
from dualsight.envs.sim.layouts import WALL, Rect
from dualsight.envs.sim.measures import CEILING, STOREY
from dualsight.envs.sim.navmesh import NavMesh


def built(plan, seed=0):
    assembly = Assembly()
    building = structure.build(plan, assembly, Random(seed))
    return building, assembly.scene()


def triangles_of(scene, category, room=None):
    """(T, 3, 3) corners of the instances of a category, in one room or in all."""
    chosen = [i for i, x in enumerate(scene.instances) if x.category == category and room in (None, x.room)]
    return scene.vertices[scene.triangles[np.isin(scene.instance, chosen)]].astype(float)


def area(corners):
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2


@pytest.fixture(scope="module")
def two_rooms():
    """Two rooms of 3 x 2 m inside, side by side along X, with a door between them and a window."""
    half = WALL / 2
    cells = (
        Cell("office", 0, Rect(-half, -half, 3 + half, 2 + half)),
        Cell("bathroom", 0, Rect(3 + half, -half, 6 + 3 * half, 2 + half)),
    )
    door = Opening("door", (0, 1), "x", 3 + half, 1.0, 0.9)
    window = Opening("window", (0, floorplan.OUTSIDE), "z", -half, 1.5, 1.2, 0.9, 2.1)
    return FloorPlan(cells, (door, window))


def test_areas_of_a_room_worked_by_hand(two_rooms):
    _, scene = built(two_rooms)
    assert area(triangles_of(scene, "floor", 0)) == pytest.approx(6.0, abs=1e-4)
    assert area(triangles_of(scene, "ceiling", 0)) == pytest.approx(6.0, abs=1e-4)
    walls = 10 * CEILING - 0.9 * 2.05 - 1.2 * 1.2
    board = 10 - (0.9 + 2 * 0.07)
    assert area(triangles_of(scene, "wall", 0)) == pytest.approx(walls + board * (0.08 + 0.012), abs=1e-3)


def test_walls_face_the_room_and_floors_face_up(two_rooms):
    _, scene = built(two_rooms)
    for category, inwards in (("floor", 1), ("ceiling", -1)):
        corners = triangles_of(scene, category)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert (np.sign(normal[:, 1]) == inwards).all()
    corners = triangles_of(scene, "wall", 0)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    to_middle = np.array([1.5, 1.3, 1.0]) - corners.mean(axis=1)
    assert ((normal * to_middle).sum(axis=1) > 0).all()


def test_records_follow_the_plan(two_rooms):
    building, _ = built(two_rooms)
    room, _ = building.rooms
    assert (room.type, room.storey, room.y) == ("office", 0, 0.0)
    assert np.allclose([room.x0, room.z0, room.x1, room.z1], [0, 0, 3, 2])
    assert room.floor and room.wall
    assert len(building.doors) == 1 and building.doors[0].rooms == (0, 1) and building.doors[0].axis == "x"
    assert np.allclose(building.doors[0].position, [3 + WALL / 2, 0, 1.0])
    assert np.allclose(building.lights[0], [1.5, CEILING - 0.2, 1.0])


def test_one_walks_through_the_door_and_not_through_the_window(two_rooms):
    _, scene = built(two_rooms)
    mesh = NavMesh.build(scene.vertices, scene.triangles)
    left, right = np.array([1.5, 0.0, 1.0]), np.array([4.5, 0.0, 1.0])
    assert mesh.geodesic(left, right) == pytest.approx(3.0, abs=0.02)
    assert mesh.bounds[0][2] > 0


@pytest.mark.parametrize("seed", [0, 3])
def test_stairs_are_climbed(seed):
    plan = floorplan.draw(seed, storeys=2)
    building, scene = built(plan)
    stairs = building.stairs[0]
    assert stairs.top[1] - stairs.bottom[1] == STOREY and STOREY / 16 <= 0.18
    mesh = NavMesh.build(scene.vertices, scene.triangles)
    flat = np.hypot(*(stairs.top - stairs.bottom)[[0, 2]])
    assert flat < mesh.geodesic(stairs.bottom, stairs.top) < 1.35 * flat
    for room in building.rooms:
        assert mesh.island(mesh.snap(room.centre)) == 0, room


@pytest.mark.parametrize("seed", range(8))
def test_no_triangle_is_degenerate_and_there_are_few(seed):
    _, scene = built(floorplan.draw(seed))
    corners = scene.vertices[scene.triangles].astype(float)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    assert np.isfinite(scene.vertices).all() and areas.min() > 1e-6
    assert len(scene.triangles) < 25_000


def test_lines_pass_through_cuts():
    assert np.allclose(lines(0, 2, [0.3]), [0, 0.3, 0.725, 1.15, 1.575, 2])
    assert np.allclose(lines(0, 1, [], step=0.5), [0, 0.5, 1])


def test_a_plane_without_the_cells_of_its_hole():
    assembly = Assembly()
    assembly.level(lines(0, 3, [1, 2]), lines(0, 3, [1, 2]), 0.0, True, (0, 1.0), 1, [(1, 1, 2, 2)])
    scene = assembly.scene()
    assert area(scene.vertices[scene.triangles].astype(float)) == pytest.approx(8.0)


def test_a_box_is_closed_and_faces_outwards():
    assembly = Assembly()
    assembly.box((0, 0, 0), (1, 2, 3), (0, 1.0), 1)
    scene = assembly.scene()
    corners = scene.vertices[scene.triangles].astype(float)
    volume = np.einsum("ti,ti->t", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(6.0) and area(corners) == pytest.approx(22.0)
