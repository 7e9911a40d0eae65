"""The walkable floor of a building as a graph of square cells, over any number of storeys.

A cell is a square of ground on which the middle of an agent may be. It is linked to the up to four cells beside it to
which the agent can step; two cells one above the other are simply not linked, so everything that walks along links
(straight walks, floods, distance fields) works across stairs without knowing of storeys.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dualsight.envs.sim.heightfield import DIRECTIONS

INSET = 1.0 / 1024
"""How far inside its cell (in cells) a turning point lies. A power of two, so sums of positions stay exact."""

SMOOTHING = 20
"""Rounds of averaging that turn steps into a ramp: a Gaussian of 0.14 m for cells of 5 cm."""


LEVEL = 0.02
"""A slope of the smoothed floor up to which it is level: the length of a path over it is right to 0.02 %."""


class Ground(NamedTuple):
    """What it takes to walk straight over cells; see ``walk.walk``."""

    around: NDArray[np.int32]
    """(N, 9) each cell, the cells beside it in each of ``DIRECTIONS``, and the four across a corner that are reached
    through one of those; or -1."""
    profile: NDArray[np.float32]
    """(N,) height in cells with the steps of stairs smoothed to a ramp: the length of a path is measured along it."""
    clear: NDArray[np.float32]
    """(N,) how many cells around a cell there is nothing but level ground."""
    first: NDArray[np.int32]
    """(nx * nz + 1,) the cells of column (i, j) are ``first[j * nx + i] : first[j * nx + i + 1]``, lowest first."""
    nx: int


class Floor(NamedTuple):
    """The cells (N) and what follows from them. Horizontal positions in cells from the grid's corner."""

    ground: Ground
    column: NDArray[np.int32]
    """(N, 2) i along X and j along Z."""
    height: NDArray[np.float64]
    """(N,) metres."""
    wall: NDArray[np.int32]
    """(N, 2) the nearest column that cannot be walked to."""
    island: NDArray[np.int32]
    """(N,) cells that can reach each other have the same number; 0 is the largest island."""
    node: NDArray[np.float64]
    """(N + M, 2) x, z of the middle of every cell, then of every turning point: the convex corners of obstacles, around
    which shortest paths bend."""
    node_cell: NDArray[np.int32]
    """(N + M,) the cell in which a node lies."""
    first_turn: NDArray[np.int32]
    """(N + 1,) the turning points of cell q are nodes ``first_turn[q] : first_turn[q + 1]``."""


def shrink(column, floor, ceiling, size, cell, radius, height, max_climb, min_area) -> Floor:
    """The part of the floors on which the middle of an agent with that radius may be, without specks of it.

    Args:
        column, floor, ceiling: as ``heightfield.find_floors`` returns them.
        size: columns along X and rows along Z. cell: metres.
        radius, height, max_climb: of the agent, metres.
        min_area: islands smaller than this (m2) are left out.
    """
    first = _first(column, size)
    link = _link(first, column, floor, ceiling, size[0], size[1], height, max_climb)
    gap = cell * _clearance(column, _nearest_wall(column, link, _around(link), np.zeros(len(column), bool)))
    column, floor, link = _keep(gap >= radius - 1e-9, column, floor, link)
    _, area = label_islands(link)
    kept = (area * cell**2 >= min_area)[label_islands(link)[0]]
    column, floor, link = _keep(kept, column, floor, link)
    return assemble(column, floor, link, size, cell)


def assemble(column, height, link, size, cell) -> Floor:
    """Everything that follows from the cells, their heights and their links."""
    around = _around(link)
    profile = _smooth(link, height / cell)
    slope = np.abs(profile[link] - profile[:, None]).max(axis=1, where=link >= 0, initial=0)
    level = _clearance(column, _nearest_wall(column, link, around, slope > LEVEL))
    turn_cell, turn = _turning_points(column, link)
    return Floor(
        ground=Ground(around, profile.astype(np.float32), level.astype(np.float32), _first(column, size), size[0]),
        column=column,
        height=height,
        wall=_nearest_wall(column, link, around, np.zeros(len(column), bool)),
        island=label_islands(link)[0],
        node=np.concatenate([column + 0.5, turn]),
        node_cell=np.concatenate([np.arange(len(column), dtype=np.int32), turn_cell]),
        first_turn=(len(column) + np.searchsorted(turn_cell, np.arange(len(column) + 1))).astype(np.int32),
    )


def label_islands(link) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Which cells reach each other: island number (N,), largest first, and the number of cells of each island."""
    label, count = _flood(link)
    area = np.bincount(label, minlength=count)
    order = np.argsort(-area, kind="stable")
    rank = np.empty(count, np.int32)
    rank[order] = np.arange(count)
    return rank[label], area[order]


def _first(column, size):
    """(nx * nz + 1,) where the cells of each column begin; cells are sorted by row, then column."""
    where = column[:, 1].astype(np.int64) * size[0] + column[:, 0]
    return np.searchsorted(where, np.arange(size[0] * size[1] + 1)).astype(np.int32)


def _clearance(column, wall):
    """(N,) how many cells there are between each cell and a wall (N, 2), from border to border."""
    return np.hypot(*np.maximum(np.abs(wall - column) - 1, 0).T)


def _keep(kept, column, floor, link):
    """Only the cells where ``kept`` (N,), with the links between them."""
    number = np.full(len(kept) + 1, -1, np.int32)  # the last entry is where links of -1 arrive
    number[:-1][kept] = np.arange(kept.sum())
    return column[kept], floor[kept], np.ascontiguousarray(number[link[kept]])


def _turning_points(column, link):
    """The convex corners of obstacles: cell (M,) and position (M, 2), sorted by cell.

    Corner k of a cell lies between its directions k and k + 1. It is one to turn at where both neighbours exist but do
    not share the cell across the corner. The point is moved into its cell by a hair, so it lies in one cell only.
    """
    cells, points = [], []
    for k in range(4):
        one, other = link[:, k], link[:, (k + 1) % 4]
        beyond_one, beyond_other = link[one, (k + 1) % 4], link[other, k]
        turning = (one >= 0) & (other >= 0) & ((beyond_one < 0) | (beyond_one != beyond_other))
        cells.append(np.flatnonzero(turning))
        points.append(column[turning] + 0.5 + (0.5 - INSET) * (DIRECTIONS[k] + DIRECTIONS[(k + 1) % 4]))
    cell = np.concatenate(cells).astype(np.int32)
    order = np.argsort(cell, kind="stable")
    return cell[order], np.concatenate(points)[order]


@njit(cache=True, nogil=True)
def _link(first, column, floor, ceiling, nx, nz, height, max_climb):
    """(N, 4) the cell beside each cell at the nearest height, where a body of ``height`` fits through and it is at most
    a climb away. Links that are not mutual are dropped."""
    link = np.full((len(column), 4), -1, np.int32)
    for q in range(len(column)):
        for d in range(4):
            i, j = column[q, 0] + DIRECTIONS[d, 0], column[q, 1] + DIRECTIONS[d, 1]
            if i < 0 or j < 0 or i >= nx or j >= nz:
                continue
            nearest = max_climb + 1e-3
            for r in range(first[j * nx + i], first[j * nx + i + 1]):
                fits = min(ceiling[q], ceiling[r]) - max(floor[q], floor[r]) >= height
                if fits and abs(floor[r] - floor[q]) <= nearest:
                    nearest = abs(floor[r] - floor[q])
                    link[q, d] = r
    for q in range(len(column)):
        for d in range(4):
            if link[q, d] >= 0 and link[link[q, d], (d + 2) % 4] != q:
                link[q, d] = -1
    return link


@njit(cache=True, nogil=True)
def _around(link):
    """(N, 9) each cell, its four neighbours and the four across its corners, -1 where there is none."""
    around = np.full((len(link), 9), -1, np.int32)
    for q in range(len(link)):
        around[q, 0] = q
        for d in range(4):
            turn = (d + 1) % 4
            around[q, 1 + d] = link[q, d]
            if link[q, d] >= 0:
                around[q, 5 + d] = link[link[q, d], turn]
            if around[q, 5 + d] < 0 and link[q, turn] >= 0:
                around[q, 5 + d] = link[link[q, turn], d]
    return around


@njit(cache=True, nogil=True)
def _nearest_wall(column, link, around, is_wall):
    """(N, 2) the nearest column that cannot be walked to, or whose cell counts as a wall (N,).

    Cells beside a wall know it; every cell offers the wall it knows to the cells around it until nobody gains.
    """
    n = len(column)
    wall = np.zeros((n, 2), np.int32)
    distance = np.full(n, np.iinfo(np.int64).max)
    queue, queued = np.empty(n, np.int64), np.zeros(n, np.bool_)
    head, size = 0, 0
    for q in range(n):
        for d in range(4):
            if link[q, d] < 0:
                wall[q], distance[q] = column[q] + DIRECTIONS[d], 1
        if is_wall[q]:
            wall[q], distance[q] = column[q], 0
        if distance[q] <= 1:
            queue[size], queued[q] = q, True
            size += 1
    while size > 0:
        q = queue[head]
        queued[q] = False
        head, size = (head + 1) % n, size - 1
        for k in range(1, 9):
            r = around[q, k]
            if r < 0:
                continue
            di, dj = np.int64(wall[q, 0] - column[r, 0]), np.int64(wall[q, 1] - column[r, 1])
            if di * di + dj * dj < distance[r]:
                distance[r] = di * di + dj * dj
                wall[r] = wall[q]
                if not queued[r]:
                    queue[(head + size) % n], queued[r] = r, True
                    size += 1
    return wall


@njit(cache=True, nogil=True)
def _flood(link):
    """Connected parts: label (N,) in order of their first cell, and their number."""
    label = np.full(len(link), -1, np.int32)
    stack = np.empty(len(link), np.int64)
    count = 0
    for seed in range(len(link)):
        if label[seed] >= 0:
            continue
        label[seed], stack[0], size = count, seed, 1
        while size > 0:
            size -= 1
            q = stack[size]
            for d in range(4):
                r = link[q, d]
                if r >= 0 and label[r] < 0:
                    label[r], stack[size] = count, r
                    size += 1
        count += 1
    return label, count


@njit(cache=True, nogil=True)
def _smooth(link, height):
    """Heights averaged with those of the linked cells, ``SMOOTHING`` times. A level floor stays as it is."""
    for _ in range(SMOOTHING):
        mean = np.empty_like(height)
        for q in range(len(height)):
            change = 0.0
            for d in range(4):
                if link[q, d] >= 0:
                    change += height[link[q, d]] - height[q]
            mean[q] = height[q] + change / 5
        height = mean
    return height
