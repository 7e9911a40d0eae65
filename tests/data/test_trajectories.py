"""Trajectories: there and back, resumed, foreign, broken."""

import json

import numpy as np
import pytest

from dualsight.data.trajectories import TrajectoryWriter, merge, read_trajectories, validate
from dualsight.types import Action

FRAMES = [np.full((8, 8, 3), n, np.uint8) for n in range(4)]
EXECUTED = [Action.TURN_LEFT, Action.MOVE_FORWARD, Action.MOVE_FORWARD, Action.STOP]
EXPERT = [Action.TURN_LEFT, Action.TURN_LEFT, Action.MOVE_FORWARD, Action.STOP]


def write(root, *ids, part=0):
    with TrajectoryWriter(root, part=part) as writer:
        for n in ids:
            writer.write(n, ["go", "walk"], FRAMES, EXECUTED, EXPERT, {"scene_id": "box"})


def test_there_and_back(tmp_path):
    write(tmp_path, "12", "7")
    assert merge(tmp_path) == 2
    first, second = read_trajectories(tmp_path)
    assert (first.id, second.id) == ("12", "7")
    assert first.instructions == ["go", "walk"] and first.info == {"scene_id": "box"}
    assert first.executed == EXECUTED and first.expert == EXPERT and len(first) == 4
    assert np.array_equal(np.stack(first.frames()), np.stack(FRAMES))
    assert validate(tmp_path) == []


def test_the_released_layout(tmp_path):
    write(tmp_path, "12")
    merge(tmp_path)
    (entry,) = json.loads((tmp_path / "annotations.json").read_text())
    assert entry["id"] == 12 and entry["video"] == "train/12"
    assert entry["actions"] == [-1, 2, 1, 1]
    names = [path.name for path in sorted((tmp_path / "train/12").iterdir())]
    assert names == [
        f"step_000{n}_{a}.png" for n, a in enumerate(["TURN_LEFT", "MOVE_FORWARD", "MOVE_FORWARD", "STOP"])
    ]


def test_annotations_without_our_fields_can_be_read(tmp_path):
    write(tmp_path, "12")
    entry = {"id": 12, "video": "train/12", "instructions": ["go"], "actions": [-1, 2, 1, 1]}
    (tmp_path / "annotations.json").write_text(json.dumps([entry]))
    (trajectory,) = read_trajectories(tmp_path)
    assert trajectory.executed == trajectory.expert == EXECUTED


def test_a_killed_writer_goes_on(tmp_path):
    write(tmp_path, "1")
    log = tmp_path / "annotations.part0.jsonl"
    log.write_bytes(log.read_bytes() + b'{"id": 2, "vid')  # killed while logging the second
    (tmp_path / "train/2").mkdir()
    (tmp_path / "train/2/step_0000_STOP.png").write_bytes(b"half")
    (tmp_path / "train/.3.tmp").mkdir()
    with TrajectoryWriter(tmp_path) as writer:
        assert "1" in writer and "2" not in writer
        writer.write("2", ["go"], FRAMES, EXECUTED, EXPERT)
        writer.write("3", ["go"], FRAMES, EXECUTED, EXPERT)
    assert merge(tmp_path) == 3
    assert validate(tmp_path) == []


def test_parts_are_merged_in_one_order(tmp_path):
    write(tmp_path / "a", "1", part=1)
    write(tmp_path / "a", "2", part=0)
    write(tmp_path / "b", "1", "2")
    for root in ("a", "b"):
        merge(tmp_path / root)
    assert (tmp_path / "a/annotations.json").read_text() == (tmp_path / "b/annotations.json").read_text()


def test_a_cut_off_png_is_named(tmp_path):
    write(tmp_path, "1")
    path = tmp_path / "train/1/step_0001_MOVE_FORWARD.png"
    path.write_bytes(path.read_bytes()[:-40])
    (trajectory,) = read_trajectories(tmp_path)
    with pytest.raises(ValueError, match=r"step_0001_MOVE_FORWARD.png is no whole PNG"):
        trajectory.frames()
    path.unlink()
    (tmp_path / "train/1/step_0009_STOP.png").write_bytes(b"")
    missing, surplus = sorted(validate(tmp_path), key=lambda p: "is in no" in p)
    assert "is missing" in missing and "step_0009_STOP.png is in no annotation" in surplus


@pytest.mark.parametrize(
    "change, message",
    [
        ({"actions": [2, 1]}, "entry 0 .train/1.: actions must be -1"),
        ({"actions": [-1, 7, 1, 1]}, "actions must be -1 and then 0 to 3"),
        ({"expert": [1]}, "4 executed, 1 expert"),
        ({"plan": [[0.0] * 7]}, "1 rows in plan for 4 frames"),
        ({"video": None}, "lacks video"),
    ],
)
def test_bad_entries_are_named(tmp_path, change, message):
    write(tmp_path, "1")
    entry = json.loads((tmp_path / "annotations.part0.jsonl").read_text()) | change
    (tmp_path / "annotations.json").write_text(json.dumps([{k: v for k, v in entry.items() if v is not None}]))
    with pytest.raises(ValueError, match=message):
        read_trajectories(tmp_path)


def test_bad_writes_are_refused(tmp_path):
    with TrajectoryWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match="4 frames, 3 executed and 4 expert"):
            writer.write("1", ["go"], FRAMES, EXECUTED[:3], EXPERT)
        with pytest.raises(ValueError, match="cannot name a folder"):
            writer.write("../1", ["go"], FRAMES, EXECUTED, EXPERT)


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither annotations"):
        read_trajectories(tmp_path)


def test_in_a_mirror_left_is_right(tmp_path):
    frames = [np.arange(12, dtype=np.uint8).reshape(2, 2, 3)] * 2
    said = "turn left, take the rightmost door on your right and stop left of it"
    plan = [[1.0, 2.0, -3.0, 4.0, 0.5, 6.0, 7.0], [0.0, 0.2, 0.0, 0.2, 0.0, 0.2, 0.2]]
    with TrajectoryWriter(tmp_path) as writer:
        writer.write("1", [said], frames, [Action.TURN_LEFT, Action.STOP], [Action.TURN_RIGHT, Action.STOP], None, plan)
    (walk,) = read_trajectories(tmp_path)
    mirrored = walk.mirrored()
    assert mirrored.id != walk.id
    assert mirrored.instructions == ["turn right, take the leftmost door on your left and stop right of it"]
    assert mirrored.executed == [Action.TURN_RIGHT, Action.STOP] and mirrored.expert == [Action.TURN_LEFT, Action.STOP]
    assert mirrored.plan == [[-1.0, 2.0, 3.0, 4.0, -0.5, 6.0, 7.0], [0.0, 0.2, 0.0, 0.2, 0.0, 0.2, 0.2]]
    assert np.array_equal(mirrored.frames()[0], frames[0][:, ::-1])
    twice = mirrored.mirrored()
    assert (twice.instructions, twice.executed, twice.plan) == (walk.instructions, walk.executed, walk.plan)
    assert np.array_equal(twice.frames()[0], frames[0])
