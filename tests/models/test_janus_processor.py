"""Prompts and pictures of Janus, against what the release makes of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from dualsight.models.janus_config import UNDERSTANDING_PROMPT
from dualsight.models.janus_processor import JanusProcessor
from dualsight.types import Conversation, Turn
from tests.models.janus_tiny import config, tiny, tokenizer


@pytest.fixture(scope="module")
def processor():
    return tiny()[1]


def asked(text, *images, system=None):
    return Conversation((Turn("user", text),), tuple(images), system)


def test_a_conversation_reads_as_the_release_writes_it():
    processor = JanusProcessor(config(roles=("User", "Assistant")), tokenizer())
    talk = Conversation((Turn("user", "what is this"), Turn("assistant", "a cat"), Turn("user", "yes")))
    ids, said = processor.conversation(talk)
    bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"  # noqa: RUF001
    first = [bos, "User", ":", "what", "is", "this", "Assistant", ":", "a", "cat", eos]
    assert processor.tokenizer.convert_ids_to_tokens(ids) == [*first, "User", ":", "yes", "Assistant", ":"]
    assert [i for i, mine in enumerate(said) if mine] == [8, 9, 10], "its answer, with the end of it"
    assert processor.decode(ids[8:11]) == "a cat"


def test_roles_are_the_configs():
    older = JanusProcessor(config(roles=("User", "Assistant")), tokenizer())
    tokens = older.tokenizer.convert_ids_to_tokens(older.drawing("a red cat"))
    assert tokens[1:-1] == ["User", ":", "a", "red", "cat", "Assistant", ":"]
    assert tokens[-1] == "<begin_of_image>"


def test_an_image_stands_where_its_mark_is(processor):
    image = np.zeros((4, 4, 3), np.uint8)
    ids, _ = processor.conversation(asked("a <image> b <image>", image, image))
    tokens, n = processor.config.tokens, processor.config.seen_tokens
    begins = [i for i, token in enumerate(ids) if token == tokens.begin_image]
    assert len(begins) == 2
    for begin in begins:
        assert ids[begin + 1 : begin + 1 + n] == [tokens.image] * n
        assert ids[begin + 1 + n] == tokens.end_image
    assert ids.count(tokens.image) == 2 * n


def test_a_system_prompt_comes_first_and_may_be_the_configs(processor):
    with_system = JanusProcessor(config(system="the dog"), tokenizer())
    plain, own = (p.conversation(asked("yes"))[0] for p in (processor, with_system))
    assert with_system.tokenizer.convert_ids_to_tokens(own)[1:3] == ["the", "dog"]
    assert own[0] == plain[0] and own[3:] == plain[1:]
    assert with_system.conversation(asked("yes", system="no"))[0][1:2] == processor.tokenizer.encode("no")
    assert with_system.conversation(asked("yes", system=""))[0] == plain
    assert UNDERSTANDING_PROMPT.endswith("using natural language.")


def test_the_unconditional_prompt_keeps_both_ends(processor):
    ids = processor.drawing("a red cat")
    nothing = processor.unconditional(ids)
    assert (nothing[0], nothing[-1], len(nothing)) == (ids[0], ids[-1], len(ids))
    assert set(nothing[1:-1]) == {processor.config.tokens.pad}


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (Conversation(()), "by nobody; expected user, assistant"),
        (Conversation((Turn("assistant", "yes"),)), "by assistant; expected user"),
        (Conversation((Turn("user", "a"), Turn("user", "b"))), "by user, user"),
        (asked("<image> what"), "0 images and 1 marks"),
        (asked("what", np.zeros((2, 2, 3), np.uint8)), "1 images and 0 marks"),
        (
            Conversation((Turn("user", "a"), Turn("assistant", "<image>")), (np.zeros((2, 2, 3), np.uint8),)),
            "only the user shows images",
        ),
    ],
)
def test_a_conversation_that_cannot_be_is_refused(processor, talk, message):
    with pytest.raises(ValueError, match=message):
        processor.conversation(talk)


def test_an_empty_drawing_is_refused(processor):
    with pytest.raises(ValueError, match="expected a text that says what to draw"):
        processor.drawing("  ")


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (64, 64), (32, 32), (7, 90), (1000, 3)])
def test_pictures_are_letterboxed_with_int_and_grey(processor, size):
    """The release: int(side / longest * S), at least 14 pixels, grey around, bicubic."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))
    width, height = (max(int(side / max(size) * 32), 14) for side in size)
    pixels = ((processor.picture(image) * 0.5 + 0.5) * 255).round()
    resized = image.resize((width, height), Image.Resampling.BICUBIC) if (width, height) != size else image
    left, top = (32 - width) // 2, (32 - height) // 2
    inside = pixels[:, top : top + height, left : left + width].permute(1, 2, 0).numpy()
    assert np.array_equal(inside, np.asarray(resized).astype(np.float32))
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[top : top + height, left : left + width] = False
    assert (pixels[:, outside] == 127).all()


def test_int_and_round_differ_where_the_release_says_so():
    assert (int(333 / 500 * 384), round(333 / 500 * 384)) == (255, 256)


def test_a_canvas_is_the_middle_of_a_picture(processor):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:, 8:24] = 255
    canvas = processor.canvas(array)  # image_size 8
    assert canvas.shape == (3, 8, 8)
    assert float(canvas[:, :, 2:6].min()) == 1.0, "the middle is what was in the middle"
    assert processor.canvas(np.full((5, 9, 3), 0, np.uint8)).max() == -1


def test_finished_images_are_cut_off_not_rounded(processor):
    values = torch.tensor([-2.0, -1.0, 0.0, 0.9999, 1.0, 3.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    (image,) = processor.finished(values)
    assert image[0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused():
    with pytest.raises(ValueError, match="the model room for 64"):
        JanusProcessor(config(), tokenizer([f"word{i}" for i in range(90)]))
