"""Talks about grids or houses, played with memory in any mode: ``dualsight eval --suite gridtalk --memory MODE``.

The questions are given, the answers are the model's: at every delimiter it may call memory (or is made to), then it
says one word, which is right or wrong. Its later questions follow upon the right answers, so that one mistake costs
one answer. *Late* are the questions whose answers the image is out of reach of, by construction: no path through the
windows of the layers leads from the image there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dualsight.bench.provenance import weights_sha256
from dualsight.bench.scores import write_result
from dualsight.bench.speed import medians, take_turns
from dualsight.bench.talk_sheet import talk_sheet
from dualsight.checkpoints.vismem import load_memory
from dualsight.data.gridtalk import GridTalk
from dualsight.data.housetalk import HouseTalk, write_views
from dualsight.data.talks import ANSWER, ASKED, MARK, SENTENCE, Talk, gaps
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
ORACLE = "oracle"
"""A word of modes of this task: memory is forced at the questions that need the image, by their type, and at no other.
``oracle+short`` has short ones only."""

SAMPLES = "best"
"""``best:3``, a word of modes of this task: an answer is drawn so often from what the model finds likely, and right if
one of them is. A judge that knows the answer chooses, so it bounds what more tries without memory can gain."""


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


Looks = dict[tuple[int, int], Float[torch.Tensor, " V"]]
"""By talk and question: where the memory that was called there looked, mean over its latents."""


def play(
    memory: VisMem,
    config: PolicyConfig,
    talks: Sequence[Talk],
    mode: Mode | None,
    seed: int,
    first: int = 0,
    asked: range | None = None,
    calls: Sequence[Mapping[int, Kind]] | None = None,
    needed: bool = False,
    samples: int = 0,
    looks: Looks | None = None,
) -> list[Played]:
    """Questions of some talks of one length.

    Args:
        mode: None shows the image again behind every delimiter, without memory.
        first: the number of the first talk.
        asked: the questions that count and at which memory may be called; all by default.
        calls: which memory each talk calls at which questions; None leaves it to the mode.
        needed: memory is forced only where the question is about the image.
        samples: of every answer, of which the best one counts; 0 takes the most likely one.
        looks: is filled, with talks counted from 0, if memories are formed of what was seen and said.
    """
    asked = asked or range(len(talks[0].sentences))
    rng = np.random.default_rng((seed, first))
    between = gaps(config.task, len(talks[0].sentences), rng)
    words = int(rng.integers(2**31))
    if calls is None:
        calls = _called(memory, config, talks, between, asked, mode or Mode("off"), needed, words, rng)
    rows = [
        _row(memory, config, talk, between, row if mode else None, words)
        for talk, row in zip(talks, calls, strict=True)
    ]
    answers = torch.tensor([answers for _, answers in rows])
    logits = _read(memory, config, talks, [ids for ids, _ in rows], mode, seed, calls, looks)
    names = config.task.vocabulary
    scores = logits[torch.arange(len(talks))[:, None], answers - 1, : len(names)]
    tries = _drawn(scores, samples, hash((seed, first))) if samples else scores.argmax(-1, keepdim=True)
    plain = lay_out(talks[0], config, between, {}, np.random.default_rng(words))[1]
    played = []
    for number, talk in enumerate(talks):
        beside = talks[(number + 1) % len(talks)]
        for index in asked:
            sentence = talk.sentences[index]
            tried = [names[word] for word in tries[number, index]]
            word = sentence.words[ANSWER] if sentence.words[ANSWER] in tried else tried[0]
            late = plain[index] - 1 - config.visual_tokens > config.reach
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
    needed: bool,
    words: int,
    rng: np.random.Generator,
) -> list[dict[int, Kind]]:
    """Which memory each talk calls at which questions.

    What the model itself would call depends on the calls before. All questions are decided at once, given the calls
    that were decided last, until nothing changes: after ``n`` passes at least the first ``n`` decisions are what they
    are one by one.
    """
    calls: list[dict[int, Kind]] = [{} for _ in talks]
    if mode.decision == "forced":
        for index in asked:
            for row, talk in zip(calls, talks, strict=True):
                if needed and talk.sentences[index].subject < 0:
                    continue
                if rng.random() < mode.share:
                    row[index] = mode.kinds[int(rng.integers(len(mode.kinds)))]
    elif mode.decision == "learned":
        for _ in range(len(asked) + 1):
            decided = _decided(memory, config, talks, between, calls, asked, mode, words)
            if decided == calls:
                break
            calls = decided
    return calls


def _drawn(scores: torch.Tensor, samples: int, seed: int) -> torch.Tensor:
    """So many words from each distribution (..., W)."""
    dice = torch.Generator().manual_seed(seed % 2**63)
    drawn = torch.multinomial(scores.flatten(0, -2).softmax(-1), samples, True, generator=dice)
    return drawn.view(*scores.shape[:-1], samples)


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
    memory: VisMem,
    config: PolicyConfig,
    talks: Sequence[Talk],
    rows: Sequence[list[int]],
    mode: Mode | None,
    seed: int,
    calls: Sequence[Mapping[int, Kind]] = (),
    looks: Looks | None = None,
) -> torch.Tensor:
    """Logits of rows of different lengths, padded behind."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, MARK["<pad>"])
    lengths = torch.tensor([len(row) for row in rows])
    there = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    pixels = torch.stack([prepared(talk.image) for talk in talks])
    if mode is None or mode.decision == "off":
        pixels = pixels.repeat_interleave(rows[0].count(config.image[0]), 0)
        return memory.vlm(input_ids=ids, attention_mask=there, pixel_values=pixels).logits
    if looks is None:
        return memory.score(ids, there, len(config.image), mode, seed, pixel_values=pixels)
    weights: list[torch.Tensor] = []
    waiting = [iter(sorted(row)) for row in calls]

    def formed(rows: list[int], latents: torch.Tensor) -> torch.Tensor:
        for row, weight in zip(rows, weights[-1], strict=True):
            looks[row, next(waiting[row])] = weight.mean(0)
        return latents

    return memory.score(ids, there, len(config.image), mode, seed, formed, weights, pixel_values=pixels)


def _decided(
    memory: VisMem,
    config: PolicyConfig,
    talks: Sequence[Talk],
    between: Sequence[int],
    calls: Sequence[dict[int, Kind]],
    asked: range,
    mode: Mode,
    words: int,
) -> list[dict[int, Kind]]:
    """What the model itself says behind the delimiter of every question, greedily, as ``generate`` would, where it has
    called ``calls`` before."""
    rows, ends = [], []
    for talk, row in zip(talks, calls, strict=True):
        ids, answers = _row(memory, config, talk, between, row, words)
        written = [len(memory.written(row[index])) if index in row else 0 for index in asked]
        ends.append([answers[index] - 2 - count for index, count in zip(asked, written, strict=True)])  # delimiters'
        rows.append(ids)
    logits = _read(memory, config, talks, rows, mode, 0)
    last = logits[torch.arange(len(rows))[:, None], torch.tensor(ends) - 1]  # (talks, questions, W)
    open_ = [kind for kind in KINDS if kind in mode.kinds]
    begins = torch.stack([last[..., memory.tokens.begin_of(kind)] for kind in open_], -1)
    others = last[..., : memory.tokens.first].max(-1).values
    best, which = begins.max(-1)
    decided: list[dict[int, Kind]] = []
    for said, kinds in zip((best > others).tolist(), which.tolist(), strict=True):
        wanted = {index: open_[kind] for index, kind, called in zip(asked, kinds, said, strict=True) if called}
        decided.append(dict(islice(wanted.items(), memory.config.max_invocations)))
    return decided


@torch.no_grad()
def visual_attention(policy: Path, seed: int, views: Path | None = None, talks: int = 16) -> dict[str, float]:
    """How much a policy without memory looks at the image when it says an answer, question by question: the share of
    its attention that falls on visual tokens, mean over heads and layers. Behind the windows' reach none can; how it
    falls before that shows when the image is lost.

    Args:
        views: the pictures, where it talks about houses.
    """
    vlm, config = load_policy(policy, views)
    vlm.set_attn_implementation("eager")  # the others do not say where they look
    rng, count = np.random.default_rng((seed, 80)), sentences_of(config)
    made = [config.task.sample(count, rng) for _ in range(talks)]
    between = gaps(config.task, count, rng)
    rows, places = zip(*(lay_out(talk, config, between, {}, rng) for talk in made), strict=True)
    ids, pixels = torch.tensor(rows), torch.stack([prepared(talk.image) for talk in made])
    there = torch.ones_like(ids)
    layers = vlm(input_ids=ids, attention_mask=there, pixel_values=pixels, output_attentions=True).attentions
    seen = ids[0] == MARK["<seen>"]
    said = [place - 1 for place in places[0]]
    shares = torch.stack([layer[:, :, said][..., seen].sum(-1).mean((0, 1)) for layer in layers]).mean(0)
    return {str(index): round(share, 6) for index, share in enumerate(shares.tolist())}


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
        mode: see `Mode.parse`, or `RELOOK`, or with `LONE`, `ORACLE` or `SAMPLES` among its words.
        sentences: of a talk; see `sentences_of` for the default.
        out: a folder for ``results.json``.
        judged: what was judged, plain JSON.
    """
    sentences = sentences or sentences_of(config)
    result = summary(play_all(memory, config, mode, seed, talks, sentences), mode, seed)
    if out:
        write_result(
            out / "results.json", _without_nan(asdict(result)) | {"sentences": sentences, "config": judged or {}}
        )
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
    rules = _rules(mode)
    sentences = sentences or sentences_of(config)
    made = talks_of(config, seed, talks, sentences)
    asked = range(sentences - 1 if LONE in words else 0, sentences)
    parts = np.array_split(np.arange(talks), -(-talks // BATCH))  # of one size: a lone talk has no next one
    return [
        one
        for part in track(parts, f"playing {mode}", transient=True)
        for one in play(
            memory,
            config,
            made[part[0] : part[-1] + 1],
            rules,
            seed,
            int(part[0]),
            asked,
            needed=ORACLE in words,
            samples=samples_of(mode),
        )
    ]


def talks_of(config: PolicyConfig, seed: int, talks: int, sentences: int = 0) -> list[Talk]:
    """The first ones of the test set that ``seed`` draws."""
    rng = np.random.default_rng((seed, 77))
    return [config.task.sample(sentences or sentences_of(config), rng) for _ in range(talks)]


def draw(memory: VisMem, config: PolicyConfig, mode: str, seed: int, path: Path, talks: int = 4) -> None:
    """Draw the first talks of the test set: what was asked and said, and where memory looked.

    Args:
        mode: one of `drawable` ones.
    """
    made, looks = talks_of(config, seed, talks), Looks()
    talk_sheet(path, config.task, made, play(memory, config, made, Mode.parse(mode), seed, looks=looks), looks)


def drawable(mode: str) -> bool:
    """Does memory look at the image of its own talk, or is there none?"""
    return {word.partition(":")[0] for word in mode.split("+")} <= {"off", "learned", "always", "random", *KINDS}


def samples_of(mode: str) -> int:
    """How often an answer is drawn; 0 where the most likely one is taken.

    Raises:
        ValueError: no number of at least 1.
    """
    numbers = [number for word in mode.split("+") for name, _, number in [word.partition(":")] if name == SAMPLES]
    if any(not number.isdecimal() or int(number) < 1 for number in numbers):
        raise ValueError(
            f"memory={mode!r}: {SAMPLES}:n draws an answer n times, at least once, such as off+{SAMPLES}:3"
        )
    return int(numbers[-1]) if numbers else 0


def _rules(mode: str) -> Mode | None:
    """A mode of this task; None is `RELOOK`.

    Raises:
        ValueError: it is none.
    """
    try:
        return None if mode == RELOOK else Mode.parse(_decoded(mode))
    except ValueError as error:
        raise ValueError(f"{error}; of talks also {RELOOK}, {ORACLE}, {LONE}, {SAMPLES}:n") from error


def _decoded(mode: str) -> str:
    """A mode of this task, not `RELOOK`, as ``VisMem.generate`` takes it."""
    words = ("always" if word == ORACLE else word for word in mode.split("+") if word.split(":")[0] not in _OURS)
    return "+".join(words) or "learned"


_OURS = (LONE, SAMPLES)


@torch.no_grad()
def seconds_of_an_answer(
    memory: VisMem, config: PolicyConfig, mode: str, seed: int, talks: int = 8, rounds: int = 3
) -> float:
    """What an answer costs in a mode: a batch of talks is read up to the delimiter of a late question and answered by
    stock ``generate()``, for each of several samples anew. The median over ``rounds`` of the seconds of a talk; on CPUs
    of CPU time."""
    rng = np.random.default_rng((seed, 79))
    count, again = min(config.late, config.task.subjects), mode == RELOOK
    made = [config.task.sample(count, rng) for _ in range(talks)]
    between = gaps(config.task, count, rng)
    rows = []
    for talk in made:
        ids, answers = lay_out(talk, config, between, {}, rng)
        rows.append(ids[: answers[-1] - ANSWER + ASKED] + config.image * again)
    pixels = torch.stack([prepared(talk.image) for talk in made]).repeat_interleave(1 + again, 0)
    ids = torch.tensor(rows)
    room = SENTENCE - ASKED + max(len(memory.written(kind)) for kind in KINDS)

    def answer() -> None:
        memory.generate(
            "off" if again else _decoded(mode), seed, input_ids=ids, attention_mask=torch.ones_like(ids),
            pixel_values=pixels, max_new_tokens=room, do_sample=False, eos_token_id=config.index["."],
        )  # fmt: skip

    return medians(take_turns({mode: answer}, rounds))[mode] / talks * max(1, samples_of(mode))


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
        if out and drawable(mode):
            draw(memory, config, mode, seed, out / "talks.png")
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
