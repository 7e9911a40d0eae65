"""Paths by arc length, worked by hand on an L of 3 m west, then 4 m north."""

import math

import numpy as np
import pytest

from dualsight.envs.sim.polyline import Polyline, heading_of, wrap

ELL = Polyline(np.array([[3.0, 0, 4], [0, 0, 4], [0, 0, 4], [0, 0, 0]]))


def test_length_points_and_headings():
    assert ELL.length == 7
    np.testing.assert_allclose(ELL.at(1.0), [2, 0, 4])
    np.testing.assert_allclose(ELL.at(np.array([0.0, 5.0, 99.0])), [[3, 0, 4], [0, 0, 2], [0, 0, 0]])
    assert ELL.heading(1.0) == pytest.approx(math.pi / 2)  # west is left of north
    assert ELL.heading(5.0) == 0
    assert ELL.heading(3.0) == pytest.approx(math.pi / 4)  # half way round the corner


def test_headings_are_left_of_north():
    assert heading_of(np.array([0.0, 0, -1])) == 0
    assert heading_of(np.array([-1.0, 0, 0])) == pytest.approx(math.pi / 2)
    assert heading_of(np.array([1.0, 0, 0])) == pytest.approx(-math.pi / 2)
    assert wrap(1.5 * math.pi) == pytest.approx(-math.pi / 2)


def test_nearest_metre():
    assert ELL.nearest(np.array([-1.0, 0, 2])) == pytest.approx(5.0, abs=0.03)


def test_resampling_keeps_the_corner():
    points = ELL.resampled(1.5)
    assert len(points) == 1 + 2 + 3
    assert any((point == [0, 0, 4]).all() for point in points)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() <= 1.5


def test_simplified_drops_what_lies_within_the_tolerance():
    bent = Polyline(np.array([[0.0, 0, 0], [1, 0, 0.05], [2, 0, 0], [2, 0, 3]]))
    np.testing.assert_array_equal(bent.simplified(0.1).points, [[0, 0, 0], [2, 0, 0], [2, 0, 3]])
    assert len(bent.simplified(0.01).points) == 4
