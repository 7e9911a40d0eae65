"""Training of a recollection around a frozen navigator: the expert's answers at steps at which frames were lost.

A walk is read once without a memory; a few of its later steps are then read again, each with a memory of its own, and
cross-entropy is differentiated through the latents (VisMem's warm start, where an answer is an action). There is no
second stage: where a memory is called is a threshold of ``inference.readers.RecollectingReader``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from dualsight.checkpoints.recollection import save_recollection
from dualsight.models.janus_vln import EpisodeBatch
from dualsight.models.recollection import Recollection
from dualsight.models.vln_processor import VLNProcessor
from dualsight.train.imitation import Collate, Lesson
from dualsight.train.trainer import BatchPlan, Run, fit, is_main_process
from dualsight.types import Examples

STEPS = 8
"""Of each walk, that are learnt from in a batch."""


def long_enough(taught: Sequence[Lesson], memory: Recollection) -> list[Lesson]:
    """Those in which frames are lost at ``STEPS`` steps or more."""
    config = memory.navigator.config
    return [lesson for lesson in taught if len(lesson.trajectory) >= config.initial + config.recent + 1 + STEPS]


def episodes_of(batch: dict[str, Tensor], processor: VLNProcessor) -> EpisodeBatch:
    """What ``imitation.Collate`` makes, as a model reads it."""
    given = {name: value for name, value in batch.items() if name not in ("expert", "plan", "previous")}
    return EpisodeBatch(previous=processor.previous(batch["previous"]), **given)


class Recall(nn.Module):
    """A recollection under the cross-entropy of the expert's answers; ``forward`` takes what ``Collate`` makes."""

    def __init__(self, memory: Recollection, processor: VLNProcessor):
        super().__init__()
        self.memory, self.processor = memory, processor
        self.register_buffer("answers", processor.answer_ids[:, 0], persistent=False)

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        memory, expert = self.memory, batch["expert"]
        config = memory.navigator.config
        first, last = config.initial + config.recent + 1, int(batch["lengths"].min())
        steps = (first + torch.randperm(last - first)[:STEPS]).sort().values.to(expert.device)
        laid, thought = memory.think(episodes_of(batch, self.processor))
        right: Int[Tensor, "B Q"] = self.get_buffer("answers")[expert[:, steps]]
        if memory.builder is None:
            logits = memory.score(laid, thought, steps)
        else:
            with memory.builder.centre.by_batch(right.numel()):
                logits = memory.score(laid, thought, steps)
        without = memory.navigator.lm_head(thought[:, steps])
        return {
            "loss": F.cross_entropy(logits.flatten(0, 1).float(), right.flatten()),
            "loss_without": F.cross_entropy(without.flatten(0, 1).float(), right.flatten()),
            "right": (logits.argmax(-1) == right).float().mean(),
            "right_without": (without.argmax(-1) == right).float().mean(),
        }


def recollection_run(out: Path, steps: int, **changes) -> Run:
    """Settings of the training; ``changes`` replace them."""
    return replace(Run(out, steps, learning_rate=2e-3, batch=8, warmup=0.1, weight_decay=0.0), **changes)


def train_recollection(
    memory: Recollection, processor: VLNProcessor, lessons: Sequence[Lesson], collate: Collate, run: Run
) -> Path:
    """Train a memory and write it to ``run.out``; returns that folder.

    Raises:
        ValueError: fewer walks that are long enough than a batch.
    """
    taught: Examples = long_enough(lessons, memory)
    plan = BatchPlan(
        taught, collate, run.batch, run.steps, run.seed, lengths=[len(lesson.trajectory) for lesson in taught]
    )
    training = Recall(memory, processor)
    if memory.builder is not None:
        laid, thought = memory.think(episodes_of(plan[0], processor))
        memory.builder.whiten_v.fit(laid.image.flatten(0, 2))
        memory.builder.whiten_h.fit(thought.flatten(0, 1))
    fit(training, plan, run)
    if is_main_process():
        save_recollection(memory, run.out)
    return run.out
