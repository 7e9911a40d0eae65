"""Janus TINY on generated scenes and rooms (no row of the paper: a model of its size, trained from nothing on CPU).

    python recipes/janus_tiny.py --out runs/janus              # everything, in order; resumes where it was
    python recipes/janus_tiny.py --out runs/janus --dry-run    # print the commands

Stages: pictures of rooms -> image tokenizer -> understanding encoder, on captions and then on what every patch shows
-> a new model -> stages I, II and III of the paper -> both suites. It draws scenes, and is asked about scenes and
rooms: 64 tokens say too little of a room. The published learning rates are for models of a billion parameters;
`--recipe tiny` has those for this one. Each command can be killed: running the recipe again goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from running import options, run


@dataclass(frozen=True)
class Recipe:
    """The numbers of the run. The stages' steps are of two processes with one thread each."""

    processes: int = 2
    rooms: str = "0:160"
    codec_steps: int = 2500
    encoder_steps: int = 800
    figures_steps: int = 3400
    stages: tuple[tuple[str, int], ...] = (("I", 60), ("II", 2000), ("III", 5600))
    """Stage, steps."""
    batch: int = 32
    bf16: bool = True
    """For a processor that has instructions for it; slow on others."""


def commands(out: Path, recipe: Recipe, generation: str = "vq") -> list[str]:
    """Every command of the run, in order, as one would type it; those with torchrun share the work."""
    several = f"torchrun --nproc_per_node {recipe.processes} -m dualsight.cli"
    data = f"--data [scenes,room-talk:{out}/rooms]"
    fast = f"--workers 1 --bf16 {str(recipe.bf16).lower()}"
    kind = "vae" if generation == "dit" else "vq"
    plan = [
        f"dualsight data rooms --out {out}/rooms --house-seeds {recipe.rooms}",
        f"dualsight train codec --data scenes --kind {kind} --out {out}/{kind} --steps {recipe.codec_steps}",
        f"dualsight train encoder --data [scenes,rooms:{out}/rooms] --out {out}/encoder "
        f"--steps {recipe.encoder_steps} --batch 64",
        f"dualsight train encoder --data scenes --lesson figures --init {out}/encoder --out {out}/figures "
        f"--steps {recipe.figures_steps} --batch 64 --learning-rate 0.002 {fast}",
        f"dualsight train new {data} --out {out}/{generation}-new --codec {out}/{kind} --encoder {out}/figures "
        f"--generation {generation}",
    ]
    model = out / f"{generation}-new"
    for number, (stage, steps) in enumerate(recipe.stages):
        following = out / f"{generation}-{stage}"
        plan.append(
            f"{several} train janus --init {model} {data} --out {following} --recipe tiny --stage {stage} "
            f"--steps {steps} --batch {recipe.batch} --capacity 240 {fast} "
            f"--seed {42 + number}"  # examples follow from the seed: each stage has its own
        )
        model = following
    plan += [f"dualsight eval --suite {suite} --model {model} --seed 7" for suite in ("janus-house", "geneval-shapes")]
    return plan


def main() -> None:
    parser = options(__doc__, "runs/janus")
    parser.add_argument("--generation", choices=("vq", "dit"), default="vq")
    given = parser.parse_args()
    run(commands(given.out, Recipe(), given.generation), given.dry_run)


if __name__ == "__main__":
    main()
