"""Does a memory of lost frames help a navigator? Its window holds the first and the last frames of a walk; a short
memory (``models/recollection.py``) looks again at all those between.

One frozen navigator; for every seed a memory that sees the lost frames, and one that is blind, trained alike: learnt
constants in the same places, what being tuned gains alone. Judged twice. ``action``: the share of an expert's answers
that are right, at steps of its walks (a share of them disturbed) at which frames were lost. ``success``: of walks of
one's own through unseen houses, in percent. Both in houses that neither navigator nor memory has seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from dualsight.bench.house import build_episodes, evaluate_houses
from dualsight.bench.provenance import weights_sha256
from dualsight.checkpoints.janus_vln import from_pretrained
from dualsight.checkpoints.recollection import load_recollection
from dualsight.data.trajectories import read_trajectories
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.houses import choose_houses
from dualsight.envs.protocols import HOUSE
from dualsight.envs.sim.episodes import Demand
from dualsight.inference.navigator import NavigatorAgent, NavigatorBatch
from dualsight.inference.readers import RecollectingReader
from dualsight.models.janus_vln import JanusVLN
from dualsight.models.recollection import Content, Recollection, RecollectionConfig
from dualsight.models.vln_processor import VLNProcessor
from dualsight.studies.study import Claim, Figure, Study, check_settings, conclude, kept
from dualsight.train.collect import Mixture, collect_houses
from dualsight.train.features import FeatureStore
from dualsight.train.imitation import Collate, Lesson, lessons
from dualsight.train.recollection import episodes_of, long_enough, recollection_run, train_recollection

EVERY = 4
"""Of the steps at which frames were lost, so many are skipped to the next one that is asked."""
FOREVER = 1 << 20
"""Frames: more than any walk has."""


@dataclass(frozen=True)
class Way:
    """One arm: which memory, and what it says when."""

    sighted: bool = True
    content: Content = "own"
    below: float = 1.0
    """Called where the navigator's best action is less likely; 0: never."""
    others: bool = False
    """The frames of another walk in place of its own; can be asked of recorded walks only."""
    unbounded: bool = False
    """No memory, but a window that loses nothing (for which the navigator was not trained)."""


WAYS = {
    "off": Way(below=0.0),
    "short": Way(),
    "short where unsure": Way(below=0.8),
    "tuned": Way(sighted=False),
    "other walk": Way(others=True),
    "noise": Way(content="noise"),
    "endless window": Way(unbounded=True),
}
CLAIMS = (
    Claim("a memory of lost frames makes actions better", "short", "off", "action"),
    Claim("by what it sees: better than constants that were trained alike", "short", "tuned", "action"),
    Claim("of this walk: better than of another one", "short", "other walk", "action"),
    Claim("not by the mere presence of latents: better than noise", "short", "noise", "action"),
    Claim("as good as a window that loses nothing", "short", "endless window", "action", margin=1.0),
    Claim("a memory of lost frames makes walks succeed", "short", "off", "success"),
    Claim("by what it sees: better than constants that were trained alike", "short", "tuned", "success"),
    Claim("calling where it is unsure is enough", "short where unsure", "short", "success", margin=2.0),
)
STUDY = Study("navigator-memory", (), CLAIMS)


@dataclass(frozen=True)
class Budget:
    """What a memory learns from, and what it is asked."""

    learn: str = "8000:8040"
    ask: str = "8040:8050"
    """Houses of the expert's walks."""
    walks: int = 25
    """In each, as far as it has such."""
    metres: float = 10.0
    """At least so long."""
    steps: int = 400
    houses: int = 10
    """Unseen ones, of the split ``test``."""
    episodes: int = 10
    """In each."""


def run(out: Path, model: Path, seeds: Sequence[int] = (0, 1), budget: Budget = Budget()) -> dict:
    """Collect the walks and train the memories that are not there yet, judge every arm, say what held. Everything is
    kept under ``out``.

    Args:
        model: the navigator's folder.

    Returns:
        The content of ``results.json``.

    Raises:
        ValueError: the navigator is not one that a memory can be put around.
        DifferentRun: ``out`` holds what was made with other settings.
    """
    navigator, processor = from_pretrained(model)
    Recollection(navigator)  # says what is wrong before an hour has passed
    settings = {"model": {"path": str(model), "weights": weights_sha256(model)}, "budget": asdict(budget)}
    check_settings(out, settings)
    learnt, asked = (
        _walks(out / name, houses, budget) for name, houses in (("walks", budget.learn), ("test", budget.ask))
    )
    collate = Collate(processor, FeatureStore(out / "features", navigator, processor))
    rows: dict[str, dict[str, list[Figure]]] = {name: {"action": [], "success": []} for name in WAYS}
    for seed in seeds:
        memories: dict[bool, Recollection] = {}
        for name, way in WAYS.items():
            if way.sighted not in memories:
                folder = out / f"seed{seed}" / ("memory" if way.sighted else "constants")
                memories[way.sighted] = _memory(
                    folder, navigator, processor, way.sighted, seed, learnt, collate, budget
                )
            memory, folder = memories[way.sighted], out / f"seed{seed}" / name.replace(" ", "-")
            figures = {"action": kept(folder / "action.json", actions, memory, processor, asked, collate, way)}
            if not (way.others or way.unbounded):
                path = folder / "success.json"
                figures["success"] = kept(path, success, memory, processor, folder, way, seed, budget)
            for measure, figure in figures.items():
                rows[name][measure].append(figure)
    return conclude(STUDY, out, rows, {"seeds": list(seeds), **settings})


def _walks(folder: Path, houses: str, budget: Budget) -> list[Lesson]:
    """An expert's long walks, half of them disturbed, each under one instruction."""
    chosen = choose_houses("train", houses, budget.houses)
    collect_houses(
        folder, chosen, budget.walks, Mixture(disturbed=0.5), Demand(min_geodesic=budget.metres), f"{folder.name}-"
    )
    return lessons(read_trajectories(folder))


def _memory(
    folder: Path,
    navigator: JanusVLN,
    processor: VLNProcessor,
    sighted: bool,
    seed: int,
    learnt: Sequence[Lesson],
    collate: Collate,
    budget: Budget,
) -> Recollection:
    if (folder / "config.json").exists():
        return load_recollection(navigator, folder).eval()
    torch.manual_seed(seed)
    memory = Recollection(navigator, RecollectionConfig(sighted=sighted))
    train_recollection(memory, processor, learnt, collate, recollection_run(folder, budget.steps, seed=seed))
    return memory.eval()


@torch.no_grad()
def actions(
    memory: Recollection, processor: VLNProcessor, asked: Sequence[Lesson], collate: Collate, way: Way
) -> Figure:
    """Percent of the expert's answers that are right; its error is that of a mean over walks."""
    shares = []
    for batch in _batches(long_enough(asked, memory), collate):
        expert, lengths = batch["expert"], batch["lengths"]
        config = memory.navigator.config
        steps = torch.arange(config.initial + config.recent + 1, int(lengths.max()), EVERY)
        said = answers(memory, processor, batch, steps, way)
        right = (said == processor.answer_ids[:, 0][expert[:, steps].clamp(min=0)]).double()
        there = steps < lengths[:, None]
        shares += ((right * there).sum(1) / there.sum(1)).tolist()
    return Figure(100 * float(np.mean(shares)), 100 * float(np.std(shares, ddof=1)) / math.sqrt(len(shares)))


def answers(memory: Recollection, processor: VLNProcessor, batch: dict[str, Tensor], steps: Tensor, way: Way) -> Tensor:
    """What is said at steps of recorded walks, (B, Q)."""
    navigator, episodes = memory.navigator, episodes_of(batch, processor)
    if way.unbounded:
        bounded = navigator.config
        navigator.config = replace(bounded, recent=FOREVER)
        try:
            return navigator.forward_episodes(episodes)[:, steps].argmax(-1)
        finally:
            navigator.config = bounded
    laid, thought = memory.think(episodes)
    plain = navigator.lm_head(thought[:, steps])
    if way.others:
        laid = laid._replace(image=laid.image.roll(1, 0))
    torch.manual_seed(0)  # of noise
    recalled = memory.score(laid, thought, steps, way.content)
    unsure = plain.softmax(-1).amax(-1, keepdim=True) < way.below
    return torch.where(unsure, recalled, plain).argmax(-1)


def _batches(asked: Sequence[Lesson], collate: Collate, batch: int = 8) -> Iterator[dict[str, Tensor]]:
    ordered = sorted(asked, key=lambda lesson: len(lesson.trajectory))
    for start in track(range(0, len(ordered) - batch + 1, batch), "asking", transient=True):
        yield collate(ordered[start : start + batch])


def success(
    memory: Recollection, processor: VLNProcessor, folder: Path, way: Way, seed: int, budget: Budget, rows: int = 5
) -> Figure:
    """Percent of walks that reach their goal."""
    torch.manual_seed(seed)  # of noise
    episodes = build_episodes(choose_houses("test", None, budget.houses), budget.episodes, HOUSE, seed)
    envs = [HouseEnvironment(HOUSE) for _ in range(rows)]
    reader = RecollectingReader(memory, processor, rows, way.content, way.below)
    agent = NavigatorAgent(NavigatorBatch(memory.navigator, processor, rows, reader=reader))
    results = evaluate_houses(folder, agent, envs, episodes, {"agent": folder.name, "control": "none"})
    assert results is not None  # in one process
    share = results["summary"]["SR"]["mean"] / 100
    return Figure(100 * share, 100 * math.sqrt(max(share * (1 - share), 1 / len(episodes)) / len(episodes)))
