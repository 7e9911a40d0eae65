"""The environment's rules, in a box room where every number is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dualsight.envs import core
from dualsight.envs.box_room import BoxGround, FlatPictures, open_box
from dualsight.envs.core import BadObservation, StartOffNavmesh, UnreachableGoal, check_environment
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.protocols import HOUSE, JANUSVLN_RELEASE, PROTOCOLS, RXR_CE, get_protocol
from dualsight.envs.world import World
from dualsight.types import Action, Episode, Pose

SHORT = replace(HOUSE, max_steps=12)


def episode(start=(0.0, 0.0, 0.0), heading=0.0, goal=(0.0, 0.0, -4.0), **kwargs):
    return Episode("7", "box", Pose(np.array(start), heading), np.array(goal), "walk ahead", **kwargs)


def environment(protocol=SHORT, **kwargs):
    return HouseEnvironment(protocol, open_box, **kwargs)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_keeps_the_contract(name):
    check_environment(environment(replace(get_protocol(name), max_steps=12)), episode())


def test_forced_stop_keeps_the_contract():
    check_environment(environment(replace(JANUSVLN_RELEASE, max_steps=12, forced_stop=8)), episode())


def test_forward_is_along_minus_z_and_a_left_turn_is_positive():
    env = environment()
    env.reset(episode())
    observation, *_ = env.step(Action.MOVE_FORWARD)
    assert np.allclose(observation.pose.position, [0, 0, -0.25])
    for _ in range(6):  # 90 degrees
        observation, *_ = env.step(Action.TURN_LEFT)
    observation, *_ = env.step(Action.MOVE_FORWARD)
    assert np.allclose(observation.pose.position, [-0.25, 0, -0.25])
    assert env.distance_to_goal() == pytest.approx(math.hypot(0.25, 3.75))


def test_sliding_and_not_sliding_into_a_wall():
    towards_the_wall = episode(start=(4.9, 0.0, 0.0), heading=math.radians(-60))  # 60 degrees to the right: +X, -Z
    for protocol, expected in [(SHORT, [5, 0, -0.125]), (RXR_CE, [5, 0, -0.1 / math.tan(math.radians(60))])]:
        env = environment(protocol)
        env.reset(towards_the_wall)
        observation, _, _, info = env.step(Action.MOVE_FORWARD)
        assert np.allclose(observation.pose.position, expected)
        assert info["collided"] and observation.collided


def test_stop_terminates_and_time_truncates():
    env = environment()
    env.reset(episode())
    assert env.step(Action.STOP)[1:3] == (True, False)
    env.reset(episode())
    ends = [env.step(Action.TURN_LEFT)[1:3] for _ in range(SHORT.max_steps)]
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}


def test_stop_on_the_last_step_is_a_stop():
    env = environment(replace(SHORT, max_steps=1))
    env.reset(episode())
    assert env.step(Action.STOP)[1:3] == (True, False)


def test_the_released_evaluation_forces_stop_after_400_actions():
    env = environment(replace(JANUSVLN_RELEASE, camera=HOUSE.camera))
    env.reset(episode())
    for _ in range(400):
        _, terminated, truncated, info = env.step(Action.TURN_LEFT)
        assert not (terminated or truncated or info["forced_stop"])
    _, terminated, truncated, info = env.step(Action.TURN_LEFT)
    assert terminated and not truncated and info["forced_stop"]


def test_step_outside_an_episode_is_refused():
    env = environment()
    with pytest.raises(RuntimeError, match="reset"):
        env.step(Action.STOP)
    env.reset(episode())
    env.step(Action.STOP)
    with pytest.raises(RuntimeError, match="over"):
        env.step(Action.STOP)


def test_unknown_action_is_refused():
    env = environment()
    env.reset(episode())
    with pytest.raises(ValueError, match="9"):
        env.step(9)


def test_start_off_the_navmesh_names_the_nearest_place():
    env = environment()
    with pytest.raises(StartOffNavmesh, match=r"episode 7 of box.*\(9.00, 0.00, 0.00\).*\(5.00, 0.00, 0.00\)"):
        env.reset(episode(start=(9.0, 0.0, 0.0)))
    with pytest.raises(RuntimeError):
        env.step(Action.STOP)  # a failed reset begins nothing


def test_a_start_a_few_centimetres_off_is_moved_onto_the_mesh():
    observation = environment().reset(episode(start=(5.05, 0.0, 0.0)))
    assert np.allclose(observation.pose.position, [5, 0, 0])


def test_goal_outside_and_goal_without_a_path():
    env = environment()
    with pytest.raises(UnreachableGoal, match="outside the room"):
        env.reset(episode(goal=(0.0, 0.0, -40.0)))

    class Islands(BoxGround):
        def distance_field(self, goal):
            field = super().distance_field(goal)
            return type("Nowhere", (), {"distance": lambda _, p: math.inf, "path": field.path})()

    env = HouseEnvironment(SHORT, lambda *_: World(FlatPictures(), Islands()))
    with pytest.raises(UnreachableGoal, match="no path leads"):
        env.reset(episode())


def test_nan_depth_is_an_error_that_says_so():
    class Broken(FlatPictures):
        def render(self, pose, camera):
            view = super().render(pose, camera)
            view.depth[0, :3] = np.nan
            return view

    env = HouseEnvironment(SHORT, lambda *_: World(Broken(), BoxGround()))
    with pytest.raises(BadObservation, match="depth has 3 of 12544 pixels"):
        env.reset(episode())


def test_depth_is_given_when_asked_for():
    assert environment().reset(episode()).depth is None
    assert environment(depth=True).reset(episode()).depth.shape == (112, 112)


def test_reference_is_the_recorded_path_or_the_resampled_one():
    env = environment()
    env.reset(episode(reference_path=[np.zeros(3), np.array([0.0, 0.0, -4.0])]))
    assert len(env.reference_path()) == 17  # 4 m in steps of 0.25 m
    env.reset(episode())
    assert np.allclose(env.reference_path()[[0, -1]], [[0, 0, 0], [0, 0, -4]])
    env.reset(episode(info={"locations": [[0, 0, 0], [1, 0, 0]]}))
    assert np.allclose(env.reference_path(), [[0, 0, 0], [1, 0, 0]])


class Cheater(HouseEnvironment):
    """Says that running out of steps was a STOP."""

    def step(self, action):
        observation, terminated, truncated, info = super().step(action)
        return observation, terminated or truncated, False, info


class Scribbler(HouseEnvironment):
    """Draws every frame into the same buffer."""

    buffer = np.zeros((112, 112, 3), np.uint8)

    def _observe(self, collided):
        observation = super()._observe(collided)
        self.buffer[:] = observation.rgb
        return replace(observation, rgb=self.buffer)


@pytest.mark.parametrize("broken, promise", [(Cheater, "truncates"), (Scribbler, "do not write")])
def test_the_checker_finds_broken_promises(broken, promise):
    with pytest.raises(core.ContractViolation, match=promise):
        check_environment(broken(SHORT, open_box), episode())


def test_protocols_say_what_a_time_out_means():
    assert {name: p.time_out_is for name, p in PROTOCOLS.items()} == {
        "r2r-ce": "failure",
        "rxr-ce": "failure",
        "janusvln-release": "stop",
        "house": "failure",
    }
    assert RXR_CE.to_dict()["camera"]["hfov"] == 79.0
    assert RXR_CE.to_dict()["actions"]["STOP"] == 0
    with pytest.raises(KeyError, match="r2r-ce, rxr-ce"):
        get_protocol("r2r")


@pytest.mark.slow
def test_generated_houses_keep_the_contract_and_the_expert_arrives():
    from dualsight.envs.houses import house_episodes
    from dualsight.inference.rollout import ExpertAgent, rollouts

    episodes = list(house_episodes(range(900_010, 900_013), per_house=4))
    check_environment(HouseEnvironment(replace(HOUSE, max_steps=40), depth=True), episodes[0])
    envs = [HouseEnvironment(HOUSE)]
    results = list(rollouts(envs, ExpertAgent(envs), episodes))
    assert all(result.metrics.success for result in results)
    assert np.mean([result.metrics.spl for result in results]) > 0.97
