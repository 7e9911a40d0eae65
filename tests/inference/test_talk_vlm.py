"""The small VLM of GridTalk: how talks are laid out, and that the image really leaves its sight."""

import numpy as np
import pytest
import torch

from dualsight.checkpoints.weights import CheckpointError
from dualsight.data.gridtalk import VOCABULARY
from dualsight.data.talks import MARK
from dualsight.inference.talk_vlm import (
    FULL,
    SMALL,
    Call,
    TalkBatch,
    lay_out,
    load_policy,
    new_policy,
    place_codes,
    save_policy,
)
from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import VisMem, VisMemConfig


@pytest.fixture
def vlm():
    return new_policy(SMALL).eval()


@pytest.fixture
def memory(vlm):
    return VisMem(vlm, [MARK[";"]], VisMemConfig(queries=2, short=2, long=3, width=16, heads=2, rank=4))


def talks(count, sentences, task=SMALL.task):
    rng = np.random.default_rng(0)
    return [task.sample(sentences, rng) for _ in range(count)]


def test_answers_stand_where_the_labels_say(memory):
    made = talks(3, 4)
    batch = TalkBatch(SMALL, memory)(
        made, np.random.default_rng(1), again={1: SMALL.visual_tokens}, calls=[Call(2, "long")]
    )
    for row, talk in zip(range(3), made, strict=True):
        for column, sentence in zip(batch["answers"].tolist(), talk.sentences, strict=True):
            assert VOCABULARY[batch["input_ids"][row, column]] == sentence.words[6]
            assert (batch["labels"][row, column - 3 : column] == batch["input_ids"][row, column - 2 : column + 1]).all()
    assert (batch["labels"] != IGNORE).sum() == 36
    assert len(batch["pixel_values"]) == 6, "the picture of each row, twice"
    assert (batch["input_ids"] == MARK["<seen>"]).sum(1).tolist() == [18] * 3
    assert (batch["input_ids"] == memory.tokens.placeholder).sum(1).tolist() == [3] * 3


def test_memory_stands_right_behind_the_delimiter(memory):
    batch = TalkBatch(SMALL, memory)(talks(2, 3), np.random.default_rng(1), calls=[Call(1, "short")])
    for row in batch["input_ids"].tolist():
        begin = row.index(memory.tokens.begin[0])
        assert row[begin - 1] == MARK[";"]
        assert row[begin + 1 : begin + 4] == [memory.tokens.placeholder] * 2 + [memory.tokens.end[0]]


@pytest.mark.parametrize("config", [SMALL, FULL], ids=["small", "full"])
def test_the_image_is_out_of_reach_of_late_questions(config):
    """Another image changes what is said of early questions, and not a bit of late ones, however few words are said."""
    vlm = new_policy(config).eval()
    talk = talks(1, config.late, config.task)[0]
    ids, answers = lay_out(talk, config, [0] * config.late, {}, np.random.default_rng(0))
    side = 8 * config.task.size
    one, other = torch.randn(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([ids])
    with torch.no_grad():
        a, b = (vlm(input_ids=ids, pixel_values=pixels).logits[0] for pixels in (one, other))
    assert not torch.equal(a[answers[0] - 1], b[answers[0] - 1])
    assert torch.equal(a[answers[-1] - 1], b[answers[-1] - 1])
    assert not torch.equal(a[answers[-2] - 1], b[answers[-2] - 1]), "the question before is the last one in reach"


def test_a_policy_is_read_back(vlm, tmp_path):
    save_policy(vlm, SMALL, tmp_path)
    again, config = load_policy(tmp_path)
    assert config == SMALL
    assert all(torch.equal(a, b) for a, b in zip(vlm.parameters(), again.parameters(), strict=True))


def test_other_folders_are_no_policies(tmp_path):
    with pytest.raises(CheckpointError, match="train policy"):
        load_policy(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "janus"}')
    with pytest.raises(ValueError, match="grid_vlm"):
        load_policy(tmp_path)


def test_names_of_a_placed_policy_know_what_their_places_have_in_common():
    """Names and positions begin as mixtures of one code: near cells alike, none the same; other words at random."""
    vlm, codes = new_policy(FULL), place_codes(6)
    words = vlm.get_input_embeddings().weight
    names = words[[FULL.index[name] for name in FULL.task.names]]
    positions = vlm.model.vision_tower.embeddings.position_embeddings[0, 1:]
    assert {int(torch.linalg.matrix_rank(found, rtol=1e-3)) for found in (codes, names, positions)} == {10}
    for found in (names, positions):  # each a linear map of the codes
        assert torch.allclose(codes @ torch.linalg.pinv(codes) @ found, found, atol=1e-4)
    said = vlm.get_output_embeddings().weight[[FULL.index[name] for name in FULL.task.names]]
    assert torch.allclose(said / said.std(), names / names.std(), atol=1e-4), "said as they are read"
    rows = words[[FULL.index[name] for name in FULL.task.rows]]
    means = names.view(6, 6, -1).mean(1)
    assert torch.allclose(rows / rows.std(), means / means.std(), atol=1e-4), "a row's name is what its cells' share"
    apart = torch.cdist(codes, codes)
    assert apart[0, 1] < apart[0, 3] and apart[0, 6] < apart[0, 18] and apart.fill_diagonal_(1).min() > 0.5
    assert torch.linalg.matrix_rank(words) > 60
    assert not SMALL.placed, "the shipped policy began otherwise"
