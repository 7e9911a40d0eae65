"""Houses by number: plan, structure, furniture and light; kept on disk, and exported for other programs.

``generate(seed)`` is a function of its arguments: the same bytes for the same seed. Nearly all of its time goes into
baking light, so the cache of ``load`` keeps just that (as an ``.npz`` of a few hundred kB) and builds the rest anew.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from random import Random
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dualsight.envs.sim import floorplan, light, structure
from dualsight.envs.sim.assembly import Assembly
from dualsight.envs.sim.building import Door, House, Room, Stairs, Thing
from dualsight.envs.sim.finishes import LAMP, OUTDOORS
from dualsight.envs.sim.furnish import furnish
from dualsight.envs.sim.glb import load_glb, save_glb
from dualsight.envs.sim.light import bake_light
from dualsight.envs.sim.navmesh import AgentShape, NavMesh
from dualsight.envs.sim.scene import Scene
from dualsight.envs.sim.splits import plan_seed

CACHE = Path("~/.cache/dualsight/houses")
"""Where ``load`` keeps light and navigation meshes unless told otherwise."""
SHINING = {"window": 1.25, "ceiling lamp": 1.3}
"""What gives light itself: its light is this, whatever falls on it."""


def generate(seed: int, rooms: int | None = None, storeys: int | None = None) -> House:
    """The house of a seed, furnished and lit: the same bytes every time.

    Args:
        seed: any whole number from 0 on; see ``splits`` for what ranges stand for.
        rooms: 4 to 12, halls included; drawn from the seed if not given.
        storeys: 1, or 2 from 8 rooms on; drawn if not given.
    """
    house = build(seed, rooms, storeys)
    return replace(house, scene=_lit(house))


def build(seed: int, rooms: int | None = None, storeys: int | None = None) -> House:
    """``generate`` without the light, which is 1 everywhere."""
    if seed < 0:
        raise ValueError(f"the seed of a house is a whole number from 0 on, not {seed}")
    plan = floorplan.draw(plan_seed(seed), rooms, storeys)
    assembly = Assembly()
    building = structure.build(plan, assembly, Random(f"materials {seed}"))
    things = furnish(building, plan, assembly, Random(f"furniture {seed}"))
    scene = assembly.scene()
    return House(seed, scene, building.rooms, building.doors, building.stairs, things, building.lights)


def load(seed: int, cache: str | Path | None = None) -> House:
    """``generate(seed)``, with the light from the cache folder (``CACHE`` by default) if it was baked before."""
    house = build(seed)
    path = _cached(house, cache, "light by " + inspect.getsource(light))
    try:
        with np.load(path, allow_pickle=False) as file:
            baked = file["light"].astype(np.float32)
        if baked.shape == house.scene.vertices.shape:
            return replace(house, scene=replace(house.scene, light=baked))
    except (OSError, ValueError, KeyError, BadZipFile):
        pass  # not there yet, or cut short by a crash: bake again
    scene = _lit(house)
    _write(path, scene.light.astype(np.float16))
    return replace(house, scene=scene)


def load_navmesh(house: House, shape: AgentShape | None = None, cache: str | Path | None = None) -> NavMesh:
    """The navigation mesh of a house for an agent of ``shape``, from the cache folder if it was built before."""
    shape = shape or AgentShape()
    path = _cached(house, cache, "navmesh " + json.dumps(asdict(shape)))
    try:
        return NavMesh.load(path)
    except (FileNotFoundError, ValueError):
        mesh = NavMesh.build(house.scene.vertices, house.scene.triangles, shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{os.getpid()}-{path.name}")
        mesh.save(temporary)
        os.replace(temporary, path)
        return mesh


def _lit(house: House) -> Scene:
    """The scene with baked light, rounded to half precision as the cache stores it; what shines is bright."""
    scene = bake_light(house.scene, house.lights)
    light = scene.light.copy()
    shining = np.array([SHINING.get(instance.category, 0.0) for instance in scene.instances])[scene.instance]
    own = np.array([m.name in (OUTDOORS, LAMP) for m in scene.materials])[scene.material]
    lit = own & (shining > 0)
    light[scene.triangles[lit]] = shining[lit, None, None]
    return replace(scene, light=light.astype(np.float16).astype(np.float32))


def _cached(house: House, cache: str | Path | None, what: str) -> Path:
    """A file name that changes with the geometry and with how light is baked, so that nothing stale is ever read."""
    digest = hashlib.sha256(what.encode())
    for array in (house.scene.vertices, house.scene.triangles, np.array(house.lights)):
        digest.update(np.ascontiguousarray(array).tobytes())
    folder = Path(cache or CACHE).expanduser()
    return folder / f"{house.seed:06d}-{what.split()[0]}-{digest.hexdigest()[:12]}.npz"


def _write(path: Path, light: NDArray[np.float16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{os.getpid()}-{path.name}")
    with temporary.open("wb") as file:
        np.savez_compressed(file, light=light)
    os.replace(temporary, path)


# --- export ----------------------------------------------------------------------------------------------------------

RECORDS = {"rooms": Room, "doors": Door, "stairs": Stairs, "things": Thing}


def export(house: House, folder: str | Path) -> Path:
    """Write ``house.glb`` and ``house.json`` (its semantics) into ``folder``; returns the path of the JSON file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_glb(house.scene, folder / "house.glb")
    semantics = {
        "seed": house.seed,
        "scene": "house.glb",
        "up": "y",
        "lights": [light.tolist() for light in house.lights],
    }
    for name in RECORDS:
        semantics[name] = [_plain(asdict(record)) for record in getattr(house, name)]
    path = folder / "house.json"
    temporary = path.with_name(f"{os.getpid()}-{path.name}")
    temporary.write_text(json.dumps(semantics, indent=1))
    os.replace(temporary, path)
    return path


def house_from_json(path: str | Path) -> House:
    """Read what ``export`` wrote: the house with its scene.

    Raises:
        ValueError: a field is missing or foreign; it is named.
    """
    path = Path(path)
    semantics = json.loads(path.read_text())
    missing = {"seed", "scene", "lights", *RECORDS} - semantics.keys()
    if missing:
        raise ValueError(f"{path} is not the semantics of a house: it has no {', '.join(sorted(missing))}")
    records = {name: [_record(kind, entry, path) for entry in semantics[name]] for name, kind in RECORDS.items()}
    scene = load_glb(path.parent / semantics["scene"])
    return House(semantics["seed"], scene, lights=[np.array(light) for light in semantics["lights"]], **records)


def _plain(value):
    """JSON has lists where we have arrays and tuples."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _record(kind: Any, entry: dict[str, Any], path: Path) -> Any:
    known = {field.name for field in fields(kind)}
    if entry.keys() != known:
        raise ValueError(f"{path}: a {kind.__name__.lower()} has the fields {sorted(known)}, not {sorted(entry)}")
    values = {
        key: np.array(value, float) if key in ("position", "bottom", "top", "centre", "size") else value
        for key, value in entry.items()
    }
    if "rooms" in values:
        values["rooms"] = tuple(values["rooms"])
    if "relations" in values:
        values["relations"] = tuple((word, other) for word, other in values["relations"])
    return kind(**values)
