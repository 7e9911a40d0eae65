"""Claim C7 of VisMem: what learns further forgets nothing, as long as it learns beside a frozen model.

A policy is taught to name colours that it can see and words that were just said (*taught*). Then four lessons follow
each other, about things that it has lost sight of: colours, bars and dots, how many, and kinds, whose table it never
saw. Three ways to learn them, from the same talks in as many steps: a memory around the frozen policy, a LoRA that is
merged after each lesson, and all weights of the policy. What tunes the policy learns the answers in sight of the image,
too: of what is lost it could learn nothing but to guess. After each lesson all are asked what the policy was taught,
and what the lessons so far were about.

A memory that is not called leaves the policy as it was: that is not measured in points, but bit by bit (*alike*). Of a
memory it is the policy around which it was trained, in the same process, before and after; and the one that was asked,
before memory was called and after. Of one that was tuned it is compared with the policy that it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from dualsight.bench.provenance import weights_sha256
from dualsight.bench.talks import Played, play_all
from dualsight.checkpoints.vismem import load_memory
from dualsight.data.files import write_json
from dualsight.data.gridtalk import GridTalk
from dualsight.data.talks import MARK
from dualsight.inference.talk_vlm import FULL, MEMORY, SMALL, PolicyConfig, TalkBatch, load_policy
from dualsight.models.vismem import VisMem
from dualsight.studies.memory import TUNED, described, matched_rank, policy_of, reward, share_of
from dualsight.studies.study import Claim, Figure, Study, check_settings, conclude, kept
from dualsight.train.talk_memory import memory_run, tune, warm_start_around
from dualsight.train.trainer import Run

LESSONS = ("color", "fine", "count", "kind")
"""One after the other; of each the image is out of reach when it is asked about."""
POLICY = replace(SMALL, task=GridTalk(3, 4, (*LESSONS, "text")), taught=("color", "text"), width=96, vision_width=48)
"""Nine cells; taught colours and texts."""
POLICIES = {"small": POLICY, "full": FULL}
"""At full width it is taught bars, dots and numbers, too: the lessons are then about what lies out of sight."""
MEASURES = ("taught", "lessons", "alike")
CLAIMS = (
    Claim("C7 with memory off the policy is what it was, bit for bit", "memory, off", "before", "alike", alike=True),
    Claim("C7 called by the model: at most 1 point worse at what was taught", "memory, learned", "before", "taught", 1),
    Claim("C7 a LoRA forgets at least 5 points", "memory, off", "lora", "taught", -5),
    Claim("C7 full fine-tuning forgets at least 5 points", "memory, off", "full", "taught", -5),
    Claim("a memory learns the lessons: 20 points over none", "memory, always", "before", "lessons", -20),
    Claim("it remembers them as well as a LoRA", "memory, always", "lora", "lessons"),
)  # fmt: skip
STUDY = Study("forgetting", (), CLAIMS)


@dataclass(frozen=True)
class Budget:
    """What every way of learning gets."""

    policy_steps: int = 1200
    steps: int = 300
    """Of each lesson."""
    reward_steps: int = 150
    """Of the memory after all lessons: when it is to be called."""
    talks: int = 256
    """Of each test."""

    def scaled(self, by: float) -> Budget:
        """So many times the training steps."""
        steps = (max(1, round(by * n)) for n in (self.policy_steps, self.steps, self.reward_steps))
        return Budget(*steps, self.talks)


def run(
    out: Path,
    seeds: Sequence[int] = (0, 1),
    budget: Budget = Budget(),
    config: PolicyConfig = POLICY,
    policy: Path | None = None,
    interleaved: float = 0.1,
) -> dict:
    """Teach what was not yet taught, ask everybody, say what held. Everything is kept under ``out``.

    Args:
        config: of the policy that is trained.
        policy: this one in its place.
        interleaved: of the policy's pre-training (see `pretrain_policy`).

    Returns:
        The content of ``results.json``; ``course`` in it has the figures after every lesson.

    Raises:
        DifferentRun: ``out`` holds what was made with other settings.
        ValueError: the policy is not asked what the lessons are about.
    """
    which = {"weights": weights_sha256(policy)} if policy else {**asdict(config), "interleaved": interleaved}
    check_settings(out, {"policy": which, "budget": asdict(budget)})
    policy = policy or policy_of(out / "policy", config, interleaved, budget.policy_steps)
    types = load_policy(policy)[1].task.types
    if missing := set(LESSONS) - set(types):
        raise ValueError(
            f"the lessons are about {', '.join(LESSONS)}; the policy in {policy} is asked about {', '.join(types)} and "
            f"not about {', '.join(sorted(missing))}: take one of `dualsight train policy --size full`"
        )
    rows: dict[str, dict[str, list[Figure]]] = {}
    course: dict[str, list[list[dict]]] = {}
    for seed in seeds:
        folder = out / f"seed{seed}"
        for way, asked in _learn(policy, folder, seed, budget):
            path = folder / f"{way}.json"
            if not path.exists():
                write_json(path, {"lessons": [_asked(policy, one, seed, budget.talks) for one in asked]})
            lessons = json.loads(path.read_text(encoding="utf-8"))["lessons"]
            course.setdefault(way, []).append(lessons)
            for measure, figure in lessons[-1].items():
                rows.setdefault(way, {name: [] for name in MEASURES})[measure].append(Figure.read(figure))
    settings = {"policy": described(policy), "seeds": list(seeds), "budget": asdict(budget)}
    return conclude(STUDY, out, rows, settings, {"course": course})


@dataclass(frozen=True)
class Learner:
    """Somebody who is asked: a policy, with a memory or without."""

    policy: Path
    memory: Path | None = None
    lessons: tuple[str, ...] = LESSONS
    """What it has learnt so far."""
    alike: float = 100.0
    """Percent of the policy's logits that its training left as they were."""
    mode: str = "off"


def _learn(policy: Path, out: Path, seed: int, budget: Budget) -> Iterator[tuple[str, list[Learner]]]:
    """Every way of learning, and who is to be asked after each of its lessons."""
    yield "before", [Learner(policy)]
    memories: list[Path] = []
    alike: list[float] = []
    tuned: dict[str, list[Path]] = {way: [] for way in TUNED}
    for number, lesson in enumerate(LESSONS):
        folder = out / f"memory-{number}-{lesson}"
        settings = memory_run(folder, budget.steps, seed=seed)
        init = memories[-1] if memories else None
        alike.append(kept(out / f"{folder.name}-alike.json", teach_memory, policy, settings, lesson, init).value)
        memories.append(folder)
        for way, rate in TUNED.items():
            folder = out / f"{way}-{number}-{lesson}"
            if not (folder / "config.json").exists():
                before = tuned[way][-1] if tuned[way] else policy
                rank = matched_rank(policy) if way == "lora" else 0
                tune(before, memory_run(folder, budget.steps, learning_rate=rate, seed=seed), (lesson,), rank)
            tuned[way].append(folder)
    so_far = [LESSONS[: number + 1] for number in range(len(LESSONS))]
    for mode in ("off", "always"):
        yield f"memory, {mode}", [Learner(policy, *m, mode=mode) for m in zip(memories, so_far, alike, strict=True)]
    called = reward(policy, memories[-1], out / "called", "invocation", budget.reward_steps, seed)
    yield "memory, learned", [Learner(policy, called, mode="learned")]
    for way, folders in tuned.items():
        yield way, [Learner(f, lessons=l) for f, l in zip(folders, so_far, strict=True)]


def teach_memory(policy: Path, run: Run, lesson: str, init: Path | None) -> Figure:
    """Train a memory in a lesson; returns how much of the policy is left as it was, in percent of its logits.

    Args:
        init: the memory that learnt the lessons before.
    """
    vlm, config = load_policy(policy)
    before = _logits(vlm, config, run.seed)
    warm_start_around(vlm, config, MEMORY, run, types=(lesson,), init=init)
    return Figure(_alike(before, _logits(vlm, config, run.seed)), 0.0)


def _asked(policy: Path, learner: Learner, seed: int, talks: int) -> dict[str, dict]:
    """Percent right of what the policy was taught (in sight of the image), and of the lessons so far (out of it), and
    percent of its logits in plain talks that are bit for bit what they were."""
    vlm, config = load_policy(learner.policy)
    before = _logits(load_policy(policy)[0], config, seed)
    memory = load_memory(vlm, learner.memory) if learner.memory else VisMem(vlm, [MARK[";"]], MEMORY)

    def played(types: tuple[str, ...]) -> list[Played]:
        task = replace(config, task=replace(config.task, types=types))
        return play_all(memory, task, learner.mode, 1000 + seed, talks)

    early = [one for one in played(config.taught) if not one.late]
    late = [one for one in played(learner.lessons) if one.late]
    figures = {
        "taught": share_of(early),
        "lessons": share_of(late),
        "alike": Figure(min(learner.alike, _alike(before, _logits(vlm, config, seed))), 0.0),
    }
    return {name: asdict(figure) for name, figure in figures.items()}


@torch.no_grad()
def _logits(vlm: InternVLForConditionalGeneration, config: PolicyConfig, seed: int) -> Tensor:
    """Of some talks without memory."""
    rng = np.random.default_rng(seed)
    batch = TalkBatch(config)([config.task.sample(6, rng) for _ in range(32)], rng)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    return vlm.to(torch.device("cpu")).eval()(**inputs).logits


def _alike(before: Tensor, after: Tensor) -> float:
    """The share of numbers that are the same bits, in percent."""
    return 100 * float((before == after).float().mean())
