"""Evaluate an agent in generated houses: the work behind ``dualsight eval`` and ``dualsight demo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.table import Table

from dualsight.bench.provenance import weights_sha256
from dualsight.bench.vlnce import evaluate
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.houses import house_episodes
from dualsight.envs.protocols import Protocol
from dualsight.inference.navigator import NavigatorAgent
from dualsight.inference.rollout import Agent, ExpertAgent, ForwardAgent, RandomAgent, Subscriber
from dualsight.types import Episode

METRICS = {
    "SR": "%",
    "SPL": "%",
    "OS": "%",
    "nDTW": "%",
    "sDTW": "%",
    "NE": "m",
    "TL": "m",
    "steps": "",
    "collisions": "",
}
"""Rows of the table, with their units."""
SIMPLE = ("expert", "random", "forward")
"""Agents that need no checkpoint."""


def build_episodes(house_seeds: Sequence[int], per_house: int, rules: Protocol, seed: int = 0) -> list[Episode]:
    """``per_house`` episodes in each house, with live progress: a house takes a second or two the first time."""
    return [
        episode
        for house_seed in track(house_seeds, "building houses", transient=True)
        for episode in house_episodes([house_seed], per_house, seed, rules=rules)
    ]


def make_agent(name: str, control: str, envs: Sequence[HouseEnvironment], **options: bool) -> Agent:
    """Who acts in ``envs``: "expert", "random", "forward", or the navigator of a checkpoint folder.

    Args:
        options: ``tryout`` and ``mirror`` of a navigator.

    Raises:
        ValueError: a control or an option is asked of an agent that is no navigator.
        CheckpointError: the folder holds no navigator.
    """
    if name not in SIMPLE:
        return NavigatorAgent.from_pretrained(name, len(envs), control=control, **options)
    if control != "none":
        raise ValueError(f"control {control!r} is for navigators: the {name} agent neither sees nor is told anything")
    for option in _wanted(options):
        raise ValueError(f"{option} is for navigators: the {name} agent does not go by what it sees")
    return {"expert": ExpertAgent(envs), "random": RandomAgent(), "forward": ForwardAgent()}[name]


def describe_agent(name: str, control: str, **options: bool) -> dict:
    """What a results file says of an agent; of a navigator the name of its folder, which can be moved, and its weights'
    hash, since it can be trained anew."""
    described = {"agent": Path(name).name, "control": control, **_wanted(options)}
    if name not in SIMPLE:
        described["weights_sha256"] = weights_sha256(Path(name))
    return described


def _wanted(options: dict[str, bool]) -> dict[str, bool]:
    """Those that were switched on: results of before an option was there stay comparable."""
    return {name: True for name, on in options.items() if on}


def evaluate_houses(
    out: Path,
    agent: Agent,
    envs: Sequence[HouseEnvironment],
    episodes: Sequence[Episode],
    config: dict,
    subscribers: Sequence[Subscriber] = (),
) -> dict | None:
    """Evaluate with live progress and print the table; returns the results, or None while other processes walk.

    Args:
        config: what ``describe_agent`` says of ``agent``.
    """
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    reached = walked = 0
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("walking", total=len(episodes))

        def on_episode(record: dict, done: int, total: int) -> None:
            nonlocal reached, walked
            reached, walked = reached + bool(record["success"]), walked + 1
            progress.console.print(episode_line(record), soft_wrap=True, highlight=False)
            progress.update(task, completed=done, total=total, description=f"reached {reached} of {walked}")

        results = evaluate(agent, envs, episodes, out, config, subscribers, on_episode)
    if results is not None:
        if results["unparsed"]:
            console.print(f"[yellow]{results['unparsed']} answers were no action[/]; the agent turned left instead")
        name = config["agent"]
        console.print(
            summary_table({f"{name} ({config['control']})" if config["control"] != "none" else name: results})
        )
    return results


def episode_line(record: dict) -> str:
    """One episode as a line of the console: how it ended, where, and the beginning of what was asked."""
    mark = "[green]reached[/]" if record["success"] else "[red]missed [/]"
    end = "no way there" if record["ne"] is None else f"{record['steps']:3} steps, {record['ne']:4.1f} m off"
    text = record["episode_instruction"]
    return f"{mark} {record['scene_id']}  {end}  [dim]{escape(text[:70] + '...' if len(text) > 73 else text)}[/]"


def summary_table(results: dict[str, dict]) -> Table:
    """A column per agent, a row per metric: its mean and 95 % interval."""
    table = Table(
        "", *(f"{escape(name)}, {result['summary']['episodes']} episodes" for name, result in results.items())
    )
    for metric, unit in METRICS.items():
        estimates = [result["summary"][metric] for result in results.values()]
        cells = [
            "-" if e is None else f"{e['mean']:6.1f}  [dim]{e['low']:.1f} to {e['high']:.1f}[/]" for e in estimates
        ]
        table.add_row(f"{metric} {unit}", *cells)
    return table


def last_line(results: dict) -> str:
    """``episodes=20 SR=55.0 SPL=48.1 nDTW=51.2``, for machines."""
    summary = results["summary"]
    figures = " ".join(f"{name}={summary[name]['mean']:.1f}" for name in ("SR", "SPL", "nDTW"))
    return f"episodes={summary['episodes']} {figures}"
