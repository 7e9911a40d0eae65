"""Frames for pre-training the two visual pathways: short random walks through houses, with what each pixel shows.

A shard is one house: ``walks-<seed>.safetensors`` holds frames, depth, poses and, for every patch of the image,
the instance that fills most of it; its metadata name the category, colour and room type of each instance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from dualsight.data.files import replacing
from dualsight.envs.sim.house import load
from dualsight.envs.sim.navmesh import NavMesh
from dualsight.envs.sim.raster import Rasteriser
from dualsight.types import Camera, Pose, View


@dataclass(frozen=True)
class Walks:
    """How walks are taken: ``count`` per house, ``length`` frames each, ``stride`` moves at most between two frames."""

    count: int = 60
    length: int = 8
    stride: int = 3
    camera: Camera = Camera(112, 112)
    patch: int = 14


def collect(houses: Iterable[int], out: Path, walks: Walks, seed: int = 0, cache: Path | None = None) -> list[Path]:
    """Walk through ``houses`` and write a shard for each; shards that exist are kept. Returns all shards."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for house_seed in track(list(houses), description="walking"):
        path = out / f"walks-{house_seed:06d}.safetensors"
        if not path.exists():
            _write(path, house_seed, walks, np.random.default_rng((seed, house_seed)), cache)
        paths.append(path)
    return paths


def _write(path: Path, house_seed: int, walks: Walks, rng: np.random.Generator, cache: Path | None) -> None:
    house = load(house_seed, cache)
    navmesh = NavMesh.build(house.scene.vertices, house.scene.triangles)
    renderer = Rasteriser(house.scene)
    views, poses = [], []
    for _ in range(walks.count):
        for pose in _walk(navmesh, walks, rng):
            views.append(renderer.render(pose, walks.camera))
            poses.append([*pose.position, pose.heading])
    shape = (walks.count, walks.length)
    tensors = {
        "frames": np.stack([view.rgb for view in views]),
        "depth": np.stack([view.depth for view in views]).astype(np.float16),
        "poses": np.asarray(poses, np.float32),
        "patches": np.stack([_dominant(view, walks.patch) for view in views]),
    }
    instances = [
        {"category": i.category, "color": i.color, "room": house.rooms[i.room].type if i.room >= 0 else ""}
        for i in house.scene.instances
    ]
    arrays = {name: np.ascontiguousarray(array.reshape(*shape, *array.shape[1:])) for name, array in tensors.items()}
    metadata = {"instances": json.dumps(instances), "camera": json.dumps(asdict(walks.camera))}
    with replacing(path) as temporary:
        save_file(arrays, temporary, metadata)


def _walk(navmesh: NavMesh, walks: Walks, rng: np.random.Generator) -> list[Pose]:
    """A walk that mostly goes forward, turns now and then, and turns away from walls."""
    pose = Pose(navmesh.random_point(rng), int(rng.integers(24)) * math.radians(15))
    poses = [pose]
    turn = 1
    while len(poses) < walks.length:
        for _ in range(rng.integers(1, walks.stride + 1)):
            ahead = navmesh.try_step(pose.position, pose.position + 0.25 * pose.forward, slide=True)
            stuck = np.linalg.norm(ahead - pose.position) < 0.1
            if stuck or rng.random() < 0.35:
                if not stuck and rng.random() < 0.3:
                    turn = -turn
                pose = pose.turned(turn * math.radians(15))
            else:
                pose = Pose(ahead, pose.heading)
        poses.append(pose)
    return poses


def _dominant(view: View, patch: int) -> NDArray[np.int32]:
    """The instance that fills most of each patch, (H/patch, W/patch)."""
    rows, columns = (n // patch for n in view.instances.shape)
    cells = view.instances.reshape(rows, patch, columns, patch).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    cells = np.sort(cells, axis=1)
    # The most frequent value of a sorted row: the longest run.
    starts = np.concatenate([np.ones((len(cells), 1), bool), cells[:, 1:] != cells[:, :-1]], axis=1)
    run = np.arange(cells.shape[1]) - np.maximum.accumulate(np.where(starts, np.arange(cells.shape[1]), 0), axis=1)
    return cells[np.arange(len(cells)), run.argmax(axis=1)].reshape(rows, columns).astype(np.int32)


class WalkShards:
    """Every walk of some shards, as tensors; ``shards[i]`` reads one walk."""

    def __init__(self, paths: Iterable[Path]):
        self.paths = sorted(paths)
        if not self.paths:
            raise FileNotFoundError("no shards of walks: run `dualsight data walks` first")
        self._files = [safe_open(path, framework="pt") for path in self.paths]
        self._counts = [file.get_slice("poses").get_shape()[0] for file in self._files]
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self.instances = [json.loads(file.metadata()["instances"]) for file in self._files]
        self.camera = Camera(**json.loads(self._files[0].metadata()["camera"]))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def words(self, field: str) -> list[str]:
        """Every value of "category", "color" or "room" that occurs, sorted."""
        return sorted({instance[field] for table in self.instances for instance in table})

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        """``frames`` (S, H, W, 3) uint8, ``depth`` (S, H, W), ``poses`` (S, 4), ``patches`` (S, h, w), ``shard``."""
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - int(self._starts[shard])
        file = self._files[shard]
        names = ("frames", "depth", "poses", "patches")
        return {name: file.get_slice(name)[row : row + 1][0] for name in names} | {"shard": shard}


def pixels(frames: Tensor) -> Tensor:
    """(..., H, W, 3) uint8 -> (..., 3, H, W) float in [0, 1]."""
    return frames.movedim(-1, -3).float() / 255
