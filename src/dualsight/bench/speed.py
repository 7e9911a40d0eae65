"""What the speed benchmarks share: fair clocks, turns, and where a result is written."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import torch

from dualsight.data.files import write_json


def clock(device: torch.device | str = "cpu") -> float:
    """Seconds: CPU time of this process, so that what else the machine does is not counted; wall time on a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def take_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each run in each round. They take turns, so that a slower machine is slower for all of them; one
    round before the first is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-1, rounds):
        for name, run in runs.items():
            start = clock(device)
            run()
            if turn >= 0:
                seconds[name].append(clock(device) - start)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    return psutil.Process().memory_info().rss


def save_result(path: Path, result: dict) -> None:
    """Write a result and the machine it was made on as JSON, whole or not at all."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    write_json(path, {**result, "machine": machine})
