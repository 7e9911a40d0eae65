"""Splits of houses."""

import itertools

import pytest

from dualsight.envs.sim.splits import SPLITS, plan_seed, seeds, split_of


def test_splits_share_no_house():
    for a, b in itertools.combinations(SPLITS.values(), 2):
        assert not set(a) & set(b)


def test_seen_houses_have_plans_of_training_and_all_others_their_own():
    assert plan_seed(100_007) == 7 and 7 in SPLITS["train"]
    assert {plan_seed(seed) for seed in SPLITS["val_seen"]} <= set(SPLITS["train"])
    for seed in (0, 99_999, 200_000, 300_005, 900_000):
        assert plan_seed(seed) == seed
    assert not {plan_seed(seed) for seed in SPLITS["val_unseen"]} & set(SPLITS["train"])


def test_split_of_a_seed():
    assert split_of(0) == "train" and split_of(200_000) == "val_unseen" and split_of(900_000) is None


def test_seeds_of_a_split():
    assert seeds("val_unseen", 3) == [200_000, 200_001, 200_002]
    assert seeds("val_seen", 1, start=5) == [100_005]
    with pytest.raises(KeyError, match="no split 'dev'; there are train"):
        seeds("dev", 1)
    with pytest.raises(ValueError, match="10000 houses, not 10001"):
        seeds("test", 10_001)
