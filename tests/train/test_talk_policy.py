"""The policy that talks about grids."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualsight.data.housetalk import Around, Seen, write_views
from dualsight.data.talks import MARK
from dualsight.inference.talk_vlm import FULL, HOUSE, SMALL, load_policy, new_policy, with_views
from dualsight.models.janus_core import IGNORE
from dualsight.train.talk_policy import PolicyTalks, PolicyTraining, pretrain_policy
from dualsight.train.trainer import Run
from tests.train.learning import learn


def test_a_policy_learns_its_answers():
    torch.manual_seed(0)
    training = PolicyTraining(new_policy(SMALL))
    batch = PolicyTalks(SMALL, 8, 10, 0)[0]
    losses = learn(training, batch, 30, 3e-3)
    assert losses[-1]["loss"] < 0.3 * losses[0]["loss"]


def test_the_image_is_shown_again_now_and_then():
    plan = PolicyTalks(SMALL, 2, 40, 0, interleaved=0.5)
    images = [len(plan[index]["kept"]) // 2 for index in range(12)]
    assert all(len(plan[index]["pixel_values"]) == 2 for index in range(12)), "the same picture"
    assert min(images) == 1 < max(images)
    assert {len(PolicyTalks(SMALL, 2, 40, 0, interleaved=0.0)[index]["kept"]) for index in range(8)} == {2}
    with pytest.raises(ValueError, match=r"interleaved=2 of the questions"):
        PolicyTalks(SMALL, 2, 40, 0, interleaved=2)


def test_an_image_that_is_shown_again_is_so_in_any_number_of_its_tokens():
    """Of a placed policy; what enters are tokens of that image, and for others all of them."""
    for config, most in ((SMALL, 1), (replace(SMALL, placed=True), 5)):
        plan = PolicyTalks(config, 2, 40, 0, interleaved=0.7)
        batches = [plan[index] for index in range(12)]  # none of the last quarter
        for batch in batches:
            shown = (batch["input_ids"] == MARK["<seen>"]).sum(1).tolist()
            images = len(batch["kept"]) // 2
            assert shown == [int(batch["kept"][row * images :][:images].sum()) for row in range(2)]
            assert batch["kept"][0] == batch["kept"][images] == 9, "the first time it is whole"
        again = {int(count) for batch in batches for count in batch["kept"]}
        assert len(again) >= most and again <= set(range(1, 10))
        loss = PolicyTraining(new_policy(config), config.lessons)(**batches[0])["loss"]
        assert loss.isfinite()


def test_in_the_end_a_placed_policy_meets_cut_outs_with_nothing_else_to_look_at():
    """Half of the talks begin behind the image. Of the images amid a text half begin with what is asked there."""
    plan, length = PolicyTalks(FULL, 16, 40, 0, interleaved=0.5, done=0.75), len(FULL.image)
    names = {FULL.index[name]: number for number, name in enumerate(FULL.task.names)}
    fitting, few, without, images = 0, 0, 0, 0
    for index in range(1, 13):
        batch = plan[index]
        assert len(batch["order"]) == len(batch["kept"]) and len(batch["pixel_values"]) == len(batch["shown"]) == 16
        assert (batch["input_ids"] == MARK["<seen>"]).sum() == batch["kept"].sum()
        assert batch["labels"].shape == batch["attention_mask"].shape == batch["input_ids"].shape
        behind = bool((batch["input_ids"][:, 0] != MARK["<image>"]).all())
        without += behind
        orders = batch["order"].view(16, -1, 36)[:, 0 if behind else 1 :]
        few += int((batch["kept"].view(16, -1)[0, 0 if behind else 1 :] <= 6).sum())
        for ids, mine in zip(batch["input_ids"].tolist(), orders.tolist(), strict=True):
            shown_at = [at for at, word in enumerate(ids) if word == MARK["<image>"] and (behind or at >= length)]
            images += len(mine)
            fitting += sum(names.get(ids[at - 3]) == order[0] for at, order in zip(shown_at, mine, strict=True))
    assert 3 <= without <= 9
    assert 0.15 < fitting / images < 0.4, "half of those that are about one cell, three of five types"
    assert few > images / 16 / 3


def test_a_policy_goes_on_from_another_one_of_its_size(tmp_path):
    small = replace(SMALL, placed=True)
    first = pretrain_policy(small, Run(tmp_path / "first", 1, batch=2))
    second = pretrain_policy(small, Run(tmp_path / "second", 2, batch=2, learning_rate=0.0), 0.5, first)
    (before, _), (after, config) = load_policy(first), load_policy(second)
    assert config == replace(small, interleaved=0.5, steps=3)
    assert all(torch.equal(before.state_dict()[name], value) for name, value in after.state_dict().items())
    with pytest.raises(ValueError, match="holds a policy of another size"):
        pretrain_policy(SMALL, Run(tmp_path / "third", 1, batch=2), init=first)


def test_a_placed_policy_is_asked_about_all_cells_from_the_start():
    def asked(config):
        plan = PolicyTalks(config, 16, 1000, 0)
        return {word for index in range(4) for word in plan[index]["input_ids"].flatten().tolist()}

    last = FULL.index[FULL.task.names[-1]]
    assert last in asked(FULL) and last not in asked(replace(FULL, placed=False))


def test_a_placed_policy_is_asked_colors_then_counts_then_everything():
    plan = PolicyTalks(FULL, 16, 100, 0)

    def said(index):
        return {FULL.task.vocabulary[word] for word in plan[index]["input_ids"].flatten().tolist()}

    colors, counts, everything = said(14), said(15) | said(44), said(45) | said(46)
    assert "color" in colors and not {"bar", "row1"} & colors
    assert {"color", "row1"} <= counts and not {"bar", "first"} & counts
    assert {"color", "row1", "bar", "dot", "first", "last"} <= everything
    assert {"five", "six"} & counts, "rows lean to a colour while numbers are learnt"


def test_what_is_not_taught_is_asked_but_its_answers_are_not_learnt():
    batch, words = PolicyTalks(FULL, 64, 100, 0)[60], FULL.task.vocabulary
    learnt = {words[label] for label in batch["labels"].unique().tolist() if label != IGNORE}
    asked = {words[word] for word in batch["input_ids"].unique().tolist()}
    assert "kind" in asked and {"c00", ":", "red", "flat", "two"} <= learnt
    kinds, colons = FULL.index["kind"], FULL.index[":"]
    rows, columns = (batch["input_ids"] == kinds).nonzero().T
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        behind = batch["input_ids"][row, column:].tolist()
        colon = column + behind.index(colons)
        assert batch["labels"][row, colon] == IGNORE, "which kind it is"
        assert batch["labels"][row, colon - 1] == colons, "how a sentence goes on"


def test_visual_tokens_of_a_placed_policy_learn_to_show_their_cells():
    """Beside the answers, and of a picture once, however often it is shown."""
    small = replace(SMALL, placed=True)
    plan = PolicyTalks(small, 4, 10, 0, interleaved=1.0)
    batch = plan[0]
    assert batch["shown"].shape == (4, 9, 4) and len(batch["pixel_values"]) == 4 < len(batch["kept"])
    torch.manual_seed(0)
    training, copies = PolicyTraining(new_policy(small), small.lessons).eval(), len(batch["kept"]) // 4
    each = {name: batch[name].repeat_interleave(copies, 0) for name in ("pixel_values", "shown")}
    torch.testing.assert_close(training(**batch)["loss"], training(**(batch | each))["loss"])
    torch.manual_seed(0)
    losses = learn(PolicyTraining(new_policy(small), small.lessons), batch, 40, 3e-3)
    assert losses[-1]["shown_loss"] < 0.5 * losses[0]["shown_loss"]
    assert losses[-1]["loss"] > losses[-1]["shown_loss"]
    with pytest.raises(ValueError, match="every cell is a visual token"):
        replace(small, merge=3)


def test_visual_tokens_of_houses_learn_to_show_what_fills_them(tmp_path):
    """A token looks at its own part of the picture: what is taught stands in the order of tokens."""
    rng = np.random.default_rng(0)
    things = (Seen("bed", "red", "ahead", 0.3, 0.5), Seen("sofa", "blue", "left", 0.3, 0.5))
    pictures = []
    for _ in range(8):
        parts = rng.integers(-1, 2, 64)
        colors = np.array([(200, 0, 0), (0, 0, 200), (90, 90, 90)], np.uint8)[parts].reshape(8, 8, 3)
        pictures.append(Around(colors.repeat(16, 0).repeat(16, 1), things, tuple(parts.tolist())))
    write_views(tmp_path / "views-000000.safetensors", pictures)
    config = replace(HOUSE, task=with_views(HOUSE.task, tmp_path), vision_layers=1)
    batch = PolicyTalks(config, 4, 10, 0)[0]
    assert batch["shown"].shape == (4, 64, 4) and batch["shown"][..., 0].unique().numel() == 3
    losses = learn(PolicyTraining(new_policy(config), config.lessons), batch, 30, 3e-3)
    assert losses[-1]["shown_loss"] < 0.5 * losses[0]["shown_loss"]
