"""The two stages of VisMem's GRPO (``grpo.py``) on TRL's ``GRPOTrainer``, for its datasets, reward functions and logs.

The loop of ``grpo.py`` is the reference: for the same answers, advantages and masks the loss and its gradients are the
same. This module needs TRL 1.16 (``dualsight[grpo]``), and is imported by nothing else.

What goes through TRL, and how:

============================  ==========================================================================================
``policy.generate``           `VisMem.generate` in the stage's mode, sampled as the reference samples
``policy.forward``            `VisMem.score`, then the log-probabilities of what was said under the bans of `Grammar`.
                              TRL's own way to log-probabilities goes around ``forward`` and its head: not taken
mask of tools                 `Learner.counted`: placeholders, ends, forced calls and what stands before them do not
                              count
reward functions              also score answers without memory, for S_base, and with the other kind of memory; the
                              penalties of stage "invocation" are one more reward, ``memory_penalty``
``beta``                      the reference policy is the memory as it was before training. (TRL's own would be the VLM
                              from disk, without memory: its ``beta`` stays 0, `GRPO.beta` counts)
============================  ==========================================================================================

What differs from the reference:

- ``baseline="group"`` is TRL's own: ``(R - mean R) / (std R + 1e-4)`` with the unbiased std, so advantages are smaller
  by sqrt((G - 1) / G); ``scale_rewards`` changes it. ``baseline="base"`` is the reference's, though TRL's table of
  completions shows its own.
- What is drawn follows from the random state of the Trainer: the same seed gives other answers.
- The learning rate climbs from 0, and weight decay spares biases and norms, as everywhere in transformers.
- A step of the Trainer is one of the optimiser: there are ``run.steps * iterations`` of them.
- The reference policy of a run that is resumed is the memory that is given, not what a checkpoint says.
- Not here: Gaussian latents, and weights in bfloat16, which would not notice steps of this size.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LogitsProcessor, ProcessorMixin, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from dualsight.checkpoints.vismem import save_memory
from dualsight.data.rewards import Reward
from dualsight.extras import install
from dualsight.memory.vlms import TEXT_INPUTS
from dualsight.models.vismem import KINDS, VisMem
from dualsight.train.grpo import GRPO, Learner, Script, advantages, anywhere, shaped
from dualsight.train.trainer import Progress, Run, close_group, console

try:
    import trl
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    raise ImportError(f"this needs TRL: {install('grpo')}; dualsight.train.grpo does without") from error

TRL = "1.16"
"""All that is overridden here is private to TRL, and another release may call it otherwise."""
REFERENCE = "use the reference loop, dualsight.train.grpo.train"


def settings(config: GRPO, run: Run, **changes: Any) -> GRPOConfig:
    """TRL's settings of a stage. ``changes`` are further ones, such as ``loss_type`` or ``log_completions``.

    Raises:
        ValueError: a change of what follows from ``config`` and ``run``, or of what must stay as it is for answers to
            have the likelihood that they were said with; or ``run`` asks for what this does not do.
    """
    if run.matrices or run.bf16:
        raise ValueError("GRPO trains with AdamW in 32 bits: leave matrices and bf16 of Run as they are")
    if config.target_kl:
        raise ValueError(f"nothing steers the KL here: leave target_kl at 0, or {REFERENCE}")
    answers = run.batch * run.accumulate * config.group
    rows = math.gcd(config.rows, answers)
    ours: dict[str, Any] = {
        # of config
        "num_generations": config.group, "max_completion_length": config.answer, "temperature": config.temperature,
        "num_iterations": config.iterations, "epsilon": config.clip, "beta": 0.0,
        "per_device_train_batch_size": rows, "gradient_accumulation_steps": answers // rows,
        # of run
        "output_dir": str(run.out), "max_steps": run.steps * config.iterations, "learning_rate": run.learning_rate,
        "lr_scheduler_type": "cosine" if run.schedule == "cosine" else "constant_with_warmup",
        "warmup_steps": int(run.warmup * run.steps) * config.iterations, "weight_decay": run.weight_decay,
        "adam_beta1": run.betas[0], "adam_beta2": run.betas[1], "max_grad_norm": run.clip, "seed": run.seed,
        "logging_steps": run.log_every, "report_to": run.report_to,
        "save_strategy": "steps", "save_steps": 10**9,  # by the clock, in Progress
        # plain sampling with memory, and 32 bits
        "top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None,
        "cache_implementation": None, "use_vllm": False, "use_transformers_continuous_batching": False, "bf16": False,
        "fp16": False, "cast_lm_head_to_fp32": False, "gradient_checkpointing": False, "use_liger_kernel": False,
        "disable_dropout": False, "mask_truncated_completions": False, "pad_to_multiple_of": None,
        "steps_per_generation": None, "generation_batch_size": None, "entropy_coef": 0.0,
        "use_adaptive_entropy": False, "multi_objective_aggregation": "sum_then_normalize",
    }  # fmt: skip
    if clash := sorted(ours.keys() & changes.keys()):
        raise ValueError(f"{', '.join(clash)}: these follow from GRPO and Run, or have no other value with memory; "
                         "change them there, or leave them out")  # fmt: skip
    usual: dict[str, Any] = {
        "loss_type": "grpo", "use_bias_correction_kl": False, "save_total_limit": 1, "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(), "dataloader_pin_memory": torch.cuda.is_available(),
    }  # fmt: skip
    return GRPOConfig(**(usual | ours | changes))


def reward_function(reward: Reward) -> Callable[..., list[float]]:
    """One of ``rewards.py`` as TRL calls it; its row are the other columns of the dataset."""

    def score(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        known = {name: of for name, of in columns.items() if isinstance(of, list) and len(of) == len(prompts)}
        rows = [{name: of[index] for name, of in known.items()} for index in range(len(prompts))]
        return [
            reward(_text(prompt), _text(completion), row)
            for prompt, completion, row in zip(prompts, completions, rows, strict=True)
        ]

    score.__name__ = getattr(reward, "__name__", type(reward).__name__)
    return score


def _text(said: Any) -> str:
    """What messages say, or a string itself."""
    if isinstance(said, str):
        return said
    contents = [message["content"] for message in said]
    return "".join(
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        for content in contents
    )


class Scored(NamedTuple):
    """What TRL's loss reads off a pass."""

    log_probs: Float[Tensor, "R T"]
    """Of the tokens behind the prompt; 0 where nothing is learnt."""
    entropy: Float[Tensor, "R T"]
    """Without a gradient."""


class Policy(nn.Module):
    """A memory in one stage of its training, as TRL asks for a model. Its parameters are the memory's alone.

    ``mode``, ``seed`` and ``scripts`` say what ``generate`` does next.
    """

    is_gradient_checkpointing = False

    def __init__(self, learner: Learner):
        super().__init__()
        self.memory, self.learner = learner.memory, learner
        self.mode, self.seed = "off", 0
        self.scripts: list[list[int]] = []
        """What each row has to say first."""

    @property
    def config(self) -> Any:
        return self.memory.vlm.config

    @property
    def generation_config(self) -> Any:
        return self.memory.vlm.generation_config

    @generation_config.setter
    def generation_config(self, value: Any) -> None:
        self.memory.vlm.generation_config = value

    def add_model_tags(self, tags: Any) -> None:
        """The VLM's card stays its own."""

    def generate(
        self, input_ids: Int[Tensor, "R P"], generation_config: Any = None, **inputs: Any
    ) -> Int[Tensor, "R L"]:
        """An answer to each prompt, padded on the left, by plain sampling: see `settings`."""
        script: list[LogitsProcessor] = [Script(self.scripts, input_ids.shape[1])] if self.scripts else []
        return self.learner.sample({"input_ids": input_ids, **inputs}, self.mode, 1, self.seed, script)[0]

    def forward(
        self, input_ids: Int[Tensor, "R L"], attention_mask: Int[Tensor, "R L"], prompt: int, **inputs: Any
    ) -> Scored:
        """`Learner.read` of answers to different prompts: these are padded on the left, answers on the right.

        Args:
            prompt: columns of the prompts.
        """
        learner, said = self.learner, input_ids[:, prompt:]
        vision = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
        logits = self.memory.score_answers(input_ids, attention_mask, prompt, **vision)
        logits = learner.sampled_logits(logits, input_ids, prompt)
        chosen = logits.gather(-1, said[..., None])[..., 0] - logits.logsumexp(-1)
        with torch.no_grad():
            entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
        # Where no memory was called nothing leads to it, but a backward pass, and that of other processes, wants a way.
        connected = torch.stack([(parameter * 0.0).sum() for parameter in learner.trained.values()]).sum()
        return Scored(torch.where(learner.counted(input_ids, prompt), chosen, 0.0) + connected, entropy)


class Answered(NamedTuple):
    """Answers as TRL gives them to reward functions, and the places of their rows in the batch."""

    rows: list[int]
    completions: list[Any]
    ids: list[list[int]]


class MemoryGRPOTrainer(GRPOTrainer):
    """``GRPOTrainer`` of a memory; the VLM is frozen.

    Args:
        memory: trained in place.
        config: the stage.
        run: ``run.batch * run.accumulate`` prompts make up a step of a process.
        reward_funcs: as TRL calls them; `reward_function` makes one of a `Reward`.
        dataset: of ``datasets``, with the columns that TRL wants: ``prompt``, messages, and ``image`` or ``images``.
        processor: of the VLM.
        changes: see `settings`.

    Raises:
        ImportError: another release of TRL.
        ValueError: ``config`` asks for what only the reference loop does, or see `settings` and `Learner`.
        RuntimeError: processes do not know of each other.
    """

    def __init__(
        self,
        memory: VisMem,
        config: GRPO,
        run: Run,
        reward_funcs: Sequence[Callable[..., Any]],
        dataset: Any,
        processor: ProcessorMixin,
        callbacks: Sequence[TrainerCallback] = (),
        **changes: Any,
    ):
        _check(memory, config)
        self.stage, self.learner = config, Learner(memory, config, _not_ours, _not_ours)
        self.policy = Policy(self.learner)
        functions: list[Any] = list(reward_funcs)
        if config.stage == "invocation":
            functions.append(memory_penalty)
            if weights := changes.get("reward_weights"):
                changes = changes | {"reward_weights": [*weights, 1.0]}
        args = settings(config, run, **changes)
        memory.vlm.to(args.device)
        super().__init__(
            model=self.policy,  # ty: ignore[invalid-argument-type]
            reward_funcs=functions,
            args=args,
            train_dataset=dataset,
            processing_class=processor,
            callbacks=list(callbacks),
        )
        if (seen := self.accelerator.num_processes) != (world := int(os.environ.get("WORLD_SIZE", "1"))):
            raise RuntimeError(f"accelerate sees {seen} process(es), the launcher started {world}: "
                               "on CPU launch with ACCELERATE_USE_CPU=true torchrun --nproc_per_node N")  # fmt: skip
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("a memory is small, and its VLM is none of TRL's: launch without FSDP and DeepSpeed")
        self.policy.generation_config.eos_token_id = self.learner.ends = self.eos_token_ids
        self.beta, self.ref_model = config.beta, self._reference if config.beta else None
        self._base: Answered | None = None
        self._turned: Answered | None = None
        self._prompts = run.batch * run.accumulate * self.args.world_size
        self._advantages = torch.zeros(0)

    # --- roll-outs ----------------------------------------------------------------------------------------------------

    def _generate(self, prompts: list) -> tuple:
        """Answers with memory, the mask of what counts in them, and, where rewards need them, the same prompts answered
        without memory or with the other kind."""
        c, policy, learner = self.stage, self.policy, self.learner
        seed = int(torch.randint(2**31, ()))  # from a state that checkpoints keep
        wide = c.stage == "memory" and self.state.global_step >= c.wide_after * self.args.max_steps
        mode = "learned" if c.stage == "invocation" else f"random:{c.wide_share if wide else c.share}"
        policy.mode, policy.seed, policy.scripts = mode, seed, []
        with anywhere(policy.memory, wide):
            answers = list(super()._generate(prompts))
        said: list[list[int]] = answers[1]
        answers[2] = [learner.counted(torch.tensor([ids]), 0)[0].int().tolist() for ids in said]
        self._log_calls(said)
        with self._unlogged():
            if c.baseline == "base" or self._penalises:
                rows = [row for row in range(len(prompts)) if row % c.group < c.base_group]
                policy.mode, policy.seed = "off", seed + 1
                others = super()._generate([prompts[row] for row in rows])
                self._base = Answered(rows, others[3], others[1])
            if self._penalises:
                policy.mode, policy.seed = "learned", seed
                sees = [bool(policy.memory.parts.shows(torch.tensor(prompt)).any()) for prompt in answers[0]]
                policy.scripts = [learner.turn(ids, image) or ids for ids, image in zip(said, sees, strict=True)]
                others = super()._generate(prompts)
                self._turned = Answered(list(range(len(prompts))), others[3], others[1])
        return tuple(answers)

    @property
    def _penalises(self) -> bool:
        return self.stage.stage == "invocation" and self.stage.alpha > 0

    @contextmanager
    def _unlogged(self) -> Generator[None]:
        """Within, what is counted and noted of answers is forgotten: they are none that are learnt from."""
        before = self._metrics, self._pending_metrics, self._pending_extra_logs
        self._metrics = {mode: defaultdict(list) for mode in self._metrics}
        self._pending_metrics, self._pending_extra_logs = defaultdict(list), defaultdict(list)
        try:
            yield
        finally:
            self._metrics, self._pending_metrics, self._pending_extra_logs = before

    def _calls(self, said: list[list[int]]) -> Int[Tensor, "n 2"]:
        """Of each kind, by the answers of all processes."""
        begins = self.policy.memory.tokens.begin
        own = torch.tensor([[ids.count(begin) for begin in begins] for ids in said], device=self.accelerator.device)
        return self.accelerator.gather(own)

    def _log_calls(self, said: list[list[int]]) -> None:
        for kind, number in zip(KINDS, self._calls(said).float().mean(0).tolist(), strict=True):
            self._metrics["train"][f"calls_{kind}"].append(number)

    # --- rewards and advantages ---------------------------------------------------------------------------------------

    def _calculate_rewards(
        self, inputs: list[dict], prompts: list, completions: list, completion_ids_list: list[list[int]]
    ) -> Float[Tensor, "n F"]:
        """What TRL asks its functions for, and the penalties in the last column; of all processes. The advantages over
        S_base are made on the way."""
        c, score = self.stage, super()._calculate_rewards
        rewards = score(inputs, prompts, completions, completion_ids_list)
        groups = [self._weighed(rewards)]
        for name, others in (("base", self._base), ("turned", self._turned)):
            if others is None:
                groups.append(groups[0])
                continue
            mine = [inputs[row] for row in others.rows], [prompts[row] for row in others.rows]
            with self._unlogged():
                groups.append(self._weighed(score(*mine, others.completions, others.ids)))
            self._metrics["train"][f"score_{name}"].append(float(groups[-1].nanmean()))
        scores, base, turned = groups
        if c.stage == "invocation":
            calls = self._calls(completion_ids_list).sum(1).view_as(scores)
            shaped_ = torch.stack(
                [shaped(*group, c.alpha, c.cost) for group in zip(scores, base, turned, calls, strict=True)]
            )
            rewards[:, -1] = (shaped_ - scores).flatten()
            scores = shaped_
        self._advantages = torch.cat([advantages(*group) for group in zip(scores, base, strict=True)]).nan_to_num(0.0)
        return rewards

    def _weighed(self, rewards: Float[Tensor, "n F"]) -> Float[Tensor, "P g"]:
        """S of each prompt's answers. One that nobody could score is no number, and nor is its group's advantage."""
        total = (rewards * self.reward_weights.to(rewards.device)).nansum(1)
        total[rewards.isnan().all(1)] = torch.nan
        return total.view(self._prompts, -1)

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if self.stage.baseline == "base":
            first = self.accelerator.process_index * len(inputs)
            output["advantages"] = self._advantages[first : first + len(inputs)].float()
        return output

    # --- likelihoods --------------------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self, model: Callable, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> tuple:
        """TRL's method finds each row's images; what it then asks of the model is the policy's ``forward``."""

        def scored(labels: Tensor, fused_lm_head: bool, **batch: Any) -> Scored:
            return model(prompt=input_ids.shape[1] - logits_to_keep, **batch)

        return super()._get_per_token_logps_and_entropies(
            scored, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )

    def _reference(self, **batch: Any) -> Scored:
        with self.learner.as_reference():
            return self.policy(**batch)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Beside what TRL resumes from, the memory as `load_memory` reads it."""
        super()._save(output_dir, state_dict)
        save_memory(self.policy.memory, Path(output_dir or str(self.args.output_dir)))


def memory_penalty(prompts: Sequence[Any], **columns: Any) -> list[float]:
    """A place among the rewards for ``-alpha * (p_type + p_neg) - cost * calls``: the trainer fills it in."""
    return [0.0] * len(prompts)


def _not_ours(*_: Any) -> Any:
    raise NotImplementedError("rewards and texts are TRL's here")


def _check(memory: VisMem, config: GRPO) -> None:
    if trl.__version__.split(".")[:2] != TRL.split("."):
        raise ImportError(f"expected TRL {TRL}.x, whose private methods are overridden here, found {trl.__version__}: "
                          f"{install('grpo')}, or {REFERENCE}")  # fmt: skip
    if config.latents == "gaussian":
        raise ValueError(f"TRL has no place for latents that were drawn: latents='exact', or {REFERENCE}")
    if config.base_group > config.group:
        raise ValueError(f"base_group={config.base_group} answers without memory do not fit beside "
                         f"group={config.group}: at most as many, or {REFERENCE}")  # fmt: skip
    if (dtype := memory.builder.start.dtype).itemsize < 4:
        raise ValueError(f"the memory is in {dtype}, and the Trainer steps in the precision of weights: load the VLM "
                         f"in float32, or {REFERENCE}, which keeps copies in 32 bits")  # fmt: skip


def train(
    memory: VisMem,
    dataset: Any,
    reward_funcs: Sequence[Callable[..., Any]],
    processor: ProcessorMixin,
    config: GRPO,
    run: Run,
    **changes: Any,
) -> Path:
    """Train a memory in place through one stage and write it to ``run.out``; returns that folder. The last checkpoint
    under it is resumed if there is one.

    Args and raises: see `MemoryGRPOTrainer`; and KeyboardInterrupt at Ctrl-C or SIGTERM, once the step is done and a
    checkpoint is written.
    """
    progress = Progress(run)
    trainer = MemoryGRPOTrainer(memory, config, run, reward_funcs, dataset, processor, [progress], **changes)
    trainer.pop_callback(PrinterCallback)
    checkpoint = get_last_checkpoint(str(run.out)) if run.out.is_dir() else None
    if checkpoint:
        console.print(f"resuming {checkpoint}")
    with progress.heeding_signals():
        trainer.train(resume_from_checkpoint=checkpoint)
    if progress.stopping:
        raise KeyboardInterrupt(f"stopped; the same command resumes from {run.out}")
    if trainer.is_world_process_zero():
        save_memory(memory, run.out)
    close_group(trainer)
    return run.out
