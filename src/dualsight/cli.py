"""The command line: ``dualsight demo | navigate | chat | draw | eval | fid | data | train | study | parity | doctor``.

Each command is a function here; its parameters are the options. Heavy modules are imported inside, so that ``--help``
answers at once and a missing extra is named only where it is needed.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import PositiveInt
from PIL import Image
from rich.console import Console
from rich.markup import escape

from dualsight.extras import install

Control = Literal["none", "blind", "deaf"]
Split = Literal["train", "val_seen", "val_unseen", "test"]
Suite = Literal["janus-house", "geneval-shapes", "geneval", "dpg", "gridtalk", "housetalk", "questions"]

Precision = Literal["float32", "bfloat16", "float16"]

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "janus_vln_tiny"
"""The shipped navigator, in a checkout."""
JANUS = CHECKPOINT.with_name("janus_tiny")
"""The shipped Janus."""
VISMEM = CHECKPOINT.with_name("vismem_tiny")
"""The shipped VisMem."""


def demo(
    out: Path | None = None,
    episodes: PositiveInt = 20,
    checkpoint: Path = CHECKPOINT,
    videos: bool = True,
    rows: PositiveInt = 4,
) -> None:
    """Walk unseen houses with the shipped navigator: a table, an MP4 per episode, one report.html.

    Args:
        out: where results go; the same command goes on where it was. By default runs/demo, where walks of other
            weights make room first: they are moved to runs/demo-WEIGHTS.
        episodes: how many, each in a house of its own.
        checkpoint: the navigator's folder.
        videos: whether to film.
        rows: episodes walked side by side.
    """
    from dualsight.demo import run_demo

    run_demo(out, episodes, checkpoint, videos, rows)


def navigate(
    frames: Path,
    instruction: str,
    checkpoint: Path = CHECKPOINT,
    out: Path | None = None,
    every: PositiveInt = 1,
) -> None:
    """Name the action for each frame of a folder of images or of a video file; no simulator is needed.

    Args:
        frames: a folder of PNG or JPEG files (in the order of their names), or a video (extra: video).
        instruction: what the agent is told.
        checkpoint: the navigator's folder.
        out: a JSON file for the actions.
        every: of so many frames the first one is shown. A film has thirty a second; an agent sees one after each step
            of 25 cm or turn of 15 degrees.
    """
    from dualsight.inference.offline import navigate_frames

    navigate_frames(frames, instruction, checkpoint, out, every)


def evaluate(
    out: Path | None = None,
    agent: str = str(CHECKPOINT),
    protocol: str = "house",
    split: Split = "val_unseen",
    house_seeds: str | None = None,
    houses: PositiveInt = 30,
    episodes_per_house: PositiveInt = 10,
    episodes: Path | None = None,
    languages: list[str] | None = None,
    scenes: Path | None = None,
    up: Literal["y", "z"] = "z",
    renderer: Literal["numba", "gl"] = "numba",
    control: Control = "none",
    tryout: bool = False,
    mirror: bool = False,
    seed: int = 0,
    rows: PositiveInt = 4,
    suite: Suite | None = None,
    model: Path | None = None,
    count: PositiveInt | None = None,
    prompts: Path | None = None,
    judge: str = "",
    guidance: float | None = None,
    candidates: PositiveInt = 1,
    held_out: bool = True,
    memory: str = "learned",
    vlm: Path | None = None,
    data: Path | None = None,
    reward: str = "exact",
    device: str = "cpu",
    dtype: Precision = "float32",
) -> None:
    """Evaluate a navigator under a protocol, or a model on a suite. The last line is for machines.

    Walks that are killed and resumed, or sharded by torchrun, give the same numbers.

    Args:
        out: the folder of results.json and episodes.jsonl; a suite's is runs/SUITE-seedN by default.
        agent: a checkpoint folder, or "expert", "random", "forward".
        protocol: r2r-ce, rxr-ce, janusvln-release or house.
        split: which house seeds.
        house_seeds: FIRST:END, instead of a split: any seeds make fresh houses.
        houses: how many houses of the split.
        episodes_per_house: how many episodes in each.
        episodes: an R2R-CE or RxR-CE json.gz file to walk instead. With NAME_gt.json.gz beside NAME.json.gz, nDTW is
            measured against the paths in there.
        languages: of that file's instructions, such as [en-US,en-IN]; all by default.
        scenes: the folder in which that file's scenes are found, as GLB files.
        up: the vertical axis of these; scans of Matterport3D and HM3D have z.
        renderer: numba renders on the CPU, gl through OpenGL (extra: gl).
        control: blind (grey frames) or deaf (no instruction).
        tryout: the navigator does not step forward again where that has changed nothing.
        mirror: the navigator looks twice, once in a mirror, and does what both find likely.
        seed: of the episodes, or of the suite's test set.
        rows: episodes walked side by side.
        suite: judge a Janus instead: janus-house asks about scenes and rooms, geneval-shapes has it draw; geneval and
            dpg have it draw the prompts of a file. Or a VisMem: gridtalk asks about an image long after it was seen,
            housetalk about the surroundings in a house, questions asks any VLM what stands in a file.
        model: that model's folder.
        count: of a suite, questions of each kind, prompts of each category, or talks; of a file, pictures of each
            prompt.
        prompts: GenEval's evaluation_metadata.jsonl, or DPG-Bench's dpg_bench.csv.
        judge: module:function on the Python path: a detector for geneval, a judge of questions for dpg.
        guidance: of drawings: how much the prompt counts. By default 5 for tokens and 2 for JanusFlow, as
            released, 3 for a diffusion transformer.
        candidates: of drawings: draw so many for each, and judge the one that the model itself finds most like its
            prompt.
        held_out: of janus-house and geneval-shapes: false asks for combinations like those of training, to compare.
        memory: off, learned, always, random:p, short, long, wrong-image, wrong-question, noise, zero, constant, pooled,
            swapped, hidden, or several joined by + (`Mode.parse` says what each is). Of gridtalk, relook shows the
            image again in place of memory, and with lone among the words (always+short+lone) memory is called at the
            last question only, which alone counts; oracle+short calls it where the type of the question needs the
            image, and off+best:3 counts the best of three answers.
        vlm: of questions: a folder with a VLM of transformers; model has its memory.
        data: of questions: lines of JSON with question, answer and image, or whole conversations.
        reward: of questions: exact, numeric, choice, or module:function; what is worth more than a half is right.
        device: of a Janus: cpu, cuda, cuda:1...
        dtype: of its weights and computation.
    """
    if suite == "questions":
        if not (vlm and data and model):
            raise ValueError("say who is asked, and what: --vlm FOLDER --model MEMORY --data FILE")
        from dualsight.bench import questions
        from dualsight.bench.provenance import weights_sha256
        from dualsight.bench.scores import last_line as question_line
        from dualsight.checkpoints.vismem import load_memory
        from dualsight.train.prompts import chat_task

        task, _ = chat_task(vlm, data, reward)
        remembering = load_memory(task.vlm, model)
        judged: dict[str, Any] = {"vlm": str(vlm), "model": str(model), "data": str(data), "reward": reward}
        judged["weights_sha256"] = {"vlm": weights_sha256(vlm), "model": weights_sha256(model)}
        result = questions.evaluate(
            remembering, task.rows, task.reward, task.decode, memory, seed=seed, out=out, config=judged
        )
        print(question_line(result))
        return
    if suite in ("gridtalk", "housetalk"):
        from dualsight.bench.talks import evaluate_folder
        from dualsight.bench.talks import last_line as talk_line

        if suite == "housetalk" and model is None:
            raise ValueError("no model for this suite is shipped: --model FOLDER, with its policy and its memory")
        print(talk_line(evaluate_folder(model or VISMEM, memory, seed, count or 512, out, suite)))
        return
    if suite:
        from dualsight.bench.janus import evaluate_janus
        from dualsight.bench.scores import last_line as suite_line

        result = evaluate_janus(
            suite, model or JANUS, seed, out or Path("runs") / f"{suite}-seed{seed}", count, prompts, judge, guidance,
            held_out, candidates, device, dtype,
        )  # fmt: skip
        if "fid_codec" in result:
            print("FID {fid:.1f} (the codec alone {fid_codec:.1f}, renders {fid_floor:.1f})".format(**result))
            print(f"right of renders that went through the codec: {result['ceiling']['overall']['score']:.1f}")
        print(suite_line(result))
        return
    if out is None:
        raise ValueError("say where the walks are to be kept: --out FOLDER (the same folder resumes)")
    from dualsight.bench.house import build_episodes, describe_agent, evaluate_houses, last_line, make_agent
    from dualsight.data.r2r import read_episodes, read_ground_truth, with_ground_truth
    from dualsight.envs.house_env import HouseEnvironment
    from dualsight.envs.houses import choose_houses
    from dualsight.envs.protocols import get_protocol
    from dualsight.envs.world import Worlds

    rules = get_protocol(protocol)
    envs = [HouseEnvironment(rules, Worlds(scenes, up, renderer)) for _ in range(rows)]
    walker = make_agent(agent, control, envs, tryout=tryout, mirror=mirror)
    if episodes:
        chosen = read_episodes(episodes, languages)
        truths = episodes.with_name(episodes.name.replace(".json", "_gt.json"))
        if truths.exists():
            chosen = with_ground_truth(chosen, read_ground_truth(truths))
    else:
        chosen = build_episodes(choose_houses(split, house_seeds, houses), episodes_per_house, rules, seed)
    if not chosen:
        raise ValueError("there is nothing to walk: no episode in these houses, or in this file")
    results = evaluate_houses(out, walker, envs, chosen, describe_agent(agent, control, tryout=tryout, mirror=mirror))
    if results is not None:
        print(last_line(results))


def data_house(
    out: Path,
    split: Split = "train",
    house_seeds: str | None = None,
    houses: PositiveInt = 100,
    episodes_per_house: PositiveInt = 30,
    instructions: PositiveInt = 3,
    disturbed: float = 0.5,
    max_rooms: int | None = None,
    max_geodesic: float = 20.0,
    seed: int = 0,
    part: int = 0,
    parts: PositiveInt = 1,
    name: str = "",
) -> None:
    """Write expert trajectories through generated houses in the released JanusVLN layout.

    Args:
        out: the data set's folder; trajectories that are there already are kept.
        split: which house seeds.
        house_seeds: FIRST:END, instead of a split.
        houses: how many houses of the split.
        episodes_per_house: trajectories in each.
        instructions: paraphrases for each trajectory.
        disturbed: the share of walks in which random moves are executed now and then.
        max_rooms: at most so many rooms on the way (a curriculum).
        max_geodesic: at most so many metres.
        seed: of episodes and disturbances.
        part: which of ``parts`` processes this is.
        parts: how many processes share the work.
        name: put before the trajectories' ids, so that several sets can be used together.
    """
    from dualsight.envs.houses import choose_houses
    from dualsight.envs.sim.episodes import Demand
    from dualsight.train.collect import Mixture, collect_houses

    chosen = choose_houses(split, house_seeds, houses)[part::parts]
    demand = Demand(max_geodesic=max_geodesic, max_rooms=max_rooms, per_trajectory=instructions)
    mixture = Mixture(disturbed=disturbed)
    collect_houses(out, chosen, episodes_per_house * instructions, mixture, demand, name, seed, part)


def data_episodes(
    out: Path,
    split: Split = "val_unseen",
    house_seeds: str | None = None,
    houses: PositiveInt = 30,
    episodes_per_house: PositiveInt = 10,
    instructions: PositiveInt = 1,
    seed: int = 0,
    protocol: str = "house",
) -> None:
    """Write episodes as an R2R-CE v1-3 file, and what the expert does in them beside it.

    Args:
        out: the file, `<name>.json.gz`; `<name>_gt.json.gz` is written too.
        split: which house seeds.
        house_seeds: FIRST:END, instead of a split.
        houses: how many houses of the split.
        episodes_per_house: how many in each, counting every instruction.
        instructions: paraphrases for each trajectory.
        seed: of the episodes.
        protocol: whose agent has to fit through.
    """
    from dualsight.data.r2r import write_episodes, write_ground_truth
    from dualsight.envs.houses import choose_houses, house_episodes
    from dualsight.envs.protocols import get_protocol
    from dualsight.envs.sim.episodes import Demand
    from dualsight.inference.ground_truth import expert_ground_truth

    rules = get_protocol(protocol)
    chosen = choose_houses(split, house_seeds, houses)
    demand = Demand(per_trajectory=instructions)
    episodes = list(house_episodes(chosen, episodes_per_house, seed, demand, rules))
    write_episodes(out, episodes)
    write_ground_truth(out.with_name(out.name.replace(".json", "_gt.json")), expert_ground_truth(episodes, rules))
    print(f"{len(episodes)} episodes in {len(chosen)} houses: {out}")


def data_walks(
    out: Path,
    house_seeds: str = "0:60",
    walks_per_house: PositiveInt = 60,
    seed: int = 0,
    part: int = 0,
    parts: PositiveInt = 1,
) -> None:
    """Write random walks through houses, for pre-training both visual pathways.

    Args:
        out: a folder of one file per house.
        house_seeds: FIRST:END.
        walks_per_house: walks of eight frames in each house.
        seed: of the walks.
        part: which of ``parts`` processes this is.
        parts: how many processes share the work.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.train.walks import Walks, collect

    collect(seed_range(house_seeds)[part::parts], out, Walks(walks_per_house), seed)


def data_validate(
    path: str,
    limit: PositiveInt = 20,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
    columns: dict[str, str] | None = None,
    model: Path | None = None,
    capacity: PositiveInt = 4096,
) -> None:
    """Check a data set, and name what is bad in it: of conversations and drawings each bad row, of trajectories the
    frames that are missing, cut off or of another size.

    Args:
        path: a folder of trajectories, or conversations and drawings: JSON lines, a LLaVA list, tar shards, a saved
            Hugging Face data set or parquet files; patterns like shard-{000..127}.tar work.
        limit: how many bad rows are shown; all are counted.
        images: the folder that image names start at, by default the one that the file is in.
        root: refuse images that are not under this folder.
        split: of a saved Hugging Face data set with several.
        columns: which field of the file is which of ours, such as {"prompt": "caption", "image": "jpg"}.
        model: a Janus that is to learn from it: rows with more tokens than fit are bad, too.
        capacity: tokens of a packed row, as in `train janus`; for model.
    """
    from dualsight.data import trajectories
    from dualsight.data.validate import validate_data

    reading = given(images=images, root=root, split=split, columns=columns)
    if any(Path(path).glob("annotations*.json*")):
        if reading or model:
            raise ValueError(f"{path} holds trajectories; images, root, split, columns and model are for conversations")
        problems = trajectories.validate(Path(path))
        for problem in problems[:limit]:
            print(problem)
        bad = len(problems)
        print(f"{len(trajectories.read_trajectories(Path(path)))} trajectories")
    else:
        if model:
            from dualsight.checkpoints.janus import load_processor
            from dualsight.train.janus_data import JanusCollate

            reading |= {"tokens": JanusCollate(load_processor(model), capacity).tokens, "capacity": capacity}
        bad = validate_data(Path(path), limit, **reading)
    if bad:
        raise ValueError(f"{bad} problem(s) in {path}")


def train_spatial(
    walks: Path,
    out: Path,
    steps: PositiveInt = 3000,
    batch: PositiveInt = 8,
    learning_rate: float = 1e-3,
    init: Path | None = None,
    bf16: bool = False,
    seed: int = 42,
) -> None:
    """Pre-train the TINY spatial pathway (VGGT) on depth, poses and points.

    Args:
        walks: what `data walks` wrote.
        out: checkpoints, and the weights at the end. The same command resumes.
        steps: of the optimiser.
        batch: walks per step and process.
        learning_rate: its peak.
        init: a navigator whose pathway is trained on, instead of a new one.
        bf16: compute in bfloat16, where the processor has it.
        seed: of weights and order.
    """
    from dualsight.train.stages import spatial
    from dualsight.train.trainer import Run

    spatial(walks, Run(out, steps, learning_rate, batch, seed=seed, bf16=bf16, matrices=r"blocks\."), init=init)


def train_semantic(
    walks: Path,
    out: Path,
    steps: PositiveInt = 3000,
    batch: PositiveInt = 8,
    learning_rate: float = 1e-3,
    init: Path | None = None,
    bf16: bool = False,
    seed: int = 42,
) -> None:
    """Pre-train the TINY semantic pathway (the ViT) on what each patch shows.

    Args:
        walks: what `data walks` wrote.
        out: checkpoints, and the weights at the end. The same command resumes.
        steps: of the optimiser.
        batch: walks per step and process.
        learning_rate: its peak.
        init: a navigator whose pathway is trained on, instead of a new one.
        bf16: compute in bfloat16, where the processor has it.
        seed: of weights and order.
    """
    from dualsight.train.stages import semantic
    from dualsight.train.trainer import Run

    semantic(walks, Run(out, steps, learning_rate, batch, seed=seed, bf16=bf16, matrices=r"blocks\."), init=init)


def train_imitate(
    data: list[Path],
    features: Path,
    out: Path,
    steps: PositiveInt = 4000,
    batch: PositiveInt = 16,
    learning_rate: float = 1e-3,
    spatial: Path | None = None,
    semantic: Path | None = None,
    init: Path | None = None,
    mirror: bool = False,
    bf16: bool = False,
    workers: int = 0,
    seed: int = 42,
) -> None:
    """Clone the expert's behaviour from trajectories: projectors and language model, encoders frozen.

    Args:
        data: folders of trajectories.
        features: where what the frozen encoders see is kept.
        out: checkpoints, and the navigator at the end. The same command resumes.
        steps: of the optimiser.
        batch: episodes per step and process.
        learning_rate: its peak.
        spatial: output of `train spatial`.
        semantic: output of `train semantic`.
        init: a navigator to go on from; with its own pathways where none are given.
        mirror: learn from every walk in a mirror, too.
        bf16: compute in bfloat16, where the processor has it.
        workers: processes that encode and read walks beside the training.
        seed: of weights and order.
    """
    from dualsight.envs.sim.instructions import vocabulary
    from dualsight.train.stages import imitate
    from dualsight.train.trainer import Run

    run = Run(out, steps, learning_rate, batch, seed=seed, bf16=bf16, matrices=r"\.layers\.", workers=workers)
    imitate(data, features, run, vocabulary(), spatial, semantic, init, mirror=mirror)


def train_dagger(
    init: Path,
    out: Path,
    house_seeds: str,
    episodes_per_house: PositiveInt = 10,
    instructions: PositiveInt = 4,
    beta: float = 0.2,
    seed: int = 0,
    part: int = 0,
    parts: PositiveInt = 1,
    rows: PositiveInt = 8,
    name: str = "dagger-",
) -> None:
    """Collect one DAgger round: walks of a navigator, labelled by the expert. Train on them with `train imitate`.

    Args:
        init: the navigator that walks.
        out: the data set's folder.
        house_seeds: FIRST:END.
        episodes_per_house: walks in each.
        instructions: written for each; the navigator hears the first.
        beta: how often the expert acts instead of the navigator.
        seed: of the episodes and of the mixture.
        part: which of ``parts`` processes this is.
        parts: how many processes share the work.
        rows: episodes walked side by side.
        name: put before the trajectories' ids.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.envs.sim.episodes import Demand
    from dualsight.inference.navigator import NavigatorAgent
    from dualsight.train.collect import Mixture, collect_houses

    chosen = seed_range(house_seeds)[part::parts]
    learner, demand = NavigatorAgent.from_pretrained(init, rows), Demand(per_trajectory=instructions)
    written = episodes_per_house * instructions
    collect_houses(out, chosen, written, Mixture(beta), demand, name, seed, part, learner, rows)


def train_rounds(
    init: Path,
    features: Path,
    out: Path,
    house_seeds: str,
    data: list[Path] = [],  # noqa: B006
    rounds: PositiveInt = 3,
    beta: float = 0.4,
    decay: float = 0.5,
    episodes_per_house: PositiveInt = 10,
    instructions: PositiveInt = 4,
    steps: PositiveInt = 500,
    batch: PositiveInt = 16,
    learning_rate: float = 8e-4,
    mirror: bool = False,
    bf16: bool = False,
    workers: int = 0,
    seed: int = 42,
) -> None:
    """DAgger in rounds: the navigator walks, the expert labels, the navigator learns from all walks so far.

    Args:
        init: the navigator that walks first.
        features: where what the frozen encoders see is kept.
        out: walks and navigators of every round. The same command goes on.
        house_seeds: FIRST:END, shared out among the rounds.
        data: folders of trajectories to learn from, too.
        rounds: how many.
        beta: how often the expert acts instead of the navigator, in the first round.
        decay: of beta, from round to round.
        episodes_per_house: walks in each.
        instructions: written for each; the navigator hears the first.
        steps: of the optimiser, in each round.
        batch: episodes per step.
        learning_rate: its peak.
        mirror: learn from every walk in a mirror, too.
        bf16: compute in bfloat16, where the processor has it.
        workers: processes that encode and read walks beside the training.
        seed: of weights, order, episodes and mixtures.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.train.stages import dagger
    from dualsight.train.trainer import Run

    run = Run(out, steps, learning_rate, batch, seed=seed, bf16=bf16, matrices=r"\.layers\.", workers=workers)
    houses = seed_range(house_seeds)
    print(dagger(init, data, features, run, houses, rounds, beta, decay, episodes_per_house, instructions, mirror))


def data_rooms(out: Path, house_seeds: str, per_house: PositiveInt = 48, seed: int = 0) -> None:
    """Take pictures of rooms in generated houses, labelled with what they show, a shard for each house.

    Args:
        out: folder of the shards; those that are there are kept.
        house_seeds: 0:100 for the houses 0 to 99.
        per_house: pictures of each.
        seed: of places and directions.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.train.rooms import collect

    collect(seed_range(house_seeds), out, per_house, seed=seed)


def data_views(out: Path, house_seeds: str, per_house: PositiveInt = 48, seed: int = 0) -> None:
    """Take pictures of what is around one in generated houses, four views in each, labelled with what they show, a
    shard for each house.

    Args:
        out: folder of the shards; those that are there are kept.
        house_seeds: 0:100 for the houses 0 to 99.
        per_house: pictures of each.
        seed: of places and directions.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.train.rooms import collect_views

    collect_views(seed_range(house_seeds), out, per_house, seed=seed)


def train_codec(
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


def train_encoder(
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


def train_new(
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


def train_swap(init: Path, codec: Path, out: Path, seed: int = 42) -> None:
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


def train_janus(
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


def train_policy(
    out: Path,
    size: Literal["small", "full", "house"] = "full",
    data: Path | None = None,
    steps: PositiveInt = 1200,
    batch: PositiveInt = 64,
    learning_rate: float = 2e-3,
    interleaved: float = 0.1,
    bf16: bool = False,
    seed: int = 0,
) -> None:
    """Train the small VLM that talks about grids or houses, for memory to be put around.

    Args:
        out: checkpoints, and the model at the end. The same command resumes.
        size: small is a grid of nine cells of which only colours are asked; house talks about pictures of houses.
        data: these pictures, the folder of `data views`.
        steps: of the optimiser.
        batch: talks per step and process.
        learning_rate: its peak.
        interleaved: share of questions behind which the image is shown once more.
        bf16: compute in bfloat16, where the processor has it.
        seed: of weights and talks.
    """
    from dataclasses import replace

    from dualsight.inference.talk_vlm import SIZES, with_views
    from dualsight.train.talks import policy_run, pretrain_policy

    config = SIZES[size]
    if size == "house" and not data:
        raise ValueError("say where the pictures are: --data FOLDER, which `dualsight data views` wrote")
    if data:
        config = replace(config, task=with_views(config.task, data))
    run = policy_run(out, steps, batch=batch, learning_rate=learning_rate, bf16=bf16, seed=seed)
    pretrain_policy(config, run, interleaved)


def train_memory(
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
    relook: bool = True,
    seeded: bool = True,
    seed: int = 0,
) -> None:
    """Warm start of a memory: right answers, through memories put into them. Talks teach where to look in the image
    first.

    Args:
        vlm: a folder with a VLM of transformers, or an output of `train policy`; it stays frozen.
        out: checkpoints, and the memory at the end. The same command resumes.
        data: lines of JSON with question, answer and image (or whole conversations). A policy needs none, or, where it
            talks about houses, the folder of `data views`.
        kinds: which memories are trained.
        queries: K; 4 around a policy, 8 around others.
        short: latents of a short memory; 4, 8.
        long: latents of a long one; 8, 16.
        width: of the query builder; 64, 512.
        steps: of the optimiser.
        batch: talks or answers per step and process; 48, 8.
        learning_rate: its peak; 0.003, 0.0001.
        share: of an answer's delimiters behind which memory is put, with data.
        relook: a short memory begins as a pooled second look; false is the paper's former alone.
        seeded: what goes into a former starts from the queries, too; false starts it as in the paper.
        seed: of weights, order and places.
    """
    from dataclasses import replace

    import torch

    from dualsight.data.housetalk import is_views
    from dualsight.inference.talk_vlm import MEMORY
    from dualsight.models.vismem import KINDS, VisMem, VisMemConfig
    from dualsight.train import sft, talks
    from dualsight.train.prompts import task_of

    chosen: tuple[Any, ...] = KINDS if kinds == "both" else (kinds,)
    sizes = given(queries=queries, short=short, long=long, width=width, relook=relook, seeded=seeded)
    settings = given(batch=batch, learning_rate=learning_rate, seed=seed)
    task = task_of(vlm, data, "exact", seed)
    if data is None or is_views(data):
        run = talks.memory_run(out, steps, **settings)
        talks.warm_start(vlm, replace(MEMORY, **sizes), run, chosen, views=data)
        return
    torch.manual_seed(seed)
    memory = VisMem(task.vlm, task.delimiters, replace(VisMemConfig(), **sizes))
    sft.warm_start(memory, task.rows, task.encode, sft.memory_run(out, steps, **settings), chosen, share)


def given(**options: Any) -> dict[str, Any]:
    """Options that the user set."""
    return {name: value for name, value in options.items() if value is not None}


def train_grpo(
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
        memory: the one to begin with, of `train memory` or of this command; without it a new one.
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
    from dualsight.checkpoints.vismem import load_memory
    from dualsight.models.vismem import VisMem
    from dualsight.train.grpo import GRPO, run_of, train
    from dualsight.train.prompts import task_of

    task = task_of(vlm, data, reward, seed)
    if memory:
        trained = load_memory(task.vlm, memory)
    else:
        trained = VisMem(task.vlm, task.delimiters)
    config = GRPO(
        stage, group, min(4, group), answer=answer, temperature=temperature, share=share, wide_after=wide_after,
        wide_share=wide_share, latents=latents, sigma=sigma, iterations=iterations, cost=cost, alpha=alpha, beta=beta,
        target_kl=target_kl,
    )  # fmt: skip
    changes: dict[str, Any] = {"learning_rate": learning_rate} if learning_rate else {}
    run = run_of(stage, out, steps, batch=batch, seed=seed, **changes)
    train(trained, task.rows, task.reward, task.decode, config, run)


def _ratio(text: str) -> list[int]:
    """``5:1:4`` as numbers."""
    if not re.fullmatch(r"\d+:\d+:\d+", text):
        raise ValueError(f"the ratio is {text!r}; expected understanding:text:generation, such as 5:1:4")
    return [int(number) for number in text.split(":")]


def study(
    name: Literal[
        "decoupling",
        "unified",
        "encoders",
        "generators",
        "guidance",
        "memory",
        "forgetting",
        "janus-memory",
        "navigator-memory",
        "answers",
    ],
    out: Path | None = None,
    rooms: Path = Path("runs/janus/rooms"),
    seeds: list[int] | None = None,
    model: Path | None = None,
    scale: float = 1.0,
    models: Path | None = None,
    bf16: bool = False,
    compiled: bool = False,
    policy: Path | None = None,
    size: Literal["small", "full", "house"] | None = None,
    interleaved: float = 0.1,
    talks: PositiveInt = 256,
    vlm: Path | None = None,
    data: Path | None = None,
    test: Path | None = None,
    reward: str = "exact",
) -> None:
    """Test claims of the papers: train every arm with the same budget, judge it, and say what held.

    Args:
        name: which claims.
        out: everything is kept here (runs/study-NAME by default); the same command goes on. results.md has the table.
        rooms: pictures of rooms, of `data rooms`.
        seeds: of weights, order and test sets; by default 0 and 1, of the studies of memory 0, 1 and 2.
        model: judge this Janus, of any size, in place of training; for guidance. Of janus-memory and
            navigator-memory: put it around this one, in place of the shipped one.
        scale: of the number of training steps.
        models: of decoupling, unified, encoders and generators: what is trained is kept here, and shared by studies
            that name the same folder.
        bf16: of the same: compute in bfloat16.
        compiled: of the same: compile the blocks that learn.
        policy: of memory and forgetting: an output of `train policy`, in place of training one.
        size: of memory: see `train policy`; full by default. Of forgetting: small (by default) or full.
        interleaved: of memory and forgetting: see `train policy`.
        talks: of memory: played in each arm.
        vlm: of answers: a folder with a VLM of transformers.
        data: of answers: what its memories learn from, lines of JSON with question, answer and image. Of memory with
            size house: pictures to learn from, of `data views`.
        test: of answers: what it is asked, alike.
        reward: of answers: exact, numeric, choice, or module:function.
    """
    import importlib

    from dualsight.studies import answers, forgetting, janus_memory, memory, navigator_memory
    from dualsight.studies.study import Budget, run

    out = out or Path("runs") / f"study-{name}"
    seeds = seeds or [0, 1, 2][: 3 if name in ("memory", "janus-memory", "answers") else 2]
    if name == "memory":
        steps = (max(1, round(scale * number)) for number in (1200, 800, 60))
        memory.run(out, seeds, size or "full", policy, interleaved, *steps, talks, data)
    elif name == "forgetting":
        if size == "house":
            raise ValueError("the lessons of forgetting are about grids: --size small or --size full")
        config = forgetting.POLICIES[size or "small"]
        forgetting.run(out, seeds, forgetting.Budget().scaled(scale), config, policy, interleaved)
    elif name == "answers":
        if not (vlm and data and test):
            raise ValueError("say who learns what and is asked what: --vlm FOLDER --data FILE --test FILE")
        answers.run(out, vlm, data, test, reward, seeds, round(scale * 400))
    elif name == "janus-memory":
        janus_memory.run(out, model or JANUS, rooms, seeds, round(scale * 600))
    elif name == "navigator-memory":
        steps = round(scale * navigator_memory.Budget().steps)
        navigator_memory.run(out, model or CHECKPOINT, seeds, navigator_memory.Budget(steps=steps))
    else:
        study = importlib.import_module(f"dualsight.studies.{name}").STUDY
        run(study, out, rooms, seeds, Budget(bf16=bf16, compiled=compiled).scaled(scale), model, models)
    print((out / "results.md").read_text(encoding="utf-8"), end="")


def chat(
    model: Path,
    question: str = "",
    images: Path | list[Path] | None = None,
    max_tokens: PositiveInt = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    dtype: Precision = "float32",
) -> None:
    """Talk with a Janus about images: one question, or a conversation until an empty line.

    Args:
        model: a folder with a Janus of ours, of the official release or of transformers.
        question: asked once; without it the questions are read from the terminal, line by line.
        images: one, or [several, in, order], shown with the first question, before its text.
        max_tokens: an answer is cut off here.
        temperature: of sampling; 0 takes the best token.
        top_p: sample from the best tokens that together have this probability.
        seed: of sampling.
        device: cpu, cuda, cuda:1...
        dtype: of weights and computation.
    """
    from dualsight.inference.assistant import Assistant
    from dualsight.types import IMAGE_MARK, Conversation, Turn

    assistant = Assistant.from_pretrained(model, device, dtype)
    turns: list[Turn] = []
    pictures = [images] if isinstance(images, Path) else images or []
    shown = f"{IMAGE_MARK}\n" * len(pictures)
    while text := question.strip() or _ask():
        turns.append(Turn("user", shown + text))
        shown, answer = "", ""
        talk = Conversation(tuple(turns), tuple(pictures))
        for piece in assistant.stream(talk, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed):
            print(piece, end="", flush=True)
            answer += piece
        print()
        if question:
            return
        turns.append(Turn("assistant", answer))


def _ask() -> str:
    """A line from the terminal, empty at its end."""
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def draw(
    model: Path,
    prompt: str = "",
    prompts: Path | None = None,
    out: Path = Path("drawings"),
    per_prompt: PositiveInt = 1,
    seed: int = 0,
    guidance: float | None = None,
    temperature: float | None = None,
    top_k: PositiveInt | None = None,
    compile: bool = False,
    steps: PositiveInt | None = None,
    candidates: PositiveInt = 1,
    batch: PositiveInt = 64,
    device: str = "cpu",
    dtype: Precision = "float32",
) -> None:
    """Draw images with a Janus: PNG files, one for each image of each prompt.

    Args:
        model: a folder with a Janus of ours, of the official release or of transformers.
        prompt: what to draw.
        prompts: a text file with one prompt on each line, instead.
        out: folder of the images; those that it holds under the same names are replaced.
        per_prompt: images of each prompt.
        seed: of the first image; the next ones count up.
        guidance: how much the prompt counts; 1 is no guidance. By default 5 for tokens and 2 for JanusFlow, as
            released, 3 for a diffusion transformer.
        temperature: of sampling tokens, by default 1; 0 takes the best one.
        top_k: sample from so many of the best tokens only.
        compile: draw every token by one compiled graph: for GPUs, after a minute of compiling; CPUs are slower with it.
        steps: of a model that draws by flow.
        candidates: draw so many for each image, and keep the one that the model itself finds most like its prompt.
        batch: draw at most so many at once, and at least one prompt's; which ones they are makes no difference to them.
        device: cpu, cuda, cuda:1...
        dtype: of weights and computation.
    """
    from rich.progress import Progress

    from dualsight.data.files import replacing
    from dualsight.inference.assistant import Assistant

    if bool(prompt) == bool(prompts):
        raise ValueError("say what to draw: either --prompt TEXT, or --prompts FILE with one on each line")
    texts = prompts.read_text().splitlines() if prompts else [prompt]
    texts = [text.strip() for text in texts if text.strip()]
    assistant = Assistant.from_pretrained(model, device, dtype)
    given = {
        "guidance": guidance,
        "temperature": temperature,
        "top_k": top_k,
        "compile": compile or None,
        "steps": steps,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    together = max(1, batch // (per_prompt * candidates))
    groups = -(-len(texts) // together)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("drawing", total=None)
        for group in range(groups):
            settings["on_step"] = lambda done, total, group=group: progress.update(
                task, completed=group * total + done, total=groups * total
            )
            first = group * together
            asked = texts[first : first + together]
            seeds = [seed + first * per_prompt + index for index in range(len(asked) * per_prompt)]
            images = assistant.generate_images(asked, seeds, per_prompt, candidates=candidates, **settings)
            for index, (image_seed, pixels) in enumerate(zip(seeds, images, strict=True)):
                path = out / f"{first + index // per_prompt:03d}-seed{image_seed}.png"
                with replacing(path) as temporary:
                    Image.fromarray(pixels).save(temporary, "png")
                print(f"{path}  {asked[index // per_prompt]}", flush=True)


def fid(a: Path, b: Path, features: str = "", out: Path | None = None) -> None:
    """Frechet distance between the images in two folders, in features of your own: FID, if they are Inception's.

    Args:
        a: a folder of images.
        b: another; sets of one size compare best, small ones come out too far apart.
        features: module:function on the Python path: it gets a list of images (H, W, 3), uint8, and returns a row of
            numbers for each. Or scenes, the features of the suite geneval-shapes.
        out: a JSON file for the result.
    """
    from dualsight.bench.features import scene_features
    from dualsight.bench.frechet import compare_folders
    from dualsight.bench.scores import write_result
    from dualsight.data.named import function_of

    if not features:
        raise ValueError("say in whose features: --features module:function (or scenes)")
    result = compare_folders(a, b, function_of(features, "features", {"scenes": scene_features}))
    if out:
        write_result(out, {"folders": [str(a), str(b)], "features": features, **result})
    print(f"fid={result['fid']:.3f} images={','.join(map(str, result['images']))}")


def parity(file: Path) -> None:
    """Run a file of recorded reference outputs; fails beyond 1e-5 or where a token id differs.

    Args:
        file: a safetensors file of the golden format, its configuration in the metadata.
    """
    from dualsight.checkpoints.golden import run_parity

    if not run_parity(file).passed:
        sys.exit(1)


def doctor() -> None:
    """Say what is wrong with this installation, and how to mend it."""
    from dualsight.doctor import doctor as examine

    if any(finding.level == "broken" for finding in examine()):
        sys.exit(1)


COMMANDS: dict[str, Any] = {
    "demo": demo,
    "navigate": navigate,
    "eval": evaluate,
    "study": study,
    "data": {
        "house": data_house,
        "episodes": data_episodes,
        "walks": data_walks,
        "rooms": data_rooms,
        "views": data_views,
        "validate": data_validate,
    },
    "train": {
        "spatial": train_spatial,
        "semantic": train_semantic,
        "imitate": train_imitate,
        "dagger": train_dagger,
        "rounds": train_rounds,
        "codec": train_codec,
        "encoder": train_encoder,
        "new": train_new,
        "swap": train_swap,
        "janus": train_janus,
        "policy": train_policy,
        "memory": train_memory,
        "grpo": train_grpo,
    },
    "chat": chat,
    "draw": draw,
    "fid": fid,
    "parity": parity,
    "doctor": doctor,
}


def main(arguments: list[str] | None = None) -> None:
    """Run one command. What the user can mend ends in one line on stderr and exit status 2, not in a traceback."""
    from jsonargparse import DefaultHelpFormatter, auto_cli

    class WithDashes(DefaultHelpFormatter):
        """Options as people type them."""

        def format_help(self) -> str:
            return re.sub(r"--[a-z]\w+", lambda option: option[0].replace("_", "-"), super().format_help())

    arguments = [with_underscores(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    logging.getLogger("dualsight.inference").setLevel(logging.ERROR)  # answers that are no action are in the results
    # `dualsight parity FILE`, `dualsight study NAME`, `dualsight fid A B`
    one_file = arguments[:1] in (["parity"], ["study"], ["fid"]) or arguments[:2] == ["data", "validate"]
    try:
        auto_cli(COMMANDS, args=arguments, as_positional=one_file, formatter_class=WithDashes)
    except (ValueError, OSError, ImportError, KeyError, FloatingPointError) as error:
        Console(stderr=True).print(f"[red]dualsight:[/] {escape(explain(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; what was written is safe, and the same command goes on from there")
        sys.exit(130)


def explain(error: Exception) -> str:
    """The line that is shown for an error; a missing package is shown with the extra that brings it."""
    from dualsight.doctor import EXTRAS

    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"{error.name} is not installed: {install(EXTRAS[error.name])}"
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


def with_underscores(word: str) -> str:
    """``--house-seeds=0:9`` as ``--house_seeds=0:9``: options are parameters of the functions above."""
    option = re.match(r"--[a-z][a-z_-]*(?==|$)", word)
    return option[0][:2] + option[0][2:].replace("-", "_") + word[option.end() :] if option else word


if __name__ == "__main__":
    main()
