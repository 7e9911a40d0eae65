"""The colour, depth and instance of each pixel, once it is known which triangle it shows (deferred shading).

Texture coordinates and light are interpolated with perspective: with the edge functions ``e`` of ``visibility``, an
attribute ``f`` over depth is the plane ``(f0 e0 + f1 e1 + f2 e2) . d`` over pixels ``d = (x, y, 1)``, and ``f`` itself
is that times ``z``.

The mip level comes from the area of texture under a pixel. For ``u = U z``, ``v = V z``, ``1 / z = S`` with planes
U, V, S, the Jacobian of (u, v) by (x, y) is ``det(U, V, S) z^3``: one determinant per triangle, no derivatives.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from dualsight.envs.sim.packing import LEVELS
from dualsight.envs.sim.visibility import cross, to_camera

BACKGROUND = (178, 204, 229)
"""The sky, where nothing is drawn."""
SPAN = 16
"""Pixels of a row that share one mip level at most."""
CACHED = 512
"""Triangles whose planes are kept while an image is shaded: a triangle is met again in its next rows."""


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
    planes = np.empty((CACHED, 19))
    owner = np.full(CACHED, -1, np.int32)
    for y in range(height):
        end = 0
        while end < width:
            start, triangle = end, shown[y, end]
            while end < width and end - start < SPAN and shown[y, end] == triangle:
                end += 1
            if triangle < 0:
                _shade_sky(y, start, end, rgb, depth, instances)
                continue
            slot = triangle % CACHED
            if owner[slot] != triangle:
                owner[slot] = triangle
                _set_up(scene, triangle, view, planes, slot)
            material, instance = scene.material[triangle], scene.instance[triangle]
            log_width, log_height = scene.log_size[material, 0], scene.log_size[material, 1]
            level = _level(planes, slot, log_width + log_height, (start + end - 1) / 2, y)
            texture = scene.offset[material, level], max(log_width - level, 0), max(log_height - level, 0)
            _shade_span(planes, slot, scene.texels, texture, y, start, end, rgb, depth)
            for x in range(start, end):
                instances[y, x] = instance


@njit(cache=True, nogil=True)
def _shade_sky(y, start, end, rgb, depth, instances):
    for x in range(start, end):
        rgb[y, x, 0], rgb[y, x, 1], rgb[y, x, 2] = BACKGROUND
        depth[y, x] = 0
        instances[y, x] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _set_up(scene, triangle, view, planes, slot):
    """Write a triangle's planes over depth, three numbers (by x, by y, constant) each: one, u, v, red, green, blue
    light times the material's colour; and last the Jacobian of (u, v) over depth cubed."""
    ia, ib, ic = scene.triangles[triangle, 0], scene.triangles[triangle, 1], scene.triangles[triangle, 2]
    a, b, c = (
        to_camera(view, scene.vertices, ia),
        to_camera(view, scene.vertices, ib),
        to_camera(view, scene.vertices, ic),
    )
    e0, e1, e2 = cross(b, c), cross(c, a), cross(a, b)
    over = 1 / (a[0] * e0[0] + a[1] * e0[1] + a[2] * e0[2])
    p = planes[slot]
    for k in range(3):
        p[k] = (e0[k] + e1[k] + e2[k]) * over
    for f in range(5):
        scale = over if f < 2 else over * scene.colors[scene.material[triangle], f - 2]
        fa, fb, fc = scene.attributes[ia, f], scene.attributes[ib, f], scene.attributes[ic, f]
        for k in range(3):
            p[3 + 3 * f + k] = (e0[k] * fa + e1[k] * fb + e2[k] * fc) * scale
    u_cross_v = cross((p[3], p[4], p[5]), (p[6], p[7], p[8]))
    p[18] = abs(p[0] * u_cross_v[0] + p[1] * u_cross_v[1] + p[2] * u_cross_v[2])


@njit(cache=True, nogil=True, error_model="numpy")
def _level(planes, slot, log_texels, x, y):
    """The mip level at which a pixel covers between 1/2 and 2 texels."""
    z = 1 / (planes[slot, 0] * x + planes[slot, 1] * y + planes[slot, 2])
    texels = planes[slot, 18] * z * z * z * (1 << log_texels)
    level = 0
    while texels > 2 and level < LEVELS - 1:
        texels *= 0.25
        level += 1
    return level


@njit(cache=True, nogil=True, error_model="numpy")
def _shade_span(planes, slot, texels, texture, y, start, end, rgb, depth):
    """Colour and depth of pixels ``start`` to ``end`` of row ``y``, which show one triangle, from one mip level."""
    s_x, s_1 = _along_row(planes, slot, 0, y)
    u_x, u_1 = _along_row(planes, slot, 3, y)
    v_x, v_1 = _along_row(planes, slot, 6, y)
    r_x, r_1 = _along_row(planes, slot, 9, y)
    g_x, g_1 = _along_row(planes, slot, 12, y)
    b_x, b_1 = _along_row(planes, slot, 15, y)
    offset, log_width, log_height = texture
    right, top = (1 << log_width) - 1, (1 << log_height) - 1
    wide, high = 64.0 * (1 << log_width), 64.0 * (1 << log_height)  # six bits of fraction
    for x in range(start, end):
        z = 1 / (s_x * x + s_1)
        depth[y, x] = z
        i = math.floor((u_x * x + u_1) * z * wide - 32)
        j = math.floor((v_x * x + v_1) * z * high - 32)
        i0, i1 = i >> 6 & right, (i >> 6) + 1 & right
        below = offset + ((j >> 6 & top) << log_width)
        above = offset + (((j >> 6) + 1 & top) << log_width)
        fx, fy = i & 63, j & 63
        total = (
            _lanes(texels[below + i0]) * ((64 - fx) * (64 - fy))
            + _lanes(texels[below + i1]) * (fx * (64 - fy))
            + _lanes(texels[above + i0]) * ((64 - fx) * fy)
            + _lanes(texels[above + i1]) * (fx * fy)
        )
        rgb[y, x, 0] = _lit(total & 0xFFFFF, (r_x * x + r_1) * z)
        rgb[y, x, 1] = _lit(total >> 20 & 0xFFFFF, (g_x * x + g_1) * z)
        rgb[y, x, 2] = _lit(total >> 40, (b_x * x + b_1) * z)


@njit(cache=True, nogil=True, inline="always")
def _along_row(planes, slot, f, y):
    return planes[slot, f], planes[slot, f + 1] * y + planes[slot, f + 2]


@njit(cache=True, nogil=True, inline="always")
def _lanes(texel):
    """Red, green and blue 20 bits apart: 8 bits of colour and 12 of weight, so one product weighs all three."""
    word = np.int64(texel)
    return word & 0xFF | (word & 0xFF00) << 12 | (word & 0xFF0000) << 24


@njit(cache=True, nogil=True, inline="always")
def _lit(color, light):
    """A weighed colour (0 to 255 * 4096) under ``light``, as a byte."""
    return np.uint8(min(max(color * light * (1 / 4096), 0.0), 255.0) + 0.5)
