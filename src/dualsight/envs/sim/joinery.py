"""Furniture that the shipped pack lacks, made on the ``workbench``, each piece with its front to +Z."""

from __future__ import annotations

from collections.abc import Iterator

from dualsight.envs.sim.piece import Model
from dualsight.envs.sim.textures import REPEAT, texture
from dualsight.envs.sim.workbench import Bench

METAL, DARK, WHITE, GLASS = (0.68, 0.69, 0.70), (0.10, 0.10, 0.11), (0.94, 0.94, 0.93), (0.16, 0.20, 0.24)
WOOD = REPEAT["wood"]


def pieces() -> Iterator[Model]:
    """Every piece made here."""
    for size, name in (((2.0, 1.4), "rug"), ((2.6, 0.8), "runner")):
        yield rug(*size, name)
    yield coffee_table()


def rug(width: float, depth: float, name: str) -> Model:
    """A flat carpet with a border."""
    bench = Bench()
    pile = bench.use(texture("carpet", "red"), tint=True)
    edge = bench.paint(WHITE, "edge")
    bench.box((0, 0, 0), (width, 0.008, depth), edge)
    bench.box((0.08, 0, 0.08), (width - 0.08, 0.012, depth - 0.08), pile)
    return bench.finish(name, "rug", "living room, bedroom, hall, office", "floor_free", "red", "fabric")


def coffee_table() -> Model:
    """A low table."""
    bench = Bench()
    wood = bench.use(texture("wood", "brown"), tint=True)
    bench.box((0, 0.36, 0), (1.1, 0.41, 0.6), wood, WOOD, hidden="")
    for x in (0.03, 1.01):
        for z in (0.03, 0.51):
            bench.box((x, 0, z), (x + 0.06, 0.36, z + 0.06), wood, WOOD, hidden="top bottom")
    return bench.finish("coffee table", "coffee table", "living room", "floor_free", "brown", "wood")
