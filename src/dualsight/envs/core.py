"""The contract between an environment and an agent, and a program that checks it.

An **environment** puts an agent at the start of an `Episode` and moves it, one `Action` at a time, under the rules of
a `Protocol`:

- ``reset(episode)`` starts the episode and returns the first `Observation`. It can be called at any time, and for the
  same episode it returns the same bytes.
- ``step(action)`` returns ``(observation, terminated, truncated, info)``.
  **terminated**: the agent said STOP (or the protocol said it for the agent: ``info["forced_stop"]``).
  **truncated**: the steps ran out and nobody said STOP. The two are never both true: time is not an answer.
  ``info`` holds ``collided`` (a move was cut short) and ``forced_stop``, both bool.
- After the end, and before the first reset, ``step`` raises `RuntimeError`.
- ``distance_to_goal()`` is the geodesic distance in metres from where the agent stands; inf where no path leads there.
- ``reference_path()`` is the dense path (R, 3) that nDTW compares with.
- An observation is the agent's to keep: later steps do not write into it. RGB is uint8 ``(H, W, 3)`` of the protocol's
  camera; depth, where there is any, is finite and not negative.
- Equal actions from equal episodes give equal observations.

Episodes that cannot be walked raise a `BadEpisode` at reset: `StartOffNavmesh`, `UnreachableGoal`.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable

import numpy as np

from dualsight.envs.protocols import Protocol
from dualsight.types import Action, Episode, Observation, Point

StepResult = tuple[Observation, bool, bool, dict]
"""``(observation, terminated, truncated, info)``."""


class Environment(typing.Protocol):
    """What an agent can be walked through: see the top of this file for what each method promises."""

    protocol: Protocol

    def reset(self, episode: Episode) -> Observation: ...

    def step(self, action: Action) -> StepResult: ...

    def distance_to_goal(self) -> float: ...

    def reference_path(self) -> np.ndarray: ...

    def close(self) -> None: ...


class BadEpisode(ValueError):
    """An episode that cannot be walked in its scene."""


class StartOffNavmesh(BadEpisode):
    """The start position is not a place where the agent can stand."""


class UnreachableGoal(BadEpisode):
    """No path leads from the start to the goal."""


class BadObservation(ValueError):
    """A sensor returned something that is no picture: NaN depth, a wrong shape or type."""


class ContractViolation(AssertionError):
    """An environment breaks the contract; the message says which promise."""


def check_observation(observation: Observation, protocol: Protocol) -> None:
    """Raise `BadObservation` unless the pictures have the protocol's size and hold numbers."""
    shape = (protocol.camera.height, protocol.camera.width)
    rgb, depth = observation.rgb, observation.depth
    if rgb.dtype != np.uint8 or rgb.shape != (*shape, 3):
        raise BadObservation(
            f"the {protocol.name} camera gives uint8 frames of {(*shape, 3)}, got {rgb.dtype} {rgb.shape}"
        )
    if depth is None:
        return
    if depth.shape != shape:
        raise BadObservation(f"depth should be {shape} like the frame, got {depth.shape}")
    bad = int((~np.isfinite(depth)).sum() + (depth < 0).sum())
    if bad:
        raise BadObservation(f"depth has {bad} of {depth.size} pixels that are NaN, infinite or negative")


def check_environment(env: Environment, episode: Episode) -> None:
    """Hold ``env`` to every promise of the contract on one episode; raise `ContractViolation` naming the broken one.

    Any environment can be checked, ours and others'. It takes ``protocol.max_steps`` + about 50 steps.
    """
    _check_reset(env, episode)
    _check_turns(env, episode)
    _check_forward(env, episode)
    _check_endings(env, episode)
    _check_determinism(env, episode)


def _promise(kept: bool, promise: str) -> None:
    if not kept:
        raise ContractViolation(promise)


def _refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except RuntimeError:
        return True
    return False


def _position(observation: Observation) -> Point:
    _promise(observation.pose is not None, "observations carry the pose: experts and metrics need it")
    assert observation.pose is not None
    return observation.pose.position


def _check_reset(env: Environment, episode: Episode) -> None:
    first, second = env.reset(episode), env.reset(episode)
    check_observation(first, env.protocol)
    _promise(np.array_equal(first.rgb, second.rgb), "reset gives the same bytes for the same episode")
    offset = float(np.linalg.norm(_position(first) - episode.start.position))
    _promise(offset < 0.5, f"the agent starts at the episode's start, not {offset:.2f} m away")
    _promise(math.isfinite(env.distance_to_goal()), "the goal of a walkable episode is at a finite distance")
    reference = np.asarray(env.reference_path())
    _promise(reference.ndim == 2 and reference.shape[1] == 3, "reference_path() is (R, 3)")


def _check_turns(env: Environment, episode: Episode) -> None:
    before = env.reset(episode)
    kept = before.rgb.copy()
    left, *_ = env.step(Action.TURN_LEFT)
    check_observation(left, env.protocol)
    assert before.pose is not None and left.pose is not None
    _promise(
        np.allclose(left.pose.forward, before.pose.turned(env.protocol.turn_radians).forward, atol=1e-6),
        "TURN_LEFT adds protocol.turn degrees to the heading",
    )
    _promise(np.allclose(_position(left), _position(before), atol=1e-6), "turning does not move the agent")
    _promise(np.array_equal(before.rgb, kept), "later steps do not write into an observation given out earlier")
    back, *_ = env.step(Action.TURN_RIGHT)
    change = np.abs(back.rgb.astype(int) - kept).mean()  # headings add up in floating point: a few pixels may differ
    _promise(change < 1.0, f"a left turn and a right turn give the first frame back; it changed by {change:.2f}/255")


def _check_forward(env: Environment, episode: Episode) -> None:
    before = env.reset(episode)
    for _ in range(min(20, env.protocol.max_steps - 1)):
        after, terminated, _, info = env.step(Action.MOVE_FORWARD)
        moved = float(np.linalg.norm(_position(after) - _position(before)))
        # a step over a stair tread is longer than its horizontal part
        _promise(moved < 1.5 * env.protocol.forward, f"MOVE_FORWARD covers at most protocol.forward, moved {moved:.3f}")
        if terminated:
            _promise(info["forced_stop"], "only STOP terminates an episode")
            return
        free = float(np.linalg.norm((_position(after) - _position(before))[[0, 2]]))
        _promise(info["collided"] or free > 0.9 * env.protocol.forward, "a move that is cut short says collided")
        before = after


def _check_endings(env: Environment, episode: Episode) -> None:
    env.reset(episode)
    _, terminated, truncated, _ = env.step(Action.STOP)
    _promise(terminated and not truncated, "STOP terminates, and does not truncate")
    _promise(_refused(lambda: env.step(Action.TURN_LEFT)), "a step after the end raises RuntimeError")
    env.reset(episode)
    steps, terminated, truncated, info = 0, False, False, {}
    while not (terminated or truncated):
        _, terminated, truncated, info = env.step(Action.TURN_LEFT)
        steps += 1
        _promise(steps <= env.protocol.max_steps, "an episode ends after protocol.max_steps actions")
    if env.protocol.time_out_is == "stop":
        _promise(terminated and info["forced_stop"], "a forced stop terminates and says so")
    else:
        _promise(truncated and not terminated, "running out of steps truncates, and does not terminate")
        _promise(steps == env.protocol.max_steps, "an episode lasts protocol.max_steps actions")


def _check_determinism(env: Environment, episode: Episode) -> None:
    actions = [Action.MOVE_FORWARD, Action.TURN_LEFT, Action.MOVE_FORWARD, Action.TURN_RIGHT, Action.MOVE_FORWARD]

    def walk() -> list[np.ndarray]:
        return [env.reset(episode).rgb, *(env.step(action)[0].rgb for action in actions)]

    _promise(
        all(np.array_equal(a, b) for a, b in zip(walk(), walk(), strict=True)),
        "equal actions from equal episodes give equal frames",
    )
