"""A tiny random Qwen2.5-VL decoder remembers through the window cache as through transformers' own."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

from dualsight.memory.cache import WindowCache
from dualsight.memory.window import WindowMemory

UNIT, STEPS, WIDTH = 4, 7, 32
SIZES: dict[str, Any] = {"layers": 2, "heads": 2, "head_dim": 8, "unit": UNIT}


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    config = Qwen2_5_VLTextConfig(
        vocab_size=40, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rope_parameters=rope, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return Qwen2_5_VLTextModel(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def speaker():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=40, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=None, eos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval().requires_grad_(False)


def positions_of(prompt, row_offset=0):
    """M-RoPE positions (3, 1, prompt + STEPS units): the prompt in order, each unit a 2 x 2 image two steps on."""
    text = torch.arange(prompt).expand(3, -1)
    images = []
    for t in range(STEPS):
        start = prompt + row_offset + 2 * t
        images.append(torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]]) + start)
    return torch.cat([text, *images], 1)[:, None]


def visible(prompt, initial, recent):
    """The training mask (1, 1, T, T): prompt causal, first and recent units whole, own unit causal."""
    total = prompt + STEPS * UNIT
    seen = torch.ones(total, total, dtype=torch.bool).tril()
    for t in range(STEPS):
        for s in range(initial, t - recent):
            seen[prompt + t * UNIT : prompt + (t + 1) * UNIT, prompt + s * UNIT : prompt + (s + 1) * UNIT] = False
    return torch.zeros(1, 1, total, total).masked_fill(~seen, torch.finfo(torch.float32).min)


def stream(model, cache, x, positions, prompt):
    """Prompt, then unit by unit; the last hidden states of everything."""
    with cache.prompt(prompt) as mask:
        out = [model(inputs_embeds=x[:, :prompt], position_ids=positions[..., :prompt], attention_mask=mask,
                     past_key_values=cache).last_hidden_state]  # fmt: skip
    for t in range(STEPS):
        span = slice(prompt + t * UNIT, prompt + (t + 1) * UNIT)
        with cache.unit() as mask:
            out.append(model(inputs_embeds=x[:, span], position_ids=positions[..., span], attention_mask=mask,
                             past_key_values=cache).last_hidden_state)  # fmt: skip
    return torch.cat(out, 1)


@pytest.mark.parametrize(("initial", "recent"), [(1, 2), (0, 3), (2, 0), (0, 99)])
def test_streaming_equals_one_pass_under_the_windows_mask(decoder, initial, recent):
    prompt, x, positions = 5, torch.randn(1, 5 + STEPS * UNIT, WIDTH), positions_of(5)
    cache = WindowCache(WindowMemory(**SIZES, initial=initial, recent=recent, permanent=prompt))
    mask = visible(prompt, initial, recent)
    whole = decoder(inputs_embeds=x, position_ids=positions, attention_mask=mask, use_cache=False).last_hidden_state
    torch.testing.assert_close(stream(decoder, cache, x, positions, prompt), whole, atol=1e-5, rtol=0)


def test_an_infinite_window_equals_the_full_cache(decoder):
    prompt, x, positions = 5, torch.randn(1, 5 + STEPS * UNIT, WIDTH), positions_of(5)
    cache = WindowCache(WindowMemory(**SIZES, initial=0, recent=STEPS, permanent=prompt))
    streamed = stream(decoder, cache, x, positions, prompt)
    full = decoder(inputs_embeds=x, position_ids=positions, past_key_values=DynamicCache()).last_hidden_state
    torch.testing.assert_close(streamed, full, atol=1e-5, rtol=0)


def test_padded_prompts_and_units_of_ragged_sessions_equal_each_alone(decoder):
    """Prompts of 5 and 3 tokens, a unit whose first token may be missing, session 1 begins two steps later."""
    lengths, x = [5, 3], torch.randn(2, 5 + STEPS * UNIT, WIDTH)
    valid = torch.rand(STEPS, 2, UNIT, generator=torch.Generator().manual_seed(3)) > 0.3

    def step(cache, t, rows, local):
        keep = valid[local, rows] if len(rows) > 1 else valid[local[rows[0]], rows]
        inputs = torch.stack([x[row, 5 + local[row] * UNIT : 5 + (local[row] + 1) * UNIT] for row in rows])
        where = torch.cat([positions_of(lengths[row])[..., lengths[row] + local[row] * UNIT :][..., :UNIT]
                           for row in rows], 1)  # fmt: skip
        with cache.unit(keep) as mask:
            hidden = decoder(inputs_embeds=inputs, position_ids=where, attention_mask=mask, past_key_values=cache)
        return hidden.last_hidden_state

    def begin(cache, rows, into):
        for row, target in zip(rows, into, strict=True):
            cache.reset([target])
            ok = torch.arange(5)[None] < lengths[row]
            with cache.prompt(5, ok, [target]) as mask:
                decoder(inputs_embeds=x[row : row + 1, :5], position_ids=torch.arange(5).expand(3, 1, -1),
                        attention_mask=mask, past_key_values=cache)  # fmt: skip

    def new(batch):
        return WindowCache(WindowMemory(**SIZES, initial=1, recent=1, permanent=5, batch=batch))

    both, alone = new(2), [new(1), new(1)]
    begin(both, [0], [0])
    for row in (0, 1):
        begin(alone[row], [row], [0])
    for t in range(STEPS):
        if t == 2:
            begin(both, [1], [1])
        local = [t, max(t - 2, 0)]
        together = step(both, t, [0, 1], local)
        for row in (0, 1) if t >= 2 else (0,):
            single = step(alone[row], t, [row], local)[0]
            there = valid[local[row], row]
            torch.testing.assert_close(together[row][there], single[there], atol=1e-5, rtol=0)


def test_generate_writes_the_same_text_and_the_draft_can_be_dropped(speaker):
    prompt = 6
    ids = torch.randint(0, 40, (2, prompt + 3 * UNIT + 2), generator=torch.Generator().manual_seed(5))
    expected = speaker.generate(ids, max_new_tokens=8, do_sample=False)[:, ids.shape[1] :]
    cache = WindowCache(WindowMemory(**SIZES, initial=1, recent=2, permanent=prompt, batch=2))
    index = torch.arange(ids.shape[1])[None]
    with cache.prompt(prompt) as mask:
        speaker(ids[:, :prompt], attention_mask=mask, past_key_values=cache)
    for t in range(3):
        span = slice(prompt + t * UNIT, prompt + (t + 1) * UNIT)
        with cache.unit() as mask:
            speaker(ids[:, span], attention_mask=mask, position_ids=index[:, span], past_key_values=cache)
    kept = cache.memory.store.clone()
    new = ids[:, -2:]
    for _ in range(2):
        text = speaker.generate(
            new, past_key_values=cache, attention_mask=cache.attention_mask(2), max_new_tokens=8, do_sample=False
        )
        assert torch.equal(text[:, 2:], expected)
        assert cache.get_seq_length() == ids.shape[1] + 7  # the last token is never read
        cache.drop_draft()
        assert cache.get_seq_length() == ids.shape[1] - 2
    assert torch.equal(cache.memory.store, kept)


def test_a_draft_after_eviction_sees_what_the_last_unit_saw(speaker):
    prompt, total = 6, 6 + STEPS * UNIT
    ids = torch.randint(0, 40, (1, total + 1), generator=torch.Generator().manual_seed(6))
    index = torch.arange(total + 1)[None]
    cache = WindowCache(WindowMemory(**SIZES, initial=1, recent=1, permanent=prompt))
    with cache.prompt(prompt) as mask:
        speaker(ids[:, :prompt], attention_mask=mask, past_key_values=cache)
    for t in range(STEPS):
        span = slice(prompt + t * UNIT, prompt + (t + 1) * UNIT)
        with cache.unit() as mask:
            speaker(ids[:, span], attention_mask=mask, position_ids=index[:, span], past_key_values=cache)
    # Default positions and masks of transformers are those of the whole walk, what was evicted included.
    draft = speaker(ids[:, total:], past_key_values=cache).logits
    mask = torch.nn.functional.pad(visible(prompt, 1, 1), (0, 1, 0, 1), value=torch.finfo(torch.float32).min)
    mask[..., -1, :total] = mask[..., -2, :total]
    mask[..., -1, -1] = 0
    whole = speaker(ids, attention_mask=mask, position_ids=index, use_cache=False).logits
    torch.testing.assert_close(draft[:, 0], whole[:, -1], atol=1e-5, rtol=0)


def test_crop_takes_back_draft_tokens_only(speaker):
    cache = WindowCache(WindowMemory(**SIZES))
    first = speaker(torch.tensor([[1, 2]]), past_key_values=cache).logits
    speaker(torch.tensor([[3, 4, 5]]), past_key_values=cache)
    cache.crop(-3)
    assert cache.get_seq_length() == 2
    cache.crop(-2)
    assert torch.equal(speaker(torch.tensor([[1, 2]]), past_key_values=cache).logits, first)
    with pytest.raises(ValueError, match="3 tokens of a draft of 2"):
        cache.crop(-3)
    with pytest.raises(ValueError, match=r"crop\(1\)"):
        cache.crop(1)


def test_a_unit_that_fails_is_not_committed(decoder):
    cache = WindowCache(WindowMemory(**SIZES))
    with pytest.raises(ValueError), cache.unit() as mask:
        decoder(inputs_embeds=torch.randn(1, 3, WIDTH), attention_mask=mask, past_key_values=cache)
    assert cache.memory.counts == [0]
    assert cache.write == cache.draft
