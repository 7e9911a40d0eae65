"""The environment of generated houses: renderer and navigation mesh under a protocol's rules.

It keeps the promises of `dualsight.envs.core`; `envs.gym` wraps it for gymnasium.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dualsight.envs.core import StartOffNavmesh, StepResult, UnreachableGoal, check_observation
from dualsight.envs.expert import Expert
from dualsight.envs.metrics import resample
from dualsight.envs.protocols import HOUSE, Protocol
from dualsight.envs.world import World, open_house
from dualsight.types import Action, Episode, Observation, Point, Pose

SNAP = 0.5
"""A start this close to the navmesh, metres, is moved onto it: episode files and meshes differ by a few centimetres."""


class HouseEnvironment:
    """Walks episodes through generated houses, or through any `World`.

    Args:
        protocol: the rules.
        open_world: from an episode's ``scene_id`` and the rules to a `World`.
        depth: whether observations also carry depth and instance ids (navigators use RGB alone).
    """

    def __init__(
        self,
        protocol: Protocol = HOUSE,
        open_world: Callable[[str, Protocol], World] = open_house,
        depth: bool = False,
    ):
        self.protocol = protocol
        self.open_world = open_world
        self.depth = depth
        self._world: World | None = None
        self._over = True

    def reset(self, episode: Episode) -> Observation:
        """Start ``episode``.

        Raises:
            StartOffNavmesh: the agent cannot stand at the start, nor within half a metre of it.
            UnreachableGoal: no path leads from there to the goal.
        """
        self._over = True
        world = self.open_world(episode.scene_id, self.protocol)
        start = self._standing_place(world, episode)
        try:
            field = world.ground.distance_field(episode.goal)
        except ValueError as error:
            raise UnreachableGoal(f"{_name(episode)}: the goal is no place to stand: {error}") from error
        if not math.isfinite(field.distance(start)):
            raise UnreachableGoal(
                f"{_name(episode)}: no path leads from the start {_text(start)} to the goal {_text(episode.goal)}"
            )
        self._world, self._episode, self._field = world, episode, field
        self._pose, self._steps, self._over = Pose(start, episode.start.heading), 0, False
        return self._observe(collided=False)

    def step(self, action: Action) -> StepResult:
        """Take one action; see `dualsight.envs.core` for what comes back."""
        if self._over:
            raise RuntimeError("the episode is over (or was never begun): call reset(episode) first")
        forced = self.protocol.forced_stop is not None and self._steps >= self.protocol.forced_stop
        action = Action.STOP if forced else Action(action)
        collided = self._move(action)
        self._steps += 1
        terminated = action is Action.STOP
        truncated = not terminated and self._steps >= self.protocol.max_steps
        self._over = terminated or truncated
        return self._observe(collided), terminated, truncated, {"collided": collided, "forced_stop": forced}

    def distance_to_goal(self) -> float:
        """Geodesic metres from where the agent stands to the goal."""
        return self._field.distance(self._pose.position)

    def reference_path(self) -> np.ndarray:
        """(R, 3): the expert path recorded with the episode, else its reference path, a point every forward step.

        R2R-CE's ``*_gt.json.gz`` files hold recorded paths (``info["locations"]``); nDTW is defined against them.
        """
        if "locations" in self._episode.info:
            return np.asarray(self._episode.info["locations"], float)
        path = self._episode.reference_path or self._field.path(self._episode.start.position)
        return resample(np.asarray(path, float), self.protocol.forward)

    def expert(self) -> Expert:
        """An expert for the episode that is under way."""
        if self._world is None:
            raise RuntimeError("an expert needs an episode: call reset(episode) first")
        return Expert(self._world.ground, self._episode, self.protocol, self._world.roomy)

    def close(self) -> None:
        self._world, self._over = None, True

    def _standing_place(self, world: World, episode: Episode) -> Point:
        start = np.asarray(episode.start.position, float)
        if world.ground.is_navigable(start):
            return start
        try:
            near = np.asarray(world.ground.snap(start), float)
        except ValueError as error:
            raise StartOffNavmesh(f"{_name(episode)}: nobody can stand at the start: {error}") from error
        if float(np.linalg.norm(near - start)) > SNAP:
            raise StartOffNavmesh(
                f"{_name(episode)}: the start {_text(start)} is off the navmesh; the nearest place to stand is "
                f"{_text(near)}. Does the episode belong to this scene?"
            )
        return near

    def _move(self, action: Action) -> bool:
        """Change the pose; say whether the move was cut short, by Habitat's rule."""
        if action is Action.TURN_LEFT:
            self._pose = self._pose.turned(self.protocol.turn_radians)
        elif action is Action.TURN_RIGHT:
            self._pose = self._pose.turned(-self.protocol.turn_radians)
        elif action is Action.MOVE_FORWARD:
            assert self._world is not None
            here = self._pose.position
            wanted = here + self.protocol.forward * self._pose.forward
            there = np.asarray(self._world.ground.try_step(here, wanted, self.protocol.slide), float)
            self._pose = Pose(there, self._pose.heading)
            return bool(np.sum((there - here) ** 2) + 1e-5 < np.sum((wanted - here) ** 2))
        return False

    def _observe(self, collided: bool) -> Observation:
        assert self._world is not None
        view = self._world.renderer.render(self._pose, self.protocol.camera)
        observation = Observation(view.rgb, view.depth, view.instances, self._pose, collided)
        check_observation(observation, self.protocol)
        return observation if self.depth else Observation(view.rgb, pose=self._pose, collided=collided)


def _name(episode: Episode) -> str:
    return f"episode {episode.episode_id} of {episode.scene_id}"


def _text(point) -> str:
    return "(" + ", ".join(f"{x:.2f}" for x in point) + ")"
