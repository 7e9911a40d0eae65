"""Collect labelled pictures of generated houses, a shard per house: of rooms (``data.rooms``), and of all that is
around one place (``data.housetalk``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from dualsight.data.housetalk import write_views
from dualsight.data.rooms import write_rooms
from dualsight.envs.sim.house import load, load_navmesh
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.snapshots import snapshots
from dualsight.envs.sim.surroundings import surroundings
from dualsight.types import Camera


def collect(
    houses: Iterable[int],
    out: Path,
    per_house: int = 48,
    camera: Camera | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> list[Path]:
    """Write ``rooms-<seed>.safetensors`` for each house; shards that exist are kept. Returns all shards.

    Args:
        per_house: pictures of each house; fewer where it has few views that tell the room.
        camera: 64 x 64 pixels, 90 degrees if not given.
        cache: where houses keep their light (`envs.sim.house.load`).
    """

    def take(house, navmesh, renderer, rng):
        return snapshots(house, navmesh, renderer, per_house, rng, camera)

    return _shards(houses, out, "rooms", take, write_rooms, seed, cache)


def collect_views(
    houses: Iterable[int], out: Path, per_house: int = 48, side: int = 64, seed: int = 0, cache: Path | None = None
) -> list[Path]:
    """Write ``views-<seed>.safetensors`` for each house; shards that exist are kept. Returns all shards.

    Args:
        per_house: pictures of each house; fewer where it has few places from which there is enough to see.
        side: pixels of each of the four views of a picture.
        cache: where houses keep their light.
    """

    def take(house, navmesh, renderer, rng):
        return surroundings(house, navmesh, renderer, per_house, rng, side)

    return _shards(houses, out, "views", take, write_views, seed, cache)


def _shards(
    houses: Iterable[int],
    out: Path,
    name: str,
    take: Callable[..., Sequence[Any]],
    write: Callable[[Path, Sequence[Any]], None],
    seed: int,
    cache: Path | None,
) -> list[Path]:
    paths = []
    for house_seed in track(list(houses), description="taking pictures"):
        path = out / f"{name}-{house_seed:06d}.safetensors"
        if not path.exists():
            house = load(house_seed, cache)
            rng = np.random.default_rng((seed, house_seed))
            navmesh = load_navmesh(house, cache=cache)
            pictures = take(house, navmesh, Rasteriser(house.scene), rng)
            if not pictures:
                continue  # a house of nothing but halls and stores
            write(path, pictures)
        paths.append(path)
    return paths
