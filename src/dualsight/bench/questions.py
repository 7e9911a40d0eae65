"""A VLM with memory on questions that have answers, in any mode: how many are right, what was called, what it took.

The questions are a user's own (``train.prompts``), as is the rule that judges an answer (``data.rewards``). Answers
are greedy, in batches; each is what the row would say alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from dualsight.bench.scores import Score, score, write_result
from dualsight.data.rewards import Decode, Reward, Row
from dualsight.memory.vlms import together
from dualsight.models.vismem import KINDS, Mode, VisMem
from dualsight.types import Examples


class Answered(NamedTuple):
    """One row."""

    text: str
    tokens: int
    """Generated, with those of memories."""
    calls: tuple[int, ...]
    """Memories of each of `KINDS`."""


def answers(
    memory: VisMem, rows: Sequence[Row], decode: Decode, mode: str = "learned", tokens: int = 64, seed: int = 0
) -> list[Answered]:
    """What is said to a batch of prompts.

    Args:
        tokens: of an answer, at most; what memories take comes on top.
        seed: of forced and of noisy memory.
    """
    rules, vlm = Mode.parse(mode), memory.vlm
    longest = 0 if rules.decision == "off" else max(len(memory.written(kind)) for kind in rules.kinds)
    room = tokens + longest * min(memory.config.max_invocations, tokens)
    inputs = together([row["inputs"] for row in rows], vlm.generation_config.pad_token_id or 0)
    inputs = {name: value.to(vlm.device) for name, value in inputs.items()}
    sequences = memory.generate(mode, seed, **inputs, max_new_tokens=room, do_sample=False)
    said = sequences[:, inputs["input_ids"].shape[1] :]
    calls = [[int((row == memory.tokens.begin_of(kind)).sum()) for kind in KINDS] for row in said]
    return [
        Answered(
            decode(text[:tokens]),
            len(text) + sum(n * len(memory.written(kind)) for n, kind in zip(of, KINDS, strict=True)),
            tuple(of),
        )
        for text, of in zip(memory.spoken(said), calls, strict=True)
    ]


def evaluate(
    memory: VisMem,
    rows: Examples,
    reward: Reward,
    decode: Decode,
    mode: str = "learned",
    tokens: int = 64,
    batch: int = 8,
    seed: int = 0,
    out: Path | None = None,
    config: dict | None = None,
) -> dict:
    """Ask all rows in one mode.

    Args:
        reward: an answer is right where it gives more than a half.
        out: a file for the result.
        config: what was judged, plain JSON.

    Returns:
        ``overall``, with its interval; ``calls`` of a question, by kind; ``tokens`` and ``seconds`` of an answer.

    Raises:
        ValueError: there are no rows, or there is no such mode.
    """
    if not len(rows):
        raise ValueError("there is nothing to ask")
    right, said, began = 0, [], time.perf_counter()
    parts = min(-(-len(rows) // batch), max(1, len(rows) // 2))
    for part in track(_batches(rows, parts), f"asking with memory {mode}", parts, transient=True):
        found = answers(memory, part, decode, mode, tokens, seed)
        right += sum(reward(row["prompt"], one.text, row) > 0.5 for row, one in zip(part, found, strict=True))
        said += found
    count = len(said)
    result = {
        "memory": mode,
        "overall": score(right, count),
        "categories": dict[str, Score](),
        "calls": {kind: sum(one.calls[n] for one in said) / count for n, kind in enumerate(KINDS)},
        "tokens": sum(one.tokens for one in said) / count,
        "seconds": (time.perf_counter() - began) / count,
        "config": config or {},
    }
    if out is not None:
        write_result(out, result)
    return result


def _batches(rows: Examples, parts: int) -> Iterator[list[Row]]:
    """Of one size, as far as it goes: modes that take memory from the next row have no use for a lone one."""
    for numbers in np.array_split(np.arange(len(rows)), parts):
        yield [rows[int(number)] for number in numbers]
