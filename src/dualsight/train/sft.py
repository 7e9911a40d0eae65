"""Warm start of a memory around any frozen VLM: cross-entropy of right answers, read through memories put into them.

::

    <image> What is on the table?  [<short> M M M M </short>]  A red cup,  [<long> M .. M </long>]  and a plate.
    prompt                         behind the prompt           behind a delimiter of the answer

Rewards cannot begin with a memory that says nothing: what differs between the answers of a group is then the noise of
sampling. So what the builder and the formers write is first differentiated through the VLM. Learnt is the text behind
a row's first memory. Where memories stand is drawn, as nobody calls them yet (`VisMem.fit_calls`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset

from dualsight.checkpoints.vismem import save_memory
from dualsight.data.rewards import Row
from dualsight.memory.vlms import TEXT_INPUTS, together
from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import KINDS, Kind, VisMem, ends_of
from dualsight.train.distillation import Leaning, leaning, lesson_loss
from dualsight.train.trainer import BatchPlan, Run, fit, is_main_process, training_device
from dualsight.types import Examples

Encode = Callable[[str], list[int]]
"""An answer -> its ids, without the token that ends it."""


class Sequences(Dataset):
    """Batch ``i`` of a warm start: right answers with memories in them.

    Every row calls a memory at the first place that the memory's rules allow, behind the prompt as a rule, all of one
    kind: the builder's queries are centred by their batch. At each later one there is another with probability
    ``share``. A row without an image has nothing for a short memory to look at and calls long ones.

    Args:
        rows: prompts with their ``answer`` (``train.prompts.ChatPrompts``).
        kinds: drawn from.
        lesson: share of the steps, at the beginning, in which memories are also taught where to look.

    Raises:
        ValueError: a share that is none.
    """

    def __init__(
        self,
        memory: VisMem,
        rows: Examples,
        encode: Encode,
        batch: int,
        steps: int,
        seed: int,
        kinds: Sequence[Kind] = KINDS,
        share: float = 0.5,
        lesson: float = 0.0,
    ):
        if not (0 <= share <= 1 and 0 <= lesson <= 1):
            raise ValueError(f"share={share} of the delimiters and lesson={lesson} of the steps: give each from 0 to 1")
        self.memory, self.rows, self.encode, self.seed = memory, rows, encode, seed
        self.kinds, self.share, self.lesson = kinds, share, lesson
        self.end = ends_of(memory.vlm)[:1]
        numbers: Any = range(len(rows))
        self.numbers = BatchPlan(numbers, lambda chosen: {"rows": chosen}, batch, steps, seed)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, index))
        batch = self.batch(self.numbers[index]["rows"], rng, self._drawn(rng))
        return batch | {"lesson": torch.tensor(index < self.lesson * len(self))}

    def _drawn(self, rng: np.random.Generator) -> Kind:
        return self.kinds[int(rng.integers(len(self.kinds)))]

    def batch(self, numbers: Sequence[int], rng: np.random.Generator, first: Kind | None) -> dict[str, Any]:
        """Rows by their numbers, prompts padded on the left and answers on the right.

        Args:
            first: what is called behind the prompt. None: nothing is called, all of the answers is learnt.
        """
        rows = [self.rows[number] for number in numbers]
        pad = self.memory.vlm.generation_config.pad_token_id or 0
        inputs = together([row["inputs"] for row in rows], pad)
        last, sees = inputs["input_ids"][:, -1].tolist(), self.memory.parts.shows(inputs["input_ids"]).any(1).tolist()
        laid = [
            self._laid(row, token, rng, first, KINDS if shows else ("long",))
            for row, token, shows in zip(rows, last, sees, strict=True)
        ]
        prompt, behind = inputs["input_ids"].shape[1], max(len(ids) for ids, _ in laid)
        said = torch.full((len(rows), behind), pad)
        there, labels = torch.zeros_like(said), torch.full((len(rows), prompt + behind), IGNORE)
        for line, (answer, learnt) in enumerate(laid):
            said[line, : len(answer)] = torch.tensor(answer)
            there[line, : len(answer)] = 1
            targets = torch.tensor(answer).masked_fill(~torch.tensor(learnt), IGNORE)
            labels[line, prompt - 1 : prompt - 1 + len(answer)] = targets
        text = {
            "input_ids": torch.cat([inputs["input_ids"], said], 1),
            "attention_mask": torch.cat([inputs["attention_mask"], there], 1),
        }
        vision = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
        return text | vision | {"labels": labels, "prompt": torch.tensor(prompt)}

    def _laid(
        self, row: Row, last: int, rng: np.random.Generator, first: Kind | None, possible: Sequence[Kind]
    ) -> tuple[list[int], list[bool]]:
        """An answer with its memories, and which of its tokens are learnt."""
        memory, words = self.memory, [*self.encode(row["answer"]), *self.end]
        before = [last, *words[:-1]]
        anywhere = not memory.config.anchored
        places = [place for place, token in enumerate(before) if anywhere or token in memory.delimiters]
        if not places:
            raise ValueError(
                f"no memory can be called in the answer {row['answer']!r} to {row['prompt']!r}: neither it nor its "
                "prompt has a delimiter before its end (VisMemConfig(anchored=False) calls anywhere)"
            )
        if first is None:
            return words, [True] * len(words)
        if not any(kind in possible for kind in self.kinds):
            raise ValueError(
                f"{row['prompt']!r} shows no image, and a short memory looks at one: leave such rows out, or train "
                "long memories, too"
            )
        others = [place for place in places[1:] if rng.random() < self.share][: memory.config.max_invocations - 1]
        calls = {places[0]: first} | {place: self._drawn(rng) for place in others}
        calls = {place: kind if kind in possible else "long" for place, kind in calls.items()}
        ids, learnt = [], []
        for place, token in enumerate(words):
            written = memory.written(calls[place]) if place in calls else []
            ids += [*written, token]
            learnt += [*[False] * len(written), place >= places[0]]
        return ids, learnt


class Formed(list[tuple[list[int], Tensor]]):
    """Memories of a pass in the order in which they were formed, each for some rows: the ``latents`` of `VisMem.score`,
    which leaves them as they are."""

    def __call__(self, rows: list[int], latents: Float[Tensor, "R N D"]) -> Float[Tensor, "R N D"]:
        self.append((rows, latents))
        return latents


class MemorySft(nn.Module):
    """A memory under the cross-entropy of what is said behind it; in a ``lesson`` the first one of each row also under
    the losses of `train.distillation`, by what the answer leans on with the image in the prompt."""

    def __init__(self, memory: VisMem):
        super().__init__()
        self.memory = memory

    def forward(
        self,
        input_ids: Int[Tensor, "B L"],
        attention_mask: Int[Tensor, "B L"],
        labels: Int[Tensor, "B L"],
        prompt: Tensor,
        lesson: Tensor | None = None,
        **vision: Any,
    ) -> dict[str, Float[Tensor, ""]]:
        memory = self.memory
        looks: list[Tensor] | None = [] if lesson else None
        formed = Formed()
        inputs = (input_ids, attention_mask, int(prompt))
        with memory.builder.centre.by_batch(len(input_ids)):
            logits = memory.score(*inputs, latents=formed, looks=looks, **vision)
        measured = measure(logits, labels)
        measured["loss"] = measured["loss"] + untouched(memory)
        sees = memory.parts.shows(input_ids).any(1).nonzero()[:, 0].tolist()
        if looks and sees:  # whoever sees an image was given memories of one kind first
            first: dict[int, tuple[Tensor, Tensor]] = {}
            for (rows, latents), look in zip(formed, looks, strict=True):
                for row, *found in zip(rows, look, latents, strict=True):
                    first.setdefault(row, (found[0], found[1]))
            look, latents = (torch.stack([first[row][of] for row in sees]) for of in (0, 1))
            leant = leaning(memory, **without_memories(memory, input_ids, attention_mask, labels, vision))
            leant = Leaning(*(of[sees] for of in leant))
            called = input_ids[sees[0]]
            kind = memory.tokens.kind(int(called[memory.tokens.calls(called)][0]))
            measured["loss"] = measured["loss"] + lesson_loss(memory, kind, look, latents, leant)
        return measured


def measure(logits: Float[Tensor, "B L W"], labels: Int[Tensor, "B L"]) -> dict[str, Float[Tensor, ""]]:
    """The cross-entropy of what is learnt, and the share of it that is right."""
    learnt = labels != IGNORE
    logits, labels = logits[learnt], labels[learnt]
    return {"loss": F.cross_entropy(logits.float(), labels), "right": (logits.argmax(-1) == labels).float().mean()}


def without_memories(
    memory: VisMem,
    input_ids: Int[Tensor, "B L"],
    attention_mask: Int[Tensor, "B L"],
    labels: Int[Tensor, "B L"],
    vision: Mapping[str, Any],
) -> dict[str, Any]:
    """The same rows as if no memory had been called, padded on the left; labels stay those of the next token."""
    kept = attention_mask.bool() & (input_ids < memory.tokens.first)
    most = int(kept.sum(1).max())
    order = kept.long().sort(dim=1, stable=True).indices[:, -most:]
    targets = F.pad(labels[:, :-1], (1, 0), value=IGNORE).gather(1, order)  # of the token itself
    columns = {name: vision[name].gather(1, order) for name in vision if name in TEXT_INPUTS}
    ids, there = input_ids.gather(1, order), kept.gather(1, order)
    return {
        "input_ids": ids.where(there, ids[:, -1:]),  # a VLM has no embedding of a memory's tokens
        "attention_mask": there.long(),
        "labels": F.pad(targets[:, 1:], (0, 1), value=IGNORE),
        **vision,
        **columns,
    }


def untouched(memory: VisMem) -> Float[Tensor, ""]:
    """Nothing, of all parameters: a batch calls one kind, and processes that share gradients must have the same.

    Each is multiplied by itself: the sum of a number is that number, and its gradient would be the one tensor that all
    of them share, in which accumulating or averaging over processes then mixes them."""
    return sum(((p * 0.0).sum() for p in memory.parameters() if p.requires_grad), torch.zeros(()))


def memory_run(out: Path, steps: int, **changes: Any) -> Run:
    """Settings of a warm start around a VLM of transformers; ``changes`` replace them."""
    return replace(Run(out, steps, learning_rate=1e-4, batch=8, warmup=0.1, weight_decay=0.0), **changes)


def warm_start(
    memory: VisMem,
    rows: Examples,
    encode: Encode,
    run: Run,
    kinds: Sequence[Kind] = KINDS,
    share: float = 0.5,
    lesson: float = 0.0,
    further: bool = False,
) -> Path:
    """Train a memory on right answers and write it to ``run.out``; returns that folder. Arguments as for `Sequences`
    and `train`.

    Raises:
        ValueError: a share that is none; fewer rows than a batch, or one in which no memory can be called; or a lesson
            of the paper's short former alone around a VLM of which it is not known which patches make a token.
        BadData: a row that is no question with an answer.
    """
    plan = Sequences(memory, rows, encode, run.batch, run.steps, run.seed, kinds, share, lesson)
    lone = Sequences(memory, rows, encode, run.batch, 4, run.seed + 1, kinds, 0.0)
    rng = np.random.default_rng(run.seed + 1)
    examples = (lone.batch(lone.numbers[index]["rows"], rng, kind) for kind in kinds for index in range(4))
    seen = plan.batch(_telling(memory, rows), np.random.default_rng(run.seed), None)
    return train(memory, MemorySft(memory), plan, examples, seen, run, further)


def _telling(memory: VisMem, rows: Examples, wanted: int = 32, looked_at: int = 256) -> list[int]:
    """The first rows that show an image, filled up with others: what whitening is fitted to."""
    seeing: list[int] = []
    others: list[int] = []
    for number in range(min(len(rows), looked_at)):
        shows = bool(memory.parts.shows(rows[number]["inputs"]["input_ids"].to(memory.vlm.device)).any())
        (seeing if shows else others).append(number)
        if len(seeing) == wanted:
            break
    return sorted([*seeing, *others][:wanted])


def train(
    memory: VisMem,
    training: nn.Module,
    plan: Dataset,
    examples: Iterable[Mapping[str, Any]],
    seen: Mapping[str, Any],
    run: Run,
    further: bool = False,
) -> Path:
    """What all warm starts share: whitening and rows before the training; behind it what "constant" memory is, and
    heads that call memory now and then.

    Args:
        training: what `fit` trains, around ``memory``.
        examples: batches with memories of one kind each.
        seen: a batch without memories.
        further: the memory has been trained before, with its own whitening.
    """
    memory.vlm.to(training_device())
    memory.to(training_device())
    if not further:
        read = inputs_of(seen, memory.vlm.device)
        memory.fit_whitening(**read)
        memory.fit_rows(read["input_ids"])
    fit(training, plan, run)
    fit_constant(memory, examples)
    memory.fit_calls(**inputs_of(seen, memory.vlm.device))  # training may have moved it
    if is_main_process():
        save_memory(memory, run.out)
    return run.out


def inputs_of(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """What of a batch a VLM reads."""
    others = ("labels", "prompt", "lesson", "answers")
    return {name: value.to(device) for name, value in batch.items() if name not in others}


@torch.no_grad()
def fit_constant(memory: VisMem, examples: Iterable[Mapping[str, Any]]) -> None:
    """The mean of what is formed, of each kind: what the mode ``constant`` puts in the place of memory.

    Args:
        examples: batches in which all memories of a row are of one kind.
    """
    found: dict[Kind, list[Tensor]] = {kind: [] for kind in KINDS}
    for batch in examples:
        ids, prompt = batch["input_ids"], int(batch["prompt"])
        called: Bool[Tensor, "B L"] = memory.tokens.calls(ids)
        formed = Formed()
        memory.score(**inputs_of(batch, memory.vlm.device), prompt=prompt, latents=formed)
        for rows, latents in formed:
            kind = memory.tokens.kind(int(ids[rows[0]][called[rows[0]]][0]))
            found[kind].append(latents.mean(0))
    for kind, means in found.items():
        if means:
            memory.constant[kind].copy_(torch.stack(means).mean(0))
