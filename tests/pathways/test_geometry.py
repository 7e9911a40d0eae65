import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from dualsight.pathways.geometry import (
    Geometry,
    camera_extrinsics,
    camera_intrinsics,
    decode_pose,
    dense_loss,
    encode_pose,
    geometry_loss,
    geometry_target,
    pose_loss,
    quaternion_to_rotation,
    rotation_to_quaternion,
    unproject,
)
from dualsight.pathways.vggt import VGGT, VGGTConfig
from dualsight.types import Camera, Pose

EYE = torch.eye(3, 4)


def test_quaternions_equal_scipy_half_turns_included():
    rotations = Rotation.random(200, random_state=0)
    turns = Rotation.from_rotvec([[math.pi, 0, 0], [0, math.pi, 0], [0, 0, math.pi], [0, 0, 0]])
    for some in (rotations, turns):
        ours = rotation_to_quaternion(torch.from_numpy(some.as_matrix()))
        torch.testing.assert_close(quaternion_to_rotation(ours), torch.from_numpy(some.as_matrix()))
        expected = torch.from_numpy(some.as_quat())
        assert ((ours * expected).sum(-1).abs() - 1).abs().max() < 1e-9 and (ours[:, 3] >= 0).all()


def test_a_pose_encoding_by_hand_and_back():
    """A camera at (0, 0, 2) that looks along -X of the world, 90 degrees wide and half as high."""
    rotation = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    extrinsics = torch.cat([rotation, -rotation @ torch.tensor([[0.0], [0], [2]])], 1)
    intrinsics = torch.tensor([[50.0, 0, 50], [0, 50, 25], [0, 0, 1]])
    encoding = encode_pose(extrinsics, intrinsics, height=50, width=100)
    half = math.sqrt(0.5)
    expected = [-2, 0, 0, 0, half, 0, half, 2 * math.atan(0.5), math.pi / 2]
    torch.testing.assert_close(encoding, torch.tensor(expected))
    for back, original in zip(decode_pose(encoding, 50, 100), (extrinsics, intrinsics), strict=True):
        torch.testing.assert_close(back, original, atol=1e-5, rtol=0)


def test_an_agents_camera_by_hand():
    """Turned left by 90 degrees an agent looks along -X: what is ahead has depth, what is above is up (-y)."""
    extrinsics = camera_extrinsics(Pose(np.array([1.0, 0, 2]), math.pi / 2), Camera(elevation=1.5))
    for point, local in [((-4, 1.5, 2), (0, 0, 5)), ((-4, 2.5, 2), (0, -1, 5)), ((-4, 1.5, 1), (1, 0, 5))]:
        np.testing.assert_allclose(extrinsics @ [*point, 1], local, atol=1e-12)
    up = camera_extrinsics(Pose(np.zeros(3), 0.0), Camera(elevation=0.0, pitch=math.radians(30)))
    np.testing.assert_allclose(up @ [0, math.sin(math.pi / 6), -math.cos(math.pi / 6), 1], [0, 0, 1], atol=1e-12)
    assert np.linalg.det(up[:, :3]) == pytest.approx(1)


def test_pixels_lie_where_their_centres_project():
    camera = Camera(width=2, height=2, hfov=90)
    points = unproject(torch.full((2, 2), 4.0), EYE, torch.from_numpy(camera_intrinsics(camera)).float())
    expected = [[[-2, -2, 4], [2, -2, 4]], [[-2, 2, 4], [2, 2, 4]]]
    assert points.tolist() == expected


def test_targets_do_not_depend_on_where_the_walk_began_and_carry_no_metres():
    depth = torch.rand(1, 3, 4, 6) + 1
    depth[0, 1, 2, 3] = 0
    depth[0, 2, 0, 0] = torch.nan
    camera = Camera(width=6, height=4)
    intrinsics = torch.from_numpy(camera_intrinsics(camera)).float().expand(1, 3, 3, 3)

    def walk(x, heading, scale):
        ahead = scale * Pose(np.zeros(3), heading).forward
        poses = [Pose(np.array([x, 0, 0]) + i * ahead, heading + 0.3 * i) for i in range(3)]
        extrinsics = np.stack([camera_extrinsics(pose, Camera(elevation=scale)) for pose in poses])
        return geometry_target(depth * scale, torch.from_numpy(extrinsics).float()[None], intrinsics)

    here, there = walk(0.0, 0.0, 1.0), walk(7.0, 2.0, 3.0)
    for name in ("pose", "depth", "points", "valid"):
        torch.testing.assert_close(getattr(here, name), getattr(there, name), atol=1e-5, rtol=0)
    torch.testing.assert_close(there.scale, 3 * here.scale)
    torch.testing.assert_close(here.pose[0, 0, :7], torch.tensor([0.0, 0, 0, 0, 0, 0, 1]))
    assert here.points[here.valid].norm(dim=-1).mean() == pytest.approx(1, rel=1e-5)
    assert here.valid.sum() == 3 * 24 - 2 and here.depth.isfinite().all()


def test_a_walk_that_sees_nothing_has_finite_targets_and_no_loss():
    target = geometry_target(torch.zeros(1, 2, 4, 4), EYE.expand(1, 2, 3, 4), torch.eye(3).expand(1, 2, 3, 3))
    ones = torch.ones(1, 2, 4, 4)
    predicted = Geometry([target.pose], ones, ones, ones[..., None].expand(-1, -1, -1, -1, 3), ones)
    assert {name: float(loss) for name, loss in geometry_loss(predicted, target).items()} == {
        "camera": 0.0, "depth": 0.0, "points": 0.0,
    }  # fmt: skip


def test_pose_loss_by_hand():
    """Beyond beta = 0.1 it is |e| - 0.05: 0.3 off costs 0.25; within, e^2 / 0.2: 0.1 off costs 0.05."""
    target = torch.zeros(1, 1, 9)
    early, late = target + 0.3, target + 0.1
    expected = (0.05 * 2.5 + 0.6 * 0.25 * 2.5) / 2
    assert pose_loss([early, late], target).item() == pytest.approx(expected)


def test_dense_loss_by_hand():
    """Two pixels side by side, off by 0 and 1, confidence 1 and e: e / 2 - 0.2 / 2 and a step of 1 times e."""
    target, values = torch.zeros(1, 1, 1, 2, 1), torch.tensor([0.0, 1.0]).view(1, 1, 1, 2, 1)
    confidence = torch.tensor([1.0, math.e]).view(1, 1, 1, 2)
    valid = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    assert dense_loss(values, confidence, target, valid).item() == pytest.approx(math.e / 2 - 0.1 + math.e)
    valid[..., 1] = False
    assert dense_loss(values, confidence, target, valid).item() == 0


def test_the_best_confidence_is_alpha_over_the_error():
    """Where the error is even, c |e| - alpha log c is least at c = alpha / |e|."""
    target, valid = torch.zeros(1, 1, 2, 2, 1), torch.ones(1, 1, 2, 2, dtype=torch.bool)
    confidence = torch.full((1, 1, 2, 2), 0.2 / 0.05, requires_grad=True)
    dense_loss(target + 0.05, confidence, target, valid).backward()
    assert confidence.grad is not None and confidence.grad.abs().max() < 1e-6


def test_gradients_pass_masked_and_missing_pixels():
    target, valid = torch.zeros(1, 1, 3, 3, 2, dtype=torch.float64), torch.rand(1, 1, 3, 3) > 0.3
    values = torch.randn(1, 1, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    confidence = (1 + torch.rand(1, 1, 3, 3, dtype=torch.float64)).requires_grad_()
    assert gradcheck(lambda v, c: dense_loss(v, c, target, valid), (values, confidence))


def test_a_small_vggt_learns_the_geometry_of_one_walk():
    """Depth is painted into the image, so that there is something to see; poses step forward and turn."""
    torch.manual_seed(0)
    config = VGGTConfig(
        image_size=14, patch_size=7, embed_dim=32, depth=2, num_heads=2, dino_depth=1, dino_heads=2, layer_scale=1.0,
        heads=("camera", "point", "depth"), camera_depth=1, camera_heads=2, dpt_features=16, dpt_channels=(8, 8, 8, 8),
        dpt_layers=(0, 0, 1, 1),
    )  # fmt: skip
    depth = torch.nn.functional.interpolate(torch.rand(1, 2, 3, 3), (14, 14), mode="bilinear") + 1
    camera = Camera(width=14, height=14)
    poses = [Pose(np.array([0.0, 0, -0.3 * i]), 0.2 * i) for i in range(2)]
    extrinsics = torch.tensor(np.stack([camera_extrinsics(pose, camera) for pose in poses])).float()[None]
    intrinsics = torch.tensor(camera_intrinsics(camera)).float().expand(1, 2, 3, 3)
    target = geometry_target(depth, extrinsics, intrinsics)
    frames = torch.stack([depth - 1, torch.rand(1, 2, 14, 14), torch.rand(1, 2, 14, 14)], 2)

    model = VGGT(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 120)
    for _ in range(120):
        losses = geometry_loss(geometry := model(frames), target)
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        slower.step()
    assert geometry.depth is not None and geometry.points is not None
    assert ((geometry.depth - target.depth).abs() / target.depth).mean() < 0.1
    assert (geometry.points - target.points).norm(dim=-1).mean() < 0.15
    assert (geometry.poses[-1] - target.pose).abs().max() < 0.1
