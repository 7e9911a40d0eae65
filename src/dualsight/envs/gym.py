"""`HouseEnvironment` for gymnasium, registered as ``dualsight/House-v0``.

    >>> import gymnasium
    >>> env = gymnasium.make("dualsight.envs.gym:dualsight/House-v0", split="val_unseen")
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(1)   # MOVE_FORWARD

===========  ==========================================================================
observation  ``{"rgb": (H, W, 3) uint8, "instruction": str}``
action       0 STOP, 1 MOVE_FORWARD, 2 TURN_LEFT, 3 TURN_RIGHT
reward       1 for STOP within the protocol's success distance, otherwise 0
terminated   the agent said STOP
truncated    the steps ran out
info         ``collided``, ``forced_stop``, ``distance_to_goal``, ``episode_id``
===========  ==========================================================================

``reset(options={"episode": episode})`` plays a given episode; otherwise one is drawn with the environment's own
generator, so that ``reset(seed=...)`` fixes all that follows.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

from dualsight.extras import install

try:
    import gymnasium
except ImportError as error:
    raise ImportError(f"gymnasium is missing: {install('sim')}") from error

import numpy as np

from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.houses import choose_houses, house_episodes
from dualsight.envs.protocols import HOUSE, Protocol
from dualsight.envs.world import World, open_house
from dualsight.types import Action, Episode, Observation

HOUSES = 1000
"""How many houses of a split episodes are drawn from."""
LONGEST_INSTRUCTION = 10_000
"""Characters."""


class GymHouse(gymnasium.Env):
    """One agent in generated houses, as gymnasium wants it.

    Args:
        split: the houses that episodes are generated in, where none are given.
        episodes: what `reset` draws from, instead.
        protocol: the rules.
        open_world: from a ``scene_id`` to a `World`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self,
        split: str = "train",
        episodes: Sequence[Episode] | None = None,
        protocol: Protocol = HOUSE,
        open_world: Callable[[str, Protocol], World] = open_house,
        render_mode: str | None = None,
    ):
        self.split = split
        self.episodes = episodes
        self.render_mode = render_mode
        self.environment = HouseEnvironment(protocol, open_world)
        self.action_space = gymnasium.spaces.Discrete(len(Action))
        shape = (protocol.camera.height, protocol.camera.width, 3)
        self.observation_space = gymnasium.spaces.Dict(
            rgb=gymnasium.spaces.Box(0, 255, shape, np.uint8),
            instruction=gymnasium.spaces.Text(LONGEST_INSTRUCTION, charset=string.printable),
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.episode = (options or {}).get("episode") or self._draw()
        self._last = self.environment.reset(self.episode)
        return self._observation(self._last), self._info(collided=False, forced_stop=False)

    def step(self, action):
        self._last, terminated, truncated, info = self.environment.step(Action(int(action)))
        info = self._info(**info)
        arrived = terminated and info["distance_to_goal"] < self.environment.protocol.success_distance
        return self._observation(self._last), float(arrived), terminated, truncated, info

    def render(self):
        return self._last.rgb if self.render_mode == "rgb_array" else None

    def close(self):
        self.environment.close()

    def _draw(self) -> Episode:
        if self.episodes is not None:
            return self.episodes[int(self.np_random.integers(len(self.episodes)))]
        return _generate(self.split, self.np_random)

    def _observation(self, observation: Observation) -> dict[str, Any]:
        return {"rgb": observation.rgb, "instruction": self.episode.instruction}

    def _info(self, **info: Any) -> dict[str, Any]:
        return info | {
            "distance_to_goal": self.environment.distance_to_goal(),
            "episode_id": self.episode.episode_id,
        }


def _generate(split: str, rng: np.random.Generator) -> Episode:
    """A new episode in a house of ``split``; houses without a path that is long enough are passed over."""
    seeds = choose_houses(split, None, count=HOUSES)
    while True:
        house, task = seeds[int(rng.integers(len(seeds)))], int(rng.integers(2**31))
        for episode in house_episodes([house], per_house=1, seed=task):
            return episode


if "dualsight/House-v0" not in gymnasium.registry:
    gymnasium.register("dualsight/House-v0", entry_point="dualsight.envs.gym:GymHouse")
