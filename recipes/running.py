"""What recipes share: their options, and one command after the other."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import torch


def options(description: str | None, out: str) -> argparse.ArgumentParser:
    """``--out`` and ``--dry-run``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    return parser


def run(commands: list[str], dry_run: bool) -> None:
    """Print and run ``dualsight ...`` and ``torchrun ...``, one thread to a process, until one fails."""
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    if not torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"
    for command in commands:
        print(command, flush=True)
        if not dry_run:
            tool, *arguments = shlex.split(command)
            module = {"dualsight": "dualsight.cli", "torchrun": "torch.distributed.run"}[tool]
            subprocess.run([sys.executable, "-m", module, *arguments], check=True, env=environment)
