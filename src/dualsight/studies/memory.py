"""Claims of VisMem on talks about grids or houses: is latent memory used, what for, and what does it replace?

One frozen policy, a memory for every seed, fresh test sets, every way of calling it. A row of the table is a way of
calling and the part of a talk that counts: *early* (the image can be in reach), *late* (it cannot) or *overall*; its
columns are types of questions. ``all`` are all of them, ``seen`` those about the image, ``mixture`` those of which one
kind of memory is said to be better for some and the other for others. After its warm start a memory is trained by
rewards: stage I what is formed (``rewarded``), then stage II when it is called (``learned``).

*Overall* has further columns: ``area``, the mean over the places in a talk of what is right of ``seen`` at each;
``tokens`` that memory (or a second look, or further tries) adds to an answer, and the ``ms`` of one
(`seconds_of_an_answer`).

The pass lines are those of the claims' list, as margins: ``-20`` says "better by at least 20 points".
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from dualsight.bench.provenance import sha256, weights_sha256
from dualsight.bench.scores import score
from dualsight.bench.talks import (
    LONE,
    RELOOK,
    Played,
    play_all,
    samples_of,
    seconds_of_an_answer,
    take_views,
    visual_attention,
)
from dualsight.checkpoints.vismem import load_memory
from dualsight.data.files import write_json
from dualsight.data.housetalk import HouseTalk
from dualsight.data.shards import shards_in
from dualsight.data.talks import ASKED, MARK, SENTENCE
from dualsight.inference.talk_vlm import MEMORY, SIZES, PolicyConfig, load_policy, with_views
from dualsight.models.vismem import VisMem
from dualsight.studies.study import Claim, Figure, Study, check_settings, conclude
from dualsight.train.grpo import GRPO, run_of, train
from dualsight.train.lora import add_lora
from dualsight.train.prompts import task_of
from dualsight.train.talk_memory import memory_run, soft_prompt, soft_prompt_of, tune, warm_start
from dualsight.train.talk_policy import policy_run, pretrain_policy, steps_of

Size = Literal["small", "full", "house"]
Baseline = Literal["former", "soft", "lora", "full"]
"""What a memory is compared with, of what is trained."""
Who = Literal["warm", "memory", "invocation", "look"] | Baseline
"""A memory after its warm start, and after each stage of GRPO; its second look without what the former says
(``memory.latent.Relook``), and the paper's former without one, from nothing; constant latents that were trained; the
policy itself, tuned on the same talks."""


class Arm(NamedTuple):
    """Who is asked, and when memory is called: a mode of `evaluate`."""

    who: Who
    mode: str


ARMS = {
    "off": Arm("warm", "off"),
    "short": Arm("warm", "always+short"),
    "long": Arm("warm", "always+long"),
    "constant": Arm("warm", "always+short+constant"),
    "noise": Arm("warm", "always+short+noise"),
    "wrong image": Arm("warm", "always+short+wrong-image"),
    "wrong question": Arm("warm", "always+short+wrong-question"),
    "lone": Arm("warm", "always+short+lone"),
    "lone constant": Arm("warm", "always+short+constant+lone"),
    "lone wrong image": Arm("warm", "always+short+wrong-image+lone"),
    "lone wrong question": Arm("warm", "always+short+wrong-question+lone"),
    "pooled": Arm("warm", "always+short+pooled"),
    "relook": Arm("warm", RELOOK),
    "best of three": Arm("warm", "off+best:3"),
    "look only": Arm("look", "always+short"),
    "former only": Arm("former", "always+short"),
    "soft prompt": Arm("soft", "always+short+constant"),
    "lora": Arm("lora", "off"),
    "full": Arm("full", "off"),
    "rewarded": Arm("memory", "always+short"),
    "learned": Arm("invocation", "learned"),
    "learned short": Arm("invocation", "learned+short"),
    "learned long": Arm("invocation", "learned+long"),
    "always": Arm("invocation", "always"),
    "always short": Arm("invocation", "always+short"),
    "always long": Arm("invocation", "always+long"),
    "random 25": Arm("invocation", "random:0.25"),
    "random 50": Arm("invocation", "random:0.5"),
    "random 75": Arm("invocation", "random:0.75"),
    "oracle short": Arm("invocation", "oracle+short"),
    "oracle long": Arm("invocation", "oracle+long"),
}
"""``constant`` latents are the mean of those that are formed; ``pooled`` puts averages of the visual tokens in their
place, ``relook`` shows the whole image again. The ``best of three`` tries say about as many tokens as one answer with a
short memory of four latents. What latents are made of is told by ``lone`` ones: where every question has a memory, an
answer can be read off those of the questions before, too. ``oracle`` calls where the type of the question needs the
image. When to call is compared around one and the same memory, that of both stages."""
BEST = {
    "best forced": ("always", "always short", "always long", "random 25", "random 50", "random 75"),
    "best of one kind": ("learned short", "learned long", "always short", "always long"),
}
"""Rows of the best of some arms, column by column. A kind alone is also asked at every question: a model that has
learnt to call both calls less often where it may call but one."""
STAGES: tuple[tuple[Literal["memory", "invocation"], float, float], ...] = (
    ("memory", 3e-4, 0.0),
    ("invocation", 8e-3, 0.05),
)
"""Of GRPO, each with its learning rate and what a call costs."""
LONE_TALKS = 4
"""Times as many talks where only the last question of each counts."""
ANSWER = 16
"""Tokens of a roll-out: a long memory and the three of an answer."""
TUNED = {"lora": 1e-3, "full": 3e-4}
"""Learning rates of what tunes the policy itself."""
PARTS = ("early", "late", "overall")
MIXTURE = ("fine", "kind", "count")
STUDY = Study(
    "memory",
    (),
    (
        Claim("C1 the image is lost: late questions are 30 points worse than the first five", "off, first five",
              "off, late", "seen", -30),
        Claim("C1 questions that need no image are not (10)", "off, late", "off, early", "text", 10),
        Claim("C2 short memory restores 20 points", "short, late", "off, late", "seen", -20),
        Claim("C2 and 10 more than a learnt soft prompt does", "short, late", "soft prompt, late", "seen", -10),
        Claim("C3a it is not the mere presence of latents: 20 points over constant ones", "lone, late",
              "lone constant, late", "seen", -20),
        Claim("C3b memory of another image falls to constant latents + 5", "lone constant, late",
              "lone wrong image, late", "seen", 5),
        Claim("C3b and more than 60 % of its answers are right of that image", "lone wrong image, late, by that image",
              "60 of a hundred", "seen"),
        Claim("C3c memory for another question falls to what both ask + constant latents + 5", "predicted, late",
              "lone wrong question, late", "seen", 5),
        Claim("C4 at least as good as as many averages of visual tokens", "short, late", "pooled, late", "seen"),
        Claim("C4 within 5 points of showing the image again", "short, late", "relook, late", "seen", 5),
        Claim("C4 with 9 times fewer tokens (can hold from 52 visual ones on)", "relook / short", "9 times", "tokens"),
        Claim("C5 short memory is the better one for details", "short, late", "long, late", "fine"),
        Claim("C5 long memory is the better one for knowledge", "long, late", "short, late", "kind"),
        Claim("C5 long memory is the better one for counting", "long, late", "short, late", "count"),
        Claim("C5 both kinds: at most 1 point worse than the better one alone", "learned, overall",
              "best of one kind, overall", "all", 1),
        Claim("C5 and better on the mixture of details, knowledge and counting", "learned, overall",
              "best of one kind, overall", "mixture"),
        Claim("C6 called by the model: at most 1 point worse than the best of always and at random",
              "learned, overall", "best forced, overall", "all", 1),
        Claim("C6 the same of late questions about the image", "learned, late", "best forced, late", "seen", 1),
        Claim("C6 with at most 60 % of the calls", "60 % of always, calls", "learned, calls", "all"),
        Claim("C6 questions that need no image call in less than 10 %", "10 of a hundred", "learned, calls", "text"),
        Claim("C8 rewards add to the warm start", "rewarded, late", "short, late", "seen"),
        Claim("calling it always does not hurt early answers (5)", "short, early", "off, early", "seen", 5),
    ),
)  # fmt: skip
Rows = dict[str, dict[str, list[Figure]]]


def groups_of(types: Sequence[str]) -> dict[str, Callable[[Played], bool]]:
    """Columns of the table, for the questions of a task."""
    mixed = [kind for kind in MIXTURE if kind in types]
    found: dict[str, Callable[[Played], bool]] = {
        "all": lambda one: True,
        "seen": lambda one: one.type != "text",
        **({"mixture": lambda one: one.type in mixed} if len(mixed) > 1 else {}),
    }
    return found | {kind: (lambda one, kind=kind: one.type == kind) for kind in types}


def run(
    out: Path,
    seeds: Sequence[int] = (0, 1, 2),
    size: Size = "full",
    policy: Path | None = None,
    interleaved: float = 0.1,
    policy_steps: int | None = None,
    steps: int = 800,
    reward_steps: int = 60,
    call_steps: int = 150,
    talks: int = 256,
    data: Path | None = None,
    bf16: bool = False,
    without: Sequence[Baseline] = (),
) -> dict:
    """Train what there is not yet, play every arm, say what held. Everything is kept under ``out``.

    Args:
        policy: this one in place of one that is trained; ``size``, ``interleaved`` and ``policy_steps`` are its own.
        interleaved: of the policy's pre-training (see `pretrain_policy`); 0 never shows it an image amid a text.
        policy_steps: as many as a policy of this size needs by default.
        steps: of each warm start, and of whatever else learns from the same talks.
        reward_steps: of stage I of GRPO, what is formed.
        call_steps: of stage II, when it is called. It needs more of them: every name has to be met often enough for
            what says <short> to be told apart from all that leads to no call.
        talks: of each arm and seed.
        data: pictures of houses to learn from (``dualsight data views``), for a policy that talks about these.
        bf16: of all that is not trained by rewards.
        without: baselines that are left out, with the claims about them: tuning all of a large policy costs much more
            than the memory itself. They can be added later, in the same ``out``.

    Returns:
        The content of ``results.json``.

    Raises:
        DifferentRun: ``out`` holds what was made with other settings.
        ValueError: the policy talks about houses and there are no pictures, or about grids and there are.
    """
    _with_pictures(load_policy(policy)[1] if policy else SIZES[size], data)  # before anything is written
    settings: dict[str, Any] = {
        "steps": steps, "reward_steps": reward_steps, "call_steps": call_steps, "talks": talks, "bf16": bf16,
    }  # fmt: skip
    if data:
        settings["data"] = sha256(*shards_in(data, "views"))
    policy_steps = policy_steps or steps_of(SIZES[size])
    which = {"size": size, "interleaved": interleaved, "steps": policy_steps}
    check_settings(out, {"policy": {"weights": weights_sha256(policy)} if policy else which, **settings})
    policy = policy or policy_of(out / "policy", SIZES[size], interleaved, policy_steps, data, bf16)
    config = load_policy(policy, data)[1]
    rows: Rows = {}
    curves: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        folder = out / f"seed{seed}"
        rewards = {"memory": reward_steps, "invocation": call_steps}
        folders = _learn(policy, folder, steps, rewards, seed, data, bf16, without)
        views = _test_views(folder / "views", seed, config)
        for arm in (name for name, arm in ARMS.items() if arm.who not in without):
            path = folder / f"{arm.replace(' ', '-')}.json"
            if not path.exists():
                write_json(path, _asked(folders, arm, views, seed, talks))
            found = json.loads(path.read_text(encoding="utf-8"))
            curves.setdefault(arm, []).append(found["by_index"])
            for row, columns in found["rows"].items():
                for column, figure in columns.items():
                    rows.setdefault(row, {}).setdefault(column, []).append(Figure.read(figure))
    best = _derive(rows, len(seeds))
    further = {
        "parameters": _parameters(policy),
        "by_index": curves,
        "best": best,
        "visual_attention": visual_attention(policy, 1000, _test_views(out / "seed0" / "views", 0, config)),
    }
    heading = {"policy": described(policy), "seeds": list(seeds), **settings}
    if without:
        heading["without"] = list(without)
    return conclude(STUDY, out, rows, heading, further)


def policy_of(
    folder: Path,
    config: PolicyConfig,
    interleaved: float,
    steps: int,
    data: Path | None = None,
    bf16: bool = False,
) -> Path:
    """Train a policy, unless that was done; returns its folder.

    Raises:
        ValueError: it would talk about houses, and there are no pictures.
    """
    config = _with_pictures(config, data)
    if not (folder / "config.json").exists():
        pretrain_policy(config, policy_run(folder, steps, bf16=bf16, seed=0), interleaved)
    return folder


def _with_pictures(config: PolicyConfig, data: Path | None) -> PolicyConfig:
    if isinstance(config.task, HouseTalk) and not data:
        raise ValueError("talks about houses need pictures: --data FOLDER, which `dualsight data views` wrote")
    return replace(config, task=with_views(config.task, data)) if data else config


def described(policy: Path) -> dict[str, Any]:
    """Which policy a table is about."""
    vlm, config = load_policy(policy)
    plain = replace(config, interleaved=None, steps=None)
    return {
        "path": str(policy),
        "size": next((name for name, known in SIZES.items() if known == plain), "another"),
        "parameters": sum(parameter.numel() for parameter in vlm.parameters()),
        "interleaved": "not written down" if config.interleaved is None else config.interleaved,
        "steps": "not written down" if config.steps is None else config.steps,
        "weights": weights_sha256(policy),
    }


def _test_views(folder: Path, seed: int, config: PolicyConfig) -> Path | None:
    """Pictures of houses that nothing was trained on; None for grids."""
    if not isinstance(config.task, HouseTalk):
        return None
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}")
        take_views(partial, seed, config.task.view)
        os.replace(partial, folder)
    return folder


def _learn(
    policy: Path,
    out: Path,
    steps: int,
    rewards: Mapping[str, int],
    seed: int,
    data: Path | None,
    bf16: bool,
    without: Sequence[Baseline],
) -> dict[str, Path]:
    """All that learns, from the same talks in as many steps: where each is, and the policy.

    Args:
        rewards: steps of each stage of GRPO.
    """
    settings = partial(memory_run, steps=steps, bf16=bf16, seed=seed)
    found = {"policy": policy, "warm": out / "memory", "former": out / "former", "soft": out / "soft-prompt"}
    found |= {who: out / who for who in TUNED}

    def missing(who: str) -> bool:
        return who not in without and not (found[who] / "config.json").exists()

    for who, config in (("warm", MEMORY), ("former", replace(MEMORY, relook=False))):
        if missing(who):
            warm_start(policy, config, settings(found[who]), views=data)
    if missing("soft"):
        soft_prompt(policy, MEMORY, settings(found["soft"]), data)
    for who, rate in TUNED.items():
        if missing(who):
            rank = matched_rank(policy) if who == "lora" else 0
            tune(policy, settings(found[who], learning_rate=rate), (), rank, data)
    memory = found["warm"]
    for stage, _, _ in STAGES:
        found[stage] = memory = reward(policy, memory, out / f"stage-{stage}", stage, rewards[stage], seed, data)
    return found


def matched_rank(policy: Path) -> int:
    """Of a LoRA of the policy that has about as many weights as a memory."""
    vlm, _ = load_policy(policy)
    wanted = _learning(VisMem(vlm, [MARK[";"]], MEMORY))
    add_lora(vlm, 1)
    return max(1, round(wanted / _learning(vlm)))


def _learning(module: nn.Module) -> int:
    """Weights that are trained."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def reward(
    policy: Path,
    memory: Path,
    out: Path,
    stage: Literal["memory", "invocation"],
    steps: int,
    seed: int,
    data: Path | None = None,
) -> Path:
    """A stage of GRPO from ``memory`` on, unless that was done; returns ``out``."""
    if not (out / "config.json").exists():
        learning_rate, cost = next(settings for name, *settings in STAGES if name == stage)
        task = task_of(policy, data, "exact", seed)
        config = GRPO(stage, answer=ANSWER, cost=cost)
        settings = run_of(stage, out, steps, learning_rate=learning_rate, seed=seed)
        train(load_memory(task.vlm, memory), task.rows, task.reward, task.decode, config, settings)
    return out


@torch.no_grad()
def _load(folders: Mapping[str, Path], who: Who, views: Path | None) -> tuple[VisMem, PolicyConfig]:
    """Somebody who is asked; what tuned the policy itself has a memory that is never called."""
    vlm, config = load_policy(folders[who if who in TUNED else "policy"], views)
    if who in TUNED:
        return VisMem(vlm, [MARK[";"]], MEMORY), config
    memory = load_memory(vlm, folders["warm" if who == "look" else who])
    if who == "look":
        assert memory.relook is not None
        memory.relook.share.zero_()
    return memory, config


def _asked(folders: Mapping[str, Path], arm: str, views: Path | None, seed: int, talks: int) -> dict[str, Any]:
    """The rows of an arm, what "wrong" ones are to be compared with among them, and what is right place by place."""
    who, mode = ARMS[arm]
    memory, config = _load(folders, who, views)
    groups = groups_of(config.task.types)
    played = play_all(memory, config, mode, 1000 + seed, talks * (LONE_TALKS if LONE in mode.split("+") else 1))
    late = [one for one in played if one.late]
    parts = {"early": [one for one in played if not one.late], "late": late, "overall": played}
    rows = {f"{arm}, {part}": _by_group(those, groups, lambda one: one.right) for part, those in parts.items()}
    seen = [one for one in played if groups["seen"](one)]
    places = {index: [one.right for one in seen if one.index == index] for index in sorted({o.index for o in seen})}
    by_index = {str(index): Figure.of(score(sum(right), len(right))) for index, right in places.items()}
    more = len(config.image) if mode == RELOOK else max(0, samples_of(mode) - 1) * (SENTENCE - ASKED)
    put_in = [more + (len(memory.written(one.call)) if one.call else 0) for one in played]
    milliseconds = 1000 * seconds_of_an_answer(memory, config, mode, 1000 + seed, min(8, talks))
    further = {"tokens": Figure(sum(put_in) / len(put_in), 0.0), "ms": Figure(milliseconds, 0.0)}
    if by_index:
        further["area"] = _mean(list(by_index.values()))
    rows[f"{arm}, overall"] |= {column: asdict(figure) for column, figure in further.items()}
    if arm == "off":  # early ones can be in reach, but need not be seen any more
        rows["off, first five"] = _by_group([one for one in played if one.index < 5], groups, lambda one: one.right)
    if arm == "lone wrong image":  # a house need not have what is asked about another
        asked = [one for one in late if one.other]
        rows[f"{arm}, late, by that image"] = _by_group(asked, groups, lambda one: one.said == one.other)
    if arm == "lone wrong question":
        rows["same question, late"] = _by_group(late, groups, lambda one: one.shared)
    if who == "invocation":
        rows[f"{arm}, calls"] = _by_group(played, groups, lambda one: one.call is not None)
    return {"rows": rows, "by_index": {index: figure.value for index, figure in by_index.items()}}


def _by_group(
    played: Sequence[Played], groups: Mapping[str, Callable[[Played], bool]], holds: Callable[[Played], bool]
) -> dict[str, dict]:
    found = {}
    for group, belongs in groups.items():
        if those := [one for one in played if belongs(one)]:
            found[group] = asdict(share_of(those, holds))
    return found


def share_of(played: Sequence[Played], holds: Callable[[Played], bool] = lambda one: one.right) -> Figure:
    """Of some questions, at least one."""
    talks: dict[int, list[bool]] = {}
    for one in played:
        talks.setdefault(one.talk, []).append(holds(one))
    return Figure.by_talk([(sum(those), len(those)) for _, those in sorted(talks.items())])


def _mean(figures: Sequence[Figure]) -> Figure:
    """Of independent ones."""
    error = math.sqrt(sum(figure.error**2 for figure in figures)) / len(figures)
    return Figure(sum(figure.value for figure in figures) / len(figures), error)


def _derive(rows: Rows, seeds: int) -> dict[str, dict[str, str]]:
    """Rows that follow from others: pass lines, what is predicted, the best of several arms. Returns which arm that is
    in each column."""
    for name, value in (("60 of a hundred", 60.0), ("10 of a hundred", 10.0)):
        rows[name] = {column: [Figure(value, 0.0)] * seeds for column in rows["off, late"]}
    calls = rows["always, calls"]
    rows["60 % of always, calls"] = {column: [Figure(0.6 * f.value, 0.0) for f in of] for column, of in calls.items()}
    pairs = zip(rows["relook, overall"]["tokens"], rows["short, overall"]["tokens"], strict=True)
    rows["relook / short"] = {"tokens": [Figure(relook.value / short.value, 0.0) for relook, short in pairs]}
    rows["9 times"] = {"tokens": [Figure(9.0, 0.0)] * seeds}
    predicted = rows["predicted, late"] = {}
    for column, same in rows["same question, late"].items():  # where both ask the same it is right, else a guess
        guesses = rows["lone constant, late"][column]
        predicted[column] = [
            Figure(s.value + (100 - s.value) * guess.value / 100, guess.error)
            for s, guess in zip(same, guesses, strict=True)
        ]
    chosen: dict[str, dict[str, str]] = {}
    for name, arms in BEST.items():
        for part in PARTS:
            row, best = rows.setdefault(f"{name}, {part}", {}), chosen.setdefault(f"{name}, {part}", {})
            for column in rows[f"{arms[0]}, {part}"]:
                if column not in ("tokens", "ms"):
                    of = {arm: rows[f"{arm}, {part}"][column] for arm in arms}
                    best[column] = max(of, key=lambda arm: sum(figure.value for figure in of[arm]))
                    row[column] = of[best[column]]
    return chosen


def _parameters(policy: Path) -> dict[str, int]:
    """Weights that were trained for each arm."""
    vlm, _ = load_policy(policy)
    found: dict[str, int] = {"full": sum(parameter.numel() for parameter in vlm.parameters())}
    memory, former = (VisMem(vlm, [MARK[";"]], config) for config in (MEMORY, replace(MEMORY, relook=False)))
    found |= {"memory": _learning(memory), "former": _learning(former)}
    found["soft"] = sum(parameter.numel() for parameter in soft_prompt_of(memory))
    add_lora(vlm, matched_rank(policy))
    found["lora"] = _learning(vlm)
    nothing = ("off", "pooled", "relook", "best of three")
    return {arm: 0 if arm in nothing else found.get(who, found["memory"]) for arm, (who, _) in ARMS.items()}
