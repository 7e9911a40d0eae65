"""What goes wrong at the command line: exit status 2 and one clear line, or a clean resume; nothing written is lost.

What goes wrong inside (frames of a wrong shape or type, NaN depth, shards, training runs that are killed) is tested
beside the code: tests/inference/test_navigator.py, tests/envs/test_house_env.py, tests/bench/test_vlnce.py,
tests/train/test_trainer.py.
"""

import errno
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dualsight.cli import main
from dualsight.commands import judge
from dualsight.data.r2r import write_episodes
from dualsight.data.rooms import RoomPicture, write_rooms
from dualsight.data.trajectories import TrajectoryWriter, merge
from dualsight.envs.box_room import open_box
from dualsight.envs.house_env import HouseEnvironment
from dualsight.inference.rollout import ForwardAgent
from dualsight.types import Episode, Pose


def refused(capsys, *words) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert message.startswith("dualsight: ") and "Traceback" not in message
    return message


# --- navigate ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for n in range(3):
        Image.new("RGB", (112, 112), (80 * n, 0, 0)).save(folder / f"{n}.png")
    return folder


@pytest.mark.parametrize(
    "instruction, message",
    [
        ("", "expected a text with at least one word"),
        ("walk " * 10_000, r"10000 words\), this model reads at most 256"),
    ],
    ids=["empty", "10000 words"],
)
def test_instructions_that_cannot_be_read(frames, checkpoint, capsys, instruction, message):
    said = refused(capsys, "navigate", "--frames", frames, f"--instruction={instruction}", f"--checkpoint={checkpoint}")
    assert re.search(message, said)


def test_a_truncated_png_is_named_and_leaves_no_result(frames, checkpoint, capsys, tmp_path):
    data = (frames / "2.png").read_bytes()
    (frames / "2.png").write_bytes(data[:-20])
    out = tmp_path / "actions.json"
    words = ["navigate", f"--frames={frames}", "--instruction=go", f"--checkpoint={checkpoint}", f"--out={out}"]
    assert "2.png is cut off or damaged" in refused(capsys, *words)
    assert not out.exists()


def test_frames_of_a_wrong_mode_and_folders_without_any(frames, checkpoint, capsys, tmp_path):
    Image.new("RGBA", (112, 112)).save(frames / "3.png")
    words = ["navigate", f"--frames={frames}", "--instruction=go", f"--checkpoint={checkpoint}"]
    assert "3.png has mode RGBA; expected RGB" in refused(capsys, *words)
    (tmp_path / "empty").mkdir()
    assert "holds no frames" in refused(capsys, *words[:1], f"--frames={tmp_path / 'empty'}", *words[2:])


def test_checkpoints_that_are_none_damaged_or_foreign(frames, checkpoint, capsys, tmp_path):
    def navigate(folder):
        return refused(capsys, "navigate", f"--frames={frames}", "--instruction=go", f"--checkpoint={folder}")

    assert "is no checkpoint: it has no config.json" in navigate(tmp_path / "nothing")
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    tensors = load_file(copy / "model.safetensors")
    del tensors["merger.ln_q.weight"]
    tensors["lm_head.bias"], tensors["model.norm.weight"] = torch.zeros(4), torch.zeros(5)
    save_file(tensors, copy / "model.safetensors")
    said = navigate(copy)
    assert "missing (1): merger.ln_q.weight" in said and "unknown (1): lm_head.bias" in said
    assert "model.norm.weight has shape (5,), the model (256,)" in said
    (copy / "model.safetensors").write_bytes(b"no weights")
    assert "is not a readable safetensors file" in navigate(copy)
    (copy / "config.json").write_text("{")
    assert "is not a JanusVLN config" in navigate(copy)


# --- eval -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def walk_in_a_box(monkeypatch, tmp_path):
    """`eval` of the forward agent in a box room, on the episodes that are given to it."""
    name = "dualsight.envs.house_env.HouseEnvironment"
    monkeypatch.setattr(name, lambda rules, worlds: HouseEnvironment(rules, open_box))

    def walk(episodes, out="run"):
        write_episodes(tmp_path / "episodes.json.gz", episodes)
        return "eval", f"--out={tmp_path / out}", f"--episodes={tmp_path / 'episodes.json.gz'}", "--agent=forward"

    return walk


def box_episodes(count=5):
    places = np.random.default_rng(0).uniform(-4, 4, (count, 2, 3)) * [1, 0, 1]
    return [Episode(str(n), "box", Pose(start, 0.0), goal, f"go {n}") for n, (start, goal) in enumerate(places)]


def records(out):
    """The lines of a log, without the time they took."""
    return [json.loads(line) | {"seconds": 0} for line in out.read_text().splitlines()]


def test_a_start_off_the_navmesh_is_named_and_what_was_walked_stays(walk_in_a_box, capsys, tmp_path):
    episodes = box_episodes(9)
    episodes[8] = replace(episodes[8], start=Pose(np.array([40.0, 0.0, 0.0]), 0.0))
    said = refused(capsys, *walk_in_a_box(episodes))
    assert "episode 8 of box: the start (40.00, 0.00, 0.00) is off the navmesh" in said
    kept = len(records(tmp_path / "run" / "episodes.rank0.jsonl"))
    assert kept >= 4


def test_an_unreachable_goal_is_a_failure_that_is_counted(walk_in_a_box, tmp_path):
    episodes = box_episodes()
    episodes[1] = replace(episodes[1], goal=np.array([40.0, 0.0, 0.0]))
    main(list(walk_in_a_box(episodes)))
    summary = json.loads((tmp_path / "run" / "results.json").read_text())["summary"]
    assert (summary["episodes"], summary["unreachable"]) == (5, 1)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(walk_in_a_box, capsys, tmp_path, monkeypatch):
    main(list(walk_in_a_box(box_episodes(), "whole")))
    write, room = os.write, [3]

    def full_after_three_lines(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= 1
        return write(descriptor, data)

    monkeypatch.setattr("dualsight.data.files.os.write", full_after_three_lines)
    said = refused(capsys, *walk_in_a_box(box_episodes()))
    assert "No space left on device. The lines before are safe" in said
    monkeypatch.setattr("dualsight.data.files.os.write", write)
    assert len(records(tmp_path / "run" / "episodes.rank0.jsonl")) == 3
    main(list(walk_in_a_box(box_episodes())))
    assert records(tmp_path / "run" / "episodes.jsonl") == records(tmp_path / "whole" / "episodes.jsonl")


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(walk_in_a_box, capsys, tmp_path, monkeypatch):
    main(list(walk_in_a_box(box_episodes(9), "whole")))
    act, calls = ForwardAgent.act, [0]

    def interrupted(self, observations, rows):
        calls[0] += 1
        if calls[0] == 60:  # in the middle of the second four
            raise KeyboardInterrupt
        return act(self, observations, rows)

    monkeypatch.setattr(ForwardAgent, "act", interrupted)
    with pytest.raises(SystemExit) as end:
        main(list(walk_in_a_box(box_episodes(9))))
    assert end.value.code == 130
    assert "what was written is safe" in capsys.readouterr().err
    assert len(records(tmp_path / "run" / "episodes.rank0.jsonl")) == 4
    main(list(walk_in_a_box(box_episodes(9))))
    assert records(tmp_path / "run" / "episodes.jsonl") == records(tmp_path / "whole" / "episodes.jsonl")


def test_episode_files_and_seeds_that_are_none(capsys, tmp_path):
    (tmp_path / "episodes.json.gz").write_bytes(b"no gzip")
    assert "episodes.json.gz" in refused(capsys, "eval", f"--out={tmp_path}", f"--episodes={tmp_path}/episodes.json.gz",
                                         "--agent=forward")  # fmt: skip
    assert "house seeds are FIRST:END" in refused(capsys, "eval", f"--out={tmp_path}", "--agent=forward",
                                                  "--house-seeds=9:1")  # fmt: skip
    write_episodes(tmp_path / "none.json.gz", [])
    assert "nothing to walk" in refused(capsys, "eval", f"--out={tmp_path}", f"--episodes={tmp_path}/none.json.gz",
                                        "--agent=forward")  # fmt: skip
    assert "no protocol is called 'r3r'" in refused(capsys, "eval", f"--out={tmp_path}", "--protocol=r3r")


@pytest.mark.slow
def test_kill_9_in_the_middle_of_eval_then_resume(tmp_path):
    """A whole process on real houses (tests/bench/test_vlnce.py kills one in a box room)."""
    command = [sys.executable, "-m", "dualsight.cli", "eval", f"--out={tmp_path / 'run'}", "--agent=random"]
    command += ["--house-seeds=900000:900001", "--episodes-per-house=6", "--rows=1"]
    log = tmp_path / "run" / "episodes.rank0.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 600
        while not (log.exists() and log.read_bytes().count(b"\n") >= 2):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = log.read_bytes()
    main(command[3:])
    assert log.read_bytes().startswith(before[: before.rindex(b"\n") + 1]), "what was walked is not walked again"
    assert json.loads((tmp_path / "run" / "results.json").read_text())["summary"]["episodes"] == 6


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_validate_names_the_frame_that_is_cut_off(capsys, tmp_path):
    with TrajectoryWriter(tmp_path) as writer:
        writer.write("1", ["go"], [np.zeros((8, 8, 3), np.uint8)] * 2, [1, 0], [1, 0])
    merge(tmp_path)
    main(["data", "validate", str(tmp_path)])
    frame = tmp_path / "train/1/step_0001_STOP.png"
    frame.write_bytes(frame.read_bytes()[:40])
    with pytest.raises(SystemExit) as end:
        main(["data", "validate", str(tmp_path)])
    said = capsys.readouterr()
    assert end.value.code == 2
    assert "step_0001_STOP.png is no whole PNG" in said.out and "1 problem(s)" in said.err


# --- suites and studies of Janus --------------------------------------------------------------------------------------


def test_a_suite_without_its_prompts_and_a_study_without_its_data(capsys, tmp_path):
    assert "needs its prompts" in refused(capsys, "eval", "--suite=geneval", f"--out={tmp_path}")
    assert "no shards of rooms" in refused(capsys, "study", "decoupling", f"--out={tmp_path}", f"--rooms={tmp_path}")
    some = f"--model={tmp_path}"
    assert "compares ways of training" in refused(capsys, "study", "unified", f"--out={tmp_path}", some)
    rooms = tmp_path / "rooms"
    write_rooms(rooms / "rooms-000000.safetensors", [RoomPicture(np.zeros((8, 8, 3), np.uint8), "kitchen", ())])
    said = refused(capsys, "study", "guidance", f"--out={tmp_path}", some, f"--rooms={rooms}")
    assert f"{tmp_path} holds no weights" in said
    assert not list(tmp_path.glob("*.json")), "what is refused leaves nothing that a better command would trip over"


def test_options_of_something_else_are_not_left_unheeded(capsys, tmp_path):
    out = f"--out={tmp_path / 'out'}"
    said = refused(capsys, "eval", "--suite=gridtalk", "--count=2", "--tryout=true", "--house-seeds=1:2", out)
    assert "--suite gridtalk takes no --house-seeds, --tryout; it takes --count, --memory" in said
    assert "a walk takes no --model" in refused(capsys, "eval", "--model=checkpoints/vismem_tiny", out)
    assert "study guidance takes no --talks" in refused(capsys, "study", "guidance", "--talks=3", out)
    said = refused(capsys, "study", "memory", "--policy=checkpoints/vismem_tiny/policy", "--size=small", out)
    assert "has its own size" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [judge.evaluate, judge.study])
def test_every_option_is_of_something(command):
    """Or it could never be given."""
    heeded = {judge.evaluate: [judge._WALKS, *judge._SUITES.values()], judge.study: judge._STUDIES.values()}[command]
    options = set(inspect.signature(command).parameters) - {"name"}
    assert {word for words in heeded for word in words.split()} == options
