import math

import pytest
import torch

from dualsight.nn.rope import axial_rope, grid_positions, grid_rope, rotate


def test_positions_start_at_one_and_special_tokens_stand_at_the_origin():
    expected = [[0, 0], [0, 0], [1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    assert grid_positions(2, 3, special=2).tolist() == expected


def test_a_pair_of_channels_turns_by_position_times_frequency():
    # head_dim 8: four channels per axis, pairs (0, 2) and (1, 3) with frequencies 1 and 100^(-1/2) = 0.1
    x = torch.zeros(1, 8)
    x[0, 1] = x[0, 4] = 1.0
    turned = rotate(x, axial_rope(torch.tensor([[3, 2]]), 8))[0]
    expected = [0, math.cos(0.3), 0, math.sin(0.3), math.cos(2.0), 0, math.sin(2.0), 0]
    torch.testing.assert_close(turned, torch.tensor(expected))


def test_scores_depend_on_the_difference_of_positions_only():
    q, k = torch.randn(2, 1, 32).unbind(0)

    def score(a, b):
        return (rotate(q, axial_rope(torch.tensor([a]), 32)) * rotate(k, axial_rope(torch.tensor([b]), 32))).sum()

    torch.testing.assert_close(score([7, 1], [4, 9]), score([3, 12], [0, 20]), atol=1e-4, rtol=0)


def test_the_origin_does_not_turn():
    x = torch.randn(4, 16)
    assert torch.equal(rotate(x, axial_rope(torch.zeros(4, 2), 16)), x)


def test_low_precision_is_turned_in_float32():
    x, rope = torch.randn(6, 16), axial_rope(grid_positions(2, 3, 0), 16)
    assert torch.equal(rotate(x.bfloat16(), rope), rotate(x.bfloat16().float(), rope).bfloat16())


def test_a_table_first_made_while_serving_can_be_trained_with():
    with torch.inference_mode():
        grid_rope(3, 7, 5, 8, 50.0, torch.device("cpu"))
    rope = grid_rope(3, 7, 5, 8, 50.0, torch.device("cpu"))
    x = torch.randn(26, 8, requires_grad=True)
    rotate(x, rope).sum().backward()
    assert x.grad is not None


def test_an_odd_head_dimension_is_refused():
    with pytest.raises(ValueError, match="head_dim 6"):
        axial_rope(torch.zeros(1, 2), 6)
