"""What is wrong with Janus elsewhere: a test for each defect measured in transformers 5.23 or in the release."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image

from dualsight.inference.assistant import Assistant
from dualsight.inference.image import draw, draw_codes
from dualsight.inference.token_graph import choose, gumbel
from dualsight.models.janus_config import JANUS_1_3B, JANUS_PRO_1B
from dualsight.models.janus_processor import JanusProcessor
from dualsight.train.janus_stages import JanusTraining
from dualsight.types import Conversation, Turn
from tests.models.janus_tiny import config, tiny, tokenizer


@pytest.fixture(scope="module")
def janus():
    return tiny()


def test_1_a_model_from_a_config_draws_without_a_patched_generation_config(janus):
    model, processor = janus
    assert draw(model, processor, ["a red cat"])[0].shape == (8, 8, 3)


def test_2_encoding_compares_normalised_codes(janus):
    """Rows of the codebook of any length: the nearest is the one with the largest cosine."""
    codec = tiny()[0].gen_vision_model
    with torch.no_grad():
        codec.quantize.embedding.weight.mul_(torch.rand(len(codec.quantize.embedding.weight), 1) * 3 + 0.1)
        images = torch.rand(2, 3, 8, 8) * 2 - 1
        z = codec.features(images)
        e = torch.nn.functional.normalize(codec.quantize.embedding.weight, dim=-1)
        assert torch.equal(codec.encode(images), (z @ e.T).argmax(-1))
        assert codec.lookup(codec.encode(images)).norm(dim=-1) == pytest.approx(torch.ones(2, 16), abs=1e-5)


def test_3_images_have_a_loss_and_unknown_inputs_are_no_secret(janus):
    """See also tests/models/test_janus.py for what the loss is."""
    with pytest.raises(TypeError, match="image_labels"):
        JanusTraining(janus[0])(ids=torch.zeros(1, 2), image_labels=torch.zeros(1, 2))


def test_4_sampling_is_from_all_tokens_unless_asked_otherwise():
    assert inspect.signature(draw).parameters["top_k"].default is None
    noise = gumbel([torch.Generator().manual_seed(seed) for seed in range(600)], 200, torch.device("cpu"))
    assert len(choose(torch.zeros(600, 200), noise, 1.0, 1.0, None).unique()) > 150, "a hidden top-50 would give 50"


def test_5_guidance_of_one_is_no_guidance(janus):
    assert draw(*janus, ["a red cat"], guidance=1.0)[0].shape == (8, 8, 3)


def test_6_nobody_has_to_make_a_mask(janus):
    assert len(draw(*janus, ["a red cat", "the"], temperature=0)) == 2


def test_7_every_step_can_be_watched(janus):
    steps = []
    draw(*janus, ["a red cat"], on_step=lambda done, total: steps.append(done))
    assert steps == list(range(1, janus[0].config.drawn_tokens + 1))


def test_8_a_second_call_is_like_the_first(janus):
    first, second = (draw_codes(*janus, ["a red cat"], seeds=[4]) for _ in range(2))
    assert torch.equal(first, second)


def test_9_answers_end_where_they_are_told_and_an_image_has_a_seed_of_its_own(janus):
    talk = Conversation((Turn("user", "what is this"),))
    short, long = (Assistant(*janus).chat([talk], max_tokens=n)[0] for n in (2, 6))
    assert len(short.split()) <= 2 < len(long.split()) + 1 and long.startswith(short)
    torch.manual_seed(0)
    one = draw_codes(*janus, ["a"], seeds=[1])
    torch.manual_seed(99)
    assert torch.equal(one, draw_codes(*janus, ["a"], seeds=[1])), "torch's global state has no part in it"


def test_10_the_head_of_text_is_not_the_embedding(janus):
    language_model = janus[0].language_model
    assert language_model.config.tie_word_embeddings is False
    assert language_model.lm_head.weight.data_ptr() != language_model.get_input_embeddings().weight.data_ptr()


def test_11_a_picture_of_500_by_333_becomes_255_rows_high():
    processor = JanusProcessor(config(encoder=config().encoder.__class__("siglip", 384, 16, 32, 1, 4)), tokenizer())
    picture = processor.picture(Image.new("RGB", (500, 333), "white"))
    assert int((picture[0, :, 200] > 0.9).sum()) == 255


def test_12_the_memory_is_allocated_once(janus, monkeypatch):
    model, processor = janus
    read, places = model.read, set()

    def watched(x, reading, *rest):
        places.add((reading.memory.buffer.data_ptr(), reading.memory.capacity))
        return read(x, reading, *rest)

    monkeypatch.setattr(model, "read", watched)
    draw_codes(model, processor, ["a red cat"])
    prompt = len(processor.drawing("a red cat"))
    assert len(places) == 2, "one for the prompts, one for the images that go on from them"
    assert sorted(capacity for _, capacity in places) == [prompt, prompt + model.config.drawn_tokens], (
        "neither is longer than it has to be"
    )


def test_13_the_roles_are_the_models_own():
    assert JANUS_1_3B.roles == ("User", "Assistant")
    assert JANUS_PRO_1B.roles == ("<|User|>", "<|Assistant|>")


def test_14_images_need_not_be_384_pixels_wide():
    model, processor = tiny(image_size=12)
    assert draw(model, processor, ["a"])[0].shape == (12, 12, 3)


def test_15_many_images_of_many_prompts(janus):
    images = draw(*janus, ["a red cat", "the dog"], per_prompt=3)
    assert len(images) == 6 and len({image.tobytes() for image in images}) == 6
    assert all(image.dtype == np.uint8 for image in images)
