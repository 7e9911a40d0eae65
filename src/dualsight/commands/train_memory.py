"""Training a VisMem and the policy that it is put around: ``train policy | memory | grpo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import PositiveInt

from dualsight.commands.options import given


def policy(
    out: Path,
    size: Literal["small", "full", "house"] = "full",
    data: Path | None = None,
    steps: PositiveInt | None = None,
    batch: PositiveInt = 64,
    learning_rate: float = 2e-3,
    interleaved: float = 0.1,
    init: Path | None = None,
    bf16: bool = False,
    seed: int = 0,
) -> None:
    """Train the small VLM that talks about grids or houses, for memory to be put around.

    Args:
        out: checkpoints, and the model at the end. The same command resumes.
        size: small is a grid of nine cells of which only colours are asked; house talks about pictures of houses.
        data: these pictures, the folder of `data views`.
        steps: of the optimiser; 1200 for size small, 4000 for others.
        batch: talks per step and process.
        learning_rate: its peak.
        interleaved: share of questions behind which the image is shown once more.
        init: a model of that size to go on from, with the talks of the last quarter.
        bf16: compute in bfloat16, where the processor has it.
        seed: of weights and talks.
    """
    from dataclasses import replace

    from dualsight.inference.talk_vlm import SIZES, with_views
    from dualsight.train.talk_policy import policy_run, pretrain_policy, steps_of

    config = SIZES[size]
    if size == "house" and not data:
        raise ValueError("say where the pictures are: --data FOLDER, which `dualsight data views` wrote")
    if data:
        config = replace(config, task=with_views(config.task, data))
    run = policy_run(out, steps or steps_of(config), batch=batch, learning_rate=learning_rate, bf16=bf16, seed=seed)
    pretrain_policy(config, run, interleaved, init)


def memory(
    vlm: Path,
    out: Path,
    data: Path | None = None,
    kinds: Literal["both", "short", "long"] = "both",
    queries: PositiveInt | None = None,
    short: PositiveInt | None = None,
    long: PositiveInt | None = None,
    width: PositiveInt | None = None,
    steps: PositiveInt = 800,
    batch: PositiveInt | None = None,
    learning_rate: float | None = None,
    share: float = 0.5,
    lesson: float | None = None,
    lone: float | None = None,
    relook: bool = True,
    seeded: bool = True,
    init: Path | None = None,
    bf16: bool = False,
    seed: int = 0,
) -> None:
    """Warm start of a memory: right answers, through memories put into them.

    Args:
        vlm: a folder with a VLM of transformers, or an output of `train policy`; it stays frozen.
        out: checkpoints, and the memory at the end. The same command resumes.
        data: lines of JSON with question, answer and image (or whole conversations). A policy needs none, or, where it
            talks about houses, the folder of `data views`.
        kinds: which memories are trained.
        queries: K; 4 around a policy, 8 around others.
        short: latents of a short memory; 4, 8.
        long: latents of a long one; 6, 16.
        width: of the query builder; 64, 512.
        steps: of the optimiser.
        batch: talks or answers per step and process; 48, 8.
        learning_rate: its peak; 0.003, 0.0001.
        share: of an answer's delimiters behind which memory is put, with data.
        lesson: share of the steps, at the beginning, in which memories are also taught where the VLM itself looks for
            the answer; 0.5 in talks, 0 with data.
        lone: in talks, until which share of the steps there is but one memory in each; 0.5.
        relook: a short memory begins as a pooled second look; false is the paper's former alone.
        seeded: what goes into a former starts from the queries, too; false starts it as in the paper.
        init: a memory to go on from, of its own sizes.
        bf16: compute in bfloat16, where the processor has it.
        seed: of weights, order and places.
    """
    from dataclasses import replace

    import torch

    from dualsight.checkpoints.vismem import load_memory
    from dualsight.data.housetalk import is_views
    from dualsight.inference.talk_vlm import MEMORY
    from dualsight.models.vismem import KINDS, VisMem, VisMemConfig
    from dualsight.train import sft, talk_memory
    from dualsight.train.prompts import task_of

    chosen: tuple[Any, ...] = KINDS if kinds == "both" else (kinds,)
    sizes = given(queries=queries, short=short, long=long, width=width)
    if init and not (relook and seeded and not sizes):
        raise ValueError(f"the memory in {init} has its own sizes and formers: leave out what would make others")
    settings = given(batch=batch, learning_rate=learning_rate, bf16=bf16, seed=seed)
    taught = given(lesson=lesson, lone=lone)
    task = task_of(vlm, data, "exact", seed)
    if data is None or is_views(data):
        config = replace(MEMORY, relook=relook, seeded=seeded, **sizes)
        talk_memory.warm_start(
            vlm, config, talk_memory.memory_run(out, steps, **settings), chosen, (), init, data, **taught
        )
        return
    if lone is not None:
        raise ValueError("lone is for talks; with data, `share` says how many memories an answer has")
    torch.manual_seed(seed)
    config = replace(VisMemConfig(), relook=relook, seeded=seeded, **sizes)
    memory = load_memory(task.vlm, init) if init else VisMem(task.vlm, task.delimiters, config)
    run = sft.memory_run(out, steps, **settings)
    sft.warm_start(memory, task.rows, task.encode, run, chosen, share, **taught, further=init is not None)


def grpo(
    vlm: Path,
    out: Path,
    stage: Literal["memory", "invocation"],
    memory: Path | None = None,
    data: Path | None = None,
    reward: str = "exact",
    steps: PositiveInt = 100,
    learning_rate: float = 0.0,
    batch: PositiveInt = 8,
    group: PositiveInt = 16,
    answer: PositiveInt = 256,
    temperature: float = 1.0,
    share: float = 0.5,
    wide_after: float = 0.5,
    wide_share: float = 0.1,
    latents: Literal["exact", "gaussian"] = "exact",
    sigma: float = 0.1,
    iterations: PositiveInt = 1,
    cost: float = 0.0,
    alpha: float = 0.3,
    beta: float = 0.015,
    target_kl: float = 0.0,
    seed: int = 42,
) -> None:
    """Train the memory of a VLM by rewards: stage memory, then stage invocation.

    Args:
        vlm: a folder with a VLM of transformers, or an output of `train policy`; it stays frozen.
        out: checkpoints, metrics.jsonl, and the memory at the end. The same command resumes.
        stage: memory trains what is formed, invocation when it is called.
        memory: the one to begin with, of `train memory` or of this command; without it a new one, in stage memory.
        data: lines of JSON with question, answer and image (or whole conversations). A policy needs none, or, where it
            talks about houses, the folder of `data views`.
        reward: exact, numeric, choice, or module:function on the Python path.
        steps: of the optimiser.
        learning_rate: its peak; the paper's for the stage where it is not given.
        batch: prompts per step and process.
        group: answers to a prompt.
        answer: tokens of an answer at most, those of its memories among them.
        temperature: at which answers are sampled.
        share: of delimiters behind which memory is forced, in stage memory.
        wide_after: from this share of the steps on memory is forced behind any token, in stage memory ...
        wide_share: ... with this probability.
        latents: of stage memory; gaussian draws them around what is formed, and rewards teach where they are drawn.
        sigma: how far, in shares of the size of the VLM's embeddings.
        iterations: steps of the optimiser on the same answers.
        cost: of a call, in stage invocation.
        alpha: weight of the penalties of stage invocation.
        beta: weight of the KL to the memory before training.
        target_kl: nats per token that beta is steered to; 0 keeps it (the paper: 0.03 and 0.05).
        seed: of prompts and answers.
    """
    import torch

    from dualsight.checkpoints.vismem import load_memory
    from dualsight.models.vismem import VisMem
    from dualsight.train.grpo import GRPO, run_of, train
    from dualsight.train.prompts import task_of

    if stage == "invocation" and not memory:
        raise ValueError("stage invocation learns when to call a memory that is worth it: say which, --memory DIR")
    task = task_of(vlm, data, reward, seed)
    if memory:
        trained = load_memory(task.vlm, memory)
    else:
        torch.manual_seed(seed)
        trained = VisMem(task.vlm, task.delimiters)
    config = GRPO(
        stage, group, min(4, group), answer=answer, temperature=temperature, share=share, wide_after=wide_after,
        wide_share=wide_share, latents=latents, sigma=sigma, iterations=iterations, cost=cost, alpha=alpha, beta=beta,
        target_kl=target_kl,
    )  # fmt: skip
    changes: dict[str, Any] = {"learning_rate": learning_rate} if learning_rate else {}
    run = run_of(stage, out, steps, batch=batch, seed=seed, **changes)
    train(trained, task.rows, task.reward, task.decode, config, run)
