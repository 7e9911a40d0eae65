import numpy as np
import pytest

from dualsight.envs.sim.bvh import build


def boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(-5, 5, (count, 3)).astype(np.float32)
    return low, low + rng.uniform(0, 0.5, (count, 3)).astype(np.float32)


@pytest.mark.parametrize(("count", "leaf_size"), [(1, 4), (5, 1), (500, 4), (500, 64)])
def test_every_item_lies_in_one_leaf_and_every_box_holds_what_is_below(count, leaf_size):
    low, high = boxes(count)
    tree = build(low, high, leaf_size)
    assert sorted(tree.order) == list(range(count))
    for node, child in enumerate(tree.child):
        items = tree.order[tree.first[node] : tree.first[node] + tree.count[node]]
        np.testing.assert_array_equal(tree.low[node], low[items].min(axis=0))
        np.testing.assert_array_equal(tree.high[node], high[items].max(axis=0))
        if child < 0:
            assert 1 <= len(items) <= leaf_size
        else:
            assert tree.count[child] + tree.count[child + 1] == tree.count[node]
            assert min(tree.count[child], tree.count[child + 1]) >= 1


def test_boxes_in_one_place_are_split_in_halves():
    low = np.zeros((9, 3), np.float32)
    tree = build(low, low + 1, 1)
    assert sum(tree.child < 0) == 9


def test_splits_separate_what_is_apart():
    """Two heaps, ten metres from each other: the root's children are the heaps."""
    low, high = boxes(40)
    low[20:, 1] += 30
    high[20:, 1] += 30
    tree = build(low, high, 8)
    first = tree.child[0]
    assert sorted(tree.order[tree.first[first] : tree.first[first] + tree.count[first]]) == list(range(20))


def test_nothing_to_build_from():
    with pytest.raises(ValueError, match="at least one box"):
        build(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), 4)
