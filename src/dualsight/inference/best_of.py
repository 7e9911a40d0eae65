"""Several drawings of a prompt, of which the model's own eyes keep the one that shows it best.

A model that understands images can tell whether it has drawn what it was asked for. It asks itself "Does the picture
show ...?" and compares how likely it finds yes and no, as VQAScore does with another model (Lin et al.,
arXiv:2404.01291). The two pathways share nothing but the language model, so that what one gets wrong the other may see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dualsight.inference.text import next_scores
from dualsight.models.janus_core import JanusCore
from dualsight.models.janus_processor import JanusProcessor
from dualsight.types import IMAGE_MARK, Conversation, Frame, Picture, Turn

QUESTION = "Does the picture show {}?"
ANSWERS = (("yes", "Yes"), ("no", "No"))
BATCH = 32
"""Pictures that are looked at side by side."""
NO_PICTURE = np.zeros((1, 1, 3), np.uint8)


@torch.inference_mode()
def shows(
    model: JanusCore, processor: JanusProcessor, pictures: Sequence[Picture], prompts: Sequence[str]
) -> list[float]:
    """How sure the model is that each picture shows its prompt: ``log P(yes) - log P(no)``.

    Raises:
        ValueError: there is not one prompt for each picture; and what :func:`check` raises.
    """
    if len(pictures) != len(prompts):
        raise ValueError(f"{len(pictures)} pictures and {len(prompts)} prompts; expected one for each")
    check(model, processor, prompts)
    yes, no = _answers(processor)
    sure: list[float] = []
    for start in range(0, len(pictures), BATCH):
        part = slice(start, start + BATCH)
        asked = [_asked(prompt, picture) for prompt, picture in zip(prompts[part], pictures[part], strict=True)]
        scores = next_scores(model, processor, asked)
        sure += (scores[:, yes].logsumexp(-1) - scores[:, no].logsumexp(-1)).tolist()
    return sure


def check(model: JanusCore, processor: JanusProcessor, prompts: Sequence[str]) -> None:
    """Raises ValueError if the model could not be asked, before anything is drawn: its tokenizer does not tell yes from
    no, or a prompt is too long."""
    if not all(_answers(processor)):
        raise ValueError("this model's tokenizer does not tell yes from no: it cannot judge what it draws")
    most = model.config.text.max_position_embeddings
    for prompt in dict.fromkeys(prompts):
        asked = len(processor.conversation(_asked(prompt, NO_PICTURE))[0])
        if asked >= most:
            raise ValueError(f"to judge {prompt[:40]!r}... takes {asked} tokens and an answer, of {most}: shorten it")


def _asked(prompt: str, picture: Picture) -> Conversation:
    text = QUESTION.format(prompt.strip().rstrip("."))
    return Conversation((Turn("user", f"{IMAGE_MARK}\n{text}"),), (picture,))


def _answers(processor: JanusProcessor) -> list[list[int]]:
    """The tokens that answers with yes, and those with no, begin with."""
    yes, no = ({processor.encode(f" {word}")[0] for word in words} for words in ANSWERS)
    useless = yes & no | {processor.tokenizer.unk_token_id}
    return [sorted(yes - useless), sorted(no - useless)]


def candidate_seeds(seed: int, candidates: int) -> list[int]:
    """The seeds of an image's candidates, by its own: the first is the image that there would be without a choice."""
    others = np.random.SeedSequence(seed % 2**64).generate_state(candidates - 1) if candidates > 1 else ()
    return [seed, *map(int, others)]


def best_of(
    model: JanusCore, processor: JanusProcessor, frames: Sequence[Frame], prompts: Sequence[str], candidates: int
) -> list[Frame]:
    """Of every ``candidates`` images in a row, which are all of one prompt, the one that shows it best."""
    sure = shows(model, processor, frames, [prompt for prompt in prompts for _ in range(candidates)])
    chosen = np.reshape(sure, (-1, candidates)).argmax(1)
    return [frames[image * candidates + best] for image, best in enumerate(chosen)]
