"""Walks through a house, and both pathways trained on them for a few steps."""

import numpy as np
import pytest
import torch

from dualsight.checkpoints.janus_vln import save_pretrained
from dualsight.checkpoints.weights import WeightFiles
from dualsight.models.janus_vln import TINY, JanusVLN
from dualsight.train.semantic import FIELDS, UNLABELLED, PatchLabels, SemanticPretraining
from dualsight.train.spatial import GeometryBatch, SpatialPretraining
from dualsight.train.stages import new_model, semantic, spatial, vit_blocks
from dualsight.train.trainer import Run
from dualsight.train.walks import Walks, WalkShards, _dominant, collect
from dualsight.types import View
from tests.train.learning import learn


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walks")
    collect([3], folder, Walks(count=4, length=3))
    return folder


@pytest.fixture(scope="module")
def shards(walks):
    return WalkShards(walks.glob("walks-*.safetensors"))


def test_a_shard_holds_what_its_metadata_name(shards):
    walk = shards[3]
    assert walk["frames"].shape == (3, 112, 112, 3)
    assert walk["depth"].shape == (3, 112, 112)
    assert walk["patches"].shape == (3, 8, 8)
    assert len(shards) == 4
    assert int(walk["patches"].max()) < len(shards.instances[0])
    assert {"wall", "floor"} <= set(shards.words("category"))


def test_walks_are_a_function_of_their_seed(walks, shards, tmp_path):
    collect([3], tmp_path, Walks(count=4, length=3))
    again = WalkShards(tmp_path.glob("walks-*.safetensors"))
    assert all(torch.equal(shards[2][name], again[2][name]) for name in ("frames", "depth", "poses", "patches"))
    (path,) = walks.iterdir()
    before = path.stat().st_mtime_ns
    collect([3], walks, Walks(count=4, length=3))
    assert path.stat().st_mtime_ns == before, "a shard that exists is kept"


def test_the_instance_that_fills_most_of_a_patch():
    instances = np.zeros((28, 28), np.int32)
    instances[:14, :14] = 5
    instances[:4, :14] = 9
    instances[14:, 14:] = 2
    view = View(np.zeros((28, 28, 3), np.uint8), np.zeros((28, 28), np.float32), instances)
    assert _dominant(view, 14).tolist() == [[5, 0], [0, 2]]


def test_labels_stand_in_the_order_of_the_vits_tokens(shards):
    """A patch's label is at the place where the ViT puts that patch: cell by cell, then inside the cell."""
    labels = PatchLabels(shards, merge=4)
    walk = shards[0]
    batch = labels([walk])
    table, words = shards.instances[0], labels.words["category"]
    for row, column in ((0, 0), (1, 2), (3, 5), (6, 7)):
        place = ((row // 4) * 2 + column // 4) * 16 + (row % 4) * 4 + column % 4
        shown = table[int(walk["patches"][0, row, column])]["category"]
        assert words[int(batch["category"][0, place])] == shown
    assert batch["frames"].shape == (3, 3, 112, 112) and float(batch["frames"].max()) <= 1
    colourless = [i for i, instance in enumerate(table) if not instance["color"]]
    assert all(int(labels.tables[0]["color"][i]) == UNLABELLED for i in colourless)


def test_the_vit_learns_what_patches_show(shards):
    torch.manual_seed(0)
    labels = PatchLabels(shards, TINY.vision.spatial_merge_size)
    model = SemanticPretraining(JanusVLN(TINY), labels.words)
    batch = labels([shards[0]])
    losses = learn(model, batch, 8, 2e-3)
    assert losses[-1]["loss"] < 0.7 * losses[0]["loss"]
    assert set(FIELDS) <= set(losses[-1])


def test_distances_are_those_at_the_middle_of_each_cell(shards):
    batch = GeometryBatch(shards.camera, patch=28)([shards[0]])
    assert batch["depth"].shape == (1, 3, 16, 16)
    assert torch.equal(batch["depth"][0], shards[0]["depth"][:, 3::7, 3::7].float())


def test_the_spatial_pathway_learns_distances_and_cameras(shards):
    torch.manual_seed(0)
    model = SpatialPretraining(TINY.vggt, layer=-2)
    batch = GeometryBatch(shards.camera, TINY.vggt.patch_size)([shards[0], shards[1]])
    losses = learn(model, batch, 8, 1e-3)
    for name in ("distance", "camera"):
        assert losses[-1][name] < 0.8 * losses[0][name], name
    for module in (model.vggt.camera_head, model.vggt.aggregator.frame_blocks, model.distances):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_what_is_far_away_costs_no_more_than_what_is_near(shards):
    """The loss is of logarithms; where nothing is, there is none."""
    model = SpatialPretraining(TINY.vggt, layer=-2)
    torch.nn.init.zeros_(model.distances.weight)
    torch.nn.init.zeros_(model.distances.bias)
    batch = GeometryBatch(shards.camera, TINY.vggt.patch_size)([shards[0]])
    batch["depth"][:] = torch.e
    batch["depth"][:, 0] = 0
    assert float(model(**batch)["distance"].detach()) == pytest.approx(1)


def test_both_stages_write_weights_that_fit_the_model(walks, tmp_path):
    model = JanusVLN(TINY)
    semantic(walks, Run(tmp_path / "semantic", steps=1, batch=2))
    spatial(walks, Run(tmp_path / "spatial", steps=1, batch=2))
    assert WeightFiles(tmp_path / "spatial").shapes.keys() == model.vggt.aggregator.state_dict().keys()
    names = {name.removeprefix("visual.") for name in model.state_dict() if name.startswith("visual.")}
    assert WeightFiles(tmp_path / "semantic").shapes.keys() == {n for n in names if not n.startswith("merger.")}


def test_a_navigators_own_pathways_are_trained_on(walks, tmp_path):
    start, processor = new_model(["go"], seed=7)
    save_pretrained(start, processor, tmp_path / "init")
    for stage, own in ((semantic, vit_blocks(start.visual)), (spatial, start.vggt.aggregator)):
        run = Run(tmp_path / stage.__name__, steps=1, batch=2, learning_rate=0.0)
        stage(walks, run, init=tmp_path / "init")
        names = list(own.state_dict())
        written = WeightFiles(run.out).read(names)
        assert all(torch.equal(written[name], own.state_dict()[name]) for name in names)


def test_no_walks_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="dualsight data walks"):
        WalkShards(tmp_path.glob("walks-*.safetensors"))
