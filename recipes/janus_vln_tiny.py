"""JanusVLN TINY in generated houses (no row of the paper: a model of its size, trained from nothing on two CPU cores).

    python recipes/janus_vln_tiny.py --out runs/tiny              # everything, in order; resumes where it was
    python recipes/janus_vln_tiny.py --out runs/tiny --dry-run    # print the commands

Stages, as in `dualsight.train.stages`: walks -> semantic and spatial pre-training -> expert trajectories -> imitation
-> DAgger rounds, each of the learner's own walks labelled by the expert, then imitation on all trajectories so far.
Each command can be killed: running the recipe again goes on. This is the way from nothing, with what was learnt on the
way there; the shipped weights came by a longer one, told command by command in checkpoints/janus_vln_tiny/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from running import options, run


@dataclass(frozen=True)
class Round:
    """One DAgger round: the houses it walks in, how often the expert acts, and the imitation after it."""

    houses: str
    per_house: int
    beta: float
    steps: int
    learning_rate: float = 5e-4


@dataclass(frozen=True)
class Recipe:
    """How much of everything."""

    processes: int = 2
    """One thread each: on CPU, as many as there are cores."""
    walk_houses: str = "5000:5200"
    walks_per_house: int = 60
    pathway_steps: int = 4800
    walk_batch: int = 16
    """Walks of eight frames per step of the two pre-trainings, which run in one process."""
    expert: tuple[tuple[str, int], ...] = (("0:180", 12), ("4400:4560", 25))
    """Houses of the expert's walks, and how many in each."""
    disturbed: float = 0.7
    """Share of these in which it has to come back."""
    instructions: int = 4
    batch: int = 8
    """Episodes per step and process."""
    imitation_steps: int = 1300
    learning_rate: float = 1e-3
    rounds: tuple[Round, ...] = (
        Round("3000:3020", 10, 0.1, 520, 6e-4),
        Round("3020:3042", 10, 0.1, 540, 6e-4),
        Round("3042:3064", 10, 0.1, 1400, 6e-4),
        Round("3064:3088", 10, 0.3, 1150, 6e-4),
        Round("4000:4130", 10, 0.25, 450, 8e-4),
        Round("4240:4284", 10, 0.15, 900, 8e-4),
        Round("4300:4370", 10, 0.1, 1300, 8e-4),
    )


def commands(out: Path, recipe: Recipe) -> list[str]:
    """Every command of the run, in order, as one would type it; those with torchrun share the work."""
    expert, features, walks = out / "expert", out / "features", out / "walks"
    several = f"torchrun --nproc_per_node {recipe.processes} -m dualsight.cli"

    def imitate(sets: list[Path], to: Path, steps: int, rate: float, start: str) -> str:
        data = ",".join(map(str, sets))
        return (
            f"{several} train imitate --data [{data}] --features {features} --out {to} --steps {steps} "
            f"--batch {recipe.batch} --learning-rate {rate} --mirror true {start}"
        )

    plan = [
        f"dualsight data walks --out {walks} --house-seeds {recipe.walk_houses} "
        f"--walks-per-house {recipe.walks_per_house}",
        *(
            f"dualsight train {pathway} --walks {walks} --out {out}/{pathway} --steps {recipe.pathway_steps} "
            f"--batch {recipe.walk_batch} --learning-rate 0.001"
            for pathway in ("semantic", "spatial")
        ),
        *(
            f"dualsight data house --out {expert} --house-seeds {houses} --name e- --episodes-per-house {each} "
            f"--instructions {recipe.instructions} --disturbed {recipe.disturbed}"
            for houses, each in recipe.expert
        ),
        imitate(
            [expert],
            out / "bc",
            recipe.imitation_steps,
            recipe.learning_rate,
            f"--spatial {out}/spatial --semantic {out}/semantic",
        ),
    ]
    sets, model = [expert], out / "bc"
    for number, turn in enumerate(recipe.rounds, 1):
        walked, following = out / f"d{number}", out / f"bc{number}"
        plan.append(
            f"dualsight train dagger --init {model} --out {walked} --house-seeds {turn.houses} "
            f"--episodes-per-house {turn.per_house} --instructions {recipe.instructions} --beta {turn.beta} "
            f"--name d{number}- --seed {number}"
        )
        # The newest walks count twice: they show what the learner still gets wrong.
        plan.append(imitate([*sets, walked, walked], following, turn.steps, turn.learning_rate, f"--init {model}"))
        sets.append(walked)
        model = following
    plan.append(f"dualsight eval --out {out}/val_unseen --agent {model} --houses 30 --episodes-per-house 10")
    return plan


def main() -> None:
    parser = options(__doc__, "runs/tiny")
    given = parser.parse_args()
    run(commands(given.out, Recipe()), given.dry_run)


if __name__ == "__main__":
    main()
