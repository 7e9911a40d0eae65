from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dualsight.models.janus_vln import JANUS_VLN_7B, TINY
from dualsight.models.vln_processor import (
    VLNProcessor,
    paper_prompt,
    parse_action,
    release_prompt,
    word_tokenizer,
)
from dualsight.types import Action

WORDS = ["walk", "past", "the", "red", "sofa", "and", "stop", "left"]


@pytest.fixture(scope="module")
def tiny():
    return VLNProcessor(TINY, word_tokenizer(WORDS))


def of(config) -> VLNProcessor:
    """A processor for image preparation alone, on whatever tokenizer."""
    tokens = replace(TINY.tokens)
    return VLNProcessor(replace(config, tokens=tokens), word_tokenizer(WORDS))


def test_the_released_evaluation_prompt_byte_for_byte():
    assert release_prompt("Go left. ", [2, 1]) == (
        "<|im_start|>system\nYou are a visual language navigation model, and your should go to the locations to "
        "complete the given task. Compare the observation and instruction to infer your current progress, and then "
        "select the correct direction from the candidates to go to the target location and finish the task.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|image_pad|><|vision_end|><|vision_start|><|image_pad|>"
        "<|vision_end|>These images are your historical observations and your current observation.\n Your task is to "
        "Go left.  \n You should take one of the following actions:\n MOVE_FORWARD\n TURN_LEFT\n TURN_RIGHT\n STOP."
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_released_training_prompt_byte_for_byte():
    assert release_prompt("Go left. ", [1, 1], split="train") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nYou are a visual language "
        "navigation model, and your should go to the locations to complete the given task. Compare the observation and "
        "instruction to infer your current progress, and then select the correct direction from the candidates to go "
        "to the target location and finish the task.\n This is your historical observation:<|vision_start|>"
        "<|image_pad|><|vision_end|>\n This is your current observation:<|vision_start|><|image_pad|><|vision_end|>\n "
        "Your task is to Go left.\n You should take one of the following actions:\n MOVE_FORWARD\n TURN_LEFT\n "
        "TURN_RIGHT\n STOP.<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("width, height, prepared, tokens", [
    (640, 480, (490, 644), (17, 23)),
    (1280, 720, (364, 644), (13, 23)),
    (512, 512, (644, 644), (23, 23)),
    (640, 360, (364, 644), (13, 23)),
    (480, 640, (644, 644), (23, 23)),
])  # fmt: skip
def test_frames_have_the_released_sizes(width, height, prepared, tokens):
    frame = of(JANUS_VLN_7B).frame(np.zeros((height, width, 3), np.uint8))
    assert tuple(frame.shape) == (3, *prepared)
    assert JANUS_VLN_7B.grid_of(*prepared) == tokens


def test_640x480_is_391_tokens():
    assert JANUS_VLN_7B.image_tokens == 391


def test_the_resize_is_pils_bicubic_and_the_crop_is_centred():
    rgb = np.random.default_rng(0).integers(0, 256, (700, 400, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(rgb).resize((644, 1120), Image.Resampling.BICUBIC))[238:882]
    frame = of(JANUS_VLN_7B).frame(rgb)
    assert torch.equal(frame, torch.from_numpy(expected.copy()).permute(2, 0, 1).float().div(255))


def test_a_square_frame_is_cut_from_the_middle(tiny):
    rgb = np.zeros((112, 200, 3), np.uint8)
    rgb[:, 44:156] = 255
    assert tiny.frame(rgb).min() == 1
    exact = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert torch.equal(tiny.frame(exact).mul(255).round().to(torch.uint8), torch.from_numpy(exact).permute(2, 0, 1))
    assert tiny.frames([exact, rgb]).shape == (2, 3, 112, 112)


def test_words_are_lower_cased_and_actions_are_single_tokens(tiny):
    encode = tiny.tokenizer.encode
    assert encode("Walk past the RED sofa, and STOP") == [*encode("walk past the red sofa , and"), 7]
    assert encode("stop") != encode("STOP")
    assert [len(ids) for ids in tiny.action_ids] == [1, 1, 1, 1]
    assert encode("xylophone") == [0]
    assert 0 not in encode(paper_prompt("walk past the red sofa"))


def test_actions_there_and_back(tiny):
    for action in Action:
        assert parse_action(tiny.decode(tiny.action_ids[action])) == action
    assert tiny.decode([8, TINY.tokens.end_of_turn, 9]) == "MOVE_FORWARD"
    for text in ("", "stop", "STOP.", " STOP", "TURN_LEFT TURN_LEFT", "TURN"):
        assert parse_action(text) is None


def test_previous_actions_are_tokens_or_empty(tiny):
    actions = torch.tensor([[-1, 1, 3], [-1, 2, 0]])
    assert tiny.previous(actions)[..., 0].tolist() == [[-1, 8, 10], [-1, 9, 7]]


def test_actions_of_several_tokens_stand_at_the_right_of_their_slots():
    processor = of(replace(TINY, action_slots=3))
    processor.action_ids = [[50], [51, 52], [53, 54, 55], [56]]
    assert processor.previous(torch.tensor([0, 1, 2, -1])).tolist() == [
        [-1, -1, 50], [-1, 51, 52], [53, 54, 55], [-1, -1, -1]
    ]  # fmt: skip


def test_prompts_are_padded_at_the_right(tiny):
    ids, lengths = tiny.prompts(["walk", "walk past the sofa"])
    assert lengths.tolist() == [len(tiny.prompt("walk")), len(tiny.prompt("walk")) + 3]
    assert ids[0, : lengths[0]].tolist() == tiny.prompt("walk") and ids.shape == (2, lengths[1])


def test_a_foreign_tokenizer_is_refused():
    with pytest.raises(ValueError, match=r"<\|image_pad\|> at 6, the model's config at 151655"):
        VLNProcessor(replace(TINY, tokens=JANUS_VLN_7B.tokens), word_tokenizer(WORDS))
    with pytest.raises(ValueError, match="the model room for 20"):
        VLNProcessor(replace(TINY, text=replace(TINY.text, vocab_size=20)), word_tokenizer(WORDS))
