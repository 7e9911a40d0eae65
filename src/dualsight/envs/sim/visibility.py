"""Which triangle does each pixel show? A rasteriser in homogeneous coordinates with hierarchical occlusion culling.

A vertex is taken to ``(x z, y z, z)``: pixel coordinates (pixel centres at integers) times its depth ``z``. With
vertices ``P0, P1, P2`` there, the pixel ``d = (x, y, 1)`` shows the triangle's point ``z d = b0 P0 + b1 P1 + b2 P2``,
so the barycentric coordinates over depth are linear in the pixel::

    b0 / z = e0 . d,   e0 = (P1 x P2) / det,   det = P0 . (P1 x P2),   and   1 / z = (e0 + e1 + e2) . d

(Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997). A triangle that crosses the near
plane needs no cutting: only its bounding box is found by clipping. Edges shared by two triangles give exactly opposite
``e``, therefore the same span limits and no cracks.

Nodes of the tree are visited front to back. The image is covered by tiles of 8x8 pixels that know the farthest thing
they show ("hierarchical z-buffer", Greene et al., 1993); what lies behind all of its tiles is skipped, whole rooms at
a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dualsight.envs.sim.packing import MESHLET

NEAR = 0.05
"""Metres: what is closer to the camera's plane is not drawn."""
TILE = 8
DEPTH_OF_STACK = 128


class Buffers(NamedTuple):
    """What one image size needs while drawing."""

    nearness: NDArray[np.float32]
    """(H, W) 1 / depth of what is shown, 0 for nothing."""
    triangle: NDArray[np.int32]
    """(H, W) the triangle shown, -1 for nothing."""
    farthest: NDArray[np.float32]
    """(H / 8, W / 8) no pixel of the tile has less nearness."""
    stale: NDArray[np.bool_]
    """(H / 8, W / 8) drawn into since ``farthest`` was found."""


def buffers(width: int, height: int) -> Buffers:
    """Buffers for images of ``height`` x ``width`` pixels."""
    tiles = -(-height // TILE), -(-width // TILE)
    return Buffers(
        nearness=np.empty((height, width), np.float32),
        triangle=np.empty((height, width), np.int32),
        farthest=np.empty(tiles, np.float32),
        stale=np.empty(tiles, np.bool_),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def rasterise(scene, eye, view, out):
    """Find the triangle that each pixel shows.

    Args:
        scene: ``Packed``.
        eye: (3,) where the camera is.
        view: (3, 4) float64, takes world points (x, y, z, 1) to ``(x z, y z, z)``.
        out: ``Buffers``, overwritten.
    """
    out.nearness[:] = 0
    out.triangle[:] = -1
    out.farthest[:] = 0
    out.stale[:] = False
    tree = scene.tree
    planes = _frustum(view, out.nearness.shape[1], out.nearness.shape[0])
    points = np.empty((3 * MESHLET, 5))  # x z, y z, z, x, y of a meshlet's vertices
    stack = np.zeros(DEPTH_OF_STACK, np.int32)
    top = 1
    while top:
        top -= 1
        node = stack[top]
        if _outside(planes, tree.low[node], tree.high[node]) or _hidden(view, tree.low[node], tree.high[node], out):
            continue
        child = tree.child[node]
        if child < 0:
            _draw_meshlet(scene, node, view, points, out)
        else:
            near_first = _distance(tree, child, eye) <= _distance(tree, child + 1, eye)
            stack[top] = child + 1 if near_first else child
            stack[top + 1] = child if near_first else child + 1
            top += 2


@njit(cache=True, nogil=True)
def _frustum(view, width, height):
    """(5, 4) planes whose positive side is seen: left, right, top, bottom, near."""
    planes = np.empty((5, 4))
    planes[0] = view[0] + 0.5 * view[2]
    planes[1] = (width - 0.5) * view[2] - view[0]
    planes[2] = view[1] + 0.5 * view[2]
    planes[3] = (height - 0.5) * view[2] - view[1]
    planes[4] = view[2]
    planes[4, 3] -= NEAR
    return planes


@njit(cache=True, nogil=True)
def _outside(planes, low, high):
    """Is the box wholly on the wrong side of a plane?"""
    for p in range(5):
        farthest = planes[p, 3]
        for k in range(3):
            farthest += max(planes[p, k] * low[k], planes[p, k] * high[k])
        if farthest < 0:
            return True
    return False


@njit(cache=True, nogil=True)
def _distance(tree, node, eye):
    """Squared distance from the eye to a node's box, and a little of that to its centre to order nested boxes."""
    total = 0.0
    for k in range(3):
        low, high = tree.low[node, k], tree.high[node, k]
        gap = max(low - eye[k], eye[k] - high, 0.0)
        off = 0.5 * (low + high) - eye[k]
        total += gap * gap + 1e-3 * off * off
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _hidden(view, low, high, out):
    """Is all of the box behind what its tiles show already?"""
    x0, x1, y0, y1, nearest = math.inf, -math.inf, math.inf, -math.inf, math.inf
    for corner in range(8):
        x = high[0] if corner & 1 else low[0]
        y = high[1] if corner & 2 else low[1]
        z = high[2] if corner & 4 else low[2]
        depth = view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3]
        if depth < NEAR:
            return False
        over = 1 / depth
        px = (view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3]) * over
        py = (view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3]) * over
        x0, x1 = min(x0, px), max(x1, px)
        y0, y1 = min(y0, py), max(y1, py)
        nearest = min(nearest, depth)
    return _covered(x0, x1, y0, y1, np.float32(1 / nearest), out, True)


@njit(cache=True, nogil=True)
def _covered(x0, x1, y0, y1, nearness, out, refresh):
    """Do all tiles of the pixel rectangle show nearer things only? ``refresh`` brings stale tiles up to date first."""
    height, width = out.nearness.shape
    left, right = max(0, math.ceil(x0)) // TILE, min(width - 1, math.floor(x1)) // TILE
    top, bottom = max(0, math.ceil(y0)) // TILE, min(height - 1, math.floor(y1)) // TILE
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            if out.farthest[row, column] >= nearness:
                continue
            if not (refresh and out.stale[row, column]):
                return False
            farthest = _farthest(out.nearness, row, column)
            out.farthest[row, column] = farthest
            out.stale[row, column] = False
            if farthest < nearness:
                return False
    return True


@njit(cache=True, nogil=True)
def _farthest(nearness, row, column):
    height, width = nearness.shape
    farthest = np.float32(np.inf)
    for y in range(row * TILE, min(height, row * TILE + TILE)):
        for x in range(column * TILE, min(width, column * TILE + TILE)):
            farthest = min(farthest, nearness[y, x])
    return farthest


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_meshlet(scene, leaf, view, points, out):
    """Draw the triangles of one leaf."""
    start = scene.first_vertex[leaf]
    for i in range(scene.first_vertex[leaf + 1] - start):
        x, y, z = to_camera(view, scene.vertices, start + i)
        points[i, 0], points[i, 1], points[i, 2], points[i, 3], points[i, 4] = x, y, z, x / z, y / z
    for triangle in range(scene.tree.first[leaf], scene.tree.first[leaf] + scene.tree.count[leaf]):
        a = _point(points, scene.triangles[triangle, 0] - start)
        b = _point(points, scene.triangles[triangle, 1] - start)
        c = _point(points, scene.triangles[triangle, 2] - start)
        _draw_triangle(triangle, a, b, c, out)


@njit(cache=True, nogil=True, inline="always")
def _point(points, i):
    return points[i, 0], points[i, 1], points[i, 2], points[i, 3], points[i, 4]


@njit(cache=True, nogil=True, inline="always")
def to_camera(view, vertices, i):
    """Vertex ``i`` as ``(x z, y z, z)``."""
    x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
    return (
        view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3],
        view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3],
        view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3],
    )


@njit(cache=True, nogil=True, inline="always")
def cross(a, b):
    """The cross product of the first three numbers of two tuples; exactly ``-cross(b, a)``."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_triangle(triangle, a, b, c, out):
    """Write the pixels whose centre lies in the triangle and that show nothing nearer."""
    nearest = min(a[2], b[2], c[2])
    if nearest >= NEAR:
        limit = np.float32(np.inf)
        x0, x1 = min(a[3], b[3], c[3]), max(a[3], b[3], c[3])
        y0, y1 = min(a[4], b[4], c[4]), max(a[4], b[4], c[4])
    elif max(a[2], b[2], c[2]) <= NEAR:
        return
    else:
        limit = np.float32(1 / NEAR)
        nearest = NEAR
        x0, x1, y0, y1 = _clipped_bounds(a, b, c)
    height, width = out.nearness.shape
    left, right = max(0, math.ceil(x0)), min(width - 1, math.floor(x1))
    top, bottom = max(0, math.ceil(y0)), min(height - 1, math.floor(y1))
    if left > right or top > bottom or _covered(x0, x1, y0, y1, np.float32(1 / nearest), out, False):
        return
    e0, e1, e2 = cross(b, c), cross(c, a), cross(a, b)
    det = a[0] * e0[0] + a[1] * e0[1] + a[2] * e0[2]
    if abs(det) <= 1e-12 * (abs(a[0] * e0[0]) + abs(a[1] * e0[1]) + abs(a[2] * e0[2])):
        return  # seen edge-on, or without an area
    sign = 1.0 if det > 0 else -1.0
    plane_x = (e0[0] + e1[0] + e2[0]) / det
    plane_y = (e0[1] + e1[1] + e2[1]) / det
    plane_1 = (e0[2] + e1[2] + e2[2]) / det
    written = False
    for y in range(top, bottom + 1):
        low, high = float(left), float(right)
        low, high = _span(low, high, sign * e0[0], sign * (e0[1] * y + e0[2]))
        low, high = _span(low, high, sign * e1[0], sign * (e1[1] * y + e1[2]))
        low, high = _span(low, high, sign * e2[0], sign * (e2[1] * y + e2[2]))
        if low > high:  # also where a limit is infinite: its ceiling would wrap around to a pixel outside the image
            continue
        row = plane_y * y + plane_1
        for x in range(math.ceil(low), math.floor(high) + 1):
            nearness = np.float32(plane_x * x + row)
            if nearness > out.nearness[y, x] and nearness <= limit:
                out.nearness[y, x] = nearness
                out.triangle[y, x] = triangle
                written = True
    if written:
        out.stale[top // TILE : bottom // TILE + 1, left // TILE : right // TILE + 1] = True


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _span(low, high, slope, rest):
    """Where in [low, high] is ``slope * x + rest >= 0``? (low > high where it nowhere is)"""
    if slope > 0:
        low = max(low, -rest / slope)
    elif slope < 0:
        high = min(high, -rest / slope)
    elif rest < 0:
        high = -math.inf
    return low, high


@njit(cache=True, nogil=True, error_model="numpy")
def _clipped_bounds(a, b, c):
    """Bounding box, in pixels, of the part of a triangle beyond the near plane."""
    x0, x1, y0, y1 = math.inf, -math.inf, math.inf, -math.inf
    for p, q in ((a, b), (b, c), (c, a)):
        if p[2] >= NEAR:
            x0, x1, y0, y1 = min(x0, p[3]), max(x1, p[3]), min(y0, p[4]), max(y1, p[4])
        if (p[2] >= NEAR) != (q[2] >= NEAR):
            t = (NEAR - p[2]) / (q[2] - p[2])
            x, y = (p[0] + t * (q[0] - p[0])) / NEAR, (p[1] + t * (q[1] - p[1])) / NEAR
            x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
    return x0, x1, y0, y1
