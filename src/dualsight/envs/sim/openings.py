"""What stands in the openings of walls: door frames, front doors, windows with the bright outside behind them."""

from __future__ import annotations

from random import Random

from dualsight.envs.sim.assembly import Assembly, Paint, Span, lines
from dualsight.envs.sim.colors import COLORS
from dualsight.envs.sim.finishes import Finishes
from dualsight.envs.sim.floorplan import OUTSIDE, FloorPlan, Opening
from dualsight.envs.sim.layouts import WALL
from dualsight.envs.sim.measures import base

CASING = 0.07
"""Width of the boards around doors, metres."""
REVEAL = 0.18
"""How far outer walls reach outwards from their centre line."""
FRONT_DOORS = ("red", "blue", "green", "white", "brown", "black")
HORIZON = 3.3
"""Metres of the outside that one repeat of its picture shows from bottom to top."""


def add_opening(plan: FloorPlan, o: Opening, assembly: Assembly, finishes: Finishes, rng: Random) -> None:
    """The reveal of an opening and what stands in it: frame and threshold, closed front door, or window."""
    y, room = base(plan.cells[o.cells[0]]), finishes.rooms[o.cells[0]]
    color = rng.choice(FRONT_DOORS) if o.kind == "front door" else ""
    category = "wall" if o.kind == "arch" else o.kind
    instance = assembly.instance(category, color, o.cells[0], f"{o.kind} {o.cells[0]} to {o.cells[1]}")
    sides, thick = (-1, 1), (o.wall - WALL / 2, o.wall + WALL / 2)
    if o.cells[1] == OUTSIDE:
        out = _outwards(plan, o)
        sides, thick = (-out,), (o.wall - out * WALL / 2, o.wall + out * REVEAL)
    lining = {"arch": room.wall, "door": finishes.frame}.get(o.kind, finishes.white)
    _add_reveal(o, thick, y, lining, room.floor if o.sill == 0 else finishes.white, assembly, instance)
    if o.kind in ("door", "front door"):
        for side in sides:
            _add_casing(o, side, y, finishes.frame, assembly, instance)
    if o.kind == "front door":
        _add_leaf(o, out, y, color, finishes, assembly, instance)
    if o.kind == "window":
        _add_window(o, out, y, finishes, assembly, instance, rng)


def _outwards(plan: FloorPlan, o: Opening) -> int:
    """The sense of ``o.axis`` that leads out of the house."""
    r = plan.cells[o.cells[0]].rect
    return 1 if o.wall > ((r.x0 + r.x1) if o.axis == "x" else (r.z0 + r.z1)) / 2 else -1


def _edges(o: Opening) -> Span:
    return o.centre - o.width / 2, o.centre + o.width / 2


def _add_reveal(
    o: Opening, thick: Span, y: float, lining: Paint, ground: Paint, assembly: Assembly, instance: int
) -> None:
    """The two jambs, the head, and the sill or threshold."""
    low, high = _edges(o)
    depth, up = sorted(thick), lines(y + o.sill, y + o.head, step=0.7)
    other = "z" if o.axis == "x" else "x"
    assembly.upright(other, low, 1, depth, up, lining, instance)
    assembly.upright(other, high, -1, depth, up, lining, instance)
    x, z = (depth, [low, high]) if o.axis == "x" else ([low, high], depth)
    assembly.level(x, z, y + o.head, False, lining, instance)
    assembly.level(x, z, y + o.sill, True, ground, instance)


def _add_casing(o: Opening, side: int, y: float, paint: Paint, assembly: Assembly, instance: int) -> None:
    """Boards around a door on one side of the wall, slightly sunk into it."""
    low, high = _edges(o)
    face, top = o.wall + side * WALL / 2, y + o.head + CASING
    across = (face - 0.005 * side, face + 0.018 * side)
    assembly.block(o.axis, across, (low - CASING, low), (y, top), paint, instance)
    assembly.block(o.axis, across, (high, high + CASING), (y, top), paint, instance)
    assembly.block(o.axis, across, (low, high), (y + o.head, top), paint, instance)


def _add_leaf(
    o: Opening, out: int, y: float, color: str, finishes: Finishes, assembly: Assembly, instance: int
) -> None:
    """A closed door with two panels and a handle."""
    paint = finishes.plain(f"{color} door", COLORS[color])
    (low, high), face = _edges(o), o.wall + 0.04 * out
    assembly.block(o.axis, (face, face + 0.05 * out), (low, high), (y, y + o.head), paint, instance)
    panel = (face - 0.015 * out, face + 0.01 * out)
    for bottom, top in ((0.25, 0.95), (1.1, 1.85)):
        assembly.block(o.axis, panel, (low + 0.15, high - 0.15), (y + bottom, y + top), paint, instance)
    handle = (face - 0.06 * out, face + 0.01 * out)
    assembly.block(o.axis, handle, (high - 0.11, high - 0.08), (y + 1.0, y + 1.03), finishes.metal, instance)


def _add_window(
    o: Opening, out: int, y: float, finishes: Finishes, assembly: Assembly, instance: int, rng: Random
) -> None:
    """A frame with bars and a board before it, and behind it the outside: a picture, nearer the sky upstairs."""
    (low, high), bottom, top = _edges(o), y + o.sill, y + o.head
    pane = o.wall + (REVEAL - 0.02) * out
    shift, lift = rng.random() * HORIZON, 0.12 * HORIZON + min(y, 0.6)

    def place(a, b):
        along, up = low + (a - shift), bottom + (b - lift)
        return (pane, up, along) if o.axis == "x" else (along, up, pane)

    flip = (out < 0) == (o.axis == "x")
    picture = ([shift, shift + o.width], [lift, lift + top - bottom])
    assembly.plane(*picture, place, flip, (finishes.outdoors[0], HORIZON), instance)
    depth = (o.wall + 0.06 * out, o.wall + 0.1 * out)
    uprights = [(low, low + 0.05), (high - 0.05, high)]
    if o.width > 0.9:
        uprights.append((o.centre - 0.025, o.centre + 0.025))
    for bar in uprights:
        assembly.block(o.axis, depth, bar, (bottom, top), finishes.white, instance)
    for bar in ((bottom, bottom + 0.05), (top - 0.05, top)):
        assembly.block(o.axis, (depth[0] - 0.002 * out, depth[1]), (low, high), bar, finishes.white, instance)
    board = (o.wall - (WALL / 2 + 0.03) * out, o.wall)
    assembly.block(o.axis, board, (low - 0.03, high + 0.03), (bottom - 0.03, bottom + 0.005), finishes.white, instance)
