"""Furniture: the CC0 models of the shipped pack and the pieces made in ``joinery``, ``appliances`` and ``decor``.

Every model stands at the origin: its footprint is centred, y = 0 is its lowest point, and its front (where one sits,
opens a door, looks at a screen) faces +Z, so that its back goes to a wall. Turn it about +Y and move it to place it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from dualsight.envs.sim import appliances, decor, joinery
from dualsight.envs.sim.colors import COLORS
from dualsight.envs.sim.piece import PALETTES, Model, tinted
from dualsight.envs.sim.scene import Material

__all__ = ["COLORS", "Model", "catalog", "models", "tinted"]

ASSETS = Path(__file__).with_name("assets")


@cache
def catalog() -> tuple[Model, ...]:
    """Every model, the shipped ones first; loaded once."""
    return (*_shipped(), *joinery.pieces(), *appliances.pieces(), *decor.pieces())


def models(category: str | None = None, room: str | None = None) -> list[Model]:
    """The models of a category, those that belong in a type of room, or both.

    Raises:
        KeyError: no model is of that category.
    """
    known = {model.category for model in catalog()}
    if category is not None and category not in known:
        raise KeyError(f"no furniture of category {category!r}; there are {', '.join(sorted(known))}")
    return [
        model
        for model in catalog()
        if (category is None or model.category == category) and (room is None or room in model.rooms)
    ]


def _shipped() -> Iterable[Model]:
    """The models of the pack."""
    records = json.loads((ASSETS / "furniture.json").read_text())
    with safe_open(ASSETS / "furniture.safetensors", framework="numpy") as pack:
        for record in records:
            arrays = {
                key: pack.get_tensor(f"{record['name']}/{key}")
                for key in ("vertices", "uv", "triangles", "material", "occlusion")
            }
            yield Model(
                **{key: record[key] for key in ("name", "category", "placement", "color")},
                **{key: record[key] for key in ("width", "height", "depth", "elevation")},
                rooms=tuple(record["rooms"]),
                vertices=arrays["vertices"],
                uv=arrays["uv"],
                triangles=arrays["triangles"].astype(np.int32),
                material=arrays["material"].astype(np.int32),
                materials=[_material(entry) for entry in record["materials"]],
                occlusion=arrays["occlusion"].astype(np.float32) / 255,
                tintable=tuple(record["tintable"]),
                colors=PALETTES[record["palette"]],
            )


def _material(entry: dict) -> Material:
    texture = _image(entry["texture"]) if entry["texture"] else None
    return Material(entry["name"], tuple(entry["color"]), texture)


@cache
def _image(name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(ASSETS / "textures" / name).convert("RGB"))
