"""Tokens of fixed shapes: the same as those of the loop whose memory grows."""

import shutil

import pytest
import torch

from dualsight.inference import token_graph
from dualsight.inference.image import draw_codes
from tests.models.janus_tiny import tiny

PROMPTS = ["a red cat", "the dog on the two red cat", "green"]
SETTINGS = [{}, {"guidance": 1.0}, {"temperature": 0}, {"top_k": 3, "temperature": 0.7}]


@pytest.fixture(scope="module")
def janus():
    return tiny()


@pytest.mark.parametrize("settings", SETTINGS)
def test_fixed_shapes_draw_the_same_tokens(janus, settings, monkeypatch):
    """Prompts of different lengths, two images of each, so that rows are padded and shared."""
    monkeypatch.setattr(token_graph, "_compiled", lambda device: token_graph._token)
    plain = draw_codes(*janus, PROMPTS, per_prompt=2, **settings)
    assert torch.equal(draw_codes(*janus, PROMPTS, per_prompt=2, compile=True, **settings), plain)
    alone = draw_codes(*janus, PROMPTS[1:2], seeds=[2], compile=True, **settings)
    assert torch.equal(alone[0], plain[2])


def test_shapes_do_not_depend_on_the_token(janus, monkeypatch):
    seen = set()

    def shapes(model, *tensors):
        seen.add(tuple(t.shape if torch.is_tensor(t) else t for t in tensors))
        return token_graph._token(model, *tensors)

    monkeypatch.setattr(token_graph, "_compiled", lambda device: shapes)
    for prompt in PROMPTS:
        draw_codes(*janus, [prompt], compile=True)
    assert len(seen) == 1, "one graph for all tokens of prompts of like length"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_the_compiled_graph_draws_the_same_tokens(janus):
    plain = draw_codes(*janus, PROMPTS, temperature=0)
    assert torch.equal(draw_codes(*janus, PROMPTS, temperature=0, compile=True), plain)
