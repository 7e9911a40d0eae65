"""A bounding volume hierarchy over axis-aligned boxes: for the rasteriser's culling and for rays of light."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

BINS = 16


class Tree(NamedTuple):
    """A binary tree of N nodes; node 0 is the root. Items are reached through ``order``."""

    low: NDArray[np.float32]
    """(N, 3) lowest corner of a node's box."""
    high: NDArray[np.float32]
    """(N, 3) highest corner."""
    child: NDArray[np.int32]
    """(N,) index of the first of two neighbouring children, or -1 for a leaf."""
    first: NDArray[np.int32]
    """(N,) where the node's items begin in ``order``."""
    count: NDArray[np.int32]
    """(N,) how many items it holds."""
    order: NDArray[np.int32]
    """(items,) the items, each node's next to one another."""


def build(low: NDArray[np.float32], high: NDArray[np.float32], leaf_size: int) -> Tree:
    """The tree over boxes ``low``, ``high`` (n, 3), n >= 1, split by the surface area heuristic until at most
    ``leaf_size`` boxes share a leaf (Wald, "On fast construction of SAH-based bounding volume hierarchies", 2007)."""
    if len(low) == 0:
        raise ValueError("a bounding volume hierarchy needs at least one box, got none")
    return Tree(*_build(np.ascontiguousarray(low), np.ascontiguousarray(high), leaf_size))


@njit(cache=True, nogil=True, error_model="numpy")
def _build(low, high, leaf_size):
    items = len(low)
    centre = low + high  # twice the centre: only its order matters
    order = np.arange(items).astype(np.int32)
    node_low = np.empty((2 * items, 3), np.float32)
    node_high = np.empty((2 * items, 3), np.float32)
    child = np.full(2 * items, -1, np.int32)
    first = np.zeros(2 * items, np.int32)
    count = np.zeros(2 * items, np.int32)
    count[0] = items
    nodes = 1
    node = 0
    while node < nodes:  # children are appended behind: breadth first
        start, end = first[node], first[node] + count[node]
        _bound(low, high, order, start, end, node_low[node], node_high[node])
        if count[node] > leaf_size:
            middle = _split(low, high, centre, order, start, end)
            child[node] = nodes
            first[nodes], count[nodes] = start, middle - start
            first[nodes + 1], count[nodes + 1] = middle, end - middle
            nodes += 2
        node += 1
    return node_low[:nodes], node_high[:nodes], child[:nodes], first[:nodes], count[:nodes], order


@njit(cache=True, nogil=True)
def _bound(low, high, order, start, end, box_low, box_high):
    """Write the box around ``order[start:end]``."""
    box_low[:] = np.inf
    box_high[:] = -np.inf
    for i in range(start, end):
        item = order[i]
        for axis in range(3):
            box_low[axis] = min(box_low[axis], low[item, axis])
            box_high[axis] = max(box_high[axis], high[item, axis])


@njit(cache=True, nogil=True, error_model="numpy")
def _split(low, high, centre, order, start, end):
    """Reorder ``order[start:end]`` about the cheapest plane across its longest axis; return where the other half is."""
    c_low, c_high = np.empty(3, np.float32), np.empty(3, np.float32)
    _bound(centre, centre, order, start, end, c_low, c_high)
    axis = np.argmax(c_high - c_low)
    extent = c_high[axis] - c_low[axis]
    if not extent > 0:
        return (start + end) // 2
    scale = np.float32(BINS * 0.9999) / extent
    plane = _cheapest_plane(low, high, centre, order, start, end, axis, c_low[axis], scale)
    left, right = start, end - 1
    while left <= right:
        item = order[left]
        if int((centre[item, axis] - c_low[axis]) * scale) < plane:
            left += 1
        else:
            order[left], order[right] = order[right], item
            right -= 1
    return left


@njit(cache=True, nogil=True)
def _cheapest_plane(low, high, centre, order, start, end, axis, origin, scale):
    """The bin border b in 1..BINS-1 with the least area(left) * n(left) + area(right) * n(right), both filled."""
    counts = np.zeros(BINS, np.int64)
    bin_low = np.full((BINS, 3), np.inf, np.float32)
    bin_high = np.full((BINS, 3), -np.inf, np.float32)
    for i in range(start, end):
        item = order[i]
        b = int((centre[item, axis] - origin) * scale)
        counts[b] += 1
        for k in range(3):
            bin_low[b, k] = min(bin_low[b, k], low[item, k])
            bin_high[b, k] = max(bin_high[b, k], high[item, k])
    cost = np.zeros(BINS, np.float64)
    for backward in range(2):
        n = 0
        sweep_low, sweep_high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
        for step in range(BINS - 1):
            b = BINS - 1 - step if backward else step
            n += counts[b]
            for k in range(3):
                sweep_low[k] = min(sweep_low[k], bin_low[b, k])
                sweep_high[k] = max(sweep_high[k], bin_high[b, k])
            border = b if backward else b + 1
            if n == 0:
                cost[border] = np.inf
            else:
                size = sweep_high - sweep_low
                cost[border] += n * (size[0] * size[1] + size[1] * size[2] + size[2] * size[0])
    return 1 + np.argmin(cost[1:])
