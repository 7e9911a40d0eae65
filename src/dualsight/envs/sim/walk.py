"""Straight walks over the cells of a floor: how far one gets, how long it is, and where one slides to at a wall.

Positions are in cells from the grid's corner, so cell (i, j) is the square from (i, j) to (i + 1, j + 1).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SAMPLE = 6
"""Cells crossed between two samples of the floor's height: long enough that the sawtooth of cells does not count."""

LEAP = 2.0
"""Open ground of this many cells around is worth a leap."""

ROUGHNESS = 1.5
"""How far (in cells) a walk that slides goes around the steps of a slanting wall."""

MARGIN = 1e-6
"""How far inside a cell (in cells) a walk stops, so that its end lies in that cell after any rounding."""


@njit(cache=True, nogil=True)
def walk(ground, cell, x0, z0, x1, z1):
    """Walk straight from (x0, z0) in ``cell`` towards (x1, z1), from cell to linked cell.

    Over open level ground it leaps. A walk through the very corner of a cell may pass it on either side; exact where
    positions are dyadic, as those of cell centres and turning points are.

    Args:
        ground: ``Floor.ground``.

    Returns:
        The cell reached, the fraction of the way (1.0 if nothing was in the way), and the length along the floor in
        cells, up and down slopes included.
    """
    around, profile, clear, first, nx = ground
    i, j = math.floor(x0), math.floor(z0)
    i1, j1 = math.floor(x1), math.floor(z1)
    dx, dz = x1 - x0, z1 - z0
    ax, az = abs(dx), abs(dz)
    total = math.sqrt(dx * dx + dz * dz)
    toward_x, toward_z = 3 if dx > 0 else 1, 2 if dz > 0 else 4  # columns of `around`
    step_x, step_z = 1 if dx > 0 else -1, 1 if dz > 0 else -1
    to_x = i + 1 - x0 if dx > 0 else x0 - i  # how far the next border is from the start, along its axis
    to_z = j + 1 - z0 if dz > 0 else z0 - j
    at, length, sampled, crossed = 0.0, 0.0, 0.0, 0
    height = profile[cell]
    while i != i1 or j != j1:
        if clear[cell] > LEAP:
            at = min(at + (clear[cell] - MARGIN) / total, 1.0)
            i, j = (i1, j1) if at == 1.0 else (math.floor(x0 + at * dx), math.floor(z0 + at * dz))
            to_x = i + 1 - x0 if dx > 0 else x0 - i
            to_z = j + 1 - z0 if dz > 0 else z0 - j
            cell = _cell_at_height(first, profile, j * nx + i, profile[cell])
            crossed = SAMPLE
        else:
            # the next border is the one with the smaller to / a, compared without a division
            order = to_x * az - to_z * ax if i != i1 and j != j1 else (-1.0 if i != i1 else 1.0)
            if order == 0:
                beside = around[cell, toward_x]
                after = around[beside, toward_z] if beside >= 0 else -1
                if after < 0:
                    beside = around[cell, toward_z]
                    after = around[beside, toward_x] if beside >= 0 else -1
            else:
                after = around[cell, toward_x if order < 0 else toward_z]
            at = to_x / ax if order < 0 else to_z / az
            if after < 0:
                return cell, at, length + _slanted((at - sampled) * total, profile[cell] - height)
            cell = after
            crossed += 1
            if order <= 0:
                to_x += 1
                i += step_x
            if order >= 0:
                to_z += 1
                j += step_z
        if crossed >= SAMPLE:
            length += _slanted((at - sampled) * total, profile[cell] - height)
            sampled, height, crossed = at, profile[cell], 0
    return cell, 1.0, length + _slanted((1.0 - sampled) * total, profile[cell] - height)


@njit(cache=True, nogil=True)
def _slanted(way, rise):
    """The length of a slope."""
    return math.sqrt(way * way + rise * rise)


@njit(cache=True, nogil=True)
def _cell_at_height(first, profile, column, height):
    """The cell of a column nearest in height."""
    cell = first[column]
    for other in range(cell + 1, first[column + 1]):
        if abs(profile[other] - height) < abs(profile[cell] - height):
            cell = other
    return cell


@njit(cache=True, nogil=True)
def step(floor, cell, x0, z0, x1, z1, slide):
    """Where a step from (x0, z0) in ``cell`` to (x1, z1) ends: the cell and the position.

    Nothing in the way: exactly at (x1, z1). Otherwise at the border of the walkable ground or, with ``slide``, from
    there on to the place nearest to (x1, z1).
    """
    reached, fraction, _ = walk(floor.ground, cell, x0, z0, x1, z1)
    if fraction == 1.0:
        return reached, x1, z1
    x, z = _into(floor.column[reached], x0 + fraction * (x1 - x0), z0 + fraction * (z1 - z0))
    if slide:
        return _slide(floor, reached, x, z, x1, z1)
    return reached, x, z


@njit(cache=True, nogil=True)
def _into(column, x, z):
    """The point of a cell nearest to (x, z)."""
    i, j = float(column[0]), float(column[1])
    return min(max(x, i + MARGIN), i + 1 - MARGIN), min(max(z, j + MARGIN), j + 1 - MARGIN)


@njit(cache=True, nogil=True)
def _slide(floor, cell, x0, z0, x1, z1):
    """The reachable place nearest to (x1, z1) and no further from (x0, z0) than it.

    Along a straight wall that is the foot of the perpendicular. It lies on the circle over the segment (Thales), so the
    search floods a disc little larger, as Detour's ``moveAlongSurface`` does. The roughness of slanting walls, which
    are made of cells, is within its margin.
    """
    middle_x, middle_z = (x0 + x1) / 2, (z0 + z1) / 2
    length = math.hypot(x1 - x0, z1 - z0)
    radius = length / 2 + ROUGHNESS
    corner_i, corner_j = math.floor(middle_x - radius) - 1, math.floor(middle_z - radius) - 1
    side = math.ceil(2 * radius) + 4
    seen = np.zeros((side, side), np.bool_)
    queue = np.empty(side * side, np.int64)
    queue[0], head, tail = cell, 0, 1
    seen[floor.column[cell, 0] - corner_i, floor.column[cell, 1] - corner_j] = True
    best, best_x, best_z, nearest = cell, x0, z0, length
    while head < tail:
        q = queue[head]
        head += 1
        x, z = _into(floor.column[q], x1, z1)
        if math.hypot(x1 - x, z1 - z) < nearest and math.hypot(x - x0, z - z0) <= length:
            best, best_x, best_z, nearest = q, x, z, math.hypot(x1 - x, z1 - z)
        for d in range(4):
            r = floor.ground.around[q, 1 + d]
            if r < 0:
                continue
            x, z = _into(floor.column[r], middle_x, middle_z)
            i, j = floor.column[r, 0] - corner_i, floor.column[r, 1] - corner_j
            if math.hypot(x - middle_x, z - middle_z) <= radius and not seen[i, j]:
                seen[i, j] = True
                queue[tail] = r
                tail += 1
    return best, best_x, best_z
