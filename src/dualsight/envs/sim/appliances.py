"""Kitchen, bath and household things that the shipped pack lacks, made on the ``workbench``, fronts to +Z."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dualsight.envs.sim.colors import COLORS
from dualsight.envs.sim.piece import Model
from dualsight.envs.sim.textures import REPEAT, texture
from dualsight.envs.sim.workbench import DARK, GLASS, METAL, TOP_ONLY, WHITE, Bench


def pieces() -> Iterator[Model]:
    """Every piece made here."""
    yield kitchen_island()
    yield stove()
    yield microwave()
    yield washing_machine()
    yield bathtub()
    yield shower()
    yield water_heater()
    yield metal_shelf()
    yield ironing_board()
    yield treadmill()
    yield aquarium()
    yield dustbin()
    yield laundry_basket()


def kitchen_island() -> Model:
    """A free block of cabinets with a stone top."""
    bench = Bench()
    body, top, foot = (
        bench.paint(WHITE, "front", tint=True),
        bench.use(texture("marble", "grey")),
        bench.paint(DARK, "foot"),
    )
    bench.box((0.03, 0, 0.03), (1.57, 0.1, 0.77), foot, hidden="top bottom")
    bench.box((0, 0.1, 0), (1.6, 0.87, 0.8), body)
    bench.box((-0.03, 0.87, -0.03), (1.63, 0.91, 0.83), top, hidden="")
    metal = bench.paint(METAL, "handle")
    for k in range(3):
        bench.box((0.14 + 0.53 * k, 0.75, 0.8), (0.40 + 0.53 * k, 0.77, 0.83), metal, hidden="back")
        bench.box((0.526 * (k + 1), 0.12, 0.8), (0.526 * (k + 1) + 0.006, 0.86, 0.801), foot, hidden="back")
    return bench.finish("kitchen island", "kitchen island", "kitchen", "floor_free", "white", "paint")


def stove() -> Model:
    """A cooker: four plates over an oven."""
    bench = Bench()
    body, glass = bench.paint(WHITE, "body", tint=True), bench.paint(GLASS, "glass")
    dark, metal = bench.paint(DARK, "plate"), bench.paint(METAL, "metal")
    bench.box((0, 0, 0), (0.6, 0.88, 0.6), body)
    bench.box((0, 0.88, 0), (0.6, 0.9, 0.6), metal)
    bench.box((0, 0.9, 0), (0.6, 1.02, 0.04), body)
    bench.box((0.06, 0.2, 0.6), (0.54, 0.62, 0.612), glass, hidden="back")
    bench.box((0.08, 0.66, 0.6), (0.52, 0.68, 0.64), metal, hidden="back")
    for k in range(5):
        bench.disc((0.1 + 0.1 * k, 0.79, 0.606), 0.025, dark, 8)
    for x in (0.16, 0.44):
        for z in (0.19, 0.44):
            bench.turned([(0.1, 0.9), (0.1, 0.92), (0.0, 0.92)], dark, (x, 0, z))
    return bench.finish("stove", "stove", "kitchen", "floor_wall", "white", "appliance")


def microwave() -> Model:
    """For a counter or a table."""
    bench = Bench()
    body, glass, dark = bench.paint(WHITE, "body", tint=True), bench.paint(GLASS, "glass"), bench.paint(DARK, "panel")
    bench.box((0, 0, 0), (0.48, 0.28, 0.36), body)
    bench.picture((0.03, 0.04, 0.361), (0.33, 0.24, 0.361), glass)
    bench.picture((0.37, 0.04, 0.361), (0.46, 0.24, 0.361), dark)
    return bench.finish("microwave", "microwave", "kitchen", "table", "white", "appliance")


def washing_machine() -> Model:
    """A front loader."""
    bench = Bench()
    body, metal, glass = bench.paint(WHITE, "body", tint=True), bench.paint(METAL, "rim"), bench.paint(GLASS, "glass")
    dark = bench.paint(DARK, "panel")
    bench.box((0, 0, 0), (0.6, 0.85, 0.6), body)
    bench.disc((0.3, 0.42, 0.61), 0.21, metal, 24)
    bench.disc((0.3, 0.42, 0.615), 0.16, glass, 24)
    bench.picture((0.3, 0.74, 0.601), (0.56, 0.81, 0.601), dark)
    bench.picture((0.04, 0.73, 0.601), (0.24, 0.82, 0.601), metal)
    return bench.finish(
        "washing machine", "washing machine", "laundry room, bathroom, kitchen", "floor_wall", "white", "appliance"
    )


def bathtub() -> Model:
    """A panelled tub, 1.7 m long, its long side to the wall."""
    bench = Bench()
    enamel, metal, water = (
        bench.paint(WHITE, "enamel", tint=True),
        bench.paint(METAL, "tap"),
        bench.paint((0.62, 0.78, 0.85), "water"),
    )
    bench.open_box((0, 0, 0), (1.7, 0.57, 0.75), 0.07, enamel)
    bench.box((0.07, 0.3, 0.07), (1.63, 0.38, 0.68), water, hidden=TOP_ONLY)
    bench.box((0.02, 0.57, 0.33), (0.05, 0.7, 0.36), metal)
    bench.box((0.02, 0.67, 0.33), (0.2, 0.7, 0.36), metal, hidden="left")
    return bench.finish("bathtub", "bathtub", "bathroom", "floor_wall", "white", "ceramic")


def shower() -> Model:
    """A tray in a corner between two tiled panels; its glass is not drawn, its frame is."""
    bench = Bench()
    tray, metal = bench.paint(WHITE, "tray"), bench.paint(METAL, "frame")
    tiled = bench.use(texture("tiles", "blue"), tint=True)
    bench.open_box((0, 0, 0), (0.9, 0.14, 0.9), 0.05, tray)
    bench.box((0, 0.14, 0), (0.9, 2.05, 0.03), tiled, REPEAT["tiles"])
    bench.box((0, 0.14, 0.03), (0.03, 2.05, 0.9), tiled, REPEAT["tiles"])
    for x, z in ((0.87, 0.03), (0.87, 0.87), (0.03, 0.87)):
        bench.box((x, 0.14, z), (x + 0.03, 2.05, z + 0.03), metal)
    bench.box((0.03, 2.02, 0.87), (0.87, 2.05, 0.9), metal, hidden="left right")
    bench.box((0.87, 2.02, 0.06), (0.9, 2.05, 0.87), metal, hidden="front back")
    bench.box((0.44, 0.9, 0.03), (0.47, 1.95, 0.06), metal)
    bench.turned([(0.0, 1.84), (0.1, 1.86), (0.02, 1.9), (0.02, 1.95)], metal, (0.455, 0, 0.2), 10)
    bench.box((0.44, 1.92, 0.06), (0.47, 1.95, 0.21), metal, hidden="back")
    return bench.finish("shower", "shower", "bathroom", "floor_wall", "blue", "fabric")


def water_heater() -> Model:
    """A tall boiler with its pipes."""
    bench = Bench()
    body, pipe, dark = (
        bench.paint(WHITE, "tank", tint=True),
        bench.paint((0.72, 0.45, 0.25), "copper"),
        bench.paint(DARK, "dial"),
    )
    bench.turned([(0.22, 0.1), (0.27, 0.12), (0.27, 1.45), (0.2, 1.55), (0, 1.55)], body, sides=16)
    for x in (-0.12, 0.12):
        bench.turned([(0.02, 1.5), (0.02, 1.95)], pipe, (x, 0, 0), 6)
    bench.legs((-0.2, 0, -0.2), (0.2, 0.12, 0.2), 0.04, dark)
    bench.disc((0, 0.6, 0.275), 0.05, dark, 12)
    return bench.finish("water heater", "water heater", "laundry room, storage room", "floor_wall", "white", "paint")


def metal_shelf() -> Model:
    """A storage rack with boxes on it."""
    bench = Bench()
    steel, card = bench.paint(METAL, "steel", tint=True), bench.paint((0.72, 0.55, 0.36), "cardboard")
    bench.legs((0, 0, 0), (1.2, 1.8, 0.45), 0.04, steel)
    for y in (0.15, 0.65, 1.15, 1.7):
        bench.box((0, y, 0), (1.2, y + 0.03, 0.45), steel, hidden="")
    for x, y, w, h in ((0.1, 0.18, 0.4, 0.3), (0.6, 0.18, 0.5, 0.22), (0.2, 0.68, 0.3, 0.35), (0.65, 1.18, 0.4, 0.3)):
        bench.box((x, y, 0.06), (x + w, y + h, 0.4), card)
    return bench.finish("storage rack", "storage rack", "storage room, laundry room", "floor_wall", "grey", "paint")


def ironing_board() -> Model:
    """A board on crossed legs, with an iron."""
    bench = Bench()
    cover, steel = bench.use(texture("fabric", "blue"), tint=True), bench.paint(METAL, "legs")
    iron = bench.paint(DARK, "iron")
    bench.box((0, 0.86, 0), (1.25, 0.9, 0.38), cover, 0.4, hidden="")
    for z in (0.06, 0.3):
        for start, end in ((0.15, 1.05), (1.05, 0.15)):
            corners = np.array([[start, 0, z], [start + 0.03, 0, z], [end + 0.03, 0.86, z], [end, 0.86, z]])
            bench.quad(corners, steel, np.zeros((4, 2)))
    bench.box((0.9, 0.9, 0.12), (1.12, 1.03, 0.24), iron)
    return bench.finish("ironing board", "ironing board", "laundry room, bedroom", "floor_free", "blue", "fabric")


def treadmill() -> Model:
    """One walks towards -Z; the console looks to +Z."""
    bench = Bench()
    frame, belt, screen = (
        bench.paint((0.3, 0.3, 0.32), "frame"),
        bench.paint(DARK, "belt"),
        bench.paint((0.3, 0.6, 0.8), "screen"),
    )
    bench.box((0, 0.02, 0), (0.75, 0.16, 1.6), frame)
    bench.box((0.1, 0.16, 0.3), (0.65, 0.17, 1.58), belt)
    for x in (0.0, 0.7):
        bench.box((x, 0.16, 0.12), (x + 0.05, 1.3, 0.2), frame)
        bench.box((x, 0.95, 0.2), (x + 0.05, 1.0, 0.65), frame, hidden="")
    bench.box((0.0, 1.1, 0.1), (0.75, 1.4, 0.2), frame, hidden="")
    bench.picture((0.2, 1.18, 0.201), (0.55, 1.36, 0.201), screen)
    return bench.finish("treadmill", "treadmill", "office, bedroom, storage room, playroom", "floor_free", "black")


def aquarium() -> Model:
    """A fish tank on its cabinet."""
    bench = Bench()
    wood, dark, sand = (
        bench.use(texture("wood", "dark brown"), tint=True),
        bench.paint(DARK, "frame"),
        bench.paint((0.8, 0.7, 0.5), "sand"),
    )
    water, fish, weed = (
        bench.paint((0.25, 0.55, 0.75), "water"),
        bench.paint(COLORS["orange"], "fish"),
        bench.paint(COLORS["green"], "weed"),
    )
    bench.box((0, 0, 0), (1.0, 0.65, 0.4), wood)
    bench.box((0.01, 0.65, 0.01), (0.99, 0.72, 0.39), sand)
    bench.box((0.01, 0.72, 0.01), (0.99, 1.12, 0.39), water)
    bench.box((0, 1.12, 0), (1.0, 1.17, 0.4), dark, hidden="")
    for x, y in ((0.2, 0.95), (0.45, 0.83), (0.7, 1.02), (0.82, 0.88)):
        bench.disc((x, y, 0.393), 0.035, fish, 6)
        bench.quad(
            np.array(
                [
                    [x - 0.07, y - 0.03, 0.393],
                    [x - 0.02, y, 0.393],
                    [x - 0.02, y + 0.001, 0.393],
                    [x - 0.07, y + 0.03, 0.393],
                ]
            ),
            fish,
            np.zeros((4, 2)),
        )
    for x, top in ((0.1, 0.98), (0.33, 0.9), (0.58, 1.0), (0.92, 1.05)):
        bench.picture((x, 0.72, 0.392), (x + 0.03, top, 0.392), weed)
    return bench.finish("aquarium", "aquarium", "living room, office, hall", "floor_wall", "blue")


def dustbin() -> Model:
    """An open bin."""
    bench = Bench()
    steel, dark = bench.paint(METAL, "steel", tint=True), bench.paint(DARK, "inside")
    bench.turned([(0.11, 0), (0.14, 0.36), (0.13, 0.36)], steel)
    bench.turned([(0.13, 0.36), (0.11, 0.1), (0.0, 0.1)], dark)
    return bench.finish("dustbin", "dustbin", "office, kitchen, bathroom", "floor_wall", "grey", "paint")


def laundry_basket() -> Model:
    """A basket full of washing."""
    bench = Bench()
    cane, linen = bench.use(texture("fabric", "beige"), tint=True), bench.paint(WHITE, "linen")
    bench.turned([(0.2, 0), (0.26, 0.5), (0.27, 0.52), (0.24, 0.52)], cane)
    bench.turned([(0.24, 0.5), (0.18, 0.58), (0.0, 0.62)], linen, sides=8)
    return bench.finish(
        "laundry basket", "laundry basket", "laundry room, bathroom, bedroom", "floor_wall", "beige", "fabric"
    )
