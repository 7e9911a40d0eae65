"""What a folder is for, and weights by their content."""

import json

import pytest

from dualsight.bench.provenance import DifferentRun, claim, versions, weights_sha256


def test_a_folder_is_for_one_run(tmp_path):
    claim(tmp_path, {"drawing": {"seed": 1, "sizes": (2, 3)}}, "pictures")
    claim(tmp_path, {"drawing": {"seed": 1, "sizes": (2, 3)}}, "pictures")
    assert json.loads((tmp_path / "run.json").read_text()) == {"drawing": {"seed": 1, "sizes": [2, 3]}}
    with pytest.raises(DifferentRun, match=r"the pictures of another run: drawing.seed is 2, was 1. .*--out FOLDER"):
        claim(tmp_path, {"drawing": {"seed": 2, "sizes": (2, 3)}}, "pictures")
    with pytest.raises(DifferentRun, match=r"protocol.name is 'house', was None"):  # one of walks
        claim(tmp_path, {"protocol": {"name": "house"}}, "episodes")


def test_weights_are_known_wherever_they_lie(tmp_path):
    for name, weights in {"a": b"1", "moved": b"1", "trained": b"2"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    first, moved, trained = (weights_sha256(tmp_path / name) for name in ("a", "moved", "trained"))
    assert first == moved != trained and len(first) == 64
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        weights_sha256(tmp_path)


def test_versions_are_named():
    assert {"python", "git", "dualsight", "torch", "numpy"} <= versions().keys()
