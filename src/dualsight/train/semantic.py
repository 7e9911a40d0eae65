"""Semantic pre-training of a small ViT: for every patch, what it shows, which colour it has, which room it stands in.

Qwen2.5-VL's ViT comes from web-scale pre-training; a TINY one that is trained from scratch has nothing to bring to an
agent. This stands in for it: linear probes read the three labels off each patch token, their cross-entropies train the
ViT, and the probes are thrown away. Afterwards the ViT's blocks are frozen, as in the release.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dualsight.models.janus_vln import JanusVLN
from dualsight.train.walks import WalkShards, pixels

FIELDS = ("category", "color", "room")
UNLABELLED = -100
"""Cross-entropy's own mark for targets to leave out: what has no colour word, or belongs to no room."""


class SemanticPretraining(nn.Module):
    """The ViT of ``model`` under one linear probe per field of ``words``."""

    def __init__(self, model: JanusVLN, words: dict[str, list[str]]):
        super().__init__()
        self.visual = model.visual
        self.encode = model.encode_semantic
        width = model.config.vision.hidden_size
        self.probes = nn.ModuleDict({field: nn.Linear(width, len(words[field])) for field in FIELDS})

    def forward(self, frames: Tensor, **labels: Tensor) -> dict[str, Tensor]:
        """``frames`` (B, 3, H, W) in 0..1, each label (B, P) in the order of the ViT's tokens -> the losses."""
        features = self.encode(frames)  # (B, P, D)
        outputs = {}
        for field in FIELDS:
            logits, target = self.probes[field](features).flatten(0, 1), labels[field].flatten()
            outputs[field] = F.cross_entropy(logits, target, ignore_index=UNLABELLED)
            known = target != UNLABELLED
            outputs[f"{field}_accuracy"] = (logits.argmax(-1) == target)[known].float().mean()
        return {"loss": torch.stack([outputs[field] for field in FIELDS]).sum()} | outputs


class PatchLabels:
    """Turns walks into batches: frames in 0..1 and a class index per patch and field, in the ViT's token order."""

    def __init__(self, shards: WalkShards, merge: int):
        self.words = {field: shards.words(field) for field in FIELDS}
        self.merge = merge
        self.tables = [
            {
                field: torch.tensor(
                    [self.words[field].index(i[field]) if i[field] else UNLABELLED for i in table], dtype=torch.long
                )
                for field in FIELDS
            }
            for table in shards.instances
        ]

    def __call__(self, walks: list[dict]) -> dict[str, Tensor]:
        batch = {"frames": torch.cat([pixels(walk["frames"]) for walk in walks])}
        for field in FIELDS:
            labels = torch.cat([self.tables[walk["shard"]][field][walk["patches"].long()] for walk in walks])
            # The ViT groups the m x m patches that will be merged into one token.
            batch[field] = rearrange(labels, "b (h m) (w n) -> b (h w m n)", m=self.merge, n=self.merge)
        return batch
