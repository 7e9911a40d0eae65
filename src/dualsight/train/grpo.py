"""The two stages of VisMem's GRPO (arXiv:2511.11007, section 3.4) around any `VisMem`, in one loop.

==========  ====================================  ==========================  ====================================
stage       what learns                           who calls memory            tokens that count
==========  ====================================  ==========================  ====================================
memory      query builder, both formers           dice, at delimiters first,  text behind the first memory
                                                  then anywhere
invocation  rows and heads of the memory tokens   the model                   all that were chosen, calls as well
==========  ====================================  ==========================  ====================================

G answers o_i are sampled to a prompt, and a few without memory, for S_base. With r_it = p(o_it) / p_old(o_it)::

    R_i = S_i                                                       memory
    R_i = S_i - alpha * (p_type_i + p_neg_i) - cost * calls_i       invocation
    A_i = (R_i - mean S_base) / std
    L   = 1/G sum_i 1/|o_i| sum_t -min(r_it A_i, clip(r_it, 1 - eps, 1 + eps) A_i) + beta * KL_it

Where this departs from the paper:

- The paper's gain S - S_base is S within a group: S_base is the same for all of it and cancels in S - mean S. Here
  S_base is the baseline. The deviation is then that of answers with and without memory together: that of answers with
  memory alone is zero where memory makes all of them right, just when it helped most.
- Its p_neg is a constant times S where S is 0 or 1 and cancels as well, and it punishes answers that called nothing.
  Here ``p_neg = [calls > 0] max(0, S_base - S)``. The cost of a call is ours.
- Latents follow from what was read and have no density. What was sampled is the text behind them: its likelihood is
  differentiated through them. ``latents="gaussian"`` draws them around what was formed instead, and then each of them
  is an action with a density, and the text has nothing to learn from.
- The reference of the KL is the memory as it was before training, around the same VLM.

All that is drawn at a step follows from the seed and the number of the step, so a run that was killed and resumed
draws what it would have drawn, and however many processes share the prompts of a step draw the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.trainer_utils import get_last_checkpoint

from dualsight.checkpoints.vismem import save_memory
from dualsight.checkpoints.weights import CheckpointError, WeightFiles, check_names
from dualsight.data.files import Log, read_lines, write_json, write_lines
from dualsight.data.rewards import Decode, Reward, Row
from dualsight.memory.vlms import TEXT_INPUTS
from dualsight.models.vismem import KINDS, Invocation, Latents, VisMem, ends_of
from dualsight.train.trainer import Progress, Run, console, training_device
from dualsight.types import Examples

PARTS = {"memory": ("builder", "relook", "short", "long"), "invocation": ("tokens",)}
"""What each stage trains."""


@dataclass(frozen=True)
class GRPO:
    """One stage. Numbers are the paper's where it gives them."""

    stage: Literal["memory", "invocation"] = "memory"
    group: int = 16
    """G, answers to a prompt."""
    base_group: int = 4
    """Answers without memory, whose mean reward is S_base."""
    baseline: Literal["base", "group"] = "base"
    """What is subtracted from rewards: the mean of the answers without memory, or that of the group."""
    answer: int = 256
    """Tokens of an answer, those of its memories among them."""
    temperature: float = 1.0
    share: float = 0.5
    """Stage "memory": of delimiters at which memory is forced; short and long are equally likely."""
    wide_after: float = 0.5
    """From this share of the steps on memory is forced anywhere ..."""
    wide_share: float = 0.1
    """... with this probability."""
    alpha: float = 0.3
    """Stage "invocation": weight of both penalties."""
    cost: float = 0.0
    """Stage "invocation": of one call."""
    iterations: int = 1
    """Steps of the optimiser on the same answers."""
    clip: float = 0.2
    beta: float = 0.015
    """Weight of the KL; 0 leaves it out."""
    target_kl: float = 0.0
    """Nats per token that ``beta`` is steered to, ``beta *= 1 + 0.1 clip(KL / target_kl - 1, -0.2, 0.2)`` after every
    step (arXiv:1909.08593, section 2.2); 0 keeps it. The paper says 0.03 and 0.05, and not how."""
    latents: Literal["exact", "gaussian"] = "exact"
    sigma: float = 0.1
    """Of Gaussian latents, in shares of the root mean square of the VLM's embeddings."""
    rows: int = 16
    """Answers that are scored at a time."""

    def __post_init__(self):
        shares = {name: getattr(self, name) for name in ("share", "wide_after", "wide_share")}
        if wrong := {name: share for name, share in shares.items() if not 0 <= share <= 1}:
            raise ValueError(f"{wrong}: each is a share, from 0 to 1")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature}: answers are sampled, with a temperature above 0")
        weights = {name: getattr(self, name) for name in ("alpha", "cost", "beta", "clip", "target_kl")}
        if wrong := {name: weight for name, weight in weights.items() if not weight >= 0}:
            raise ValueError(f"{wrong}: none of them is below 0")
        if not self.sigma > 0:
            raise ValueError(f"sigma={self.sigma}: Gaussian latents need a spread above 0")
        if self.stage == "invocation" and self.latents == "gaussian":
            raise ValueError("Gaussian latents are for the stage that trains them: stage='memory'")
        if min(self.group, self.base_group, self.rows, self.iterations) < 1:
            raise ValueError("group, base_group, rows and iterations are all at least 1")
        if self.target_kl and not self.beta:
            raise ValueError("a KL that is left out cannot be steered: target_kl needs beta above 0")


def run_of(stage: str, out: Path, steps: int, processes: int = 1, **changes: Any) -> Run:
    """The paper's settings of a stage, 8 prompts to a step in all processes together; ``changes`` replace them. Weights
    do not decay: what says <short> is fitted to logits (`VisMem.fit_calls`), and where it shrinks, calls get rarer."""
    if 8 % processes and "batch" not in changes:
        raise ValueError(f"8 prompts do not divide among {processes} processes: say batch=, prompts of one process")
    learning_rate, warmup = {"memory": (5e-5, 0.2), "invocation": (1e-5, 0.1)}[stage]
    run = Run(
        out, steps, learning_rate=learning_rate, batch=8 // processes, warmup=warmup, weight_decay=0.0, log_every=1
    )
    return replace(run, **changes)


# --- rewards of a group -----------------------------------------------------------------------------------------------


def shaped(
    scores: Float[Tensor, " G"],
    base: Float[Tensor, " B"],
    turned: Float[Tensor, " G"],
    calls: Int[Tensor, " G"],
    alpha: float,
    cost: float,
) -> Float[Tensor, " G"]:
    """R of stage "invocation". ``turned`` is S of the same answers with the other kind of memory."""
    p_type = (turned - scores).clamp(min=0)
    p_neg = (calls > 0) * (base.mean() - scores).clamp(min=0)
    return scores - alpha * (p_type + p_neg) - cost * calls


def advantages(
    rewards: Float[Tensor, " G"], base: Float[Tensor, " B"], baseline: str = "base", eps: float = 1e-8
) -> Float[Tensor, " G"]:
    """``(R - baseline) / (std + eps)``, see above. ``eps`` is for groups in which all is alike."""
    mean, group = (base.mean(), torch.cat([rewards, base])) if baseline == "base" else (rewards.mean(), rewards)
    return (rewards - mean) / (group.std(correction=0) + eps)


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass
class Answers:
    """Some answers to a prompt, and what their loss needs."""

    ids: Int[Tensor, "R L"]
    """With the prompt."""
    prompt: int
    """Its columns."""
    vision: dict[str, Any]
    """Images of the prompt."""
    counts: Bool[Tensor, "R T"]
    """Which of the tokens behind the prompt are learnt from."""
    advantage: Float[Tensor, " R"]
    weight: float
    """1 / G."""
    latents: list[list[Tensor]] = field(default_factory=list)
    """Gaussian latents that were drawn: of each row the (N, D) of its memories."""
    old: Tensor | None = None
    """What `Learner.read` gave with the weights that said it."""
    reference: Tensor | None = None
    """And with the reference's."""

    @property
    def said(self) -> Int[Tensor, "R T"]:
        return self.ids[:, self.prompt :]


class Drawn:
    """Latents around those that were formed, kept by row."""

    def __init__(self, rows: int, spread: float, seed: int):
        self.of: list[list[Tensor]] = [[] for _ in range(rows)]
        self.spread, self._rng = spread, torch.Generator().manual_seed(seed)

    def __call__(self, rows: list[int], means: Float[Tensor, "R N D"]) -> Float[Tensor, "R N D"]:
        drawn = means + self.spread * torch.randn(means.shape, generator=self._rng).to(means)
        for row, latents in zip(rows, drawn, strict=True):
            self.of[row].append(latents)
        return drawn


class Replayed:
    """Latents that were drawn once enter again; what is formed now is kept: the means of their density."""

    def __init__(self, latents: list[list[Tensor]]):
        self._left = [iter(of_row) for of_row in latents]
        self._means: list[list[Tensor]] = [[] for _ in latents]

    def __call__(self, rows: list[int], means: Float[Tensor, "R N D"]) -> Float[Tensor, "R N D"]:
        for row, mean in zip(rows, means, strict=True):
            self._means[row].append(mean)
        return torch.stack([next(self._left[row]) for row in rows])

    @property
    def means(self) -> Float[Tensor, "n D"]:
        """Row by row."""
        return torch.cat([mean for of_row in self._means for mean in of_row])


class Script(LogitsProcessor):
    """What each row has to say, token by token; behind its end it is free."""

    def __init__(self, rows: list[list[int]], prompt: int):
        self.rows, self.prompt = rows, prompt

    def __call__(self, input_ids: Int[Tensor, "R L"], scores: Float[Tensor, "R W"]) -> Float[Tensor, "R W"]:
        scores, place = scores.clone(), input_ids.shape[1] - self.prompt
        for row, script in enumerate(self.rows):
            if place < len(script):
                scores[row] = torch.finfo(scores.dtype).min
                scores[row, script[place]] = 0.0
        return scores


@contextmanager
def plain_sampling(vlm: Any, answer: int, temperature: float, copies: int) -> Generator[None]:
    """Within, ``vlm.generate`` samples from the softmax of its logits over the temperature and from nothing else: top-k
    or penalties of the model's own settings would make likelihoods those of another distribution."""
    before = vlm.generation_config
    ends = ends_of(vlm)
    padding = before.pad_token_id if before.pad_token_id is not None else next(iter(ends), None)
    vlm.generation_config = GenerationConfig(
        do_sample=True, temperature=temperature, top_k=0, max_new_tokens=answer, num_return_sequences=copies,
        eos_token_id=ends or None, pad_token_id=padding, bos_token_id=before.bos_token_id,
    )  # fmt: skip
    try:
        yield
    finally:
        vlm.generation_config = before


@contextmanager
def anywhere(memory: VisMem, wide: bool) -> Generator[None]:
    """Within, memory may be called behind any token of the VLM's, if ``wide``."""
    before = memory.delimiters
    if wide:
        memory.delimiters = cast(tuple[int, ...], range(memory.tokens.first))
    try:
        yield
    finally:
        memory.delimiters = before


def may_call(memory: VisMem, ids: Int[Tensor, "R L"], prompt: int, answer: int) -> Bool[Tensor, "R T 2"]:
    """Which kinds could be called in the place of each token behind the prompt, in the mode ``learned``: `Grammar`'s
    rule for all places at once. It holds where somebody chose, not within a memory."""
    said, before, tokens, config = ids[:, prompt:], ids[:, prompt - 1 : -1], memory.tokens, memory.config
    begins = tokens.calls(said).long()
    open_ = begins.cumsum(1) - begins < config.max_invocations
    if config.anchored:
        open_ &= torch.isin(before, torch.tensor(memory.delimiters, device=ids.device))
    places = torch.arange(said.shape[1], device=ids.device)
    fits = [places + len(memory.written(kind)) <= answer for kind in KINDS]
    sees = memory.parts.shows(ids[:, :prompt]).any(1)
    looks = torch.stack([sees if kind == "short" else torch.ones_like(sees) for kind in KINDS], -1)
    return open_[..., None] & torch.stack(fits, -1) & looks[:, None]


# --- the two stages ---------------------------------------------------------------------------------------------------


class Learner:
    """A memory in one stage of its training: makes answers, and the loss of answers.

    Raises:
        ValueError: the VLM is not frozen, or its answers have no room for a memory.
    """

    def __init__(self, memory: VisMem, config: GRPO, reward: Reward, decode: Decode):
        self.memory, self.config, self.reward, self.decode = memory, config, reward, decode
        self.beta = config.beta
        """Of now."""
        if any(parameter.requires_grad for parameter in memory.vlm.parameters()):
            raise ValueError("the VLM is frozen in both stages: vlm.requires_grad_(False)")
        behind = config.stage == "memory"  # a token that is learnt from
        if config.answer < (needed := min(len(memory.written(kind)) for kind in KINDS) + behind):
            raise ValueError(
                f"answer={config.answer} tokens have no room for a memory{' and a word behind it' * behind}, which "
                f"take at least {needed}"
            )
        memory.requires_grad_(False)
        self.trained = {
            name: parameter
            for name, parameter in memory.named_parameters()
            if name.split(".")[0] in PARTS[config.stage]
        }
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self.reference = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        table: Tensor = memory.vlm.get_input_embeddings().weight
        self.spread = config.sigma * float(table.detach().float().pow(2).mean().sqrt())
        self.ends = ends_of(memory.vlm)
        self.frozen = _digest(memory, self.trained)
        """Which memory a checkpoint goes on with."""

    @contextmanager
    def as_reference(self) -> Generator[None]:
        """Within, the memory is the one that training began with."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self.trained.items():
            parameter.data, self.reference[name] = self.reference[name], parameter.data

    # --- roll-outs --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def roll_out(self, row: Row, seed: int, wide: bool = False) -> tuple[list[Answers], dict[str, float]]:
        """A group of answers to a prompt, in parts of ``rows``, and its metrics. Answers with nothing to learn from are
        left out.

        Args:
            wide: memory is forced anywhere, not at delimiters only (stage "memory").

        Raises:
            ValueError: the row has no inputs for the VLM, or several prompts.
        """
        c, memory = self.config, self.memory
        inputs = self._inputs(row)
        prompt, drawn = inputs["input_ids"].shape[1], None
        mode = "learned" if c.stage == "invocation" else f"random:{c.wide_share if wide else c.share}"
        if c.latents == "gaussian":
            drawn = Drawn(c.group, self.spread, seed)
        with anywhere(memory, wide):
            ids, calls = self.sample(inputs, mode, c.group, seed, latents=drawn)
        base = self._scores(row, self.sample(inputs, "off", c.base_group, seed + 1)[0][:, prompt:])
        scores, number = self._scores(row, ids[:, prompt:]), _calls_of_rows(calls, c.group)
        rewards, metrics = scores, {}
        if c.stage == "invocation":
            turned = self._turned(row, inputs, ids, scores, seed)
            rewards = shaped(scores, base, turned, number.sum(1), c.alpha, c.cost)
            metrics = {"score_turned": float(turned.mean())}
        by_baseline = {name: advantages(rewards, base, name) for name in ("base", "group")}
        counts = self.counted(ids, prompt)
        metrics |= {
            "reward": float(rewards.mean()), "score": float(scores.mean()), "score_base": float(base.mean()),
            "std": float(rewards.std(correction=0)), "tokens": float(counts.sum(1).float().mean()),
            **{f"calls_{kind}": float(number[:, i].float().mean()) for i, kind in enumerate(KINDS)},
            **{f"advantage_{name}": float(of.abs().mean()) for name, of in by_baseline.items()},
        }  # fmt: skip
        vision = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
        parts = []
        for rows in counts.any(1).nonzero()[:, 0].split(c.rows):
            if len(rows):
                advantage = by_baseline[c.baseline].to(ids.device, torch.float32)[rows]
                latents = [drawn.of[row] for row in rows.tolist()] if drawn else []
                parts.append(Answers(ids[rows], prompt, vision, counts[rows], advantage, 1 / c.group, latents))
        return parts, metrics

    def counted(self, ids: Int[Tensor, "R L"], prompt: int) -> Bool[Tensor, "R T"]:
        """Tokens that are learnt from. Placeholders and ends are never, as nobody chose them, nor is what stands behind
        the end of an answer."""
        said = ids[:, prompt:]
        begins = self.memory.tokens.calls(said)
        over = self._among(said, self.ends).long()
        there = over.cumsum(1) - over == 0
        if self.config.latents == "gaussian":
            return (said == self.memory.tokens.placeholder) & there
        chosen = self.memory.chosen(said) & there
        if self.config.stage == "invocation":
            return chosen
        return chosen & ~begins & (begins.cumsum(1) > 0)

    def texts(self, said: Int[Tensor, "R T"]) -> list[str]:
        """What answers say."""
        return [self.decode(ids) for ids in self.memory.spoken(said, self.ends)]

    def _among(self, ids: Tensor, which: Sequence[int]) -> Tensor:
        return torch.isin(ids, torch.tensor(which, dtype=ids.dtype, device=ids.device))

    def _scores(self, row: Row, said: Tensor) -> Tensor:
        return torch.tensor([self._score(row, text) for text in self.texts(said)], dtype=torch.float64)

    def _score(self, row: Row, text: str) -> float:
        score: Any = self.reward(row["prompt"], text, row)
        try:
            if math.isfinite(number := float(score)):
                return number
        except (TypeError, ValueError):
            pass
        raise ValueError(
            f"the reward {getattr(self.reward, '__name__', self.reward)} gave {score!r} for {text!r} in answer to "
            f"{row['prompt']!r}: expected a finite number"
        )

    def _inputs(self, row: Row) -> dict[str, Tensor]:
        if missing := [name for name in ("inputs", "prompt") if name not in row]:
            raise ValueError(f"a row of GRPO needs {' and '.join(missing)}; this one has {', '.join(map(str, row))}")
        inputs = {name: tensor.to(self.memory.vlm.device) for name, tensor in row["inputs"].items()}
        ids = inputs["input_ids"]
        there = inputs.setdefault("attention_mask", torch.ones_like(ids))
        if len(ids) != 1 or not there.all():
            raise ValueError(f"expected the inputs of one prompt without padding, got input_ids {tuple(ids.shape)} "
                             f"of which {int(there.sum())} are there: make them of one row at a time")  # fmt: skip
        return inputs

    def sample(
        self,
        inputs: dict[str, Tensor],
        mode: str,
        copies: int,
        seed: int,
        processors: Sequence[LogitsProcessor] = (),
        latents: Latents | None = None,
    ) -> tuple[Int[Tensor, "R L"], list[Invocation]]:
        """``copies`` answers to each prompt by plain sampling, with their prompt, and the memories that they called."""
        c, ids = self.config, inputs["input_ids"]
        devices = [ids.device] if ids.is_cuda else []
        with (
            plain_sampling(self.memory.vlm, c.answer, c.temperature, copies),
            self.memory.parts.sharing_prompts(copies),
            torch.random.fork_rng(devices),
        ):
            torch.manual_seed(seed)
            given = LogitsProcessorList(processors)
            return self.memory.generate_with_trace(mode, seed, latents, **inputs, logits_processor=given)

    def _turned(self, row: Row, inputs: dict[str, Tensor], ids: Tensor, scores: Tensor, seed: int) -> Tensor:
        """S of the answers if each had first called the other kind, and gone on from there with the same seed; S of the
        answer itself where it called nothing, or where the other kind is too long."""
        prompt = inputs["input_ids"].shape[1]
        sees = bool(self.memory.parts.shows(inputs["input_ids"]).any())
        scripts = [self.turn(said, sees) for said in ids[:, prompt:].tolist()]
        if not any(scripts):
            return scores
        whole = [script or said for script, said in zip(scripts, ids[:, prompt:].tolist(), strict=True)]
        others, _ = self.sample(inputs, "learned", len(ids), seed, [Script(whole, prompt)])
        turned = torch.tensor([bool(script) for script in scripts])
        return torch.where(turned, self._scores(row, others[:, prompt:]), scores)

    def turn(self, said: list[int], sees: bool = True) -> list[int]:
        """An answer up to its first call, and the call of the other kind; nothing, if there is no call or no room, or
        no image for a short memory to look at."""
        begin = self.memory.tokens.begin
        for place, token in enumerate(said):
            if token in begin:
                other = 1 - begin.index(token)
                fits = place + len(self.memory.written(KINDS[other])) <= self.config.answer
                return [*said[:place], begin[other]] if fits and (sees or KINDS[other] == "long") else []
        return []

    # --- the loss ---------------------------------------------------------------------------------------------------

    def loss(self, answers: Answers) -> tuple[Tensor, dict[str, float]]:
        """The share of ``answers`` in the loss of their group, and its metrics."""
        c = self.config
        if c.beta and answers.reference is None:
            with torch.no_grad(), self.as_reference():
                answers.reference = self.read(answers)
        now = self.read(answers)
        if answers.old is None:  # nothing has moved since they were said
            answers.old = now.detach()
        ratio = (self.log_probs(now, answers) - self.log_probs(answers.old, answers)).exp()
        advantage = answers.advantage[:, None]
        gain, clipped = ratio * advantage, ratio.clamp(1 - c.clip, 1 + c.clip) * advantage
        terms = {"objective": torch.minimum(gain, clipped), "clipped": (clipped < gain).to(ratio.dtype)}
        if c.beta:
            terms["kl"] = self.divergence(now, answers)
        means = {name: self._mean(term, answers) for name, term in terms.items()}
        loss = -means["objective"] + self.beta * means.get("kl", 0.0)
        return loss, {"loss": float(loss.detach())} | {name: float(mean.detach()) for name, mean in means.items()}

    def steer(self, kl: float) -> None:
        """Move ``beta`` after a step whose KL was ``kl``."""
        if self.config.target_kl:
            self.beta *= 1 + 0.1 * min(0.2, max(-0.2, kl / self.config.target_kl - 1))

    def _mean(self, term: Float[Tensor, "R T"], answers: Answers) -> Float[Tensor, ""]:
        """Over the tokens of an answer, then over the answers of the group."""
        return ((term * answers.counts).sum(1) / answers.counts.sum(1)).sum() * answers.weight

    def read(self, answers: Answers) -> Tensor:
        """What the memory as it is makes of answers: log-probabilities of their tokens (R, T), 0 where none counts; of
        Gaussian latents, row by row, their means (n, D)."""
        replayed = Replayed(answers.latents) if answers.latents else None
        logits = self.memory.score_answers(
            answers.ids, torch.ones_like(answers.ids), answers.prompt, len(answers.ids), replayed, **answers.vision
        )
        if replayed:
            return replayed.means.float()
        logits = self.sampled_logits(logits, answers.ids, answers.prompt)
        chosen = logits.gather(-1, answers.said[..., None])[..., 0] - logits.logsumexp(-1)
        return torch.where(answers.counts, chosen, 0.0)

    def sampled_logits(
        self, logits: Float[Tensor, "R T W"], ids: Int[Tensor, "R L"], prompt: int
    ) -> Float[Tensor, "R T W"]:
        """Those whose softmax the tokens were drawn from: what `Grammar` bans is banned, then the temperature."""
        tokens, lowest = self.memory.tokens, torch.finfo(logits.dtype).min
        never = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        never[[*tokens.set, *self.memory.parts.vision_ids, *tokens.begin]] = True
        kept = logits.masked_fill(never, lowest)
        if self.config.stage == "invocation":  # where memory is forced, nobody else may call it
            begins, allowed = list(tokens.begin), may_call(self.memory, ids, prompt, self.config.answer)
            kept[..., begins] = logits[..., begins].masked_fill(~allowed, lowest)
        return kept.float() / self.config.temperature

    def log_probs(self, read: Tensor, answers: Answers) -> Float[Tensor, "R T"]:
        """Of tokens as they are; of Gaussian latents ``-|m - mean|^2 / 2 sigma^2`` and a constant, at their places."""
        if not answers.latents:
            return read
        drawn = torch.cat([latents for of_row in answers.latents for latents in of_row]).float()
        return self._at_latents(-(drawn - read).pow(2).sum(-1) / (2 * self.spread**2), answers)

    def divergence(self, now: Tensor, answers: Answers) -> Float[Tensor, "R T"]:
        """KL to the reference: of tokens the k3 estimate ``q/p - log q/p - 1``, which is never negative; of two
        Gaussians ``|mean - mean'|^2 / 2 sigma^2`` exactly."""
        assert answers.reference is not None
        if not answers.latents:
            log_ratio = answers.reference - now
            return log_ratio.exp() - log_ratio - 1
        return self._at_latents((now - answers.reference).pow(2).sum(-1) / (2 * self.spread**2), answers)

    def _at_latents(self, values: Float[Tensor, " n"], answers: Answers) -> Float[Tensor, "R T"]:
        places = answers.said == self.memory.tokens.placeholder
        return torch.zeros(places.shape, device=places.device).masked_scatter(places, values)


def _calls_of_rows(calls: Sequence[Invocation], rows: int) -> Int[Tensor, "R 2"]:
    number = torch.zeros(rows, len(KINDS), dtype=torch.long)
    for call in calls:
        number[call.row, KINDS.index(call.kind)] += 1
    return number


# --- the loop ---------------------------------------------------------------------------------------------------------


class Optimiser:
    """AdamW over 32-bit copies of what is trained: a bfloat16 weight would not notice steps as small as these."""

    def __init__(self, learner: Learner, run: Run):
        self.trained, self.run = learner.trained, run
        self.masters = {name: parameter.detach().clone().float() for name, parameter in self.trained.items()}
        self.adam = torch.optim.AdamW(
            self.masters.values(), run.learning_rate, betas=run.betas, weight_decay=run.weight_decay
        )

    @torch.no_grad()
    def publish(self) -> None:
        """The copies become the weights of the memory."""
        for name, parameter in self.trained.items():
            parameter.copy_(self.masters[name])

    def step(self, learning_rate: float) -> dict[str, float]:
        """One step along the gradients of all processes; returns their norms, by part of the memory."""
        own = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in self.trained.values()]
        # One vector: processes may have laid out the same gradient in different strides, which gloo does not look at.
        whole = _mean_of_processes(torch.cat([gradient.float().flatten() for gradient in own]))
        squares: dict[str, Tensor] = {}
        for (name, master), gradient in zip(self.masters.items(), whole.split([p.numel() for p in own]), strict=True):
            master.grad, self.trained[name].grad = gradient.view_as(master), None
            part = name.split(".")[0]
            squares[part] = squares.get(part, gradient.new_zeros(())) + gradient.pow(2).sum()
        norms = {f"gradient_{part}": float(square.sqrt()) for part, square in squares.items()}
        nn.utils.clip_grad_norm_(self.masters.values(), self.run.clip, error_if_nonfinite=True)
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.adam.step()
        self.publish()
        return norms


def train(memory: VisMem, rows: Examples, reward: Reward, decode: Decode, config: GRPO, run: Run) -> Path:
    """Train a memory in place through one stage and write it to ``run.out``; returns that folder. The last checkpoint
    under it is resumed if there is one. ``run.out/metrics.jsonl`` gets a line for every step.

    Under torchrun each process takes ``run.batch * run.accumulate`` prompts of a step.

    Args:
        rows: see `Row`.

    Raises:
        ValueError: there are no rows, ``run`` asks for what this loop does not do, or a reward is no finite number.
        KeyboardInterrupt: Ctrl-C or SIGTERM, once the step is done and a checkpoint is written.
        CheckpointError: the checkpoint is of another memory or stage.
    """
    if run.matrices or run.bf16 or run.report_to != "none":
        raise ValueError("GRPO trains with AdamW in the memory's own precision and logs to a file: "
                         "leave matrices, bf16 and report_to of Run as they are")  # fmt: skip
    if not len(rows):
        raise ValueError("no prompts to train on")
    memory.vlm.to(training_device())
    memory.to(training_device())
    with _processes(memory):
        learner = Learner(memory, config, reward, decode)
        optimiser = Optimiser(learner, run)
        begun = _resume(learner, optimiser, run.out)
        progress, device = Progress(run), memory.vlm.device
        if _rank() == 0:  # lines of steps that are made again go
            write_lines(run.out / LOG, read_lines(run.out / LOG)[:begun])
        with progress.heeding_signals():
            saved = time.monotonic()
            for step in range(begun, run.steps):
                metrics = _step(learner, optimiser, rows, step)
                if _rank() == 0:
                    with Log(run.out / LOG) as log:
                        log.append({"step": step + 1, **metrics})
                    if (step + 1) % run.log_every == 0:
                        _show(run, step + 1, metrics)
                due, progress.stopping = _any(
                    device, time.monotonic() - saved > 60 * run.save_minutes, progress.stopping
                )
                if due or progress.stopping or step + 1 == run.steps:
                    _save(learner, optimiser, run.out, step + 1)
                    saved = time.monotonic()
                if progress.stopping:
                    raise KeyboardInterrupt(f"stopped after step {step + 1}; the same command resumes from {run.out}")
        if _rank() == 0:
            save_memory(memory, run.out)
    return run.out


def _step(learner: Learner, optimiser: Optimiser, rows: Examples, step: int) -> dict[str, float]:
    """Answers to the prompts of a step, and ``iterations`` steps of the optimiser on them."""
    c, run = learner.config, optimiser.run
    mine, wide = run.batch * run.accumulate, step >= c.wide_after * run.steps and c.stage == "memory"
    total, first = mine * _world(), mine * _rank()
    found = []
    for place in range(first, first + mine):
        epoch, within = divmod(step * total + place, len(rows))
        index = int(np.random.default_rng((run.seed, epoch)).permutation(len(rows))[within])
        seed = int(np.random.default_rng((run.seed, step, place)).integers(2**31))
        found.append(learner.roll_out(rows[index], seed, wide))
    metrics = [metrics for _, metrics in found]
    for _ in range(c.iterations):
        for parts, _ in found:
            terms = {"loss": 0.0, "objective": 0.0, "clipped": 0.0} | ({"kl": 0.0} if c.beta else {})
            for answers in parts:
                loss, of_part = learner.loss(answers)
                (loss / mine).backward()
                terms = {name: terms[name] + of_part[name] for name in terms}
            metrics.append(terms)
        rate = run.learning_rate * schedule(run, step)
        norms = optimiser.step(rate)
    means = _mean_metrics(metrics, learner.memory.vlm.device) | {"beta": learner.beta}
    learner.steer(means.get("kl", 0.0))
    return means | norms | {"learning_rate": rate}


def schedule(run: Run, step: int) -> float:
    """Which share of the learning rate a step has: it climbs, then falls as a cosine, or stays."""
    climb = int(run.warmup * run.steps)
    if step < climb or run.schedule == "constant":
        return min(1.0, (step + 1) / max(1, climb))
    return 0.5 + 0.5 * math.cos(math.pi * (step - climb) / (run.steps - climb))


def _show(run: Run, step: int, metrics: Mapping[str, float]) -> None:
    shown = ("reward", "score", "score_base", "calls_short", "calls_long", "kl")
    terms = "  ".join(f"{name} {metrics[name]:.4g}" for name in shown if name in metrics)
    console.print(f"step {step}/{run.steps}  {terms}")


WEIGHTS, STATE, ADAM, LOG = "model.safetensors", "state.json", "optimizer.pt", "metrics.jsonl"


def _save(learner: Learner, optimiser: Optimiser, out: Path, step: int) -> None:
    """A checkpoint in the place of the last one. A folder has its name only once it is whole."""
    if _rank() != 0:
        return
    partial, folder = out / ".partial", out / f"checkpoint-{step}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in _weights(learner, optimiser).items()}, partial / WEIGHTS
    )
    torch.save(optimiser.adam.state_dict(), partial / ADAM)
    write_json(partial / STATE, {"step": step, "beta": learner.beta, "frozen": learner.frozen})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    for old in out.glob("checkpoint-*"):
        if old != folder:
            shutil.rmtree(old)


@torch.no_grad()
def _resume(learner: Learner, optimiser: Optimiser, out: Path) -> int:
    """Steps that the last checkpoint was made after; 0 if there is none."""
    last = get_last_checkpoint(str(out)) if out.is_dir() else None
    if last is None:
        return 0
    console.print(f"resuming {last}")
    state = json.loads((Path(last) / STATE).read_text())
    files, weights = WeightFiles(Path(last) / WEIGHTS), _weights(learner, optimiser)
    check_names(files.shapes, {name: tuple(tensor.shape) for name, tensor in weights.items()}, last)
    if state.get("frozen", learner.frozen) != learner.frozen:
        raise CheckpointError(
            f"{last} is of another memory: what this stage does not train differs. Begin with the memory that it began "
            "with, or write elsewhere"
        )
    for name, tensor in files.read(weights).items():
        weights[name].copy_(tensor)
    device = learner.memory.vlm.device
    optimiser.adam.load_state_dict(torch.load(Path(last) / ADAM, map_location=device, weights_only=True))
    optimiser.publish()
    learner.beta = float(state.get("beta", learner.beta))  # checkpoints of before it could move have none
    return int(state["step"])


def _weights(learner: Learner, optimiser: Optimiser) -> dict[str, Tensor]:
    """What is trained, and what it was before."""
    was = {f"reference.{name}": tensor for name, tensor in learner.reference.items()}
    return {f"memory.{name}": tensor for name, tensor in optimiser.masters.items()} | was


def _digest(memory: VisMem, trained: Mapping[str, Tensor]) -> str:
    """Of what of a memory is not trained."""
    whole = hashlib.sha256()
    for name, tensor in sorted(memory.state_dict().items()):
        if name not in trained:
            whole.update(name.encode())
            whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


# --- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def _processes(memory: VisMem) -> Generator[None]:
    """The processes of a launcher know each other and begin with one memory. A group that is left open can abort a
    process at its exit."""
    opened = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if opened:
        dist.init_process_group()
    try:
        if dist.is_initialized():
            for tensor in memory.state_dict().values():
                dist.broadcast(tensor, 0)
        yield
    finally:
        if opened:
            dist.destroy_process_group()


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _mean_of_processes(x: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(x)
        x /= _world()
    return x


def _any(device: torch.device, *asked: bool) -> list[bool]:
    """What at least one process asks for, each: saving and stopping are acts of all."""
    votes = _mean_of_processes(torch.tensor(asked, dtype=torch.float32, device=device))
    return (votes > 0).tolist()


def _mean_metrics(metrics: Sequence[Mapping[str, float]], device: torch.device) -> dict[str, float]:
    """Over prompts, in all processes."""
    names = list(dict.fromkeys(name for one in metrics for name in one))
    of = {name: [one[name] for one in metrics if name in one] for name in names}
    means = _mean_of_processes(torch.tensor([sum(of[name]) / len(of[name]) for name in names], device=device))
    return dict(zip(names, means.tolist(), strict=True))
