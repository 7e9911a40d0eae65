"""Pre-training of a small understanding encoder on pictures and their captions: SigLIP's loss (arXiv:2303.15343).

The encoders of the released models come from web-scale pre-training; one that is trained from nothing has nothing to
show to a language model. Every picture of a batch is paired with every caption, each pair a question of its own::

    loss = - mean_i sum_j log sigmoid(y_ij (t x_i . z_j + b)),      y_ii = 1, else -1

x and z: pooled and normalised; t and b: learnt. The text tower and the pooling are thrown away afterwards.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualsight.checkpoints.weights import save_weights
from dualsight.models.janus_processor import JanusProcessor
from dualsight.pathways.encoders import Encoder
from dualsight.train.trainer import BatchPlan, Run, fit, is_main_process
from dualsight.types import Drawing, Examples

START_SCALE, START_BIAS = math.log(10.0), -10.0
"""SigLIP's: at first every pair counts as one that does not belong together, as nearly all of them do not."""


class ContrastivePretraining(nn.Module):
    """An encoder beside a small text tower."""

    def __init__(self, encoder: Encoder, vocabulary: int, width: int = 128, depth: int = 2, longest: int = 96):
        super().__init__()
        self.encoder = encoder
        self.see = nn.Linear(encoder.config.hidden_size, width)
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.randn(longest, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.read = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.scale = nn.Parameter(torch.tensor(START_SCALE))
        self.bias = nn.Parameter(torch.tensor(START_BIAS))

    def forward(self, images: Tensor, ids: Tensor, there: Tensor) -> dict[str, Tensor]:
        """``images`` (B, 3, S, S), captions ``ids`` (B, L) and which of their places are taken."""
        x = F.normalize(self.see(self.encoder(images)).mean(1), dim=-1)
        text = self.read(self.words(ids) + self.places[: ids.shape[1]], src_key_padding_mask=~there)
        z = F.normalize((text * there[..., None]).sum(1) / there.sum(1, keepdim=True), dim=-1)
        scores = self.scale.exp() * x @ z.T + self.bias  # (B, B)
        belongs = 2 * torch.eye(len(scores), device=scores.device) - 1
        found = scores.argmax(1) == torch.arange(len(scores), device=scores.device)
        return {"loss": -F.logsigmoid(belongs * scores).sum(1).mean(), "found": found.float().mean()}


class CaptionBatch:
    """Turns drawings into batches of prepared pictures and caption tokens."""

    def __init__(self, processor: JanusProcessor, longest: int = 96):
        self.processor, self.longest = processor, longest

    def __call__(self, drawings: list[Drawing]) -> dict[str, Tensor]:
        tokenizer = self.processor.tokenizer
        rows = [
            torch.tensor(tokenizer.encode(drawing.prompt, add_special_tokens=False)[: self.longest])
            for drawing in drawings
        ]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {
            "images": torch.stack([self.processor.picture(drawing.image) for drawing in drawings]),
            "ids": ids,
            "there": torch.arange(ids.shape[1]) < lengths[:, None],
        }


def pretrain_encoder(encoder: Encoder, processor: JanusProcessor, drawings: Examples, run: Run) -> Path:
    """Train an encoder in place; writes its weights to ``run.out`` and returns that folder."""
    torch.manual_seed(run.seed)
    model = ContrastivePretraining(encoder, processor.config.text.vocab_size)
    fit(model, BatchPlan(drawings, CaptionBatch(processor), run.batch, run.steps, run.seed), run)
    if is_main_process():
        save_weights(encoder.state_dict(), run.out)
    return run.out
