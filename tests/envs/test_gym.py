"""The environment as gymnasium sees it."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dualsight.envs.box_room import open_box
from dualsight.types import Action, Episode, Pose

EPISODES = [
    Episode(str(n), "box", Pose(np.array([n, 0.0, 0.0]), 0.0), np.array([n, 0.0, -4.0]), f"walk ahead, {n} times")
    for n in range(4)
]


def make(**kwargs):
    return gymnasium.make("dualsight.envs.gym:dualsight/House-v0", episodes=EPISODES, open_world=open_box, **kwargs)


@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_nothing_wrong():
    check_env(make(render_mode="rgb_array").unwrapped, skip_render_check=False)


def test_the_seed_fixes_the_episodes():
    def names(seed):
        env = make()
        env.reset(seed=seed)
        return [env.reset()[1]["episode_id"] for _ in range(8)]

    assert names(1) == names(1)
    assert len({tuple(names(seed)) for seed in range(5)}) > 1


def test_a_given_episode_is_played():
    observation, info = make().reset(options={"episode": EPISODES[2]})
    assert info["episode_id"] == "2" and observation["instruction"] == "walk ahead, 2 times"
    assert info["distance_to_goal"] == 4


@pytest.mark.parametrize("steps, reward", [(3, 0.0), (5, 1.0)])
def test_the_reward_is_for_stopping_at_the_goal(steps, reward):
    env = make()
    env.reset(seed=0)
    for _ in range(steps):
        _, none, terminated, truncated, _ = env.step(Action.MOVE_FORWARD)
        assert none == 0 and not terminated and not truncated
    assert env.step(Action.STOP)[1:4] == (reward, True, False)


def test_time_truncates():
    env = make()
    env.reset(seed=0)
    for _ in range(200):
        _, _, terminated, truncated, _ = env.step(Action.TURN_LEFT)
    assert truncated and not terminated


def test_vector_environments():
    envs = gymnasium.vector.SyncVectorEnv([make, make])
    observation, _ = envs.reset(seed=[1, 1])
    assert observation["rgb"].shape == (2, 112, 112, 3)
    assert np.array_equal(observation["rgb"][0], observation["rgb"][1])


@pytest.mark.slow
def test_episodes_of_generated_houses():
    env = gymnasium.make("dualsight.envs.gym:dualsight/House-v0", split="val_unseen")
    first, info = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert first["instruction"] == again["instruction"] and np.array_equal(first["rgb"], again["rgb"])
    assert 5 <= info["distance_to_goal"] <= 20
