"""What the frozen encoders see, computed once per trajectory.

Behaviour cloning trains the projectors and the language model; the ViT's blocks and VGGT stay as they are (as in the
paper), so each frame of a data set passes through them once. Features are stored in fp16, one safetensors file per
trajectory, under a folder named after the encoders' weights: other weights never meet stale features.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualsight.data.files import replacing
from dualsight.data.trajectories import Trajectory
from dualsight.models.janus_vln import JanusVLN
from dualsight.models.vln_processor import VLNProcessor

ENCODERS = ("visual.patch_embed.", "visual.blocks.", "vggt.")
"""Parameters that behaviour cloning leaves alone."""


def fingerprint(model: JanusVLN) -> str:
    """Sixteen hex digits that change with any weight of the frozen encoders."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(ENCODERS):
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def encode(model: JanusVLN, processor: VLNProcessor, trajectory: Trajectory) -> dict[str, Tensor]:
    """``semantic`` (T, P, Dv) and ``spatial`` (T, Q, 2D) of every frame of a walk, in fp16."""
    frames = processor.frames(trajectory.frames())
    return {
        "semantic": model.encode_semantic(frames).half(),
        "spatial": model.encode_spatial(frames[None])[0].half(),
    }


class FeatureStore:
    """Features of trajectories: encoded when they are first asked for, read from disk after that."""

    def __init__(self, root: Path, model: JanusVLN, processor: VLNProcessor):
        self.model, self.processor = model, processor
        self.folder = root / fingerprint(model)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """``semantic`` and ``spatial`` of one trajectory, fp16. Its file is complete or absent."""
        path = self.folder / f"{trajectory.id}.safetensors"
        if not path.exists():
            with replacing(path) as temporary:
                save_file(encode(self.model, self.processor, trajectory), temporary)
        return load_file(path)
