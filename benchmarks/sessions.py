"""How much more does a batch of sessions get done than one? TINY in ``paper`` behaviour with full memories, in one run.

Sessions differ in instruction length and step, as they do in an evaluation. One session and the batch take turns.

    python benchmarks/sessions.py --sessions 8
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from dualsight.bench.speed import medians, save_result, take_turns
from dualsight.models.janus_vln import TINY, DualMemory, JanusVLN

AT_LEAST = 2.0
"""Times the throughput of one session that a batch of eight must reach."""


def full_memory(model: JanusVLN, sessions: int) -> DualMemory:
    """Sessions with prompts of 40 tokens and more, each one frame further than the one before it."""
    lengths = 40 + 8 * torch.arange(sessions)
    memory = model.start(model.new_memory(sessions), torch.randint(7, 1000, (sessions, int(lengths.max()))), lengths)
    frames = model.config.initial + model.config.recent + 1
    for late in range(sessions):  # session 0 begins first
        step_of(model, memory, list(range(late + 1)))()
    for _ in range(frames):
        step_of(model, memory)()
    return memory


def step_of(model: JanusVLN, memory: DualMemory, rows: list[int] | None = None) -> Callable[[], object]:
    frames, previous = torch.rand(memory.batch, 3, 112, 112), torch.full((memory.batch, 1), 8)
    return lambda: model.step(frames, memory, previous, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/sessions.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, console = JanusVLN(TINY).eval(), Console()
    with console.status("walking"):
        runs = {str(sessions): step_of(model, full_memory(model, sessions)) for sessions in (1, args.sessions)}
        seconds = medians(take_turns(runs, args.rounds))
    each = {name: value / int(name) for name, value in seconds.items()}
    ratio = each["1"] / each[str(args.sessions)]

    table = Table(title="Steps of TINY, CPU time")
    for column in ("sessions", "ms a session", "steps/s"):
        table.add_column(column, justify="right")
    for name, value in each.items():
        table.add_row(name, f"{1000 * value:.2f}", f"{1 / value:.0f}")
    console.print(table)
    print(f"ratio {ratio:.2f}")
    save_result(
        args.out,
        {"sessions": args.sessions, "rounds": args.rounds, "seconds_per_session_step": each, "ratio": ratio},
    )
    print(f"written to {args.out}")
    if args.sessions >= 8 and ratio < AT_LEAST:
        raise SystemExit(f"a batch of {args.sessions} must do at least {AT_LEAST} times the steps of one session")


if __name__ == "__main__":
    main()
