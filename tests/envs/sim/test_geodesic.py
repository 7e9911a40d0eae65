import math
from itertools import pairwise

import numpy as np
import pytest
from nav_scenes import box, join, ramp, room, slab, turned, wall
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from dualsight.envs.sim.geodesic import UnreachableError
from dualsight.envs.sim.navmesh import NavMesh, OffNavMeshError


def length(path):
    return np.linalg.norm(np.diff(path, axis=0), axis=1).sum()


@pytest.fixture(scope="module")
def furnished():
    """A storey of 12 x 9 m with inner walls, doors and things standing about, some of them turned."""
    rng = np.random.default_rng(7)
    parts = [
        room(0, 12, 0, 9),
        wall(4, 4.1, 0, 3), wall(4, 4.1, 3.9, 9), wall(8, 8.1, 0, 6), wall(8, 8.1, 6.9, 9),
        wall(4.1, 6, 5, 5.1), wall(6.9, 8, 5, 5.1), wall(0, 2.5, 5, 5.1), wall(9.5, 12, 4, 4.1),
    ]  # fmt: skip
    for _ in range(14):
        width, depth = rng.uniform(0.3, 1.2, 2)
        vertices, triangles = turned(box((-width / 2, 0, -depth / 2), (width / 2, 0.8, depth / 2)), rng.uniform(0, 3))
        parts.append((vertices + np.array([rng.uniform(1, 11), 0, rng.uniform(1, 8)]), triangles))
    return NavMesh.build(*join(*parts))


def exact_distances(mesh, pairs):
    """Shortest paths over the mesh's ground at y = 0 by the visibility graph of its corners.

    It shares nothing with the code under test: the corners are found on a bitmap, and a line is free if points 1/12
    cell apart along it all are.
    """
    free = np.zeros((mesh.size[0] + 2, mesh.size[1] + 2), bool)
    free[tuple(mesh.floor.column[mesh.floor.island == 0].T + 1)] = True
    corners = []
    for i, j in np.argwhere(np.lib.stride_tricks.sliding_window_view(free, (2, 2)).sum(axis=(2, 3)) == 3):
        blocked = np.argwhere(~free[i : i + 2, j : j + 2])[0]
        corners.append([i, j] + 1e-4 * (1 - 2 * blocked))  # in grid units: the bitmap has a margin of one cell
    nodes = np.array(corners + [mesh.to_grid(point) for pair in pairs for point in pair])
    rows, cols, lengths = [], [], []
    for a in range(len(nodes)):
        away = nodes[:a] - nodes[a]
        distance = np.hypot(*away.T)
        samples = np.linspace(0, 1, int(12 * distance.max(initial=0)) + 2)
        visible = np.ones(a, bool)
        for part in np.array_split(samples, 16):  # most lines end early
            at = np.floor(nodes[a] + part[None, :, None] * away[visible][:, None]).astype(int) + 1
            visible[visible] = free[at[..., 0], at[..., 1]].all(axis=1)
        rows += [a] * visible.sum()
        cols += np.flatnonzero(visible).tolist()
        lengths += distance[visible].tolist()
    graph = csr_matrix((lengths, (rows, cols)), shape=(len(nodes), len(nodes)))
    starts = len(corners) + np.arange(0, 2 * len(pairs), 2)
    table = dijkstra(graph, directed=False, indices=starts)
    return table[np.arange(len(pairs)), starts + 1] * mesh.shape.cell


def test_distances_agree_with_an_exact_visibility_graph(furnished):
    rng = np.random.default_rng(0)
    pairs = [(furnished.random_point(rng), furnished.random_point(rng)) for _ in range(60)]
    exact = exact_distances(furnished, pairs)
    ours = np.array([furnished.geodesic(a, b) for a, b in pairs])
    error = ours / exact - 1
    assert np.all(error > -1e-4), "shorter than the shortest path"
    assert np.mean(np.abs(error)) < 0.001
    assert error.max() < 0.005


def test_a_straight_way_is_its_length():
    field = NavMesh.build(*room(0, 4, 0, 4)).distance_field([1.0, 0, 1.0])
    assert field.distance([3.0, 0, 1.0]) == pytest.approx(2.0, abs=1e-9)
    assert field.distance([1.01, 0, 1.02]) == pytest.approx(math.hypot(0.01, 0.02), abs=1e-9)
    assert field.distance([1.0, 0, 1.0]) == pytest.approx(0, abs=1e-9)


def test_around_a_wall_by_hand():
    """A wall 0.1 m thick; the middle of an agent turns 0.1 m off its end."""
    mesh = NavMesh.build(*join(room(0, 6, 0, 4), wall(2.95, 3.05, 0, 3)))
    field = mesh.distance_field([1, 0, 1])
    left, right, end = 2.85, 3.15, 3.1
    expected = math.hypot(left - 1, end - 1) + (right - left) + math.hypot(5 - right, end - 1)
    assert field.distance([5, 0, 1]) == pytest.approx(expected, abs=1e-3)
    path = field.path([5, 0, 1])
    np.testing.assert_allclose(path, [[5, 0, 1], [right, 0, end], [left, 0, end], [1, 0, 1]], atol=1e-3)


def test_paths_are_as_long_as_distances_and_free(furnished):
    rng = np.random.default_rng(3)
    field = furnished.distance_field(furnished.random_point(rng))
    for _ in range(20):
        start = furnished.random_point(rng)
        path = field.path(start)
        assert length(path) == pytest.approx(field.distance(start), abs=1e-6)
        np.testing.assert_allclose(path[0], start, atol=1e-12)
        for a, b in pairwise(path):
            np.testing.assert_allclose(furnished.try_step(a, b, slide=False), b, atol=1e-9)


def test_distances_are_symmetric_and_keep_the_triangle_inequality(furnished):
    rng = np.random.default_rng(4)
    a, b, c = (furnished.random_point(rng) for _ in range(3))
    assert furnished.geodesic(a, b) == pytest.approx(furnished.geodesic(b, a), rel=2e-3)
    assert furnished.geodesic(a, c) <= (furnished.geodesic(a, b) + furnished.geodesic(b, c)) * 1.002


def test_the_nearest_of_several_goals_counts(furnished):
    goals = np.array([[1.0, 0, 1.0], [11.0, 0, 1.0]])
    field = furnished.distance_field(goals)
    for start in ([2.5, 0, 1.0], [9.5, 0, 1.0]):
        assert field.distance(start) == min(furnished.geodesic(start, goal) for goal in goals)


@pytest.mark.parametrize("slope", [0.75, 0.4])
def test_a_ramp_is_as_long_as_its_slope(slope):
    """2 m level, 4 m (in plan) of slope, 2 m level."""
    top = 4 * slope
    mesh = NavMesh.build(*join(slab(0, 3, 0, 2), ramp(3, 7, 0, top, 0, 2), slab(7, 10, 0, 2, top)))
    field = mesh.distance_field([9, top, 1])
    expected = 2 + 4 * math.hypot(1, slope) + 2
    assert field.distance([1, 0, 1]) == pytest.approx(expected, rel=0.005)
    path = field.path([1, 0, 1])
    assert length(path) == pytest.approx(expected, rel=0.005)
    np.testing.assert_allclose(path, [[1, 0, 1], [3, 0, 1], [7, top, 1], [9, top, 1]], atol=0.3)


def test_unreachable_is_infinitely_far():
    mesh = NavMesh.build(*join(room(0, 6, 0, 4), wall(2.9, 3.1, 0, 4)))
    field = mesh.distance_field([1, 0, 1])
    assert field.distance([5, 0, 1]) == math.inf
    with pytest.raises(UnreachableError, match=r"no way leads from \[5.0, 0.0, 1.0\]"):
        field.path([5, 0, 1])


def test_bad_input(furnished):
    field = furnished.distance_field([1.0, 0, 1.0])
    with pytest.raises(OffNavMeshError, match="is not on the navmesh: the nearest place is"):
        field.distance([-3, 0, 1])
    with pytest.raises(ValueError, match="three finite numbers"):
        field.distance([math.nan, 0, 1])
    with pytest.raises(ValueError, match="at least one goal"):
        furnished.distance_field(np.empty((0, 3)))


def test_fields_are_deterministic():
    scene = join(room(0, 6, 0, 4), wall(2.95, 3.05, 0, 3))
    one, other = (NavMesh.build(*scene).distance_field([1.0, 0, 1.0]) for _ in range(2))
    np.testing.assert_array_equal(one.cost, other.cost)
    np.testing.assert_array_equal(one.root, other.root)
