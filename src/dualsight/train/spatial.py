"""Spatial pre-training of a small VGGT on what the simulator knows: depth, points and poses of short walks.

A TINY VGGT has no released weights to start from. It learns what VGGT learns, under the visibility of the memory it
will run with (a frame sees the past only): where the cameras were, by VGGT's own head and loss, and how far things
are. For the distances a linear map of the layer that the agent will read takes the place of the DPT heads::

    loss = pose_loss  +  mean |log d - W h|        d: metres, in 4 x 4 cells of each patch

It is metric, as an agent's steps are; it asks the very features that are used; and it costs next to nothing, where the
DPT heads took two thirds of the time and taught less in it (docs/log.md). Afterwards both heads are dropped and the
aggregator is frozen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from dualsight.pathways.geometry import camera_extrinsics, camera_intrinsics, geometry_target, pose_loss
from dualsight.pathways.geometry_heads import CameraHead
from dualsight.pathways.vggt import VGGT, VGGTConfig, windowed
from dualsight.train.walks import pixels
from dualsight.types import Camera, Pose

CELLS = 4
"""Distances are learnt in so many rows and columns of each patch."""


class SpatialPretraining(nn.Module):
    """A VGGT with its camera head, and linear maps from the features at ``layer`` to distances and points."""

    def __init__(self, config: VGGTConfig, layer: int):
        super().__init__()
        self.vggt = VGGT(replace(config, heads=("camera",)))
        self.layer = layer
        self.distances = nn.Linear(2 * config.embed_dim, CELLS**2)
        self.points = nn.Linear(2 * config.embed_dim, 3 * CELLS**2)

    def forward(self, frames: Tensor, depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> dict[str, Tensor]:
        """``frames`` (B, S, 3, H, W) in 0..1, ``depth`` (B, S, h, w) in metres at ``CELLS`` rows and columns of each
        patch, 0 where nothing is; their cameras (B, S, 3, 4) and (B, S, 3, 3)."""
        layer, last = self.vggt.aggregator(frames, "causal", (self.layer, -1))
        rows = depth.shape[-2] // CELLS
        patches = layer[:, :, self.vggt.config.special :]
        logs = rearrange(self.distances(patches), "b s (h w) (m n) -> b s (h m) (w n)", h=rows, m=CELLS)
        points = rearrange(self.points(patches), "b s (h w) (m n c) -> b s (h m) (w n) c", h=rows, m=CELLS, c=3)
        target = geometry_target(depth, extrinsics, intrinsics)
        error = (logs - depth.clamp(min=0.05).log()).abs()[target.valid]
        poses = cast(CameraHead, self.vggt.camera_head)(last[:, :, 0], windowed("causal", 1))
        losses = {
            "camera": pose_loss(poses, target.pose),
            "distance": error.mean(),
            "points": (points - target.points).abs()[target.valid].mean(),
        }
        with torch.no_grad():
            shift = (poses[-1] - target.pose)[..., :3].norm(dim=-1) * target.scale[:, None]
            losses["shift_error_metres"] = shift[:, 1:].mean()
        return {"loss": losses["camera"] + losses["distance"] + losses["points"]} | losses


class GeometryBatch:
    """Turns walks (``WalkShards``) into batches for :class:`SpatialPretraining`: depth in the middle of each cell."""

    def __init__(self, camera: Camera, patch: int):
        self.camera, self.cell = camera, patch // CELLS
        small = replace(camera, width=camera.width // self.cell, height=camera.height // self.cell)
        self.intrinsics = torch.tensor(camera_intrinsics(small), dtype=torch.float32)

    def __call__(self, walks: list[dict]) -> dict[str, Tensor]:
        frames = torch.stack([pixels(walk["frames"]) for walk in walks])
        middle = slice(self.cell // 2, None, self.cell)
        return {
            "frames": frames,
            "depth": torch.stack([walk["depth"][:, middle, middle].float() for walk in walks]),
            "extrinsics": torch.stack([self._extrinsics(walk["poses"]) for walk in walks]),
            "intrinsics": self.intrinsics.expand(*frames.shape[:2], 3, 3),
        }

    def _extrinsics(self, poses: Tensor) -> Tensor:
        matrices = [camera_extrinsics(Pose(pose[:3], float(pose[3])), self.camera) for pose in poses.double().numpy()]
        return torch.tensor(np.stack(matrices), dtype=torch.float32)
