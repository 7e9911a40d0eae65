"""The loop, in a box room: batched equals one by one, subscribers see everything, failures are results."""

from dataclasses import replace

import numpy as np
import pytest

from dualsight.envs.box_room import open_box
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.protocols import HOUSE, JANUSVLN_RELEASE
from dualsight.inference.rollout import ExpertAgent, ForwardAgent, RandomAgent, Subscriber, rollout, rollouts
from dualsight.types import Action, Episode, Pose


def episodes(count, seed=0):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-5, 5, (count, 2, 3)) * [1, 0, 1]
    return [
        Episode(str(n), "box", Pose(start, 0.0), goal, f"go {n}", reference_path=[start, goal])
        for n, (start, goal) in enumerate(places)
    ]


def environments(count=1, **changes):
    return [HouseEnvironment(replace(HOUSE, **changes), open_box) for _ in range(count)]


def test_the_expert_succeeds_everywhere():
    envs = environments()
    results = list(rollouts(envs, ExpertAgent(envs), episodes(20)))
    assert len(results) == 20
    assert all(r.metrics.success and r.stopped for r in results)
    assert np.mean([r.metrics.spl for r in results]) > 0.95
    assert np.mean([r.metrics.ndtw for r in results]) > 0.9


@pytest.mark.parametrize("make", [lambda envs: RandomAgent(3), ExpertAgent, lambda envs: ForwardAgent(5)])
def test_side_by_side_equals_one_by_one(make):
    alone, four = environments(1), environments(4)
    key = {r.episode.episode_id: r for r in rollouts(four, make(four), episodes(9))}
    for expected in rollouts(alone, make(alone), episodes(9)):
        result = key[expected.episode.episode_id]
        assert result.actions == expected.actions
        assert result.metrics == expected.metrics


def test_a_walk_worked_by_hand():
    """Three steps ahead of a goal at 4 m and a STOP: TL 0.75, NE 3.25, no success."""
    task = Episode("1", "box", Pose(np.zeros(3), 0.0), np.array([0.0, 0.0, -4.0]), "go")
    metrics = rollout(environments()[0], ForwardAgent(3), task).metrics
    assert metrics.tl == pytest.approx(0.75)
    assert metrics.ne == pytest.approx(3.25)
    assert (metrics.success, metrics.os, metrics.steps, metrics.collisions) == (0, 0, 4, 0)
    metrics = rollout(environments()[0], ForwardAgent(5), task).metrics
    assert (metrics.success, metrics.spl, metrics.os) == (1, 1, 1)  # 2.75 m left


def test_running_out_of_steps_is_no_stop():
    result = rollout(environments(max_steps=10)[0], ForwardAgent(50), episodes(1)[0])
    assert result.truncated and not result.stopped and len(result.actions) == 10
    assert result.metrics.success == 0


def test_a_forced_stop_is_recorded_as_the_stop_it_was():
    env = HouseEnvironment(replace(JANUSVLN_RELEASE, camera=HOUSE.camera, forced_stop=10), open_box)
    result = rollout(env, ForwardAgent(50), episodes(1)[0])
    assert result.forced_stop and result.stopped and not result.truncated
    assert result.actions[-1] is Action.STOP and len(result.actions) == 11


def test_an_unreachable_goal_is_a_result_and_the_rest_goes_on():
    tasks = episodes(3)
    tasks[1] = replace(tasks[1], goal=np.array([0.0, 0.0, 99.0]))
    results = {r.episode.episode_id: r for r in rollouts(environments(2), ForwardAgent(2), tasks)}
    assert results["1"].metrics.unreachable and results["1"].metrics.success == 0
    assert "outside the room" in results["1"].report["error"]
    assert not results["0"].metrics.unreachable and not results["2"].metrics.unreachable


class Watcher(Subscriber):
    def __init__(self):
        self.seen = []

    def on_start(self, row, episode, observation):
        self.seen.append(("start", episode.episode_id))

    def on_step(self, step):
        self.seen.append((step.index, step.action))

    def on_end(self, row, result):
        self.seen.append(("end", result.metrics.steps))


def test_subscribers_see_everything_in_order():
    watcher = Watcher()
    rollout(environments()[0], ForwardAgent(1), episodes(1)[0], [watcher])
    assert watcher.seen == [("start", "0"), (0, Action.MOVE_FORWARD), (1, Action.STOP), ("end", 2)]


def test_random_depends_on_the_episode_and_the_seed_alone():
    first = {r.episode.episode_id: r.actions for r in rollouts(environments(), RandomAgent(1), episodes(5))}
    backwards = {r.episode.episode_id: r.actions for r in rollouts(environments(2), RandomAgent(1), episodes(5)[::-1])}
    other = {r.episode.episode_id: r.actions for r in rollouts(environments(), RandomAgent(2), episodes(5))}
    assert first == backwards != other
