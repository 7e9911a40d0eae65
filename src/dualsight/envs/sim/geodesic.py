"""Walking distances to a goal from everywhere on a floor, along taut any-angle paths.

A shortest path over ground with obstacles is a chain of straight walks that turns only at convex corners of
obstacles. So a place need only know its *root*: the last turning point, or goal, that it sees on its way. A wave runs
outwards from the goals in order of distance; each cell it passes offers its root to the cells and turning points
around it, which accept where they see that root and it is nearer than what they had. Where the view is blocked, the
corner that blocks it is where the path bends. This is Theta* (Nash et al., 2007) without a target, with roots at the
corners themselves instead of at cell centres, so the distances are lengths of real taut paths: never too short, and
hardly ever longer than the shortest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dualsight.envs.sim.walk import walk

if TYPE_CHECKING:
    from dualsight.envs.sim.navmesh import NavMesh

GAIN = 1e-4
"""An offer must be better by this much (in cells) to count."""

LEVEL = 0.1
"""A path gets a waypoint where the floor is this much (m) above or below the straight line between its neighbours."""


class UnreachableError(ValueError):
    """There is no way from a place to the goal."""


@dataclass(frozen=True)
class DistanceField:
    """How far it is to the nearest of some goals, from anywhere. Made by ``NavMesh.distance_field``."""

    mesh: NavMesh
    goal_cell: NDArray[np.int32]
    """(G,)"""
    goal: NDArray[np.float64]
    """(G, 2) x, z in cells."""
    cost: NDArray[np.float64]
    """(N + M + G,) distance of each cell, turning point and goal, in cells."""
    root: NDArray[np.int32]
    """(N + M + G,) the node that each walks straight to, -1 for goals and places without a way."""

    def distance(self, point) -> float:
        """Metres along the floor from ``point`` to the nearest goal; inf if there is no way.

        Raises:
            OffNavMeshError: ``point`` is not on the navmesh.
        """
        return self._nearest_root(point)[1] * self.mesh.shape.cell

    def path(self, point) -> NDArray[np.float64]:
        """The shortest path from ``point`` to a goal as waypoints (K, 3): turns, and ends of stairs.

        Raises:
            OffNavMeshError: ``point`` is not on the navmesh.
            UnreachableError: no goal can be reached from it.
        """
        node, distance = self._nearest_root(point)
        if math.isinf(distance):
            start = np.asarray(point, float).round(2).tolist()
            raise UnreachableError(f"no way leads from {start} to the goal: they lie on different islands")
        floor = self.mesh.floor
        places = np.concatenate([floor.node, self.goal])  # (N + M + G, 2)
        cells = np.concatenate([floor.node_cell, self.goal_cell])
        turns = [(self.mesh.cell_at(point), self.mesh.to_grid(point))]
        while node >= 0:
            turns.append((int(cells[node]), places[node]))
            node = self.root[node]
        waypoints = [self.mesh.to_world(*turns[0])]
        for (cell, start), (_, end) in pairwise(turns):
            waypoints += self._follow_floor(cell, start, end)
        return np.array(waypoints)

    def _nearest_root(self, point):
        cell = self.mesh.cell_at(point)
        x, z = self.mesh.to_grid(point)
        return nearest_root(self.mesh.floor, self.goal_cell, self.goal, self.cost, self.root, cell, x, z)

    def _follow_floor(self, cell, start, end):
        """The waypoints after ``start`` on the straight walk to ``end``: few enough, but none far off the floor."""
        floor = self.mesh.floor
        steps = 1 + int(np.hypot(*(end - start)) * self.mesh.shape.cell / 0.25)
        points = []
        for at in start + np.linspace(0, 1, steps + 1)[:, None] * (end - start):
            reached, _, _ = walk(floor.ground, cell, start[0], start[1], at[0], at[1])
            points.append(self.mesh.to_world(reached, at))
        return _simplify(np.array(points))[1:]


def _simplify(points):
    """The fewest of ``points`` (K, 3) on a straight line that keep its heights within ``LEVEL`` (Douglas-Peucker)."""
    chord = np.linspace(points[0, 1], points[-1, 1], len(points))
    off = np.abs(points[:, 1] - chord)
    worst = int(off.argmax())
    if off[worst] <= LEVEL:
        return [points[0], points[-1]]
    return _simplify(points[: worst + 1]) + _simplify(points[worst:])[1:]


@njit(cache=True, nogil=True)
def spread(floor, goal_cell, goal):
    """Distances from goals (G,) in cells ``goal_cell`` at places ``goal`` (G, 2).

    Returns:
        ``cost`` and ``root`` (N + M + G,) of every cell, turning point and goal: the distance in cells (inf where
        there is no way), and the node it walks straight to (-1 for goals and where there is no way).
    """
    n_cells, n = len(floor.column), len(floor.node) + len(goal)
    ground, around, first_turn = floor.ground, floor.ground.around, floor.first_turn
    place = np.concatenate((floor.node, goal))
    cell = np.concatenate((floor.node_cell, goal_cell))
    cost = np.full(n, math.inf)
    root = np.full(n, -1, np.int32)
    heap = np.zeros(n + 1, np.int32)  # nodes that have yet to make their offers; the last entry counts them
    slot = np.full(n, -1, np.int32)  # where a node is in the heap
    for g in range(len(floor.node), n):
        cost[g] = 0.0
        _rise(heap, slot, cost, g)
    while heap[-1] > 0:
        u = _take_first(heap, slot, cost)
        r = u if u >= n_cells else np.int64(root[u])
        for k in range(9):
            q = around[cell[u], k]
            if q < 0:
                continue
            for t in range(first_turn[q] - 1, first_turn[q + 1]):
                v = np.int64(q) if t < first_turn[q] else t  # the cell itself, then its turning points
                if cost[v] <= cost[u]:  # the wave has passed it
                    continue
                blocked = _offer(ground, place, cell, cost, root, heap, slot, v, r)
                if blocked < 0:
                    continue
                for b in range(9):
                    p = around[blocked, b]
                    if p >= 0:
                        for corner in range(first_turn[p], first_turn[p + 1]):
                            _offer(ground, place, cell, cost, root, heap, slot, v, corner)
                _offer(ground, place, cell, cost, root, heap, slot, v, u)
    return cost, root


@njit(cache=True, nogil=True, inline="always")
def _offer(ground, place, cell, cost, root, heap, slot, v, r):
    """Let node v walk straight to node r if it gains by it; returns the cell where the view is blocked, or -1."""
    dx, dz = place[r, 0] - place[v, 0], place[r, 1] - place[v, 1]
    blocked = -1
    if cost[r] + math.sqrt(dx * dx + dz * dz) < cost[v] - GAIN:
        reached, _, length = walk(ground, cell[v], place[v, 0], place[v, 1], place[r, 0], place[r, 1])
        if reached != cell[r]:
            blocked = reached
        elif cost[r] + length < cost[v] - GAIN:
            cost[v], root[v] = cost[r] + length, r
            _rise(heap, slot, cost, v)
    return blocked


@njit(cache=True, nogil=True)
def _rise(heap, slot, cost, v):
    """Put node v, new or with a lower cost than before, at its place in the heap."""
    i = slot[v]
    if i < 0:
        i = heap[-1]
        heap[-1] += 1
    while i > 0 and cost[heap[(i - 1) // 2]] > cost[v]:
        heap[i] = heap[(i - 1) // 2]
        slot[heap[i]] = i
        i = (i - 1) // 2
    heap[i], slot[v] = v, i


@njit(cache=True, nogil=True)
def _take_first(heap, slot, cost):
    """The node with the lowest cost, off the heap."""
    first = heap[0]
    slot[first] = -1
    heap[-1] -= 1
    size = heap[-1]
    if size == 0:
        return first
    v = heap[size]
    i = 0
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and cost[heap[child + 1]] < cost[heap[child]]:
            child += 1
        if cost[heap[child]] >= cost[v]:
            break
        heap[i] = heap[child]
        slot[heap[i]] = i
        i = child
    heap[i], slot[v] = v, i
    return first


@njit(cache=True, nogil=True)
def nearest_root(floor, goal_cell, goal, cost, root, cell, x, z):
    """The node that (x, z) in ``cell`` walks straight to, and the distance over it in cells.

    The roots of the cells around are tried, and the turning points and goals that lie in them; where none is seen, the
    way leads over the middle of the cell.
    """
    n = len(floor.node)
    best, nearest = np.int64(cell), cost[cell] + math.hypot(x - floor.node[cell, 0], z - floor.node[cell, 1])
    tried = -1
    for k in range(9):
        q = floor.ground.around[cell, k]
        if q < 0:
            continue
        for t in range(floor.first_turn[q] - 1, floor.first_turn[q + 1]):
            r = np.int64(root[q]) if t < floor.first_turn[q] else t
            if r < 0 or r == tried or cost[r] >= nearest:
                continue
            tried = r
            at = floor.node[r] if r < n else goal[r - n]
            at_cell = floor.node_cell[r] if r < n else goal_cell[r - n]
            reached, _, length = walk(floor.ground, cell, x, z, at[0], at[1])
            if reached == at_cell and cost[r] + length < nearest:
                best, nearest = r, cost[r] + length
    return best, nearest
