"""VLN-CE's episode files: there and back, RxR's, and what is said of bad ones."""

import gzip
import json
import math

import numpy as np
import pytest

from dualsight.data.r2r import (
    BadEpisodeFile,
    GroundTruth,
    read_episodes,
    read_ground_truth,
    tokenise,
    with_ground_truth,
    write_episodes,
    write_ground_truth,
)
from dualsight.types import Episode, Pose

EPISODE = Episode(
    episode_id="17",
    scene_id="house/000003",
    start=Pose(np.array([1.0, 0.0, 2.0]), math.radians(30)),
    goal=np.array([4.0, 2.5, -3.0]),
    instruction="Turn left, and stop at the red sofa.",
    reference_path=[np.array([1.0, 0.0, 2.0]), np.array([4.0, 2.5, -3.0])],
    geodesic_distance=7.25,
    trajectory_id="6",
    info={"style": "short"},
)
ROW = {
    "episode_id": 1,
    "trajectory_id": 4,
    "scene_id": "mp3d/x/x.glb",
    "start_position": [0, 0, 0],
    "start_rotation": [0, 1, 0, 0],
    "info": {"geodesic_distance": 6.4},
    "goals": [{"position": [0, 0, -5], "radius": 3.0}],
    "instruction": {"instruction_text": "Walk.", "instruction_tokens": [2, 3]},
    "reference_path": [[0, 0, 0], [0, 0, -5]],
}


def save(path, value):
    path.write_bytes(gzip.compress(json.dumps(value).encode()))
    return path


def test_there_and_back(tmp_path):
    path = tmp_path / "val_unseen.json.gz"
    write_episodes(path, [EPISODE])
    (episode,) = read_episodes(path)
    for name in ("episode_id", "scene_id", "instruction", "geodesic_distance", "trajectory_id", "goal_radius"):
        assert getattr(episode, name) == getattr(EPISODE, name)
    assert np.allclose(episode.start.position, EPISODE.start.position)
    assert episode.start.heading == pytest.approx(math.radians(30))
    assert np.allclose(np.stack(episode.reference_path), np.stack(EPISODE.reference_path))
    assert episode.info["style"] == "short"
    again = tmp_path / "again.json.gz"
    write_episodes(again, [episode])
    assert again.read_bytes() == path.read_bytes()


def test_the_schema_is_that_of_vlnce(tmp_path):
    write_episodes(tmp_path / "train.json.gz", [EPISODE])
    content = json.loads(gzip.decompress((tmp_path / "train.json.gz").read_bytes()))
    (row,) = content["episodes"]
    assert row.keys() == ROW.keys()
    assert row["episode_id"] == 17 and row["goals"][0]["radius"] == 3.0
    words = content["instruction_vocab"]["word_list"]
    assert [words[t] for t in row["instruction"]["instruction_tokens"]] == tokenise(EPISODE.instruction)
    assert tokenise("Stop at the sofa's left.") == ["stop", "at", "the", "sofa's", "left", "."]


def test_words_outside_the_vocabulary_are_unknown(tmp_path):
    write_episodes(tmp_path / "x.json.gz", [EPISODE], ["<pad>", "<unk>", "turn", "left"])
    (episode,) = read_episodes(tmp_path / "x.json.gz")
    assert episode.info["instruction"]["instruction_tokens"] == [2, 3, 1, 1, 1, 1, 1, 1, 1, 1]


def test_a_rotation_about_y_is_a_heading(tmp_path):
    path = save(tmp_path / "x.json.gz", {"episodes": [ROW], "instruction_vocab": {}})
    (episode,) = read_episodes(path)
    assert np.allclose(episode.start.forward, [0, 0, 1])  # half a turn: from -Z to +Z


def test_rxr_has_no_vocabulary_but_languages(tmp_path):
    def guide(n, language):
        spoken = {"instruction_text": "चलो", "language": language, "annotator_id": "3", "timed_instruction": []}
        return ROW | {"episode_id": str(n), "instruction": spoken}

    path = save(tmp_path / "val_unseen_guide.json.gz", {"episodes": [guide(1, "hi-IN"), guide(2, "en-US")]})
    assert [e.episode_id for e in read_episodes(path)] == ["1", "2"]
    (english,) = read_episodes(path, languages=("en-US", "en-IN"))
    assert english.episode_id == "2" and english.info["instruction"]["annotator_id"] == "3"


def test_ground_truth_there_and_back(tmp_path):
    truth = GroundTruth(np.array([[0, 0, 0], [0, 0, -0.25]]), [2, 1, 0])
    path = tmp_path / "val_gt.json.gz"
    write_ground_truth(path, {"17": truth})
    found = read_ground_truth(path)["17"]
    assert np.array_equal(found.locations, truth.locations) and found.actions == [2, 1, 0]
    assert json.loads(gzip.decompress(path.read_bytes()))["17"]["forward_steps"] == 1
    (episode,) = with_ground_truth([EPISODE], {"17": truth})
    assert episode.info["locations"] == [[0, 0, 0], [0, 0, -0.25]]
    assert with_ground_truth([EPISODE], {}) == [EPISODE]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"goals": []}, r"episode 1 \(id 1\): list index"),
        ({"start_position": [0, 0]}, r"episode 1 \(id 1\): a point is three finite numbers, got \[0, 0\]"),
        ({"start_position": [0, 0, float("nan")]}, "three finite numbers"),
        ({"instruction": {}}, "'instruction_text' is missing"),
        ({"scene_id": None}, "scene_id"),
    ],
)
def test_the_bad_row_is_named(tmp_path, change, message):
    bad = {k: v for k, v in (ROW | change).items() if v is not None}
    path = save(tmp_path / "x.json.gz", {"episodes": [ROW, bad]})
    with pytest.raises(BadEpisodeFile, match=message):
        read_episodes(path)


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(BadEpisodeFile, match="list 'episodes'"):
        read_episodes(save(tmp_path / "x.json.gz", [1, 2]))
    whole = save(tmp_path / "y.json.gz", {"episodes": [ROW]}).read_bytes()
    (tmp_path / "y.json.gz").write_bytes(whole[:-20])
    with pytest.raises(BadEpisodeFile, match="no whole gzipped JSON"):
        read_episodes(tmp_path / "y.json.gz")
    with pytest.raises(BadEpisodeFile, match=r"episode 5: 'actions' is missing"):
        read_ground_truth(save(tmp_path / "gt.json.gz", {"5": {"locations": []}}))
    with pytest.raises(FileNotFoundError):
        read_episodes(tmp_path / "absent.json.gz")
