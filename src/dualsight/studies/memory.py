"""Claims of VisMem on GridTalk: is latent memory used, what for, and what does it replace?

One frozen policy, a memory for every seed, fresh test sets, every way of calling it. A row of the table is a way of
calling and the part of a talk that counts: *early* (the image can be in reach) or *late* (it cannot). ``seen`` are all
questions about the image. After its warm start a memory is trained by rewards: stage I what is formed (``rewarded``),
then stage II when it is called (``learned``).

The pass lines are those of the claims' list, as margins: ``-20`` says "better by at least 20 points".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from dualsight.bench.scores import score
from dualsight.bench.talks import Played, play_all
from dualsight.checkpoints.vismem import load_memory
from dualsight.data.files import write_json
from dualsight.data.gridtalk import TYPES
from dualsight.inference.talk_vlm import FULL, MEMORY, SMALL, load_policy
from dualsight.studies.study import Claim, Figure, Study, conclude
from dualsight.train.grpo import GRPO, run_of, train
from dualsight.train.prompts import task_of
from dualsight.train.talks import memory_run, policy_run, pretrain_policy, warm_start

ARMS = {
    "off": "off",
    "short": "always+short",
    "long": "always+long",
    "either": "always",
    "half": "random:0.5",
    "constant": "always+short+constant",
    "noise": "always+short+noise",
    "wrong image": "always+short+wrong-image",
    "wrong question": "always+short+wrong-question",
    "lone": "always+short+lone",
    "lone constant": "always+short+constant+lone",
    "lone wrong image": "always+short+wrong-image+lone",
    "lone wrong question": "always+short+wrong-question+lone",
    "pooled": "always+short+pooled",
    "relook": "relook",
}
"""Ways of calling memory after the warm start, as `evaluate` takes them. ``pooled`` puts averages of the visual tokens
in the place of latents, ``relook`` shows the whole image again. What latents are made of is told by ``lone`` ones:
where every question has a memory, an answer can be read off those of the questions before, too."""
STAGES: tuple[tuple[Literal["memory", "invocation"], float, float], ...] = (
    ("memory", 3e-4, 0.0),
    ("invocation", 3e-3, 0.05),
)
"""Of GRPO, each with its learning rate and what a call costs."""
ANSWER = 16
"""Tokens of a roll-out: a long memory and the three of an answer."""
WARM = {arm: ("warm", mode) for arm, mode in ARMS.items()}
REWARDED = {"rewarded": ("memory", "always+short"), "learned": ("invocation", "learned")}
"""Ways of calling it after a stage of GRPO."""
CALLS = "learned, calls"
"""A row: of a hundred questions, how many call memory. ``most, calls`` and ``few, calls`` are what is allowed."""
ALLOWED = {"most, calls": 60.0, "few, calls": 10.0}
STUDY = Study(
    "memory",
    (),
    (
        Claim("C1 the image is lost: late questions are 30 points worse", "off, early", "off, late", "seen", -30),
        Claim("C1 questions that need no image are not (10)", "off, late", "off, early", "text", 10),
        Claim("C2 short memory restores 20 points", "short, late", "off, late", "seen", -20),
        Claim("C3a it is not the mere presence of latents: 20 points over constant ones", "lone, late",
              "lone constant, late", "seen", -20),
        Claim("C3b memory of another image falls to constant latents + 5", "lone constant, late",
              "lone wrong image, late", "seen", 5),
        Claim("C3c memory for another question falls to what both ask + constant latents + 5", "predicted, late",
              "lone wrong question, late", "seen", 5),
        Claim("C4 at least as good as as many averages of visual tokens", "short, late", "pooled, late", "seen"),
        Claim("C4 within 5 points of showing the image again", "short, late", "relook, late", "seen", 5),
        Claim("C5 short memory is the better one for details", "short, late", "long, late", "fine"),
        Claim("C5 long memory is the better one for knowledge", "long, late", "short, late", "kind"),
        Claim("C5 long memory is the better one for counting", "long, late", "short, late", "count"),
        Claim("C6 called by the model: at most 1 point worse than always", "learned, late", "either, late", "seen", 1),
        Claim("C6 with at most 60 % of the calls", "most, calls", CALLS, "seen"),
        Claim("C6 questions that need no image call in less than 10 %", "few, calls", CALLS, "text"),
        Claim("C8 rewards add to the warm start", "rewarded, late", "short, late", "seen"),
        Claim("calling it always does not hurt early answers (5)", "short, early", "off, early", "seen", 5),
    ),
)  # fmt: skip
GROUPS: dict[str, Callable[[Played], bool]] = {
    "seen": lambda one: one.type != "text",
    **{kind: (lambda one, kind=kind: one.type == kind) for kind in TYPES},
}


def run(
    out: Path,
    seeds: Sequence[int] = (0, 1, 2),
    size: Literal["small", "full"] = "full",
    policy: Path | None = None,
    interleaved: float = 0.1,
    policy_steps: int = 1200,
    steps: int = 800,
    reward_steps: int = 60,
    talks: int = 256,
) -> dict:
    """Train what there is not yet, play every arm, say what held. Everything is kept under ``out``.

    Args:
        policy: this one in place of one that is trained.
        interleaved: of the policy's pre-training (see `pretrain_policy`); 0 never shows it an image amid a text.
        reward_steps: of each stage of GRPO.
        talks: of each arm and seed.

    Returns:
        The content of ``results.json``.
    """
    if policy is None:
        policy = out / "policy"
        if not (policy / "config.json").exists():
            config = {"small": SMALL, "full": FULL}[size]
            pretrain_policy(config, policy_run(policy, policy_steps, seed=0), interleaved)
    rows: dict[str, dict[str, list[Figure]]] = {}
    for seed in seeds:
        memory = out / f"seed{seed}" / "memory"
        if not (memory / "config.json").exists():
            warm_start(policy, MEMORY, memory_run(memory, steps, seed=seed))
        folders = {"warm": memory} | _reward(policy, memory, reward_steps, seed)
        for arm, (stage, mode) in (WARM | REWARDED).items():
            path = out / f"seed{seed}" / f"{arm.replace(' ', '-')}.json"
            if not path.exists():
                write_json(path, _figures(policy, folders[stage], arm, mode, 1000 + seed, talks))
            for row, groups in json.loads(path.read_text(encoding="utf-8")).items():
                for group, figure in groups.items():
                    rows.setdefault(row, {name: [] for name in GROUPS})[group].append(Figure(**figure))
    for row, most in ALLOWED.items():
        rows[row] = {group: [Figure(most, 0.0) for _ in seeds] if of else [] for group, of in rows[CALLS].items()}
    predicted = rows["predicted, late"] = {name: [] for name in GROUPS}
    for group in GROUPS:  # where both talks ask the same the answer is right, elsewhere it is a guess
        for same, guess in zip(rows["same question, late"][group], rows["lone constant, late"][group], strict=True):
            value = same.value + (100 - same.value) * guess.value / 100
            predicted[group].append(Figure(value, guess.error))
    settings = {"steps": steps, "reward_steps": reward_steps, "talks": talks}
    return conclude(STUDY, out, rows, {"policy": str(policy), "seeds": list(seeds), **settings})


def _reward(policy: Path, memory: Path, steps: int, seed: int) -> dict[str, Path]:
    """Both stages of GRPO: where each left its memory."""
    found = {}
    for stage, _, _ in STAGES:
        found[stage] = memory = reward(policy, memory, memory.with_name(f"stage-{stage}"), stage, steps, seed)
    return found


def reward(
    policy: Path, memory: Path, out: Path, stage: Literal["memory", "invocation"], steps: int, seed: int
) -> Path:
    """A stage of GRPO from ``memory`` on, unless that was done; returns ``out``."""
    if not (out / "config.json").exists():
        learning_rate, cost = next(settings for name, *settings in STAGES if name == stage)
        task = task_of(policy, None, "exact", seed)
        config = GRPO(stage, answer=ANSWER, cost=cost)
        settings = run_of(stage, out, steps, learning_rate=learning_rate, seed=seed)
        train(load_memory(task.vlm, memory), task.rows, task.reward, task.decode, config, settings)
    return out


def _figures(policy: Path, memory: Path, arm: str, mode: str, seed: int, talks: int) -> dict[str, dict[str, dict]]:
    """Rows of an arm: what is right early and late, and what "wrong" arms are to be compared with."""
    vlm, config = load_policy(policy)
    played = play_all(load_memory(vlm, memory), config, mode, seed, talks)
    late = [one for one in played if one.late]
    rows = {
        f"{arm}, early": _by_group([one for one in played if not one.late], lambda one: one.right),
        f"{arm}, late": _by_group(late, lambda one: one.right),
    }
    if arm == "lone wrong image":
        rows["lone wrong image, late, by that image"] = _by_group(late, lambda one: one.said == one.other)
    if arm == "learned":
        rows[CALLS] = _by_group(played, lambda one: one.call is not None)
    if arm == "lone wrong question":
        rows["same question, late"] = _by_group(late, lambda one: one.shared)
    return rows


def _by_group(played: Sequence[Played], holds: Callable[[Played], bool]) -> dict[str, dict]:
    found = {}
    for group, belongs in GROUPS.items():
        those = [holds(one) for one in played if belongs(one)]
        if those:
            found[group] = asdict(Figure.of(score(sum(those), len(those))))
    return found
