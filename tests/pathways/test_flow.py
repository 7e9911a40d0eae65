"""Against a flow that is known in closed form: from N(0, 1) to N(m, s^2)."""

import pytest
import torch

from dualsight.pathways.flow import guided, integrate, on_the_way, seeded_noise

M, S = 1.5, 0.3


def gaussian(x, t):
    """E[x_1 - x_0 | x_t = x] for x_1 ~ N(M, S^2). Quantiles keep their order, so the flow takes x_0 to M + S x_0."""
    t = t[:, None]
    variance = (1 - t) ** 2 + (t * S) ** 2
    return M + (t * S**2 - (1 - t)) / variance * (x - t * M)


@pytest.fixture(scope="module")
def noise():
    return torch.randn(64, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def error(noise, steps, solver):
    return (integrate(gaussian, noise, steps, solver) - (M + S * noise)).abs().max().item()


def test_heun_with_many_steps_equals_euler_with_very_many(noise):
    heun, euler = integrate(gaussian, noise, 100, "heun"), integrate(gaussian, noise, 2000, "euler")
    torch.testing.assert_close(heun, euler, atol=4e-3, rtol=0)
    torch.testing.assert_close(heun, M + S * noise, atol=1e-3, rtol=0)


def test_the_orders_of_the_solvers(noise):
    assert error(noise, 400, "euler") == pytest.approx(error(noise, 200, "euler") / 2, rel=0.1)
    assert error(noise, 400, "heun") == pytest.approx(error(noise, 200, "heun") / 4, rel=0.1)


def test_the_loss_is_least_at_the_true_velocity():
    images = M + S * torch.randn(40_000, 1, generator=torch.Generator().manual_seed(1))

    def loss(velocity):
        x, t, target = on_the_way(images, torch.Generator().manual_seed(2))
        return (velocity(x, t) - target).square().mean().item()

    best = loss(gaussian)
    assert best < loss(lambda x, t: gaussian(x, t) + 0.1) < loss(lambda x, t: gaussian(x, t) + 0.2)
    assert best < loss(lambda x, t: 1.05 * gaussian(x, t))


def test_a_shift_moves_the_points_towards_noise_and_changes_nothing_else():
    images = M + S * torch.randn(40_000, 1, generator=torch.Generator().manual_seed(1))
    (x, plain, target), (moved_x, moved, moved_target) = (
        on_the_way(images, torch.Generator().manual_seed(2), shift) for shift in (1.0, 4.0)
    )
    assert plain.median().item() == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(moved, plain / (plain + 4 * (1 - plain)))  # arXiv:2403.03206, (23), where t is 1 - t
    assert torch.equal(moved_target, target)
    torch.testing.assert_close(x - plain[:, None] * target, moved_x - moved[:, None] * target)


def test_every_step_is_reported_with_where_it_leads(noise):
    seen = []
    end = integrate(gaussian, noise, 4, "euler", lambda *report: seen.append(report))
    assert [report[:2] for report in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert torch.equal(seen[-1][2], end)
    first = seen[0][2]
    torch.testing.assert_close(first, noise + gaussian(noise, torch.zeros(64, dtype=noise.dtype)))


def test_guidance():
    calls = []

    def field(name, value):
        def velocity(x, t):
            calls.append(name)
            return torch.full_like(x, value)

        return velocity

    x, t = torch.zeros(2, 1), torch.zeros(2)
    assert guided(field("c", 2.0), field("u", 1.0), 3.0)(x, t).tolist() == [[4.0], [4.0]]
    assert sorted(calls) == ["c", "u"]
    calls.clear()
    assert guided(field("c", 2.0), field("u", 1.0), 1.0)(x, t).tolist() == [[2.0], [2.0]]
    assert calls == ["c"], "at 1.0 there is no second pass"
    with pytest.raises(ValueError, match="guidance 2 needs an unconditional"):
        guided(field("c", 2.0), None, 2.0)


def test_noise_is_a_function_of_its_seed():
    together = seeded_noise([7, 8, 7], (4, 2, 2))
    assert torch.equal(together[1:2], seeded_noise([8], (4, 2, 2)))
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])


def test_bad_steps_and_solvers_are_named(noise):
    for steps, solver in ((0, "heun"), (4, "dpm")):
        with pytest.raises(ValueError, match=f"{steps} steps of solver '{solver}'"):
            integrate(gaussian, noise, steps, solver)
