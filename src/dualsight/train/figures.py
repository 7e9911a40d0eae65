"""Dense pre-training of a small understanding encoder on generated scenes: what every patch shows.

SigLIP's loss on captions (``contrastive.py``) tells an encoder which picture belongs to which sentence, and leaves it
to find out where in the picture the words are. Here it is told: linear probes read off each patch token whether it
shows a figure, the figure's shape, colour, size and texture, and where its centre is. Their losses train the encoder,
and the probes are thrown away. A probe does not choose against what training leaves out (``scene_labels.untaught``):
else the encoder would learn what goes with what in place of how it looks. It stands in for the web-scale pre-training
that the released encoders come from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualsight.checkpoints.weights import save_weights
from dualsight.data.scene_labels import NOTHING, WORDS, LabelledScenes, PatchLabels, untaught
from dualsight.models.janus_processor import JanusProcessor
from dualsight.pathways.encoders import Encoder
from dualsight.train.janus_sources import ENDLESS
from dualsight.train.trainer import BatchPlan, Run, fit, is_main_process
from dualsight.types import Frame


class FigurePretraining(nn.Module):
    """An encoder under one linear probe per word, one for "is anything there" and one for "where is its centre"."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        self.words = nn.ModuleDict({field: nn.Linear(width, len(values)) for field, values in WORDS.items()})
        self.there, self.centre = nn.Linear(width, 1), nn.Linear(width, 2)

    def forward(self, images: Tensor, words: Tensor, centre: Tensor) -> dict[str, Tensor]:
        """``images`` (B, 3, S, S), ``words`` (B, P, 4) and ``centre`` (B, P, 2) of ``PatchLabels`` -> the losses."""
        features = self.encoder(images).flatten(0, 1)
        words, centre = words.flatten(0, 1), centre.flatten(0, 1)
        there = words[:, 0] != NOTHING
        shown = features[there]
        found = {"there": F.binary_cross_entropy_with_logits(self.there(features)[:, 0], there.float())}
        found["centre"] = 10 * F.l1_loss(self.centre(shown), centre[there])
        right = {}
        for column, field in enumerate(WORDS):
            logits, target = self.words[field](shown), words[there, column]
            left_out = torch.from_numpy(untaught(words[there].numpy(force=True), field)).to(logits.device)
            logits = logits.masked_fill(left_out, -torch.inf)
            found[field] = F.cross_entropy(logits, target)
            right[f"{field}_right"] = (logits.argmax(-1) == target).float().mean()
        return {"loss": torch.stack(list(found.values())).sum()} | found | right


class LabelledBatch:
    """Scenes with labels to a batch, the pictures prepared as Janus does."""

    def __init__(self, processor: JanusProcessor):
        self.processor = processor

    def __call__(self, scenes: list[tuple[Frame, PatchLabels]]) -> dict[str, Tensor]:
        pictures, labels = zip(*scenes, strict=True)
        return {
            "images": torch.stack([self.processor.picture(picture) for picture in pictures]),
            "words": torch.from_numpy(np.stack([label.words for label in labels])),
            "centre": torch.from_numpy(np.stack([label.centre for label in labels])),
        }


def pretrain_on_figures(encoder: Encoder, processor: JanusProcessor, run: Run) -> Path:
    """Train an encoder in place; writes its weights to ``run.out`` and returns that folder."""
    torch.manual_seed(run.seed)
    scenes = LabelledScenes(ENDLESS, run.seed, encoder.config.image_size, encoder.config.patch_size)
    fit(FigurePretraining(encoder), BatchPlan(scenes, LabelledBatch(processor), run.batch, run.steps, run.seed), run)
    if is_main_process():
        save_weights(encoder.state_dict(), run.out)
    return run.out
