"""Metrics on paths worked by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualsight.envs.metrics import aggregate, bootstrap, dtw, measure, normalised_dtw, resample, wilson


def line(*xs):
    return np.array([[x, 0.0, 0.0] for x in xs])


def walk(xs, goal=10.0, stopped=True, reference=None, **kwargs):
    """Along the X axis to a goal on it."""
    positions = line(*xs)
    distances = [abs(goal - x) for x in xs]
    return measure(positions, distances, stopped, line(0, 10) if reference is None else reference, len(xs), **kwargs)


def test_straight_to_the_goal():
    m = walk([0, 5, 10])
    assert (m.success, m.spl, m.os, m.ne, m.tl, m.steps, m.geodesic) == (1, 1, 1, 0, 10, 3, 10)


def test_a_detour_costs_spl():
    # 2 m back and again: TL = 2 + 12 = 14, SPL = 10 / 14
    m = walk([0, -2, 10])
    assert m.tl == 14
    assert m.spl == pytest.approx(10 / 14)


def test_stopping_short_of_the_start_distance_does_not_raise_spl():
    assert walk([0, 8]).spl == 1.0  # TL 8 < l 10


def test_success_is_strictly_inside_the_distance():
    assert walk([0, 7]).success == 0  # exactly 3.0 m away
    assert walk([0, 7.01]).success == 1


def test_no_stop_no_success():
    m = walk([0, 10], stopped=False)
    assert (m.success, m.spl, m.sdtw, m.os) == (0, 0, 0, 1)


def test_oracle_success_counts_passing_by():
    m = walk([0, 10, 20])
    assert (m.success, m.os, m.ne) == (0, 1, 10)


def test_start_on_the_goal():
    m = walk([10], goal=10.0)
    assert (m.success, m.spl, m.geodesic) == (1, 1, 0)


def test_unreachable_goal_is_a_failure_and_never_nan():
    m = measure(line(0, 1), [math.inf, math.inf], True, line(0, 10), 2)
    assert (m.success, m.spl, m.os, m.ne, m.geodesic, m.sdtw) == (0, 0, 0, None, None, 0)
    assert m.unreachable
    summary = aggregate([m, walk([0, 10])])
    assert summary.unreachable == 1
    assert summary.SR.mean == 50
    assert summary.NE.mean == 0  # of the one that has an NE
    assert math.isfinite(summary.SPL.mean)


def test_dtw_by_hand():
    # 0-0, 1-0 (or 1-2: equal), 2-2: costs 0 + 1 + 0
    assert dtw(line(0, 1, 2), line(0, 2)) == 1
    # 0-0, 0-1, 3-2, 3-3: 0 + 1 + 1 + 0
    assert dtw(line(0, 3), line(0, 1, 2, 3)) == 2
    # every point of the one to the single point of the other
    assert dtw(line(0, 1, 2), line(5)) == 5 + 4 + 3


def test_ndtw_by_hand():
    assert normalised_dtw(line(0, 1, 2), line(0, 1, 2)) == 1
    assert normalised_dtw(line(0, 1, 2), line(0, 2)) == pytest.approx(math.exp(-1 / (2 * 3.0)))


def test_standing_still_does_not_change_ndtw():
    reference = line(0, 2, 4)
    assert normalised_dtw(line(0, 1, 1, 1, 4), reference) == normalised_dtw(line(0, 1, 4), reference)


def all_alignments(a, b):
    """DTW by its definition: the least cost over every monotone alignment."""
    if len(a) == 1 or len(b) == 1:
        return sum(abs(x - y) for x, y in itertools.product(a, b))
    last = abs(a[-1] - b[-1])
    return last + min(all_alignments(a[:-1], b), all_alignments(a, b[:-1]), all_alignments(a[:-1], b[:-1]))


@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=5),
    st.lists(st.integers(-9, 9), min_size=1, max_size=5),
)
def test_dtw_is_the_least_over_all_alignments(a, b):
    assert dtw(line(*a), line(*b)) == pytest.approx(all_alignments(a, b))
    assert dtw(line(*a), line(*b)) == pytest.approx(dtw(line(*b), line(*a)))


def test_resample_keeps_corners_and_ends():
    corner = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0.6]], float)
    path = resample(corner, 0.25)
    assert np.allclose(path[:5, 0], [0, 0.25, 0.5, 0.75, 1])
    assert np.allclose(path[4], corner[1])
    assert np.allclose(path[-1], corner[2])
    assert np.allclose(np.diff(path[4:, 2]), 0.3)  # 0.6 m in two steps, the nearest to 0.25 m each


def test_wilson_from_the_textbook():
    # Wilson 1927: 81 of 263 -> 0.2553 .. 0.3662 (Newcombe 1998, table I, method 3)
    low, high = wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_bootstrap_covers_the_mean_and_repeats():
    values = list(np.random.default_rng(1).normal(3, 1, 200))
    low, high = bootstrap(values)
    assert low < 3.1 and high > 2.9 and high - low < 0.4
    assert (low, high) == bootstrap(values)


def test_summary_of_nothing_is_null():
    assert aggregate([]).to_dict()["SR"] is None


@pytest.mark.parametrize(
    "distances, positions, message",
    [([1.0], line(0, 1), "one distance per position"), ([math.nan], line(0), "NaN"), ([0.0], line(math.nan), "finite")],
)
def test_bad_input_is_named(distances, positions, message):
    with pytest.raises(ValueError, match=message):
        measure(positions, distances, True, line(0), 1)


def test_ndtw_needs_a_reference():
    with pytest.raises(ValueError, match="at least one point"):
        normalised_dtw(line(0), np.zeros((0, 3)))
