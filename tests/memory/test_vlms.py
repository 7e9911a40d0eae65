"""Prompts of several rows as one batch."""

import pytest
import torch

from dualsight.inference.talk_vlm import HOUSE, new_policy
from dualsight.memory.vlms import anatomy, together
from tests.models.tiny_vlms import tiny_vlm


def test_texts_are_padded_on_the_left_and_images_stand_one_behind_the_other():
    one = {"input_ids": torch.tensor([[4, 5]]), "mm_token_type_ids": torch.tensor([[1, 0]]), "pixels": torch.ones(3, 7)}
    two = {"input_ids": torch.tensor([[6, 7, 8, 9]]), "mm_token_type_ids": torch.tensor([[0, 1, 1, 0]])}
    batch = together([one, two | {"pixels": torch.zeros(2, 7)}], pad=2)
    assert batch["input_ids"].tolist() == [[2, 2, 4, 5], [6, 7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert batch["mm_token_type_ids"].tolist() == [[0, 0, 1, 0], [0, 1, 1, 0]]
    assert batch["pixels"].shape == (5, 7) and batch["pixels"].sum() == 21
    assert "pixels" not in together([two], 0)


def test_images_with_fewer_tiles_are_filled_up():
    one, two = ({"input_ids": torch.ones(1, 2).long(), "pixel_values": torch.ones(1, n, 3, 4, 4)} for n in (2, 5))
    batch = together([one, two], 0)["pixel_values"]
    assert (
        batch.shape == (2, 5, 3, 4, 4) and batch[0, 2:].sum() == 0 and torch.equal(batch[:1, :2], one["pixel_values"])
    )


def test_patches_belong_to_the_tokens_that_the_vlm_makes_of_them():
    """By its own pixel shuffle, of numbered patches; what is paid to the class token is left out."""
    vlm = new_policy(HOUSE)
    side = round((4 * HOUSE.visual_tokens) ** 0.5)
    made = vlm.model.pixel_shuffle(torch.arange(side**2).float().view(1, side, side, 1), 0.5).view(-1, 4).long()
    paid = torch.eye(1 + side**2)[None]
    found = anatomy(vlm).tokens_of(paid)[0]
    assert not found[0].any()
    for token, patches in enumerate(made):
        assert found[1 + patches].argmax(-1).tolist() == [token] * 4 and found[1 + patches].sum() == 4


def test_where_slots_look_is_not_known_of_encoders_with_windows():
    with pytest.raises(ValueError, match="not known in Qwen25VL"):
        anatomy(tiny_vlm("qwen2_5_vl")).tokens_of(torch.ones(1, 1, 4))
