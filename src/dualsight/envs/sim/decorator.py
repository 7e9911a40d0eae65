"""Finding places for furniture in one room: at walls, in corners, beside and before and on top of other pieces."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from dualsight.envs.sim.assembly import Assembly
from dualsight.envs.sim.building import Room, Thing
from dualsight.envs.sim.furniture import Model, models, tinted
from dualsight.envs.sim.layouts import Rect
from dualsight.envs.sim.measures import CEILING
from dualsight.envs.sim.placing import GAP, Gap, Space, Spot

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
            height = flat_top(piece.model, sideways, forward, min(model.width, 0.3), min(model.depth, 0.3))
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
                return self.put(model, spot, elevation, color)
        return None

    def rug(self, under: Piece | None = None, forward: float = 0.0) -> None:
        """A rug in the middle of the room, or before or under a piece."""
        model = self.pick("rug")
        floor = self.space.floor
        spot = Spot((floor.x0 + floor.x1) / 2, (floor.z0 + floor.z1) / 2, 0 if floor.size[0] > floor.size[1] else 1)
        if under:
            spot = under.spot.moved(forward)
        rect = spot.footprint(model.width, model.depth).inset(-0.05)
        stairs = any(rect.overlaps(other) for other, top in self.space.taken if top >= CEILING)
        if self.space.within(rect) and not stairs:
            rug = self.put(model, spot, flat=True)
            if under and not forward:
                rug.relations.append(("under", under.instance))

    def curtains(self) -> None:
        """One pair of curtains before a window that it suits."""
        model = self.pick("curtain")
        for gap in self.space.gaps:
            wall = next(wall for wall in self.space.walls if wall.turn == gap.turn)
            spot = wall.spot((gap.low + gap.high) / 2, model.depth / 2 + 0.004)
            rect = spot.footprint(model.width, model.depth)
            tall = any(rect.overlaps(other) for other, top in self.space.taken if top > 1.0)
            if gap.sill > 0 and 1.0 < gap.high - gap.low < model.width - 0.3 and self.space.within(rect) and not tall:
                self.space.hung.append((spot.turn, rect, model.elevation, model.elevation + model.height))
                self.put(model, spot, model.elevation)
                return

    def door_leaf(self, gap: Gap, color: str) -> None:
        """A door that stands open flat along the side wall, where a doorway has one within half a metre."""
        wall = next(wall for wall in self.space.walls if wall.turn == gap.turn)
        low, high = gap.low - wall.low, wall.high - gap.high
        if min(low, high) > 0.5:
            return
        model = self.pick("door")
        along = gap.low - 0.045 if low < high else gap.high + 0.045
        hinged = wall.spot(along, model.width / 2 + 0.03)
        spot = Spot(hinged.x, hinged.z, (gap.turn + 3) % 4)
        if self.space.passable(spot.footprint(model.width, model.depth), gap):
            self.put(model, spot, color=color)

    def over(self, piece: Piece | None, *categories: str) -> None:
        """Hung from the ceiling, over a piece."""
        if piece:
            model = self.pick(*categories)
            self.put(model, Spot(piece.spot.x, piece.spot.z, 0), CEILING - model.height - 0.002)

    # ---- what came of it

    def things(self) -> list[Thing]:
        """The pieces (doors aside) as records; floor neighbours less than 0.35 m apart are "next to" each other."""
        standing = [p for p in self.pieces if p.y == 0.0 and p.model.height > 0.1 and p.model.category != "door"]
        for piece in standing:
            known = {other for _, other in piece.relations}
            for other in standing:
                close = piece is not other and piece.rect.inset(-0.35).overlaps(other.rect)
                if close and other.instance not in known and other.model.category != piece.model.category:
                    piece.relations.append(("next to", other.instance))
        return [self._thing(piece) for piece in self.pieces if piece.model.category != "door"]

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


def flat_top(model: Model, x: float, z: float, width: float, depth: float) -> float | None:
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
