"""Answers about images: alone, in a batch, piece by piece."""

import numpy as np
import pytest
import torch

from dualsight.inference.text import answer, stream
from dualsight.types import Conversation, Turn
from tests.models.janus_tiny import tiny


@pytest.fixture(scope="module")
def janus():
    return tiny()


def image(seed):
    return np.random.default_rng(seed).integers(0, 255, (20, 30, 3), np.uint8)


def asked(text, *images):
    return Conversation((Turn("user", text),), images)


TALKS = [
    asked("<image> what is this", image(0)),
    asked("two on a dog"),
    Conversation(
        (Turn("user", "<image> <image> what"), Turn("assistant", "a red cat"), Turn("user", "<image> and this")),
        (image(1), image(2), image(3)),
    ),
]


def test_an_answer_does_not_depend_on_its_batch(janus):
    together = answer(*janus, TALKS, max_tokens=12)
    assert together == [answer(*janus, [talk], max_tokens=12)[0] for talk in TALKS]
    assert len(set(together)) > 1, "they say something"


@torch.no_grad()
def test_greedy_answers_are_those_of_transformers_generate(janus):
    model, processor = janus
    prompts = processor.prompts(TALKS[:1])
    ids = model.language_model.generate(
        inputs_embeds=model.embed(prompts.ids, prompts.images), max_new_tokens=12, do_sample=False,
        eos_token_id=model.config.tokens.eos, pad_token_id=model.config.tokens.pad,
    )  # fmt: skip
    assert answer(model, processor, TALKS[:1], max_tokens=12) == [processor.decode(ids[0])]


def test_the_pieces_of_a_stream_are_the_answer(janus):
    for talk in TALKS:
        pieces = list(stream(*janus, talk, max_tokens=12))
        assert "".join(pieces).strip() == answer(*janus, [talk], max_tokens=12)[0]


class Ends(torch.nn.Module):
    """A head that says <end of text> in the rows that are due, and something else before."""

    def __init__(self, eos, lengths):
        super().__init__()
        self.eos, self.lengths, self.calls = eos, torch.tensor(lengths), 0

    def forward(self, hidden):
        tokens = torch.where(self.lengths == self.calls, self.eos, 20)
        self.calls += 1
        return torch.nn.functional.one_hot(tokens, 64).float()


def test_each_answer_ends_at_its_own_end_of_text():
    model, processor = tiny()
    model.language_model.lm_head = Ends(model.config.tokens.eos, [2, 0])
    short = processor.decode([20, 20])
    assert answer(model, processor, [asked("yes"), asked("no")], max_tokens=9) == [short, ""]
    assert model.language_model.lm_head.calls == 3, "nothing is computed once all have ended"


def test_sampling_is_a_function_of_the_seed(janus):
    def drawn(seed):
        return answer(*janus, [TALKS[1]], max_tokens=12, temperature=1.0, top_p=0.95, seed=seed)

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(4)}) > 1


def test_a_sampled_answer_does_not_depend_on_its_batch(janus):
    settings = {"max_tokens": 12, "temperature": 1.0, "top_p": 0.95, "seed": 3}
    together = answer(*janus, TALKS, **settings)
    assert together == [answer(*janus, [talk], **settings)[0] for talk in TALKS]


@pytest.mark.parametrize(
    ("talks", "settings", "message"),
    [
        ([], {}, "no conversation"),
        ([Conversation((Turn("user", "a"), Turn("assistant", "b")))], {}, "nothing to answer"),
        ([asked("dog " * 300)], {}, "more than the 256"),
        ([asked("a")], {"max_tokens": 0}, "max_tokens is 0"),
        ([asked("a")], {"top_p": 0.0}, "top_p 0"),
        ([asked("a")], {"temperature": -1.0}, "temperature -1"),
    ],
)
def test_what_cannot_be_answered_is_refused(janus, talks, settings, message):
    with pytest.raises(ValueError, match=message):
        answer(*janus, talks, **settings)
