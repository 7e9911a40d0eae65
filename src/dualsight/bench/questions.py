"""A VLM with memory on questions that have answers, in any mode: how many are right, what was called, what it took.

The questions are a user's own (``train.prompts``), as is the rule that judges an answer (``data.rewards``). Answers
are greedy, in batches; each is what the row would say alone.

Modes that take memory from the next row of the batch need another image, or another question, there. Files often have
several questions about an image one behind the other: so the rows of a batch are from all over the file, and in these
modes they are ordered within it. What is alike all the same is counted (``shared``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.progress import track

from dualsight.bench.scores import Score, score, write_result
from dualsight.data.rewards import Decode, Reward, Row
from dualsight.memory.vlms import TEXT_INPUTS, together
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
        out: a folder for ``results.json``.
        config: what was judged, plain JSON.

    Returns:
        ``overall``, with its interval; ``calls`` of a question, by kind; ``tokens`` and ``seconds`` of an answer;
        ``shared``, how many rows had the very image, or question, that they took from the next.

    Raises:
        ValueError: there are no rows, or but one of which to take from the next, or there is no such mode.
    """
    if not len(rows):
        raise ValueError("there is nothing to ask")
    right, shared, said, began = 0, 0, [], time.perf_counter()
    parts = min(-(-len(rows) // batch), max(1, len(rows) // 2))
    for part, alike in track(_batches(rows, parts, mode), f"asking with memory {mode}", parts, transient=True):
        shared += alike
        found = answers(memory, part, decode, mode, tokens, seed)
        right += sum(reward(row["prompt"], one.text, row) > 0.5 for row, one in zip(part, found, strict=True))
        said += found
    count = len(said)
    result = {
        "memory": mode,
        "overall": score(right, count),
        "categories": dict[str, Score](),
        "calls": {kind: sum(one.calls[n] for one in said) / count for n, kind in enumerate(KINDS)},
        "shared": shared,
        "tokens": sum(one.tokens for one in said) / count,
        "seconds": (time.perf_counter() - began) / count,
        "config": config or {},
    }
    if out is not None:
        write_result(out / "results.json", result)
    return result


def _batches(rows: Examples, parts: int, mode: str) -> Iterator[tuple[list[Row], int]]:
    """Of one size, as far as it goes, as a lone row has no next; and how many share what they take from the next."""
    content = Mode.parse(mode).content
    for first in range(parts):
        part = [rows[number] for number in range(first, len(rows), parts)]
        if content not in ("wrong-image", "wrong-question"):
            yield part, 0
            continue
        taken = [_taken(row, content) for row in part]
        order = apart(taken)
        yield [part[place] for place in order], sum(taken[order[n - 1]] == taken[order[n]] for n in range(len(part)))


def _taken(row: Row, content: str) -> Hashable:
    """What the row before this one takes from it."""
    if content == "wrong-question":
        return row["prompt"]
    vision = sorted((name, value) for name, value in row["inputs"].items() if name not in TEXT_INPUTS)
    return tuple((name, tuple(value.shape), value.float().cpu().numpy().tobytes()) for name, value in vision)


def apart(keys: Sequence[Hashable]) -> list[int]:
    """An order in which neighbours differ, the last one and the first too, unless more than half of ``keys`` are one:
    alike behind each other, the most frequent first, dealt to every other place, then to the places between."""
    counts = Counter(keys)
    ranks = {key: rank for rank, (key, _) in enumerate(counts.most_common())}
    sorted_ = sorted(range(len(keys)), key=lambda place: ranks[keys[place]])
    order = [0] * len(keys)
    for number, place in zip(sorted_, [*range(0, len(keys), 2), *range(1, len(keys), 2)], strict=True):
        order[place] = number
    return order
