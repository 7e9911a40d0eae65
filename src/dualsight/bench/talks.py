"""Talks about grids or houses, played with memory in any mode: ``dualsight eval --suite gridtalk --memory MODE``.

The questions are given, the answers are the model's: at every delimiter it may call memory (or is made to), then it
says one word, which is right or wrong. Its later questions follow upon the right answers, so that one mistake costs
one answer. *Late* are the questions whose answers the image is out of reach of, by construction: no path through the
windows of the layers leads from the image there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dualsight.bench.provenance import weights_sha256
from dualsight.bench.scores import write_result
from dualsight.checkpoints.vismem import load_memory
from dualsight.data.gridtalk import GridTalk
from dualsight.data.housetalk import HouseTalk, write_views
from dualsight.data.talks import ANSWER, ASKED, MARK, Talk, gaps
from dualsight.envs.sim.house import load, load_navmesh
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.splits import SPLITS
from dualsight.envs.sim.surroundings import surroundings
from dualsight.inference.talk_vlm import PolicyConfig, lay_out, load_policy, prepared, with_views
from dualsight.models.vismem import KINDS, Kind, Mode, VisMem

BATCH = 64
"""Talks that are read at once, at most."""
RELOOK = "relook"
"""A mode of this task: the image again behind every delimiter, in place of memory."""
SUITES = {"gridtalk": GridTalk, "housetalk": HouseTalk}
LONE = "lone"
"""A word of modes of this task: memory at the last question only, which alone counts. Behind others an answer can be
read off their latents, too."""


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
    other: str = ""
    """What would be right of the picture of the next talk in the batch, from which "wrong-image" takes memory."""
    shared: bool = False
    """Does that talk ask the same, from which "wrong-question" takes it?"""


def play(
    memory: VisMem,
    config: PolicyConfig,
    talks: Sequence[Talk],
    mode: Mode | None,
    seed: int,
    first: int = 0,
    asked: range | None = None,
    calls: Sequence[Mapping[int, Kind]] | None = None,
) -> list[Played]:
    """Questions of some talks of one length.

    Args:
        mode: None shows the image again behind every delimiter, without memory.
        first: the number of the first talk.
        asked: the questions that count and at which memory may be called; all by default.
        calls: which memory each talk calls at which questions; None leaves it to the mode.
    """
    asked = asked or range(len(talks[0].sentences))
    rng = np.random.default_rng((seed, first))
    between = gaps(config.task, len(talks[0].sentences), rng)
    words = int(rng.integers(2**31))
    if calls is None:
        calls = _called(memory, config, talks, between, asked, mode or Mode("off"), words, rng)
    rows = [
        _row(memory, config, talk, between, row if mode else None, words)
        for talk, row in zip(talks, calls, strict=True)
    ]
    answers = torch.tensor([answers for _, answers in rows])
    logits = _read(memory, config, talks, [ids for ids, _ in rows], mode, seed)
    names = config.task.vocabulary
    said = logits[torch.arange(len(talks))[:, None], answers - 1, : len(names)].argmax(-1)
    plain = lay_out(talks[0], config, between, {}, np.random.default_rng(words))[1]
    played = []
    for number, talk in enumerate(talks):
        beside = talks[(number + 1) % len(talks)]
        for index in asked:
            sentence = talk.sentences[index]
            word, late = names[said[number, index]], plain[index] - 1 - config.visual_tokens > config.reach
            played.append(
                Played(
                    first + number, index, sentence.type, late, word == sentence.words[ANSWER], word,
                    calls[number].get(index), config.task.answer_about(beside, sentence),
                    beside.sentences[index].words[:ASKED] == sentence.words[:ASKED],
                )
            )  # fmt: skip
    return played


def _called(
    memory: VisMem,
    config: PolicyConfig,
    talks: Sequence[Talk],
    between: Sequence[int],
    asked: range,
    mode: Mode,
    words: int,
    rng: np.random.Generator,
) -> list[dict[int, Kind]]:
    """Which memory each talk calls at which questions."""
    calls: list[dict[int, Kind]] = [{} for _ in talks]
    for index in asked:
        if mode.decision == "forced":
            for row in calls:
                if rng.random() < mode.share:
                    row[index] = mode.kinds[int(rng.integers(len(mode.kinds)))]
        elif mode.decision == "learned":
            decided = _decide(memory, config, talks, between, calls, index, mode, words)
            for row, kind in zip(calls, decided, strict=True):
                if kind is not None:
                    row[index] = kind
    return calls


def _row(
    memory: VisMem,
    config: PolicyConfig,
    talk: Talk,
    between: Sequence[int],
    calls: Mapping[int, Kind] | None,
    words: int,
) -> tuple[list[int], list[int]]:
    """A talk with its memories, or with its image behind every delimiter."""
    if calls is None:
        inserted = dict.fromkeys(range(len(between)), config.image)
    else:
        inserted = {index: memory.written(kind) for index, kind in calls.items()}
    return lay_out(talk, config, between, inserted, np.random.default_rng(words))


@torch.no_grad()
def _read(
    memory: VisMem, config: PolicyConfig, talks: Sequence[Talk], rows: Sequence[list[int]], mode: Mode | None, seed: int
) -> torch.Tensor:
    """Logits of rows of different lengths, padded behind."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, MARK["<pad>"])
    lengths = torch.tensor([len(row) for row in rows])
    there = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    pixels = torch.stack([prepared(talk.image) for talk in talks])
    if mode is None or mode.decision == "off":
        pixels = pixels.repeat_interleave(rows[0].count(config.image[0]), 0)
        return memory.vlm(input_ids=ids, attention_mask=there, pixel_values=pixels).logits
    return memory.score(ids, there, len(config.image), mode, seed, pixel_values=pixels)


def _decide(
    memory: VisMem,
    config: PolicyConfig,
    talks: Sequence[Talk],
    between: Sequence[int],
    calls: Sequence[dict[int, Kind]],
    index: int,
    mode: Mode,
    words: int,
) -> list[Kind | None]:
    """What the model itself says behind the delimiter of question ``index``: greedily, as ``generate`` would."""
    rows, ends = [], []
    for talk, row in zip(talks, calls, strict=True):
        ids, answers = _row(memory, config, talk, between, row, words)
        ends.append(answers[index] - 2)  # behind the delimiter
        rows.append(ids[: ends[-1]])
    logits = _read(memory, config, talks, rows, mode, 0)
    last = logits[torch.arange(len(rows)), torch.tensor(ends) - 1]
    open_ = [kind for kind in KINDS if kind in mode.kinds]
    begins = torch.stack([last[:, memory.tokens.begin_of(kind)] for kind in open_], -1)
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
    late_other: float
    """Late answers that would be right of the next talk's picture, and ..."""
    late_shared: float
    """... late questions that the next talk asks, too."""


def summary(played: Sequence[Played], memory: str, seed: int) -> Result:
    """Figures of a run; NaN where nothing of the kind was asked."""
    late = [one for one in played if one.late]
    types, indices = sorted({one.type for one in played}), sorted({one.index for one in played})
    return Result(
        memory=memory,
        seed=seed,
        talks=len({one.talk for one in played}),
        overall=_right(played),
        early=_right([one for one in played if not one.late]),
        late=_right(late),
        by_index={index: _right([one for one in played if one.index == index]) for index in indices},
        by_type={kind: _right([one for one in played if one.type == kind]) for kind in types},
        late_by_type={kind: _right([one for one in late if one.type == kind]) for kind in types},
        calls={kind: float(np.mean([one.call is not None for one in played if one.type == kind])) for kind in types},
        late_other=_percent([one.said == one.other for one in late]),
        late_shared=_percent([one.shared for one in late]),
    )


def _right(played: Sequence[Played]) -> float:
    return _percent([one.right for one in played])


def _percent(those: Sequence[bool]) -> float:
    return 100 * float(np.mean(those)) if those else float("nan")


def evaluate(
    memory: VisMem, config: PolicyConfig, mode: str, seed: int, talks: int = 512, sentences: int = 0,
    out: Path | None = None, judged: dict | None = None,
) -> Result:  # fmt: skip
    """A fresh test set, drawn from ``seed``, in one mode.

    Args:
        mode: see `Mode.parse`, or `RELOOK`, or with `LONE` among its words.
        sentences: of a talk; see `sentences_of` for the default.
        out: a file for the figures.
        judged: what was judged, plain JSON.
    """
    sentences = sentences or sentences_of(config)
    result = summary(play_all(memory, config, mode, seed, talks, sentences), mode, seed)
    if out:
        write_result(out, _without_nan(asdict(result)) | {"sentences": sentences, "config": judged or {}})
    return result


def _without_nan(figures: dict[str, Any]) -> dict[str, Any]:
    """None where nothing was asked: JSON has no NaN."""
    return {
        name: _without_nan(figure) if isinstance(figure, dict) else None if figure != figure else figure
        for name, figure in figures.items()
    }


def play_all(
    memory: VisMem, config: PolicyConfig, mode: str, seed: int, talks: int, sentences: int = 0
) -> list[Played]:
    """All questions of the test set that ``seed`` draws. Arguments as for `evaluate`."""
    words = mode.split("+")
    rules = None if mode == RELOOK else Mode.parse("+".join(word for word in words if word != LONE) or "learned")
    rng, sentences = np.random.default_rng((seed, 77)), sentences or sentences_of(config)
    made = [config.task.sample(sentences, rng) for _ in range(talks)]
    asked = range(sentences - 1 if LONE in words else 0, sentences)
    parts = np.array_split(np.arange(talks), -(-talks // BATCH))  # of one size: a lone talk has no next one
    return [
        one
        for part in track(parts, f"playing {mode}", transient=True)
        for one in play(memory, config, made[part[0] : part[-1] + 1], rules, seed, int(part[0]), asked)
    ]


def evaluate_folder(
    folder: Path, mode: str, seed: int, talks: int = 512, out: Path | None = None, suite: str | None = None
) -> Result:
    """The memory in ``folder/memory`` around the policy in ``folder/policy``; prints a table. Talks about houses are
    about houses of the test split, others for every seed.

    Args:
        suite: what it should talk about, of `SUITES`; None takes either.

    Raises:
        ValueError: it talks about something else.
    """
    vlm, config = load_policy(folder / "policy")
    if suite and not isinstance(config.task, SUITES[suite]):
        ours = next(name for name, task in SUITES.items() if isinstance(config.task, task))
        raise ValueError(f"the model in {folder} is one for --suite {ours}, not {suite}")
    memory = load_memory(vlm, folder / "memory")
    with TemporaryDirectory() as views:
        if isinstance(config.task, HouseTalk):
            take_views(Path(views), seed, config.task.view)
            config = replace(config, task=with_views(config.task, Path(views)))
        weights = {part: weights_sha256(folder / part) for part in ("policy", "memory")}
        judged = {"model": str(folder), "weights_sha256": weights}
        result = evaluate(memory, config, mode, seed, talks, out=out, judged=judged)
    Console().print(table(result))
    return result


def take_views(folder: Path, seed: int, side: int, houses: int = 12, per_house: int = 24) -> None:
    """Pictures of some houses of the test split, for `HouseTalk`."""
    rng = np.random.default_rng((seed, 78))
    chosen = rng.choice(len(SPLITS["test"]), houses, replace=False)
    for number in track(chosen.tolist(), "taking pictures", transient=True):
        house = load(SPLITS["test"][number])
        pictures = surroundings(house, load_navmesh(house), Rasteriser(house.scene), per_house, rng, side)
        if pictures:
            write_views(folder / f"views-{house.seed:06d}.safetensors", pictures)


def sentences_of(config: PolicyConfig) -> int:
    """Questions of a talk: about two thirds of them are late; nothing is asked about twice."""
    return min(config.task.subjects, 3 * max(3, config.reach // 10))


def table(result: Result) -> Table:
    """By type, all and late."""
    found = Table(title=f"Talks, memory {result.memory}, {result.talks} talks, seed {result.seed}")
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
