"""Soft light, baked once per scene into its vertices: lamps with penumbrae, and ambient light that fades in corners.

At a point with normal n, for a lamp at distance d under the angle theta, with ``w = cos(theta) / (d^2 + SOFTNESS)``::

    light = tone( AMBIENT * (BOUNCE + (1 - BOUNCE) * openness(n))
                  + LAMP * sum over lamps of w * emission * (visible part of the lamp) )

``openness`` is ambient occlusion: the cosine-weighted mean over directions of how far one sees, up to ``REACH``.

A vertex must show the mean light of the surface about it, else the shadow of a window sill becomes a smear as wide as
the wall's triangles. Large triangles therefore receive light inside, at one point for each corner, and a vertex takes
the mean of its corners; vertices among small triangles receive it themselves. Points inside something (a wall's edge in
a door frame) do not count. All points use the same few directions: neighbours err alike, and no noise shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dualsight.envs.sim import bvh
from dualsight.envs.sim.packing import check
from dualsight.envs.sim.scene import Scene
from dualsight.types import Point

REACH = 1.5
"""Metres over which things shade each other from ambient light."""
DIRECTIONS = 6
"""Rays for ambient light per point; a vertex has about six points, or one with twice as many rays."""
PANEL = 0.18
"""Half the side of a lamp, a horizontal square; its four samples give soft shadows."""
FITTING = 0.3
"""Metres: what is nearer to a lamp than this belongs to it, and casts no shadow."""
FAINT = 0.01
"""Light of a lamp, before ``LAMP``, that is neglected: that of one 6 to 9 m off."""
SOFTNESS = 0.8
AMBIENT = np.array([0.80, 0.82, 0.85])
LAMP = np.array([4.0, 3.8, 3.45])
"""Power of a lamp: slightly warm against the cool ambient light."""
BOUNCE = 0.15
"""Share of the ambient light that reaches the deepest corner: walls pass light on."""
LIFT = 0.01
"""Metres by which rays start off their surface."""
LONG = 0.15
"""Metres: triangles with a longer side receive light inside."""
BURIED = 0.03
"""Openness below which a point lies inside something."""
STACK = 128
"""Tree nodes that a ray keeps for later, at most: more than any tree is deep."""


class Receivers(NamedTuple):
    """R points at which light is received for vertices."""

    points: NDArray[np.float32]
    """(R, 3)"""
    normals: NDArray[np.float32]
    """(R, 3)"""
    vertex: NDArray[np.int32]
    """(R,) whose light it is."""
    weight: NDArray[np.float64]
    """(R,) what it counts for among the points of its vertex."""
    instance: NDArray[np.int32]
    """(R,) what it is part of."""
    pattern: NDArray[np.int32]
    """(R,) 0, 1, 2: the rays of the three corners of a triangle; -1: all of them, for a vertex with one point."""


def bake_light(scene: Scene, lights: Sequence[Point], seed: int = 0) -> Scene:
    """``scene`` with ``light`` computed for lamps at ``lights`` (each (3,) metres).

    Surfaces are lit on the side their triangles face, or on the other one if only that one sees a lamp (found models
    are often turned inside out). Walls and floors need vertices about every half metre to show shadows. ``seed`` turns
    the sampling pattern. Equal input gives equal bytes.

    Raises:
        ValueError: the scene cannot be drawn (``packing.check``).
    """
    check(scene)
    corners = scene.vertices[scene.triangles]  # (T, 3, 3)
    tree = bvh.build(corners.min(axis=1), corners.max(axis=1), 4)
    sides = np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], axis=1)
    rays = tree, sides[tree.order]
    receivers = _receivers(scene, corners.astype(np.float64))
    front, back = _lamplight(rays, receivers, np.array(lights, np.float32).reshape(-1, 3))
    turned = _turned(receivers, front > 0, back > 0)
    direct = np.where(front > 0, front, back)
    openness = _openness(rays, receivers, turned, _hemisphere(seed))
    light = _tone((BOUNCE + (1 - BOUNCE) * openness)[:, None] * AMBIENT + direct[:, None] * LAMP)
    weight = np.where(openness < BURIED, 0, receivers.weight)
    return replace(scene, light=_to_vertices(scene, receivers.vertex, light, weight).astype(np.float32))


def _tone(light: NDArray) -> NDArray:
    """Leave dark tones as they are, bend bright ones toward 1.25: a surface beside a lamp keeps its colour."""
    return 1.25 * (1 - np.exp(-light / 1.25))


def _receivers(scene: Scene, corners: NDArray[np.float64]) -> Receivers:
    """Three points in every large triangle, and one at each vertex that belongs to small triangles only."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(normals, axis=1)
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    large = (longest > LONG) & (double_area > 0)
    # the mean place of the surface that a corner stands for: half of the way to the middle of the other side
    inside = 0.25 * corners[large] + 0.25 * corners[large].sum(axis=1, keepdims=True)
    lonely = np.ones(len(scene.vertices), bool)
    lonely[scene.triangles[large]] = False
    alone = np.flatnonzero(lonely)
    smooth = np.stack([_sum_at(scene, scene.triangles.T, normals[:, k]) for k in range(3)], axis=1)[alone]
    owner = np.zeros(len(scene.vertices), np.int32)
    owner[scene.triangles] = scene.instance[:, None]
    points = np.concatenate([inside.reshape(-1, 3), scene.vertices[alone]])
    directions = np.concatenate([np.repeat(normals[large], 3, axis=0), smooth])
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    return Receivers(
        points=points.astype(np.float32),
        normals=directions.astype(np.float32),
        vertex=np.concatenate([scene.triangles[large].reshape(-1), alone]).astype(np.int32),
        instance=np.concatenate([np.repeat(scene.instance[large], 3), owner[alone]]),
        weight=np.concatenate([np.repeat(double_area[large], 3), np.ones(len(alone))]),
        pattern=np.concatenate([np.tile([0, 1, 2], int(large.sum())), np.full(len(alone), -1)]).astype(np.int32),
    )


def _sum_at(scene: Scene, vertices: Iterable[NDArray], values: NDArray) -> NDArray[np.float64]:
    """(V,) the sum of ``values`` over the entries of each array of ``vertices`` that name a vertex."""
    return np.sum([np.bincount(index, values, len(scene.vertices)) for index in vertices], axis=0)


def _to_vertices(scene: Scene, vertex: NDArray, light: NDArray, weight: NDArray) -> NDArray[np.float64]:
    """(V, 3) the weighted mean light of each vertex; those without any take that of their neighbours."""
    sums = np.stack([_sum_at(scene, [vertex], weight * light[:, k]) for k in range(3)], axis=1)
    total = _sum_at(scene, [vertex], weight)
    for _ in range(3):  # from neighbour to neighbour; farther in, nothing is seen
        known = total > 0
        mean = np.where(known[:, None], sums / np.where(known, total, 1)[:, None], 0)
        if known.all():
            break
        around = [np.where(known, mean[:, k], 0)[scene.triangles].sum(axis=1) for k in range(3)]
        sums = np.stack([_sum_at(scene, scene.triangles.T, channel) for channel in around], axis=1)
        count = _sum_at(scene, scene.triangles.T, known[scene.triangles].sum(axis=1))
        sums, total = np.where(known[:, None], mean, sums), np.where(known, 1, count)
    return mean


def _hemisphere(seed: int) -> NDArray[np.float32]:
    """(3, DIRECTIONS, 3) cosine-weighted directions about +Z: a golden-angle spiral dealt out to three patterns."""
    k = np.arange(3 * DIRECTIONS)
    radius, angle = np.sqrt((k + 0.5) / len(k)), (k + seed) * math.pi * (3 - math.sqrt(5))
    spiral = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)], axis=1)
    return np.ascontiguousarray(spiral.reshape(DIRECTIONS, 3, 3).swapaxes(0, 1), np.float32)


def _turned(receivers: Receivers, front: NDArray[np.bool_], back: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(R,) which points are lit from behind: where only that side sees a lamp; in full shadow, as most of the thing."""
    vote = np.where(front, 1.0, np.where(back, -1.0, 0.0)) * receivers.weight
    majority = np.bincount(receivers.instance, vote) < 0
    return np.where(front | back, ~front, majority[receivers.instance])


@njit(cache=True, nogil=True, error_model="numpy")
def _lamplight(rays, receivers, lamps):
    """(R,) light of the lamps before every point and, where there is none, behind it."""
    front, back = np.zeros(len(receivers.points)), np.zeros(len(receivers.points))
    stack = np.empty(STACK, np.int32)
    for i in range(len(receivers.points)):
        for lamp in lamps:
            front[i] += _lamp(rays, receivers.points[i], receivers.normals[i], lamp, receivers.pattern[i], stack)
        if front[i] == 0:
            for lamp in lamps:
                back[i] += _lamp(rays, receivers.points[i], -receivers.normals[i], lamp, receivers.pattern[i], stack)
    return front, back


@njit(cache=True, nogil=True, error_model="numpy")
def _lamp(rays, point, n, lamp, pattern, stack):
    """Light of one square lamp, which shines downward most: up to four samples of it, each with a shadow ray."""
    start = point + LIFT * n
    total, samples = 0.0, 0
    for k in range(max(pattern, 0) % 2, 4, 1 if pattern < 0 else 2):  # round the square: 0 and 2, or 1 and 3
        samples += 1
        x = lamp[0] + (PANEL if k == 1 or k == 2 else -PANEL) - start[0]
        y = lamp[1] - start[1]
        z = lamp[2] + (PANEL if k >= 2 else -PANEL) - start[2]
        square = x * x + y * y + z * z
        facing = n[0] * x + n[1] * y + n[2] * z
        d = math.sqrt(square)
        emission = 0.4 + 0.6 * max(y, 0.0) / d
        light = emission * facing / (d * (square + SOFTNESS))
        reach = max(d - FITTING, 0.0)
        if light > FAINT and _distance(rays, start, (x / d, y / d, z / d), reach, True, stack) >= reach:
            total += light
    return total / samples


@njit(cache=True, nogil=True, error_model="numpy")
def _openness(rays, receivers, turned, hemisphere):
    """(R,) cosine-weighted mean over the half space before a point of the distance seen, as a share of REACH."""
    openness = np.zeros(len(receivers.points))
    stack = np.empty(STACK, np.int32)
    for i in range(len(openness)):
        n = -receivers.normals[i] if turned[i] else receivers.normals[i]
        start = receivers.points[i] + LIFT * n
        first = receivers.pattern[i]
        last = first if first >= 0 else 1  # a point that is alone sends two patterns
        for pattern in range(max(first, 0), last + 1):
            for d in hemisphere[pattern]:
                openness[i] += _distance(rays, start, _about(n, d), REACH, False, stack)
        openness[i] /= REACH * DIRECTIONS * (last + 1 - max(first, 0))
    return openness


@njit(cache=True, nogil=True, error_model="numpy")
def _about(n, d):
    """Direction ``d`` about +Z turned to be about ``n``, in a tangent frame that varies smoothly with ``n``
    (Duff et al., "Building an orthonormal basis, revisited", 2017)."""
    sign = 1.0 if n[2] >= 0 else -1.0
    a = -1 / (sign + n[2])
    b = n[0] * n[1] * a
    return (
        d[0] * (1 + sign * n[0] * n[0] * a) + d[1] * b + d[2] * n[0],
        d[0] * sign * b + d[1] * (sign + n[1] * n[1] * a) + d[2] * n[1],
        -d[0] * sign * n[0] - d[1] * n[1] + d[2] * n[2],
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _distance(rays, start, direction, limit, any_hit, stack):
    """How far a ray goes before it meets a triangle, at most ``limit``; ``any_hit`` stops at the first one met."""
    tree, sides = rays
    ox, oy, oz = start[0], start[1], start[2]
    dx, dy, dz = direction
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
