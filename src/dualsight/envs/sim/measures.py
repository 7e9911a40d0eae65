"""Heights of the generated houses and where the rooms of a plan lie between their walls."""

from __future__ import annotations

from dualsight.envs.sim.floorplan import Cell
from dualsight.envs.sim.layouts import WALL, Rect

CEILING = 2.6
"""Height of rooms, metres."""
STOREY = 2.84
"""From floor to floor."""


def base(cell: Cell) -> float:
    """Height of a room's floor."""
    return cell.storey * STOREY


def inner(cell: Cell) -> Rect:
    """The floor of a room between its walls."""
    return cell.rect.inset(WALL / 2)
