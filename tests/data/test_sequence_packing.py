"""Packing: nothing is cut, lost or twice, and no room is left that a later example could have had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualsight.data.packing import pack

CAPACITY = 50
lengths = st.lists(st.integers(1, CAPACITY), max_size=60)


@given(lengths, st.integers(1, 70))
def test_every_example_is_whole_in_one_sequence(lengths, window):
    packing = pack(lengths, CAPACITY, window)
    assert sorted(example for sequence in packing.sequences for example in sequence) == list(range(len(lengths)))
    sizes = [sum(lengths[example] for example in sequence) for sequence in packing.sequences]
    assert all(0 < size <= CAPACITY for size in sizes)
    assert packing.tokens == sum(sizes) == sum(lengths) and packing.dropped == []
    assert all(sequence == sorted(sequence) for sequence in packing.sequences)
    assert [s[0] for s in packing.sequences] == sorted(s[0] for s in packing.sequences)
    assert packing == pack(lengths, CAPACITY, window)
    if lengths:
        assert packing.fill == sum(lengths) / (CAPACITY * len(sizes))


@given(lengths)
def test_with_every_sequence_open_at_most_one_is_no_more_than_half_full(lengths):
    packing = pack(lengths, CAPACITY, window=len(lengths) + 1)
    sizes = [sum(lengths[example] for example in sequence) for sequence in packing.sequences]
    assert sum(2 * size <= CAPACITY for size in sizes) <= 1


@given(lengths, st.integers(1, 5))
def test_a_sequence_holds_examples_of_a_bounded_stretch(lengths, window):
    """While a sequence is open, at most ``window - 1`` others are begun."""
    sequences = pack(lengths, CAPACITY, window).sequences
    firsts = [sequence[0] for sequence in sequences]
    assert all(sum(s[0] < first < s[-1] for first in firsts) < window for s in sequences)


@given(lengths)
def test_a_window_of_one_is_next_fit(lengths):
    expected: list[list[int]] = []
    room = 0
    for example, length in enumerate(lengths):
        if length > room:
            expected.append([])
            room = CAPACITY
        expected[-1].append(example)
        room -= length
    assert pack(lengths, CAPACITY, window=1).sequences == expected


def test_by_hand():
    packing = pack([6, 5, 4, 3, 2], capacity=10)
    assert packing.sequences == [[0, 2], [1, 3, 4]] and packing.fill == 1.0
    assert pack([6, 5, 4, 3, 2], capacity=10, window=1).sequences == [[0], [1, 2], [3, 4]]
    assert pack([], capacity=10).fill == 1.0


def test_longer_examples_raise_or_are_counted():
    with pytest.raises(ValueError, match="example 1 has 11 tokens, a sequence 10: shorten it or drop it"):
        pack([3, 11, 4], capacity=10)
    packing = pack([3, 11, 4], capacity=10, too_long="drop")
    assert packing.sequences == [[0, 2]] and packing.dropped == [1] and packing.tokens == 7


def test_lengths_and_sizes_that_cannot_be():
    with pytest.raises(ValueError, match="example 0 has 0 tokens"):
        pack([0], capacity=10)
    with pytest.raises(ValueError, match="both must be at least 1"):
        pack([1], capacity=10, window=0)
