"""Behaviour cloning: what is learned, what stays frozen, and that nothing depends on padding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dualsight.data.trajectories import TrajectoryWriter, merge, read_trajectories
from dualsight.models.janus_vln import EpisodeBatch
from dualsight.train.features import FeatureStore, fingerprint
from dualsight.train.imitation import Collate, Imitation, LossWeights, Noise, lessons
from dualsight.train.stages import imitate, new_model, vit_blocks
from dualsight.train.trainer import Run
from dualsight.types import Action

WORDS = ["go", "to", "the", "red", "door", "left", "right", "and", "stop", "walk"]
FORWARD, LEFT, RIGHT, STOP = 1, 2, 3, 0


def write_walks(root: Path, count: int = 3) -> Path:
    rng = np.random.default_rng(0)
    with TrajectoryWriter(root) as writer:
        for i in range(count):
            expert = [FORWARD, FORWARD, LEFT, FORWARD, STOP][i % 2 :]
            executed = [RIGHT, *expert[1:]]
            frames = list(rng.integers(0, 255, (len(expert), 112, 112, 3), dtype=np.uint8))
            writer.write(f"walk-{i}", ["go left to the red door", "walk right"], frames, executed, expert)
    merge(root)
    return root


@pytest.fixture(scope="module")
def walks(tmp_path_factory) -> Path:
    return write_walks(tmp_path_factory.mktemp("walks"))


@pytest.fixture(scope="module")
def model():
    return new_model(WORDS)


def batch_of(model, walks, store, which):
    model, processor = model
    trajectories = read_trajectories(walks)
    taught = lessons(trajectories)
    return Collate(processor, FeatureStore(store, model, processor))([taught[i] for i in which])


def test_every_instruction_of_a_walk_is_a_lesson(walks):
    assert [lesson.instruction for lesson in lessons(read_trajectories(walks))][:2] == [
        "go left to the red door",
        "walk right",
    ]


def test_labels_are_the_experts_and_memory_holds_what_was_executed(model, walks, tmp_path):
    batch = batch_of(model, walks, tmp_path, [0])
    assert batch["expert"][0].tolist() == [FORWARD, FORWARD, LEFT, FORWARD, STOP]
    assert batch["previous"][0].tolist() == [-1, RIGHT, FORWARD, LEFT, FORWARD]


def test_step_weights_by_hand(model):
    imitation = Imitation(*model, LossWeights(inflection=2.0, stop=3.0))
    expert = torch.tensor([[FORWARD, FORWARD, LEFT, STOP, -1]])
    assert imitation.step_weights(expert).tolist() == [[2.0, 1.0, 2.0, 6.0, 0.0]]


def test_trajectories_count_alike_however_many_instructions_they_have(walks):
    first, second, _ = read_trajectories(walks)
    alone = replace(second, instructions=["walk right"])
    taught = lessons([first, alone])
    assert [lesson.trajectory.id for lesson in taught] == [first.id] * 2 + [alone.id] * 2
    assert {lesson.instruction for lesson in taught[2:]} == {"walk right"}


def test_the_plan_is_learnt_where_it_is_known(model, walks, tmp_path):
    """Steps without a plan add nothing; the plan moves the loss by its weight; its map is no part of the navigator."""
    model, processor = model
    imitation = Imitation(model, processor, LossWeights(plan=0.5)).eval()
    batch = batch_of((model, processor), walks, tmp_path, [0])
    assert batch["plan"].isnan().all()
    with torch.no_grad():
        unknown = imitation(**batch)
        batch["plan"][0, 1] = torch.arange(7.0)
        known = imitation(**batch)
        hidden = torch.zeros(1, 5, model.config.text.hidden_size)
        imitation.plan.bias.zero_()
        by_hand = imitation.plan_loss(hidden, batch["plan"])
    assert unknown["plan_loss"] == 0 and unknown["loss"] == unknown["action_loss"]
    torch.testing.assert_close(known["loss"], known["action_loss"] + 0.5 * known["plan_loss"])
    assert float(by_hand) == pytest.approx(np.mean([0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]))
    assert not any(name.startswith("plan") for name in model.state_dict())


def test_near_the_goal_stop_is_right_too(model, walks, tmp_path):
    """By hand: a step that has arrived costs -log(p(expert) + p(STOP)), one whose way is longer -log p(expert)."""
    imitation = Imitation(*model, LossWeights(inflection=1.0, stop=1.0, plan=0.0, arrived=1.5)).eval()
    batch = batch_of(model, walks, tmp_path, [0])
    batch["plan"][0, :, -1] = torch.tensor([4.0, 2.0, 1.5, 1.0, 0.0])
    with torch.no_grad():
        loss = imitation(**batch)["loss"]
        logits = imitation.model.forward_episodes(
            EpisodeBatch(
                previous=imitation.processor.previous(batch["previous"]),
                **{name: batch[name] for name in ("prompts", "prompt_lengths", "semantic", "spatial", "lengths")},
            )
        )
    odds = logits[0].softmax(-1)[:, imitation.answers[:, 0]]  # (T, 4)
    right = odds.gather(1, batch["expert"][0][:, None])[:, 0]
    right[2:4] += odds[2:4, STOP]
    torch.testing.assert_close(loss, -right.log().mean())


def test_noise_hides_what_it_says_and_only_in_training(model, walks, tmp_path, monkeypatch):
    imitation = Imitation(*model, noise=Noise(features=0.5, previous=0.5))
    batch = batch_of(model, walks, tmp_path, [0, 3])
    batch["semantic"], batch["spatial"] = (torch.ones_like(batch[name]) for name in ("semantic", "spatial"))
    seen = []
    read = imitation.model.read_episodes
    monkeypatch.setattr(imitation.model, "read_episodes", lambda episodes: seen.append(episodes) or read(episodes))
    torch.manual_seed(0)
    with torch.no_grad():
        imitation.train()(**batch)
        imitation.eval()(**batch)
    noisy, plain = seen
    for features in (noisy.semantic, noisy.spatial):
        assert 0.4 < (features == 0).float().mean() < 0.6 and features.max() == 2  # its mean stays
    told = imitation.processor.previous(batch["previous"])
    assert torch.equal(plain.previous, told) and torch.equal(plain.semantic, batch["semantic"])
    withheld = noisy.previous != told
    assert withheld.any() and (noisy.previous[withheld] == -1).all() and not withheld.all()


def test_padding_changes_no_loss(model, walks, tmp_path):
    """The loss of a batch is the weighted mean over its rows, each computed alone."""
    imitation = Imitation(*model).eval()
    rows = [0, 3, 4]
    together = batch_of(model, walks, tmp_path, rows)
    assert len(set(together["lengths"].tolist())) > 1
    with torch.no_grad():
        whole = imitation(**together)["loss"]
        alone = [batch_of(model, walks, tmp_path, [row]) for row in rows]
        weights = torch.stack([imitation.step_weights(batch["expert"]).sum() for batch in alone])
        losses = torch.stack([imitation(**batch)["loss"] for batch in alone])
    torch.testing.assert_close(whole, (losses * weights).sum() / weights.sum(), rtol=1e-5, atol=1e-6)


def test_features_are_kept_and_belong_to_their_weights(model, walks, tmp_path):
    network, processor = model
    store = FeatureStore(tmp_path, network, processor)
    walk = read_trajectories(walks)[0]
    fresh = store(walk)
    (kept,) = store.folder.iterdir()
    before = kept.stat().st_mtime_ns
    again = store(walk)
    assert kept.stat().st_mtime_ns == before
    assert all(torch.equal(fresh[name], again[name]) for name in fresh)
    other, _ = new_model(WORDS, seed=7)
    assert fingerprint(other) != fingerprint(network)


def test_the_encoders_stay_frozen_and_the_rest_learns(walks, tmp_path):
    from dualsight.checkpoints.janus_vln import from_pretrained
    from dualsight.checkpoints.weights import save_weights

    start, _ = new_model(WORDS, seed=42)
    save_weights(start.vggt.aggregator.state_dict(), tmp_path / "spatial")
    save_weights(vit_blocks(start.visual).state_dict(), tmp_path / "semantic")
    run = Run(tmp_path / "run", steps=80, learning_rate=3e-3, batch=3, log_every=20)
    folder = imitate([walks], tmp_path / "features", run, WORDS, tmp_path / "spatial", tmp_path / "semantic")
    trained, processor = from_pretrained(folder)
    before, after = start.half().float().state_dict(), trained.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = ("visual.patch_embed.", "visual.blocks.", "vggt.")
    assert not [name for name in moved if name.startswith(frozen)]
    for part in ("visual.merger.", "merger.", "model.layers.3.", "lm_head."):
        assert any(name.startswith(part) for name in moved), f"{part} did not learn"
    batch = Collate(processor, FeatureStore(tmp_path / "features", trained, processor))(
        lessons(read_trajectories(walks))[:3]
    )
    assert Imitation(trained, processor).eval()(**batch)["accuracy"] > 0.8, "three walks should be learned by heart"


def test_half_a_start_is_refused(walks, tmp_path):
    with pytest.raises(ValueError, match="--init, or both --spatial and --semantic"):
        imitate([walks], tmp_path / "f", Run(tmp_path / "r", 1), WORDS, spatial=tmp_path)


def test_a_navigator_goes_on_with_other_eyes_and_walks_in_a_mirror(model, walks, tmp_path):
    from dualsight.checkpoints.janus_vln import from_pretrained, save_pretrained
    from dualsight.checkpoints.weights import save_weights

    save_pretrained(*model, tmp_path / "init")
    other, _ = new_model(WORDS, seed=7)
    save_weights(other.vggt.aggregator.state_dict(), tmp_path / "spatial")
    run = Run(tmp_path / "run", steps=3, batch=4)  # every lesson once
    features = tmp_path / "features"
    folder = imitate([walks], features, run, WORDS, tmp_path / "spatial", init=tmp_path / "init", mirror=True)
    trained = from_pretrained(folder)[0].state_dict()
    for name, source in (("vggt.aggregator.camera_token", other), ("visual.blocks.0.attn.qkv.weight", model[0])):
        assert torch.equal(trained[name], source.state_dict()[name].half().float())
    assert any(path.stem.endswith("-mirrored") for path in features.rglob("*.safetensors"))


def test_actions_are_the_numbers_of_vln_ce():
    assert [int(a) for a in (Action.STOP, Action.MOVE_FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT)] == [0, 1, 2, 3]
