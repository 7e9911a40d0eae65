"""A house made by hand, so that what is true of a route can be read off its drawing.

z=-5 +---------+---------+---------+
     | bedroom | office  | bathroom|      north is -Z: heading 0
     |   0     |   1     |   2     |
z=-1 +--d01----+--d02----+--d03----+
     |            hall 3           |
z=+1 +----d04------+------d05------+
     | living room |    kitchen    |
     |     4      ===      5       |      === an opening 2 m wide
z=+5 +-------------+---------------+
    x=0            4               8
"""

from __future__ import annotations

import functools

import numpy as np

from dualsight.envs.sim.building import Door, House, Room, Thing
from dualsight.envs.sim.navmesh import NavMesh
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.scene import NOTHING, Instance, Material, Scene

BEDROOM, OFFICE, BATHROOM, HALL, LIVING, KITCHEN = range(6)
ROOMS = [
    Room(BEDROOM, "bedroom", 0, 0.0, 0.0, -5.0, 2.6, -1.1, "wooden floor"),
    Room(OFFICE, "office", 0, 0.0, 2.7, -5.0, 5.3, -1.1, "grey carpet"),
    Room(BATHROOM, "bathroom", 0, 0.0, 5.4, -5.0, 8.0, -1.1, "white tiles"),
    Room(HALL, "hall", 0, 0.0, 0.0, -1.0, 8.0, 1.0, "wooden floor"),
    Room(LIVING, "living room", 0, 0.0, 0.0, 1.1, 3.95, 5.0, "wooden floor"),
    Room(KITCHEN, "kitchen", 0, 0.0, 4.05, 1.1, 8.0, 5.0, "white tiles"),
]
DOORS = [
    Door(np.array([1.3, 0.0, -1.05]), (BEDROOM, HALL), 0.9, "z"),
    Door(np.array([4.0, 0.0, -1.05]), (OFFICE, HALL), 0.9, "z"),
    Door(np.array([6.7, 0.0, -1.05]), (BATHROOM, HALL), 0.9, "z"),
    Door(np.array([2.0, 0.0, 1.05]), (LIVING, HALL), 0.9, "z"),
    Door(np.array([6.0, 0.0, 1.05]), (KITCHEN, HALL), 0.9, "z"),
    Door(np.array([4.0, 0.0, 3.0]), (LIVING, KITCHEN), 2.0, "x"),
]
FURNITURE = [  # category, colour, room, x, z, size
    ("bed", "white", BEDROOM, 0.6, -4.2, (1.2, 0.6, 1.6)),
    ("chair", "red", BEDROOM, 2.3, -4.7, (0.5, 0.9, 0.5)),
    ("desk", "brown", OFFICE, 4.0, -4.6, (1.4, 0.8, 0.7)),
    ("bathtub", "white", BATHROOM, 6.7, -4.6, (1.6, 0.6, 0.7)),
    ("plant", "", HALL, 7.7, 0.0, (0.4, 1.2, 0.4)),
    ("bench", "blue", HALL, 4.0, 0.8, (1.0, 0.5, 0.3)),
    ("sofa", "red", LIVING, 0.5, 3.5, (0.8, 0.8, 1.8)),
    ("chair", "green", LIVING, 2.2, 4.7, (0.5, 0.9, 0.5)),
    ("chair", "green", LIVING, 3.2, 4.7, (0.5, 0.9, 0.5)),
    ("fridge", "white", KITCHEN, 7.6, 4.6, (0.7, 1.9, 0.7)),
    ("table", "brown", KITCHEN, 6.0, 3.6, (1.0, 0.8, 0.8)),
]
WALL = Instance("wall")
HEIGHT = 2.5


@functools.cache
def corridor_house() -> House:
    """The house of the drawing."""
    boxes: list[tuple[tuple, tuple, int]] = []  # low corner, high corner, instance
    instances = [NOTHING, WALL]
    for z, gaps in ((-1.05, [1.3, 4.0, 6.7]), (1.05, [2.0, 6.0])):
        edges = [-0.1, *(x for gap in gaps for x in (gap - 0.45, gap + 0.45)), 8.1]
        boxes += [((a, 0, z - 0.05), (b, HEIGHT, z + 0.05), 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    boxes += [((x - 0.05, 0, -5.0), (x + 0.05, HEIGHT, -1.0), 1) for x in (2.65, 5.35)]
    boxes += [((3.95, 0, a), (4.05, HEIGHT, b), 1) for a, b in ((1.0, 2.0), (4.0, 5.0))]
    boxes += [((x, 0, -5.1), (x + 0.1, HEIGHT, 5.1), 1) for x in (-0.1, 8.0)]
    boxes += [((-0.1, 0, z), (8.1, HEIGHT, z + 0.1), 1) for z in (-5.1, 5.0)]
    boxes += [((-0.1, -0.1, -5.1), (8.1, 0.0, 5.1), 1)]
    things = []
    for category, color, room, x, z, size in FURNITURE:
        instances.append(Instance(category, color, room))
        half = np.array([size[0] / 2, 0, size[2] / 2])
        place = np.array([x, 0.0, z])
        boxes.append((tuple(place - half), tuple(place + half + [0, size[1], 0]), len(instances) - 1))
        things.append(Thing(len(instances) - 1, category, color, room, place, np.array(size, float)))
    return House(7, _boxes(boxes, instances), ROOMS, DOORS, [], things, [])


@functools.cache
def corridor_mesh() -> NavMesh:
    """Where one can walk in it."""
    scene = corridor_house().scene
    return NavMesh.build(scene.vertices, scene.triangles)


@functools.cache
def corridor_views() -> Rasteriser:
    """What it looks like."""
    return Rasteriser(corridor_house().scene)


def _boxes(boxes, instances) -> Scene:
    """A scene of axis-aligned boxes, one plain colour."""
    corners = np.array([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)], float)
    faces = [(0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6)]
    box = np.array([t for a, b, c, d in faces for t in ((a, b, c), (a, c, d))])
    vertices = np.concatenate([np.array(low) + corners * (np.array(high) - low) for low, high, _ in boxes])
    triangles = np.concatenate([box + 8 * i for i in range(len(boxes))])
    return Scene(
        vertices=vertices.astype(np.float32),
        uv=np.zeros((len(vertices), 2), np.float32),
        light=np.ones((len(vertices), 3), np.float32),
        triangles=triangles.astype(np.int32),
        material=np.zeros(len(triangles), np.int32),
        instance=np.repeat([instance for _, _, instance in boxes], 12).astype(np.int32),
        materials=[Material("plaster", (0.8, 0.8, 0.8))],
        instances=instances,
    )
