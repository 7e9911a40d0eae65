"""Furniture in the rooms of a house: each type of room has a recipe, each recipe asks for pieces in order of weight.

A recipe is a wish list: a piece that finds no place (a way 0.7 m wide between all doors must stay free, see
``placing``) is left out. What stands by, on or before what is recorded as relations of the ``Thing``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from dualsight.envs.sim.assembly import Assembly
from dualsight.envs.sim.building import Room, Thing
from dualsight.envs.sim.floorplan import FloorPlan
from dualsight.envs.sim.furniture import Model, models, tinted
from dualsight.envs.sim.layouts import Rect
from dualsight.envs.sim.measures import CEILING
from dualsight.envs.sim.placing import GAP, Gap, Space, Spot
from dualsight.envs.sim.structure import Building

APRON = 0.5
"""Free floor in front of what stands at a wall, metres."""

MOSTLY_WHITE = ("toilet", "washbasin", "bidet", "bathtub", "radiator", "shower")
"""What seldom comes in another colour."""


@dataclass
class Piece:
    """A model in its place; ``y`` is the height of its lowest point above the floor."""

    model: Model
    color: str
    spot: Spot
    y: float
    instance: int
    relations: list[tuple[str, int]]

    @property
    def rect(self) -> Rect:
        """The floor it covers or hangs over."""
        return self.spot.footprint(self.model.width, self.model.depth)

    @property
    def top(self) -> float:
        """The height of its highest point above the floor."""
        return self.y + self.model.height


def furnish(building: Building, plan: FloorPlan, assembly: Assembly, rng: Random) -> list[Thing]:
    """Furnish every room, add the pieces to ``assembly`` and return what they are."""
    seen: set[tuple[str, str]] = set()
    things = []
    for room in building.rooms:
        decorator = Decorator(room, _space(room, building, plan), assembly, rng, seen)
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
        gaps.append(Gap(turn, o.centre - o.width / 2, o.centre + o.width / 2, o.sill, o.head))
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


class Decorator:
    """Finds places for pieces in one room."""

    def __init__(self, room: Room, space: Space, assembly: Assembly, rng: Random, seen: set[tuple[str, str]]) -> None:
        self.room, self.space, self.assembly, self.rng = room, space, assembly, rng
        self.seen = seen
        self.pieces: list[Piece] = []

    # ---- choosing

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return self.rng.random() < share

    def choices(self, *categories: str) -> list[Model]:
        """The models of some categories in random order, those meant for this type of room first."""
        options = [model for category in categories for model in models(category)]
        return sorted(self.rng.sample(options, len(options)), key=lambda model: self.room.type not in model.rooms)

    def pick(self, *categories: str) -> Model:
        """A model of one of the categories, one meant for this type of room if there is one."""
        return self.choices(*categories)[0]

    def color(self, model: Model) -> str:
        """A colour for a model: one that no other piece of its category in the house has yet, if there is one."""
        colors = model.colors or (model.color,)
        if model.category in MOSTLY_WHITE and self.chance(0.75):
            return "white"
        fresh = [color for color in colors if (model.category, color) not in self.seen]
        color = self.rng.choice(fresh or colors)
        self.seen.add((model.category, color))
        return color

    # ---- placing

    def put(
        self, model: Model, spot: Spot, y: float = 0.0, color: str | None = None, apron: float = 0.0, flat=False
    ) -> Piece:
        """Place a model here, whatever is there; it takes its floor unless it is ``flat`` or stands on something."""
        color = color if color in model.colors else self.color(model)
        instance = self.assembly.instance(model.category, color, self.room.index, model.name)
        piece = Piece(model, color, spot, y, instance, [])
        angle = spot.turn * np.pi / 2
        c, s = round(np.cos(angle)), round(np.sin(angle))
        x, up, z = model.vertices.T.astype(float)
        vertices = np.stack([c * x + s * z + spot.x, up + y + self.room.y, c * z - s * x + spot.z], axis=1)
        numbers = np.array(
            [self.assembly.material(material) for material in tinted(model, color if model.colors else "")]
        )
        self.assembly.mesh(vertices, model.uv, model.triangles, numbers[model.material], instance)
        if y == 0.0 and not flat:
            self.space.taken.append((piece.rect, piece.top))
        if apron:
            self.space.aprons.append(self._apron(spot, model, apron))
        self.pieces.append(piece)
        return piece

    @staticmethod
    def _apron(spot: Spot, model: Model, depth: float) -> Rect:
        return spot.moved((model.depth + depth) / 2 + 0.01).footprint(model.width, depth - 0.02)

    def wall(
        self, *categories: str, where: str = "any", apron: float = APRON, facing: Piece | None = None
    ) -> Piece | None:
        """At a wall: anywhere, in a "corner", in the "middle" of a wall, or opposite to a piece."""
        for model in self.choices(*categories)[:3]:
            spots = list(self.space.wall_spots(model.width, model.depth))
            self.rng.shuffle(spots)
            if where == "corner":
                spots.sort(key=lambda s: round(min(self._along(s) - s[0].low, s[0].high - self._along(s)), 1))
            elif where == "middle":
                spots.sort(key=lambda s: abs(self._along(s) - (s[0].low + s[0].high) / 2))
            if facing:
                spots = [s for s in spots if self._opposite(facing, s[1])]
            for _, spot in spots:
                clear = not apron or self.space.clear(self._apron(spot, model, apron))
                if clear and self.space.fits(spot.footprint(model.width, model.depth), model.height):
                    return self._related(self.put(model, spot, apron=apron), "facing", facing)
        return None

    @staticmethod
    def _along(placed) -> float:
        wall, spot = placed
        return spot.z if wall.turn % 2 else spot.x

    @staticmethod
    def _opposite(piece: Piece, spot: Spot) -> bool:
        """Does a spot look back at a piece, at most 0.6 m off its axis and at least 1.5 m away?"""
        (fx, fz), dx, dz = piece.spot.front, spot.x - piece.spot.x, spot.z - piece.spot.z
        return (spot.turn - piece.spot.turn) % 4 == 2 and dx * fx + dz * fz > 1.5 and abs(dx * fz - dz * fx) < 0.6

    @staticmethod
    def _related(piece: Piece, word: str, other: Piece | None) -> Piece:
        if other:
            piece.relations.append((word, other.instance))
        return piece

    def beside(self, piece: Piece | None, *categories: str, like: Piece | None = None) -> Piece | None:
        """Next to a piece, their backs in line; ``like`` repeats a model and its colour."""
        if piece is None:
            return None
        model = like.model if like else self.pick(*categories)
        for side in self.rng.sample((-1, 1), 2):
            sideways = side * ((piece.model.width + model.width) / 2 + 0.06)
            spot = piece.spot.moved((model.depth - piece.model.depth) / 2, sideways)
            if self.space.fits(spot.footprint(model.width, model.depth), model.height, on_apron=True):
                return self._related(self.put(model, spot, color=like.color if like else None), "next to", piece)
        return None

    def before(self, piece: Piece | None, *categories: str, gap: float = 0.4, turn: int = 0) -> Piece | None:
        """In front of a piece, ``gap`` metres from it."""
        if piece is None:
            return None
        model = self.pick(*categories)
        extent = model.width if turn % 2 else model.depth
        spot = piece.spot.moved(piece.model.depth / 2 + gap + extent / 2, turn=turn)
        if self.space.fits(spot.footprint(model.width, model.depth), model.height, on_apron=True):
            return self._related(self.put(model, spot), "facing" if turn == 2 else "next to", piece)
        return None

    def middle(self, *categories: str, spread: float = 0.6) -> Piece | None:
        """Free in the room, near its middle, along its longer side."""
        model = self.pick(*categories)
        floor = self.space.floor
        along_x = (floor.size[0] > floor.size[1]) == (model.width >= model.depth)
        for _ in range(30):
            x = (floor.x0 + floor.x1) / 2 + self.rng.uniform(-spread, spread)
            z = (floor.z0 + floor.z1) / 2 + self.rng.uniform(-spread, spread)
            spot = Spot(x, z, self.rng.choice((0, 2)) if along_x else self.rng.choice((1, 3)))
            if self.space.fits(spot.footprint(model.width, model.depth), model.height):
                return self.put(model, spot)
        return None

    def around(self, table: Piece | None, count: int, *categories: str) -> None:
        """Equal chairs at a table, drawn up to it, on its long sides first."""
        if table is None:
            return
        model = self.pick(*categories)
        color = self.color(model)
        seats = max(1, int(table.model.width / 0.65))
        places = [(side, (i + 0.5) / seats - 0.5) for i in range(seats) for side in (0, 2)]
        places += [(1, 0.0), (3, 0.0)]
        for side, share in (
            places[:count] if seats > 1 else self.rng.sample([(s, 0.0) for s in range(4)], min(4, count))
        ):
            reach = (table.model.width if side % 2 else table.model.depth) / 2
            sideways = share * (table.model.depth if side % 2 else table.model.width)
            towards = Spot(table.spot.x, table.spot.z, (table.spot.turn + side) % 4)
            spot = towards.moved(reach + model.depth / 2 - 0.18, sideways, 2)
            if self.space.fits(spot.footprint(model.width, model.depth), model.height, True, self._rect_of(table)):
                self._related(self.put(model, spot, color=color), "next to", table)

    def _rect_of(self, piece: Piece) -> Rect | None:
        """The very footprint that the space holds for a piece."""
        return next((rect for rect, _ in self.space.taken if rect == piece.rect), None)

    def on(self, piece: Piece | None, *categories: str) -> Piece | None:
        """On top of a piece where its top is flat enough."""
        if piece is None:
            return None
        model = self.pick(*categories)
        for _ in range(6):
            reach_x = max(0.0, (piece.model.width - model.width) / 2 - 0.04)
            reach_z = max(0.0, (piece.model.depth - model.depth) / 2 - 0.04)
            sideways, forward = self.rng.uniform(-reach_x, reach_x), self.rng.uniform(-reach_z, reach_z)
            height = _flat_top(piece.model, sideways, forward, min(model.width, 0.3), min(model.depth, 0.3))
            spot = piece.spot.moved(forward, sideways)
            rect = spot.footprint(model.width, model.depth)
            crowded = any(
                ("on", piece.instance) in other.relations and rect.overlaps(other.rect) for other in self.pieces
            )
            if height is not None and height + model.height < 1.9 and not crowded:
                return self._related(self.put(model, spot, piece.y + height), "on", piece)
        return None

    def hang(self, *categories: str, above: Piece | None = None, color: str | None = None) -> Piece | None:
        """On a wall, at the model's elevation; over a piece if given."""
        model = self.pick(*categories)
        elevation = model.elevation or 1.5
        if above:
            back = (model.depth - above.model.depth) / 2
            elevation = max(elevation, above.top + 0.08)
            spots = [above.spot.moved(back)]
        else:
            spots = [spot for _, spot in self.space.wall_spots(model.width, model.depth, 0.25)]
            self.rng.shuffle(spots)
        for spot in spots:
            spot = spot.moved(-GAP + 0.004) if not above else spot
            rect = spot.footprint(model.width, model.depth)
            if elevation + model.height < CEILING - 0.1 and self.space.hangs(
                spot.turn, rect, elevation, elevation + model.height
            ):
                self.space.hung.append((spot.turn, rect, elevation, elevation + model.height))
                return self._related(self.put(model, spot, elevation, color), "on", None)
        return None

    def rug(self, under: Piece | None = None, forward: float = 0.0) -> None:
        """A rug in the middle of the room, or before or under a piece."""
        model = self.pick("rug")
        floor = self.space.floor
        spot = Spot((floor.x0 + floor.x1) / 2, (floor.z0 + floor.z1) / 2, 0 if floor.size[0] > floor.size[1] else 1)
        if under:
            spot = under.spot.moved(forward)
        if self.space.within(spot.footprint(model.width, model.depth).inset(-0.05)):
            rug = self.put(model, spot, flat=True)
            if under and not forward:
                rug.relations.append(("under", under.instance))

    def over(self, piece: Piece | None, *categories: str) -> None:
        """Hung from the ceiling, over a piece."""
        if piece:
            model = self.pick(*categories)
            self.put(model, Spot(piece.spot.x, piece.spot.z, 0), CEILING - model.height - 0.002)

    # ---- what came of it

    def things(self) -> list[Thing]:
        """The pieces as records; floor neighbours less than 0.35 m apart are "next to" each other."""
        standing = [piece for piece in self.pieces if piece.y == 0.0 and piece.model.height > 0.1]
        for piece in standing:
            known = {other for _, other in piece.relations}
            for other in standing:
                close = piece is not other and piece.rect.inset(-0.35).overlaps(other.rect)
                if close and other.instance not in known and other.model.category != piece.model.category:
                    piece.relations.append(("next to", other.instance))
        return [self._thing(piece) for piece in self.pieces]

    def _thing(self, piece: Piece) -> Thing:
        width, depth = piece.rect.size
        return Thing(
            piece.instance,
            piece.model.category,
            piece.color,
            self.room.index,
            np.array([piece.spot.x, self.room.y + piece.y, piece.spot.z]),
            np.array([width, piece.model.height, depth]),
            tuple(piece.relations),
        )


def _flat_top(model: Model, x: float, z: float, width: float, depth: float) -> float | None:
    """The height of a model's top under a small footprint, or None where it is not level within 2 cm."""
    heights = [
        _top_at(model, x + a * width / 2, z + b * depth / 2) for a, b in ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
    ]
    return max(heights) if max(heights) - min(heights) < 0.02 and min(heights) > 0.2 else None


def _top_at(model: Model, x: float, z: float) -> float:
    """The highest point of a model on the vertical line through (x, z); 0 where it has none."""
    corners = model.vertices[model.triangles].astype(float)  # (T, 3, 3)
    d = corners[:, :, [0, 2]] - (x, z)
    area = [d[:, i, 0] * d[:, j, 1] - d[:, i, 1] * d[:, j, 0] for i, j in ((1, 2), (2, 0), (0, 1))]
    total = area[0] + area[1] + area[2]
    inside = (np.abs(total) > 1e-9) & (np.minimum.reduce([a * np.sign(total) for a in area]) >= 0)
    if not inside.any():
        return 0.0
    heights = sum(a[inside] * corners[inside, i, 1] for i, a in enumerate(area)) / total[inside]
    return float(np.max(heights))


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
    if sofa and d.chance(0.7):
        d.hang("painting", above=sofa)
    _walls(d, 2)


def kitchen(d: Decorator) -> None:
    """A row of cabinets with fridge, sink and stove, cupboards over it, and a table if it fits."""
    if not _kitchen_row(d):
        for category in ("fridge", "sink", "stove", "kitchen counter", "kitchen counter"):
            d.wall(category, where="corner")
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
    """Pictures, clocks and lights on free walls."""
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
