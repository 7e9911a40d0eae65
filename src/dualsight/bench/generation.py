"""The suite ``geneval-shapes``: does a model draw what a prompt says? GenEval's six categories on generated scenes.

Prompts are captions of scenes that hold a combination which training never saw (`data.scene_sampling`). A picture is
right when the detector finds exactly the figures that are named, with the attributes that are named, in the relation
that is named (`data.scene_text.Caption.holds`). The score of a category is the share of right pictures, the overall
score the mean over categories, as in GenEval (Ghosh et al., arXiv:2310.11513).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dualsight.bench.detector import detect
from dualsight.bench.features import scene_features
from dualsight.bench.frechet import Features, diversity, frechet_distance
from dualsight.bench.prompted import Draw, draw_batch, picture_seed
from dualsight.bench.scores import Score, last_line, score, score_line, write_result
from dualsight.data.files import replacing
from dualsight.data.scene_text import CATEGORIES, Caption, sample_caption
from dualsight.data.scenes import render
from dualsight.inference.plan import RIGHT, WRONG
from dualsight.types import Frame

__all__ = ["Prompt", "contact_sheet", "evaluate", "last_line", "make_prompts", "score_line"]

PROTOCOL = {
    "name": "geneval-shapes",
    "version": 1,
    "prompts": "held-out combinations",
    "rule": "exactly the named figures",
    "detector": "dualsight.bench.detector",
    "features": "dualsight.bench.features",
}
"""What a number of this suite means; the version goes up whenever prompts, detector or features change."""


@dataclass(frozen=True)
class Prompt:
    """What a picture should show, and one picture that does."""

    caption: Caption
    picture: Frame


def make_prompts(per_category: int, seed: int, size: int = 64, held_out: bool = True) -> list[Prompt]:
    """``per_category`` prompts of each category, category by category; a function of the arguments."""
    prompts = []
    for number, category in enumerate(CATEGORIES):
        rng = np.random.default_rng((seed, number))
        for _ in range(per_category):
            scene, caption = sample_caption(rng, category, held_out)
            prompts.append(Prompt(caption, render(scene, size)))
    return prompts


def evaluate(
    draw: Draw,
    per_category: int = 50,
    seed: int = 0,
    images: int = 2,
    batch: int = 32,
    held_out: bool = True,
    features: Callable[[Sequence[Frame]], Features] = scene_features,
    reconstruct: Callable[[Sequence[Frame]], list[Frame]] | None = None,
    out: Path | None = None,
    config: dict | None = None,
) -> dict:
    """Draw, detect and score; a fresh set of prompts for every seed.

    Args:
        images: pictures of each prompt, each with its own seed.
        batch: prompts that ``draw`` gets at once.
        held_out: False takes prompts like those of training, for comparison.
        reconstruct: the model's codec, there and back, to report what no drawing of the model can be better than.
        out: a folder for ``results.json`` and ``sheet.png``.
        config: what was judged, plain JSON.

    Returns:
        The content of ``results.json``: protocol, seed, ``categories`` and ``overall`` with Wilson intervals, ``fid``
        against renders of as many other prompts, its ``fid_floor`` (renders against renders), ``diversity``; with a
        codec its ``ceiling`` (the score of reconstructed renders, overall and by category) and ``fid_codec``.

    Raises:
        ValueError: ``draw`` returned another number of pictures than it was asked for.
    """
    prompts = [prompt for prompt in make_prompts(per_category, seed, held_out=held_out) for _ in range(images)]
    texts = [prompt.caption.text for prompt in prompts]
    frames: list[Frame] = []
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        frames += draw_batch(draw, part, [picture_seed(seed, start + n) for n in range(len(part))])
    right = [prompt.caption.holds(detect(frame)) for prompt, frame in zip(prompts, frames, strict=True)]
    overall, categories = _scores(prompts, right)
    seen = features(frames)
    ours, others = (make_prompts(per_category * images, seed + n, held_out=held_out) for n in (1_000_003, 2_000_003))
    renders = [features([prompt.picture for prompt in part]) for part in (ours, others)]
    result = {
        "protocol": {**PROTOCOL, "held_out": held_out},
        "seed": seed,
        "prompts": per_category * len(CATEGORIES),
        "images_per_prompt": images,
        "overall": overall,
        "categories": categories,
        "fid": frechet_distance(seen, renders[0]),
        "fid_floor": frechet_distance(renders[1], renders[0]),
        "diversity": diversity(seen, [str(n // images) for n in range(len(frames))]),
        "config": config or {},
    }
    if reconstruct is not None:
        back = reconstruct([prompt.picture for prompt in others])
        whole, parts = _scores(others, [p.caption.holds(detect(f)) for p, f in zip(others, back, strict=True)])
        result["ceiling"] = {"overall": whole, "categories": parts}
        result["fid_codec"] = frechet_distance(features(back), renders[0])
    if out is not None:
        write_result(out / "results.json", result)
        contact_sheet(out / "sheet.png", prompts, frames, right)
    return result


def _scores(prompts: Sequence[Prompt], right: Sequence[bool]) -> tuple[Score, dict[str, Score]]:
    """Overall and by category."""
    categories: dict[str, Score] = {}
    for category in CATEGORIES:
        hits = [r for r, prompt in zip(right, prompts, strict=True) if prompt.caption.category == category]
        categories[category] = score(sum(hits), len(hits))
    return score(sum(right), len(right), mean_of=[c["score"] for c in categories.values()]), categories


def contact_sheet(
    path: Path, prompts: Sequence[Prompt], frames: Sequence[Frame], right: Sequence[bool], columns: int = 8
) -> None:
    """Write the first ``columns`` pictures of each category, in order, not picked; right ones in green frames."""
    cell, text, gap = 128, 40, 6
    rows = [
        [n for n, prompt in enumerate(prompts) if prompt.caption.category == category][:columns]
        for category in CATEGORIES
    ]
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, len(rows) * (cell + text + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for row, chosen in enumerate(rows):
        for column, n in enumerate(chosen):
            left, top = gap + column * (cell + gap), gap + row * (cell + text + gap)
            sheet.paste(Image.fromarray(frames[n]).resize((cell, cell), Image.Resampling.NEAREST), (left, top))
            color = RIGHT if right[n] else WRONG
            pen.rectangle((left - 2, top - 2, left + cell + 1, top + cell + 1), outline=color, width=2)
            words = textwrap.wrap(prompts[n].caption.text, 22)[:3]
            pen.multiline_text((left, top + cell + 3), "\n".join(words), fill=(32, 33, 36), spacing=1)
    with replacing(path) as temporary:
        sheet.save(temporary)
