"""Geometry for the furniture pack: scale, weld, what can be seen, texture coordinates, creases, occlusion."""

from __future__ import annotations

import numpy as np
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from wavefront import Mesh

CREASE = np.cos(np.radians(40))
"""Triangles that meet at a sharper angle do not share a vertex, so that light breaks there."""
WELD = 0.0005
"""Vertices closer than this share of the diagonal become one."""
SAMPLES = np.array([[1, 1, 1], [6, 1, 1], [1, 6, 1], [1, 1, 6], [4, 4, 1], [4, 1, 4], [1, 4, 4]], float) / np.array(
    [[3], [8], [8], [8], [9], [9], [9]]
)
"""Barycentric places at which a triangle is looked at: its middle, near its corners and its edges."""
SEEN = 0.02
"""Triangles from which fewer rays get away on both sides are inside the piece."""


def to_metres(vertices: NDArray, width: float, height: float, depth: float) -> NDArray:
    """Scale to the catalogue's size; the footprint is centred at the origin and the lowest point is at y = 0."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    vertices = (vertices - (low + high) / 2) * (np.array([width, height, depth]) / (high - low))
    return vertices + np.array([0, height / 2, 0])


def areas(vertices: NDArray, triangles: NDArray) -> NDArray:
    """(T,) areas."""
    a, b, c = vertices[triangles].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def normals(vertices: NDArray, triangles: NDArray) -> NDArray:
    """(T, 3) unit normals."""
    a, b, c = vertices[triangles].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)


def directions(count: int) -> NDArray:
    """(count, 3) unit vectors spread evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def escapes(vertices: NDArray, triangles: NDArray, origins: NDArray, normal: NDArray, rays: int) -> NDArray:
    """(N,) share, weighted by the cosine, of the rays from the side of ``normal`` that leave the piece."""
    scene = EmbreeScene()
    TriangleMesh(scene, vertices[triangles].astype(np.float32))
    open_, total = np.zeros(len(origins)), np.zeros(len(origins))
    start = (origins + 3e-4 * normal).astype(np.float32)
    for direction in directions(rays):
        cosine = np.maximum(normal @ direction, 0)
        hit = scene.run(start, np.tile(direction.astype(np.float32), (len(origins), 1)), query="OCCLUDED")
        open_ += cosine * (hit < 0)
        total += cosine
    return open_ / np.maximum(total, 1e-9)


def visible(vertices: NDArray, triangles: NDArray) -> NDArray:
    """(T,) can some part of a triangle be seen from outside, from either side?"""
    seen = np.zeros(len(triangles), bool)
    for weights in SAMPLES:
        unseen = np.flatnonzero(~seen)
        seen[unseen] = sides(vertices, triangles, unseen, weights, 32).max(axis=0) > SEEN
    return seen


def outward(vertices: NDArray, triangles: NDArray) -> NDArray:
    """(T, 3) the triangles, each turned so that its front is the side that sees more of the world.

    A sheet sees as much from both sides: its front is then the side that looks up or to the front of the piece.
    """
    front, back = sides(vertices, triangles, np.arange(len(triangles)), SAMPLES[0], 128)
    towards = normals(vertices, triangles) @ np.array([0.0, 0.6, 0.8])
    return np.where((front - back + 0.1 * towards < 0)[:, None], triangles[:, ::-1], triangles)


def sides(vertices: NDArray, triangles: NDArray, which: NDArray, weights: NDArray, rays: int) -> NDArray:
    """(2, N) share of the rays that leave the piece from the front and the back of one point of some triangles."""
    corners, normal = vertices[triangles[which]], normals(vertices, triangles[which])
    points = np.einsum("k,tkc->tc", weights, corners)
    return np.array([escapes(vertices, triangles, points, side * normal, rays) for side in (1, -1)])


def weld(vertices: NDArray, triangles: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Merge vertices closer than ``WELD`` of the piece's diagonal, and so the two sheets of a thin wall.

    Returns:
        vertices, the triangles that are left (three corners, each set of corners once), and their old indices.
    """
    tolerance = WELD * np.linalg.norm(np.ptp(vertices, axis=0))
    places, inverse = np.unique(np.round(vertices, 5), axis=0, return_inverse=True)
    leader = np.full(len(places), -1)
    for v, near in enumerate(cKDTree(places).query_ball_point(places, tolerance)):
        if leader[v] < 0:
            free = [w for w in near if leader[w] < 0]
            leader[free] = v
    triangles = leader[inverse.ravel()][triangles]
    proper = np.flatnonzero((triangles != np.roll(triangles, 1, axis=1)).all(axis=1))
    _, first = np.unique(np.sort(triangles[proper], axis=1), axis=0, return_index=True)
    kept = proper[np.sort(first)]
    used, renamed = np.unique(triangles[kept], return_inverse=True)
    return places[used], renamed.reshape(-1, 3), kept


def transfer_uv(mesh: Mesh, vertices: NDArray, triangles: NDArray) -> NDArray:
    """(T, 3, 2) texture coordinates of new triangles on the surface of ``mesh``.

    A corner takes the coordinates of the nearest point of the old surface that faces the same way, sought slightly
    inside its triangle so that it lands on the right side of a texture seam.
    """
    corners = vertices[triangles]
    points = (corners + 0.05 * (corners.mean(axis=1, keepdims=True) - corners)).reshape(-1, 3)
    facing = np.repeat(normals(vertices, triangles), 3, axis=0)
    old = mesh.vertices[mesh.triangles]  # (S, 3, 3)
    count = min(len(old), 200)
    _, near = cKDTree(old.mean(axis=1)).query(points, count)
    near = near.reshape(len(points), count)
    foot = trimesh.triangles.closest_point(old[near].reshape(-1, 3, 3), np.repeat(points, count, axis=0))
    distance = np.linalg.norm(foot.reshape(len(points), count, 3) - points[:, None], axis=2)
    agreement = np.einsum("nkc,nc->nk", normals(mesh.vertices, mesh.triangles)[near], facing)
    distance += np.where(np.abs(agreement) > 0.5, 0.0, 0.1)
    best = distance.argmin(axis=1)
    source = near[np.arange(len(points)), best]
    foot = foot.reshape(len(points), count, 3)[np.arange(len(points)), best]
    weights = trimesh.triangles.points_to_barycentric(old[source], foot)
    return np.einsum("nk,nkc->nc", weights, mesh.uv[mesh.uv_triangles[source]]).reshape(-1, 3, 2)


def split_at_creases(vertices: NDArray, triangles: NDArray, material: NDArray, uv: NDArray):
    """Give every vertex one smooth patch, one material and one pair of texture coordinates.

    Around a place, triangles are gathered into groups in which each is within ``CREASE`` of the group's first.

    Returns:
        vertices (V', 3), uv (V', 2), normals (V', 3), triangles (T, 3).
    """
    flat, size = normals(vertices, triangles), areas(vertices, triangles)
    leaders: dict[tuple, list[tuple[int, int]]] = {}  # (place, material, uv) -> [(first triangle, new vertex)]
    place, coordinates, renamed = [], [], np.empty_like(triangles)
    summed: list[NDArray] = []
    for t, corner in enumerate(triangles):
        for k, v in enumerate(corner):
            key = (v, material[t], *np.round(uv[t, k], 3))
            candidates = leaders.setdefault(key, [])
            new = next((new for first, new in candidates if flat[first] @ flat[t] > CREASE), len(place))
            if new == len(place):
                candidates.append((t, new))
                place.append(v)
                coordinates.append(uv[t, k])
                summed.append(np.zeros(3))
            summed[new] += size[t] * flat[t]
            renamed[t, k] = new
    normal = np.array(summed)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    return vertices[place], np.array(coordinates), normal, renamed


def ambient_occlusion(vertices: NDArray, triangles: NDArray, normal: NDArray, on_floor: bool) -> NDArray:
    """(V,) 1 where the sky above a vertex is open, 0 where it is hidden; a floor at y = 0 hides what is below it."""
    if on_floor:
        low, high = vertices.min(axis=0) - 2, vertices.max(axis=0) + 2
        floor = [[low[0], -1e-3, low[2]], [high[0], -1e-3, low[2]], [high[0], -1e-3, high[2]], [low[0], -1e-3, high[2]]]
        base = len(vertices)
        solid = np.concatenate([vertices, floor])
        triangles = np.concatenate([triangles, [[base, base + 1, base + 2], [base, base + 2, base + 3]]])
    else:
        solid = vertices
    return escapes(solid, triangles, vertices, normal, 256)
