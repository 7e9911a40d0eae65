from typing import Any

import pytest
import torch
from torch.nn import functional as F

from dualsight.memory.explicit import ExplicitMemory
from dualsight.memory.window import WindowMemory

SIZES: dict[str, Any] = {"layers": 2, "heads": 2, "head_dim": 4, "unit": 3}


def units(count, batch=1, seed=0):
    """Keys and values of ``count`` units of every layer: (count, layers, 2, batch, heads, unit, head_dim)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 2, batch, 2, 3, 4, generator=generator)


def feed(memory, unit):
    """One step; what the unit attended to, per layer."""
    seen = [memory.append(layer, *unit[layer]) for layer in range(memory.layers)]
    memory.commit()
    return seen


def attended(seen, query):
    keys, values, mask = seen
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)


def test_units_attended_to_grow_to_initial_plus_recent_plus_one_and_stay():
    memory = WindowMemory(**SIZES, initial=2, recent=3)
    sizes, held = [], []
    for unit in units(10):
        sizes.append(feed(memory, unit)[0][0].shape[2] // 3)
        held.append(memory.frames())
    assert sizes == [1, 2, 3, 4, 5, 6, 6, 6, 6, 6]
    assert held[3:7] == [[0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 3, 4, 5], [0, 1, 4, 5, 6]]


@pytest.mark.parametrize(("initial", "recent"), [(2, 3), (0, 3), (3, 0), (0, 0), (1, 1)])
def test_the_ring_equals_keeping_units_in_order(initial, recent):
    memory, query = WindowMemory(**SIZES, initial=initial, recent=recent), torch.randn(1, 2, 3, 4)
    steps = units(11)
    for t, unit in enumerate(steps):
        seen = feed(memory, unit)
        visible = [s for s in range(t + 1) if s < initial or s >= t - recent]
        for layer in range(2):
            keys, values = (torch.cat([steps[s, layer, i] for s in visible], 2) for i in (0, 1))
            expected = F.scaled_dot_product_attention(query, keys, values)
            torch.testing.assert_close(attended(seen[layer], query), expected, atol=1e-6, rtol=0)


def test_appending_copies_nothing_but_the_unit_itself():
    memory = WindowMemory(**SIZES, initial=1, recent=2)
    address, size = memory.store.data_ptr(), memory.nbytes
    for unit in units(400):
        before = memory.store.clone()
        keys, values, mask = feed(memory, unit)[1]
        assert mask is None and keys._base is not None and values._base is not None
        assert keys.untyped_storage().data_ptr() == address
        assert (memory.store != before).sum() <= unit.numel()
    assert (memory.store.data_ptr(), memory.nbytes) == (address, size)


def test_nbytes_is_the_arithmetic():
    memory = WindowMemory(24, 16, 64, 10, initial=8, recent=48, permanent=5, dtype=torch.bfloat16)
    tokens = 5 + 57 * 10
    assert memory.nbytes == 24 * 2 * 16 * tokens * 64 * 2 + tokens


def test_sessions_at_different_steps_equal_each_alone():
    memory = WindowMemory(**SIZES, initial=1, recent=2, batch=3)
    alone = [WindowMemory(**SIZES, initial=1, recent=2) for _ in range(3)]
    query = torch.randn(3, 2, 3, 4)
    for t, unit in enumerate(units(14, batch=3)):
        if t in (3, 8):  # session 1 ends and a new one begins in its row, twice
            memory.reset([1])
            alone[1].reset()
        together = attended(feed(memory, unit)[1], query)
        for row in range(3):
            single = attended(feed(alone[row], unit[:, :, row : row + 1])[1], query[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], single, atol=1e-6, rtol=0)
    assert memory.counts == [14, 6, 14]


def test_a_session_that_sits_out_misses_nothing():
    memory, alone = WindowMemory(**SIZES, initial=1, recent=1, batch=2), WindowMemory(**SIZES, initial=1, recent=1)
    query = torch.randn(2, 2, 3, 4)
    for t, unit in enumerate(units(9, batch=2)):
        seen = [memory.append(layer, *unit[layer]) for layer in range(2)]
        memory.commit(rows=[0] if t % 3 == 1 else None)
        if t % 3 != 1:
            single = attended(feed(alone, unit[:, :, 1:])[0], query[1:])
            torch.testing.assert_close(attended(seen[0], query)[1:], single, atol=1e-6, rtol=0)
    assert memory.counts == [9, 6]


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_are_permanent_and_may_be_padded_on_either_side(side):
    memory = WindowMemory(**SIZES, initial=1, recent=1, permanent=4, batch=2)
    lengths, prompt, query = [4, 2], torch.randn(2, 2, 2, 2, 4, 4), torch.randn(2, 2, 3, 4)
    index = torch.arange(4)
    valid = torch.stack([index >= 4 - n if side == "left" else index < n for n in lengths])
    for layer in range(2):
        memory.prefill(layer, *prompt[layer], valid=valid)
    steps = units(5, batch=2)
    for unit in steps:
        seen = feed(memory, unit)
    for row in range(2):
        keys, values = (
            torch.cat([prompt[0, i, row][:, valid[row]], *(steps[t, 0, i, row] for t in (0, 3, 4))], 1) for i in (0, 1)
        )
        expected = F.scaled_dot_product_attention(query[row], keys, values)
        torch.testing.assert_close(attended(seen[0], query)[row], expected, atol=1e-6, rtol=0)


def test_a_full_prompt_needs_no_mask():
    memory = WindowMemory(**SIZES, permanent=2)
    for layer in range(2):
        memory.prefill(layer, torch.randn(1, 2, 2, 4), torch.randn(1, 2, 2, 4))
    keys, _, mask = feed(memory, units(1)[0])[0]
    assert mask is None and keys.shape[2] == 2 + 3


def test_padded_tokens_of_a_unit_are_never_seen():
    memory = WindowMemory(**SIZES, initial=1, recent=2)
    valid = torch.tensor([[False, True, True]])
    for unit in units(3):
        memory.begin(valid)
        mask = feed(memory, unit)[0][2]
    assert mask[0, 0, 0].tolist() == [False, True, True] * 3


@pytest.mark.parametrize("how", ["save", "state_dict", "fork"])
def test_a_restored_memory_goes_on_as_if_nothing_had_happened(how, tmp_path):
    steps, query = units(12, batch=2), torch.randn(2, 2, 3, 4)
    memory = WindowMemory(**SIZES, initial=2, recent=3, permanent=1, batch=2)
    for layer in range(2):
        memory.prefill(layer, torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), rows=[1])
    for unit in steps[:7]:
        feed(memory, unit)
    if how == "save":
        memory.save(tmp_path / "memory.safetensors")
        other = WindowMemory.restore(tmp_path / "memory.safetensors")
        assert list(tmp_path.iterdir()) == [tmp_path / "memory.safetensors"]
    elif how == "fork":
        other = memory.fork()
    else:
        other = WindowMemory(**memory.shape)
        other.load_state_dict(memory.state_dict())
    for unit in steps[7:]:
        assert torch.equal(attended(feed(other, unit)[0], query), attended(feed(memory, unit)[0], query))


def test_a_fork_of_rows_is_independent():
    memory = WindowMemory(**SIZES, batch=2)
    feed(memory, units(1, batch=2)[0])
    other = memory.fork([1, 1, 0])
    feed(other, units(1, batch=3)[0])
    assert (memory.counts, other.counts) == ([1, 1], [2, 2, 2])
    assert torch.equal(other.store[:, :, 0, :, :3], memory.store[:, :, 1, :, :3])
    assert not memory.store[..., 3:, :].any()


def test_a_memory_made_while_serving_can_be_used_outside():
    with torch.inference_mode():
        memory = WindowMemory(**SIZES)
        feed(memory, units(1)[0])
    feed(memory, units(1)[0])


def test_what_is_stored_carries_no_gradient():
    memory = WindowMemory(**SIZES)
    assert not feed(memory, units(1)[0].requires_grad_())[0][0].requires_grad


def test_bad_input_is_named(tmp_path):
    memory = WindowMemory(**SIZES, permanent=2)
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\).*\(1, 2, 3, 4\)"):
        memory.append(0, *torch.zeros(2, 1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"prompt of 3 tokens.*permanent=2"):
        memory.prefill(0, *torch.zeros(2, 1, 2, 3, 4))
    with pytest.raises(ValueError, match="windows of at least zero"):
        WindowMemory(**SIZES, recent=-1)
    with pytest.raises(ValueError, match="does not fit"):
        memory.load_state_dict(WindowMemory(**SIZES).state_dict())
    from safetensors.torch import save_file

    save_file({"store": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no saved window memory"):
        WindowMemory.restore(tmp_path / "other.safetensors")


def test_explicit_memory_holds_the_same_frames():
    for initial, recent in [(2, 3), (0, 2), (2, 0)]:
        explicit, window = ExplicitMemory(initial, recent), WindowMemory(**SIZES, initial=initial, recent=recent)
        for t, unit in enumerate(units(9)):
            feed(window, unit)
            walk = explicit.append(torch.tensor(float(t)))
            assert walk[-1] == t and len(walk) <= initial + recent + 1
            assert explicit.frames() == window.frames()
    assert explicit.nbytes == 2 * 4
    explicit.reset()
    assert explicit.frames() == []
