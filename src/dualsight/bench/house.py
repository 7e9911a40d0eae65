"""Evaluate an agent in generated houses: the command behind ``dualsight eval`` and ``dualsight demo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dualsight.bench.vlnce import evaluate
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.protocols import Protocol
from dualsight.inference.navigator import NavigatorAgent
from dualsight.inference.rollout import Agent, ExpertAgent, ForwardAgent, RandomAgent, Subscriber
from dualsight.types import Episode

COLUMNS = ("SR", "SPL", "OS", "nDTW", "sDTW", "NE", "TL", "steps", "collisions")


def make_agent(name: str, control: str, envs: Sequence[HouseEnvironment]) -> Agent:
    """Who acts in ``envs``: "expert", "random", "forward", or the navigator of a checkpoint folder.

    Raises:
        ValueError: a control is asked of an agent that is no navigator.
        CheckpointError: the folder holds no navigator.
    """
    simple = {"expert": ExpertAgent(envs), "random": RandomAgent(), "forward": ForwardAgent()}
    if name not in simple:
        return NavigatorAgent.from_pretrained(name, len(envs), control=control)
    if control != "none":
        raise ValueError(f"control {control!r} is for navigators: the {name} agent neither sees nor is told anything")
    return simple[name]


def evaluate_houses(
    out: Path,
    agent: str,
    episodes: Sequence[Episode],
    protocol: Protocol,
    control: str = "none",
    rows: int = 4,
    subscribers: Sequence[Subscriber] = (),
    config: dict | None = None,
) -> dict | None:
    """Evaluate with live progress and print the table; returns the results, or None while other processes walk."""
    console = Console()
    envs = [HouseEnvironment(protocol) for _ in range(rows)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    reached = walked = 0
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("walking", total=len(episodes))

        def on_episode(record: dict, done: int, total: int) -> None:
            nonlocal reached, walked
            reached, walked = reached + bool(record["success"]), walked + 1
            description = f"reached {reached} of {walked}"
            progress.update(task, completed=done, total=total, description=description)

        results = evaluate(
            make_agent(agent, control, envs),
            envs,
            episodes,
            out,
            config={"agent": agent, "control": control} | (config or {}),
            subscribers=subscribers,
            on_episode=on_episode,
        )
    if results is not None:
        console.print(summary_table({f"{agent} ({control})" if control != "none" else agent: results}))
    return results


def summary_table(results: dict[str, dict]) -> Table:
    """One row per agent, a mean and its 95 % interval per metric."""
    table = Table("agent", "episodes", *COLUMNS)
    for name, result in results.items():
        summary = result["summary"]
        cells = [
            "-" if (e := summary[column]) is None else f"{e['mean']:.1f}\n[dim]{e['low']:.1f}-{e['high']:.1f}[/]"
            for column in COLUMNS
        ]
        table.add_row(name, str(summary["episodes"]), *cells)
    return table


def last_line(results: dict) -> str:
    """``episodes=20 SR=55.0 SPL=48.1 nDTW=51.2``, for machines."""
    summary = results["summary"]
    figures = " ".join(f"{name}={summary[name]['mean']:.1f}" for name in ("SR", "SPL", "nDTW"))
    return f"episodes={summary['episodes']} {figures}"
