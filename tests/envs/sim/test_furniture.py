import csv
import json

import numpy as np
import pytest

from dualsight.envs.sim.colors import COLORS
from dualsight.envs.sim.furniture import ASSETS, catalog, models, tinted
from dualsight.envs.sim.piece import Model
from dualsight.envs.sim.scene import Material
from dualsight.envs.sim.workbench import Bench

ROOMS = (
    "kitchen", "bedroom", "bathroom", "living room", "dining room", "office", "hall", "laundry room", "storage room"
)  # fmt: skip


@pytest.mark.parametrize("model", catalog(), ids=lambda model: model.name)
def test_a_model_is_whole(model: Model):
    assert model.vertices.dtype == np.float32 and model.triangles.dtype == np.int32
    assert model.uv.shape == (len(model.vertices), 2) and model.occlusion.shape == (len(model.vertices),)
    assert model.material.shape == (len(model.triangles),)
    assert model.triangles.min() >= 0 and model.triangles.max() < len(model.vertices)
    assert model.material.min() >= 0 and model.material.max() < len(model.materials)
    assert np.isfinite(model.vertices).all() and np.isfinite(model.uv).all()
    assert model.occlusion.min() >= 0 and model.occlusion.max() <= 1 and model.occlusion.max() > 0.3
    assert 10 <= len(model.triangles) <= 1200


@pytest.mark.parametrize("model", catalog(), ids=lambda model: model.name)
def test_a_model_stands_at_the_origin_in_its_stated_size(model: Model):
    low, high = model.vertices.min(axis=0), model.vertices.max(axis=0)
    size = np.array([model.width, model.height, model.depth])
    assert high - low == pytest.approx(size, abs=1e-3)
    assert low == pytest.approx([-size[0] / 2, 0, -size[2] / 2], abs=1e-3)
    assert 0.02 <= size.max() <= 3.0


def test_names_are_distinct_and_colours_are_words():
    names = [model.name for model in catalog()]
    assert len(set(names)) == len(names) >= 120
    for model in catalog():
        assert model.placement in ("floor_wall", "floor_free", "table", "wall", "ceiling")
        assert set(model.colors) <= set(COLORS) and (not model.color or model.color in COLORS)
        assert bool(model.colors) <= bool(model.tintable), model.name
        assert max(model.tintable, default=0) < len(model.materials)


@pytest.mark.parametrize(
    ("room", "needed"),
    [
        ("kitchen", {"fridge", "stove", "kitchen counter", "sink", "oven"}),
        ("bedroom", {"bed", "wardrobe", "bedside table", "painting", "rug"}),
        ("bathroom", {"toilet", "bathtub", "shower", "washbasin", "mirror"}),
        ("living room", {"sofa", "armchair", "coffee table", "television", "piano", "plant", "floor lamp"}),
        ("dining room", {"dining table", "chair", "sideboard"}),
        ("office", {"desk", "chair", "bookcase"}),
        ("hall", {"shoe cabinet", "coat rack", "mirror"}),
        ("laundry room", {"washing machine", "laundry basket"}),
        ("storage room", {"storage rack", "crate", "barrel"}),
    ],
)
def test_every_room_can_be_furnished(room, needed):
    assert needed <= {model.category for model in models(room=room)}


def test_models_are_found_by_category_and_room():
    beds = models("bed", "bedroom")
    assert len(beds) >= 4 and all(bed.category == "bed" for bed in beds)
    assert models("bed", "kitchen") == []
    with pytest.raises(KeyError, match=r"no furniture of category 'throne'; there are .*sofa"):
        models("throne")


def test_a_tint_changes_the_tintable_materials_only():
    for model in catalog():
        for color in model.colors:
            painted = tinted(model, color)
            for index, (old, new) in enumerate(zip(model.materials, painted, strict=True)):
                assert (new is old) == (index not in model.tintable)


def test_a_tinted_surface_has_the_mean_colour_of_the_word():
    for model in models("sofa") + models("rug") + models("wardrobe"):
        for color in ("red", "blue", "brown", "black"):
            for material in (tinted(model, color)[index] for index in model.tintable):
                mean = np.array(material.color)
                if material.texture is not None:
                    mean = mean * material.texture.mean(axis=(0, 1)) / 255
                assert np.abs(mean - COLORS[color]).max() < 0.03


def test_tinting_by_nothing_or_by_an_unknown_word():
    sofa = models("sofa")[0]
    assert tinted(sofa, "") is sofa.materials
    with pytest.raises(KeyError, match="no colour 'mauve'; there are red"):
        tinted(sofa, "mauve")


def test_the_front_is_towards_plus_z():
    """A seat has its back rest, a bed its head, a piano its lid at the back: the high part is at -Z."""
    for model in models("sofa") + models("chair") + models("toilet"):
        corners = model.vertices[model.triangles]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        centre = corners.mean(axis=1)
        high = centre[:, 1] > 0.8 * model.height
        assert np.average(centre[high, 2], weights=area[high]) < 0.02, model.name


def test_the_pack_is_small_and_its_provenance_is_complete():
    assert sum(file.stat().st_size for file in ASSETS.rglob("*") if file.is_file()) < 10e6
    names = [record["name"] for record in json.loads((ASSETS / "furniture.json").read_text())]
    with open(ASSETS / "PROVENANCE.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == names
    for row in rows.values():
        assert row["licence"].startswith("CC0") and row["source"] and row["stated in"]
    assert not any("winchester" in row["source"] for row in rows.values())


def test_a_box_on_the_workbench():
    bench = Bench()
    bench.box((1, 2, 3), (3, 3, 3.5), bench.paint((1, 0, 0)), hidden="")
    model = bench.finish("box", "box", "hall, office", "floor_free")
    assert (model.width, model.height, model.depth) == (2, 1, 0.5) and model.rooms == ("hall", "office")
    assert len(model.triangles) == 12
    assert model.vertices.min(axis=0) == pytest.approx([-1, 0, -0.25])
    corners = model.vertices[model.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = corners.mean(axis=1) - [0, 0.5, 0]
    assert np.all((normal * outward).sum(axis=1) > 0)
    assert np.linalg.norm(normal, axis=1).sum() / 2 == pytest.approx(2 * (2 * 1 + 2 * 0.5 + 1 * 0.5))
    assert sorted(set(model.occlusion.tolist())) == [0.0, 0.5, 1.0]


def test_a_turned_cylinder_faces_outwards():
    bench = Bench()
    bench.turned([(1, 0), (1, 2), (0, 2)], bench.use(Material("wood")), sides=64)
    model = bench.finish("drum", "drum", "", "floor_free")
    corners = model.vertices[model.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.all((normal * (corners.mean(axis=1) - [0, 1, 0])).sum(axis=1) > 0)
    assert np.linalg.norm(normal, axis=1).sum() / 2 == pytest.approx(2 * np.pi * 2 + np.pi, rel=5e-3)
