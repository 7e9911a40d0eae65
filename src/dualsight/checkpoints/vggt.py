"""``facebook/VGGT-1B`` and files with its names: the geometry pathway's weights."""

from __future__ import annotations

from pathlib import Path

import torch

from dualsight.checkpoints.weights import WeightFiles, load_weights
from dualsight.pathways.vggt import VGGT

HEADS = ("camera_head.", "point_head.", "depth_head.", "track_head.")


def load_vggt(model: VGGT, path: str | Path, dtype: torch.dtype = torch.float32) -> VGGT:
    """Load weights named as ``facebook/VGGT-1B`` names them, from a folder or one file.

    Heads that ``model`` was not built with are left out (the tracking head always), everything else has to fit.

    Raises:
        CheckpointError: names are missing or unknown, or shapes differ; the error lists them.
    """
    names = model.state_dict()
    unused = [prefix for prefix in HEADS if not any(name.startswith(prefix) for name in names)]
    load_weights(model, WeightFiles(path), dtype, ignore=unused)
    return model
