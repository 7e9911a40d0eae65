"""Walks given actions through habitat-lab's own `Env`, on our simulator; runs in habitat-lab's virtual environment.

    python habitat_lab_worker.py EPISODES.json.gz ACTIONS.json OUT.json

habitat-lab imports habitat-sim, magnum and corrade, which PyPI does not have; a stub stands in for them at import. The
simulator it steps is `OurSimulator`: our houses, our navigation mesh. All that is then computed (termination, distance
to goal, success, SPL) is habitat-lab's code on habitat-lab's reading of our episode file. Pictures are left blank.
"""

import importlib.abc
import importlib.machinery
import json
import math
import sys
import types


class _Anything(type):
    """A class that has every attribute, as another such class."""

    def __getattr__(cls, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {"__init__": lambda self, *args, **kwargs: None})

    def __or__(cls, other):
        return cls

    def __ror__(cls, other):
        return cls


class _StubModule(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {"__init__": lambda self, *args, **kwargs: None})


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("habitat_sim", "magnum", "corrade"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _StubModule(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, _Stubs())

import habitat  # noqa: E402
import habitat.datasets.vln  # noqa: E402  registers R2RVLN-v1
import numpy as np  # noqa: E402
import quaternion  # noqa: E402
from gym import spaces  # noqa: E402
from habitat.config.default import get_config  # noqa: E402
from habitat.core.registry import registry  # noqa: E402
from habitat.core.simulator import AgentState, DepthSensor, RGBSensor, SensorSuite, Simulator  # noqa: E402
from habitat.sims.habitat_simulator.actions import HabitatSimActions  # noqa: E402

from dualsight.envs.protocols import R2R_CE  # noqa: E402
from dualsight.envs.world import open_house  # noqa: E402
from dualsight.types import Pose  # noqa: E402

NAMES = ["stop", "move_forward", "turn_left", "turn_right"]


@registry.register_sensor
class BlankRGB(RGBSensor):
    def _get_observation_space(self, *args, **kwargs):
        return spaces.Box(0, 255, (self.config.height, self.config.width, 3), np.uint8)

    def get_observation(self, *args):
        return np.zeros(self.observation_space.shape, np.uint8)


@registry.register_sensor
class BlankDepth(DepthSensor):
    def _get_observation_space(self, *args, **kwargs):
        return spaces.Box(0, 1, (self.config.height, self.config.width, 1), np.float32)

    def get_observation(self, *args):
        return np.zeros(self.observation_space.shape, np.float32)


@registry.register_simulator(name="Ours-v0")
class OurSimulator(Simulator):
    """The interface of habitat-lab's simulators over a `World` of ours."""

    def __init__(self, config):
        kinds = {"HabitatSimRGBSensor": BlankRGB, "HabitatSimDepthSensor": BlankDepth}
        self._sensors = SensorSuite([kinds[c.type](config=c) for c in config.agents.main_agent.sim_sensors.values()])
        self._collided = False
        self.habitat_config = config

    sensor_suite = property(lambda self: self._sensors)
    action_space = property(lambda self: spaces.Discrete(4))
    previous_step_collided = property(lambda self: self._collided)
    up_vector = property(lambda self: np.array([0.0, 1.0, 0.0]))
    forward_vector = property(lambda self: np.array([0.0, 0.0, -1.0]))

    def reconfigure(self, config, ep_info=None):
        self.habitat_config = config
        self.world = open_house("/".join(config.scene.split("/")[-2:]), R2R_CE)
        self._begin()

    def reset(self):
        self._begin()
        return self._observe()

    def _begin(self):
        agent = self.habitat_config.agents.main_agent
        if agent.is_set_start_state:
            self.pose = Pose.from_rotation(agent.start_position, agent.start_rotation)

    def step(self, action, *args, **kwargs):
        if action == HabitatSimActions.turn_left:
            self.pose = self.pose.turned(R2R_CE.turn_radians)
        elif action == HabitatSimActions.turn_right:
            self.pose = self.pose.turned(-R2R_CE.turn_radians)
        elif action == HabitatSimActions.move_forward:
            here, wanted = self.pose.position, self.pose.position + R2R_CE.forward * self.pose.forward
            self.pose = Pose(self.world.ground.try_step(here, wanted, R2R_CE.slide), self.pose.heading)
        return self._observe()

    def _observe(self):
        return self._sensors.get_observations()

    def geodesic_distance(self, position_a, position_b, episode=None):
        goals = np.reshape(position_b, (-1, 3)).astype(float)
        return float(self.world.ground.distance_field(goals).distance(position_a))

    def get_agent_state(self, agent_id=0):
        x, y, z, w = self.pose.rotation
        return AgentState(position=self.pose.position.copy(), rotation=np.quaternion(w, x, y, z))

    def set_agent_state(self, position, rotation, agent_id=0, reset_sensors=True):
        if isinstance(rotation, quaternion.quaternion):
            rotation = [rotation.x, rotation.y, rotation.z, rotation.w]
        self.pose = Pose.from_rotation(position, rotation)
        return True

    def get_observations_at(self, position=None, rotation=None, keep_agent_at_new_pose=False):
        return self._observe()

    def get_straight_shortest_path_points(self, position_a, position_b):
        return list(self.world.ground.distance_field(np.reshape(position_b, (-1, 3)).astype(float)).path(position_a))

    def is_navigable(self, point):
        return self.world.ground.is_navigable(point)

    def sample_navigable_point(self):
        return self.world.ground.random_point(np.random.default_rng(0)).tolist()

    def seed(self, seed):
        pass

    def close(self, destroy=True):
        pass

    def step_physics(self, delta):
        pass


def walk(env, actions):
    """The episode that habitat-lab has current, under ``actions``: places and metrics after each."""
    observation = env.reset()
    trace = [env.get_metrics() | {"position": env.sim.get_agent_state().position.tolist()}]
    for action in actions:
        observation = env.step({"action": NAMES[action]})
        trace.append(env.get_metrics() | {"position": env.sim.get_agent_state().position.tolist()})
        if env.episode_over:
            break
    return {
        "instruction": observation["instruction"]["text"],
        "over": env.episode_over,
        "trace": [
            {k: v for k, v in row.items() if k in ("distance_to_goal", "success", "spl", "position")} for row in trace
        ],
    }


def main(episodes, actions, out):
    config = get_config(
        "benchmark/nav/vln_r2r.yaml",
        [
            "habitat.simulator.type=Ours-v0",
            f"habitat.dataset.data_path={episodes}",
            "habitat.dataset.split=val",
            "habitat.task.measurements.success.success_distance=3.0",
            "habitat.environment.iterator_options.shuffle=False",
        ],
    )
    with open(actions) as file:
        plans = json.load(file)
    results = {}
    with habitat.Env(config=config) as env:
        for episode in list(env.episodes):
            env.current_episode = episode
            name = str(episode.episode_id)
            results[name] = walk(env, plans[name]) | {"scene_id": env.current_episode.scene_id}
    assert all(math.isfinite(r["distance_to_goal"]) for result in results.values() for r in result["trace"])
    with open(out, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
