"""Evaluations that are killed, resumed, sharded and run out of disk."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest

from dualsight.bench.provenance import DifferentRun
from dualsight.bench.vlnce import evaluate, read_records, shard, summarise
from dualsight.data.files import NotWritten
from dualsight.envs.box_room import open_box
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.protocols import HOUSE, R2R_CE
from dualsight.inference.rollout import RandomAgent
from dualsight.types import Episode, Pose

RELEASED_KEYS = {"scene_id", "episode_id", "success", "spl", "os", "ne", "steps", "episode_instruction"}


def make_episodes(count=12):
    places = np.random.default_rng(0).uniform(-5, 5, (count, 2, 3)) * [1, 0, 1]
    return [
        Episode(str(n), f"box/{n // 4}", Pose(start, 0.0), goal, f"go {n}") for n, (start, goal) in enumerate(places)
    ]


def run(out, episodes=None, agent=None, rows=1, **kwargs):
    envs = [HouseEnvironment(HOUSE, open_box) for _ in range(rows)]
    return evaluate(agent or RandomAgent(0), envs, episodes or make_episodes(), out, {"agent": "random"}, **kwargs)


def without_time(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_a_whole_evaluation(tmp_path):
    seen = []
    results = run(tmp_path, on_episode=lambda record, n, total: seen.append((n, total)))
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["summary"]["episodes"] == 12 and results["scenes"] == 3
    assert results["protocol"]["name"] == "house" and results["protocol"]["time_out_is"] == "failure"
    assert results["versions"]["numpy"]
    assert seen == [(n, 12) for n in range(1, 13)]
    records = without_time(tmp_path / "episodes.jsonl")
    assert [r["episode_id"] for r in records] == [str(n) for n in range(12)]
    assert records[0].keys() >= RELEASED_KEYS
    assert records[0]["protocol"] == "house@1"


def test_side_by_side_gives_the_same_files(tmp_path):
    assert run(tmp_path / "a")["summary"] == run(tmp_path / "b", rows=5)["summary"]
    assert without_time(tmp_path / "a/episodes.jsonl") == without_time(tmp_path / "b/episodes.jsonl")


def test_episodes_that_are_done_are_skipped_and_half_a_line_is_dropped(tmp_path):
    expected = run(tmp_path / "whole")
    run(tmp_path / "part", make_episodes()[:5])
    (tmp_path / "part/episodes.jsonl").unlink()
    log = tmp_path / "part/episodes.rank0.jsonl"
    log.write_bytes(log.read_bytes()[:-20])  # the fifth line lost its end
    walked = []
    resumed = run(tmp_path / "part", on_episode=lambda record, *_: walked.append(record["episode_id"]))
    assert walked == [str(n) for n in range(4, 12)]
    assert resumed == expected
    assert without_time(tmp_path / "part/episodes.jsonl") == without_time(tmp_path / "whole/episodes.jsonl")


def test_a_finished_evaluation_can_be_asked_again(tmp_path):
    first = run(tmp_path)
    assert run(tmp_path, on_episode=lambda *_: pytest.fail("nothing is left to do")) == first


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    run(tmp_path)
    log = tmp_path / "episodes.rank0.jsonl"
    log.write_text("{oops\n" + log.read_text())
    with pytest.raises(ValueError, match=r"episodes.rank0.jsonl, line 1"):
        run(tmp_path)


def test_another_protocol_or_agent_needs_another_folder(tmp_path):
    run(tmp_path)
    envs = [HouseEnvironment(replace(R2R_CE, camera=HOUSE.camera), open_box)]
    with pytest.raises(DifferentRun, match=r"protocol.name is 'r2r-ce', was 'house'"):
        evaluate(RandomAgent(0), envs, make_episodes(), tmp_path, {"agent": "random"})
    with pytest.raises(DifferentRun, match=r"config.agent is 'blind', was 'random'"):
        evaluate(RandomAgent(0), [HouseEnvironment(HOUSE, open_box)], make_episodes(), tmp_path, {"agent": "blind"})


def test_shards_are_contiguous_and_cover_everything():
    for world in (1, 2, 3, 7, 20):
        assert [e for rank in range(world) for e in shard(range(12), rank, world)] == list(range(12))
    with pytest.raises(ValueError, match=r"RANK must be in 0\.\.1"):
        shard(range(3), 2, 2)


def test_the_last_process_to_finish_summarises(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run(tmp_path / "sharded") is None
    assert not (tmp_path / "sharded/results.json").exists()
    monkeypatch.setenv("RANK", "0")
    sharded = run(tmp_path / "sharded")
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    assert sharded == run(tmp_path / "single")


def test_unreachable_goals_are_failures_that_are_counted(tmp_path):
    episodes = make_episodes(4)
    episodes[2] = replace(episodes[2], goal=np.array([99.0, 0.0, 0.0]))
    results = run(tmp_path, episodes)
    assert results["summary"]["unreachable"] == 1 and results["summary"]["episodes"] == 4
    assert without_time(tmp_path / "episodes.jsonl")[2]["ne"] is None


def test_disk_full_loses_nothing(tmp_path, monkeypatch):
    expected = run(tmp_path / "whole")
    write, room = os.write, [4]

    def full_after_four_lines(descriptor, data):
        if room[0] == 0:
            write(descriptor, data[:10])  # half a line gets through, as on a real disk
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= 1
        return write(descriptor, data)

    monkeypatch.setattr("dualsight.data.files.os.write", full_after_four_lines)
    with pytest.raises(NotWritten, match=r"No space left on device.*lines before are safe"):
        run(tmp_path / "full")
    monkeypatch.undo()
    assert len(read_records(tmp_path / "full")) == 4
    assert (tmp_path / "full/episodes.rank0.jsonl").read_bytes().endswith(b"\n")
    assert run(tmp_path / "full") == expected


def test_ctrl_c_leaves_whole_lines_and_resumes(tmp_path):
    expected = run(tmp_path / "whole")

    def interrupt(record, n, total):
        if n == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", on_episode=interrupt)
    assert len(read_records(tmp_path / "cut")) == 5
    assert run(tmp_path / "cut") == expected


SLOW_RUN = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from test_vlnce import run
    run({out!r}, on_episode=lambda *_: time.sleep(0.1))
"""


def test_kill_9_in_the_middle_then_resume(tmp_path):
    expected = run(tmp_path / "whole")
    out = tmp_path / "killed"
    script = textwrap.dedent(SLOW_RUN).format(tests=os.path.dirname(__file__), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script])
    log = out / "episodes.rank0.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(read_records(out))
    assert 3 <= done < 12 and not (out / "results.json").exists()
    walked = []
    assert run(out, on_episode=lambda record, *_: walked.append(record)) == expected
    assert len(walked) == 12 - done


def test_summary_waits_for_every_episode(tmp_path):
    run(tmp_path, make_episodes()[:3])
    assert summarise(tmp_path, make_episodes(), HOUSE) is None
