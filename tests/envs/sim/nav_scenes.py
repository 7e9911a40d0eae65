"""Small buildings out of boxes, for the tests of navigation."""

import numpy as np


def box(low, high):
    """Vertices (8, 3) and triangles (12, 3) of an axis-aligned box, counter-clockwise seen from outside."""
    corners = np.array([low, high], float)
    vertices = np.array([[corners[i, 0], corners[j, 1], corners[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return vertices, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def ramp(x0, x1, y0, y1, z0, z1):
    """A sloping surface, facing up, from height y0 at x0 to y1 at x1."""
    vertices = np.array([[x0, y0, z0], [x0, y0, z1], [x1, y1, z1], [x1, y1, z0]], float)
    return vertices, np.array([(0, 1, 2), (0, 2, 3)])


def turned(part, angle):
    """The same part turned by ``angle`` radians to the left about the Y axis."""
    vertices, triangles = part
    c, s = np.cos(angle), np.sin(angle)
    return vertices @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T, triangles


def join(*parts):
    """One mesh of several."""
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
    triangles = [triangles + offset for (_, triangles), offset in zip(parts, offsets, strict=True)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(triangles)


def slab(x0, x1, z0, z1, y=0.0):
    """A floor, 10 cm thick, with its top at height y."""
    return box((x0, y - 0.1, z0), (x1, y, z1))


def wall(x0, x1, z0, z1, y=0.0, height=2.5):
    """A block that stands on the floor."""
    return box((x0, y, z0), (x1, y + height, z1))


def room(x0, x1, z0, z1, y=0.0):
    """A floor with walls around it, 10 cm thick, outside of it."""
    return join(
        slab(x0 - 0.1, x1 + 0.1, z0 - 0.1, z1 + 0.1, y),
        wall(x0 - 0.1, x0, z0 - 0.1, z1 + 0.1, y),
        wall(x1, x1 + 0.1, z0 - 0.1, z1 + 0.1, y),
        wall(x0 - 0.1, x1 + 0.1, z0 - 0.1, z0, y),
        wall(x0 - 0.1, x1 + 0.1, z1, z1 + 0.1, y),
    )


def stairs(x0, x1, y0, y1, z0, z1, steps):
    """Solid steps up along +X: the first tread is one rise above y0, the last one at y1."""
    run, rise = (x1 - x0) / steps, (y1 - y0) / steps
    return join(*(box((x0 + k * run, y0, z0), (x0 + (k + 1) * run, y0 + (k + 1) * rise, z1)) for k in range(steps)))
