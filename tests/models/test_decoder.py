"""The decoder run over its modules equals transformers' own forward pass, values, caches and gradients."""

import pytest
import torch
from transformers import DynamicCache

from dualsight.models import decoder
from dualsight.models.decoder import LAST, NONE, decode
from dualsight.models.janus_vln import text_model
from dualsight.models.janus_vln_config import TextConfig

TOKENS = 9


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = text_model(TextConfig(16, 48, 64, 3, 6, 2, mrope_section=(2, 1, 1))).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(1)
    return torch.randn(2, TOKENS, 48), torch.randint(0, 20, (3, 2, TOKENS))


def mask(kind: str) -> torch.Tensor | None:
    """Every token sees itself and some of those before it, others in each row."""
    torch.manual_seed(2)
    seen = (torch.rand(2, 1, TOKENS, TOKENS) < 0.6).tril() | torch.eye(TOKENS, dtype=torch.bool)
    additive = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return {"causal": None, "boolean": seen, "additive": additive}[kind]


def stock(model, embeddings, positions, visible, cache=None):
    return model(
        inputs_embeds=embeddings, position_ids=positions, attention_mask={"full_attention": visible},
        past_key_values=cache, use_cache=cache is not None,
    ).last_hidden_state  # fmt: skip


@pytest.mark.parametrize("block", [256, 4])
@pytest.mark.parametrize("kind", ["causal", "boolean", "additive"])
@torch.no_grad()
def test_equals_transformers_own_forward_pass(model, given, kind, block, monkeypatch):
    """A sequence of nine in one block, and in three."""
    monkeypatch.setattr(decoder, "BLOCK", block)
    expected = stock(model, *given, mask(kind))
    torch.testing.assert_close(decode(model, *given, mask(kind)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("read", [LAST, slice(4, None, 2), slice(3, 5)])
@torch.no_grad()
def test_what_is_not_read_is_not_missed(model, given, read):
    whole = decode(model, *given, mask("boolean"))
    torch.testing.assert_close(decode(model, *given, mask("boolean"), read=read), whole[:, read], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_all_positions_enter_the_cache_though_none_is_read(model, given):
    ours, theirs = DynamicCache(), DynamicCache()
    assert decode(model, *given, mask("boolean"), ours, NONE).shape == (2, 0, 48)
    stock(model, *given, mask("boolean"), theirs)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        torch.testing.assert_close(one.keys, other.keys, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.values, other.values, atol=1e-5, rtol=1e-5)
    following, seen = torch.randn(2, 1, 48), torch.rand(2, 1, 1, TOKENS + 1) < 0.7
    positions = torch.full((3, 2, 1), 30)
    expected = stock(model, following, positions, seen, theirs)
    torch.testing.assert_close(decode(model, following, positions, seen, ours), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [256, 4])
def test_gradients_are_those_of_transformers(model, given, block, monkeypatch):
    monkeypatch.setattr(decoder, "BLOCK", block)
    visible, read = mask("boolean"), slice(2, None, 3)
    parameters = list(model.layers.parameters())
    expected = torch.autograd.grad(stock(model, *given, visible)[:, read].square().sum(), parameters)
    actual = torch.autograd.grad(decode(model, *given, visible, read=read).square().sum(), parameters)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
