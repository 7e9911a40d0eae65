"""Collecting in a box room: the expert labels every step, whoever takes it."""

import numpy as np
import pytest

from dualsight.data.trajectories import TrajectoryWriter, merge, read_trajectories, validate
from dualsight.envs.box_room import open_box
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.protocols import HOUSE
from dualsight.train.collect import Mixture, collect, paraphrases
from dualsight.types import Action, Episode, Pose


def episodes(count: int, per_trajectory: int = 1) -> list[Episode]:
    rng = np.random.default_rng(1)
    tasks = []
    for n in range(count):
        start, goal = rng.uniform(-4, 4, (2, 3)) * [1, 0, 1]
        for k in range(per_trajectory):
            tasks.append(Episode(f"{n}-{k}", "box", Pose(start, 0.0), goal, f"say {k} of {n}", trajectory_id=str(n)))
    return tasks


def gather(root, tasks, mixture, learner=None, rows=1, name=""):
    envs = [HouseEnvironment(HOUSE, open_box) for _ in range(rows)]
    with TrajectoryWriter(root) as writer:
        collect(envs, tasks, writer, mixture, name, learner=learner)
    merge(root)
    return read_trajectories(root)


class Stubborn:
    """A learner that always answers the same, and notes what was executed in its name."""

    def __init__(self, action: Action):
        self.action, self.noted = action, []

    def reset(self, row, episode):
        self.noted.append([])

    def act(self, observations, rows):
        return [self.action] * len(rows)

    def executed(self, row, action):
        self.noted[-1].append(action)

    def report(self, row):
        return {}


def test_the_expert_alone_does_what_it_says(tmp_path):
    for walk in gather(tmp_path, episodes(4), Mixture()):
        assert walk.executed == walk.expert
        assert walk.executed[-1] == Action.STOP and walk.info["success"]
    assert validate(tmp_path) == []


def test_every_step_records_where_the_way_leads(tmp_path):
    """In an empty room the way is the straight line: its end is as far as the metres that remain, which never grow."""
    for walk in gather(tmp_path, episodes(2), Mixture()):
        plan = np.array(walk.plan)
        assert plan.shape == (len(walk), 7)
        near = plan[:, -1] <= 4.0  # the goal is the point 4 m ahead
        assert near.any() and np.allclose(np.hypot(plan[near, 4], plan[near, 5]), plan[near, -1], atol=0.02)
        assert (np.diff(plan[:, -1]) <= 0.01).all() and plan[-1, -1] <= HOUSE.expert_radius


def test_one_walk_for_all_paraphrases(tmp_path):
    walks = gather(tmp_path, episodes(3, per_trajectory=2), Mixture())
    assert [walk.instructions for walk in walks] == [[f"say 0 of {n}", f"say 1 of {n}"] for n in range(3)]
    assert len(paraphrases(episodes(3, 2))[0]) == 3


def test_a_disturbed_walk_still_arrives_and_its_labels_are_right(tmp_path):
    walks = gather(tmp_path, episodes(6), Mixture(disturbed=1.0, chance=0.3))
    wrong = sum(a != b for walk in walks for a, b in zip(walk.executed, walk.expert, strict=True))
    assert wrong > 10, "hardly anything was disturbed"
    assert all(walk.info["success"] for walk in walks)
    assert all(walk.expert[-1] == Action.STOP for walk in walks)


def test_side_by_side_equals_one_by_one(tmp_path):
    mixture = Mixture(disturbed=0.5)
    alone = {walk.id: walk for walk in gather(tmp_path / "alone", episodes(5), mixture)}
    for walk in gather(tmp_path / "three", episodes(5), mixture, rows=3):
        assert walk.executed == alone[walk.id].executed


@pytest.mark.parametrize("answer", list(Action))
def test_a_learner_is_led_home(tmp_path, answer):
    """Whatever the learner says, the walk ends with the expert's STOP, and it hears what was done in its name."""
    learner = Stubborn(answer)
    walks = gather(tmp_path, episodes(3), Mixture(beta=0.3, learner_steps=20), learner)
    for walk, noted in zip(walks, learner.noted, strict=True):
        assert walk.executed == noted
        assert walk.executed[-1] == walk.expert[-1] == Action.STOP
        assert Action.STOP not in walk.executed[:-1]


def test_a_learners_walk_is_a_lesson_under_every_instruction(tmp_path):
    learner = Stubborn(Action.MOVE_FORWARD)
    walks = gather(tmp_path, episodes(3, per_trajectory=2), Mixture(beta=0.3), learner)
    assert len(learner.noted) == 3, "each is walked once"
    assert [walk.instructions for walk in walks] == [[f"say 0 of {n}", f"say 1 of {n}"] for n in range(3)]


def test_collecting_again_adds_nothing(tmp_path):
    first = gather(tmp_path, episodes(3), Mixture())
    again = gather(tmp_path, episodes(4), Mixture())
    assert [walk.id for walk in again] == [walk.id for walk in first] + ["3-0"]
    assert len(gather(tmp_path, episodes(2), Mixture(), name="more-")) == 6
