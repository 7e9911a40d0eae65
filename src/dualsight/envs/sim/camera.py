"""Where a camera is and how it projects: shared by all renderers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dualsight.types import Camera, Point, Pose


def eye_of(pose: Pose, camera: Camera) -> Point:
    """Where the camera is: ``elevation`` above the agent's feet, (3,) metres."""
    return np.add(pose.position, (0.0, camera.elevation, 0.0))


def world_to_camera(pose: Pose, camera: Camera) -> NDArray[np.float64]:
    """(3, 4) matrix from world points (x, y, z, 1) to metres right of, below and before the camera."""
    sin_h, cos_h = math.sin(pose.heading), math.cos(pose.heading)
    sin_p, cos_p = math.sin(camera.pitch), math.cos(camera.pitch)
    axes = np.array(
        [
            [cos_h, 0.0, -sin_h],  # right
            [-sin_h * sin_p, -cos_p, -cos_h * sin_p],  # down
            [-sin_h * cos_p, sin_p, -cos_h * cos_p],  # forward
        ]
    )
    return np.concatenate([axes, -axes @ eye_of(pose, camera)[:, None]], axis=1)


def intrinsics(camera: Camera) -> NDArray[np.float64]:
    """(3, 3) matrix from (right, down, forward) metres to ``(x z, y z, z)``; pixel centres lie at integer x and y."""
    return np.array(
        [
            [camera.focal, 0.0, (camera.width - 1) / 2],
            [0.0, camera.focal, (camera.height - 1) / 2],
            [0.0, 0.0, 1.0],
        ]
    )
