"""Training a Janus: ``train codec | encoder | new | swap | janus``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from jsonargparse.typing import PositiveInt

from dualsight.commands.options import given


def codec(
    data: str | list[str],
    out: Path,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
    columns: dict[str, str] | None = None,
    kind: Literal["vq", "vae"] = "vq",
    steps: PositiveInt = 3000,
    batch: PositiveInt = 16,
    learning_rate: float = 4e-3,
    seed: int = 42,
) -> None:
    """Train an image tokenizer (vq) or an autoencoder (vae) of TINY size on the images of drawings.

    Args:
        data: scenes, rooms:FOLDER, or a file; or [several].
        out: checkpoints, and the codec at the end. The same command resumes.
        images: of files: the folder that image names start at, by default the one that the file is in.
        root: of files: refuse images that are not under this folder.
        split: of files: of a saved Hugging Face data set with several.
        columns: of files: which field is which of ours, such as {"prompt": "caption", "image": "jpg"}.
        kind: which.
        steps: of the optimiser.
        batch: images per step and process.
        learning_rate: its peak.
        seed: of weights and order.
    """
    from dualsight.train.codecs import CONVOLUTIONS, train_vae, train_vq
    from dualsight.train.janus_sources import Frames, open_sources
    from dualsight.train.trainer import Run

    reading = given(images=images, root=root, split=split, columns=columns)
    pictures = Frames(open_sources([data] if isinstance(data, str) else data, seed=seed, **reading))
    run = Run(out, steps, learning_rate, batch, seed=seed, matrices=CONVOLUTIONS)
    (train_vq if kind == "vq" else train_vae)(pictures, run)


def encoder(
    data: str | list[str],
    out: Path,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
    columns: dict[str, str] | None = None,
    lesson: Literal["captions", "figures"] = "captions",
    init: Path | None = None,
    kind: Literal["siglip", "clip", "dinov2"] = "siglip",
    steps: PositiveInt = 2000,
    batch: PositiveInt = 64,
    learning_rate: float = 1e-3,
    bf16: bool = False,
    workers: int = 0,
    seed: int = 42,
) -> None:
    """Train an understanding encoder of TINY size on pictures.

    Args:
        data: scenes, rooms:FOLDER, or a file; or [several].
        out: checkpoints, and the weights at the end. The same command resumes.
        images: of files: the folder that image names start at, by default the one that the file is in.
        root: of files: refuse images that are not under this folder.
        split: of files: of a saved Hugging Face data set with several.
        columns: of files: which field is which of ours, such as {"prompt": "caption", "image": "jpg"}.
        lesson: captions: which prompt belongs to which image, by SigLIP's loss; figures: what every patch of generated
            scenes shows, by labels.
        init: output of another `train encoder` to go on from.
        kind: the architecture.
        steps: of the optimiser.
        batch: pictures per step and process.
        learning_rate: its peak.
        bf16: compute in bfloat16.
        workers: processes that draw and label scenes beside the training.
        seed: of weights and order.
    """
    from dualsight.train.contrastive import pretrain_encoder
    from dualsight.train.figures import pretrain_on_figures
    from dualsight.train.janus_sources import new_janus, open_sources, pictures_of, tiny
    from dualsight.train.janus_stages import BLOCKS
    from dualsight.train.trainer import Run

    names = [data] if isinstance(data, str) else data
    if lesson == "figures" and names != ["scenes"]:
        raise ValueError(f"--lesson figures needs labels, which only --data scenes has; not {', '.join(names)}")
    sources = open_sources(names, seed=seed, **given(images=images, root=root, split=split, columns=columns))
    model, processor = new_janus(tiny(kind, "vq"), sources, None, init, seed)
    matrices = BLOCKS if lesson == "figures" else ""
    run = Run(out, steps, learning_rate, batch, matrices=matrices, bf16=bf16, workers=workers, seed=seed)
    if lesson == "figures":
        pretrain_on_figures(model.vision_model, processor, run)
    else:
        pretrain_encoder(model.vision_model, processor, pictures_of(sources), run)


def new(
    data: str | list[str],
    out: Path,
    codec: Path,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
    columns: dict[str, str] | None = None,
    encoder: Path | None = None,
    kind: Literal["siglip", "clip", "dinov2", "none"] = "siglip",
    generation: Literal["vq", "dit", "flow"] = "vq",
    seed: int = 42,
) -> None:
    """Put together a Janus of TINY size for `train janus --init`: its language model knows nothing yet.

    Args:
        data: what it will learn from: its words are the tokenizer's.
        out: folder of the model.
        images: of files: the folder that image names start at, by default the one that the file is in.
        root: of files: refuse images that are not under this folder.
        split: of files: of a saved Hugging Face data set with several.
        columns: of files: which field is which of ours, such as {"prompt": "caption", "image": "jpg"}.
        codec: output of `train codec`.
        encoder: output of `train encoder`.
        kind: the encoder's architecture; none is the ablation that understands through the generation pathway.
        generation: how it makes images: token by token, by a diffusion transformer, or by a flow inside the language
            model (JanusFlow). The last two take a VAE as codec.
        seed: of the random weights.
    """
    from dualsight.checkpoints.janus import save_pretrained
    from dualsight.train.janus_sources import new_janus, open_sources, tiny

    reading = given(images=images, root=root, split=split, columns=columns)
    sources = open_sources([data] if isinstance(data, str) else data, seed=seed, **reading)
    save_pretrained(*new_janus(tiny(kind, generation), sources, codec, encoder, seed), out)


def swap(init: Path, codec: Path, out: Path, seed: int = 42) -> None:
    """Give a Janus another generation pathway, a diffusion transformer, for `train janus --recipe tiny --stage swap`.
    It cannot draw yet, and answers as before.

    Args:
        init: the Janus.
        codec: output of `train codec --kind vae`.
        out: folder of the new model.
        seed: of the random weights.
    """
    from dualsight.checkpoints.janus import save_pretrained
    from dualsight.train.janus_sources import swap_generation

    save_pretrained(*swap_generation(init, codec, seed), out)


def janus(
    init: Path,
    data: str | list[str],
    out: Path,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
    columns: dict[str, str] | None = None,
    stage: Literal["I", "II", "III", "swap"] = "III",
    recipe: Literal["janus", "janus-pro", "janus-flow", "tiny"] = "janus-pro",
    steps: PositiveInt = 1000,
    batch: PositiveInt = 8,
    learning_rate: float | None = None,
    ratio: str = "",
    capacity: PositiveInt = 4096,
    accumulate: PositiveInt = 1,
    lora_rank: int = 0,
    bf16: bool = False,
    checkpointing: bool = False,
    compiled: bool = False,
    align_after: PositiveInt | None = None,
    sample_prompts: Path | None = None,
    sample_every: PositiveInt = 500,
    report_to: str = "none",
    workers: int = 0,
    seed: int = 42,
) -> None:
    """Train or fine-tune a Janus on conversations and drawings, both in one run.

    Args:
        init: a folder with a Janus of ours, of the official release or of transformers.
        data: one file or folder, or [several]; see `data validate` for the kinds. Rows may be mixed. Also scenes (made
            as they are asked for), rooms:FOLDER (of `data rooms`) and room-talk:FOLDER (only questions about them).
        out: checkpoints, samples, and the model at the end. The same command resumes.
        images: of files: the folder that image names start at, by default the one that the file is in.
        root: of files: refuse images that are not under this folder.
        split: of files: of a saved Hugging Face data set with several.
        columns: of files: which field is which of ours, such as {"prompt": "caption", "image": "jpg"}.
        stage: what learns: I aligners and heads, II all but the encoder and tokenizer, III all but the tokenizer; swap
            (of the recipe tiny) the generation pathway only, after `train swap`.
        recipe: whose learning rate, schedule and ratio.
        steps: of the optimiser.
        batch: examples per process and batch.
        learning_rate: in place of the stage's.
        ratio: understanding:text:generation, such as 5:1:4, in place of the stage's.
        capacity: tokens of a row, into which examples are packed.
        accumulate: batches of a step.
        lora_rank: above 0 the language model learns through LoRA of this rank.
        bf16: compute in bfloat16.
        checkpointing: compute activations again in the backward pass, to save memory.
        compiled: compile the blocks that learn, which takes a C++ compiler on CPUs and a minute or two at the start.
        align_after: REPA, the layer (of a diffusion transformer, the block) behind which images to make are compared
            with what the understanding encoder sees in them; by default as the model was made.
        sample_prompts: a text file with prompts, drawn every so many steps.
        sample_every: how many.
        report_to: trackio, tensorboard or another of transformers' integrations.
        workers: processes that prepare batches beside the training.
        seed: of order and dropped captions.
    """
    import torch

    from dualsight.checkpoints.janus import from_pretrained
    from dualsight.train.janus_sources import open_sources
    from dualsight.train.janus_stages import STAGES, run_of, train_stage

    if stage not in STAGES[recipe]:
        raise ValueError(f"the recipe {recipe} has no stage {stage}, only {', '.join(STAGES[recipe])}")
    chosen = STAGES[recipe][stage]
    reading = given(images=images, root=root, split=split, columns=columns)
    sources = open_sources([data] if isinstance(data, str) else data, seed=seed, **reading)
    prompts = [line.strip() for line in sample_prompts.read_text().splitlines()] if sample_prompts else []
    run = run_of(
        chosen, out, steps=steps, batch=batch, learning_rate=learning_rate or chosen.learning_rate,
        warmup=min(0.1, chosen.warmup_steps / chosen.steps), accumulate=accumulate, bf16=bf16, report_to=report_to,
        workers=workers, seed=seed,
    )  # fmt: skip
    model, processor = from_pretrained(init)
    if align_after not in (None, model.config.align_after):  # else it has learnt a head already
        torch.manual_seed(seed)
        model.align(align_after)
    shares = _ratio(ratio) if ratio else None
    train_stage(
        model,
        processor,
        chosen,
        sources,
        run,
        capacity,
        shares,
        lora_rank,
        checkpointing,
        compiled,
        prompts,
        sample_every,
    )


def _ratio(text: str) -> list[int]:
    """``5:1:4`` as numbers."""
    if not re.fullmatch(r"\d+:\d+:\d+", text):
        raise ValueError(f"the ratio is {text!r}; expected understanding:text:generation, such as 5:1:4")
    return [int(number) for number in text.split(":")]
