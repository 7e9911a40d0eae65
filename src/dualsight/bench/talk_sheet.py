"""A picture of what memory does in talks: where it looked for the last questions, and what was said.

A row shows the image of a talk, then for some of its questions the image as bright as what was paid to it, mean over
the latents of the memory that was called. The parts of the image that hold the answer have a frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from dualsight.data.files import replacing
from dualsight.data.talks import ANSWER, ASKED, Sentence, Talk, TalkTask
from dualsight.inference.plan import INK, PAPER, RIGHT, WRONG, font
from dualsight.types import Frame

if TYPE_CHECKING:
    from dualsight.bench.talks import Played

TILE, GAP, WORDS, KEY = 156, 14, 44, 34
"""Pixels: a side of a picture, between pictures, below one, above all."""
PALE = (122, 118, 110)
DARK = 0.22
"""How bright the places are at which nothing looked."""


def talk_sheet(
    path: Path,
    task: TalkTask,
    talks: Sequence[Talk],
    played: Sequence[Played],
    looks: Mapping[tuple[int, int], Float[Tensor, " V"]],
    shown: int = 5,
) -> None:
    """Draw talks of one length.

    Args:
        played: all questions of the first talk, then those of the next one.
        looks: by talk and question; where there is none, nothing was called.
        shown: questions of each talk, the last ones, of different types as far as there are.
    """
    count = len(talks[0].sentences)
    size = (GAP + (1 + shown) * (TILE + GAP), KEY + len(talks) * (TILE + WORDS + GAP))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, KEY / 2), f"the image, seen once, and {shown} of {count} questions", PALE, font(13), "lm")
    pen.text((size[0] - GAP, KEY / 2), "bright: where the memory looked", PALE, font(13), "rm")
    for row, talk in enumerate(talks):
        top = KEY + row * (TILE + WORDS + GAP)
        sheet.paste(_large(talk.image), (GAP, top))
        for column, index in enumerate(_chosen(talk.sentences, shown), 1):
            left, sentence = GAP + column * (TILE + GAP), talk.sentences[index]
            one = played[row * count + index]
            sheet.paste(_large(_lit(talk.image, looks.get((row, index)))), (left, top))
            _frame(pen, task.looked_at(talk, sentence), task.shown[-1], left, top)
            pen.text((left, top + TILE + 4), f"{index + 1}. {_question(sentence)}?", INK, font(13))
            said, color = _answer(one, sentence), RIGHT if one.right else WRONG
            pen.text((left, top + TILE + 21), said, color, font(13))
            pen.text((left + TILE, top + TILE + 21), one.call or "no memory", PALE, font(12), "ra")
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def _chosen(sentences: Sequence[Sentence], shown: int) -> list[int]:
    """The last of each type, then the last of all."""
    last = {sentence.type: index for index, sentence in enumerate(sentences)}
    ordered = sorted(last.values(), reverse=True)
    ordered += [index for index in reversed(range(len(sentences))) if index not in ordered]
    return sorted(ordered[:shown])


def _question(sentence: Sentence) -> str:
    asked, about = sentence.words[1 : ASKED - 1], sentence.words[ASKED]
    return " ".join(asked if about in asked else (*asked, about))


def _answer(one: Played, sentence: Sentence) -> str:
    return one.said if one.right else f"{one.said}, not {sentence.words[ANSWER]}"


def _large(image: Frame) -> Image.Image:
    return Image.fromarray(image).resize((TILE, TILE), Image.Resampling.NEAREST)


def _lit(image: Frame, look: Tensor | None) -> Frame:
    """As bright as ``look``, (V,), of visual tokens that stand in a square, says; dark all over where there is none."""
    if look is None:
        return (DARK * image).astype(np.uint8)
    side = round(len(look) ** 0.5)
    light = DARK + (1 - DARK) * (look / look.max()).view(side, side).numpy()
    scale = len(image) // side
    return (light.repeat(scale, 0).repeat(scale, 1)[..., None] * image).astype(np.uint8)


def _frame(pen: ImageDraw.ImageDraw, places: Sequence[int], parts: int, left: int, top: int) -> None:
    """Around each part in which the answer is, of so many of the image."""
    side = math.isqrt(parts)
    size = TILE / side
    for place in places:
        x, y = left + place % side * size, top + place // side * size
        pen.rectangle((x, y, x + size - 1, y + size - 1), outline="white", width=2)
