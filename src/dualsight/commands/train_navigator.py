"""Training a navigator: ``train spatial | semantic | imitate | dagger | rounds``."""

from __future__ import annotations

from pathlib import Path

from jsonargparse.typing import PositiveInt


def spatial(
    walks: Path,
    out: Path,
    steps: PositiveInt = 3000,
    batch: PositiveInt = 8,
    learning_rate: float = 1e-3,
    init: Path | None = None,
    bf16: bool = False,
    seed: int = 42,
) -> None:
    """Pre-train the TINY spatial pathway (VGGT) on depth, poses and points.

    Args:
        walks: what `data walks` wrote.
        out: checkpoints, and the weights at the end. The same command resumes.
        steps: of the optimiser.
        batch: walks per step and process.
        learning_rate: its peak.
        init: a navigator whose pathway is trained on, instead of a new one.
        bf16: compute in bfloat16, where the processor has it.
        seed: of weights and order.
    """
    from dualsight.train.stages import spatial
    from dualsight.train.trainer import Run

    spatial(walks, Run(out, steps, learning_rate, batch, seed=seed, bf16=bf16, matrices=r"blocks\."), init=init)


def semantic(
    walks: Path,
    out: Path,
    steps: PositiveInt = 3000,
    batch: PositiveInt = 8,
    learning_rate: float = 1e-3,
    init: Path | None = None,
    bf16: bool = False,
    seed: int = 42,
) -> None:
    """Pre-train the TINY semantic pathway (the ViT) on what each patch shows.

    Args:
        walks: what `data walks` wrote.
        out: checkpoints, and the weights at the end. The same command resumes.
        steps: of the optimiser.
        batch: walks per step and process.
        learning_rate: its peak.
        init: a navigator whose pathway is trained on, instead of a new one.
        bf16: compute in bfloat16, where the processor has it.
        seed: of weights and order.
    """
    from dualsight.train.stages import semantic
    from dualsight.train.trainer import Run

    semantic(walks, Run(out, steps, learning_rate, batch, seed=seed, bf16=bf16, matrices=r"blocks\."), init=init)


def imitate(
    data: list[Path],
    features: Path,
    out: Path,
    steps: PositiveInt = 4000,
    batch: PositiveInt = 16,
    learning_rate: float = 1e-3,
    spatial: Path | None = None,
    semantic: Path | None = None,
    init: Path | None = None,
    mirror: bool = False,
    bf16: bool = False,
    workers: int = 0,
    seed: int = 42,
) -> None:
    """Clone the expert's behaviour from trajectories: projectors and language model, encoders frozen.

    Args:
        data: folders of trajectories.
        features: where what the frozen encoders see is kept.
        out: checkpoints, and the navigator at the end. The same command resumes.
        steps: of the optimiser.
        batch: episodes per step and process.
        learning_rate: its peak.
        spatial: output of `train spatial`.
        semantic: output of `train semantic`.
        init: a navigator to go on from; with its own pathways where none are given.
        mirror: learn from every walk in a mirror, too.
        bf16: compute in bfloat16, where the processor has it.
        workers: processes that encode and read walks beside the training.
        seed: of weights and order.
    """
    from dualsight.envs.sim.instructions import vocabulary
    from dualsight.train.stages import imitate
    from dualsight.train.trainer import Run

    run = Run(out, steps, learning_rate, batch, seed=seed, bf16=bf16, matrices=r"\.layers\.", workers=workers)
    imitate(data, features, run, vocabulary(), spatial, semantic, init, mirror=mirror)


def dagger(
    init: Path,
    out: Path,
    house_seeds: str,
    episodes_per_house: PositiveInt = 10,
    instructions: PositiveInt = 4,
    beta: float = 0.2,
    seed: int = 0,
    part: int = 0,
    parts: PositiveInt = 1,
    rows: PositiveInt = 8,
    name: str = "dagger-",
) -> None:
    """Collect one DAgger round: walks of a navigator, labelled by the expert. Train on them with `train imitate`.

    Args:
        init: the navigator that walks.
        out: the data set's folder.
        house_seeds: FIRST:END.
        episodes_per_house: walks in each.
        instructions: written for each; the navigator hears the first.
        beta: how often the expert acts instead of the navigator.
        seed: of the episodes and of the mixture.
        part: which of ``parts`` processes this is.
        parts: how many processes share the work.
        rows: episodes walked side by side.
        name: put before the trajectories' ids.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.envs.sim.episodes import Demand
    from dualsight.inference.navigator import NavigatorAgent
    from dualsight.train.collect import Mixture, collect_houses

    chosen = seed_range(house_seeds)[part::parts]
    learner, demand = NavigatorAgent.from_pretrained(init, rows), Demand(per_trajectory=instructions)
    written = episodes_per_house * instructions
    collect_houses(out, chosen, written, Mixture(beta), demand, name, seed, part, learner, rows)


def rounds(
    init: Path,
    features: Path,
    out: Path,
    house_seeds: str,
    data: list[Path] = [],  # noqa: B006
    rounds: PositiveInt = 3,
    beta: float = 0.4,
    decay: float = 0.5,
    episodes_per_house: PositiveInt = 10,
    instructions: PositiveInt = 4,
    steps: PositiveInt = 500,
    batch: PositiveInt = 16,
    learning_rate: float = 8e-4,
    mirror: bool = False,
    bf16: bool = False,
    workers: int = 0,
    seed: int = 42,
) -> None:
    """DAgger in rounds: the navigator walks, the expert labels, the navigator learns from all walks so far.

    Args:
        init: the navigator that walks first.
        features: where what the frozen encoders see is kept.
        out: walks and navigators of every round. The same command goes on.
        house_seeds: FIRST:END, shared out among the rounds.
        data: folders of trajectories to learn from, too.
        rounds: how many.
        beta: how often the expert acts instead of the navigator, in the first round.
        decay: of beta, from round to round.
        episodes_per_house: walks in each.
        instructions: written for each; the navigator hears the first.
        steps: of the optimiser, in each round.
        batch: episodes per step.
        learning_rate: its peak.
        mirror: learn from every walk in a mirror, too.
        bf16: compute in bfloat16, where the processor has it.
        workers: processes that encode and read walks beside the training.
        seed: of weights, order, episodes and mixtures.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.train.stages import dagger
    from dualsight.train.trainer import Run

    run = Run(out, steps, learning_rate, batch, seed=seed, bf16=bf16, matrices=r"\.layers\.", workers=workers)
    houses = seed_range(house_seeds)
    print(dagger(init, data, features, run, houses, rounds, beta, decay, episodes_per_house, instructions, mirror))
