"""Frechet distance and diversity against closed forms; folders of images in features of a user's own."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.linalg import sqrtm

from dualsight.bench.frechet import compare_folders, diversity, frechet_distance
from dualsight.cli import main

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


def colors(frames):
    """Features of a user: the mean colour."""
    return np.array([frame.mean(axis=(0, 1)) for frame in frames])


def images(folder, reds):
    """Images of several sizes and formats, one of them in a folder of its own."""
    (folder / "more").mkdir(parents=True)
    for n, red in enumerate(reds):
        place = folder / "more" if n == 0 else folder
        Image.new("RGB", (4 + n, 6), (red, 0, 0)).save(place / f"{n}.{'PNG' if n % 2 else 'bmp'}")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_folders_are_compared_in_features_of_a_users_own(tmp_path, monkeypatch, capsys):
    a, b = images(tmp_path / "a", [10, 20, 30]), images(tmp_path / "b", [60, 70, 80, 90])
    expected = 55**2 + (10 - np.sqrt(np.var([60, 70, 80, 90], ddof=1))) ** 2
    assert compare_folders(a, b, colors, batch=2) == {"fid": pytest.approx(expected), "images": [3, 4]}
    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(colors=colors))
    main(["fid", str(a), str(b), "--features=mine:colors", f"--out={tmp_path / 'fid.json'}"])
    assert capsys.readouterr().out.splitlines()[-1] == f"fid={expected:.3f} images=3,4"
    written = json.loads((tmp_path / "fid.json").read_text())
    assert written["features"] == "mine:colors" and written["fid"] == pytest.approx(expected)
    assert written["folders"] == [str(a), str(b)] and written["versions"]["numpy"]


def test_what_cannot_be_compared_is_named(tmp_path, capsys):
    two, one = images(tmp_path / "two", [1, 2]), images(tmp_path / "one", [1])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"one holds one image .*at least two"):
        compare_folders(two, one, colors)
    with pytest.raises(ValueError, match="none holds no images"):
        compare_folders(tmp_path / "none", two, colors)
    with pytest.raises(NotADirectoryError, match="nowhere is no folder"):
        compare_folders(two, tmp_path / "nowhere", colors)
    with pytest.raises(ValueError, match=r"2 images were given, features \(1, 3\) came back"):
        compare_folders(two, two, lambda frames: colors(frames)[:1])
    with pytest.raises(SystemExit):
        main(["fid", str(two), str(two)])
    assert "--features module:function" in capsys.readouterr().err
