"""Spatial pre-training of a small VGGT on what the simulator knows: depth, poses and points of short walks.

A TINY VGGT has no released weights to start from. It is trained as VGGT was (camera, depth and point heads, the sum
of their losses), but under the visibility of the memory it will run with: a frame sees the past only. Afterwards the
heads are dropped and the aggregator is frozen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from dualsight.pathways.geometry import camera_extrinsics, camera_intrinsics, geometry_loss, geometry_target
from dualsight.pathways.vggt import VGGT, VGGTConfig
from dualsight.train.walks import pixels
from dualsight.types import Camera, Pose


class SpatialPretraining(nn.Module):
    """A VGGT with all of its heads under VGGT's losses."""

    def __init__(self, config: VGGTConfig):
        super().__init__()
        self.vggt = VGGT(replace(config, heads=("camera", "depth", "point")))

    def forward(self, frames: Tensor, depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> dict[str, Tensor]:
        """``frames`` (B, S, 3, H, W) in 0..1, ``depth`` (B, S, H, W) metres, cameras (B, S, 3, 4) and (B, S, 3, 3)."""
        target = geometry_target(depth, extrinsics, intrinsics)
        predicted = self.vggt(frames, "causal")
        losses = geometry_loss(predicted, target)
        with torch.no_grad():
            error = (predicted.depth - target.depth).abs() / target.depth.clamp(min=1e-3)
            losses["relative_depth_error"] = error[target.valid].mean()
            shift = (predicted.poses[-1] - target.pose)[..., :3].norm(dim=-1) * target.scale[:, None]
            losses["shift_error_metres"] = shift[:, 1:].mean()
        return {"loss": losses["camera"] + losses["depth"] + losses["points"]} | losses


class GeometryBatch:
    """Turns walks (``WalkShards``) into batches for :class:`SpatialPretraining`."""

    def __init__(self, camera: Camera):
        self.camera = camera
        self.intrinsics = torch.tensor(camera_intrinsics(camera), dtype=torch.float32)

    def __call__(self, walks: list[dict]) -> dict[str, Tensor]:
        frames = torch.stack([pixels(walk["frames"]) for walk in walks])
        return {
            "frames": frames,
            "depth": torch.stack([walk["depth"].float() for walk in walks]),
            "extrinsics": torch.stack([self._extrinsics(walk["poses"]) for walk in walks]),
            "intrinsics": self.intrinsics.expand(*frames.shape[:2], 3, 3),
        }

    def _extrinsics(self, poses: Tensor) -> Tensor:
        matrices = [camera_extrinsics(Pose(pose[:3], float(pose[3])), self.camera) for pose in poses.double().numpy()]
        return torch.tensor(np.stack(matrices), dtype=torch.float32)
