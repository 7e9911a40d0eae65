"""Walking episodes: the loop in which an agent and an environment meet.

`rollouts` keeps several environments in step, so that an agent that thinks in batches decides for all of them in one
pass; `rollout` is the same with one. Video, recording and progress are subscribers: they watch and do not interfere.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dualsight.envs.core import Environment, UnreachableGoal
from dualsight.envs.expert import Expert
from dualsight.envs.metrics import NOT_WALKED, EpisodeMetrics, measure
from dualsight.types import Action, Episode, Observation, Pose


class Agent(Protocol):
    """Decides what to do, for one or several episodes at once: a row is one of them."""

    def reset(self, row: int, episode: Episode) -> None:
        """A new episode begins in ``row``."""
        ...

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> Sequence[Action]:
        """One action for each observation; ``rows`` says whose they are."""
        ...

    def report(self, row: int) -> dict:
        """What is worth recording of the episode in ``row`` (``unparsed`` answers...), asked at its end."""
        ...


@dataclass(frozen=True)
class Step:
    """One step as a subscriber sees it."""

    row: int
    episode: Episode
    index: int
    observation: Observation
    """What the agent saw before it acted."""
    action: Action
    """What was executed."""
    distance: float
    """Geodesic metres to the goal, before the action."""


@dataclass(frozen=True)
class EpisodeResult:
    """An episode that was walked, or that could not be (``metrics.unreachable``)."""

    episode: Episode
    metrics: EpisodeMetrics
    poses: list[Pose]
    """Where the agent stood before each action, and at the end."""
    actions: list[Action]
    stopped: bool
    forced_stop: bool
    truncated: bool
    seconds: float
    report: dict = field(default_factory=dict)
    """What the agent says of it."""


class Subscriber:
    """Watches rollouts; override what is of interest. Episodes of different rows interleave."""

    def on_start(self, row: int, episode: Episode, observation: Observation) -> None: ...

    def on_step(self, step: Step) -> None: ...

    def on_end(self, row: int, result: EpisodeResult) -> None: ...


def rollout(env: Environment, agent: Agent, episode: Episode, subscribers: Sequence[Subscriber] = ()) -> EpisodeResult:
    """Walk one episode to its end."""
    return next(rollouts([env], agent, [episode], subscribers))


def rollouts(
    envs: Sequence[Environment], agent: Agent, episodes: Iterable[Episode], subscribers: Sequence[Subscriber] = ()
) -> Iterator[EpisodeResult]:
    """Walk all ``episodes``, ``len(envs)`` of them side by side; yields each result as soon as it is there.

    A row that is done takes the next episode. An episode whose goal cannot be reached is not walked: its result comes
    at once, as a failure. Any other error of an environment or of the agent ends the generator.
    """
    waiting = iter(episodes)
    walks: dict[int, _Walk] = {}
    while True:
        for row in range(len(envs)):
            while row not in walks and (episode := next(waiting, None)) is not None:
                try:
                    walks[row] = _Walk(row, envs[row], agent, episode, subscribers)
                except UnreachableGoal as error:
                    yield _not_walked(episode, error)
        if not walks:
            return
        rows = sorted(walks)
        actions = agent.act([walks[row].observation for row in rows], rows)
        for row, action in zip(rows, actions, strict=True):
            if walks[row].take(Action(action)):
                yield walks.pop(row).finish()


class _Walk:
    """An episode under way in one row."""

    def __init__(self, row: int, env: Environment, agent: Agent, episode: Episode, subscribers: Sequence[Subscriber]):
        self.row, self.env, self.agent, self.episode, self.subscribers = row, env, agent, episode, subscribers
        self.began = time.perf_counter()
        self.observation = env.reset(episode)
        agent.reset(row, episode)
        self.poses = [_pose(self.observation)]
        self.distances = [env.distance_to_goal()]
        self.actions: list[Action] = []
        self.collisions = 0
        self.terminated = self.truncated = self.forced_stop = False
        for subscriber in subscribers:
            subscriber.on_start(row, episode, self.observation)

    def take(self, action: Action) -> bool:
        """Take one action; is the episode over?"""
        seen = self.observation
        self.observation, self.terminated, self.truncated, info = self.env.step(action)
        self.forced_stop = info["forced_stop"]
        executed = Action.STOP if self.forced_stop else action
        step = Step(self.row, self.episode, len(self.actions), seen, executed, self.distances[-1])
        self.actions.append(executed)
        self.poses.append(_pose(self.observation))
        self.distances.append(self.env.distance_to_goal())
        self.collisions += info["collided"]
        for subscriber in self.subscribers:
            subscriber.on_step(step)
        return self.terminated or self.truncated

    def finish(self) -> EpisodeResult:
        metrics = measure(
            np.stack([pose.position for pose in self.poses]),
            self.distances,
            stopped=self.terminated,
            reference=self.env.reference_path(),
            steps=len(self.actions),
            collisions=self.collisions,
            success_distance=self.env.protocol.success_distance,
        )
        result = EpisodeResult(
            self.episode,
            metrics,
            self.poses,
            self.actions,
            stopped=self.terminated,
            forced_stop=self.forced_stop,
            truncated=self.truncated,
            seconds=time.perf_counter() - self.began,
            report=self.agent.report(self.row),
        )
        for subscriber in self.subscribers:
            subscriber.on_end(self.row, result)
        return result


def _pose(observation: Observation) -> Pose:
    if observation.pose is None:
        raise ValueError("rollouts measure where the agent goes: the environment's observations must carry the pose")
    return observation.pose


def _not_walked(episode: Episode, error: UnreachableGoal) -> EpisodeResult:
    return EpisodeResult(
        episode, NOT_WALKED, [episode.start], [], False, False, False, seconds=0.0, report={"error": str(error)}
    )


class RandomAgent:
    """Acts at random, in VLN-CE's proportions of an average path: 2 % STOP, 68 % forward, 15 % left, 15 % right.

    Each episode has its own generator, made of ``seed`` and the episode's name: neither order nor sharding matters.
    """

    PROPORTIONS = (0.02, 0.68, 0.15, 0.15)

    def __init__(self, seed: int = 0):
        self.seed = seed
        self._rngs: dict[int, np.random.Generator] = {}

    def reset(self, row: int, episode: Episode) -> None:
        name = zlib.crc32(f"{episode.scene_id} {episode.episode_id}".encode())
        self._rngs[row] = np.random.default_rng([self.seed, name])

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[Action]:
        return [Action(int(self._rngs[row].choice(4, p=self.PROPORTIONS))) for row in rows]

    def report(self, row: int) -> dict:
        return {}


class ForwardAgent:
    """Walks ``steps`` times forward and says STOP; 37 is the average path of VLN-CE's hand-crafted agent."""

    def __init__(self, steps: int = 37):
        self.steps = steps
        self._left: dict[int, int] = {}

    def reset(self, row: int, episode: Episode) -> None:
        self._left[row] = self.steps

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[Action]:
        for row in rows:
            self._left[row] -= 1
        return [Action.MOVE_FORWARD if self._left[row] >= 0 else Action.STOP for row in rows]

    def report(self, row: int) -> dict:
        return {}


class HasExpert(Environment, Protocol):
    """An environment that knows the way."""

    def expert(self) -> Expert: ...


class ExpertAgent:
    """The expert of each environment as an agent: what could be reached by somebody who knows the building.

    Args:
        envs: the same that are given to `rollouts`.
    """

    def __init__(self, envs: Sequence[HasExpert]):
        self.envs = envs
        self._experts: dict[int, Expert] = {}

    def reset(self, row: int, episode: Episode) -> None:
        self._experts[row] = self.envs[row].expert()

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[Action]:
        return [self._experts[row].act(_pose(o)) for o, row in zip(observations, rows, strict=True)]

    def report(self, row: int) -> dict:
        return {}
