"""Collect labelled pictures of generated houses, a shard per house, for `data.rooms`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.progress import track

from dualsight.data.rooms import write_rooms
from dualsight.envs.sim.house import load, load_navmesh
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.snapshots import snapshots
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
    paths = []
    for house_seed in track(list(houses), description="taking pictures"):
        path = out / f"rooms-{house_seed:06d}.safetensors"
        if not path.exists():
            house = load(house_seed, cache)
            rng = np.random.default_rng((seed, house_seed))
            navmesh = load_navmesh(house, cache=cache)
            pictures = snapshots(house, navmesh, Rasteriser(house.scene), per_house, rng, camera)
            if not pictures:
                continue  # a house of nothing but halls and stores
            write_rooms(path, pictures)
        paths.append(path)
    return paths
