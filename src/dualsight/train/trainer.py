"""How everything here is trained: transformers' Trainer on accelerate, over batches that follow from their number.

A recipe gives a model whose ``forward(**batch)`` returns ``{"loss": ...}`` and a ``BatchPlan``: which examples make up
step 0, 1, 2... is decided before the first step, from the seed alone. So a run that was killed and resumed sees exactly
the batches that it would have seen, and N processes share the plan's batches out among themselves.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from dualsight.train.masters import MasterAdamW
from dualsight.train.muon import muon
from dualsight.types import Examples

console = Console(soft_wrap=True)
BLOCK = 4
"""Batches of like length that follow each other in a plan; a divisor of its pools."""


@dataclass(frozen=True)
class Run:
    """The settings of one training run; the rest of TrainingArguments keeps its defaults."""

    out: Path
    steps: int
    learning_rate: float = 3e-4
    batch: int = 8
    """Examples per step and process."""
    matrices: str = ""
    """A regular expression: weight matrices in whose name it is found are trained by Muon (``muon.py``), and filters of
    convolutions; all else by AdamW."""
    warmup: float = 0.03
    """Share of the steps in which the learning rate climbs."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What follows: a cosine to zero, or nothing."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    clip: float = 1.0
    seed: int = 42
    save_minutes: float = 3.0
    """A checkpoint is written when this much time has passed since the last one."""
    log_every: int = 50
    bf16: bool = False
    """Compute in bfloat16; the weights stay as they are."""
    accumulate: int = 1
    """Batches of a process that make up one step of the optimiser."""
    workers: int = 0
    """Processes that prepare batches beside the training; without any, it waits for each."""
    report_to: str = "none"


def batches_of(steps: int) -> int:
    """Batches that all processes together take in so many steps: one each. A plan that were shorter would begin anew
    before its end."""
    return steps * int(os.environ.get("WORLD_SIZE", "1"))


class BatchPlan(Dataset):
    """Batch number ``i`` of a run, for every ``i``: a function of the seed, not of what was drawn before.

    Every epoch is one permutation of the examples. Batches join examples of like ``lengths`` (padding costs
    time): the permutation is cut into pools of ``pool`` batches, each sorted by length and cut into batches. The
    epoch's batches are then shuffled by blocks of ``BLOCK`` neighbours: processes take consecutive batches, and wait
    for whoever has the longest.
    """

    def __init__(
        self,
        examples: Examples,
        collate: Callable[[list], dict],
        batch: int,
        steps: int,
        seed: int,
        lengths: Sequence[int] | None = None,
        pool: int = 20,
    ):
        if len(examples) < batch:
            raise ValueError(f"{len(examples)} training examples do not fill one batch of {batch}: collect more data")
        self.examples, self.collate, self.batch, self.steps, self.seed = examples, collate, batch, steps, seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.pool = pool
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])

    def __len__(self) -> int:
        return batches_of(self.steps)

    def __getitem__(self, index: int) -> dict:
        per_epoch = len(self.examples) // self.batch
        epoch, within = divmod(index, per_epoch)
        if epoch != self._epoch[0]:
            self._epoch = (epoch, self._batches(epoch, per_epoch))
        return self.collate([self.examples[int(i)] for i in self._epoch[1][within]])

    def _batches(self, epoch: int, per_epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.examples))[: per_epoch * self.batch]
        if self.lengths is not None:
            pools = np.split(order, range(self.pool * self.batch, len(order), self.pool * self.batch))
            order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = list(order.reshape(per_epoch, self.batch))
        blocks = [batches[start : start + BLOCK] for start in range(0, per_epoch, BLOCK)]
        return [batch for index in rng.permutation(len(blocks)) for batch in blocks[index]]


class Progress(TrainerCallback):
    """One readable line every few steps, and a checkpoint every few minutes; one more, and the end, when asked to."""

    def __init__(self, run: Run):
        self.run, self.saved, self.started, self.first_step = run, time.monotonic(), time.monotonic(), 0
        self.stopping = False

    @contextmanager
    def heeding_signals(self) -> Generator[None]:
        """Ctrl-C and SIGTERM let the step be finished: weights that are half updated would resume as something else.
        A second one does not wait. (Only a main thread can set this.)"""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(*_) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_begin(self, args, state, control, **kwargs):
        self.saved = self.started = time.monotonic()
        self.first_step = state.global_step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_log |= state.global_step == state.max_steps  # a short run says something, too
        due = state.is_world_process_zero and time.monotonic() - self.saved > 60 * self.run.save_minutes
        asked = torch.tensor([due, self.stopping], dtype=torch.uint8)
        if dist.is_initialized():  # saving is a collective act: all follow the clock of the first, and whoever stops
            asked = asked.to(args.device)
            dist.all_reduce(asked, dist.ReduceOp.MAX)
        due, self.stopping = bool(asked[0]), bool(asked[1])
        control.should_save |= due or self.stopping
        control.should_training_stop |= self.stopping
        return control

    def on_save(self, args, state, control, **kwargs):
        self.saved = time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or not state.is_world_process_zero or "loss" not in logs:
            return
        rate = (state.global_step - self.first_step) / max(1e-9, time.monotonic() - self.started)
        left = (state.max_steps - state.global_step) / max(1e-9, rate)
        terms = "  ".join(f"{k} {v:.4g}" for k, v in logs.items() if k not in ("epoch", "grad_norm", "learning_rate"))
        console.print(
            f"step {state.global_step}/{state.max_steps}  {terms}  {rate:.2f} steps/s  {left / 60:.1f} min left"
        )


class _Trainer(Trainer):
    """Adds the parts of the loss (whatever else ``forward`` returns as a scalar) to the log: the mean over the batches
    that have them (NaN says that one has not, such as the share of right answers to what nobody was asked)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # What takes **batch looks to transformers as if it divided its loss by the number of accumulated batches.
        self.model_accepts_loss_kwargs = False
        self._parts: dict[str, list[float]] = {}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        if not (loss := outputs["loss"].detach()).isfinite():
            raise FloatingPointError(
                f"the loss of step {self.state.global_step + 1} is {float(loss)}: nothing is written. Look at the data "
                "of that step, or lower the learning rate; the same command goes on from the last checkpoint in "
                f"{self.args.output_dir}, if there is one"
            )
        for name, value in outputs.items():
            if name != "loss" and torch.is_tensor(value) and value.ndim == 0 and not value.isnan():
                self._parts.setdefault(name, []).append(float(value.detach()))
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs, *args, **kwargs):
        if "loss" in logs:
            logs = logs | {name: sum(values) / len(values) for name, values in self._parts.items()}
            self._parts.clear()
        super().log(logs, *args, **kwargs)


def fit(model: nn.Module, plan: Dataset, run: Run, callbacks: Sequence[TrainerCallback] = ()) -> None:
    """Train ``model`` in place for ``run.steps`` steps, resuming the last checkpoint under ``run.out`` if there is one.
    An item of ``plan`` is a whole batch.

    Ctrl-C and SIGTERM save a checkpoint first, then raise KeyboardInterrupt. RuntimeError is raised when the
    launcher's world size and accelerate's disagree (each process would silently train a copy of its own), and
    FloatingPointError when the loss is no number.
    """
    arguments = TrainingArguments(
        output_dir=str(run.out),
        max_steps=run.steps,
        per_device_train_batch_size=1,  # an item of the plan is a whole batch
        learning_rate=run.learning_rate,
        lr_scheduler_type="cosine" if run.schedule == "cosine" else "constant_with_warmup",
        warmup_steps=int(run.warmup * run.steps),
        weight_decay=run.weight_decay,
        adam_beta1=run.betas[0],
        adam_beta2=run.betas[1],
        max_grad_norm=run.clip,
        bf16=run.bf16,
        gradient_accumulation_steps=run.accumulate,
        seed=run.seed,
        train_sampling_strategy="sequential",
        save_strategy="steps",
        save_steps=10**9,  # by the clock, in Progress
        save_total_limit=1,
        logging_steps=run.log_every,
        disable_tqdm=True,
        report_to=run.report_to,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_num_workers=run.workers,
        ddp_find_unused_parameters=False,
    )
    if not is_sharded():
        model.to(arguments.device)  # before an optimiser looks at it
    progress = Progress(run)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=plan,
        data_collator=lambda items: items[0],
        callbacks=[progress, *callbacks],
        optimizers=(_optimiser(model, run), None),
    )
    trainer.pop_callback(PrinterCallback)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if trainer.accelerator.num_processes != world:
        raise RuntimeError(
            f"accelerate sees {trainer.accelerator.num_processes} process(es), the launcher started {world}: "
            "on CPU launch with ACCELERATE_USE_CPU=true torchrun --nproc_per_node N"
        )
    checkpoint = get_last_checkpoint(str(run.out)) if run.out.is_dir() else None
    if checkpoint:
        console.print(f"resuming {checkpoint}")
    with progress.heeding_signals():
        trainer.train(resume_from_checkpoint=checkpoint)
    if progress.stopping:
        if is_main_process():
            console.print(f"interrupted at step {trainer.state.global_step}; the same command resumes from {run.out}")
        raise KeyboardInterrupt
    trainer._save_checkpoint(model, trial=None)
    _make_whole(trainer, model)
    close_group(trainer)


def close_group(trainer: Trainer) -> None:
    """Wait for the other processes, then close the group: one that is left open can abort its process at the exit.

    What wraps the model for training has to go before. As the last to hold the group it would destroy it under the
    interpreter's lock, while the group's own thread may be waiting for that lock to throw away the barrier: both would
    wait for ever (torch 2.13, gloo; one run in thirty on busy cores).
    """
    trainer.accelerator.wait_for_everyone()
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    gc.collect()
    trainer.accelerator.end_training()


def is_sharded() -> bool:
    """Will FSDP or DeepSpeed leave a share of the weights in each process?"""
    return any(
        os.environ.get(name, "").lower() in ("1", "true")
        for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    )


def _make_whole(trainer: Trainer, model: nn.Module) -> None:
    """Put the weights together again in the main process where training has shared them out."""
    if not is_sharded():
        return
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # all processes take part
    for name, tensor in (state or {}).items() if is_main_process() else ():
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        if isinstance(getattr(module, leaf), nn.Parameter):  # buffers are whole everywhere
            setattr(module, leaf, nn.Parameter(tensor.clone(), requires_grad=False))


def _optimiser(model: nn.Module, run: Run) -> torch.optim.Optimizer | None:
    """None: transformers' own AdamW."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    half = any(parameter.element_size() < 4 for parameter in trained)
    if not run.matrices and not half:
        return None
    if half and is_sharded():
        raise ValueError("weights of half precision are not sharded here: load the model in float32")
    if not run.matrices:
        return MasterAdamW(trained, run.learning_rate, run.weight_decay, betas=run.betas)
    if half:
        raise ValueError("Muon takes its steps in the precision of the weights: load the model in float32")
    named = [(name, p) for name, p in model.named_parameters() if re.search(run.matrices, name) and p.ndim > 1]
    matrices = [parameter for _, parameter in named if parameter.requires_grad]
    if not matrices:
        raise ValueError(f"no weight matrix that is trained has a name like {run.matrices!r}")
    return muon(model, run.learning_rate, run.weight_decay, matrices, torch.bfloat16 if run.bf16 else torch.float32)


def training_device() -> torch.device:
    """Where `fit` trains: this process' GPU, if there is any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def is_main_process() -> bool:
    """Is this the process that writes results?"""
    return int(os.environ.get("RANK", "0")) == 0
