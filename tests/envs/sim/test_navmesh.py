import math

import numpy as np
import pytest
from nav_scenes import box, join, ramp, room, slab, stairs, turned, wall

from dualsight.envs.sim.navmesh import AgentShape, NavMesh, OffNavMeshError, collided


@pytest.fixture(scope="module")
def hall():
    """A room of 6 x 4 m; the default agent keeps 0.1 m off its walls."""
    return NavMesh.build(*room(0, 6, 0, 4))


def two_storeys(flight):
    """A lower hall of 10 x 4 m, a flight from x = 3 to 7 along its north wall, and a floor at y = 3 around it."""
    outer = [wall(-0.1, 10.1, -0.1, 0, 3), wall(-0.1, 10.1, 4, 4.1, 3), wall(-0.1, 0, 0, 4, 3), wall(10, 10.1, 0, 4, 3)]
    upper = [slab(7, 10, 0, 4, 3), slab(0, 7, 1.2, 4, 3), wall(0, 7, 1.2, 1.3, 3, 1.0)]
    return join(room(0, 10, 0, 4), flight, *upper, *outer)


FLIGHTS = {"steps": stairs(3, 7, 0, 3, 0, 1.2, steps=16), "ramp": ramp(3, 7, 0, 3, 0, 1.2)}


def door(width):
    """Two rooms of 3 x 4 m, and a door in the wall between them at z = 2.013, not aligned with the cells."""
    low, high = 2.013 - width / 2, 2.013 + width / 2
    return join(room(0, 6, 0, 4), wall(2.95, 3.05, 0, low), wall(2.95, 3.05, high, 4))


def assert_same(one, other):
    """Both meshes have the same floor, to the last bit."""
    for ours, theirs in zip((*one.floor.ground, *one.floor[1:]), (*other.floor.ground, *other.floor[1:]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---- what is walkable


def test_the_ground_keeps_the_radius_off_the_walls(hall):
    low, high = hall.bounds
    np.testing.assert_allclose(low, [0.1, 0, 0.1], atol=1e-9)
    np.testing.assert_allclose(high, [5.9, 0, 3.9], atol=1e-9)
    assert hall.island_areas == pytest.approx([5.8 * 3.8])
    assert hall.is_navigable([3, 0, 2])
    assert not hall.is_navigable([0.09, 0, 2])
    assert not hall.is_navigable([-5, 0, 2])


def test_a_cell_is_never_nearer_to_an_obstacle_than_the_radius():
    mesh = NavMesh.build(*join(room(0, 4, 0, 4), wall(1.93, 2.11, 1.87, 2.02)), AgentShape(radius=0.18))
    low, high = np.array([1.93, 1.87]), np.array([2.11, 2.02])
    near = mesh.origin + mesh.floor.column * 0.05
    gap = np.maximum(np.maximum(low - (near + 0.05), near - high), 0)
    assert np.hypot(*gap.T).min() >= 0.18 - 1e-9


@pytest.mark.parametrize("radius", [0.1, 0.18])
@pytest.mark.parametrize("width", [0.9, 0.7])
def test_doors_stay_open(width, radius):
    mesh = NavMesh.build(*door(width), AgentShape(radius=radius))
    assert len(mesh.island_areas) == 1
    assert math.isfinite(mesh.geodesic([1, 0, 2], [5, 0, 2]))


def test_a_gap_narrower_than_the_agent_is_closed():
    mesh = NavMesh.build(*door(0.3), AgentShape(radius=0.18))
    assert len(mesh.island_areas) == 2
    assert mesh.island([1, 0, 2]) != mesh.island([5, 0, 2])
    assert mesh.geodesic([1, 0, 2], [5, 0, 2]) == math.inf


def test_a_lintel_below_the_agents_height_closes_a_door():
    lintel = box((2.95, 1.2, 0), (3.05, 2.5, 4))
    assert len(NavMesh.build(*join(door(0.9), lintel), AgentShape(height=1.5)).island_areas) == 2
    assert len(NavMesh.build(*join(door(0.9), lintel), AgentShape(height=0.88)).island_areas) == 1


@pytest.mark.parametrize("rise, islands", [(0.15, 1), (0.3, 2)])
def test_a_rise_up_to_the_climb_is_a_step(rise, islands):
    mesh = NavMesh.build(*join(room(0, 6, 0, 4), box((3, 0, 0), (6, rise, 4))))
    assert len(mesh.island_areas) == islands
    np.testing.assert_allclose(np.unique(mesh.floor.height), [0, rise], atol=1e-9)


@pytest.mark.parametrize("slope, islands", [(40, 1), (50, 2)])
def test_slopes_up_to_the_limit_are_walked(slope, islands):
    rise = math.tan(math.radians(slope))
    mesh = NavMesh.build(*join(slab(0, 3, 0, 4), ramp(3, 4, 0, rise, 0, 4), slab(4, 8, 0, 4, rise)))
    assert len(mesh.island_areas) == islands


def test_the_edge_of_a_drop_is_kept_off():
    mesh = NavMesh.build(*join(slab(0, 4, 0, 4, 3.0), slab(-3, 7, -3, 7, 0.0)))
    upper = mesh.floor.height > 2
    edge = mesh.origin + mesh.floor.column[upper] * 0.05
    assert edge.min() >= 0.1 - 1e-9
    assert (edge + 0.05).max() <= 3.9 + 1e-9
    reached = mesh.try_step([2, 3, 2], [9, 3, 2])
    assert reached[1] == 3.0
    assert 3.8 < reached[0] <= 3.9


def test_small_places_are_left_out():
    table = box((2, 0, 1), (2.9, 0.7, 1.9))
    bed = box((4, 0, 1), (5.6, 0.5, 3))
    mesh = NavMesh.build(*join(room(0, 6, 0, 4), table, bed))
    np.testing.assert_allclose(np.unique(mesh.floor.height), [0, 0.5])
    assert mesh.island([1, 0, 1]) == 0  # the largest
    assert mesh.island([4.8, 0.5, 2]) == 1
    assert len(NavMesh.build(*join(room(0, 6, 0, 4), bed), AgentShape(min_area=5)).island_areas) == 1


def test_heights_are_exact():
    mesh = NavMesh.build(*room(0, 3, 0, 3, y=0.1234))
    np.testing.assert_allclose(mesh.floor.height, 0.1234, atol=1e-12)


@pytest.mark.parametrize("flight", FLIGHTS)
def test_storeys_are_joined_by_stairs(flight):
    mesh = NavMesh.build(*two_storeys(FLIGHTS[flight]))
    assert len(mesh.island_areas) == 1
    assert mesh.is_navigable([5, 0, 3]) and mesh.is_navigable([5, 3, 3])
    assert not mesh.is_navigable([5, 1.5, 3])
    assert mesh.snap([9, 2.8, 3])[1] == 3.0


def test_without_stairs_storeys_are_islands():
    mesh = NavMesh.build(*two_storeys(wall(3, 7, 0, 1.2)))
    assert mesh.island([1, 0, 2]) != mesh.island([9, 3, 2])


# ---- places


def test_snap_moves_to_the_nearest_place(hall):
    assert hall.snap([3, 0.3, 2]) == pytest.approx([3, 0, 2], abs=1e-12)
    snapped = hall.snap([-0.2, 0, 2])
    assert hall.is_navigable(snapped)
    assert snapped == pytest.approx([0.1, 0, 2], abs=1e-5)


def test_snap_names_the_nearest_place_when_it_is_too_far(hall):
    with pytest.raises(
        OffNavMeshError, match=r"within 0.5 m of \(8.00, 0.00, 2.00\).*\(5.\d+, 0.00, 2.00\), 2.\d+ m away"
    ):
        hall.snap([8, 0, 2], max_distance=0.5)


def test_random_points_cover_the_island_evenly(hall):
    rng = np.random.default_rng(0)
    points = np.array([hall.random_point(rng) for _ in range(500)])
    assert all(hall.is_navigable(point) for point in points)
    assert points.mean(axis=0) == pytest.approx([3, 0, 2], abs=0.25)
    again = np.random.default_rng(0)
    np.testing.assert_array_equal(points[:5], [hall.random_point(again) for _ in range(5)])


def test_random_points_can_be_asked_for_a_storey():
    mesh = NavMesh.build(*two_storeys(FLIGHTS["steps"]))
    rng = np.random.default_rng(0)
    assert all(abs(mesh.random_point(rng, y=3)[1] - 3) <= 0.5 for _ in range(20))
    with pytest.raises(ValueError, match="no island 0 with a floor at y = 9"):
        mesh.random_point(rng, y=9)
    with pytest.raises(ValueError, match="no island 7; there are 1"):
        mesh.random_point(rng, island=7)


def test_obstacle_distance_is_that_to_the_edge_of_the_ground(hall):
    edge = hall.bounds[0][0]
    assert hall.obstacle_distance([1.0, 0, 2]) == pytest.approx(1.0 - edge, abs=1e-9)
    assert hall.obstacle_distance([edge + 0.01, 0, 2]) == pytest.approx(0.01, abs=1e-9)


# ---- steps


def test_a_free_step_ends_exactly_where_it_should(hall):
    start = np.array([2.0, 0, 2.0])
    for angle in np.linspace(0, 6, 13):
        end = start + 0.25 * np.array([math.cos(angle), 0, math.sin(angle)])
        reached = hall.try_step(start, end)
        np.testing.assert_allclose(reached, end, atol=1e-12)
        assert not collided(start, end, reached)


@pytest.mark.parametrize("angle, tolerance", [(0.0, 1e-6), (math.pi / 6, 0.04), (1.0, 0.04)])
def test_sliding_along_a_wall_keeps_the_part_along_it(angle, tolerance):
    """Steps of 0.25 m at 30 degrees into a wall slide 0.25 cos(30) = 0.2165 m along it: exactly where it runs along
    the cells, and on average (here: of ten steps) to 4 cm where it slants, for its cells are rough."""
    mesh = NavMesh.build(*turned(room(0, 6, 0, 4), angle))
    along = np.array([math.cos(angle), 0, -math.sin(angle)])
    into = np.array([-math.sin(angle), 0, -math.cos(angle)])  # to the wall at z = 0
    left = 1.0 * along - 2.0 * into
    start = position = mesh.try_step(left, left + 5 * into, slide=False)
    for _ in range(10):
        wanted = position + 0.25 * (math.cos(math.pi / 6) * along + math.sin(math.pi / 6) * into)
        reached = mesh.try_step(position, wanted, slide=True)
        assert collided(position, wanted, reached)
        assert np.linalg.norm(mesh.try_step(position, wanted, slide=False) - position) < 2 * tolerance + 1e-6
        position = reached
    assert (position - start) @ along / 10 == pytest.approx(0.25 * math.cos(math.pi / 6), abs=tolerance)
    assert (position - start) @ into == pytest.approx(0, abs=2 * tolerance)


def test_without_sliding_a_step_stops_at_the_edge(hall):
    edge = hall.bounds[0][2]
    reached = hall.try_step([3, 0, edge + 0.1], [3.1, 0, edge - 0.1], slide=False)
    assert reached == pytest.approx([3.05, 0, edge], abs=1e-6)
    assert collided(np.array([3, 0, edge + 0.1]), [3.1, 0, edge - 0.1], reached)


def test_a_step_never_passes_a_wall_nor_a_corner():
    mesh = NavMesh.build(*join(room(0, 6, 0, 4), wall(2.95, 3.05, 0, 3)))
    rng = np.random.default_rng(1)
    for slide in (True, False):
        position = np.array([2.0, 0, 2.0])
        for _ in range(300):
            angle = rng.uniform(0, 2 * math.pi)
            end = position + 0.25 * np.array([math.cos(angle), 0, math.sin(angle)])
            reached = mesh.try_step(position, end, slide)
            assert mesh.is_navigable(reached)
            assert np.linalg.norm(reached - position) <= 0.25 + 0.003
            assert (position[0] - 3) * (reached[0] - 3) > 0 or min(position[2], reached[2]) > 3.0
            position = reached
    assert mesh.try_step([1, 0, 1], [5, 0, 1])[0] < 2.95


@pytest.mark.parametrize("flight", FLIGHTS)
def test_steps_climb_stairs_and_come_down_again(flight):
    mesh = NavMesh.build(*two_storeys(FLIGHTS[flight]))
    position, heights = np.array([1.0, 0, 0.6]), []
    for _ in range(32):
        position = mesh.try_step(position, position + np.array([0.25, 0, 0]))
        heights.append(position[1])
    assert position == pytest.approx([9, 3, 0.6])
    assert np.all(np.diff(heights) >= 0) and np.diff(heights).max() < 0.25
    for _ in range(32):
        position = mesh.try_step(position, position - np.array([0.25, 0, 0]))
    assert position == pytest.approx([1, 0, 0.6])


# ---- maps and files


def test_the_map_shows_the_ground_of_one_storey():
    mesh = NavMesh.build(*two_storeys(FLIGHTS["steps"]))
    upper, lower = mesh.topdown(y=3.0), mesh.topdown(y=0.0, metres_per_pixel=0.1)
    assert lower.image.sum() * 0.1**2 == pytest.approx((mesh.floor.height <= 0.5).sum() * 0.05**2, rel=0.05)
    for found, points, seen in [
        (upper, [[9, 3, 0.6], [1, 3, 0.6], [1, 3, 3]], [True, False, True]),
        (lower, [[9, 0, 0.6], [1, 0, 0.6], [5, 0, 0.6]], [True, True, False]),
    ]:
        u, v = np.floor(found.to_pixel(points)).astype(int).T
        assert found.image[v, u].tolist() == seen
        np.testing.assert_allclose(found.to_world(found.to_pixel(points), points[0][1]), points)


def test_saved_and_loaded_is_the_same(tmp_path):
    mesh = NavMesh.build(*two_storeys(FLIGHTS["ramp"]), AgentShape(radius=0.18))
    mesh.save(tmp_path / "house.npz")
    loaded = NavMesh.load(tmp_path / "house.npz")
    assert loaded.shape == mesh.shape and loaded.size == mesh.size
    assert_same(loaded, mesh)
    assert loaded.geodesic([1, 0, 3], [9, 3, 3]) == mesh.geodesic([1, 0, 3], [9, 3, 3])
    assert [path.name for path in tmp_path.iterdir()] == ["house.npz"]


def test_a_foreign_file_is_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"x.npz is not a navmesh file"):
        NavMesh.load(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError):
        NavMesh.load(tmp_path / "missing.npz")


def test_building_is_deterministic():
    assert_same(*(NavMesh.build(*two_storeys(FLIGHTS["steps"])) for _ in range(2)))


# ---- bad input


@pytest.mark.parametrize("point", [[math.nan, 0, 0], [1, math.inf, 1], [1, 2], "abc"])
@pytest.mark.parametrize("method", ["is_navigable", "snap", "island", "obstacle_distance", "distance_field"])
def test_points_that_are_none_are_refused(hall, method, point):
    with pytest.raises(ValueError, match=r"finite|could not convert|three"):
        getattr(hall, method)(point)


def test_a_place_off_the_mesh_is_refused_and_the_nearest_one_named(hall):
    expected = r"\(9.00, 0.00, 2.00\) is not on the navmesh: the nearest place is \(5.\d+, 0.00, 2.00\), 3.\d+ m away"
    for call in (hall.island, hall.obstacle_distance, hall.distance_field, lambda p: hall.try_step(p, [3, 0, 2])):
        with pytest.raises(OffNavMeshError, match=expected):
            call([9, 0, 2])


def test_meshes_that_are_none_are_refused():
    vertices, triangles = room(0, 3, 0, 3)
    with pytest.raises(ValueError, match=r"1 of .* vertices are not finite"):
        NavMesh.build(np.where(np.arange(len(vertices))[:, None] == 3, np.nan, vertices), triangles)
    with pytest.raises(ValueError, match="at least one triangle"):
        NavMesh.build(vertices, triangles[:0])
    with pytest.raises(ValueError, match=r"vertices \(V, 3\)"):
        NavMesh.build(vertices[:, :2], triangles)
    with pytest.raises(ValueError, match="triangle indices run from 0 to"):
        NavMesh.build(vertices[:-1], triangles)
    with pytest.raises(ValueError, match=r"no walkable floor.*Y is up"):
        NavMesh.build(*wall(0, 0.1, 0, 3))
    with pytest.raises(ValueError, match="no walkable floor"):
        NavMesh.build(vertices, triangles, AgentShape(radius=2.0))


@pytest.mark.parametrize("wrong", [{"radius": -1}, {"height": 0}, {"cell": math.nan}, {"max_slope": 90}])
def test_shapes_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=f"AgentShape.{next(iter(wrong))}"):
        AgentShape(**wrong)
