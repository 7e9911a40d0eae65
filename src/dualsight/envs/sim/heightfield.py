"""From triangles to the floors an agent can stand on: a heightfield of several layers.

The ground plan is cut into columns of ``cell`` x ``cell`` metres. Every triangle leaves a *span* (a solid interval of
height) in each column it touches; overlapping spans grow together. What remains between the spans is free, and the
top of a span is a floor where it is flat enough, has head-room, and is not the edge of a drop. The steps and their
order are those of Recast (Mononen, 2009), with one difference: heights are real numbers, not steps of a voxel, so the
floor of a house at y = 0 is found at y = 0.

A column may hold any number of floors, so stairs and storeys need nothing of their own.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

NO_FLOOR = -math.inf
"""The floor height of a span that nobody can stand on."""

TOUCHING = 1e-3
"""Spans less than this far apart (m) are one."""

GRAZING = 1e-3
"""What reaches less than this far into a column (in cells) is not in it: a wall whose face lies on the border between
two columns takes no ground from the room."""

DIRECTIONS = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])
"""The (column, row) steps to the four neighbours: -X, +Z, +X, -Z. Consecutive ones are perpendicular."""


def find_floors(vertices, triangles, size, cell, height, max_climb, max_slope):
    """Every place where an agent can stand, before its width is thought of.

    Args:
        vertices: (V, 3) metres, moved so that the grid begins at x = z = 0.
        triangles: (T, 3) vertex indices; counter-clockwise seen from above means that it can be a floor.
        size: columns along X and rows along Z.
        cell: the width of a column, metres.
        height, max_climb: of the agent, metres. max_slope: degrees.

    Returns:
        ``column`` (N, 2) int32 grid position, ``floor`` (N,) and ``ceiling`` (N,) metres, in the order of rows, then
        columns, then height.
    """
    corners = np.asarray(vertices, np.float64)[triangles]  # (T, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    flat = normal[:, 1] > math.cos(math.radians(max_slope))

    # faces are drawn back into their solid by a hair, so that one on a border of columns falls on the solid's side
    sunk = corners / [cell, 1.0, cell] - 2 * GRAZING * (normal * [1.0, 0.0, 1.0])[:, None]
    boxes = np.ptp(sunk[:, :, [0, 2]], axis=1).astype(np.int64) + 2  # at most so many columns and rows each
    where, spans = _rasterise(sunk, flat, size[0], size[1], int(boxes.prod(axis=1).sum()))
    order = np.lexsort((spans[:, 0], where))
    where, spans = _merge(where[order], spans[order], max_climb)
    first = np.searchsorted(where, np.arange(size[0] * size[1] + 1))
    _stand_on_low_obstacles(where, spans, max_climb)

    ceiling = np.full(len(where), math.inf)
    covered = where[1:] == where[:-1]
    ceiling[:-1][covered] = spans[1:, 0][covered]
    standing = (spans[:, 2] > NO_FLOOR) & (ceiling - spans[:, 1] >= height)
    standing &= ~_find_ledges(first, spans, ceiling, standing, size[0], size[1], height, max_climb)
    column = np.stack([where[standing] % size[0], where[standing] // size[0]], axis=1).astype(np.int32)
    return column, spans[standing, 2], ceiling[standing]


@njit(cache=True, nogil=True)
def _clip(polygon, n, axis, at, sign, out):
    """Keep the part of a convex polygon with ``sign * (p[axis] - at) >= 0`` (Sutherland-Hodgman); its corner count."""
    m = 0
    for i in range(n):
        j = (i + 1) % n
        a = sign * (polygon[i, axis] - at)
        b = sign * (polygon[j, axis] - at)
        if a >= 0:
            for k in range(3):
                out[m, k] = polygon[i, k]
            m += 1
        if (a >= 0) != (b >= 0):
            for k in range(3):
                out[m, k] = polygon[i, k] + a / (a - b) * (polygon[j, k] - polygon[i, k])
            m += 1
    return m


@njit(cache=True, nogil=True)
def _extent(polygon, n, axis):
    """The lowest and the highest position of a polygon with ``n`` corners along an axis."""
    low, high = math.inf, -math.inf
    for i in range(n):
        low, high = min(low, polygon[i, axis]), max(high, polygon[i, axis])
    return low, high


@njit(cache=True, nogil=True)
def _columns(polygon, n, axis, count):
    """The first and the last of ``count`` columns into which a polygon reaches along an axis."""
    low, high = _extent(polygon, n, axis)
    first = min(max(math.floor(low + GRAZING), 0), count - 1)
    return first, max(first, min(math.ceil(high - GRAZING) - 1, count - 1))


@njit(cache=True, nogil=True)
def _rasterise(corners, flat, nx, nz, room):
    """The span that each triangle leaves in each column it touches.

    ``corners`` (T, 3, 3) has X and Z in columns, ``room`` is for how many spans there is to be room. Returns the flat
    column index (S,), and lowest, highest and floor height (S, 3); the floor is that of the triangle's plane in the
    middle of the column, so slopes are not lifted by half a cell.
    """
    where, spans = np.empty(room, np.int32), np.empty((room, 3))
    rest, row, tile, spare = np.empty((12, 3)), np.empty((12, 3)), np.empty((12, 3)), np.empty((12, 3))
    count = 0
    for t in range(len(corners)):
        slope_x, slope_z, level = _plane(corners[t]) if flat[t] else (0.0, 0.0, 0.0)
        for k in range(9):
            rest[k // 3, k % 3] = corners[t, k // 3, k % 3]
        n = 3
        j0, j1 = _columns(rest, n, 2, nz)
        for j in range(j0, j1 + 1):
            m = _clip(rest, n, 2, j + 1.0, -1.0, row)
            n = _clip(rest, n, 2, j + 1.0, 1.0, spare)
            rest, spare = spare, rest
            if m == 0:
                continue
            i0, i1 = _columns(row, m, 0, nx)
            for i in range(i0, i1 + 1):
                p = _clip(row, m, 0, i + 1.0, -1.0, tile)
                m = _clip(row, m, 0, i + 1.0, 1.0, spare)
                row, spare = spare, row
                if p == 0:
                    continue
                low, high = _extent(tile, p, 1)
                floor = min(max(level + slope_x * (i + 0.5) + slope_z * (j + 0.5), low), high)
                where[count] = j * nx + i
                spans[count, 0], spans[count, 1], spans[count, 2] = low, high, floor if flat[t] else NO_FLOOR
                count += 1
    return where[:count], spans[:count]


@njit(cache=True, nogil=True)
def _plane(corners):
    """(a, b, c) so that y = a x + b z + c on a triangle that is not vertical."""
    ux, uy, uz = corners[1] - corners[0]
    vx, vy, vz = corners[2] - corners[0]
    up = uz * vx - ux * vz
    a, b = (uz * vy - uy * vz) / up, (uy * vx - ux * vy) / up
    return a, b, corners[0, 1] - a * corners[0, 0] - b * corners[0, 2]


@njit(cache=True, nogil=True)
def _merge(where, spans, max_climb):
    """Let spans of a column that touch grow together; they come sorted by column and lowest point.

    The result can be stood on if its highest floor is at most a climb below its top: a door sill on the floor is
    stepped over, a wall on the floor is not.
    """
    last = -1
    for s in range(len(where)):
        if last >= 0 and where[last] == where[s] and spans[s, 0] <= spans[last, 1] + TOUCHING:
            spans[last, 1] = max(spans[last, 1], spans[s, 1])
            spans[last, 2] = max(spans[last, 2], spans[s, 2])
        else:
            last += 1
            where[last] = where[s]
            spans[last] = spans[s]
    for s in range(last + 1):
        if spans[s, 1] - spans[s, 2] > max_climb:
            spans[s, 2] = NO_FLOOR
    return where[: last + 1], spans[: last + 1]


@njit(cache=True, nogil=True)
def _stand_on_low_obstacles(where, spans, max_climb):
    """A thing that hangs or lies at most a climb above a floor is stepped on (Recast: low hanging obstacles)."""
    floor_below = NO_FLOOR
    for s in range(len(where)):
        if s > 0 and where[s] != where[s - 1]:
            floor_below = NO_FLOOR
        floor = spans[s, 2]
        if floor == NO_FLOOR and spans[s, 1] - floor_below <= max_climb:
            spans[s, 2] = spans[s, 1]
        floor_below = floor


@njit(cache=True, nogil=True)
def _find_ledges(first, spans, ceiling, standing, nx, nz, height, max_climb):
    """Which floors lie at a drop of more than a climb, or are as steep as one (both Recast's rules), (S,) bool.

    A neighbouring gap counts where an agent's body would fit through the border between the two columns.
    """
    ledge = np.zeros(len(spans), np.bool_)
    climb = max_climb + TOUCHING
    for column in range(nx * nz):
        for s in range(first[column], first[column + 1]):
            if not standing[s]:
                continue
            floor, drop, lowest, highest = spans[s, 2], 0.0, 0.0, 0.0
            for d in range(4):
                i, j = column % nx + DIRECTIONS[d, 0], column // nx + DIRECTIONS[d, 1]
                if i < 0 or j < 0 or i >= nx or j >= nz:
                    drop = math.inf
                    break
                begin, end = first[j * nx + i], first[j * nx + i + 1]
                for gap in range(begin - 1, end):  # the gap above each span, and the one below the first
                    bottom, top = NO_FLOOR, math.inf
                    if gap >= begin:
                        bottom = spans[gap, 2] if spans[gap, 2] > NO_FLOOR else spans[gap, 1]
                        top = ceiling[gap]
                    elif begin < end:
                        top = spans[begin, 0]
                    if min(ceiling[s], top) - max(floor, bottom) < height:
                        continue
                    rise = bottom - floor
                    drop = max(drop, -rise)
                    if abs(rise) <= climb:
                        lowest, highest = min(lowest, rise), max(highest, rise)
            ledge[s] = drop > climb or highest - lowest > climb
    return ledge
