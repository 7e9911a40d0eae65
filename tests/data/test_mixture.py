"""Mixtures: the promised ratio in every step and exactly in the long run; resumed and shared runs see the same."""

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualsight.data.mixture import Mixture, Pick

LENGTHS = {"understanding": 50, "text": 7, "generation": 400}
JANUS = {"understanding": 2, "text": 3, "generation": 5}

ratios = st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any)


def mixture(shares, batch, seed=0, length=9):
    named = {f"s{n}": share for n, share in enumerate(shares)}
    return Mixture(dict.fromkeys(named, length), named, batch, seed)


@settings(deadline=None)
@given(ratios, st.integers(1, 70))
def test_each_step_is_as_near_as_rounding_allows_and_a_period_is_exact(shares, batch):
    mix = mixture(shares, batch)
    total: Counter[str] = Counter()
    for step in range(mix.period):
        counts = mix.counts(step)
        assert sum(counts.values()) == batch
        for name, count in counts.items():
            exact = Fraction(batch * shares[int(name[1:])], sum(shares))
            assert count in (math.floor(exact), math.ceil(exact))
        total.update(counts)
    for name, count in total.items():
        assert count * sum(shares) == batch * mix.period * shares[int(name[1:])]


@settings(deadline=None)
@given(ratios, st.integers(1, 6), st.integers(1, 4), st.integers(0, 60), st.integers(0, 5))
def test_processes_share_a_step_and_each_gets_its_part_of_every_source(shares, each, processes, step, seed):
    batch = each * processes
    alone = mixture(shares, batch, seed).picks(step)
    parts = [mixture(shares, batch, seed).picks(step, process, processes) for process in range(processes)]
    assert Counter(alone) == Counter(pick for part in parts for pick in part)
    assert {len(part) for part in parts} == {each}
    for name, count in Counter(pick.source for pick in alone).items():
        found = [sum(pick.source == name for pick in part) for part in parts]
        assert set(found) <= {count // processes, -(-count // processes)}


@pytest.mark.parametrize("batch", [1, 4, 10, 512])
def test_each_source_is_walked_in_epochs_that_hold_every_example_once(batch):
    mix = Mixture(LENGTHS, JANUS, batch, seed=3)
    walks: dict[str, list[int]] = {name: [] for name in LENGTHS}
    for step in range(-(-1000 // batch)):
        for pick in mix.picks(step):
            walks[pick.source].append(pick.index)
    for name, walk in walks.items():
        epochs = [walk[start : start + LENGTHS[name]] for start in range(0, len(walk), LENGTHS[name])]
        assert all(sorted(epoch) == list(range(LENGTHS[name])) for epoch in epochs[:-1])
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs), "every epoch has an order of its own"


def test_resumed_equals_uninterrupted():
    whole = Mixture(LENGTHS, JANUS, 16, seed=1)
    steps = [whole.picks(step) for step in range(40)]
    resumed = Mixture(LENGTHS, JANUS, 16, seed=1)
    assert [resumed.picks(step) for step in range(23, 40)] == steps[23:]
    assert [whole.picks(step) for step in (5, 39, 0)] == [steps[5], steps[39], steps[0]]
    assert Mixture(LENGTHS, JANUS, 16, seed=2).picks(0) != steps[0]


def test_2_3_5_by_hand():
    mix = Mixture(LENGTHS, JANUS, 10, seed=0)
    assert mix.counts(7) == JANUS
    assert [mix.counts(step) for step in range(2)] == [JANUS, JANUS]
    one_each = [Mixture(LENGTHS, JANUS, 1, 0).picks(step)[0].source for step in range(10)]
    assert Counter(one_each) == JANUS
    assert max(len(run) for run in "".join(name[0] for name in one_each).split("g")) <= 3, "odd ones are spread out"


def test_a_ratio_of_0_leaves_a_source_out():
    mix = Mixture(LENGTHS | {"text": 0}, {"understanding": 1, "text": 0, "generation": 1}, 4, seed=0)
    assert mix.counts(0) == {"understanding": 2, "generation": 2}
    assert all(isinstance(pick, Pick) and pick.source != "text" for pick in mix.picks(3))


@pytest.mark.parametrize(
    "lengths, shares, batch, message",
    [
        ({"a": 5}, {"b": 1}, 4, "sources a, but ratios for b"),
        ({"a": 5}, {"a": 0.5}, 4, "whole numbers are expected"),
        ({"a": 5}, {"a": 0}, 4, "not all 0"),
        ({"a": 5}, {"a": -1}, 4, "whole numbers are expected"),
        ({"a": 5, "b": 0}, {"a": 1, "b": 1}, 4, "source b is empty"),
        ({"a": 5}, {"a": 1}, 0, "a batch of 0 examples"),
    ],
)
def test_mixtures_that_cannot_be(lengths, shares, batch, message):
    with pytest.raises(ValueError, match=message):
        Mixture(lengths, shares, batch, seed=0)


def test_a_batch_that_cannot_be_shared():
    with pytest.raises(ValueError, match="process 0 of 3: a batch of 4 must divide"):
        mixture([1], 4).picks(0, 0, 3)
    with pytest.raises(ValueError, match="process 2 of 2"):
        mixture([1], 4).picks(0, 2, 2)
