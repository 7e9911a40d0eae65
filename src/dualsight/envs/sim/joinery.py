"""Furniture that the shipped pack lacks, made on the ``workbench``, each piece with its front to +Z."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dualsight.envs.sim.colors import COLORS
from dualsight.envs.sim.piece import Model
from dualsight.envs.sim.scene import Material
from dualsight.envs.sim.textures import texture
from dualsight.envs.sim.workbench import DARK, GLASS, METAL, WHITE, Bench


def pieces() -> Iterator[Model]:
    """Every piece made here."""
    yield table("coffee table", "coffee table", (1.1, 0.42, 0.6), "living room")
    yield table("square table", "table", (0.9, 0.75, 0.9), "kitchen, dining room, hall, storage room")
    yield table("console", "side table", (0.9, 0.8, 0.32), "hall, living room", "floor_wall")
    yield chest("dresser", "dresser", (1.0, 0.85, 0.45), 4, 2, "bedroom, hall")
    yield chest("sideboard", "sideboard", (1.6, 0.8, 0.42), 1, 4, "dining room, living room")
    yield chest("television stand", "tv stand", (1.4, 0.45, 0.42), 1, 3, "living room, bedroom")
    yield chest("shoe cabinet", "shoe cabinet", (0.8, 1.0, 0.3), 3, 1, "hall")
    yield chest("hinged wardrobe", "wardrobe", (1.5, 2.1, 0.6), 1, 3, "bedroom, hall")
    yield chest("wide wardrobe", "wardrobe", (2.0, 2.3, 0.62), 1, 2, "bedroom")
    yield bookshelf()
    yield bunk_bed()
    yield upright_piano()
    yield grandfather_clock()
    yield fireplace()
    yield coat_rack()
    yield crate()
    yield barrel()
    yield door_leaf()


def table(name: str, category: str, size: tuple[float, float, float], rooms: str, placement="floor_free") -> Model:
    """A top on four legs."""
    bench, (w, h, d) = Bench(), size
    wood = bench.use(texture("wood", "brown"), tint=True)
    bench.box((0, h - 0.045, 0), (w, h, d), wood, hidden="")
    bench.legs((0.03, 0, 0.03), (w - 0.03, h - 0.045, d - 0.03), 0.06, wood)
    return bench.finish(name, category, rooms, placement, "brown", "wood")


def chest(name: str, category: str, size: tuple[float, float, float], rows: int, columns: int, rooms: str) -> Model:
    """A body with ``rows`` x ``columns`` drawers or doors and their handles."""
    bench, (w, h, d) = Bench(), size
    wood = bench.use(texture("wood", "light brown"), tint=True)
    gap, metal = bench.paint(DARK, "gap"), bench.paint(METAL, "handle")
    bench.box((0, 0.05, 0), (w, h, d - 0.02), wood)
    bench.box((0.02, 0, 0.03), (w - 0.02, 0.05, d - 0.05), gap, hidden="top bottom back")
    bench.picture((0.01, 0.06, d - 0.019), (w - 0.01, h - 0.01, d - 0.019), gap)
    a, b = (w - 0.02) / columns, (h - 0.09) / rows
    upright = b > a
    for column in range(columns):
        for row in range(rows):
            x, y = 0.01 + column * a, 0.07 + row * b
            bench.box((x + 0.005, y + 0.005, d - 0.019), (x + a - 0.005, y + b - 0.005, d), wood, hidden="back")
            cx, cy = (x + 0.9 * a, y + b / 2) if upright else (x + a / 2, y + 0.7 * b)
            half = np.array([0.01, 0.09]) if upright else np.array([0.07, 0.01])
            bench.box((cx - half[0], cy - half[1], d), (cx + half[0], cy + half[1], d + 0.025), metal, hidden="back")
    return bench.finish(name, category, rooms, "floor_wall", "", "wood")


def books(seed: int) -> Material:
    """A shelf full of spines."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((64, 128, 3))
    x = 0
    while x < 128:
        width, height = rng.integers(4, 10), rng.integers(38, 60)
        spine = np.array(list(COLORS.values())[rng.integers(len(COLORS))]) * rng.uniform(0.6, 1.0)
        picture[64 - height :, x : x + width - 1] = spine
        picture[64 - height + 8 : 64 - height + 11, x : x + width - 1] = spine * 0.5 + 0.4
        x += width
    return Material("books", texture=(picture * 255).astype(np.uint8))


def bookshelf() -> Model:
    """Five shelves of books."""
    bench = Bench()
    wood = bench.use(texture("wood", "dark brown"), tint=True)
    w, h, d = 1.1, 2.0, 0.32
    for x in (0.0, w - 0.03):
        bench.box((x, 0, 0), (x + 0.03, h, d), wood)
    bench.box((0.03, 0, 0), (w - 0.03, h, 0.02), wood, hidden="left right bottom")
    for shelf in range(6):
        y = 0.06 + shelf * (h - 0.09) / 5
        bench.box((0.03, y, 0.02), (w - 0.03, y + 0.03, d), wood, hidden="left right back")
        if shelf < 5:
            filled = 0.06 + (w - 0.12) * (1.0, 0.8, 1.0, 0.6, 0.9)[shelf]
            row = bench.use(books(shelf))
            bench.box((0.04, y + 0.03, 0.03), (filled, y + 0.31, d - 0.08), row, 1.0, "front back left bottom")
            bench.picture((0.04, y + 0.03, d - 0.08), (filled, y + 0.33, d - 0.08), row)
    return bench.finish("bookshelf", "bookcase", "living room, office, hall, bedroom", "floor_wall", "brown", "wood")


def bunk_bed() -> Model:
    """Two beds, one over the other, and a ladder."""
    bench = Bench()
    wood = bench.use(texture("wood", "light brown"))
    cover, sheet = bench.use(texture("fabric", "blue"), tint=True), bench.paint(WHITE, "sheet")
    bench.legs((0, 0, 0), (1.0, 1.7, 2.05), 0.07, wood)
    for y in (0.3, 1.2):
        bench.box((0.02, y, 0.02), (0.98, y + 0.12, 2.03), wood, hidden="")
        bench.box((0.05, y + 0.12, 0.06), (0.95, y + 0.26, 1.99), sheet)
        bench.box((0.04, y + 0.14, 0.6), (0.96, y + 0.28, 2.0), cover, 0.4)
        bench.box((0.15, y + 0.26, 0.1), (0.85, y + 0.36, 0.45), sheet)
    bench.box((0.96, 1.5, 0.07), (0.98, 1.62, 1.5), wood, hidden="")
    for rung in range(5):
        y = 0.25 + 0.28 * rung
        bench.box((1.0, y, 1.55), (1.03, y + 0.04, 1.95), wood, hidden="")
    for z in (1.55, 1.91):
        bench.box((0.99, 0, z), (1.04, 1.7, z + 0.04), wood)
    return bench.finish("bunk bed", "bunk bed", "bedroom", "floor_wall", "blue", "fabric")


def upright_piano() -> Model:
    """A piano for a small room."""
    bench = Bench()
    body = bench.use(texture("wood", "dark brown"), tint=True)
    ivory, ebony = bench.paint(WHITE, "ivory"), bench.paint(DARK, "ebony")
    bench.box((0, 0, 0), (1.5, 1.25, 0.36), body)
    bench.box((0, 0.6, 0.36), (1.5, 0.7, 0.64), body, hidden="back")
    for x in (0.0, 1.44):
        bench.box((x, 0, 0.56), (x + 0.06, 0.6, 0.64), body)
    bench.box((0.1, 0.7, 0.42), (1.4, 0.72, 0.62), ivory)
    for key in range(51):
        if key % 7 not in (2, 6):
            x = 0.118 + key * 0.025
            bench.box((x, 0.72, 0.43), (x + 0.012, 0.73, 0.54), ebony, hidden="bottom back")
    return bench.finish("upright piano", "piano", "living room, hall", "floor_wall", "brown", "piano")


def grandfather_clock() -> Model:
    """A tall clock with a pendulum behind glass."""
    bench = Bench()
    wood, glass = bench.use(texture("wood", "dark brown"), tint=True), bench.paint(GLASS, "glass")
    face, gold, dark = bench.paint(WHITE, "face"), bench.paint((0.80, 0.62, 0.25), "gold"), bench.paint(DARK, "hands")
    bench.box((0, 0, 0), (0.5, 0.45, 0.28), wood)
    bench.box((0.07, 0.45, 0.03), (0.43, 1.5, 0.25), wood)
    bench.box((0.02, 1.5, 0), (0.48, 2.0, 0.28), wood, hidden="")
    bench.box((0.0, 2.0, 0), (0.5, 2.06, 0.3), wood, hidden="")
    bench.picture((0.13, 0.55, 0.251), (0.37, 1.4, 0.251), glass)
    bench.disc((0.25, 0.75, 0.253), 0.08, gold)
    bench.box((0.243, 0.75, 0.251), (0.257, 1.4, 0.253), gold, hidden="back")
    clock_face(bench, (0.25, 1.75, 0.281), 0.19, face, gold, dark)
    return bench.finish("grandfather clock", "grandfather clock", "living room, hall, dining room", "floor_wall")


def clock_face(bench: Bench, centre: tuple[float, float, float], radius: float, face: int, rim: int, dark: int) -> None:
    """A dial at ten past ten that faces +Z."""
    x, y, z = centre
    bench.disc((x, y, z), radius, rim, 24)
    bench.disc((x, y, z + 0.004), 0.88 * radius, face, 24)
    for hour in range(12):
        angle = np.pi * hour / 6
        bench.disc(
            (x + 0.75 * radius * np.sin(angle), y + 0.75 * radius * np.cos(angle), z + 0.006), 0.05 * radius, dark, 4
        )
    for angle, length in ((-1.05, 0.5), (1.05, 0.68)):
        tip = radius * length * np.array([np.sin(angle), np.cos(angle), 0])
        across = 0.045 * radius * np.array([np.cos(angle), -np.sin(angle), 0])
        base = np.array([x, y, z + 0.008])
        corners = np.array([base - across, base + across, base + tip + across, base + tip - across])
        bench.quad(corners[::-1] if np.cross(across, tip)[2] < 0 else corners, dark, np.zeros((4, 2)))


def fireplace() -> Model:
    """A brick chimney piece with embers."""
    bench = Bench()
    brick, stone = bench.use(texture("brick", "red")), bench.use(texture("marble", "white"))
    soot, fire, log = (
        bench.paint((0.05, 0.04, 0.04), "soot"),
        bench.paint((1.0, 0.55, 0.10), "fire"),
        bench.paint((0.3, 0.18, 0.1), "log"),
    )
    for x in (0.0, 1.15):
        bench.box((x, 0, 0), (x + 0.35, 1.0, 0.4), brick)
    bench.box((0.35, 0.7, 0), (1.15, 1.0, 0.4), brick, hidden="left right")
    bench.box((-0.08, 1.0, 0), (1.58, 1.08, 0.48), stone, hidden="")
    bench.box((0.35, 0, 0), (1.15, 0.7, 0.05), soot, hidden="left right top bottom back")
    bench.box((0.35, 0, 0.05), (1.15, 0.03, 0.4), soot, hidden="left right back bottom")
    for x, z in ((0.5, 0.15), (0.62, 0.24)):
        bench.box((x, 0.03, z), (x + 0.4, 0.12, z + 0.08), log)
    for x, height in ((0.55, 0.26), (0.66, 0.36), (0.78, 0.3), (0.9, 0.2)):
        bench.turned([(0.05, 0.1), (0.06, 0.16), (0.0, height)], fire, (x, 0, 0.2), 5)
    return bench.finish("fireplace", "fireplace", "living room", "floor_wall")


def coat_rack() -> Model:
    """A stand with two coats."""
    bench = Bench()
    wood, coat = bench.use(texture("wood", "brown")), bench.use(texture("fabric", "red"), tint=True)
    bench.turned([(0.22, 0), (0.22, 0.03), (0.03, 0.05), (0.025, 1.75), (0.04, 1.8), (0, 1.82)], wood, sides=8)
    for angle in np.arange(6) * np.pi / 3:
        x, z = 0.14 * np.sin(angle), 0.14 * np.cos(angle)
        bench.box((x - 0.015, 1.62, z - 0.015), (x + 0.015, 1.7, z + 0.015), wood, hidden="")
    for x in (-0.14, 0.14):
        bench.turned([(0.15, 0.7), (0.11, 1.3), (0.12, 1.5), (0.02, 1.66)], coat, (x, 0, 0.03), 8)
    return bench.finish("coat rack", "coat rack", "hall, bedroom, office", "floor_wall", "red", "fabric")


def crate() -> Model:
    """A wooden crate with battens."""
    bench = Bench()
    board, batten = bench.use(texture("planks", "light brown"), tint=True), bench.use(texture("wood", "brown"))
    bench.box((0.02, 0.02, 0.02), (0.62, 0.6, 0.62), board)
    for x in (0.0, 0.58):
        for z in (0.0, 0.58):
            bench.box((x, 0, z), (x + 0.06, 0.62, z + 0.06), batten)
    for y in (0.0, 0.56):
        for z in (0.0, 0.6):
            bench.box((0.06, y, z), (0.58, y + 0.06, z + 0.04), batten, hidden="left right")
        for x in (0.0, 0.6):
            bench.box((x, y, 0.06), (x + 0.04, y + 0.06, 0.58), batten, hidden="front back")
    return bench.finish("crate", "crate", "storage room, laundry room", "floor_free", "brown", "wood")


def barrel() -> Model:
    """Staves and hoops."""
    bench = Bench()
    wood, iron = bench.use(texture("planks", "brown"), tint=True), bench.paint((0.2, 0.2, 0.21), "iron")
    profile = [(0.25, 0.0), (0.30, 0.2), (0.32, 0.42), (0.30, 0.64), (0.25, 0.84), (0.22, 0.84), (0.0, 0.82)]
    bench.turned(profile, wood, sides=14)
    for (r0, y0), (r1, y1) in (
        ((0.272, 0.08), (0.292, 0.16)),
        ((0.32, 0.32), (0.325, 0.4)),
        ((0.292, 0.68), (0.272, 0.76)),
    ):
        bench.turned([(r0 + 0.006, y0), (r1 + 0.006, y1)], iron, sides=14)
    return bench.finish("barrel", "barrel", "storage room", "floor_free", "brown", "wood")


def door_leaf() -> Model:
    """A leaf of 0.82 x 2.02 m with panels on both sides, standing in the plane of z = 0; its hinges are at -X.

    It belongs in no room: a house hangs it in its doorways.
    """
    bench = Bench()
    paint, panel, metal = (
        bench.paint(WHITE, "leaf", tint=True),
        bench.paint((0.86, 0.86, 0.85), "panel"),
        bench.paint(METAL, "handle"),
    )
    bench.box((0, 0, 0), (0.82, 2.02, 0.04), paint)
    for y0, y1 in ((0.2, 0.85), (1.05, 1.85)):
        bench.box((0.14, y0, -0.004), (0.68, y1, 0.044), panel, hidden="left right top bottom")
    bench.box((0.68, 1.0, -0.05), (0.78, 1.02, 0.09), metal, hidden="")
    return bench.finish("door leaf", "door", "", "floor_free", "white", "paint")
