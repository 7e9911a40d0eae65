"""Memory for a small VLM that talks about grids or houses: its warm start, on ``data.talks``, and what it is compared
with.

A warm start is plain cross-entropy on what is said behind a forced memory, differentiated through its latents. At the
beginning it also teaches where to look (``train.distillation``).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import InternVLForConditionalGeneration

from dualsight.checkpoints.vismem import load_memory, save_memory
from dualsight.data.talks import ANSWER, MARK, Talk
from dualsight.inference.talk_vlm import Call, PolicyConfig, TalkBatch, load_policy, save_policy
from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import KINDS, Kind, VisMem, VisMemConfig
from dualsight.train.distillation import LESSON, leaning, lesson_loss
from dualsight.train.lora import add_lora, merge_lora
from dualsight.train.sft import Formed, measure, train, untouched
from dualsight.train.trainer import Run, batches_of, fit, is_main_process, training_device

LONE = 0.5
"""Until which share of its steps memories are lone."""
SEEN = 256
"""Talks that whitening and the heads that call are fitted on; a quarter of them in each of 8 batches for constants."""


class MemoryTalks(Dataset):
    """Batch ``i`` of the warm start: talks with memories of one kind, of which the last answer is learnt: half of the
    times a late one, else any. Formers look at the image from a distance, and know no distance that they never met.

    First with a lone memory whose segment is its own sentence, as what is asked can be learnt from these in fewest
    steps; in a lesson at the very beginning it is also taught where to look (``train.distillation``). Then with other
    memories before it (`MemoryTraining` does not train these), and with segments of all lengths, as where a model calls
    by itself: the first one begins behind the image or one sentence before the first call. No cell is asked about twice
    in a talk, as its answer could be read off what was said.

    Args:
        memory: None puts none into them, and all answers are learnt: what a policy without memory is tuned on. From
            late answers alone it could learn nothing, as the image is out of reach; the early ones are its lessons.
        kinds: drawn from, batch by batch.
        lesson: share of the steps, at the beginning, in which they are taught where to look.
        lone: until which share of them memories are lone.
    """

    def __init__(
        self,
        config: PolicyConfig,
        memory: VisMem | None,
        batch: int,
        batches: int,
        seed: int,
        kinds: Sequence[Kind] = KINDS,
        lesson: float = 0.0,
        lone: float = LONE,
    ):
        if not (0 <= lesson <= 1 and 0 <= lone <= 1):
            raise ValueError(f"lesson={lesson} and lone={lone} of the steps: give each from 0 to 1")
        self.config, self.batch, self.batches, self.seed = config, batch, batches, seed
        self.kinds, self.lesson, self.lone = kinds, lesson, lone
        self.longest = config.task.subjects
        """Sentences of a talk, at most."""
        self.late = min(config.late, self.longest) - 1
        self.make, self.remembers = TalkBatch(config, memory), memory is not None

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng, done = np.random.default_rng((self.seed, index)), index / self.batches
        lone = done < self.lone
        last = int(rng.integers(self.late if rng.random() < 0.5 else 0, self.longest))
        talks = [self.config.task.sample(last + 1, rng) for _ in range(self.batch)]
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        others = 0 if lone else int(rng.integers(last + 1))
        called = [*sorted(rng.choice(last, others, replace=False).tolist()), last]
        calls = [Call(sentence, kind) for sentence in called if self.remembers]
        same = deepcopy(rng)
        batch = self.make(talks, rng, calls=calls, learn=[last] if self.remembers else None)
        answers = batch.pop("answers")
        for name in ("input_ids", "attention_mask", "labels"):  # nothing is learnt behind the last answer
            batch[name] = batch[name][:, : answers[last]]
        near = called[0] > 0 and (lone or rng.random() < 0.5)
        begin = int(answers[called[0] - 1]) + 2 if near else len(self.config.image)
        batch |= {"prompt": torch.tensor(begin)}
        if done < self.lesson:
            batch |= self._shown_again(talks, last, same)
        return batch

    def _shown_again(self, talks: Sequence[Talk], last: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """The last sentences alone with the image in the place of the memory, and which answers are in the image. All
        else that an answer can see would tell the same in four times the time (docs/log.md)."""
        batch = self.make(talks, rng, again={last: self.config.visual_tokens})
        answer = int(batch["answers"][last])
        return {
            "shown_again": batch["input_ids"][:, answer - ANSWER - len(self.config.image) : answer],
            "answer": batch["input_ids"][:, answer],
            "in_image": torch.tensor([talk.sentences[last].type != "text" for talk in talks]),
        }


class PolicyTuning(nn.Module):
    """The policy itself on what a memory is trained on; ``forward`` takes what `MemoryTalks` makes without one."""

    def __init__(self, vlm: InternVLForConditionalGeneration):
        super().__init__()
        self.vlm = vlm

    def forward(self, labels: Tensor, prompt: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        return measure(self.vlm(**inputs).logits, labels)


class MemoryTraining(nn.Module):
    """The last memory of a talk under the cross-entropy of what is said behind it; in a lesson also under the losses
    of ``train.distillation``: where it looks, and where the frozen model would have found the answer.

    Memories before it are read, but not trained: if later answers taught them, the best that each could be would be a
    gist of the image that serves all.
    """

    def __init__(self, memory: VisMem):
        super().__init__()
        self.memory = memory

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        prompt: Tensor,
        pixel_values: Tensor,
        shown_again: Tensor | None = None,
        answer: Tensor | None = None,
        in_image: Tensor | None = None,
    ) -> dict[str, Tensor]:
        memory, looks = self.memory, None if shown_again is None else []
        formed = Formed()
        inputs = (input_ids, attention_mask, int(prompt))
        last = int(memory.tokens.calls(input_ids[0]).nonzero()[-1])
        with memory.builder.centre.by_batch(len(input_ids)):
            logits = memory.score(*inputs, latents=formed, looks=looks, learn=last, pixel_values=pixel_values)
        measured = measure(logits, labels)
        measured["loss"] = measured["loss"] + untouched(memory)
        if looks:
            assert shown_again is not None and answer is not None and in_image is not None
            labels = torch.full_like(shown_again, IGNORE)
            labels[:, -1] = answer
            leant = leaning(memory, shown_again, torch.ones_like(labels), labels, pixel_values=pixel_values)
            leant = leant._replace(told=leant.told * in_image[:, None])
            kind = memory.tokens.kind(int(input_ids[0, last]))
            measured["loss"] = measured["loss"] + lesson_loss(memory, kind, looks[-1], formed[-1][1], leant)
        return measured


class SoftPromptTraining(nn.Module):
    """Latents that are the same whatever was seen and asked, under what a memory learns: all that latents can do by
    standing there. Their rows of the begin and end tokens learn as well, as those of a memory do."""

    def __init__(self, memory: VisMem):
        super().__init__()
        self.memory = memory.requires_grad_(False)
        for parameter in soft_prompt_of(memory):
            parameter.requires_grad_(True)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        prompt: Tensor,
        pixel_values: Tensor,
    ) -> dict[str, Tensor]:
        inputs = (input_ids, attention_mask, int(prompt), "constant")
        measured = measure(self.memory.score(*inputs, pixel_values=pixel_values), labels)
        measured["loss"] = measured["loss"] + untouched(self.memory)
        return measured


def soft_prompt_of(memory: VisMem) -> list[nn.Parameter]:
    """What of a memory `SoftPromptTraining` trains."""
    return [*memory.constant.values(), memory.tokens.rows]


def memory_run(out: Path, steps: int = 800, **changes: Any) -> Run:
    """Settings of a memory's warm start; ``changes`` replace them."""
    return replace(Run(out, steps, learning_rate=3e-3, batch=48, warmup=0.1, weight_decay=0.0), **changes)


def warm_start(
    policy: Path,
    config: VisMemConfig,
    run: Run,
    kinds: Sequence[Kind] = KINDS,
    types: tuple[str, ...] = (),
    init: Path | None = None,
    views: Path | None = None,
    lesson: float = LESSON,
    lone: float = LONE,
) -> Path:
    """Train a memory around the policy in a folder and write it to ``run.out``; returns that folder.

    Args:
        types: of the questions that it learns from; the policy's by default.
        init: a memory to go on from, of its own sizes.
        views: the pictures, where it talks about houses.
        lesson, lone: see `MemoryTalks`.

    Raises:
        ValueError: a share that is none.
    """
    vlm, of_policy = load_policy(policy, views)
    return warm_start_around(vlm, of_policy, config, run, kinds, types, init, lesson, lone)


def warm_start_around(
    vlm: InternVLForConditionalGeneration,
    of_policy: PolicyConfig,
    config: VisMemConfig,
    run: Run,
    kinds: Sequence[Kind] = KINDS,
    types: tuple[str, ...] = (),
    init: Path | None = None,
    lesson: float = LESSON,
    lone: float = LONE,
) -> Path:
    """`warm_start` around a policy that has been loaded, which it leaves as it is."""
    of_policy = replace(of_policy, task=replace(of_policy.task, types=types or of_policy.task.types))
    torch.manual_seed(run.seed)
    memory = load_memory(vlm, init) if init else VisMem(vlm, [MARK[";"]], config)
    plan = MemoryTalks(of_policy, memory, run.batch, batches_of(run.steps), run.seed, kinds, lesson=lesson, lone=lone)
    make, rng, task = TalkBatch(of_policy), np.random.default_rng((run.seed, 1)), of_policy.task
    seen = make([task.sample(plan.longest, rng) for _ in range(SEEN)], rng)
    examples = MemoryTalks(of_policy, memory, SEEN // 4, 8, run.seed + 1, kinds)
    batches = (examples[index] for index in range(8))
    return train(memory, MemoryTraining(memory), plan, batches, seen, run, further=init is not None)


def soft_prompt(policy: Path, config: VisMemConfig, run: Run, views: Path | None = None) -> Path:
    """Train constant latents of both kinds in the places of a memory's, from its talks, and write them to ``run.out``
    as a memory whose mode ``constant`` they are; returns that folder. Arguments as for `warm_start`."""
    vlm, of_policy = load_policy(policy, views)
    torch.manual_seed(run.seed)
    memory = VisMem(vlm, [MARK[";"]], config)
    size = float(memory.vlm.get_input_embeddings().weight.detach().std())
    for latents in memory.constant.values():
        nn.init.normal_(latents, std=size)
    plan = MemoryTalks(of_policy, memory, run.batch, batches_of(run.steps), run.seed)
    memory.fit_rows(torch.tensor([of_policy.image]))
    vlm.to(training_device())
    fit(SoftPromptTraining(memory), plan, run)
    if is_main_process():
        save_memory(memory, run.out)
    return run.out


def tune(policy: Path, run: Run, types: tuple[str, ...] = (), rank: int = 0, views: Path | None = None) -> Path:
    """Train the policy in a folder itself on the talks of a memory, early and late answers, and write it to
    ``run.out``; returns that folder.

    Args:
        types: of the questions that it learns from; the policy's by default.
        rank: of a LoRA, merged at the end; 0 trains all weights.
        views: the pictures, where it talks about houses.
    """
    vlm, config = load_policy(policy, views)
    task = replace(config, task=replace(config.task, types=types or config.task.types))
    torch.manual_seed(run.seed)
    if rank:
        add_lora(vlm, rank)
    fit(PolicyTuning(vlm), MemoryTalks(task, None, run.batch, batches_of(run.steps), run.seed), run)
    if rank:
        merge_lora(vlm, rank)
    if is_main_process():
        save_policy(vlm, config, run.out)
    return run.out
