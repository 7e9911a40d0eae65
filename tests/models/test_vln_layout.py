import torch

from dualsight.models.vln_layout import (
    EMPTY,
    episode_positions,
    episode_visibility,
    unit_positions,
    unit_validity,
)


def test_positions_of_a_unit_by_hand():
    """Two action slots of which one is used, a picture of 2 x 3 tokens, beginning at position 10."""
    positions, following = unit_positions(torch.tensor([10]), torch.tensor([[EMPTY, 7]]), (2, 3))
    time, row, col = positions[:, 0].tolist()
    #       empty action start  image ...                end
    assert time == [10, 10, 11, 12, 12, 12, 12, 12, 12, 15]
    assert row == [10, 10, 11, 12, 12, 12, 13, 13, 13, 15]
    assert col == [10, 10, 11, 12, 13, 14, 12, 13, 14, 15]
    assert following.tolist() == [16]


def test_units_continue_at_the_end_of_their_own_prompt():
    previous = torch.tensor([[[EMPTY], [7], [7]], [[EMPTY], [EMPTY], [7]]])
    positions = episode_positions(torch.tensor([4, 2]), 4, previous, (1, 1))
    assert positions.shape == (3, 2, 4 + 3 * 4)
    ends = positions[0, :, [7, 11, 15]]
    assert ends.tolist() == [[6, 10, 14], [4, 7, 11]]  # units of 3 positions, and one more for an action
    assert positions[0, 0, :4].tolist() == [0, 1, 2, 3]


def test_who_sees_whom_by_hand():
    """A prompt of two slots of which one is used, units of two tokens, 1 + 1 units held."""
    valid = unit_validity(torch.tensor([[[EMPTY], [7], [7], [7]]]), 0)[..., :2]  # action, vision start
    visible = episode_visibility(torch.tensor([1]), 2, valid, initial=1, recent=1)[0, 0].int().tolist()
    assert visible == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 0],  # padding sees itself
        [1, 0, 1, 0, 0, 0, 0, 0, 0, 0],  # an empty slot, too
        [1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 1, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 1, 1, 0, 0, 0, 0],
        [1, 0, 0, 1, 1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 1, 1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0, 0, 1, 1, 1, 0],  # unit 3 has forgotten unit 1
        [1, 0, 0, 1, 0, 0, 1, 1, 1, 1],
    ]
