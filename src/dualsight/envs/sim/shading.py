"""The colour, depth and instance of each pixel, once it is known which triangle it shows (deferred shading).

Texture coordinates and light are interpolated with perspective: with the edge functions ``e`` of ``visibility``, an
attribute ``f`` over depth is the plane ``(f0 e0 + f1 e1 + f2 e2) . d``, and ``f`` itself is that times ``z``.

The mip level comes from the area of texture under a pixel. For ``u = U z``, ``v = V z``, ``1 / z = S`` with planes
U, V, S, the Jacobian of (u, v) by (x, y) is ``det(U, V, S) z^3``: one determinant per triangle, no derivatives per pixel.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from dualsight.envs.sim.packing import LEVELS

BACKGROUND = (178, 204, 229)
"""The sky, where nothing is drawn."""


@njit(cache=True, nogil=True, error_model="numpy")
def shade(scene, view, shown, rgb, depth, instances):
    """Fill the three images.

    Args:
        scene: ``Packed``.
        view: (3, 4) float64, as for ``visibility.rasterise``.
        shown: (H, W) the triangle each pixel shows, -1 for nothing.
        rgb, depth, instances: (H, W, 3) uint8, (H, W) float32, (H, W) int32, overwritten.
    """
    height, width = shown.shape
    planes = np.empty((6, 3))  # over depth: one, u, v, red, green, blue; by x, by y, constant
    current = -1
    density = 0.0
    material = 0
    level, level_area = 0, 1.0  # of the mip pyramid; 4 ** level texels of level 0 make one of it
    for y in range(height):
        for x in range(width):
            triangle = shown[y, x]
            if triangle < 0:
                rgb[y, x, 0], rgb[y, x, 1], rgb[y, x, 2] = BACKGROUND
                depth[y, x] = 0
                instances[y, x] = 0
                continue
            if triangle != current:
                current = triangle
                material = scene.material[triangle]
                density = _set_up(scene, triangle, view, planes)
            z = 1 / (planes[0, 0] * x + planes[0, 1] * y + planes[0, 2])
            depth[y, x] = z
            instances[y, x] = scene.instance[triangle]
            u = (planes[1, 0] * x + planes[1, 1] * y + planes[1, 2]) * z
            v = (planes[2, 0] * x + planes[2, 1] * y + planes[2, 2]) * z
            texels_per_pixel = density * z * z * z
            # the level changes little from pixel to pixel: step from the last one
            while level < LEVELS - 1 and texels_per_pixel >= 4 * level_area:
                level, level_area = level + 1, 4 * level_area
            while level > 0 and texels_per_pixel < level_area:
                level, level_area = level - 1, level_area / 4
            red, green, blue = _sample(scene, material, level, u, v)
            if level < LEVELS - 1 and texels_per_pixel > 1:
                share = min(1.0, (texels_per_pixel / level_area - 1) / 3)
                red1, green1, blue1 = _sample(scene, material, level + 1, u, v)
                red += share * (red1 - red)
                green += share * (green1 - green)
                blue += share * (blue1 - blue)
            rgb[y, x, 0] = _byte(red * (planes[3, 0] * x + planes[3, 1] * y + planes[3, 2]) * z)
            rgb[y, x, 1] = _byte(green * (planes[4, 0] * x + planes[4, 1] * y + planes[4, 2]) * z)
            rgb[y, x, 2] = _byte(blue * (planes[5, 0] * x + planes[5, 1] * y + planes[5, 2]) * z)


@njit(cache=True, nogil=True, error_model="numpy")
def _set_up(scene, triangle, view, planes):
    """Write the attribute planes of a triangle; return its texels per pixel of area, over depth cubed."""
    corner = scene.triangles[triangle]
    material = scene.material[triangle]
    points = np.empty((3, 3))
    for i in range(3):
        vertex = scene.vertices[corner[i]]
        for k in range(3):
            points[i, k] = view[k, 0] * vertex[0] + view[k, 1] * vertex[1] + view[k, 2] * vertex[2] + view[k, 3]
    planes[:] = 0
    det = 0.0
    for i in range(3):
        p, q = points[(i + 1) % 3], points[(i + 2) % 3]
        edge = p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]
        for k in range(3):
            planes[0, k] += edge[k]
            for f in range(5):
                planes[1 + f, k] += edge[k] * scene.attributes[corner[i], f]
        if i == 0:
            det = points[0, 0] * edge[0] + points[0, 1] * edge[1] + points[0, 2] * edge[2]
    planes /= det
    for f in range(3):
        planes[3 + f] *= scene.colors[material, f]
    one, u, v = planes[0], planes[1], planes[2]
    jacobian = (
        one[0] * (u[1] * v[2] - u[2] * v[1]) + one[1] * (u[2] * v[0] - u[0] * v[2]) + one[2] * (u[0] * v[1] - u[1] * v[0])
    )
    return abs(jacobian) * (1 << scene.log_size[material, 0]) * (1 << scene.log_size[material, 1])


@njit(cache=True, nogil=True)
def _sample(scene, material, level, u, v):
    """Bilinear texture colour (0..255 each) at texture coordinates ``u``, ``v``, repeating."""
    log_width = max(0, scene.log_size[material, 0] - level)
    width, height = 1 << log_width, 1 << max(0, scene.log_size[material, 1] - level)
    x = math.floor((u * width - 0.5) * 64)  # six bits of fraction
    y = math.floor((v * height - 0.5) * 64)
    x0, y0 = (x >> 6) & (width - 1), (y >> 6) & (height - 1)
    x1, y1 = (x0 + 1) & (width - 1), (y0 + 1) & (height - 1)
    fx, fy = x & 63, y & 63
    texels, start = scene.texels, scene.offset[material, level]
    below, above = start + (y0 << log_width), start + (y1 << log_width)
    total = (
        _lanes(texels[below + x0]) * ((64 - fx) * (64 - fy))
        + _lanes(texels[below + x1]) * (fx * (64 - fy))
        + _lanes(texels[above + x0]) * ((64 - fx) * fy)
        + _lanes(texels[above + x1]) * (fx * fy)
    )
    return (total & 0xFFFFF) / 4096, (total >> 20 & 0xFFFFF) / 4096, (total >> 40) / 4096


@njit(cache=True, nogil=True, inline="always")
def _lanes(texel):
    """Red, green and blue 20 bits apart: 8 bits of colour and 12 of weight, so one product weighs all three."""
    word = np.int64(texel)
    return word & 0xFF | (word & 0xFF00) << 12 | (word & 0xFF0000) << 24


@njit(cache=True, nogil=True, inline="always")
def _byte(value):
    return np.uint8(min(max(value, 0.0), 255.0) + 0.5)
