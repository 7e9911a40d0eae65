"""The study of memory around the navigator, in miniature."""

import json
from dataclasses import replace

import pytest
import torch

from dualsight.bench.provenance import DifferentRun
from dualsight.checkpoints.janus_vln import save_pretrained
from dualsight.checkpoints.recollection import load_recollection, save_recollection
from dualsight.checkpoints.weights import CheckpointError
from dualsight.data.trajectories import read_trajectories
from dualsight.envs.protocols import HOUSE
from dualsight.envs.sim.instructions import vocabulary
from dualsight.inference.navigator import NavigatorBatch
from dualsight.inference.readers import RecollectingReader
from dualsight.models.janus_vln import TINY
from dualsight.models.recollection import Recollection, RecollectionConfig
from dualsight.studies import navigator_memory
from dualsight.studies.navigator_memory import STUDY, WAYS, Budget, answers, run
from dualsight.train.features import FeatureStore
from dualsight.train.imitation import Collate, lessons
from dualsight.train.recollection import episodes_of
from dualsight.train.stages import new_model

SMALL = replace(TINY, text=replace(TINY.text, num_hidden_layers=2), initial=1, recent=2, fusion="none")
BUDGET = Budget("8000:8001", "8001:8002", walks=9, metres=5.0, steps=2, houses=1, episodes=1)


@pytest.fixture(scope="module")
def navigator():
    return new_model(vocabulary(), SMALL)


@pytest.fixture(scope="module")
def played(navigator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    save_pretrained(*navigator, folder / "navigator")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(navigator_memory, "HOUSE", replace(HOUSE, max_steps=40))  # no untrained one gets anywhere
        return folder, run(folder, folder / "navigator", (0,), BUDGET)


@pytest.fixture
def batch(navigator, played):
    collate = Collate(navigator[1], FeatureStore(played[0] / "features", *navigator))
    return collate(lessons(read_trajectories(played[0] / "test"))[:3])


def test_every_arm_is_judged_and_every_claim_decided(played):
    folder, result = played
    assert list(result["figures"]) == list(WAYS)
    assert all("action" in figures for figures in result["figures"].values())
    asked = {name for name, figures in result["figures"].items() if "success" in figures}
    assert asked == {"off", "short", "short where unsure", "tuned", "noise"}
    assert [claim["claim"] for claim in result["claims"]] == [claim.text for claim in STUDY.claims]
    assert "| short where unsure |" in (folder / "results.md").read_text()
    weights = folder / "seed0" / "memory" / "recollection.safetensors"
    before = weights.stat().st_mtime_ns
    again = run(folder, folder / "navigator", (0,), BUDGET)
    assert again == json.loads((folder / "results.json").read_text()) == result
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(DifferentRun, match=r"budget\.steps is 3, was 2"):
        run(folder, folder / "navigator", (0,), replace(BUDGET, steps=3))


@torch.no_grad()
def test_the_arms_say_what_they_are(navigator, played, batch):
    model, processor = navigator
    memory = load_recollection(model, played[0] / "seed0" / "memory").eval()
    steps = torch.arange(4, int(batch["lengths"].min()), 4)
    said = {name: answers(memory, processor, batch, steps, way) for name, way in WAYS.items()}
    plain = model.forward_episodes(episodes_of(batch, processor))[:, steps].argmax(-1)
    assert torch.equal(said["off"], plain)
    assert model.config == SMALL.__class__(
        **{**vars(SMALL), "text": model.config.text}
    )  # the endless window is closed again
    laid, thought = memory.think(episodes_of(batch, processor))
    assert torch.equal(said["short"], memory.score(laid, thought, steps).argmax(-1))


def test_a_walk_calls_up_what_its_window_has_lost(navigator, played, batch):
    """A reader calls no memory before a frame is lost, then at every step; what it says is what is trained."""
    model, processor = navigator
    torch.manual_seed(0)
    memory = Recollection(model, RecollectionConfig()).eval()
    walk = read_trajectories(played[0] / "test")[0]
    reader = RecollectingReader(memory, processor, 2)
    sessions = NavigatorBatch(model, processor, 2, reader=reader)
    sessions.reset(1, walk.instructions[0])
    scores = []
    for frame, done in zip(walk.frames()[:9], walk.executed, strict=False):
        sessions.act([frame], [1])
        scores.append(sessions.scores[1])
        sessions.executed(1, done)
    assert reader.calls == [0, 9 - 4]
    with torch.no_grad():
        laid, thought = memory.think(episodes_of(_one(batch, walk, navigator, played), processor))
        trained = memory.score(laid, thought, torch.arange(4, 9))[0]
        plain = model.lm_head(thought)[0, :4]
    torch.testing.assert_close(torch.stack(scores), torch.cat([plain, trained]), atol=1e-3, rtol=1e-3)  # fp16 features
    quiet = RecollectingReader(memory, processor, 1, below=0.0)
    alone = NavigatorBatch(model, processor, 1, reader=quiet)
    stock = NavigatorBatch(model, processor, 1)
    for one in (alone, stock):
        one.reset(0, walk.instructions[0])
    for frame in walk.frames()[:9]:
        assert alone.act([frame]) == stock.act([frame])
        assert torch.equal(alone.scores[0], stock.scores[0])
    assert quiet.calls == [0]


def _one(batch, walk, navigator, played):
    """``walk`` alone, as the training reads it."""
    store = FeatureStore(played[0] / "features", *navigator)
    return Collate(navigator[1], store)(lessons([walk])[:1])


def test_a_memory_on_disk_is_the_same_and_belongs_to_its_navigator(navigator, tmp_path):
    memory = Recollection(navigator[0])
    save_recollection(memory, tmp_path)
    found = load_recollection(navigator[0], tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(memory.state_dict().values(), found.state_dict().values(), strict=True)
    )
    other, _ = new_model(vocabulary(), replace(SMALL, recent=3))
    with pytest.raises(CheckpointError, match="belongs to a navigator of"):
        load_recollection(other, tmp_path)
