"""Geometry as VGGT states it: pose encodings, targets from depth and poses, and the losses that train the heads.

Cameras follow OpenCV (x right, y down, z forward; ``x_camera = R x_world + t``). A walk's frame of reference is its
first camera, and its unit of length is the mean distance of its points from there (arXiv:2503.11651, section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dualsight.types import Camera, Pose


@dataclass
class Geometry:
    """What VGGT says of a walk, as far as it has heads for it."""

    poses: list[Tensor] = field(default_factory=list)
    """Pose encodings (B, S, 9), one per round of refinement, the best last."""
    depth: Tensor | None = None
    """(B, S, H, W)."""
    depth_confidence: Tensor | None = None
    points: Tensor | None = None
    """(B, S, H, W, 3), in the frame of the first camera."""
    points_confidence: Tensor | None = None


@dataclass(frozen=True)
class GeometryTarget:
    """What is true of a walk, in its own frame of reference and unit of length."""

    pose: Tensor
    """(B, S, 9)."""
    depth: Tensor
    """(B, S, H, W)."""
    points: Tensor
    """(B, S, H, W, 3)."""
    valid: Tensor
    """(B, S, H, W) boolean: there is something at that pixel."""
    scale: Tensor
    """(B,) metres per unit of length."""


# --- cameras ------------------------------------------------------------------------------------------------------


def camera_extrinsics(pose: Pose, camera: Camera) -> NDArray[np.float64]:
    """World to camera, ``(3, 4)``, of a camera carried by an agent at ``pose``."""
    h, p = pose.heading, camera.pitch
    right = np.array([math.cos(h), 0.0, -math.sin(h)])
    ahead = math.cos(p) * pose.forward + math.sin(p) * np.array([0.0, 1.0, 0.0])
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    eye = pose.position + np.array([0.0, camera.elevation, 0.0])
    return np.column_stack([rotation, -rotation @ eye])


def camera_intrinsics(camera: Camera) -> NDArray[np.float64]:
    """``(3, 3)``, with the principal point in the middle of the image."""
    return np.array([[camera.focal, 0, camera.width / 2], [0, camera.focal, camera.height / 2], [0, 0, 1.0]])


def rotation_to_quaternion(rotation: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) to unit quaternions xyzw (..., 4) with w >= 0.

    Four times the outer product of a quaternion with itself is linear in the matrix; its row with the largest
    diagonal entry, normalised, is the quaternion without loss of precision anywhere.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotation.unbind(-2))
    outer = torch.stack(
        [
            torch.stack([1 + a - e - i, b + d, c + g, h - f], -1),
            torch.stack([b + d, 1 - a + e - i, f + h, c - g], -1),
            torch.stack([c + g, f + h, 1 - a - e + i, d - b], -1),
            torch.stack([h - f, c - g, d - b, 1 + a + e + i], -1),
        ],
        -2,
    )
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    return F.normalize(torch.where(row[..., 3:] < 0, -row, row), dim=-1)


def quaternion_to_rotation(quaternion: Tensor) -> Tensor:
    """Quaternions xyzw (..., 4) of any length to rotation matrices (..., 3, 3)."""
    x, y, z, w = F.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def encode_pose(extrinsics: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Cameras (..., 3, 4) and (..., 3, 3) to pose encodings (..., 9): translation, quaternion, fields of view."""
    vertical = 2 * torch.atan(height / 2 / intrinsics[..., 1, 1])
    horizontal = 2 * torch.atan(width / 2 / intrinsics[..., 0, 0])
    quaternion = rotation_to_quaternion(extrinsics[..., :3])
    return torch.cat([extrinsics[..., 3], quaternion, vertical[..., None], horizontal[..., None]], -1)


def decode_pose(encoding: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pose encodings (..., 9) to extrinsics (..., 3, 4) and intrinsics (..., 3, 3), principal point in the middle."""
    extrinsics = torch.cat([quaternion_to_rotation(encoding[..., 3:7]), encoding[..., :3, None]], -1)
    intrinsics = encoding.new_zeros(*encoding.shape[:-1], 3, 3)
    intrinsics[..., 0, 0] = width / 2 / torch.tan(encoding[..., 8] / 2)
    intrinsics[..., 1, 1] = height / 2 / torch.tan(encoding[..., 7] / 2)
    intrinsics[..., 0, 2], intrinsics[..., 1, 2], intrinsics[..., 2, 2] = width / 2, height / 2, 1.0
    return extrinsics, intrinsics


def unproject(depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> Tensor:
    """Where each pixel lies: depth along the optical axis (..., H, W) to world points (..., H, W, 3).

    A pixel stands for its centre, half a pixel from its corner.
    """
    height, width = depth.shape[-2:]
    u = torch.arange(width, dtype=depth.dtype, device=depth.device) + 0.5
    v = torch.arange(height, dtype=depth.dtype, device=depth.device) + 0.5
    k = intrinsics[..., None, None, :, :]
    x = (u - k[..., 0, 2]) / k[..., 0, 0] * depth
    y = (v[:, None] - k[..., 1, 2]) / k[..., 1, 1] * depth
    local = torch.stack([x, y, depth], -1) - extrinsics[..., None, None, :, 3]
    return torch.einsum("...hwi,...ij->...hwj", local, extrinsics[..., :3])  # R^T (x - t)


def geometry_target(depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> GeometryTarget:
    """Targets from depth (B, S, H, W) in metres, 0 where nothing is, and cameras (B, S, 3, 4) and (B, S, 3, 3)."""
    rotation, shift = extrinsics[..., :3], extrinsics[..., 3:]
    relative = rotation @ rotation[:, :1].transpose(-1, -2)  # R_t R_0^T
    moved = shift - relative @ shift[:, :1]
    points = unproject(depth, torch.cat([relative, moved], -1), intrinsics)
    valid = depth.isfinite() & (depth > 0)
    distance = torch.where(valid, points.norm(dim=-1), 0)
    scale = distance.sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp(min=1)
    scale = torch.where(scale > 0, scale, 1)
    s = scale[:, None, None, None]
    pose = encode_pose(torch.cat([relative, moved / s], -1), intrinsics, *depth.shape[-2:])
    hidden = ~valid
    return GeometryTarget(
        pose,
        (depth / s).masked_fill(hidden, 0),
        (points / s[..., None]).masked_fill(hidden[..., None], 0),
        valid,
        scale,
    )


# --- losses -------------------------------------------------------------------------------------------------------


def pose_loss(estimates: Sequence[Tensor], target: Tensor, decay: float = 0.6, beta: float = 0.1) -> Tensor:
    """Huber loss of pose encodings (B, S, 9) over the rounds of refinement, the last counting fully.

    Scaled to be ``|e| - beta / 2`` beyond ``beta``, so that it weighs against the dense losses as an L1 would.
    The field of view counts half as much as translation and rotation do.
    """
    total = target.new_zeros(())
    for age, estimate in enumerate(reversed(estimates)):
        error = F.smooth_l1_loss(estimate, target, reduction="none", beta=beta)
        parts = error[..., :3].mean() + error[..., 3:7].mean() + 0.5 * error[..., 7:].mean()
        total = total + decay**age * parts
    return total / len(estimates)


def dense_loss(values: Tensor, confidence: Tensor, target: Tensor, valid: Tensor, alpha: float = 0.2) -> Tensor:
    """Regression of a map (B, S, H, W, C) that knows its own uncertainty: ``c |e| + c |grad e| - alpha log c``.

    Being confident ``c`` costs where the error ``e`` is large and pays everywhere. Means are over pixels, and pairs
    of neighbours, that are ``valid`` (B, S, H, W).
    """
    error = (values - target).masked_fill(~valid[..., None], 0)
    loss = _mean(confidence * error.norm(dim=-1) - alpha * confidence.log(), valid)
    for axis in (2, 3):  # down the image, along it
        first, second = (slice(0, -1), slice(1, None))
        both = valid.movedim(axis, 0)[first] & valid.movedim(axis, 0)[second]
        step = error.movedim(axis, 0)[second] - error.movedim(axis, 0)[first]
        loss = loss + _mean(confidence.movedim(axis, 0)[second] * step.abs().sum(-1), both)
    return loss


def geometry_loss(predicted: Geometry, target: GeometryTarget) -> dict[str, Tensor]:
    """The loss of each head that made a prediction: ``"camera"``, ``"depth"``, ``"points"``. VGGT adds them up."""
    losses = {}
    if predicted.poses:
        losses["camera"] = pose_loss(predicted.poses, target.pose)
    if predicted.depth is not None and predicted.depth_confidence is not None:
        depth, truth = predicted.depth[..., None], target.depth[..., None]
        losses["depth"] = dense_loss(depth, predicted.depth_confidence, truth, target.valid)
    if predicted.points is not None and predicted.points_confidence is not None:
        losses["points"] = dense_loss(predicted.points, predicted.points_confidence, target.points, target.valid)
    return losses


def _mean(x: Tensor, where: Tensor) -> Tensor:
    """Mean over the places that count; zero if there are none."""
    return x.masked_fill(~where, 0).sum() / where.sum().clamp(min=1)
