"""Frames a second of the renderers on generated houses: ``python benchmarks/render.py [--backend gl] [--seeds 3 11]``.

Times are process CPU time of one thread, so that other work on the machine does not count; RGB, depth and instance ids
of every frame are made. ``bake`` and ``pack`` are what a house costs once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np

from dualsight.envs.sim.building import House
from dualsight.envs.sim.house import generate
from dualsight.envs.sim.light import bake_light
from dualsight.envs.sim.renderer import BACKENDS, make_renderer
from dualsight.types import Camera, Pose

CAMERAS = {
    "112x112": Camera(112, 112),
    "224x224 (r2r-ce)": Camera(224, 224),
    "640x480 (rxr-ce)": Camera(640, 480, hfov=79, elevation=0.88),
}


def poses(house: House, count: int) -> Iterator[Pose]:
    """Random places in the rooms, every room in turn."""
    rng = np.random.default_rng(house.seed)
    for k in range(count):
        room = house.rooms[k % len(house.rooms)]
        x, z = rng.uniform(room.x0 + 0.3, room.x1 - 0.3), rng.uniform(room.z0 + 0.3, room.z1 - 0.3)
        yield Pose(np.array([x, room.y, z]), rng.uniform(-np.pi, np.pi))


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of ``run``."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(house: House, backend: str, frames: int) -> None:
    """Print what one house costs."""
    scene, places = house.scene, list(poses(house, frames))
    renderer = make_renderer(scene, backend)
    renderer.render(places[0], Camera())  # compiled before it is timed
    bake = seconds(lambda: bake_light(scene, house.lights))
    pack = seconds(lambda: make_renderer(scene, backend))
    print(f"house {house.seed}: {len(scene.triangles)} triangles, bake {bake:.2f} s, pack {pack:.2f} s")
    for name, camera in CAMERAS.items():
        spent = seconds(lambda camera=camera: [renderer.render(pose, camera) for pose in places]) / frames
        print(f"  {name:18s} {1000 * spent:6.2f} ms {1 / spent:7.0f} frames/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, default="numba")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 11, 200_001])
    parser.add_argument("--frames", type=int, default=120)
    options = parser.parse_args()
    for seed in options.seeds:
        measure(generate(seed), options.backend, options.frames)


if __name__ == "__main__":
    main()
