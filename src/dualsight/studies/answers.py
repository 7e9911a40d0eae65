"""Does memory help a VLM to answer? Any VLM of transformers, on a user's own questions: one file at TINY and at 7B.

One frozen VLM, a memory for every seed, warm-started on questions with answers, then asked others in every way of
calling it. A memory is worth what it is formed of only if constant latents, noise, and those of another image or for
another question do worse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dualsight.bench import questions
from dualsight.bench.provenance import sha256, weights_sha256
from dualsight.bench.scores import Score
from dualsight.checkpoints.vismem import load_memory
from dualsight.data.files import write_json
from dualsight.models.vismem import VisMem, VisMemConfig
from dualsight.studies.study import Claim, Figure, Study, check_settings, conclude
from dualsight.train import sft
from dualsight.train.distillation import LESSON
from dualsight.train.prompts import chat_task

ARMS = {
    "off": "off",
    "short": "always+short",
    "long": "always+long",
    "constant": "always+short+constant",
    "noise": "always+short+noise",
    "wrong image": "always+short+wrong-image",
    "wrong question": "always+short+wrong-question",
}
CLAIMS = (
    Claim("short memory gives better answers", "short", "off", "overall"),
    Claim("long memory gives better answers", "long", "off", "overall"),
    Claim("not by the mere presence of latents: better than constant ones", "short", "constant", "overall"),
    Claim("it is formed of the image: better than of another one", "short", "wrong image", "overall"),
    Claim("it is formed for the question: better than for another one", "short", "wrong question", "overall"),
)
STUDY = Study("answers", (), CLAIMS)
CONFIG = VisMemConfig()
Train = Callable[[Path, int], VisMem]
"""A folder and a seed -> a memory, trained and written there."""
Ask = Callable[[VisMem, str, int], dict[str, Score]]
"""A memory, a mode and a seed -> scores, ``overall`` among them."""


def run(
    out: Path,
    vlm: Path,
    data: Path,
    test: Path,
    reward: str = "exact",
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 400,
    tokens: int = 64,
    lesson: float = LESSON,
    config: VisMemConfig = CONFIG,
) -> dict:
    """Train the memories that are not there yet, ask every arm, say what held. Everything is kept under ``out``.

    Args:
        vlm: a folder with a VLM of transformers and its processor.
        data, test: lines of JSON with question, answer and image: to learn from, and to ask.
        reward: exact, numeric, choice, or module:function.
        tokens: of an answer.
        lesson: share of the steps that also teach where to look.

    Returns:
        The content of ``results.json``.
    """
    task, (asked,) = chat_task(vlm, data, reward, test)

    def train(folder: Path, seed: int) -> VisMem:
        torch.manual_seed(seed)
        memory = VisMem(task.vlm, task.delimiters, config)
        sft.warm_start(memory, task.rows, task.encode, sft.memory_run(folder, steps, seed=seed), lesson=lesson)
        return memory

    def ask(memory: VisMem, mode: str, seed: int) -> dict[str, Score]:
        result = questions.evaluate(memory, asked, task.reward, task.decode, mode, tokens, seed=seed)
        return {"overall": result["overall"]}

    settings = {
        "vlm": {"path": str(vlm), "weights": weights_sha256(vlm)},
        "data": {"path": str(data), "content": sha256(data)},
        "test": {"path": str(test), "content": sha256(test)},
        "reward": reward,
        "steps": steps,
        "tokens": tokens,
        "lesson": lesson,
        "memory": asdict(config),
    }
    return play(STUDY, out, seeds, task.vlm, train, ask, settings)


def play(
    study: Study, out: Path, seeds: Sequence[int], vlm: Any, train: Train, ask: Ask, settings: dict[str, Any]
) -> dict:
    """Train and ask what was not yet, arm by arm, and judge the claims; returns the content of ``results.json``.

    Raises:
        DifferentRun: ``out`` holds what was made with other settings.
    """
    check_settings(out, {"study": study.name} | settings)
    rows: dict[str, dict[str, list[Figure]]] = {arm: {} for arm in ARMS}
    for seed in seeds:
        folder, memory = out / f"seed{seed}", None
        for arm, mode in ARMS.items():
            path = folder / f"{arm.replace(' ', '-')}.json"
            if not path.exists():
                memory = memory or _memory(folder / "memory", seed, vlm, train)
                found = ask(memory, mode, seed)
                write_json(path, {measure: asdict(Figure.of(of)) for measure, of in found.items()})
            for measure, figure in json.loads(path.read_text(encoding="utf-8")).items():
                rows[arm].setdefault(measure, []).append(Figure.read(figure))
    return conclude(study, out, rows, {"seeds": list(seeds), **settings})


def _memory(folder: Path, seed: int, vlm: Any, train: Train) -> VisMem:
    return load_memory(vlm, folder) if (folder / "config.json").exists() else train(folder, seed)
