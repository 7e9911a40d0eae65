"""What VGGT says about geometry: where its cameras were, how far each pixel is, and where it lies in space.

The camera head refines a pose encoding in four rounds. The dense heads are DPTs (arXiv:2103.13413): the features of
four layers become a pyramid of maps, fused from coarse to fine. An agent needs neither; they are how VGGT is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualsight.nn.attention import Attend, Block, Mlp, attend_all

POSE_DIM = 9
"""A pose encoding: translation (3), rotation quaternion xyzw (4), vertical and horizontal field of view (2)."""


class CameraHead(nn.Module):
    """Pose encodings from camera tokens, by rounds of refinement.

    Each round sees the estimate of the one before through adaptive LayerNorm (shift, scale and gate, as in DiT).
    """

    def __init__(self, dim: int, depth: int = 4, heads: int = 16) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(dim)
        self.trunk = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_DIM))
        self.embed_pose = nn.Linear(POSE_DIM, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.adaln_norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.pose_branch = Mlp(dim, dim // 2, POSE_DIM)
        nn.init.constant_(self.pose_branch.fc2.bias[7:], 0.25)  # below zero a field of view would get no gradient

    def forward(self, tokens: Tensor, attend: Attend = attend_all, rounds: int = 4) -> list[Tensor]:
        """Camera tokens of the last layer (B, S, dim) to one estimate (B, S, 9) per round, the last being the best.

        ``attend`` says which frames a frame may learn from (one token each); all of them by default.
        """
        tokens = self.token_norm(tokens)
        raw = self.empty_pose_tokens.expand(*tokens.shape[:2], -1)
        estimates = []
        for turn in range(rounds):
            # No gradient from one round into the estimate of the one before: each is supervised by itself.
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(raw.detach() if turn else raw)).chunk(3, -1)
            x = tokens + gate * (self.adaln_norm(tokens) * (1 + scale) + shift)
            for block in self.trunk:
                x = block(x, attend=attend)
            change = self.pose_branch(self.trunk_norm(x))
            raw = raw.detach() + change if turn else change
            estimates.append(torch.cat([raw[..., :7], F.relu(raw[..., 7:])], -1))  # a field of view is not negative
        return estimates


class ResidualConv(nn.Module):
    """Two 3x3 convolutions around a skip. The skip carries the rectified input, as in the released weights."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return x + self.conv2(F.relu(self.conv1(x)))


class Fusion(nn.Module):
    """Joins a coarse map with a finer one and doubles it to the finer one's successor."""

    def __init__(self, dim: int, joins: bool) -> None:
        super().__init__()
        if joins:
            self.resConfUnit1 = ResidualConv(dim)
        self.resConfUnit2 = ResidualConv(dim)
        self.out_conv = nn.Conv2d(dim, dim, 1)

    def forward(self, coarse: Tensor, fine: Tensor | None, size: Sequence[int]) -> Tensor:
        """Maps (B, dim, h, w) to (B, dim, *size)."""
        if fine is not None:
            coarse = coarse + self.resConfUnit1(fine)
        return self.out_conv(resized(self.resConfUnit2(coarse), size))


class Scratch(nn.Module):
    """The part of a DPT behind its pyramid (named as in the released weights): fuses it from coarse to fine."""

    def __init__(self, features: int, channels: Sequence[int], out: int) -> None:
        super().__init__()
        self.levels = len(channels)
        for level, width in enumerate(channels, start=1):
            self.add_module(f"layer{level}_rn", nn.Conv2d(width, features, 3, padding=1, bias=False))
            self.add_module(f"refinenet{level}", Fusion(features, joins=level < self.levels))
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, out, 1))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Maps from fine to coarse, (B, channels, h, w), to one with twice the finest sides, (B, features / 2, ...)."""
        maps = [self.get_submodule(f"layer{level}_rn")(x) for level, x in enumerate(pyramid, start=1)]
        sizes = [[2 * side for side in maps[0].shape[-2:]], *(x.shape[-2:] for x in maps)]
        x = self.get_submodule(f"refinenet{self.levels}")(maps[-1], None, sizes[self.levels - 1])
        for level in range(self.levels - 1, 0, -1):
            x = self.get_submodule(f"refinenet{level}")(x, maps[level - 1], sizes[level - 1])
        return self.output_conv1(x)


class DPTHead(nn.Module):
    """A dense map and its confidence from the features of four layers.

    ``activation``: ``"exp"`` for depth (always positive), ``"inv_log"`` for points (``sign(y) (e^|y| - 1)``).
    """

    def __init__(
        self, dim: int, channels_out: int, patch: int, features: int, channels: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        self.patch, self.activation = patch, activation
        self.norm = nn.LayerNorm(dim)
        self.projects = nn.ModuleList(nn.Conv2d(dim, width, 1) for width in channels)
        a, b, _, d = channels
        self.resize_layers = nn.ModuleList([
            nn.ConvTranspose2d(a, a, 4, stride=4),
            nn.ConvTranspose2d(b, b, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(d, d, 3, stride=2, padding=1),
        ])  # fmt: skip
        self.scratch = Scratch(features, channels, channels_out + 1)

    def forward(self, features: Sequence[Tensor], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Four features (B, S, N, dim) to values (B, S, H, W, C) and their confidence (B, S, H, W), above one."""
        rows, columns = height // self.patch, width // self.patch
        pyramid = []
        for feature, project, resize in zip(features, self.projects, self.resize_layers, strict=True):
            patches = self.norm(feature[:, :, -rows * columns :]).flatten(0, 1)  # (B S, rows * columns, dim)
            x = project(patches.transpose(1, 2).unflatten(2, (rows, columns)))
            pyramid.append(resize(with_place(x, width / height)))
        x = with_place(resized(self.scratch(pyramid), (height, width)), width / height)
        x = self.scratch.output_conv2(x).permute(0, 2, 3, 1).unflatten(0, features[0].shape[:2])
        raw, confidence = x[..., :-1], 1 + x[..., -1].exp()
        values = raw.exp() if self.activation == "exp" else raw.sign() * torch.expm1(raw.abs())
        return values, confidence


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corner pixels on corner pixels."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def with_place(x: Tensor, aspect: float, strength: float = 0.1) -> Tensor:
    """Add to a map (B, C, h, w) a tenth of the sine-cosine embedding of where each cell lies in the image."""
    place = place_embedding(x.shape[1], x.shape[2], x.shape[3], aspect, x.device)
    return x + strength * place.to(x.dtype)


@lru_cache(maxsize=64)
def place_embedding(channels: int, rows: int, columns: int, aspect: float, device: torch.device) -> Tensor:
    """``(channels, rows, columns)``: the first half of the channels embeds u (along a row), the second half v.

    The image spans a rectangle of that aspect (width over height) with a half diagonal of one; u and v are the cell
    centres in it. A coordinate p becomes sin and cos of ``p * 100 ** (-i / n)``, n = channels / 4.
    """
    with torch.inference_mode(False), torch.no_grad():
        diagonal = math.hypot(aspect, 1.0)
        spans = (aspect / diagonal * (columns - 1) / columns, 1 / diagonal * (rows - 1) / rows)
        u, v = (torch.linspace(-s, s, n, dtype=torch.float64) for s, n in zip(spans, (columns, rows), strict=True))
        quarter = channels // 4
        frequency = 100.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
        waves = [torch.cat([(p[:, None] * frequency).sin(), (p[:, None] * frequency).cos()], 1).T for p in (u, v)]
        across = waves[0][:, None, :].expand(-1, rows, -1)
        down = waves[1][:, :, None].expand(-1, -1, columns)
        return torch.cat([across, down]).float().to(device)
