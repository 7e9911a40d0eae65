"""Houses by seed: determinism, splits, the cache of light, export."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dualsight.envs.sim import house
from dualsight.envs.sim.splits import SPLITS

ARRAYS = ("vertices", "uv", "light", "triangles", "material", "instance")
SMALL = 6
"""A seed whose house has few rooms."""


def same_scene(a, b):
    return (
        all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in ARRAYS) and a.instances == b.instances
    )


@pytest.fixture(scope="module")
def small():
    return house.build(SMALL)


def test_same_seed_same_bytes(small):
    again = house.build(SMALL)
    assert same_scene(small.scene, again.scene)
    assert str(small.things) == str(again.things) and small.rooms == again.rooms


def test_same_bytes_in_another_process(small):
    code = (
        "import hashlib; from dualsight.envs.sim import house;"
        f"s = house.build({SMALL}).scene; print(hashlib.sha256(s.vertices.tobytes() + s.uv.tobytes()).hexdigest())"
    )
    expected = hashlib.sha256(small.scene.vertices.tobytes() + small.scene.uv.tobytes()).hexdigest()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == expected


def test_seen_houses_are_training_houses_refurnished():
    seen, train = house.build(SPLITS["val_seen"].start + SMALL), house.build(SMALL)

    def plan(home):
        return [(r.type, r.x0, r.z0, r.x1, r.z1) for r in home.rooms]

    assert plan(seen) == plan(train)
    assert seen.scene_id == f"house/{SPLITS['val_seen'].start + SMALL}"
    assert str(seen.things) != str(train.things)
    assert [(r.floor, r.wall) for r in seen.rooms] != [(r.floor, r.wall) for r in train.rooms]


def test_rooms_know_what_lies_in_them(small):
    for room in small.rooms:
        assert small.room_at(room.centre) == room
    assert small.room_at(np.array([-99.0, 0.0, 0.0])) is None


def test_negative_seed():
    with pytest.raises(ValueError, match="whole number from 0 on, not -1"):
        house.build(-1)


def test_light_is_cached_and_the_cache_may_break(tmp_path, monkeypatch):
    baked = []

    def bake(scene, lights):
        baked.append(len(lights))
        return replace(scene, light=np.full_like(scene.light, 0.7))

    monkeypatch.setattr(house, "bake_light", bake)
    first = house.load(SMALL, tmp_path)
    assert len(baked) == 1 and [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    again = house.load(SMALL, tmp_path)
    assert len(baked) == 1 and same_scene(first.scene, again.scene)
    assert same_scene(first.scene, house.generate(SMALL).scene)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert same_scene(first.scene, house.load(SMALL, tmp_path).scene) and len(baked) == 3


def test_what_shines_is_bright(monkeypatch, small):
    monkeypatch.setattr(house, "bake_light", lambda scene, lights: replace(scene, light=np.full_like(scene.light, 0.1)))
    scene = house._lit(small)
    names = [material.name for material in scene.materials]
    for name in ("outdoors", "lamp"):
        chosen = scene.triangles[scene.material == names.index(name)]
        assert (scene.light[chosen] > 1).all()


def test_navmesh_is_cached(tmp_path, small):
    first, again = house.load_navmesh(small, cache=tmp_path), house.load_navmesh(small, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert np.array_equal(first.island_areas, again.island_areas)


def test_export_and_back(tmp_path, small):
    path = house.export(small, tmp_path / "six")
    again = house.house_from_json(path)
    assert (again.seed, again.rooms, again.storeys) == (small.seed, small.rooms, small.storeys)
    assert str(again.things) == str(small.things) and str(again.doors) == str(small.doors)
    assert str(again.stairs) == str(small.stairs) and np.allclose(again.lights, small.lights)
    assert again.scene.instances == small.scene.instances
    assert np.allclose(again.scene.bounds, small.scene.bounds, atol=1e-5)


def test_foreign_semantics_are_named(tmp_path, small):
    path = house.export(small, tmp_path)
    semantics = json.loads(path.read_text())
    room = semantics["rooms"][0]
    room["roof"] = room.pop("wall")
    path.write_text(json.dumps(semantics))
    with pytest.raises(ValueError, match=r"a room has the fields .*'wall'.* not .*'roof'"):
        house.house_from_json(path)
    path.write_text(json.dumps({"seed": 1}))
    with pytest.raises(ValueError, match="it has no doors, lights, rooms"):
        house.house_from_json(path)


@pytest.mark.slow
def test_baked_houses_are_the_same_twice():
    assert same_scene(house.generate(SMALL).scene, house.generate(SMALL).scene)
