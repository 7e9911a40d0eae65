"""Steps a second of the shipped TINY navigator in generated houses: render, prepare, think, walk.

CPU time of one thread, by part. Houses are built before the clock starts; instructions are real, the walks are the
navigator's own.

    python benchmarks/end_to_end.py --sessions 8
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from dualsight.bench.house import build_episodes
from dualsight.bench.speed import clock, save_result
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.houses import choose_houses
from dualsight.envs.protocols import HOUSE
from dualsight.inference.navigator import NavigatorAgent
from dualsight.inference.rollout import rollouts


class Stopwatch:
    """Adds up the seconds spent in the functions it times."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def times(self, function: Callable) -> Callable:
        @wraps(function)
        def timed(*args, **kwargs):
            start = clock()
            result = function(*args, **kwargs)
            self.seconds += clock() - start
            return result

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/janus_vln_tiny"))
    parser.add_argument("--sessions", type=int, default=8, help="episodes walked side by side")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/end_to_end.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    episodes = build_episodes(choose_houses("val_unseen", None, args.episodes), 1, HOUSE)
    sessions = min(args.sessions, len(episodes))
    agent = NavigatorAgent.from_pretrained(args.checkpoint, sessions)
    envs = [HouseEnvironment(HOUSE) for _ in range(sessions)]
    navigator, world = Stopwatch(), Stopwatch()
    agent.act = navigator.times(agent.act)
    for env in envs:
        env.step = world.times(env.step)
    start = clock()
    results = list(rollouts(envs, agent, episodes))
    seconds, steps = clock() - start, sum(result.metrics.steps for result in results)
    parts = {"navigator": navigator.seconds, "world": world.seconds}
    parts["beginnings and metrics"] = seconds - sum(parts.values())

    table = Table(title=f"{steps} steps of {len(results)} episodes, {sessions} at a time, CPU time of one thread")
    for column in ("", "ms a step", "share"):
        table.add_column(column, justify="right")
    for name, value in parts.items():
        table.add_row(name, f"{1000 * value / steps:.2f}", f"{value / seconds:.0%}")
    Console().print(table)
    print(f"{steps / seconds:.0f} steps/s")
    save_result(
        args.out,
        {"sessions": sessions, "episodes": len(results), "steps": steps, "seconds": parts,
         "steps_per_second": steps / seconds},
    )  # fmt: skip
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
