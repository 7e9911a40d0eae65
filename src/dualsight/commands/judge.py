"""Judging: ``eval`` of navigators and on suites, ``study`` of claims, ``fid``, ``parity`` with the releases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import PositiveInt

from dualsight.commands.options import JANUS, NAVIGATOR, VISMEM, Precision, Split, given, refuse_others

Control = Literal["none", "blind", "deaf"]
Suite = Literal["janus-house", "geneval-shapes", "geneval", "dpg", "gridtalk", "housetalk", "questions"]

_WALKS = (
    "out agent protocol split house_seeds houses episodes_per_house episodes languages scenes up renderer control "
    "tryout mirror seed rows"
)
_TALKS = "suite out model memory seed count"
_DRAWINGS = "suite out model seed count guidance temperature top_k steps candidates device dtype"
_SUITES = {
    "gridtalk": _TALKS,
    "housetalk": _TALKS,
    "questions": "suite out model memory seed vlm data reward",
    "janus-house": "suite out model seed count held_out device dtype",
    "geneval-shapes": f"{_DRAWINGS} held_out",
    "geneval": f"{_DRAWINGS} prompts judge",
    "dpg": f"{_DRAWINGS} prompts judge",
}
"""What `evaluate` heeds of its options."""
_TRAINED = "out rooms seeds model scale models bf16 compiled"
_STUDIES = {
    "decoupling": _TRAINED,
    "unified": _TRAINED,
    "encoders": _TRAINED,
    "generators": _TRAINED,
    "guidance": _TRAINED,
    "memory": "out seeds scale bf16 policy size interleaved talks without data",
    "forgetting": "out seeds scale policy size interleaved",
    "janus-memory": "out rooms seeds scale model",
    "navigator-memory": "out seeds scale model",
    "answers": "out seeds scale vlm data test reward",
}
"""The same of `study`."""


def evaluate(
    out: Path | None = None,
    agent: str = str(NAVIGATOR),
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
    temperature: float | None = None,
    top_k: PositiveInt | None = None,
    steps: PositiveInt | None = None,
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
        out: the folder of results.json, of walks' episodes.jsonl, of drawings, and of a picture of the first talks. By
            default that of a Janus' suite is runs/SUITE-seedN, and gridtalk, housetalk and questions only print.
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
        temperature: of drawings token by token: see `draw`.
        top_k: of the same.
        steps: of drawings by a flow.
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
    refuse_others(evaluate, locals(), f"--suite {suite}" if suite else "a walk", _SUITES[suite] if suite else _WALKS)
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
            held_out, candidates, device, dtype, **given(temperature=temperature, top_k=top_k, steps=steps),
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
    without: list[Literal["former", "soft", "lora", "full"]] | None = None,
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
        bf16: of the same, and of memory: compute in bfloat16.
        compiled: of decoupling, unified, encoders and generators: compile the blocks that learn.
        policy: of memory and forgetting: an output of `train policy`, in place of training one.
        size: of memory: see `train policy`; full by default. Of forgetting: small (by default) or full.
        interleaved: of memory and forgetting: see `train policy`.
        talks: of memory: played in each arm.
        without: of memory: baselines that are not trained, nor what is claimed about them judged; they can be added
            later, by the same command without it.
        vlm: of answers: a folder with a VLM of transformers.
        data: of answers: what its memories learn from, lines of JSON with question, answer and image. Of memory with
            size house: pictures to learn from, of `data views`.
        test: of answers: what it is asked, alike.
        reward: of answers: exact, numeric, choice, or module:function.
    """
    refuse_others(study, locals(), f"study {name}", _STUDIES[name])
    if policy and (size or interleaved != 0.1):
        raise ValueError(f"the policy in {policy} has its own size and was shown its images: leave these options out")
    import importlib

    from dualsight.inference.talk_vlm import SIZES
    from dualsight.studies import answers, forgetting, janus_memory, memory, navigator_memory
    from dualsight.studies.study import Budget, run
    from dualsight.train.talk_policy import steps_of

    out = out or Path("runs") / f"study-{name}"
    seeds = seeds or [0, 1, 2][: 3 if name in ("memory", "janus-memory", "answers") else 2]
    if name == "memory":
        size = size or "full"
        steps = (max(1, round(scale * number)) for number in (steps_of(SIZES[size]), 800, 60, 150))
        memory.run(out, seeds, size, policy, interleaved, *steps, talks, data, bf16, without or ())
    elif name == "forgetting":
        if size == "house":
            raise ValueError("the lessons of forgetting are about grids: --size small or --size full")
        config = forgetting.POLICIES[size or "small"]
        budget = forgetting.Budget(policy_steps=steps_of(config)).scaled(scale)
        forgetting.run(out, seeds, budget, config, policy, interleaved)
    elif name == "answers":
        if not (vlm and data and test):
            raise ValueError("say who learns what and is asked what: --vlm FOLDER --data FILE --test FILE")
        answers.run(out, vlm, data, test, reward, seeds, round(scale * 400))
    elif name == "janus-memory":
        janus_memory.run(out, model or JANUS, rooms, seeds, round(scale * 600))
    elif name == "navigator-memory":
        steps = round(scale * navigator_memory.Budget().steps)
        navigator_memory.run(out, model or NAVIGATOR, seeds, navigator_memory.Budget(steps=steps))
    else:
        claims = importlib.import_module(f"dualsight.studies.{name}").STUDY
        run(claims, out, rooms, seeds, Budget(bf16=bf16, compiled=compiled).scaled(scale), model, models)
    print((out / "results.md").read_text(encoding="utf-8"), end="")


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
