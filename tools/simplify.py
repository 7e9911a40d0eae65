"""Mesh simplification by quadric error metrics (Garland and Heckbert, 1997), with seams kept.

An edge (u, v) is collapsed onto the point p that minimises ``[p 1] (Qu + Qv) [p 1]^T``, where Q sums the squared
distances to the planes of the triangles around a vertex. Edges that have not exactly two triangles of one material are
seams: a plane through the edge, square to its triangle, is added, so that outlines and patches of colour keep their
shape. To the quadric error comes the square of the area that a collapse takes away or adds: without it, what is thin
(leaves, tubes, slats) has next to no error and is the first to vanish.
"""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit
from numpy.typing import NDArray

SEAM_WEIGHT = 4.0
"""How much stiffer a seam is than a surface of the same area."""
ANCHOR = 1e-3
"""Weight of the distance to the vertex itself: keeps flat regions well posed."""
AREA_WEIGHT = 2.0
"""Weight of the squared change of area."""
FLIP = 0.2
"""Least cosine between the normals of a triangle before and after a collapse."""


def simplify(vertices: NDArray, triangles: NDArray, material: NDArray, target: int) -> tuple[NDArray, NDArray, NDArray]:
    """Collapse edges, cheapest first, until ``target`` triangles are left.

    Args:
        vertices: (V, 3), one row per position (weld first).
        triangles: (T, 3) indices.
        material: (T,) index; borders between materials are kept.
        target: triangles wanted. Fewer collapses happen where each of the remaining ones would flip a triangle.

    Returns:
        vertices (V', 3) float64, triangles (T', 3) int64, material (T',).
    """
    vertices, triangles = np.array(vertices, np.float64), np.array(triangles, np.int64)
    if len(triangles) <= target:
        return vertices, triangles, material
    edges = _edges(triangles)
    quadrics = _quadrics(vertices, triangles, material)
    alive = _collapse(vertices, triangles, quadrics, edges, target)
    used, renamed = np.unique(triangles[alive], return_inverse=True)
    return vertices[used], renamed.reshape(-1, 3), material[alive]


def _edges(triangles: NDArray) -> NDArray:
    """(E, 2) distinct undirected edges."""
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(pairs, axis=0)


def _quadrics(vertices: NDArray, triangles: NDArray, material: NDArray) -> NDArray:
    """(V, 4, 4): planes of the triangles weighted by area, planes of seams, and the anchor at the vertex."""
    corners = vertices[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1) / 2
    normal /= np.maximum(2 * area, 1e-20)[:, None]

    quadrics = np.zeros((len(vertices), 4, 4))
    _add_planes(quadrics, triangles.T, normal, corners[:, 0], area / 3)

    anchor = np.zeros(len(vertices))
    for column in triangles.T:
        np.add.at(anchor, column, ANCHOR * area / 3)
    quadrics[:, [0, 1, 2], [0, 1, 2]] += anchor[:, None]
    quadrics[:, 3, :3] -= anchor[:, None] * vertices
    quadrics[:, :3, 3] -= anchor[:, None] * vertices
    quadrics[:, 3, 3] += anchor * (vertices**2).sum(axis=1)

    half = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    owner = np.tile(np.arange(len(triangles)), 3)
    keys, inverse, count = np.unique(np.sort(half, axis=1), axis=0, return_inverse=True, return_counts=True)
    low, high = np.full(len(keys), np.iinfo(np.int64).max), np.full(len(keys), -1)
    np.minimum.at(low, inverse.ravel(), material[owner])
    np.maximum.at(high, inverse.ravel(), material[owner])
    seam = ((count != 2) | (low != high))[inverse.ravel()]
    start, end = vertices[half[seam, 0]], vertices[half[seam, 1]]
    along = end - start
    across = np.cross(along, normal[owner[seam]])
    length = np.linalg.norm(along, axis=1)
    across /= np.maximum(length, 1e-20)[:, None]
    _add_planes(quadrics, half[seam].T, across, start, SEAM_WEIGHT * length**2)
    return quadrics


def _add_planes(quadrics: NDArray, columns: NDArray, normal: NDArray, point: NDArray, weight: NDArray) -> None:
    """Add the planes through ``point`` to the quadrics of the vertices in each of ``columns``."""
    plane = np.concatenate([normal, -(normal * point).sum(axis=1, keepdims=True)], axis=1)
    product = weight[:, None, None] * plane[:, :, None] * plane[:, None, :]
    for column in columns:
        np.add.at(quadrics, column, product)


@njit(cache=True)
def _target(quadric, a, b):
    """Cost and place of the best point for a collapsed edge: the minimum, or the best of both ends and the middle."""
    best, cost = a, np.inf
    matrix = quadric[:3, :3]
    middle = (a + b) / 2
    if abs(np.linalg.det(matrix)) > 1e-12 * max(np.trace(matrix), 1e-30) ** 3:
        optimum = np.linalg.solve(matrix, -quadric[:3, 3].copy())
        if np.linalg.norm(optimum - middle) < 2 * np.linalg.norm(a - b) + 1e-9:
            return max(_error(quadric, optimum), 0.0), optimum
    for candidate in (a, b, middle):
        error = max(_error(quadric, candidate), 0.0)
        if error < cost:
            best, cost = candidate, error
    return cost, best


@njit(cache=True)
def _error(quadric, p):
    total = quadric[3, 3]
    for i in range(3):
        total += 2 * quadric[3, i] * p[i]
        for j in range(3):
            total += quadric[i, j] * p[i] * p[j]
    return total


@njit(cache=True)
def _normal(a, b, c):
    return np.cross(b - a, c - a)


@njit(cache=True)
def _flips(vertices, triangles, alive, around, u, v, place):
    """Would a triangle around ``u`` that stays turn over, or vanish, when ``u`` moves to ``place``?"""
    for t in around[u]:
        if not alive[t]:
            continue
        corner = triangles[t]
        if (corner == v).any():
            continue
        before = _normal(vertices[corner[0]], vertices[corner[1]], vertices[corner[2]])
        moved = vertices[corner]
        for k in range(3):
            if corner[k] == u:
                moved[k] = place
        after = _normal(moved[0], moved[1], moved[2])
        size = np.linalg.norm(before) * np.linalg.norm(after)
        if size > 0 and (before * after).sum() < FLIP * size:
            return True
    return False


@njit(cache=True)
def _area_change(vertices, triangles, alive, around, u, v, place):
    """Area after minus area before, when ``u`` and ``v`` both move to ``place``."""
    change = 0.0
    for end in range(2):
        here, other = (u, v) if end == 0 else (v, u)
        for t in around[here]:
            if not alive[t]:
                continue
            corner = triangles[t]
            shared = (corner == other).any()
            if shared and end == 1:
                continue
            change -= np.linalg.norm(_normal(vertices[corner[0]], vertices[corner[1]], vertices[corner[2]])) / 2
            if not shared:
                moved = vertices[corner]
                for k in range(3):
                    if corner[k] == here:
                        moved[k] = place
                change += np.linalg.norm(_normal(moved[0], moved[1], moved[2])) / 2
    return change


@njit(cache=True)
def _cost(vertices, triangles, quadrics, alive, around, u, v):
    """What it costs to collapse the edge (u, v), and the point to collapse it to."""
    error, place = _target(quadrics[u] + quadrics[v], vertices[u], vertices[v])
    return error + AREA_WEIGHT * _area_change(vertices, triangles, alive, around, u, v, place) ** 2, place


@njit(cache=True)
def _collapse(vertices, triangles, quadrics, edges, target):
    """Greedy collapse in place; returns which triangles are left. Stale heap entries are known by their stamps."""
    stamp = np.zeros(len(vertices), np.int64)
    alive = np.ones(len(triangles), np.bool_)
    left = len(triangles)
    around = [[np.int64(0) for _ in range(0)] for _ in range(len(vertices))]
    for t in range(len(triangles)):
        for k in range(3):
            around[triangles[t, k]].append(t)
    heap = [(0.0, np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)]
    for e in range(len(edges)):
        u, v = edges[e, 0], edges[e, 1]
        cost, _ = _cost(vertices, triangles, quadrics, alive, around, u, v)
        heapq.heappush(heap, (cost, u, v, np.int64(0)))

    while left > target and len(heap) > 0:
        _, u, v, when = heapq.heappop(heap)
        if when != stamp[u] + stamp[v] or stamp[u] < 0 or stamp[v] < 0:
            continue
        _, place = _cost(vertices, triangles, quadrics, alive, around, u, v)
        if _flips(vertices, triangles, alive, around, u, v, place) or _flips(
            vertices, triangles, alive, around, v, u, place
        ):
            continue
        vertices[u] = place
        quadrics[u] += quadrics[v]
        stamp[u] += stamp[v] + 1
        stamp[v] = -1
        for t in around[v]:
            if alive[t]:
                for k in range(3):
                    if triangles[t, k] == v:
                        triangles[t, k] = u
                a, b, c = triangles[t]
                if a in (b, c) or b == c:
                    alive[t] = False
                    left -= 1
                else:
                    around[u].append(t)
        around[u] = [t for t in around[u] if alive[t]]
        seen = {u}
        for t in around[u]:
            for k in range(3):
                w = triangles[t, k]
                if w not in seen:
                    seen.add(w)
                    cost, _ = _cost(vertices, triangles, quadrics, alive, around, u, w)
                    heapq.heappush(heap, (cost, u, w, stamp[u] + stamp[w]))
    return alive
