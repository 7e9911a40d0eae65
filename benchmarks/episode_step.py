"""Does a step cost the same late in an episode? TINY in ``paper`` behaviour, a memory of 8 + 48 frames, in one run.

One session is copied at frame 60, when its memory is full, and goes on to frame 400. Then both take steps in turn, so
that a busy machine slows both. The cost must be flat, and the memory of the process must not grow in between.

    python benchmarks/episode_step.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from dualsight.bench.speed import medians, resident_bytes, save_result, take_turns
from dualsight.models.janus_vln import TINY, DualMemory, JanusVLN

FLAT = 1.05
"""The late step may cost this many times the early one."""
GROWTH = 4e6
"""Bytes that a process may grow by on its own: allocator, caches of libraries."""


def start(model: JanusVLN) -> DualMemory:
    return model.start(model.new_memory(), torch.randint(7, 1000, (1, 80)), torch.tensor([80]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--early", type=int, default=60)
    parser.add_argument("--late", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=60, help="timed steps of each")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/episode_step.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, frame, previous = JanusVLN(TINY).eval(), torch.rand(1, 3, 112, 112), torch.full((1, 1), 8)
    memory = start(model)

    def advance(session: DualMemory, frames: int) -> int:
        """Resident bytes, at most, while a session sees so many frames."""
        most = 0
        for _ in range(frames):
            model.step(frame, session, previous)
            most = max(most, resident_bytes())
        return most

    console = Console()
    with console.status("walking"):
        most_early = advance(memory, args.early)
        early = memory.fork()
        most_early = max(most_early, advance(early.fork(), 5))  # the copies themselves are not growth
        most_late = advance(memory, args.late - args.early)
        seconds = medians(
            take_turns({"early": lambda: advance(early, 1), "late": lambda: advance(memory, 1)}, args.rounds)
        )
    ratio, growth = seconds["late"] / seconds["early"], most_late - most_early

    table = Table(title="One step of TINY, CPU time")
    for column in ("", "frames", "median ms"):
        table.add_column(column, justify="right")
    for name, first in (("early", args.early), ("late", args.late)):
        table.add_row(name, f"{first} to {first + args.rounds}", f"{1000 * seconds[name]:.2f}")
    console.print(table)
    print(f"ratio {ratio:.3f}; memory {memory.nbytes / 1e6:.1f} MB throughout; process grew by {growth / 1e6:.1f} MB")
    save_result(
        args.out,
        {"early": args.early, "late": args.late, "rounds": args.rounds, "seconds": seconds, "ratio": ratio,
         "memory_bytes": memory.nbytes, "growth_bytes": growth},
    )  # fmt: skip
    print(f"written to {args.out}")
    if ratio > FLAT or growth > GROWTH:
        raise SystemExit(f"a late step must cost at most {FLAT} times an early one, and take no more memory")


if __name__ == "__main__":
    main()
