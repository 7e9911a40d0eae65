"""The surfaces of a house: what floors, walls, frames and stairs are made of, drawn for each house anew."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np

from dualsight.envs.sim import textures
from dualsight.envs.sim.assembly import Assembly, Paint
from dualsight.envs.sim.scene import Material

WOOD_TONES = ("light brown", "brown", "dark brown", "grey")
FLOORS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "hall": [("planks", WOOD_TONES), ("tiles", ("grey", "beige", "white")), ("checker", ("black", "grey", "brown"))],
    "living room": [("planks", WOOD_TONES), ("parquet", WOOD_TONES), ("carpet", ("beige", "grey", "brown"))],
    "dining room": [("parquet", WOOD_TONES), ("planks", WOOD_TONES), ("tiles", ("orange", "beige"))],
    "kitchen": [
        ("tiles", ("white", "grey", "beige", "orange", "black")),
        ("checker", ("black", "red", "blue", "green")),
    ],
    "bedroom": [("carpet", ("blue", "grey", "beige", "green", "purple", "red", "pink")), ("planks", WOOD_TONES)],
    "bathroom": [
        ("tiles", ("white", "blue", "green", "grey", "black", "pink")),
        ("checker", ("black", "blue", "green")),
    ],
    "office": [("carpet", ("grey", "blue", "green", "brown")), ("planks", WOOD_TONES)],
    "library": [("parquet", WOOD_TONES), ("carpet", ("red", "green", "brown"))],
    "playroom": [("carpet", ("yellow", "green", "blue", "orange", "red")), ("planks", WOOD_TONES)],
    "laundry room": [("tiles", ("white", "grey", "blue")), ("concrete", ("grey",))],
    "storage room": [("concrete", ("grey",)), ("tiles", ("grey", "brown"))],
}
"""Floors by type of room: kinds of texture and the colours they come in."""
WALLS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "bathroom": [("tiles", ("white", "blue", "green", "pink", "beige")), ("plaster", ("white", "blue", "green"))],
    "kitchen": [("plaster", ("white", "yellow", "beige", "green", "orange"))],
    "bedroom": [
        ("plaster", ("white", "blue", "green", "pink", "purple", "beige")),
        ("stripes", ("blue", "green", "pink", "yellow")),
    ],
    "living room": [("plaster", ("white", "beige", "yellow", "green", "red", "blue")), ("brick", ("red", "white"))],
    "playroom": [("plaster", ("yellow", "orange", "green", "blue", "pink")), ("stripes", ("red", "blue", "orange"))],
    "storage room": [("plaster", ("white", "grey")), ("brick", ("grey", "red"))],
    "hall": [("plaster", ("white", "beige", "yellow", "grey")), ("stripes", ("beige", "green"))],
}
ANY_WALL = [("plaster", ("white", "beige", "green", "blue", "grey", "yellow", "orange"))]
FLOOR_WORDS = {
    "planks": "wooden floor", "parquet": "wooden floor", "tiles": "{} tiles", "checker": "{} and white tiles",
    "carpet": "{} carpet", "concrete": "concrete floor",
}  # fmt: skip
"""What a floor is called."""


OUTDOORS = "outdoors"
"""The name of the material that windows show."""
LAMP = "lamp"
"""The name of the material that lamps shine with."""


@dataclass(frozen=True)
class Finish:
    """The surfaces of one room, and what they are called."""

    floor: Paint
    wall: Paint
    floor_words: str
    wall_word: str


class Finishes:
    """The paints of one house; ``rooms[i]`` is the finish of the i-th type of ``kinds``."""

    def __init__(self, kinds: list[str], assembly: Assembly, rng: Random) -> None:
        self.assembly, self.rng = assembly, rng
        self.white = self.plain("white paint", (0.93, 0.92, 0.9))
        self.metal = self.plain("dark metal", (0.2, 0.2, 0.21))
        self.lamp = self.plain(LAMP, (1.0, 0.97, 0.9))
        self.ceiling = self.textured("ceiling", "white")
        self.frame = rng.choice([self.white, self.white, self.textured("wood", rng.choice(["brown", "dark brown"]))])
        self.tread = self.textured("wood", rng.choice(["light brown", "brown", "dark brown"]))
        self.outdoors = (assembly.material(_outdoors()), 1.0)
        self._used: set[str] = set()
        self.rooms = [self._finish(kind) for kind in kinds]

    def plain(self, name: str, color: tuple[float, float, float]) -> Paint:
        """A paint without texture."""
        return self.assembly.material(Material(name, color)), 1.0

    def textured(self, kind: str, color: str) -> Paint:
        """A texture of ``textures`` as paint."""
        return self.assembly.material(textures.texture(kind, color)), textures.REPEAT[kind]

    def _finish(self, kind: str) -> Finish:
        """Floor and walls for a type of room; wall colours that the house does not have yet come first."""
        floor_kind, floor_colors = self.rng.choice(FLOORS[kind])
        floor_color = self.rng.choice(floor_colors)
        wall_kind, wall_colors = self.rng.choice(WALLS.get(kind, ANY_WALL))
        wall_color = self.rng.choice([color for color in wall_colors if color not in self._used] or wall_colors)
        if wall_color != "white":
            self._used.add(wall_color)
        return Finish(
            self.textured(floor_kind, floor_color),
            self.textured(wall_kind, wall_color),
            FLOOR_WORDS[floor_kind].format(floor_color),
            wall_color,
        )


@cache
def _outdoors() -> Material:
    """What windows show: lawn below, a hedge, sky above, brighter than the room."""
    sky, grass = (np.asarray(textures.texture(kind).texture, float) for kind in ("sky", "grass"))
    size = len(sky)
    up = 1 - (np.arange(size)[:, None, None] + 0.5) / size  # v of each row
    ridge = 0.46 + 0.02 * np.sin(2 * np.pi * np.arange(size) / size * 3)[None, :, None]
    hedge = grass * np.array([0.55, 0.62, 0.55])
    picture = np.where(up < 0.32, grass, np.where(up < ridge, hedge, sky))
    return Material(OUTDOORS, (1.0, 1.0, 1.0), np.clip(picture * 1.1 + 12, 0, 255).astype(np.uint8))
