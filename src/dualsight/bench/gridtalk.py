"""Talks about grids, played with memory in any mode: ``dualsight eval --suite gridtalk --memory MODE``.

The questions are given, the answers are the model's: at every delimiter it may call memory (or is made to), then it
says one word, which is right or wrong. Its later questions follow upon the right answers, so that one mistake costs
one answer. *Late* are the questions whose answers the image is out of reach of, by construction: no path through the
windows of the layers leads from the image there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dualsight.checkpoints.vismem import load_memory
from dualsight.data.files import write_json
from dualsight.data.gridtalk import ASKED, INDEX, Talk, fillers, sample_talk
from dualsight.inference.grid_vlm import PolicyConfig, called, lay_out, load_policy, prepared
from dualsight.models.vismem import KINDS, Kind, Mode, VisMem

BATCH = 64
"""Talks that are read at once."""


@dataclass(frozen=True)
class Played:
    """One question of one talk."""

    talk: int
    index: int
    """From 0."""
    type: str
    late: bool
    right: bool
    said: str
    call: Kind | None = None


def play(
    memory: VisMem, config: PolicyConfig, talks: Sequence[Talk], mode: Mode, seed: int, first: int = 0
) -> list[Played]:
    """All questions of some talks of one length.

    Args:
        first: the number of the first talk.
    """
    rng = np.random.default_rng((seed, first))
    gaps = fillers(config.task, len(talks[0].sentences), rng)
    words = int(rng.integers(2**31))
    calls: list[dict[int, Kind]] = [{} for _ in talks]
    for index in range(len(gaps)):
        if mode.decision == "forced":
            for row in calls:
                if rng.random() < mode.share:
                    row[index] = mode.kinds[int(rng.integers(len(mode.kinds)))]
        elif mode.decision == "learned":
            for row, kind in zip(calls, _decide(memory, config, talks, gaps, calls, index, mode, words), strict=True):
                if kind is not None:
                    row[index] = kind
    rows = [_row(memory, config, talk, gaps, row, words) for talk, row in zip(talks, calls, strict=True)]
    answers = torch.tensor([answers for _, answers in rows])
    logits = _read(memory, config, talks, [ids for ids, _ in rows], mode, seed)
    said = logits.gather(1, (answers - 1)[..., None].expand(-1, -1, logits.shape[-1]))[..., : len(INDEX)].argmax(-1)
    plain = lay_out(talks[0], config.task, gaps, {}, np.random.default_rng(words))[1]
    names = list(INDEX)
    return [
        Played(
            first + number, index, sentence.type, plain[index] - 1 - config.task.cells > config.reach,
            names[said[number, index]] == sentence.words[6], names[said[number, index]], calls[number].get(index),
        )
        for number, talk in enumerate(talks)
        for index, sentence in enumerate(talk.sentences)
    ]  # fmt: skip


def _row(
    memory: VisMem, config: PolicyConfig, talk: Talk, gaps: Sequence[int], calls: dict[int, Kind], words: int
) -> tuple[list[int], list[int]]:
    inserted = {index: called(memory, kind) for index, kind in calls.items()}
    return lay_out(talk, config.task, gaps, inserted, np.random.default_rng(words))


@torch.no_grad()
def _read(
    memory: VisMem, config: PolicyConfig, talks: Sequence[Talk], rows: Sequence[list[int]], mode: Mode, seed: int
) -> torch.Tensor:
    """Logits of rows of different lengths, padded behind."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, INDEX["<pad>"])
    lengths = torch.tensor([len(row) for row in rows])
    there = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    pixels = torch.stack([prepared(talk.image) for talk in talks])
    if mode.decision == "off":
        return memory.vlm(input_ids=ids, attention_mask=there, pixel_values=pixels).logits
    return memory.score(ids, there, config.task.cells + 2, mode, seed, pixel_values=pixels)


def _decide(
    memory: VisMem,
    config: PolicyConfig,
    talks: Sequence[Talk],
    gaps: Sequence[int],
    calls: Sequence[dict[int, Kind]],
    index: int,
    mode: Mode,
    words: int,
) -> list[Kind | None]:
    """What the model itself says behind the delimiter of question ``index``: greedily, as ``generate`` would."""
    rows, ends = [], []
    for talk, row in zip(talks, calls, strict=True):
        ids, answers = _row(memory, config, talk, gaps, row, words)
        ends.append(answers[index] - 2)  # behind the delimiter
        rows.append(ids[: ends[-1]])
    assert all(row[-1] == INDEX[";"] for row in rows), ASKED
    logits = _read(memory, config, talks, rows, mode, 0)
    last = logits[torch.arange(len(rows)), torch.tensor(ends) - 1]
    open_ = [kind for kind in KINDS if kind in mode.kinds]
    begins = torch.stack([last[:, memory.tokens.begin[KINDS.index(kind)]] for kind in open_], -1)
    others = last[:, : memory.tokens.first].max(-1).values
    best, which = begins.max(-1)
    full = [len(row) >= memory.config.max_invocations for row in calls]
    return [
        open_[kind] if said and not spent else None
        for kind, said, spent in zip(which.tolist(), (best > others).tolist(), full, strict=True)
    ]


@dataclass(frozen=True)
class Result:
    """Shares of right answers, in percent."""

    memory: str
    seed: int
    talks: int
    overall: float
    early: float
    late: float
    by_index: dict[int, float]
    by_type: dict[str, float]
    late_by_type: dict[str, float]
    calls: dict[str, float]
    """Of a question, by its type."""


def summary(played: Sequence[Played], memory: str, seed: int) -> Result:
    """Figures of a run; NaN where nothing of the kind was asked."""
    late = [one for one in played if one.late]
    types = sorted({one.type for one in played})
    return Result(
        memory=memory,
        seed=seed,
        talks=len({one.talk for one in played}),
        overall=_right(played),
        early=_right([one for one in played if not one.late]),
        late=_right(late),
        by_index={index: _right([one for one in played if one.index == index]) for index in _indices(played)},
        by_type={kind: _right([one for one in played if one.type == kind]) for kind in types},
        late_by_type={kind: _right([one for one in late if one.type == kind]) for kind in types},
        calls={kind: float(np.mean([one.call is not None for one in played if one.type == kind])) for kind in types},
    )


def _right(played: Sequence[Played]) -> float:
    return 100 * float(np.mean([one.right for one in played])) if played else float("nan")


def _indices(played: Sequence[Played]) -> list[int]:
    return sorted({one.index for one in played})


def evaluate(
    memory: VisMem, config: PolicyConfig, mode: str, seed: int, talks: int = 512, sentences: int = 0,
    out: Path | None = None,
) -> Result:  # fmt: skip
    """A fresh test set, drawn from ``seed``, in one mode.

    Args:
        sentences: of a talk; by default two more than the image is in reach of, twice over.
        out: a file for the figures.
    """
    rules = Mode.parse(mode)
    sentences = sentences or sentences_of(config)
    rng = np.random.default_rng((seed, 77))
    made = [sample_talk(config.task, sentences, rng) for _ in range(talks)]
    played = [
        one
        for first in track(range(0, talks, BATCH), "playing", transient=True)
        for one in play(memory, config, made[first : first + BATCH], rules, seed, first)
    ]
    result = summary(played, mode, seed)
    if out:
        write_json(out, asdict(result) | {"sentences": sentences})
    return result


def evaluate_folder(folder: Path, mode: str, seed: int, talks: int = 512, out: Path | None = None) -> Result:
    """The memory in ``folder/memory`` around the policy in ``folder/policy``; prints a table."""
    vlm, config = load_policy(folder / "policy")
    result = evaluate(load_memory(vlm, folder / "memory"), config, mode, seed, talks, out=out)
    Console().print(table(result))
    return result


def sentences_of(config: PolicyConfig) -> int:
    """Questions of a talk: about two thirds of them are late; no cell is asked about twice."""
    return min(config.task.cells, 3 * max(3, config.reach // 10))


def table(result: Result) -> Table:
    """By type, all and late."""
    found = Table(title=f"GridTalk, memory {result.memory}, {result.talks} talks, seed {result.seed}")
    for name in ("type", "right", "late", "calls per question"):
        found.add_column(name, justify="left" if name == "type" else "right")
    for kind in result.by_type:
        found.add_row(
            kind, f"{result.by_type[kind]:.1f}", f"{result.late_by_type[kind]:.1f}", f"{result.calls[kind]:.2f}"
        )
    found.add_row("all", f"{result.overall:.1f}", f"{result.late:.1f}", "", end_section=True)
    return found


def last_line(result: Result) -> str:
    """For machines."""
    return f"overall={result.overall:.1f} early={result.early:.1f} late={result.late:.1f}"
