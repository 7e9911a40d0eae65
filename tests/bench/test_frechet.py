"""Frechet distance and diversity against closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from dualsight.bench.frechet import diversity, frechet_distance

RNG = np.random.default_rng(0)


def gaussian(mean, covariance, count=400):
    """Samples whose mean and covariance are exactly those given."""
    white = RNG.normal(size=(count, len(mean)))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    return white @ np.linalg.cholesky(np.asarray(covariance)).T + mean


def test_diagonal_gaussians_by_hand():
    a = gaussian([0.0, 0.0], np.diag([1.0, 4.0]))
    b = gaussian([3.0, 4.0], np.diag([9.0, 16.0]))
    assert frechet_distance(a, b) == pytest.approx(25 + (1 - 3) ** 2 + (2 - 4) ** 2, abs=1e-9)


def test_full_covariances_as_with_a_matrix_root():
    one, two = RNG.normal(size=(2, 5, 5))
    cov_a, cov_b = one @ one.T + np.eye(5), two @ two.T + np.eye(5)
    a, b = gaussian(np.zeros(5), cov_a), gaussian(np.ones(5), cov_b)
    expected = 5 + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself_even_with_fewer_images_than_features():
    few = RNG.normal(size=(10, 30))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\)"):
        frechet_distance(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="at least two rows"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))


def test_diversity_by_hand():
    features = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0], [1.0, 1.0], [9.0, 9.0]])
    assert diversity(features, ["a", "a", "b", "b", "c"]) == pytest.approx((5 + 0) / 2)
    assert diversity(features[:2], ["a", "b"]) is None
    with pytest.raises(ValueError, match="5 rows of features and 1 groups"):
        diversity(features, ["a"])
