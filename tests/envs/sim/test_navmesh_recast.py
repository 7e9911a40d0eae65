"""Our navmesh beside Recast and Detour, the C++ libraries in Habitat (Debian: ``librecast-dev``, ``g++``)."""

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from nav_scenes import box, join, room, slab, stairs, turned, wall

from dualsight.envs.sim.navmesh import AgentShape, NavMesh

HEADERS = Path("/usr/include/recastnavigation")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HEADERS.exists() or shutil.which("g++") is None, reason="needs g++ and librecast-dev (apt)"),
]
Vector = ctypes.c_float * 3


class Recast:
    """The oracle, compiled."""

    def __init__(self, folder):
        library = folder / "oracle.so"
        source = Path(__file__).with_name("recast_oracle.cpp")
        command = ["g++", "-O2", "-shared", "-fPIC", f"-I{HEADERS}", str(source), "-lRecast", "-lDetour"]
        subprocess.run([*command, "-o", str(library)], check=True)
        self._library = ctypes.CDLL(str(library))
        self._library.oracle_geodesic.restype = ctypes.c_float
        self._library.oracle_distance_to_mesh.restype = ctypes.c_float

    def build(self, vertices, triangles, shape):
        vertices = np.ascontiguousarray(vertices, np.float32)
        triangles = np.ascontiguousarray(triangles, np.int32)
        sizes = (shape.cell, 0.05, shape.height, shape.radius, shape.max_climb, shape.max_slope)
        polygons = self._library.oracle_build(
            vertices.ctypes.data_as(ctypes.c_void_p), len(vertices),
            triangles.ctypes.data_as(ctypes.c_void_p), len(triangles), *map(ctypes.c_float, sizes),
        )  # fmt: skip
        assert polygons > 0, f"Recast failed at stage {-polygons}"

    def distance_to_mesh(self, point):
        return self._library.oracle_distance_to_mesh(Vector(*point))

    def geodesic(self, start, goal):
        length = self._library.oracle_geodesic(Vector(*start), Vector(*goal))
        return length if length >= 0 else math.inf

    def try_step(self, start, end):
        reached = Vector()
        assert self._library.oracle_try_step(Vector(*start), Vector(*end), reached)
        return np.array(reached)


@pytest.fixture(scope="module")
def recast(tmp_path_factory):
    return Recast(tmp_path_factory.mktemp("recast"))


def flat():
    """A storey of 12 x 9 m with doors and things standing about, some of them turned."""
    rng = np.random.default_rng(7)
    parts = [
        room(0, 12, 0, 9),
        wall(4, 4.1, 0, 3), wall(4, 4.1, 3.9, 9), wall(8, 8.1, 0, 6), wall(8, 8.1, 6.9, 9),
        wall(4.1, 6, 5, 5.1), wall(6.9, 8, 5, 5.1), wall(0, 2.5, 5, 5.1), wall(9.5, 12, 4, 4.1),
    ]  # fmt: skip
    for _ in range(14):
        width, depth = rng.uniform(0.3, 1.2, 2)
        vertices, triangles = turned(box((-width / 2, 0, -depth / 2), (width / 2, 2, depth / 2)), rng.uniform(0, 3))
        parts.append((vertices + np.array([rng.uniform(1, 11), 0, rng.uniform(1, 8)]), triangles))
    return join(*parts)


def house():
    """Two storeys and a flight of 16 steps."""
    outer = [wall(-0.1, 10.1, -0.1, 0, 3), wall(-0.1, 10.1, 4, 4.1, 3), wall(-0.1, 0, 0, 4, 3), wall(10, 10.1, 0, 4, 3)]
    upper = [slab(7, 10, 0, 4, 3), slab(0, 7, 1.2, 4, 3), wall(0, 7, 1.2, 1.3, 3)]
    return join(room(0, 10, 0, 4), stairs(3, 7, 0, 3, 0, 1.2, steps=16), *upper, *outer)


@pytest.mark.parametrize("shape", [AgentShape(), AgentShape(radius=0.18, height=0.88)], ids=["r2r", "rxr"])
@pytest.mark.parametrize("scene", [flat, house])
def test_agrees_with_recast(recast, scene, shape):
    """The same ground to a cell or two, and the same distances and steps on it up to Recast's simplified outlines."""
    vertices, triangles = scene()
    mesh = NavMesh.build(vertices, triangles, shape)
    recast.build(vertices, triangles, shape)
    rng = np.random.default_rng(0)
    points = [mesh.random_point(rng) for _ in range(200)]

    off = np.array([recast.distance_to_mesh(point) for point in points])
    assert off.min() >= 0 and off.max() < 0.06 and off.mean() < 0.003

    ours = np.array([mesh.geodesic(a, b) for a, b in zip(points[:40], points[40:80], strict=True)])
    theirs = np.array([recast.geodesic(a, b) for a, b in zip(points[:40], points[40:80], strict=True)])
    assert np.isfinite(ours).all() and np.isfinite(theirs).all()
    assert np.median(np.abs(ours - theirs)) < 0.05
    assert np.mean(ours / theirs - 1) == pytest.approx(0, abs=0.02)

    gaps = []
    for point in points:
        angle = rng.uniform(0, 2 * math.pi)
        end = point + 0.25 * np.array([math.cos(angle), 0, math.sin(angle)])
        gaps.append(np.linalg.norm((mesh.try_step(point, end) - recast.try_step(point, end))[[0, 2]]))
    assert np.median(gaps) < 1e-4 and np.mean(gaps) < 0.005 and np.max(gaps) < 0.06
