"""A scene laid out for drawing: triangles in small neighbouring groups (meshlets), textures as mip pyramids."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dualsight.envs.sim import bvh
from dualsight.envs.sim.scene import Scene

MESHLET = 64
"""Triangles per meshlet at most: enough to pay for one visibility test, few enough to have a tight box."""
LARGEST_TEXTURE = 1024
LEVELS = 11
"""Mip levels of the largest texture, from 1024 down to 1 texel."""


class Packed(NamedTuple):
    """A scene for the drawing kernels: every meshlet (a leaf of ``tree``) owns its triangles and its vertices."""

    tree: bvh.Tree
    vertices: NDArray[np.float32]
    """(P, 3), a vertex once for every meshlet that uses it."""
    attributes: NDArray[np.float32]
    """(P, 5) u, v, red, green, blue light."""
    triangles: NDArray[np.int32]
    """(T, 3) into ``vertices``, in the order of the tree."""
    first_vertex: NDArray[np.int32]
    """(nodes + 1,) where a leaf's vertices begin."""
    material: NDArray[np.int32]
    """(T,)"""
    instance: NDArray[np.int32]
    """(T,)"""
    colors: NDArray[np.float32]
    """(M, 3) sRGB in 0..1."""
    texels: NDArray[np.uint32]
    """All mip levels of all textures, red in the lowest byte, rows from the bottom up."""
    offset: NDArray[np.int64]
    """(M, LEVELS) where a level begins in ``texels``."""
    log_size: NDArray[np.int32]
    """(M, 2) log2 of width and height of level 0."""


def pack(scene: Scene) -> Packed:
    """Lay out ``scene`` for drawing.

    Raises:
        ValueError: vertices that are not finite, or indices outside their arrays.
    """
    check(scene)
    corners = scene.vertices[scene.triangles]  # (T, 3, 3)
    tree = bvh.build(corners.min(axis=1), corners.max(axis=1), MESHLET)
    vertex, triangles, first_vertex = _meshlets(scene, tree)
    attributes = np.concatenate([scene.uv, scene.light], axis=1, dtype=np.float32)[vertex]
    texels, offset, log_size = _pyramids([m.texture for m in scene.materials])
    return Packed(
        tree=tree,
        vertices=scene.vertices[vertex].astype(np.float32),
        attributes=attributes,
        triangles=triangles,
        first_vertex=first_vertex,
        material=scene.material[tree.order].astype(np.int32),
        instance=scene.instance[tree.order].astype(np.int32),
        colors=np.array([m.color for m in scene.materials], np.float32).reshape(-1, 3),
        texels=texels,
        offset=offset,
        log_size=log_size,
    )


def check(scene: Scene) -> None:
    """Raise ValueError, naming the field, where ``scene`` cannot be drawn."""
    if len(scene.triangles) == 0:
        raise ValueError("the scene has no triangles; a renderer needs at least one")
    for name in ("vertices", "uv", "light"):
        values = getattr(scene, name)
        if len(values) != len(scene.vertices):
            raise ValueError(f"scene.{name} has {len(values)} rows for {len(scene.vertices)} vertices")
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise ValueError(
                f"scene.{name} is not finite at {bad.sum()} vertices (the first is vertex {bad.argmax()}); "
                "remove or repair them before rendering"
            )
    for name, limit in (("triangles", "vertices"), ("material", "materials"), ("instance", "instances")):
        values, size = getattr(scene, name), len(getattr(scene, limit))
        if values.min() < 0 or values.max() >= size:
            raise ValueError(f"scene.{name} holds {values.min()}..{values.max()}, but there are {size} {limit}")


def _meshlets(scene: Scene, tree: bvh.Tree) -> tuple[NDArray, NDArray, NDArray]:
    """Give every leaf its own vertices: (P,) scene vertex, (T, 3) triangles over P, (nodes + 1,) first vertex."""
    leaves = np.flatnonzero(tree.child < 0)
    leaf_of = np.empty(len(tree.order), np.int64)
    by_start = leaves[np.argsort(tree.first[leaves])]
    leaf_of[:] = np.repeat(by_start, tree.count[by_start])
    corners = scene.triangles[tree.order].astype(np.int64)  # (T, 3)
    keys, inverse = np.unique(leaf_of[:, None] * len(scene.vertices) + corners, return_inverse=True)
    owner, vertex = np.divmod(keys, len(scene.vertices))
    first_vertex = np.searchsorted(owner, np.arange(len(tree.child) + 1)).astype(np.int32)
    return vertex, inverse.reshape(-1, 3).astype(np.int32), first_vertex


def _pyramids(textures: list[NDArray[np.uint8] | None]) -> tuple[NDArray, NDArray, NDArray]:
    """Pack mip pyramids of all ``textures`` one after another; materials that share an array share a pyramid."""
    white = np.full((1, 1, 3), 255, np.uint8)
    levels: list[NDArray[np.uint32]] = []
    packed: dict[int, tuple[NDArray, NDArray]] = {}
    size = 0
    for texture in textures:
        if id(texture) in packed:
            continue
        image = _power_of_two(white if texture is None else texture)
        log_size = np.array([image.shape[1].bit_length() - 1, image.shape[0].bit_length() - 1], np.int32)
        offset = np.zeros(LEVELS, np.int64)
        for level in range(LEVELS):
            offset[level] = size
            words = image.astype(np.uint32)
            levels.append((words[..., 0] | words[..., 1] << 8 | words[..., 2] << 16).reshape(-1))
            size += levels[-1].size
            image = _halved(image)
        packed[id(texture)] = offset, log_size
    offsets, log_sizes = zip(*(packed[id(texture)] for texture in textures), strict=True)
    return np.concatenate(levels), np.stack(offsets), np.stack(log_sizes)


def _power_of_two(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``image`` bottom row first, its sides rounded to powers of two: texture coordinates then wrap with a bit mask."""
    height, width = (min(LARGEST_TEXTURE, 1 << round(np.log2(side))) for side in image.shape[:2])
    if (height, width) != image.shape[:2]:
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    return image[::-1]


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The next mip level: the rounded mean of 2x2 texels (2x1 where a side is 1 already, itself at 1x1)."""
    height, width = image.shape[:2]
    rows, columns = min(height, 2), min(width, 2)
    blocks = image.reshape(height // rows, rows, width // columns, columns, 3).astype(np.uint16)
    return ((blocks.sum(axis=(1, 3)) + rows * columns // 2) // (rows * columns)).astype(np.uint8)
