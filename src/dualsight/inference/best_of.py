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


@torch.inference_mode()
def shows(
    model: JanusCore, processor: JanusProcessor, pictures: Sequence[Picture], prompts: Sequence[str]
) -> list[float]:
    """How sure the model is that each picture shows its prompt: ``log P(yes) - log P(no)``.

    Raises:
        ValueError: there is not one prompt for each picture, or one is too long; the model sees no images, or its
            tokenizer cannot tell yes from no.
    """
    if model.config.encoder is None:
        raise ValueError("this model does not see images, so it cannot tell what a picture shows")
    if len(pictures) != len(prompts):
        raise ValueError(f"{len(pictures)} pictures and {len(prompts)} prompts; expected one for each")
    yes, no = ({processor.encode(f" {word}")[0] for word in words} for words in ANSWERS)
    both = yes & no  # words that the tokenizer does not know are all one token
    if not (yes - both and no - both):
        raise ValueError("yes and no begin with the same token in this model's tokenizer")
    asked = [f"{IMAGE_MARK}\n{QUESTION.format(prompt.strip().rstrip('.'))}" for prompt in prompts]
    sure: list[float] = []
    for start in range(0, len(asked), BATCH):
        part = slice(start, start + BATCH)
        talks = [
            Conversation((Turn("user", text),), (picture,))
            for text, picture in zip(asked[part], pictures[part], strict=True)
        ]
        scores = next_scores(model, processor, talks)
        likely, unlikely = (scores[:, sorted(words - both)].logsumexp(-1) for words in (yes, no))
        sure += (likely - unlikely).tolist()
    return sure


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
