"""VisMem around a VLM of TINY size that loses sight of its image (nine cells of GridTalk): from nothing, on two cores.

    python recipes/vismem_tiny.py --out runs/vismem              # everything, in order; resumes where it was
    python recipes/vismem_tiny.py --out runs/vismem --dry-run    # print the commands

Policy -> warm start of its memory -> stage II of GRPO, by which it learns when to call it -> its figures. What it gave
is in checkpoints/vismem_tiny/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from running import options, run


@dataclass(frozen=True)
class Recipe:
    """The numbers of the shipped run."""

    size: str = "small"
    policy_steps: int = 1200
    memory_steps: int = 800
    call_steps: int = 120
    cost: float = 0.05
    """Of a call, in stage II."""
    seed: int = 0
    """Of the memory."""
    modes: tuple[str, ...] = ("off", "learned", "always+short", "always+long", "relook")
    lone: tuple[str, ...] = ("", "+constant", "+wrong-image", "+wrong-question")
    """The gate: what the latents of one memory, at the last question, are made of."""


def commands(out: Path, recipe: Recipe) -> list[str]:
    """Every command of the run, in order, as one would type it."""
    policy, warm, seed = out / "policy", out / "warm", recipe.seed
    test = f"dualsight eval --suite gridtalk --model {out} --seed 4321"
    return [
        f"dualsight train policy --size {recipe.size} --steps {recipe.policy_steps} --out {policy}",
        f"dualsight train memory --vlm {policy} --steps {recipe.memory_steps} --seed {seed} --out {warm}",
        f"dualsight train grpo --stage invocation --vlm {policy} --memory {warm} --out {out}/memory "
        f"--steps {recipe.call_steps} --learning-rate 0.003 --cost {recipe.cost} --answer 16 --seed {seed}",
        *(f"{test} --count 256 --memory {mode}" for mode in recipe.modes),
        *(f"{test} --count 2048 --memory always+{kind}+lone{of}" for kind in ("short", "long") for of in recipe.lone),
    ]


def main() -> None:
    given = options(__doc__, "runs/vismem").parse_args()
    run(commands(given.out, Recipe()), given.dry_run)


if __name__ == "__main__":
    main()
