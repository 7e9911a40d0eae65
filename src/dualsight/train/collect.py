"""Trajectories to learn from: the expert labels every step, whoever takes it.

Three ways to walk, one agent (:class:`Demonstrator`):

- the **expert** alone;
- the expert **disturbed** (DART, arXiv:1703.09327): now and then a few random moves are executed, so that the data
  show how to come back;
- a **learner** (DAgger, arXiv:1011.0686): the expert acts with probability ``beta`` at each step, else the learner.

The released collector keeps executed actions as labels, and so imitates the learner's mistakes; here both are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.progress import track

from dualsight.data.trajectories import TrajectoryWriter, merge
from dualsight.envs.expert import Expert
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.houses import house_episodes
from dualsight.envs.protocols import HOUSE
from dualsight.envs.sim.episodes import Demand
from dualsight.inference.navigator import NavigatorAgent
from dualsight.inference.rollout import EpisodeResult, HasExpert, Step, Subscriber, rollouts
from dualsight.types import Action, Episode, Frame, Observation

MOVES = (Action.MOVE_FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT)


@dataclass(frozen=True)
class Mixture:
    """Who acts. Without a learner, ``beta`` does not matter."""

    beta: float = 1.0
    """How often the expert acts instead of the learner."""
    disturbed: float = 0.0
    """The share of episodes that are disturbed."""
    chance: float = 0.08
    """In a disturbed episode: how likely a disturbance begins at a step."""
    burst: int = 5
    """A disturbance is one move, drawn at random and repeated up to this many times."""
    patience: int = 3
    """How often a learner may walk on where the expert says STOP, before the episode ends."""
    learner_steps: int = 120
    """After this many steps the expert brings the episode to its end."""


class Demonstrator:
    """Acts as a :class:`Mixture` says and writes down what the expert would have done at each step."""

    def __init__(
        self, envs: Sequence[HasExpert], mixture: Mixture, seed: int = 0, learner: NavigatorAgent | None = None
    ):
        self.envs, self.mixture, self.learner, self.seed = envs, mixture, learner, seed
        self._rows: dict[int, _Row] = {}

    def reset(self, row: int, episode: Episode) -> None:
        rng = np.random.default_rng([self.seed, *episode.episode_id.encode()])
        self._rows[row] = _Row(self.envs[row].expert(), rng, bool(rng.random() < self.mixture.disturbed))
        if self.learner:
            self.learner.reset(row, episode)

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[Action]:
        learned = self.learner.act(observations, rows) if self.learner else [None] * len(rows)
        actions = [
            self._rows[row].choose(observation, answer, self.mixture)
            for observation, row, answer in zip(observations, rows, learned, strict=True)
        ]
        if self.learner:
            for row, action in zip(rows, actions, strict=True):
                self.learner.executed(row, action)  # its memory holds what was done in its name
        return actions

    def report(self, row: int) -> dict:
        return {"expert": [int(action) for action in self._rows[row].labels], "plan": self._rows[row].plans}


class _Row:
    """One episode under way."""

    def __init__(self, expert: Expert, rng: np.random.Generator, disturbed: bool):
        self.expert, self.rng, self.disturbed = expert, rng, disturbed
        self.labels: list[Action] = []
        self.plans: list[list[float]] = []
        self.burst: list[Action] = []
        self.arrivals = 0

    def choose(self, observation: Observation, learned: Action | None, mixture: Mixture) -> Action:
        assert observation.pose is not None
        right = self.expert.act(observation.pose)
        self.labels.append(right)
        self.plans.append([round(value, 2) for value in self.expert.plan(observation.pose)])
        self.arrivals += right is Action.STOP
        if learned is None:
            return self._disturb(right, mixture)
        if right is Action.STOP and (learned is Action.STOP or self.arrivals >= mixture.patience):
            return Action.STOP
        by_expert = len(self.labels) > mixture.learner_steps or self.rng.random() < mixture.beta
        # The learner may not end an episode that is not at its end: there would be nothing left to learn from it.
        return right if by_expert or learned is Action.STOP else learned

    def _disturb(self, right: Action, mixture: Mixture) -> Action:
        if right is Action.STOP or not self.disturbed:
            return right
        if not self.burst and self.rng.random() < mixture.chance:
            self.burst = [MOVES[self.rng.integers(3)]] * int(self.rng.integers(1, mixture.burst + 1))
        return self.burst.pop() if self.burst else right


class Recorder(Subscriber):
    """Writes each finished episode as a trajectory, under all of its ``instructions``."""

    def __init__(self, writer: TrajectoryWriter, instructions: dict[str, list[str]]):
        self.writer, self.instructions = writer, instructions
        self._frames: dict[int, list[Frame]] = {}

    def on_start(self, row: int, episode: Episode, observation: Observation) -> None:
        self._frames[row] = []

    def on_step(self, step: Step) -> None:
        self._frames[step.row].append(step.observation.rgb)

    def on_end(self, row: int, result: EpisodeResult) -> None:
        episode = result.episode
        info = {"scene_id": episode.scene_id, "success": result.metrics.success, "ne": result.metrics.ne}
        self.writer.write(
            episode.episode_id,
            self.instructions.get(episode.episode_id, [episode.instruction]),
            self._frames.pop(row),
            [int(action) for action in result.actions],
            result.report["expert"],
            info,
            result.report["plan"],
        )


def paraphrases(episodes: Iterable[Episode]) -> tuple[list[Episode], dict[str, list[str]]]:
    """One episode of each trajectory, and every instruction that was written for it."""
    first: dict[tuple[str, str], Episode] = {}
    texts: dict[str, list[str]] = {}
    for episode in episodes:
        chosen = first.setdefault((episode.scene_id, episode.trajectory_id or episode.episode_id), episode)
        texts.setdefault(chosen.episode_id, []).append(episode.instruction)
    return list(first.values()), texts


def collect(
    envs: Sequence[HouseEnvironment],
    episodes: Sequence[Episode],
    writer: TrajectoryWriter,
    mixture: Mixture,
    name: str = "",
    seed: int = 0,
    learner: NavigatorAgent | None = None,
) -> None:
    """Walk ``episodes``, ``len(envs)`` side by side, and write them down; those that are there are left out.

    Each trajectory is walked once, by a learner under the first of its instructions, and written down under all of
    them: what the expert would do does not depend on the words. ``name`` is put before the ids, so that several sets
    can be used together.
    """
    episodes, texts = paraphrases(episodes)
    named = [replace(episode, episode_id=f"{name}{episode.episode_id}") for episode in episodes]
    texts = {f"{name}{key}": value for key, value in texts.items()}
    todo = [episode for episode in named if episode.episode_id not in writer]
    for _ in rollouts(envs, Demonstrator(envs, mixture, seed, learner), todo, [Recorder(writer, texts)]):
        pass


def collect_houses(
    out: Path,
    house_seeds: Sequence[int],
    per_house: int,
    mixture: Mixture,
    demand: Demand | None = None,
    name: str = "",
    seed: int = 0,
    part: int = 0,
    learner: NavigatorAgent | None = None,
    rows: int = 1,
) -> int:
    """Collect in one house after the other: each is built once, for its episodes and for walking them.

    Can be interrupted: trajectories that are written stay, and the same call adds those that are missing. ``part`` is
    this process's number where several write into one folder. Returns how many trajectories the folder holds.
    """
    envs = [HouseEnvironment(HOUSE) for _ in range(rows)]
    with TrajectoryWriter(out, part=part) as writer:
        for house_seed in track(house_seeds, description=f"collecting {name}"):
            episodes = list(house_episodes([house_seed], per_house, seed, demand))
            collect(envs, episodes, writer, mixture, name, seed, learner)
    return merge(out)
