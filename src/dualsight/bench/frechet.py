"""Distances between sets of images in a feature space: Frechet distance (FID's formula) and diversity.

FID (Heusel et al., arXiv:1706.08500) is this distance in the features of an Inception network; in other features it
is another number, so a result names its features. Everything is in float64.

`compare_folders` is the work behind ``dualsight fid A B --features module:function``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from dualsight.bench.prompted import read_frame
from dualsight.types import Frame

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Files that are images."""

Features = NDArray[np.float64]
"""(N, D): a row for each image."""
Extractor = Callable[[Sequence[Frame]], Features]
"""Images (H, W, 3) uint8, which may differ in size -> their features."""


def compare_folders(a: Path, b: Path, extractor: Extractor, batch: int = 32) -> dict:
    """The Frechet distance between the images in two folders and in the folders inside them.

    Args:
        batch: images that ``extractor`` gets at once.

    Returns:
        ``fid``, and how many images there are: ``images``.

    Raises:
        ValueError: a folder holds fewer than two images, or ``extractor`` does not give a row for each.
        OSError: there is no such folder, or an image cannot be read.
    """
    files = [_images(a), _images(b)]  # both are looked at before the first is read
    sets = [_features(found, extractor, batch) for found in files]
    return {"fid": frechet_distance(*sets), "images": [len(found) for found in files]}


def _images(folder: Path) -> list[Path]:
    """The images in a folder, in the order of their names."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; expected one with images ({', '.join(SUFFIXES)})")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(found) < 2:
        count = "one image" if found else "no images"
        raise ValueError(f"{folder} holds {count} ({', '.join(SUFFIXES)}); at least two are needed")
    return found


def _features(files: Sequence[Path], extractor: Extractor, batch: int) -> Features:
    parts = []
    for start in track(range(0, len(files), batch), f"looking at {files[0].parent.name}", transient=True):
        frames = [read_frame(path) for path in files[start : start + batch]]
        found = np.asarray(extractor(frames), np.float64)
        if found.ndim != 2 or len(found) != len(frames):
            raise ValueError(f"{len(frames)} images were given, features {found.shape} came back; expected a row each")
        parts.append(found)
    return np.concatenate(parts)


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
