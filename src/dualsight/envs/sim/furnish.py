"""Furniture in rooms."""

from __future__ import annotations

from random import Random

from dualsight.envs.sim.assembly import Assembly
from dualsight.envs.sim.building import Thing
from dualsight.envs.sim.floorplan import FloorPlan
from dualsight.envs.sim.structure import Building


def furnish(building: Building, plan: FloorPlan, assembly: Assembly, rng: Random) -> list[Thing]:
    """Nothing yet."""
    return []
