"""Janus in three stages (arXiv:2410.13848, section 3.3; Janus-Pro: arXiv:2501.17811, section 2.2; JanusFlow:
arXiv:2411.07975).

=====  ===========================================  =====================================================
stage  what learns                                  from
=====  ===========================================  =====================================================
I      aligners, generation embedding and head      captions to read, images to make
       (of JanusFlow: the U-ViT)
II     all but the understanding encoder            all kinds
       and the image codec
III    all but the image codec                      instructions
=====  ===========================================  =====================================================

The codec is never trained here (``codecs.py`` does that). A stage is data: what is frozen, the published learning
rate, schedule and ratio of understanding : text : generation. The losses of text and of image tokens count alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from dualsight.checkpoints.janus import POOL, save_pretrained
from dualsight.data.rows import KINDS, Kind
from dualsight.models.janus_core import JanusBatch, JanusCore
from dualsight.models.janus_processor import JanusProcessor
from dualsight.train.janus_data import JanusCollate, JanusPlan
from dualsight.train.lora import add_lora, merge_lora
from dualsight.train.samples import Samples
from dualsight.train.trainer import Run, batches_of, fit, is_main_process, is_sharded
from dualsight.types import Examples

CODECS, ENCODER, LANGUAGE = ("gen_vision_model.", "gen_vae."), "vision_model.", "language_model."
ALIGNER = "aligner."
LAYERS = LANGUAGE + "model.layers."


@dataclass(frozen=True)
class Stage:
    """What a stage of the paper is, apart from its data."""

    name: str
    frozen: tuple[str, ...]
    """Beginnings of the names of parameters that do not learn."""
    learning_rate: float
    schedule: Literal["cosine", "constant"]
    warmup_steps: int
    steps: int
    batch: int
    """Examples per step, in all processes together."""
    ratio: tuple[int, int, int]
    """Understanding : text : generation."""
    weight_decay: float = 0.0
    matrices: str = ""
    """Which weight matrices are trained by Muon, all else by AdamW (see ``Run``)."""


JANUS = {
    "I": Stage("I", (*CODECS, ENCODER, LANGUAGE), 1e-3, "cosine", 300, 10_000, 256, (1, 0, 1)),
    "II": Stage("II", (*CODECS, ENCODER), 1e-4, "constant", 5000, 180_000, 512, (2, 3, 5)),
    "III": Stage("III", CODECS, 2e-5, "constant", 0, 24_000, 256, (7, 3, 10), weight_decay=0.1),
}
"""Janus-1.3B."""

JANUS_PRO = {
    "I": Stage("I", (*CODECS, ENCODER, LANGUAGE), 1e-3, "constant", 600, 20_000, 256, (1, 0, 3)),
    "II": Stage("II", (*CODECS, ENCODER), 1e-4, "constant", 5000, 270_000, 512, (2, 3, 5)),
    "III": Stage("III", CODECS, 4e-5, "constant", 0, 80_000, 128, (5, 1, 4)),
}
"""Janus-Pro (the 7B stops stage III after 40,000 steps)."""

JANUS_FLOW = {
    "I": Stage("I", (*CODECS, ENCODER, LANGUAGE), 1e-4, "constant", 2000, 10_000, 512, (50, 0, 50)),
    "II": Stage("II", (*CODECS, ENCODER), 1e-4, "constant", 2000, 380_000, 512, (14, 6, 80)),
    "III": Stage("III", CODECS, 2e-5, "constant", 1000, 26_000, 256, (21, 9, 70)),
}
"""JanusFlow-1.3B. The first 10,000 steps of stage II had the ratio 30 : 20 : 50."""

BLOCKS = r"\.(?:blocks|layers?)\.\d+\."
"""Where the weight matrices of an encoder are, by the names of any kind."""
_MATRICES = rf"language_model\.model\.layers\.|(?:vision_model|dit)\b.*{BLOCKS}|channelwise_linear"
TINY = {
    "I": Stage("I", (*CODECS, ENCODER, LANGUAGE), 1e-3, "constant", 20, 200, 32, (1, 0, 1)),
    "II": Stage("II", (*CODECS, ENCODER), 2e-3, "constant", 100, 1500, 32, (1, 0, 1), 0.01, _MATRICES),
    "III": Stage("III", CODECS, 2e-3, "cosine", 100, 3000, 32, (1, 0, 1), 0.01, _MATRICES),
    "swap": Stage(
        "swap", (*CODECS, ENCODER, ALIGNER, LANGUAGE), 2e-3, "cosine", 100, 5000, 32, (0, 0, 1), 0.01, _MATRICES
    ),
}
"""No row of a paper: models of the TINY size, trained from nothing on generated data (``recipes/janus_tiny.py``). In
"swap" a new generation pathway learns to draw from what a finished language model says (``train swap``)."""

STAGES = {"janus": JANUS, "janus-pro": JANUS_PRO, "janus-flow": JANUS_FLOW, "tiny": TINY}
"""By the names of the recipes."""

BETAS, CLIP = (0.9, 0.95), 1.0
"""AdamW's, and the largest norm of a gradient, in all stages of both papers."""


class JanusTraining(nn.Module):
    """A Janus under the sum of its losses, REPA's among them; ``forward`` takes what :class:`JanusCollate` makes."""

    def __init__(self, model: JanusCore):
        super().__init__()
        self.model = model

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        losses = self.model(JanusBatch(**batch))
        # A batch need not hold images to see, or to make; processes that share gradients must have the same ones.
        nothing = sum(parameter.sum() for parameter in self._pathways()) * 0.0
        parts = {"text_loss": losses.text, "image_loss": losses.image}
        if self.model.config.align_after is not None:
            parts["alignment_loss"] = losses.text.new_zeros(()) if losses.alignment is None else losses.alignment
        loss = torch.stack(list(parts.values())).sum() + nothing
        return {"loss": loss, **parts, "fill": (batch["segments"] > 0).float().mean()}

    def _pathways(self) -> Iterator[nn.Parameter]:
        """What learns, but for the decoder's layers, through which every batch goes."""
        named = self.model.named_parameters()
        return (parameter for name, parameter in named if parameter.requires_grad and not name.startswith(LAYERS))


def freeze(model: JanusCore, stage: Stage) -> None:
    """Let learn what learns in a stage, and nothing else. SigLIP's pooling head is only carried along."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith((*stage.frozen, POOL)))


def compile_blocks(model: nn.Module) -> None:
    """Have the transformer blocks that learn compiled, in place, when they are first called."""
    for name, group in model.named_modules():
        if isinstance(group, nn.ModuleList) and name.endswith((".blocks", ".layers")):
            for block in group:
                if any(parameter.requires_grad for parameter in block.parameters()):
                    block.compile()


def run_of(stage: Stage, out: Path, processes: int = 1, **changes) -> Run:
    """The published settings of a stage; ``changes`` replace them."""
    if stage.batch % processes:
        raise ValueError(f"a batch of {stage.batch} examples does not divide among {processes} processes")
    run = Run(
        out,
        stage.steps,
        stage.learning_rate,
        stage.batch // processes,
        warmup=stage.warmup_steps / stage.steps,
        schedule=stage.schedule,
        matrices=stage.matrices,
        weight_decay=stage.weight_decay,
        betas=BETAS,
        clip=CLIP,
    )
    return replace(run, **changes)


def train_stage(
    model: JanusCore,
    processor: JanusProcessor,
    stage: Stage,
    sources: Mapping[Kind, Examples],
    run: Run,
    capacity: int = 4096,
    ratio: Sequence[int] | None = None,
    lora_rank: int = 0,
    checkpointing: bool = False,
    compiled: bool = False,
    sample_prompts: Sequence[str] = (),
    sample_every: int = 500,
) -> Path:
    """Train a model in place through one stage and write it to ``run.out``; returns that folder.

    Args:
        sources: ``understanding``, ``text``, ``generation``: those that there are.
        capacity: tokens of a packed row.
        ratio: of the three, in place of the stage's.
        lora_rank: above 0 the language model learns through LoRA of this rank (arXiv:2106.09685), whatever the stage
            freezes of it; it is merged into the weights that are written, and written by itself to ``run.out/lora``.
        checkpointing: compute activations of the language model again in the backward pass, to save memory.
        compiled: fuse what the blocks that learn do between their products (``torch.compile``), which needs a C++
            compiler on CPUs and a minute or two at the start.
        sample_prompts: drawn every ``sample_every`` steps into ``run.out/samples``.

    Raises:
        ValueError: a kind of data that the ratio asks for is missing, or nothing is left to learn.
    """
    if stage.name == "swap" and model.config.dit is None:
        raise ValueError("stage swap teaches a diffusion transformer, this model has none: `train swap` gives it one")
    freeze(model, stage)
    if lora_rank:
        add_lora(model.language_model, lora_rank)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"stage {stage.name} leaves nothing of this model to learn")
    if checkpointing:
        model.language_model.activation_checkpointing_enable({"use_reentrant": False})
    if compiled:
        compile_blocks(model)
    if sample_prompts and is_sharded():
        raise ValueError("FSDP and DeepSpeed leave no whole model to draw samples with: train without sample_prompts")
    plan = JanusPlan(
        *_shares(sources, ratio or stage.ratio, chosen=ratio is not None),
        run.batch,
        batches_of(run.steps * run.accumulate),
        run.seed,
        JanusCollate(processor, capacity),
    )
    callbacks = [Samples(model, processor, sample_prompts, run.out / "samples", sample_every)] if sample_prompts else []
    fit(JanusTraining(model), plan, run, callbacks)
    if lora_rank and (is_main_process() or not is_sharded()):  # where weights are sharded, only it has them whole
        merge_lora(model.language_model, lora_rank, run.out / "lora" if is_main_process() else None)
    if is_main_process():
        save_pretrained(model, processor, run.out)
    return run.out


def _shares(
    sources: Mapping[Kind, Examples], ratio: Sequence[int], chosen: bool
) -> tuple[dict[Kind, Examples], dict[Kind, int]]:
    """The sources with a share, and the shares. A stage's own ratio is for those kinds of data that there are; one
    that was asked for is to be kept."""
    if len(ratio) != len(KINDS):
        raise ValueError(f"a ratio of {len(ratio)} numbers; expected three ({' : '.join(KINDS)}), such as 7:3:10")
    wanted = {kind: share for kind, share in zip(KINDS, ratio, strict=True) if share}
    there = {kind for kind in wanted if kind in sources and len(sources[kind])}
    if missing := [kind for kind in wanted if kind not in there]:
        if chosen or not there:
            raise ValueError(
                f"the ratio {':'.join(map(str, ratio))} asks for {', '.join(missing)}, but the data has none of it"
            )
        wanted = {kind: wanted[kind] for kind in wanted if kind in there}
    return {kind: sources[kind] for kind in wanted}, wanted
