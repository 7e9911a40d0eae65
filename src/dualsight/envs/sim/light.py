"""Soft light, baked once per scene into its vertices: lamps with penumbrae, and ambient light that fades in corners.

For a vertex with normal n the baked light is, with w = cos(theta) / (d^2 + d0^2) for a lamp at distance d::

    light = tone( ambient * openness(n) + power * sum over lamps of w * (visible part of the lamp) )

``openness`` is ambient occlusion: the cosine-weighted mean over directions of how far one sees, up to ``REACH``.
All vertices use the same directions, in their own tangent frame: neighbours then err alike, and no noise shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dualsight.envs.sim import bvh
from dualsight.envs.sim.packing import check
from dualsight.envs.sim.scene import Scene
from dualsight.types import Point

REACH = 1.5
"""Metres over which things shade each other from ambient light."""
DIRECTIONS = 12
PANEL = 0.35
"""Half the side of a lamp, a horizontal square; its four samples give soft shadows."""
RANGE = 9.0
"""Metres beyond which a lamp is neglected."""
AMBIENT = np.array([0.50, 0.52, 0.55])
LAMP = np.array([2.3, 2.2, 2.0])
"""Power of a lamp: slightly warm against the cool ambient light."""
LIFT = 0.01
"""Metres by which rays start off their surface."""


def bake_light(scene: Scene, lights: Sequence[Point], seed: int = 0) -> Scene:
    """``scene`` with ``light`` computed for lamps at ``lights`` (each (3,) metres).

    Surfaces are lit on the side their triangles face, or on the other one where that side is shut in. Walls and floors
    need vertices about every half metre to show shadows. ``seed`` turns the sampling pattern. Equal input gives equal
    bytes.

    Raises:
        ValueError: the scene cannot be drawn (``packing.check``).
    """
    check(scene)
    corners = scene.vertices[scene.triangles]  # (T, 3, 3)
    tree = bvh.build(corners.min(axis=1), corners.max(axis=1), 4)
    sides = _sides(corners[tree.order])
    points, normals, inverse = _receivers(scene, corners)
    lamps = np.array(lights, np.float32).reshape(-1, 3)
    openness, direct = _gather(tree, sides, points, normals, lamps, _hemisphere(seed))
    light = openness[:, None] * AMBIENT + direct[:, None] * LAMP
    return replace(scene, light=_tone(light)[inverse].astype(np.float32))


def _tone(light: NDArray) -> NDArray:
    """Leave dark tones as they are, bend bright ones toward 1.25: a surface beside a lamp keeps its colour."""
    return 1.25 * (1 - np.exp(-light / 1.25))


def _sides(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 9) first corner and the two sides that leave it, for the ray test."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return np.ascontiguousarray(np.concatenate([a, b - a, c - a], axis=1))


def _receivers(scene: Scene, corners: NDArray[np.float32]) -> tuple[NDArray, NDArray, NDArray]:
    """Where vertices receive light: points (R, 3), normals (R, 3), and each vertex's receiver (V,).

    A point is drawn in a little toward the middle of its triangles: the corner of a room lies in no wall then.
    """
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length: twice the area
    middle = corners.mean(axis=1)
    sums = np.zeros((len(scene.vertices), 7))
    for k in range(3):
        index = scene.triangles[:, k]
        for column, values in enumerate([*weighted.T, *middle.T, np.ones(len(index))]):
            sums[:, column] += np.bincount(index, values, len(scene.vertices))
    normals = sums[:, :3] / np.maximum(np.linalg.norm(sums[:, :3], axis=1, keepdims=True), 1e-12)
    inward = sums[:, 3:6] / np.maximum(sums[:, 6:], 1) - scene.vertices
    length = np.linalg.norm(inward, axis=1, keepdims=True)
    points = scene.vertices + inward * np.minimum(0.2, 0.03 / np.maximum(length, 1e-9))
    keys = np.round(np.concatenate([points * 1000, normals * 50], axis=1)).astype(np.int32)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return points[first].astype(np.float32), normals[first].astype(np.float32), inverse.reshape(-1)


def _hemisphere(seed: int) -> NDArray[np.float32]:
    """(DIRECTIONS, 3) cosine-weighted directions about +Z on a golden-angle spiral."""
    k = np.arange(DIRECTIONS)
    radius, angle = np.sqrt((k + 0.5) / DIRECTIONS), (k + seed) * math.pi * (3 - math.sqrt(5))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)], axis=1).astype(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(tree, sides, points, normals, lamps, hemisphere):
    """Openness (R,) in 0..1 and light of the lamps (R,) of every receiver."""
    openness, direct = np.zeros(len(points)), np.zeros(len(points))
    stack = np.empty(128, np.int32)
    for i in range(len(points)):
        n = normals[i]
        start = points[i] + LIFT * n
        openness[i] = _openness(tree, sides, start, n, hemisphere, stack)
        if openness[i] < 0.05:
            back = points[i] - LIFT * n
            behind = _openness(tree, sides, back, -n, hemisphere, stack)
            if behind > 0.2:  # a sheet or a box turned inside out
                openness[i], n, start = behind, -n, back
        for lamp in lamps:
            direct[i] += _lamp(tree, sides, start, n, lamp, stack)
    return openness, direct


@njit(cache=True, nogil=True, error_model="numpy")
def _openness(tree, sides, start, n, hemisphere, stack):
    """Cosine-weighted mean over the half space about ``n`` of the distance seen, as a share of REACH."""
    # a tangent frame that varies smoothly with n (Duff et al., "Building an orthonormal basis, revisited", 2017)
    sign = 1.0 if n[2] >= 0 else -1.0
    a = -1 / (sign + n[2])
    b = n[0] * n[1] * a
    total = 0.0
    for d in hemisphere:
        x = d[0] * (1 + sign * n[0] * n[0] * a) + d[1] * b + d[2] * n[0]
        y = d[0] * sign * b + d[1] * (sign + n[1] * n[1] * a) + d[2] * n[1]
        z = -d[0] * sign * n[0] - d[1] * n[1] + d[2] * n[2]
        total += _distance(tree, sides, start[0], start[1], start[2], x, y, z, REACH, False, stack)
    return total / (REACH * len(hemisphere))


@njit(cache=True, nogil=True, error_model="numpy")
def _lamp(tree, sides, start, n, lamp, stack):
    """Light of one square lamp: four samples of it, each with a shadow ray."""
    total = 0.0
    for k in range(4):
        x = lamp[0] + (PANEL if k & 1 else -PANEL) * 0.5 - start[0]
        y = lamp[1] - start[1]
        z = lamp[2] + (PANEL if k & 2 else -PANEL) * 0.5 - start[2]
        square = x * x + y * y + z * z
        facing = n[0] * x + n[1] * y + n[2] * z
        if facing <= 0 or square > RANGE * RANGE:
            continue
        d = math.sqrt(square)
        if _distance(tree, sides, start[0], start[1], start[2], x / d, y / d, z / d, d - LIFT, True, stack) >= d - LIFT:
            total += facing / (d * (square + 0.5))
    return total / 4


@njit(cache=True, nogil=True, error_model="numpy")
def _distance(tree, sides, ox, oy, oz, dx, dy, dz, limit, any_hit, stack):
    """How far a ray goes before it meets a triangle, at most ``limit``; ``any_hit`` stops at the first one met."""
    ix, iy, iz = 1 / dx, 1 / dy, 1 / dz
    stack[0] = 0
    top = 1
    while top:
        top -= 1
        node = stack[top]
        x0, x1 = (tree.low[node, 0] - ox) * ix, (tree.high[node, 0] - ox) * ix
        y0, y1 = (tree.low[node, 1] - oy) * iy, (tree.high[node, 1] - oy) * iy
        z0, z1 = (tree.low[node, 2] - oz) * iz, (tree.high[node, 2] - oz) * iz
        enter = max(min(x0, x1), min(y0, y1), min(z0, z1), 0.0)
        leave = min(max(x0, x1), max(y0, y1), max(z0, z1), limit)
        if not enter <= leave:
            continue
        if tree.child[node] >= 0:
            stack[top], stack[top + 1] = tree.child[node], tree.child[node] + 1
            top += 2
            continue
        for t in range(tree.first[node], tree.first[node] + tree.count[node]):
            hit = _hit(sides[t], ox, oy, oz, dx, dy, dz)
            if hit < limit:
                if any_hit:
                    return hit
                limit = hit
    return limit


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _hit(s, ox, oy, oz, dx, dy, dz):
    """Distance along the ray to a triangle, or infinity (Moeller and Trumbore, 1997)."""
    px, py, pz = dy * s[8] - dz * s[7], dz * s[6] - dx * s[8], dx * s[7] - dy * s[6]
    det = s[3] * px + s[4] * py + s[5] * pz
    tx, ty, tz = ox - s[0], oy - s[1], oz - s[2]
    over = 1 / det
    u = (tx * px + ty * py + tz * pz) * over
    qx, qy, qz = ty * s[5] - tz * s[4], tz * s[3] - tx * s[5], tx * s[4] - ty * s[3]
    v = (dx * qx + dy * qy + dz * qz) * over
    distance = (s[6] * qx + s[7] * qy + s[8] * qz) * over
    inside = u >= 0 and v >= 0 and u + v <= 1 and distance > 1e-5
    return distance if inside else math.inf
