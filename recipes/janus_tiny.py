"""Janus TINY on generated scenes and rooms (no row of the paper: a model of its size, trained from nothing on CPU).

    python recipes/janus_tiny.py --out runs/janus              # everything, in order; resumes where it was
    python recipes/janus_tiny.py --out runs/janus --dry-run    # print the commands

Stages: pictures of rooms -> image tokenizer -> understanding encoder, on captions and then on what every patch shows
-> a new model -> stages I, II and III of the paper -> both suites. Then the second way of making images: an
autoencoder -> a diffusion transformer in place of the tokens, which alone learns -> the suite of drawings. Both draw
scenes, and are asked about scenes and rooms: 64 tokens say too little of a room. The published learning rates are for
models of a billion parameters; `--recipe tiny` has those for this one. Each command can be killed: running the recipe
again goes on.
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
    vae_steps: int = 1800
    swap_steps: int = 8000
    swap_batch: int = 16
    bf16: bool = True
    """For a processor that has instructions for it; slow on others."""
    compiled: bool = True
    """Needs a C++ compiler."""


def commands(out: Path, recipe: Recipe) -> list[str]:
    """Every command of the run, in order, as one would type it; those with torchrun share the work."""
    fast = f"--workers 1 --bf16 {str(recipe.bf16).lower()}"
    fused = f"{fast} --compiled {str(recipe.compiled).lower()}"
    several = f"torchrun --nproc_per_node {recipe.processes} -m dualsight.cli train janus --recipe tiny --capacity 240"
    data = f"--data [scenes,room-talk:{out}/rooms]"
    plan = [
        f"dualsight data rooms --out {out}/rooms --house-seeds {recipe.rooms}",
        f"dualsight train codec --data scenes --kind vq --out {out}/vq --steps {recipe.codec_steps}",
        f"dualsight train encoder --data [scenes,rooms:{out}/rooms] --out {out}/encoder "
        f"--steps {recipe.encoder_steps} --batch 64",
        f"dualsight train encoder --data scenes --lesson figures --init {out}/encoder --out {out}/figures "
        f"--steps {recipe.figures_steps} --batch 64 --learning-rate 0.002 {fast}",
        f"dualsight train new {data} --out {out}/new --codec {out}/vq --encoder {out}/figures",
    ]
    model = out / "new"
    for number, (stage, steps) in enumerate(recipe.stages):
        following = out / stage
        plan.append(
            f"{several} --init {model} {data} --out {following} --stage {stage} --steps {steps} "
            f"--batch {recipe.batch} {fused} --seed {42 + number}"  # examples follow from the seed: each has its own
        )
        model = following
    plan += [
        f"dualsight eval --suite janus-house --model {model} --seed 7",
        f"dualsight eval --suite geneval-shapes --model {model} --seed 7 --guidance 2",
        f"dualsight train codec --data scenes --kind vae --out {out}/vae --steps {recipe.vae_steps}",
        f"dualsight train swap --init {model} --codec {out}/vae --out {out}/new-dit",
        f"{several} --init {out}/new-dit --data scenes --out {out}/dit --stage swap --steps {recipe.swap_steps} "
        f"--batch {recipe.swap_batch} {fused} --align-after 3 --seed 45",
        f"dualsight eval --suite geneval-shapes --model {out}/dit --seed 7",
    ]
    return plan


def main() -> None:
    given = options(__doc__, "runs/janus").parse_args()
    run(commands(given.out, Recipe()), given.dry_run)


if __name__ == "__main__":
    main()
