"""A straight flight of stairs in a hall: solid steps, the hole in the floor above, railings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualsight.envs.sim.assembly import Assembly, Span, lines
from dualsight.envs.sim.building import Stairs
from dualsight.envs.sim.finishes import Finishes
from dualsight.envs.sim.floorplan import Flight, FloorPlan
from dualsight.envs.sim.measures import CEILING, STOREY, inner

STEPS = 16
"""Risers of a flight, 0.1775 m each; the last one ends on the upper floor."""
RISE = STOREY / STEPS
RAIL = 0.95
"""Height of railings, metres."""
APPROACH = 0.3
"""How far before the first and after the last step the record says that the stairs begin and end."""


@dataclass(frozen=True)
class _Frame:
    """A flight in its own terms: along its axis from ``start`` to ``end``, across it from its wall to its open side."""

    flight: Flight
    start: float
    end: float
    open_side: float
    wall_side: float

    @classmethod
    def of(cls, plan: FloorPlan, flight: Flight) -> _Frame:
        r, hall = flight.rect, inner(plan.cells[flight.cells[0]])
        if flight.axis == "x":
            ends, sides, walls = (r.x0, r.x1), (r.z0, r.z1), (hall.z0, hall.z1)
        else:
            ends, sides, walls = (r.z0, r.z1), (r.x0, r.x1), (hall.x0, hall.x1)
        at_low_wall = sides[0] - walls[0] < walls[1] - sides[1]
        return cls(flight, *ends[:: flight.sign], *(sides[::-1] if at_low_wall else sides))

    def nosing(self, step: int) -> float:
        """Where along its axis a step begins."""
        return self.start + (self.end - self.start) * step / (STEPS - 1)

    @property
    def inwards(self) -> int:
        """The sense across the flight that leads from the open side onto the steps."""
        return 1 if self.wall_side > self.open_side else -1

    @property
    def across(self) -> str:
        """The axis across the flight."""
        return "z" if self.flight.axis == "x" else "x"


def record(flight: Flight) -> Stairs:
    """The flight as a record of the house."""
    r = flight.rect
    ends = (r.x0, r.x1) if flight.axis == "x" else (r.z0, r.z1)
    start, end = ends[:: flight.sign]
    middle = (r.z0 + r.z1) / 2 if flight.axis == "x" else (r.x0 + r.x1) / 2
    places = ((start - APPROACH * flight.sign, 0.0), (end + APPROACH * flight.sign, STOREY))
    bottom, top = (np.array([a, y, middle] if flight.axis == "x" else [middle, y, a]) for a, y in places)
    return Stairs(bottom, top, flight.cells, min(r.size))


def add_stairs(plan: FloorPlan, flight: Flight, assembly: Assembly, finishes: Finishes) -> None:
    """Steps as blocks down to the floor with wooden treads, the edges of the hole above them, and railings."""
    frame = _Frame.of(plan, flight)
    steps = assembly.instance("stairs", room=flight.cells[0])
    width = (frame.wall_side, frame.open_side)
    for step in range(STEPS - 1):
        along, top = (frame.nosing(step), frame.nosing(step + 1)), RISE * (step + 1)
        assembly.block(frame.across, width, along, (0.0, top - 0.03), finishes.white, steps)
        assembly.block(frame.across, width, along, (top - 0.03, top), finishes.tread, steps)
    r = flight.rect
    for axis, at, front, low, high in (
        ("x", r.x0, 1, r.z0, r.z1),
        ("x", r.x1, -1, r.z0, r.z1),
        ("z", r.z0, 1, r.x0, r.x1),
        ("z", r.z1, -1, r.x0, r.x1),
    ):
        assembly.upright(axis, at, front, lines(low, high), [CEILING, STOREY], finishes.white, steps)
    _add_handrail(frame, assembly, finishes)
    _add_balustrade(frame, assembly, finishes)


def _add_handrail(frame: _Frame, assembly: Assembly, finishes: Finishes) -> None:
    """A bar on every step along the open side, and a rail that climbs with them."""
    instance = assembly.instance("railing", room=frame.flight.cells[0])
    edge = frame.open_side + 0.035 * frame.inwards
    for step in range(STEPS - 1):
        along, foot = (frame.nosing(step), frame.nosing(step + 1)), RISE * (step + 1)
        middle, top = sum(along) / 2, foot + RAIL - 0.1
        assembly.block(frame.across, _about(edge, 0.03), _about(middle, 0.03), (foot, top), finishes.metal, instance)
        assembly.block(frame.across, _about(edge, 0.06), along, (top - RISE / 2, top + 0.05), finishes.tread, instance)


def _add_balustrade(frame: _Frame, assembly: Assembly, finishes: Finishes) -> None:
    """Upstairs: a railing along the open side of the hole and across the end where one does not arrive."""
    instance = assembly.instance("railing", room=frame.flight.cells[1])
    sides = (
        (frame.across, frame.open_side - 0.035 * frame.inwards, (frame.start, frame.end), 30),
        (frame.flight.axis, frame.start - 0.035 * frame.flight.sign, (frame.open_side, frame.wall_side), 8),
    )
    for axis, at, along, count in sides:
        for bar in np.linspace(*along, count):
            up = (STOREY, STOREY + RAIL)
            assembly.block(axis, _about(at, 0.03), _about(float(bar), 0.03), up, finishes.metal, instance)
        rail = (STOREY + RAIL, STOREY + RAIL + 0.05)
        assembly.block(axis, _about(at, 0.06), along, rail, finishes.tread, instance)


def _about(middle: float, width: float) -> Span:
    return middle - width / 2, middle + width / 2
