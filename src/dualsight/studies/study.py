"""What a study is: arms that differ in one thing, claims about them that are written down first, and a verdict.

An arm is trained from nothing on generated data by the three stages, every arm with the same budget and the same
seeds, and judged on fresh test sets. Or, with a model at hand (any size), the arms that need no training judge that.
Everything that is trained or measured is kept, so a study that was stopped goes on; with other settings it is refused,
as its table would mix figures of both (`check_settings`).

A claim compares two arms in one figure. With d the mean over seeds of (better - worse), and its 95 % interval

    d +- max(1.96 sqrt(sum of the seeds' variances) / seeds,  half the range of d over the seeds)

The variance of a seed's difference is the sum of those of its two figures. Where both arms were asked the same of the
same talks, r and r' right of n in each, it is that of the talks' differences, T / (T - 1) sum (r - r' - d n)^2 /
(sum n)^2: what is hard for both does not count.

a claim of a difference *held* where the interval lies above ``-margin``, *did not hold* where it lies below; a claim
of likeness held where the interval lies within ``+-margin``, did not hold where it lies outside. Else it is
*not decidable here*: more test questions or more seeds would be needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from dualsight.bench import generation, understanding
from dualsight.bench.janus import answering
from dualsight.bench.provenance import DifferentRun, claim, sha256, weights_sha256
from dualsight.bench.scores import Score, score
from dualsight.checkpoints.janus import from_pretrained
from dualsight.data import rows
from dualsight.data.files import replacing, write_json
from dualsight.data.shards import shards_in
from dualsight.inference.assistant import Assistant
from dualsight.models.janus_config import Generation
from dualsight.models.janus_processor import JanusProcessor
from dualsight.train.codecs import CONVOLUTIONS, train_vae, train_vq
from dualsight.train.contrastive import pretrain_encoder
from dualsight.train.janus_data import JanusCollate, JanusPlan
from dualsight.train.janus_sources import Frames, new_janus, open_sources, pictures_of, tiny
from dualsight.train.janus_stages import LAYERS, TINY, JanusTraining, run_of, train_stage
from dualsight.train.trainer import Run

console = Console(soft_wrap=True)
Kind = Literal["siglip", "clip", "dinov2", "none"]
Measure = str
"""``understanding``: percent of right answers (suite ``janus-house``); ``generation``: percent of right pictures
(``geneval-shapes``); ``likelihood``: minus the nats that new pictures cost under their captions, each, for models of
tokens with one codec: it tells models apart that still draw too little of what is asked; ``agreement``: 100 times the
cosine of the gradients of the two tasks in the language model's layers. Other studies name their own."""
CAPACITY = 384
BATCHES = 8
"""For likelihood and agreement."""


@dataclass(frozen=True)
class Arm:
    """One way of building or using a Janus."""

    name: str
    encoder: Kind = "siglip"
    """None: it understands through its generation pathway."""
    generation: Generation = "vq"
    ratio: tuple[int, int, int] = (1, 0, 1)
    """Understanding : text : generation."""
    guidance: float | None = None
    """Of its drawings; None is the default of its way of drawing."""

    @property
    def training(self) -> str:
        """Arms with the same one are one model."""
        return f"{self.encoder}-{self.generation}-{''.join(map(str, self.ratio))}"


@dataclass(frozen=True)
class Claim:
    """What was expected, before the study ran."""

    text: str
    better: str
    worse: str
    measure: Measure
    margin: float = 0.0
    """Points: ``better`` may be so much worse; of a likeness, the difference that still counts as none."""
    alike: bool = False
    """It claims that the two do not differ."""


@dataclass(frozen=True)
class Study:
    """One file of this package."""

    name: str
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Budget:
    """What every arm gets."""

    codec_steps: int = 300
    encoder_steps: int = 200
    stages: tuple[tuple[str, int], ...] = (("I", 30), ("II", 150), ("III", 300))
    batch: int = 32
    questions: int = 50
    """Of each kind."""
    prompts: int = 25
    """Of each category, one picture each."""
    bf16: bool = False
    compiled: bool = False
    """How the stages are computed: see ``Run`` and ``train_stage``."""

    @property
    def training(self) -> dict[str, Any]:
        """What makes a model: all but what it is asked."""
        return {name: value for name, value in asdict(self).items() if name not in ("questions", "prompts")}

    def scaled(self, by: float) -> Budget:
        """So many times the training steps."""

        def times(steps: int) -> int:
            return max(1, round(by * steps))

        stages = tuple((name, times(steps)) for name, steps in self.stages)
        return replace(
            self, codec_steps=times(self.codec_steps), encoder_steps=times(self.encoder_steps), stages=stages
        )


@dataclass(frozen=True)
class Figure:
    """A measured number and its standard error."""

    value: float
    error: float
    talks: tuple[tuple[int, int], ...] = ()
    """Of a share: right, and of how many, in each talk that was drawn, in the order of drawing."""

    @classmethod
    def by_talk(cls, talks: Sequence[tuple[int, int]]) -> Figure:
        """The share of all talks together."""
        right, count = (sum(numbers) for numbers in zip(*talks, strict=True))
        return replace(cls.of(score(right, count)), talks=tuple(talks))

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Figure:
        """Back from JSON."""
        return cls(kept["value"], kept["error"], tuple((right, count) for right, count in kept.get("talks", ())))

    def variance_of_difference(self, other: Figure) -> float:
        """Of ``self - other``, see above."""
        if not self.talks or [count for _, count in self.talks] != [count for _, count in other.talks]:
            return self.error**2 + other.error**2
        counts = np.array([count for _, count in self.talks])
        lead = np.array([ours - theirs for (ours, _), (theirs, _) in zip(self.talks, other.talks, strict=True)])
        spread = lead - lead.sum() / counts.sum() * counts
        talks = len(counts)
        return float(100**2 * talks / max(1, talks - 1) * np.square(spread).sum() / counts.sum() ** 2)

    @classmethod
    def of(cls, found: Score) -> Figure:
        share = found["right"] / found["count"]
        return cls(found["score"], 100 * math.sqrt(max(share * (1 - share), 1 / found["count"]) / found["count"]))


def verdict(claim: Claim, better: Sequence[Figure], worse: Sequence[Figure]) -> dict:
    """``held``, ``did not hold`` or ``not decidable here``, with the difference and its interval (see above).

    Args:
        better, worse: the figures of the two arms, seed by seed.
    """
    differences = [a.value - b.value for a, b in zip(better, worse, strict=True)]
    mean = sum(differences) / len(differences)
    variances = [a.variance_of_difference(b) for a, b in zip(better, worse, strict=True)]
    chance = 1.96 * math.sqrt(sum(variances)) / len(differences)
    half = max(chance, (max(differences) - min(differences)) / 2)
    low, high = mean - half, mean + half
    if claim.alike:
        held, failed = -claim.margin <= low and high <= claim.margin, low > claim.margin or high < -claim.margin
    else:
        held, failed = low > -claim.margin, high < -claim.margin
    word = "held" if held else "did not hold" if failed else "not decidable here"
    return {"claim": claim.text, "verdict": word, "difference": mean, "low": low, "high": high}


def run(
    study: Study,
    out: Path,
    rooms: Path,
    seeds: Sequence[int] = (0, 1),
    budget: Budget = Budget(),
    model: Path | None = None,
    models: Path | None = None,
) -> dict:
    """Train and judge every arm, and say what held.

    Args:
        out: figures are kept here; ``results.json`` and ``results.md`` at the end.
        rooms: shards of pictures of rooms (``dualsight data rooms``).
        model: judge this Janus in place of training, whatever its size; for studies of how a model is used.
        models: what is trained is kept here, by default in ``out``. Studies with the same budget may share it: an arm
            that several have is trained once.

    Returns:
        The content of ``results.json``: the budget, every figure, every verdict.

    Raises:
        ValueError: there is a model, but the arms differ in how one is trained.
        FileNotFoundError: there are no shards of rooms, or the model has no weights.
        DifferentRun: ``out`` or ``models`` holds what was made with other settings.
    """
    if model and len({arm.training for arm in study.arms}) > 1:
        raise ValueError(f"the study {study.name} compares ways of training: it cannot judge the model {model} alone")
    settings = {"budget": asdict(budget), "rooms": sha256(*shards_in(rooms, "rooms"))}
    if model is None:
        check_settings(models or out, {"budget": budget.training, "rooms": settings["rooms"]}, "training.json")
    else:
        settings["model"] = weights_sha256(model)
    check_settings(out, {"study": study.name, **settings})
    measures = list(dict.fromkeys(claim.measure for claim in study.claims))
    figures: dict[str, dict[str, list[Figure]]] = {arm.name: {m: [] for m in measures} for arm in study.arms}
    for seed in seeds:
        for arm in study.arms:
            folder = out / f"seed{seed}"
            trained = model or train(arm, (models or out) / f"seed{seed}", rooms, seed, budget)
            for measure in measures:
                if _able(arm, measure):
                    path = folder / arm.name / f"{measure}.json"  # test sets of different training seeds differ, too
                    given = measure, trained, arm, 1000 + seed, budget, rooms
                    figures[arm.name][measure].append(kept(path, _measure, *given))
    if model:
        settings["model"] = {"path": str(model), "weights": settings["model"]}
    return conclude(study, out, figures, {"seeds": list(seeds), **settings})


def check_settings(folder: Path, settings: Mapping[str, Any], name: str = "settings.json") -> None:
    """Write down what a folder is filled with, or check that it was filled with the same.

    Args:
        settings: all that decides about what is kept there. Not the seeds: each has its own folder, and more of them
            may be added.

    Raises:
        DifferentRun: it was filled with others, and what differs is named; or by an older version that did not say.
    """
    if not (folder / name).exists() and (folder / "results.json").exists():
        raise DifferentRun(f"{folder} holds results of which nobody wrote down the settings. Choose another folder")
    claim(folder, settings, "figures", name)


def conclude(
    study: Study,
    out: Path,
    figures: dict[str, dict[Measure, list[Figure]]],
    settings: dict[str, Any],
    further: Mapping[str, Any] = {},
) -> dict:
    """Judge all claims whose figures are there and write ``results.json`` and ``results.md``; returns the content of
    the former.

    Args:
        figures: of each arm, of each measure, seed by seed.
        settings: what the figures were made with; they head the table, too.
        further: other content of ``results.json``.
    """
    pairs = [
        (c, figures.get(c.better, {}).get(c.measure), figures.get(c.worse, {}).get(c.measure)) for c in study.claims
    ]
    verdicts = [verdict(claim, better, worse) for claim, better, worse in pairs if better and worse]
    result = {
        "study": study.name,
        **settings,
        **further,
        "figures": {
            name: {m: [{"value": f.value, "error": f.error} for f in values] for m, values in row.items() if values}
            for name, row in figures.items()
        },
        "claims": verdicts,
    }
    write_json(out / "results.json", result)
    with replacing(out / "results.md") as temporary:
        temporary.write_text(table(study, figures, verdicts, settings), encoding="utf-8")
    return result


def train(arm: Arm, folder: Path, rooms: Path, seed: int, budget: Budget) -> Path:
    """Train an arm from nothing, unless that was done; returns the model's folder."""
    model = folder / arm.training / budget.stages[-1][0]
    if (model / "config.json").exists():
        return model
    console.print(f"[bold]{arm.training}, seed {seed}[/]")
    config = tiny(arm.encoder, arm.generation)
    talk, drawn = open_sources(["scenes", f"room-talk:{rooms}"], seed=seed), open_sources(["scenes"], seed=seed)
    kind = "vq" if arm.generation == "vq" else "vae"
    codec, encoder = folder / kind, folder / arm.encoder if arm.encoder != "none" else None
    if not (codec / "config.json").exists():
        (train_vae if kind == "vae" else train_vq)(
            Frames(drawn), Run(codec, budget.codec_steps, 4e-3, 16, seed=seed, matrices=CONVOLUTIONS)
        )
    if encoder and not (encoder / "model.safetensors").exists():
        pretrained, processor = new_janus(config, talk, None, None, seed)
        pictures = pictures_of(open_sources(["scenes", f"rooms:{rooms}"], seed=seed))
        run_ = Run(encoder, budget.encoder_steps, 1e-3, 64, seed=seed)
        pretrain_encoder(pretrained.vision_model, processor, pictures, run_)
    janus, processor = new_janus(config, talk, codec, encoder, seed)
    for name, steps in budget.stages:
        stage = replace(TINY[name], ratio=arm.ratio)
        settings = run_of(
            stage, folder / arm.training / name, steps=steps, batch=budget.batch, bf16=budget.bf16, seed=seed
        )
        train_stage(janus, processor, stage, talk, settings, CAPACITY, arm.ratio, compiled=budget.compiled)
    return model


def _able(arm: Arm, measure: Measure) -> bool:
    """A model that was taught one task only is not asked for the other."""
    understands, draws = arm.ratio[0] > 0, arm.ratio[2] > 0
    return {
        "understanding": understands,
        "generation": draws,
        "likelihood": draws and arm.generation == "vq",
        "agreement": understands and draws,
    }[measure]


def kept(path: Path, measure: Callable[..., Figure], *given: Any) -> Figure:
    """``measure(*given)``, measured once and read from ``path`` after that."""
    if not path.exists():
        write_json(path, asdict(measure(*given)))
    return Figure.read(json.loads(path.read_text(encoding="utf-8")))


def _measure(measure: Measure, model: Path, arm: Arm, seed: int, budget: Budget, rooms: Path) -> Figure:
    if measure in ("agreement", "likelihood"):
        return {"agreement": agreement, "likelihood": likelihood}[measure](model, rooms, seed, budget.batch)
    assistant = Assistant.from_pretrained(model)
    if measure == "understanding":
        return Figure.of(understanding.evaluate(answering(assistant), budget.questions, seed)["overall"])

    def draw(prompts, seeds):
        return assistant.generate_images(prompts, seeds, guidance=arm.guidance)

    return Figure.of(generation.evaluate(draw, budget.prompts, seed, images=1)["overall"])


def agreement(model: Path, rooms: Path, seed: int, batch: int) -> Figure:
    """The cosine of the gradients of understanding and of making images, times 100, over the layers of the language
    model: above 0 a step for the one is also one for the other, below 0 they undo each other."""
    janus, processor = from_pretrained(model)
    training = JanusTraining(janus)
    layers = [p for name, p in janus.named_parameters() if name.startswith(LAYERS)]
    plans = [_plan(kind, processor, rooms, seed, batch) for kind in ("understanding", "generation")]
    cosines = []
    for index in range(BATCHES):
        gradients = [torch.autograd.grad(training(**plan[index])["loss"], layers) for plan in plans]
        seen, drawn = (torch.cat([part.flatten() for part in gradient]) for gradient in gradients)
        cosines.append(100 * float(torch.cosine_similarity(seen, drawn, dim=0)))
    return _mean(cosines)


@torch.no_grad()
def likelihood(model: Path, rooms: Path, seed: int, batch: int) -> Figure:
    """The logarithm of the probability that the model gives to pictures that it never saw, under their captions."""
    janus, processor = from_pretrained(model)
    plan = _plan("generation", processor, rooms, seed, batch)
    nats = [float(JanusTraining(janus)(**plan[index])["image_loss"]) for index in range(BATCHES)]  # of a token
    return _mean([-janus.config.drawn_tokens * each for each in nats])


def _plan(kind: rows.Kind, processor: JanusProcessor, rooms: Path, seed: int, batch: int) -> JanusPlan:
    """A few batches of examples of one kind, without captions left out."""
    sources = open_sources(["scenes", f"room-talk:{rooms}"], seed=seed)
    return JanusPlan({kind: sources[kind]}, {kind: 1}, batch, BATCHES, seed, JanusCollate(processor, CAPACITY, 0))


def _mean(values: Sequence[float]) -> Figure:
    return Figure(float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values))))


def table(
    study: Study,
    figures: dict[str, dict[str, list[Figure]]],
    verdicts: Sequence[dict],
    settings: Mapping[str, Any] = {},
) -> str:
    """The study in Markdown."""
    measures = list(dict.fromkeys(name for row in figures.values() for name, values in row.items() if values))
    lines = [f"# {study.name}", "", *(f"- {name}: {_said(value)}" for name, value in settings.items()), ""]
    lines += ["| arm | " + " | ".join(measures) + " |", "|---" * (len(measures) + 1) + "|"]
    for name, row in figures.items():
        cells = (", ".join(f"{figure.value:.1f}" for figure in row.get(measure, ())) or "-" for measure in measures)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| claim | difference | verdict |", "|---|---|---|"]
    lines += [
        f"| {v['claim']} | {v['difference']:+.1f} [{v['low']:+.1f}, {v['high']:+.1f}] | **{v['verdict']}** |"
        for v in verdicts
    ]
    return "\n".join(lines) + "\n"


def _said(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
