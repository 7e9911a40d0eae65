"""The stages in which a navigator is made, each a function that a recipe or the command line calls.

spatial   frames with depth and poses   -> VGGT's aggregator       (weights of the spatial pathway)
semantic  frames with labels            -> the ViT's blocks        (weights of the semantic pathway)
imitate   trajectories                  -> a navigator             (projectors and language model; encoders frozen)
dagger    a navigator, houses           -> a better one            (rounds: walks of its own, labelled by the expert)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from dualsight.checkpoints.janus_vln import from_pretrained, save_pretrained
from dualsight.checkpoints.weights import WeightFiles, load_weights, save_weights
from dualsight.data.trajectories import read_trajectories
from dualsight.envs.sim.episodes import Demand
from dualsight.inference.navigator import NavigatorAgent
from dualsight.models.janus_vln import TINY, JanusVLN, JanusVLNConfig
from dualsight.models.vln_processor import VLNProcessor, word_tokenizer
from dualsight.train.collect import Mixture, collect_houses
from dualsight.train.features import ENCODERS, FeatureStore
from dualsight.train.imitation import Collate, Imitation, Lesson, LossWeights, lessons
from dualsight.train.semantic import PatchLabels, SemanticPretraining
from dualsight.train.spatial import GeometryBatch, SpatialPretraining
from dualsight.train.trainer import BatchPlan, Run, fit, is_main_process
from dualsight.train.walks import WalkShards


def new_model(words: Iterable[str], config: JanusVLNConfig = TINY, seed: int = 42) -> tuple[JanusVLN, VLNProcessor]:
    """A model with random weights and a word-level tokenizer that knows ``words``."""
    torch.manual_seed(seed)
    tokenizer = word_tokenizer(words)
    room = -(-len(tokenizer) // 64) * 64  # embedding tables like round sizes
    config = replace(config, text=replace(config.text, vocab_size=room))
    return JanusVLN(config), VLNProcessor(config, tokenizer)


def spatial(walks: Path, run: Run, config: JanusVLNConfig = TINY, init: Path | None = None) -> None:
    """Train VGGT on walks, that of the navigator ``init`` or a new one; writes the aggregator's weights to
    ``run.out``."""
    shards = WalkShards(walks.glob("walks-*.safetensors"))
    torch.manual_seed(run.seed)
    start = from_pretrained(init)[0] if init else None
    config = start.config if start else config
    model = SpatialPretraining(config.vggt, config.geometry_layer)
    if start:
        model.vggt.aggregator.load_state_dict(start.vggt.aggregator.state_dict())
    plan = BatchPlan(shards, GeometryBatch(shards.camera, config.vggt.patch_size), run.batch, run.steps, run.seed)
    fit(model, plan, run)
    if is_main_process():
        save_weights(model.vggt.aggregator.state_dict(), run.out)


def semantic(walks: Path, run: Run, config: JanusVLNConfig = TINY, init: Path | None = None) -> None:
    """Train the ViT on walks, that of the navigator ``init`` or a new one; writes the weights of its patch embedding
    and blocks to ``run.out``."""
    shards = WalkShards(walks.glob("walks-*.safetensors"))
    torch.manual_seed(run.seed)
    navigator = from_pretrained(init)[0] if init else JanusVLN(config)
    labels = PatchLabels(shards, navigator.config.vision.spatial_merge_size)
    model = SemanticPretraining(navigator, labels.words)
    fit(model, BatchPlan(shards, labels, run.batch, run.steps, run.seed), run)
    if is_main_process():
        save_weights(vit_blocks(model.visual).state_dict(), run.out)


def vit_blocks(visual: Qwen2_5_VisionTransformerPretrainedModel) -> nn.Module:
    """What of the ViT is pre-trained and then frozen: all but its merger."""
    return nn.ModuleDict({"patch_embed": visual.patch_embed, "blocks": visual.blocks})


def imitate(
    data: Sequence[Path],
    features: Path,
    run: Run,
    words: Iterable[str],
    spatial: Path | None = None,
    semantic: Path | None = None,
    init: Path | None = None,
    config: JanusVLNConfig = TINY,
    weights: LossWeights = LossWeights(),
    mirror: bool = False,
) -> Path:
    """Clone the expert's behaviour from trajectories; returns the folder of the checkpoint.

    Args:
        data: folders of trajectories, used together.
        features: where what the frozen encoders see is kept.
        spatial, semantic: pre-trained pathways; a new model needs both.
        init: a checkpoint to go on from, with the pathways that are given in place of its own.
        mirror: learn from every walk in a mirror, too.

    Raises:
        ValueError: there is neither a checkpoint to go on from nor both pathways.
    """
    if not init and not (spatial and semantic):
        raise ValueError("give --init, or both --spatial and --semantic")
    model, processor = from_pretrained(init) if init else new_model(words, config, run.seed)
    if spatial:
        load_weights(model.vggt.aggregator, WeightFiles(spatial))
    if semantic:
        load_weights(vit_blocks(model.visual), WeightFiles(semantic))
    model.freeze_encoders()
    for name, parameter in model.named_parameters():
        if name.startswith(ENCODERS):  # as they will be stored: features that are kept stay true of the checkpoint
            parameter.data = parameter.data.half().float()
    store = FeatureStore(features, model, processor)
    trajectories = [trajectory for folder in data for trajectory in read_trajectories(folder)]
    if mirror:
        trajectories += [trajectory.mirrored() for trajectory in trajectories]
    taught = readable(lessons(trajectories), processor)
    plan = BatchPlan(
        taught,
        Collate(processor, store),
        run.batch,
        run.steps,
        run.seed,
        lengths=[len(lesson.trajectory) for lesson in taught],
    )
    fit(Imitation(model, processor, weights), plan, run)
    if is_main_process():
        save_pretrained(model, processor, run.out, torch.float16)
    return run.out


def dagger(
    init: Path,
    data: Sequence[Path],
    features: Path,
    run: Run,
    house_seeds: Sequence[int],
    rounds: int = 3,
    beta: float = 0.4,
    decay: float = 0.5,
    episodes_per_house: int = 10,
    instructions: int = 4,
    mirror: bool = False,
    rows: int = 8,
) -> Path:
    """DAgger (arXiv:1011.0686): in each round the navigator walks through its share of the houses, and learns from all
    walks so far. In round i the expert acts in its place with probability ``beta * decay**i``: less and less.

    What is done is kept: the same call goes on. Returns the folder of the last navigator.

    Args:
        init: the navigator that walks first.
        data: trajectories to learn from beside its own.
        run: of each imitation; ``run.out`` gets ``walks0``, ``navigator0``, ``walks1``...

    Raises:
        ValueError: fewer houses than rounds.
        RuntimeError: several processes; these take the rounds one by one (``train dagger --part``, ``train imitate``).
    """
    if len(house_seeds) < rounds:
        raise ValueError(f"{len(house_seeds)} houses are too few for {rounds} rounds: each walks through others")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RuntimeError("rounds run in one process; with several, take `train dagger` and `train imitate` in turn")
    walked: list[Path] = []
    for number in range(rounds):
        walks, navigator = run.out / f"walks{number}", run.out / f"navigator{number}"
        if not (navigator / "config.json").exists():
            learner, mixture = NavigatorAgent.from_pretrained(init, rows), Mixture(beta * decay**number)
            houses, demand = house_seeds[number::rounds], Demand(per_trajectory=instructions)
            written = episodes_per_house * instructions
            collect_houses(
                walks, houses, written, mixture, demand, f"round{number}-", run.seed + number, 0, learner, rows
            )
            imitate([*data, *walked, walks], features, replace(run, out=navigator), (), init=init, mirror=mirror)
        walked.append(walks)
        init = navigator
    return init


def readable(taught: list[Lesson], processor: VLNProcessor) -> list[Lesson]:
    """The lessons whose instruction fits the model's prompt; raises ValueError if that is not nearly all of them."""
    fitting = []
    for lesson in taught:
        try:
            processor.prompt(lesson.instruction)
        except ValueError:
            continue
        fitting.append(lesson)
    if len(fitting) < 0.9 * len(taught):
        raise ValueError(
            f"{len(taught) - len(fitting)} of {len(taught)} instructions do not fit max_prompt="
            f"{processor.config.max_prompt} tokens: raise it in the config"
        )
    return fitting
