import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from simplify import simplify

pytestmark = pytest.mark.slow  # the kernels of this tool take half a minute to compile


def grid(n: int, height=lambda x, z: 0 * x):
    """(n + 1)^2 vertices over the unit square, 2 n^2 triangles."""
    x, z = np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, n + 1))
    vertices = np.stack([x, height(x, z), z], axis=-1).reshape(-1, 3)
    k = np.arange(n * (n + 1)).reshape(n, n + 1)[:, :-1].ravel()
    return vertices, np.concatenate([np.stack([k, k + n + 1, k + 1], 1), np.stack([k + 1, k + n + 1, k + n + 2], 1)])


def area(vertices, triangles):
    a, b, c = vertices[triangles].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def test_a_flat_square_becomes_two_triangles_with_its_outline():
    vertices, triangles = grid(12)
    vertices, triangles, _ = simplify(vertices, triangles, np.zeros(len(triangles), int), 2)
    assert len(triangles) == 2
    assert area(vertices, triangles).sum() == pytest.approx(1, abs=5e-3)
    assert np.allclose(sorted(map(tuple, vertices.round(4))), [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)], atol=5e-3)


def test_a_border_between_materials_stays():
    vertices, triangles = grid(12)
    left = vertices[triangles].mean(axis=1)[:, 0] < 0.5
    vertices, triangles, material = simplify(vertices, triangles, left.astype(int), 8)
    size = area(vertices, triangles)
    assert size[material == 1].sum() == pytest.approx(0.5, abs=1e-3)
    assert size[material == 0].sum() == pytest.approx(0.5, abs=1e-3)


def test_a_curved_surface_keeps_its_shape():
    vertices, triangles = grid(40, lambda x, z: 0.3 * np.sin(np.pi * x) * np.sin(np.pi * z))
    coarse, faces, _ = simplify(vertices, triangles, np.zeros(len(triangles), int), 200)
    error = coarse[:, 1] - 0.3 * np.sin(np.pi * coarse[:, 0]) * np.sin(np.pi * coarse[:, 2])
    assert 199 <= len(faces) <= 200 and np.abs(error).max() < 0.01


def test_what_is_thin_survives_beside_what_is_large():
    """Forty small loose leaves over a finely meshed tray: the tray gives up its triangles first."""
    floor, faces = grid(20)
    floor = floor * 0.2
    leaf, leaf_faces = grid(2)
    leaves = [leaf * 0.02 + [0.025 * k, 0.1, 0.5] for k in range(40)]
    vertices = np.concatenate([floor, *leaves])
    triangles = np.concatenate([faces, *(leaf_faces + len(floor) + len(leaf) * k for k in range(40))])
    vertices, triangles, _ = simplify(vertices, triangles, np.zeros(len(triangles), int), 100)
    on_leaves = vertices[triangles].mean(axis=1)[:, 1] > 0.05
    assert area(vertices, triangles)[on_leaves].sum() == pytest.approx(40 * 0.02**2, rel=0.02)


def test_few_triangles_are_left_alone():
    vertices, triangles = grid(2)
    same, faces, _ = simplify(vertices, triangles, np.zeros(8, int), 20)
    assert np.array_equal(same, vertices) and np.array_equal(faces, triangles)
