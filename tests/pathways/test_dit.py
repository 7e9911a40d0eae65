from dataclasses import replace
from functools import partial

import pytest
import torch

from dualsight.pathways.dit import DIT_XL, TINY, DiT, DiTConfig, time_embedding
from dualsight.pathways.flow import guided, integrate, on_the_way, seeded_noise

SMALL = DiTConfig(channels=4, patch=2, width=48, depth=2, heads=2, condition_width=16, condition_layers=(0, 2))


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def sample(dit, condition, unconditional, seeds, size, guidance, steps, solver="heun"):
    away = partial(dit, condition=unconditional) if unconditional else None
    velocity = guided(partial(dit, condition=condition), away, guidance)
    return integrate(velocity, seeded_noise(seeds, (dit.config.channels, *size)), steps, solver)


@pytest.fixture(scope="module")
def dit():
    """With no layer at zero: as if it had been trained."""
    torch.manual_seed(0)
    model = DiT(SMALL).eval().requires_grad_(False)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module")
def prompts():
    """Hidden states of two layers and their mask: three prompts of 5, 3 and no tokens."""
    states = torch.randn(3, 5, 2, 16, generator=torch.Generator().manual_seed(1))
    return states, torch.arange(5) < torch.tensor([[5], [3], [0]])


@pytest.fixture(scope="module")
def noisy():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, 4, 4, 6, generator=generator), torch.rand(3, generator=generator)


def test_at_first_the_velocity_is_zero_and_blocks_pass_their_input_on(prompts, noisy):
    model = DiT(SMALL)
    condition = model.condition(*prompts)
    assert not model(*noisy, condition).any()
    h = torch.randn(3, 6, 48)
    signal = torch.randn(3, 1, 48)
    assert torch.equal(model.blocks[0](h, signal, condition, None), h)


def test_states_that_are_not_visible_change_nothing(dit, prompts, noisy):
    states, visible = prompts
    changed = torch.where(visible[..., None, None], states, 1e3)
    before, after = (dit(*noisy, dit.condition(x, visible)) for x in (states, changed))
    assert torch.equal(before, after)
    shorter = dit(noisy[0][1:], noisy[1][1:], dit.condition(states[1:, :3], visible[1:, :3]))
    close(shorter, before[1:])


def test_visible_states_and_the_time_matter(dit, prompts, noisy):
    states, visible = prompts
    x, t = noisy
    before = dit(x, t, dit.condition(states, visible))
    other = dit(x, t, dit.condition(states.flip(2), visible))
    assert (other - before)[:2].abs().amax((1, 2, 3)).min() > 1e-3
    later = dit(x, t + 0.1, dit.condition(states, visible))
    assert (later - before).abs().amax((1, 2, 3)).min() > 1e-3


def test_the_order_of_words_matters(dit, prompts):
    states, visible = (x[:1] for x in prompts)
    before, other = dit.condition(states, visible), dit.condition(states.flip(1), visible)
    close(before.tokens[:, :1], other.tokens[:, :1])
    assert (before.tokens[:, 1:] - other.tokens[:, 1:].flip(1)).abs().max() > 1e-3


def test_rows_and_columns_are_told_apart(dit, prompts, noisy):
    x, t = noisy
    condition = dit.condition(*prompts)
    turned = dit(x.transpose(2, 3), t, condition).transpose(2, 3)
    assert (turned - dit(x, t, condition)).abs().max() > 1e-3


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_batch_equals_one_by_one(dit, prompts, solver):
    states, visible = prompts
    nothing = torch.zeros_like(visible)

    def images(rows, seeds):
        conditions = [dit.condition(states[rows], mask[rows]) for mask in (visible, nothing)]
        return sample(dit, *conditions, seeds, (4, 6), guidance=2.0, steps=4, solver=solver)

    together = images(slice(0, 3), [11, 12, 13])
    assert together.shape == (3, 4, 4, 6)
    for row in range(3):
        close(images(slice(row, row + 1), [11 + row])[0], together[row])


def test_guidance_of_one_makes_no_second_pass(dit, prompts, monkeypatch):
    states, visible = prompts
    condition = dit.condition(states, visible)
    calls = []
    original = DiT.forward
    monkeypatch.setattr(DiT, "forward", lambda *a, **k: calls.append(1) or original(*a, **k))
    alone = sample(dit, condition, None, [1, 2, 3], (4, 4), guidance=1.0, steps=3, solver="euler")
    assert len(calls) == 3
    assert torch.equal(
        alone, sample(dit, condition, condition, [1, 2, 3], (4, 4), guidance=1.0, steps=3, solver="euler")
    )
    assert len(calls) == 6


def test_rows_of_a_condition_are_copied(dit, prompts, noisy):
    condition = dit.condition(*prompts)
    chosen = condition.select(torch.tensor([1, 1, 0]))
    close(dit(*noisy, chosen)[0], dit(*noisy, condition.select(torch.tensor([1, 1, 1])))[0])
    assert torch.equal(chosen.tokens[2], condition.tokens[0]) and torch.equal(chosen.pooled[1], condition.pooled[1])


def test_the_time_is_told_by_cosines_then_sines_of_a_thousand_t():
    embedded = time_embedding(torch.tensor([0.0, 0.25]), 8)
    assert embedded[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    close(embedded[1, :4], torch.tensor([250.0, 25.0, 2.5, 0.25]).cos(), 1e-4)
    close(embedded[1, 4:], torch.tensor([250.0, 25.0, 2.5, 0.25]).sin(), 1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near(dit, prompts, noisy, dtype):
    half = DiT(SMALL).to(dtype)
    half.load_state_dict(dit.state_dict())
    v = half(*noisy, half.condition(*prompts))
    assert v.dtype == torch.float32
    close(v, dit(*noisy, dit.condition(*prompts)), 0.05)


def test_four_images_are_learnt_by_heart():
    torch.manual_seed(0)
    model = DiT(SMALL)
    images, states = torch.randn(4, 4, 1, 1).expand(4, 4, 4, 4), torch.randn(4, 2, 2, 16)
    visible = torch.ones(4, 2, dtype=torch.bool)
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for _ in range(80):
        condition = model.condition(states.repeat(4, 1, 1, 1), visible.repeat(4, 1))
        x, t, target = on_the_way(images.repeat(4, 1, 1, 1), shift=SMALL.shift)
        loss = (model(x, t, condition) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])
    drawn = sample(model.eval(), model.condition(states, visible), None, [1, 2, 3, 4], (4, 4), guidance=1.0, steps=8)
    distance = torch.cdist(drawn.flatten(1), images.flatten(1))
    assert distance.argmin(1).tolist() == [0, 1, 2, 3], "each prompt draws its own image"


def test_everything_is_trained(prompts, noisy):
    torch.manual_seed(0)
    model = DiT(SMALL)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(5):  # what lies behind a zero gate gets its gradient once the gate has moved
        optimiser.zero_grad()
        x, t, target = on_the_way(noisy[0])
        (model(x, t, model.condition(*prompts)) - target).square().mean().backward()
        optimiser.step()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_both_sizes_build():
    with torch.device("meta"):
        tiny, large = DiT(TINY), DiT(DIT_XL)
    assert sum(p.numel() for p in tiny.parameters()) < 6.5e6
    assert sum(p.numel() for p in large.parameters()) == pytest.approx(869e6, rel=0.02)


def test_bad_input_is_named(dit, prompts, noisy):
    x, t = noisy
    condition = dit.condition(*prompts)
    with pytest.raises(ValueError, match=r"\(3, 4, 4, 5\).*multiples of 2"):
        dit(x[..., :5], t, condition)
    with pytest.raises(ValueError, match="expected 4 channels"):
        dit(x[:, :3], t, condition)
    with pytest.raises(ValueError, match="50 does not split into 2 heads"):
        replace(SMALL, width=50)
    with pytest.raises(ValueError, match="shift of 0; expected a positive"):
        replace(SMALL, shift=0.0)
