"""Distances between sets of images in a feature space: Frechet distance (FID's formula) and diversity.

FID (Heusel et al., arXiv:1706.08500) is this distance in the features of an Inception network; in other features it
is another number, so a result names its features. Everything is in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
"""(N, D): a row for each image."""


def frechet_distance(a: Features, b: Features) -> float:
    """``|m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2))`` between the Gaussians fitted to two sets.

    The trace of the root is the sum of the roots of the eigenvalues of ``C_a^(1/2) C_b C_a^(1/2)``, which is symmetric.
    It is biased upward in small sets: compare sets of the same size.

    Raises:
        ValueError: the sets differ in D, or one has fewer than two images.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"two sets of at least two rows of the same features are needed, got {a.shape} and {b.shape}")
    apart = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(max(0.0, apart @ apart + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap))


def diversity(features: Features, groups: Sequence[str]) -> float | None:
    """Mean distance between two images of one group (a prompt), averaged over the groups; None if none has two.

    Raises:
        ValueError: there is not one group for each row.
    """
    if len(features) != len(groups):
        raise ValueError(f"{len(features)} rows of features and {len(groups)} groups")
    means = []
    for group in dict.fromkeys(groups):
        rows = features[[name == group for name in groups]]
        if len(rows) > 1:
            distances = np.linalg.norm(rows[:, None] - rows[None, :], axis=-1)
            means.append(distances.sum() / (len(rows) * (len(rows) - 1)))
    return float(np.mean(means)) if means else None
