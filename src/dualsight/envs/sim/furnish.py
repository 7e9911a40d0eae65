"""Furniture in the rooms of a house: each type of room has a recipe, each recipe asks for pieces in order of weight.

A recipe is a wish list: a piece that finds no place (a way 0.7 m wide between all doors must stay free, see
``placing``) is left out. What stands by, on or before what is recorded as relations of the ``Thing``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np

from dualsight.envs.sim.assembly import Assembly
from dualsight.envs.sim.building import Room, Thing
from dualsight.envs.sim.decorator import Decorator
from dualsight.envs.sim.floorplan import FloorPlan
from dualsight.envs.sim.layouts import Rect
from dualsight.envs.sim.measures import CEILING
from dualsight.envs.sim.placing import GAP, Gap, Space, Spot
from dualsight.envs.sim.structure import Building


def furnish(building: Building, plan: FloorPlan, assembly: Assembly, rng: Random) -> list[Thing]:
    """Furnish every room, add the pieces to ``assembly`` and return what they are."""
    seen: set[tuple[str, str]] = set()
    leaves = rng.choice(("white", "white", "grey", "black", "green", "blue"))
    things = []
    for room in building.rooms:
        decorator = Decorator(room, _space(room, building, plan), assembly, rng, seen)
        for gap in decorator.space.gaps if room.type != "hall" else ():
            if gap.leaf:
                decorator.door_leaf(gap, leaves)
        RECIPES[room.type](decorator)
        things += decorator.things()
    return things


def _space(room: Room, building: Building, plan: FloorPlan) -> Space:
    """The empty room: its openings, its entries, the zones to keep free, the stairs."""
    floor = Rect(room.x0, room.z0, room.x1, room.z1)
    gaps, entries, keep = [], [], []
    for o in plan.openings:
        if room.index not in o.cells:
            continue
        sides = {"x": ((1, room.x0), (3, room.x1)), "z": ((0, room.z0), (2, room.z1))}[o.axis]
        turn, _ = min(sides, key=lambda side: abs(side[1] - o.wall))
        gaps.append(Gap(turn, o.centre - o.width / 2, o.centre + o.width / 2, o.sill, o.head, o.kind == "door"))
        if o.sill == 0:
            inside = Spot(*o.middle, turn)
            point = inside.moved(0.55)
            entries.append((point.x, point.z))
            keep.append(inside.moved(0.45).footprint(o.width + 0.25, 0.9))
    taken = []
    for flight, record in zip([plan.flight] if plan.flight else [], building.stairs, strict=True):
        if room.index in flight.cells:
            taken.append((flight.rect, CEILING))
            end = record.bottom if room.index == flight.cells[0] else record.top
            keep.append(Rect(end[0] - 0.65, end[2] - 0.55, end[0] + 0.65, end[2] + 0.55))
            towards = -flight.sign if room.index == flight.cells[0] else flight.sign
            dx, dz = (0.2 * towards, 0.0) if flight.axis == "x" else (0.0, 0.2 * towards)
            entries.append((float(end[0]) + dx, float(end[2]) + dz))
    return Space(floor, gaps, entries, keep, taken)


# --- recipes ---------------------------------------------------------------------------------------------------------


def bedroom(d: Decorator) -> None:
    """A wardrobe, a bed with what belongs to it, perhaps a desk."""
    d.wall("wardrobe", where="corner")
    bed = d.wall("bed", where="middle", apron=0.4) or d.wall("bunk bed", where="corner")
    table = d.beside(bed, "bedside table")
    second = d.beside(bed, like=table) if table else None
    d.on(table, "table lamp", "desk lamp")
    if second and d.chance(0.5):
        d.on(second, "potted plant", "teddy bear", "flowers")
    if d.chance(0.4):
        desk = d.wall("desk", apron=0.6)
        d.before(desk, "chair", gap=-0.15, turn=2)
        d.on(desk, "desk lamp")
    if d.chance(0.2):
        d.wall("crib", where="corner")
    for category in d.rng.sample(("armchair", "dresser", "bookcase", "shelf", "plant", "floor lamp", "guitar"), 3):
        d.wall(category, where="corner", apron=0.2)
    if bed and d.chance(0.6):
        d.hang("painting", above=bed)
    _walls(d, 1)
    if bed and d.chance(0.5):
        d.rug(bed, forward=bed.model.depth / 2 + 0.4)


def living_room(d: Decorator) -> None:
    """Sofa, coffee table and television on an axis; armchairs, books, plants, perhaps a piano."""
    sofa = d.wall("sofa", "corner sofa", where="middle", apron=1.0)
    table = d.before(sofa, "coffee table", gap=0.4)
    if sofa and d.chance(0.7):
        d.rug(table or sofa)
    d.on(table, "potted plant", "vase", "flowers", "cactus")
    stand = d.wall("tv stand", facing=sofa, apron=0.4) if sofa else None
    stand = stand or d.wall("tv stand", apron=0.4)
    d.on(stand, "television")
    if d.chance(0.3):
        d.wall("fireplace", where="middle", apron=0.5)
    if d.chance(0.35):
        piano = d.wall("piano", where="corner", apron=0.7)
        d.before(piano, "bench", gap=0.1)
    for category in d.rng.sample(
        ("armchair", "bookcase", "plant", "floor lamp", "aquarium", "armchair", "cabinet", "sideboard"), 4
    ):
        d.wall(category, where="corner" if category in ("plant", "floor lamp") else "any", apron=0.3)
    if d.chance(0.4):
        table = d.middle("round table", spread=1.5)
        d.around(table, 3, "chair")
        d.on(table, "flowers", "vase")
    if sofa and d.chance(0.7):
        d.hang("painting", above=sofa)
    _walls(d, 2)


def kitchen(d: Decorator) -> None:
    """A row of cabinets with fridge, sink and stove, cupboards over it, and a table if it fits."""
    if not _kitchen_row(d):
        first = None
        for category in ("fridge", "sink", "stove", "kitchen counter"):
            first = d.wall(category, where="corner")
        d.beside(first, like=first)
    if d.chance(0.7):
        table = d.middle("round table", "dining table", spread=0.9)
        d.around(table, 4, "chair", "stool")
        d.on(table, "potted plant", "vase", "flowers")
    else:
        island = d.middle("kitchen island")
        d.around(island, 2, "stool")
    d.wall("plant", "dustbin", where="corner", apron=0.0)
    _walls(d, 1)


def _kitchen_row(d: Decorator) -> bool:
    """Cabinets side by side along one wall, in one colour: the longest row that fits, if any."""
    counter, counter_color = d.pick("kitchen counter"), None
    row = [d.pick("fridge"), counter, d.pick("sink"), counter, d.pick("stove", "oven"), counter, counter]
    order = d.rng.sample(d.space.walls, 4)
    for length in range(len(row), 2, -1):
        models = row[:length]
        total = sum(model.width + 0.005 for model in models)
        for wall in order:
            for start, sense in ((wall.low + GAP, 1), (wall.high - GAP, -1)):
                edges = np.cumsum([0.0] + [model.width + 0.005 for model in models])
                middles = [start + sense * (edges[i] + model.width / 2) for i, model in enumerate(models)]
                spots = [wall.spot(float(m), model.depth / 2 + GAP) for m, model in zip(middles, models, strict=True)]
                rects = [s.footprint(m.width, m.depth) for s, m in zip(spots, models, strict=True)]
                if total > wall.high - wall.low or not d.space.fit(rects, [m.height for m in models]):
                    continue
                for model, spot in zip(models, spots, strict=True):
                    same = model.category in ("kitchen counter", "sink")
                    piece = d.put(model, spot, color=counter_color if same else None, apron=0.6)
                    if model.category == "kitchen counter":
                        counter_color = piece.color
                        d.hang("wall cabinet", above=piece, color=counter_color)
                        if d.chance(0.5):
                            d.on(piece, "microwave", "potted plant", "cactus", "vase")
                    if model.category == "stove":
                        d.hang("range hood", above=piece)
                return True
    return False


def dining_room(d: Decorator) -> None:
    """A table with chairs, a lamp over it, something along the walls."""
    table = d.middle("dining table", "round table")
    d.around(table, d.rng.choice((4, 6)), "chair")
    d.on(table, "flowers", "vase")
    d.over(table, "chandelier", "pendant lamp")
    d.on(d.wall("sideboard", "cabinet", where="middle", apron=0.4), "vase", "potted plant", "table lamp")
    d.wall("plant", where="corner", apron=0.0)
    if d.chance(0.5):
        d.rug(table)
    _walls(d, 2)


def bathroom(d: Decorator) -> None:
    """Shower or tub, washbasin under a mirror, toilet."""
    d.wall("shower", "bathtub", where="corner", apron=0.3)
    basin = d.wall("washbasin", apron=0.4)
    d.wall("toilet", apron=0.3)
    if basin:
        d.hang("mirror", above=basin)
    d.hang("towel rack")
    for category in d.rng.sample(("bidet", "radiator", "dustbin", "laundry basket"), 1):
        d.wall(category, where="corner", apron=0.0)


def office(d: Decorator) -> None:
    """A desk with a chair and a lamp, shelves, something to look at."""
    desk = d.wall("desk", apron=0.7)
    d.before(desk, "chair", gap=-0.15, turn=2)
    d.on(desk, "desk lamp")
    d.wall("bookcase", "shelf", where="corner")
    for category in d.rng.sample(
        ("bookcase", "whiteboard", "armchair", "plant", "shelf", "drafting table", "dustbin"), 3
    ):
        d.wall(category, where="corner", apron=0.2)
    if d.chance(0.5):
        d.rug()
    _walls(d, 2)


def library(d: Decorator) -> None:
    """Books on the walls and somewhere to read."""
    for _ in range(3):
        d.wall("bookcase")
    if d.chance(0.4):
        d.middle("piano")
    chair = d.wall("armchair", where="corner", apron=0.4)
    d.beside(chair, "floor lamp")
    d.wall("desk", "armchair", apron=0.5)
    d.wall("plant", where="corner", apron=0.0)
    d.rug()
    _walls(d, 1)


def playroom(d: Decorator) -> None:
    """A big game in the middle, toys around it."""
    d.middle("pool table", "foosball table", spread=0.4)
    for category in d.rng.sample(("cupboard", "guitar", "whiteboard", "sofa", "shelf", "treadmill"), 3):
        d.wall(category, apron=0.4)
    d.wall("rocking horse", where="corner", apron=0.0)
    _walls(d, 2)


def laundry_room(d: Decorator) -> None:
    """Washing machine, sink, baskets."""
    for categories in (
        ("washing machine",),
        ("sink",),
        ("laundry basket", "box"),
        ("kitchen counter",),
        ("ironing board", "stool"),
    ):
        d.wall(*categories, where="corner", apron=0.4)
    _walls(d, 1)


def storage_room(d: Decorator) -> None:
    """Shelves, crates, barrels."""
    for category in d.rng.sample(
        ("crate", "barrel", "box", "storage rack", "water heater", "fire extinguisher", "crate", "ironing board"), 4
    ):
        d.wall(category, where="corner", apron=0.0)


def hall(d: Decorator) -> None:
    """What one passes: a bench or a console, plants, pictures, a rug."""
    long = max(d.space.floor.size)
    wishes = [
        "bench",
        "plant",
        "shelf",
        "coat rack",
        "shoe cabinet",
        "armchair",
        "sideboard",
        "fire extinguisher",
        "plant",
        "grandfather clock",
    ]
    for category in d.rng.sample(wishes, 2 + int(long / 4)):
        d.wall(category, apron=0.0)
    if d.chance(0.5):
        d.rug()
    _walls(d, 2 + int(long / 5))


def _walls(d: Decorator, count: int) -> None:
    """Curtains at times, then pictures, clocks and lights on free walls."""
    if d.room.type in ("living room", "bedroom", "dining room", "office", "library") and d.chance(0.6):
        d.curtains()
    for _ in range(count):
        d.hang(
            *d.rng.choice(
                (
                    ("painting",),
                    ("painting",),
                    ("painting",),
                    ("painting",),
                    ("clock", "mirror"),
                    ("wall light", "cuckoo clock"),
                )
            )
        )


RECIPES: dict[str, Callable[[Decorator], None]] = {
    "bedroom": bedroom,
    "living room": living_room,
    "kitchen": kitchen,
    "dining room": dining_room,
    "bathroom": bathroom,
    "office": office,
    "library": library,
    "playroom": playroom,
    "laundry room": laundry_room,
    "storage room": storage_room,
    "hall": hall,
}
