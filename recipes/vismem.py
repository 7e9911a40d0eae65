"""VisMem around a VLM of TINY size that loses sight of its image (GridTalk): from nothing, on two cores.

    python recipes/vismem.py --size small --out runs/vismem     # nine cells, colours; resumes where it was
    python recipes/vismem.py --size full --out runs/vismem      # 36 cells, five types of questions
    python recipes/vismem.py --size full --dry-run              # print the commands

Policy -> warm start of its memory -> stage II of GRPO, by which it learns when to call it -> its figures. What came out
is in checkpoints/vismem_tiny/README.md and checkpoints/vismem_full/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from running import options, run

TWO = "torchrun --nproc_per_node 2 -m dualsight.cli"


@dataclass(frozen=True)
class Recipe:
    """The numbers of a shipped run."""

    tool: str
    """What trains policy and memory."""
    policy: tuple[str, ...]
    """One after the other, each from the one before it."""
    memory: str
    """Its warm start."""
    calls: str
    """Stage II."""
    count: int
    """Talks that the gate asks."""


RECIPES = {
    "small": Recipe(
        "dualsight",
        ("--size small --steps 1200",),
        "--steps 800",
        "--steps 120 --learning-rate 0.003 --cost 0.05 --answer 16",
        2048,
    ),
    "full": Recipe(
        TWO,
        (
            "--size full --batch 32 --steps 4000 --interleaved 0.2",
            "--size full --batch 32 --steps 800 --learning-rate 0.001 --interleaved 0.5",
        ),
        "--batch 24 --steps 2200",
        "--batch 4 --steps 400 --learning-rate 0.008 --cost 0.05 --answer 16",
        1024,
    ),
}
MODES = ("off", "learned", "always+short", "always+long", "relook")
LONE = ("", "+constant", "+wrong-image", "+wrong-question")
"""The gate: what the latents of one memory, at the last question, are made of."""


def commands(out: Path, recipe: Recipe, seed: int) -> list[str]:
    """Every command of the run, in order, as one would type it.

    Args:
        seed: of the memory.
    """
    policy, warm, test = out / "policy", out / "warm", f"dualsight eval --suite gridtalk --model {out} --seed 4321"
    return [
        *(f"{recipe.tool} train policy {part}" for part in _chain(recipe.policy, policy)),
        f"{recipe.tool} train memory --vlm {policy} {recipe.memory} --seed {seed} --out {warm}",
        f"{recipe.tool} train grpo --stage invocation --vlm {policy} --memory {warm} {recipe.calls} --seed {seed} "
        f"--out {out}/memory",
        *(f"{test} --count 256 --memory {mode}" for mode in MODES),
        *(
            f"{test} --count {recipe.count} --memory always+{kind}+lone{of}"
            for kind in ("short", "long")
            for of in LONE
        ),
    ]


def _chain(parts: Sequence[str], last: Path) -> list[str]:
    """One after the other, each from the one before it."""
    folders = [*(last.with_name(f"{last.name}{part}") for part in range(1, len(parts))), last]
    begins = ["", *(f" --init {folder}" for folder in folders[:-1])]
    return [f"{part}{begin} --out {folder}" for part, begin, folder in zip(parts, begins, folders, strict=True)]


def main() -> None:
    parser = options(__doc__, "runs/vismem")
    parser.add_argument("--size", choices=RECIPES, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the memory")
    given = parser.parse_args()
    run(commands(given.out, RECIPES[given.size], given.seed), given.dry_run)


if __name__ == "__main__":
    main()
