"""A storey of a house drawn as a floor plan: rooms by use, walls, doors, stairs and what stands on the floor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dualsight.envs.sim.building import Door, House, Room, Stairs, Thing
from dualsight.envs.sim.colors import COLORS, mix

PAPER, WALL, INK = (250, 249, 246), (72, 72, 78), (70, 70, 76)
RIGHT, WRONG = (34, 130, 60), (206, 62, 56)
"""Of answers and drawings."""
THING, EDGE, TREAD = (255, 255, 255), (168, 164, 156), (150, 146, 140)
TINTS = {
    "hall": (238, 234, 224), "living room": (252, 228, 205), "kitchen": (255, 240, 196), "dining room": (250, 222, 214),
    "bedroom": (217, 228, 244), "bathroom": (205, 233, 235), "office": (222, 232, 211), "library": (232, 222, 206),
    "laundry room": (214, 226, 230), "storage room": (228, 226, 222), "playroom": (242, 219, 238),
}  # fmt: skip
OTHER_ROOM = (232, 230, 238)
WALL_THICKNESS = 0.14
MARGIN = 0.3
"""Metres of paper around the house."""
FINER = 3
"""Drawn this many times larger and scaled down, for smooth edges."""


@dataclass(frozen=True)
class Plan:
    """One storey from above: X to the right, Z downwards, so an agent with heading 0 walks up."""

    image: Image.Image
    y: float
    """Height of the storey's floor."""
    origin: NDArray[np.float64]
    """(2,) world x and z of the image's corner."""
    scale: float
    """Pixels per metre."""

    def place(self, points) -> NDArray[np.float64]:
        """World points (N, 3) to pixels (N, 2), column before row."""
        return (np.asarray(points, float)[:, [0, 2]] - self.origin) * self.scale


def floor_plans(house: House, width: int, height: int) -> list[Plan]:
    """A plan of ``width`` x ``height`` pixels for every storey, all at the same scale, lowest first."""
    lower = np.array([[room.x0, room.z0] for room in house.rooms]).min(axis=0) - WALL_THICKNESS - MARGIN
    upper = np.array([[room.x1, room.z1] for room in house.rooms]).max(axis=0) + WALL_THICKNESS + MARGIN
    extent = np.array([width, height])
    scale = float((extent / (upper - lower)).min())
    origin = (lower + upper - extent / scale) / 2
    heights = sorted({room.y for room in house.rooms})
    return [Plan(_draw(house, y, origin, scale, (width, height)), y, origin, scale) for y in heights]


def _draw(house: House, y: float, origin: NDArray, scale: float, size: tuple[int, int]) -> Image.Image:
    fine = Image.new("RGB", (size[0] * FINER, size[1] * FINER), PAPER)
    pen = _Pen(ImageDraw.Draw(fine), origin, scale * FINER)
    rooms = [room for room in house.rooms if room.y == y]
    for room in rooms:
        pen.rectangle(*_sides(room, WALL_THICKNESS), WALL)
    for room in rooms:
        pen.rectangle(*_sides(room), TINTS.get(room.type, OTHER_ROOM))
    for door in house.doors:
        if abs(door.position[1] - y) < 0.5:
            _draw_door(pen, door)
    standing = [thing for thing in house.things if abs(thing.centre[1] - y) < 0.2]
    for thing in sorted(standing, key=lambda thing: thing.size[1]):  # rugs first, chairs below tables
        _draw_thing(pen, thing)
    for stairs in house.stairs:
        _draw_stairs(pen, stairs)
    for room in rooms:
        _write_name(pen, room)
    return fine.resize(size, Image.Resampling.BOX)


class _Pen:
    """Draws in metres."""

    def __init__(self, draw: ImageDraw.ImageDraw, origin: NDArray, scale: float):
        self.draw, self.origin, self.scale = draw, origin, scale

    def pixel(self, x: float, z: float) -> tuple[float, float]:
        return (x - self.origin[0]) * self.scale, (z - self.origin[1]) * self.scale

    def rectangle(self, x0: float, z0: float, x1: float, z1: float, fill, outline=None) -> None:
        self.draw.rectangle((*self.pixel(x0, z0), *self.pixel(x1, z1)), fill, outline, width=FINER)

    def line(self, x0: float, z0: float, x1: float, z1: float, fill) -> None:
        self.draw.line((*self.pixel(x0, z0), *self.pixel(x1, z1)), fill, width=FINER)


def _sides(room: Room, grown: float = 0.0) -> tuple[float, float, float, float]:
    return room.x0 - grown, room.z0 - grown, room.x1 + grown, room.z1 + grown


def _draw_door(pen: _Pen, door: Door) -> None:
    """A gap in the wall."""
    x, _, z = door.position
    along, across = door.width / 2, WALL_THICKNESS / 2 + 0.02
    half_x, half_z = (across, along) if door.axis == "x" else (along, across)
    pen.rectangle(x - half_x, z - half_z, x + half_x, z + half_z, TINTS["hall"])


def _draw_thing(pen: _Pen, thing: Thing) -> None:
    """Its footprint, in a pale shade of its colour; of a rug the outline."""
    (x, _, z), (width, _, depth) = thing.centre, thing.size
    shade = mix(THING, 255 * np.array(COLORS.get(thing.color, COLORS["white"])), 0.3).round().astype(int)
    fill = None if thing.size[1] < 0.05 else tuple(shade.tolist())
    pen.rectangle(x - width / 2, z - depth / 2, x + width / 2, z + depth / 2, fill, EDGE)


def _draw_stairs(pen: _Pen, stairs: Stairs) -> None:
    """Treads across the flight, the rail on both sides."""
    bottom, top = np.array(stairs.bottom)[[0, 2]], np.array(stairs.top)[[0, 2]]
    length = float(np.linalg.norm(top - bottom))
    ahead = (top - bottom) / length
    side = stairs.width / 2 * np.array([-ahead[1], ahead[0]])
    for distance in np.arange(0.0, length + 1e-6, 0.27):
        at = bottom + distance * ahead
        pen.line(*(at - side), *(at + side), TREAD)
    for rail in (side, -side):
        pen.line(*(bottom + rail), *(top + rail), TREAD)


def _write_name(pen: _Pen, room: Room) -> None:
    """The room's type in its middle, as large as fits (a narrow hall has none)."""
    width, depth = (room.x1 - room.x0) * pen.scale, (room.z1 - room.z0) * pen.scale
    x, z = pen.pixel((room.x0 + room.x1) / 2, (room.z0 + room.z1) / 2)
    text = room.type if width > 1.6 * depth else room.type.replace(" ", "\n")
    for size in (13, 12, 11, 10, 9):
        letters = font(size * FINER)
        left, top, right, bottom = pen.draw.multiline_textbbox((0, 0), text, letters)
        if right - left < 0.94 * width and bottom - top < 0.94 * depth:
            halo = TINTS.get(room.type, OTHER_ROOM)
            pen.draw.multiline_text(
                (x, z), text, INK, letters, "mm", align="center", stroke_width=FINER, stroke_fill=halo
            )
            return


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own type face."""
    return ImageFont.load_default(size)
