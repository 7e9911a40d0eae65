"""JanusVLN TINY in generated houses (no row of the paper: a model of its size, trained from nothing on two CPU cores).

    python recipes/janus_vln_tiny.py --out runs/tiny              # everything, in order; resumes where it was
    python recipes/janus_vln_tiny.py --out runs/tiny --dry-run    # print the commands

Stages, as in `dualsight.train.stages`: walks -> semantic and spatial pre-training -> expert trajectories -> imitation
-> DAgger rounds, each of the learner's own walks labelled by the expert, then imitation on all trajectories so far.
Each command can be killed: running the recipe again goes on. What it gave is in checkpoints/janus_vln_tiny/README.md.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """The numbers of the shipped run."""

    walk_houses: str = "0:44"
    walks_per_house: int = 50
    semantic_steps: int = 750
    spatial_steps: int = 700
    houses: int = 160
    episodes_per_house: int = 12
    imitation_steps: int = 2000
    rounds: tuple[tuple[str, float, int], ...] = (("1000:1060", 0.3, 1500), ("2000:2060", 0.1, 1500))
    """DAgger: the houses of a round, how often the expert acts, steps of imitation after it."""


def commands(out: Path, recipe: Recipe) -> list[str]:
    """Every command of the run, in order."""
    data, features, walks = out / "expert", out / "features", out / "walks"
    plan = [
        f"data walks --out {walks} --house-seeds {recipe.walk_houses} --walks-per-house {recipe.walks_per_house}",
        f"train semantic --walks {walks} --out {out}/semantic --steps {recipe.semantic_steps}",
        f"train spatial --walks {walks} --out {out}/spatial --steps {recipe.spatial_steps}",
        f"data house --out {data} --houses {recipe.houses} --episodes-per-house {recipe.episodes_per_house}",
        f"train imitate --data [{data}] --features {features} --out {out}/imitation --steps {recipe.imitation_steps} "
        f"--spatial {out}/spatial --semantic {out}/semantic",
    ]
    sets, model = [data], out / "imitation"
    for number, (seeds, beta, steps) in enumerate(recipe.rounds, 1):
        sets.append(out / f"dagger{number}")
        plan.append(
            f"train dagger --init {model} --out {sets[-1]} --house-seeds {seeds} --beta {beta} --name dagger{number}-"
        )
        following = out / f"imitation{number}"
        plan.append(
            f"train imitate --data [{','.join(map(str, sets))}] --features {features} --out {following} "
            f"--steps {steps} --learning-rate 0.0005 --init {model}"
        )
        model = following
    plan.append(f"eval --out {out}/val_unseen --agent {model} --split val_unseen --houses 30 --episodes-per-house 10")
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    for command in commands(options.out, Recipe()):
        print(f"dualsight {command}", flush=True)
        if not options.dry_run:
            subprocess.run([sys.executable, "-m", "dualsight.cli", *shlex.split(command)], check=True)


if __name__ == "__main__":
    main()
