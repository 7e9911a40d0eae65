"""Rugs, pictures, curtains, lamps and plants, made on the ``workbench``, each piece with its front to +Z."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim.colors import COLORS, mix
from dualsight.envs.sim.joinery import clock_face
from dualsight.envs.sim.piece import Model
from dualsight.envs.sim.scene import Material
from dualsight.envs.sim.textures import texture
from dualsight.envs.sim.workbench import DARK, METAL, WHITE, Bench

EVERYWHERE = "living room, bedroom, office, hall, dining room"
SHADE = (0.98, 0.92, 0.78)
"""A lit lampshade."""
WOODEN = (0.36, 0.22, 0.12)


def pieces() -> Iterator[Model]:
    """Every piece made here."""
    yield rug("rug", 2.0, 1.4)
    yield rug("large rug", 2.8, 2.0)
    yield rug("runner", 2.6, 0.8)
    yield round_rug()
    for seed, (width, height) in enumerate(((0.9, 0.7), (0.6, 0.8), (1.2, 0.6))):
        yield painting(f"abstract painting {seed + 1}", abstract(seed), width, height, "red", "fabric")
    yield painting("mountain painting", landscape((0.55, 0.72, 0.92), (0.35, 0.45, 0.55), 1), 1.1, 0.7, "blue")
    yield painting("sunset painting", landscape((0.98, 0.62, 0.30), (0.40, 0.18, 0.30), 2), 1.1, 0.7, "orange")
    yield painting("meadow painting", landscape((0.70, 0.85, 0.95), (0.25, 0.50, 0.18), 3), 0.9, 0.7, "green")
    yield mirror()
    yield wall_clock()
    yield curtain()
    yield floor_lamp()
    yield table_lamp()
    yield pendant_lamp()
    yield wall_light()
    yield small_tree()
    yield vase()


def rug(name: str, width: float, depth: float) -> Model:
    """A flat carpet with a border, 12 mm high: one walks over it."""
    bench = Bench()
    edge, pile = bench.paint(WHITE, "edge"), bench.use(texture("carpet", "red"), tint=True)
    bench.box((0, 0, 0), (width, 0.008, depth), edge)
    bench.box((0.08, 0, 0.08), (width - 0.08, 0.012, depth - 0.08), pile)
    return bench.finish(name, "rug", EVERYWHERE, "floor_free", "red", "fabric")


def round_rug() -> Model:
    """The same, round."""
    bench = Bench()
    edge, pile = bench.paint(WHITE, "edge"), bench.use(texture("carpet", "blue"), tint=True)
    bench.turned([(0.8, 0), (0.8, 0.008), (0, 0.008)], edge, sides=24)
    bench.turned([(0.72, 0.008), (0.72, 0.012), (0, 0.012)], pile, sides=24)
    return bench.finish("round rug", "rug", EVERYWHERE, "floor_free", "blue", "fabric")


def abstract(seed: int) -> NDArray[np.uint8]:
    """A red ground with rectangles of its lighter and darker tones."""
    rng = np.random.default_rng(seed)
    picture = np.tile(np.array(COLORS["red"]), (96, 128, 1))
    for _ in range(9):
        x, y, w, h = rng.integers(0, 100), rng.integers(0, 70), rng.integers(12, 60), rng.integers(8, 40)
        picture[y : y + h, x : x + w] = mix(COLORS["red"], (1, 1, 1) if rng.random() < 0.5 else (0, 0, 0), 0.5)
    return (picture * 255).astype(np.uint8)


def landscape(sky: tuple[float, float, float], ground: tuple[float, float, float], seed: int) -> NDArray[np.uint8]:
    """Ranges of hills, darker to the front, under a sky that pales to the horizon, with a sun."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :128]
    picture = np.array([mix(sky, (1, 1, 1), 0.6 * t) for t in np.linspace(0, 1, 96)])[:, None].repeat(128, axis=1)
    picture[np.hypot(rows - 25, columns - 90) < 9] = (1.0, 0.95, 0.75)
    for layer in range(4):
        waves = rng.uniform(0.5, 3, 3), rng.uniform(0, 6.28, 3)
        crest = (
            45 + 13 * layer + sum(5 * np.sin(2 * np.pi * f * columns / 128 + p) for f, p in zip(*waves, strict=True))
        )
        picture[rows > crest] = mix(ground, sky, 0.6 - 0.2 * layer)
    return (picture * 255).astype(np.uint8)


def painting(name: str, image: NDArray[np.uint8], width: float, height: float, color: str, palette: str = "") -> Model:
    """A picture in a wooden frame; the abstract ones come in colours."""
    bench = Bench()
    frame, canvas = bench.paint(WOODEN, "frame"), bench.use(Material("canvas", texture=image), tint=bool(palette))
    bench.box((0, 0, 0), (width, height, 0.03), frame, hidden="back")
    bench.picture((0.04, 0.04, 0.031), (width - 0.04, height - 0.04, 0.031), canvas)
    return bench.finish(name, "painting", EVERYWHERE, "wall", color, palette, elevation=1.6 - height / 2)


def mirror() -> Model:
    """It shows a pale blue gleam, for the renderer reflects nothing."""
    bench = Bench()
    rows, columns = np.mgrid[:64, :64] / 64
    gleam = 0.72 + 0.2 * np.cos(2 * np.pi * (rows + columns)) ** 8
    image = (np.stack([gleam * 0.92, gleam * 0.98, gleam], axis=-1).clip(0, 1) * 255).astype(np.uint8)
    frame, glass = bench.paint(METAL, "frame"), bench.use(Material("mirror", texture=image))
    bench.box((0, 0, 0), (0.7, 0.9, 0.03), frame, hidden="back")
    bench.picture((0.03, 0.03, 0.031), (0.67, 0.87, 0.031), glass)
    return bench.finish("mirror", "mirror", "bathroom, hall, bedroom", "wall", elevation=1.15)


def wall_clock() -> Model:
    """A round clock."""
    bench = Bench()
    face, rim, dark = bench.paint(WHITE, "face"), bench.paint(DARK, "rim", tint=True), bench.paint(DARK, "hands")
    bench.box((-0.1, -0.1, 0), (0.1, 0.1, 0.03), rim, hidden="front back")
    clock_face(bench, (0, 0, 0.03), 0.2, face, rim, dark)
    return bench.finish("wall clock", "clock", "kitchen, office, hall, living room", "wall", "", "paint", elevation=1.7)


def curtain() -> Model:
    """A pair of curtains in folds on a rod, drawn aside: between them is the window."""
    bench = Bench()
    cloth, rod = bench.use(texture("fabric", "green"), tint=True), bench.paint(METAL, "rod")
    for start in (0.0, 1.4):
        edges = [(start + 0.04 * k, 0.16 if k % 2 else 0.10) for k in range(11)]
        for (x0, z0), (x1, z1) in pairwise(edges):
            corners = np.array([[x0, 0, z0], [x1, 0, z1], [x1, 2.2, z1], [x0, 2.2, z0]])
            bench.quad(corners, cloth, corners[:, :2] / 0.4)
    bench.box((-0.06, 2.18, 0.12), (1.86, 2.21, 0.15), rod, hidden="")
    for x in (-0.02, 1.8):  # brackets: the cloth hangs clear of the window sill
        bench.box((x, 2.18, 0), (x + 0.02, 2.2, 0.12), rod)
    return bench.finish("curtains", "curtain", EVERYWHERE, "wall", "green", "fabric", elevation=0.05)


def floor_lamp() -> Model:
    """A shade on a pole."""
    bench = Bench()
    pole, shade = bench.paint(DARK, "pole"), bench.paint(SHADE, "shade", tint=True)
    bench.turned([(0.16, 0), (0.16, 0.02), (0.015, 0.04), (0.015, 1.4)], pole, sides=10)
    bench.turned([(0.24, 1.3), (0.15, 1.62), (0.0, 1.62)], shade, sides=14)
    return bench.finish("floor lamp", "floor lamp", "living room, bedroom, office", "floor_wall", "beige", "fabric")


def table_lamp() -> Model:
    """A shade on a turned foot."""
    bench = Bench()
    foot, shade = bench.use(texture("wood", "brown")), bench.paint(SHADE, "shade", tint=True)
    bench.turned([(0.08, 0), (0.08, 0.02), (0.03, 0.05), (0.06, 0.15), (0.015, 0.25), (0.015, 0.3)], foot, sides=10)
    bench.turned([(0.16, 0.27), (0.1, 0.48), (0.0, 0.48)], shade)
    return bench.finish("table lamp", "table lamp", "living room, bedroom, hall", "table", "beige", "fabric")


def pendant_lamp() -> Model:
    """A bowl on a cord."""
    bench = Bench()
    cord, shade = bench.paint(DARK, "cord"), bench.paint(WHITE, "shade", tint=True)
    bench.turned([(0.006, 0.3), (0.006, 0.8)], cord, sides=5)
    bench.turned([(0.22, 0.0), (0.2, 0.12), (0.1, 0.25), (0.0, 0.3)], shade, sides=14)
    return bench.finish("pendant lamp", "pendant lamp", "dining room, kitchen, hall", "ceiling", "white", "fabric", 1.8)


def wall_light() -> Model:
    """A shade on a bracket."""
    bench = Bench()
    brass, shade = bench.paint((0.72, 0.58, 0.28), "brass"), bench.paint(SHADE, "shade", tint=True)
    bench.box((-0.04, 0.05, 0), (0.04, 0.17, 0.02), brass)
    bench.box((-0.01, 0.09, 0.02), (0.01, 0.11, 0.14), brass, hidden="back")
    bench.turned([(0.1, 0.1), (0.06, 0.28), (0.0, 0.28)], shade, (0, 0, 0.14), 10)
    return bench.finish("wall light", "wall light", "hall, living room, bathroom", "wall", "beige", "fabric", 1.6)


def small_tree() -> Model:
    """A pot, a trunk and a crown of leaves on a golden-angle spiral."""
    bench = Bench()
    pot, earth = bench.paint((0.62, 0.33, 0.22), "pot"), bench.paint((0.2, 0.15, 0.1), "earth")
    bark, leaf = bench.paint((0.35, 0.26, 0.18), "bark"), [bench.paint(c, "leaf") for c in LEAVES]
    bench.turned([(0.15, 0), (0.2, 0.34), (0.21, 0.36), (0.18, 0.36)], pot)
    bench.turned([(0.18, 0.33), (0.0, 0.34)], earth)
    bench.turned([(0.025, 0.33), (0.015, 1.2)], bark, sides=6)
    for k in range(150):
        height, angle = 1 - 2 * (k + 0.5) / 150, 2.39996 * k
        around = np.array([np.cos(angle), 0.0, np.sin(angle)])
        out = around * np.sqrt(1 - height**2) + np.array([0, height, 0])
        side = np.cross(out, [0.3, 1.0, 0.2])
        side /= np.linalg.norm(side)
        start = np.array([0, 1.15, 0]) + out * np.array([0.2, 0.28, 0.2])
        tip = start + 0.16 * out - np.array([0, 0.05, 0])
        middle = (start + tip) / 2
        corners = np.array([start, middle - 0.045 * side, tip, middle + 0.045 * side])
        bench.quad(corners, leaf[k % 3], np.zeros((4, 2)))
    return bench.finish("small tree", "plant", EVERYWHERE, "floor_wall")


LEAVES = ((0.13, 0.36, 0.10), (0.20, 0.48, 0.14), (0.30, 0.58, 0.20))


def vase() -> Model:
    """A vase with flowers."""
    bench = Bench()
    glaze, stem = bench.paint(COLORS["blue"], "glaze", tint=True), bench.paint(LEAVES[0], "stem")
    petal = [bench.paint(COLORS[word], "petal") for word in ("yellow", "red", "pink")]
    bench.turned([(0.05, 0), (0.085, 0.1), (0.05, 0.2), (0.06, 0.24)], glaze)
    for k, (x, z) in enumerate(((0.0, 0.0), (0.06, 0.03), (-0.06, 0.02), (0.02, -0.06), (-0.03, 0.07))):
        top = 0.36 + 0.02 * k
        bench.turned([(0.006, 0.2), (0.006, top)], stem, (x * 0.7, 0, z * 0.7), 4)
        bench.turned([(0.0, top - 0.01), (0.035, top + 0.02), (0.0, top + 0.04)], petal[k % 3], (x, 0, z), 6)
    return bench.finish("vase", "vase", EVERYWHERE, "table", "blue", "fabric")
