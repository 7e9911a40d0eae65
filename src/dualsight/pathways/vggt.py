"""VGGT (arXiv:2503.11651): what a walk looks like in three dimensions, from RGB alone.

Each frame becomes one camera token, four register tokens and its patches, and passes through pairs of blocks: a
*frame* block in which a frame sees itself, and a *global* block in which it sees other frames. Which other frames is
the whole difference between the three ways to run it:

- offline (``"bidirectional"``): all of them, as VGGT was published;
- in training (``"causal"`` or a :class:`Window`): the past, all steps of a walk in one pass;
- streaming (:meth:`Aggregator.step`): the past as a memory of keys and values, one frame at a time.

Positions are spatial only (a RoPE over rows and columns, the same in every frame), so a finished key never changes:
what a step stores is what every later step attends to, and the streamed run equals the training pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualsight.nn.attention import Attend, Block, attend_all
from dualsight.nn.memory import UnitMemory
from dualsight.nn.rope import Rope, grid_rope
from dualsight.pathways.dino import DinoPatchEmbed
from dualsight.pathways.geometry import Geometry
from dualsight.pathways.geometry_heads import CameraHead, DPTHead

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VGGTConfig:
    """Sizes of a VGGT. ``image_size`` is what the position embedding was learned at; any multiple of the patch runs."""

    image_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    """Pairs of a frame block and a global block."""
    num_heads: int = 16
    dino_depth: int = 24
    dino_heads: int = 16
    num_register_tokens: int = 4
    mlp_ratio: float = 4.0
    layer_scale: float = 0.01
    rope_base: float = 100.0
    heads: tuple[str, ...] = ()
    """Which of ``"camera"``, ``"point"``, ``"depth"`` to build; an agent needs none of them."""
    camera_depth: int = 4
    camera_heads: int = 16
    dpt_features: int = 256
    dpt_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    dpt_layers: tuple[int, int, int, int] = (4, 11, 17, 23)
    """The layers a dense head reads."""

    def __post_init__(self) -> None:
        if unknown := set(self.heads) - {"camera", "point", "depth"}:
            raise ValueError(f"unknown VGGT heads {sorted(unknown)}: there are camera, point and depth")

    @property
    def special(self) -> int:
        """Tokens of a frame before its patches: the camera token and the registers."""
        return 1 + self.num_register_tokens

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads

    def tokens(self, height: int, width: int) -> int:
        """Tokens per frame of that many pixels: the unit of a memory."""
        return self.special + (height // self.patch_size) * (width // self.patch_size)

    def layer(self, index: int) -> int:
        """A layer index, counted from the end if negative, as a plain one. Raises IndexError beyond the depth."""
        if not -self.depth <= index < self.depth:
            raise IndexError(f"layer {index} of a VGGT with {self.depth} layers")
        return index % self.depth


VGGT_1B = VGGTConfig(heads=("camera", "point", "depth"))
TINY = VGGTConfig(
    image_size=112,
    embed_dim=96,
    depth=4,
    num_heads=3,
    dino_depth=3,
    dino_heads=3,
    layer_scale=1.0,  # trained from nothing, where a branch that starts at 1 % learns slowly
    camera_depth=2,
    camera_heads=6,
    dpt_features=32,
    dpt_channels=(24, 32, 48, 48),
    dpt_layers=(0, 1, 2, 3),
)


@dataclass(frozen=True)
class Window:
    """What frame ``t`` sees: the first ``initial`` frames, the ``recent`` frames before it, and itself."""

    initial: int = 8
    recent: int = 48

    def visible(self, frame: int) -> list[slice]:
        """The frames that ``frame`` sees, as ascending slices that do not overlap."""
        start = frame - self.recent
        return [slice(0, frame + 1)] if start <= self.initial else [slice(0, self.initial), slice(start, frame + 1)]


Visibility = Literal["causal", "bidirectional"] | Window


class Aggregator(nn.Module):
    """The trunk of VGGT: frames in, features of chosen layers out, ``(..., tokens, 2 * embed_dim)``.

    A layer's feature joins its frame block's output and its global block's output. Token 0 of a frame is the camera
    token, then come the registers, then the patches row by row.
    """

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        dim, registers = config.embed_dim, config.num_register_tokens
        self.patch_embed = DinoPatchEmbed(
            config.image_size, config.patch_size, dim, config.dino_depth, config.dino_heads
        )
        # Index 0 marks the first frame of a session, the reference of all geometry; index 1 every later one.
        self.camera_token = nn.Parameter(torch.randn(1, 2, 1, dim) * 1e-6)
        self.register_token = nn.Parameter(torch.randn(1, 2, registers, dim) * 1e-6)
        self.frame_blocks = nn.ModuleList(self._block() for _ in range(config.depth))
        self.global_blocks = nn.ModuleList(self._block() for _ in range(config.depth))

    def _block(self) -> Block:
        c = self.config
        return Block(c.embed_dim, c.num_heads, mlp_ratio=c.mlp_ratio, layer_scale=c.layer_scale, qk_norm=True)

    def forward(
        self, frames: Tensor, visibility: Visibility = "causal", layers: Sequence[int] | None = None
    ) -> list[Tensor]:
        """Whole walks in one pass: ``frames`` (B, S, 3, H, W) in [0, 1] to one (B, S, N, 2D) per layer asked for.

        ``layers`` defaults to all; negative ones count from the last. Under ``"causal"`` or a :class:`Window`, what
        comes after a walk's end (padding) cannot reach it, so walks of different length need no mask.
        """
        order = torch.ones(frames.shape[:2], dtype=torch.long, device=frames.device)
        order[:, 0] = 0
        tokens, rope = self.tokenize(frames, order)
        attend = attend_all if visibility == "bidirectional" else windowed(visibility, tokens.shape[2])
        return self._alternate(tokens, rope, range(self.config.depth) if layers is None else layers, lambda _: attend)

    def step(
        self, frame: Tensor, memory: UnitMemory, layers: Sequence[int] = (-2,), rows: Sequence[int] | None = None
    ) -> list[Tensor]:
        """One more frame of every session: ``frame`` (B, 3, H, W) in [0, 1] to one (B, N, 2D) per layer asked for.

        Advances ``memory`` by one unit, in those ``rows`` that take part (default: all); what comes out for the others
        means nothing. Sessions of a batch may be at different steps. Nothing is computed beyond
        the last layer asked for, so the memory needs exactly that many layers (:meth:`memory_shape`).
        """
        order = torch.tensor([[min(count, 1)] for count in memory.counts], device=frame.device)
        if len(order) != len(frame):
            raise ValueError(f"{len(frame)} frames for a memory of {len(order)} sessions")
        tokens, rope = self.tokenize(frame[:, None], order)
        if tokens.shape[2] != memory.unit:
            raise ValueError(
                f"a frame of {tuple(frame.shape[2:])} has {tokens.shape[2]} tokens; "
                f"the memory was made for {memory.unit}"
            )

        def remember(layer: int) -> Attend:
            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys, values, mask = memory.append(layer, k, v)
                return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)

            return attend

        features = self._alternate(tokens, rope, layers, remember)
        memory.commit(rows)
        return [feature[:, 0] for feature in features]

    def memory_shape(self, layers: Sequence[int] = (-2,), height: int = 0, width: int = 0) -> dict[str, Any]:
        """What a memory for :meth:`step` must be made for: ``WindowMemory(**aggregator.memory_shape(), batch=4)``.

        ``layers`` are those that the steps will ask for; frames are ``image_size`` squares unless said otherwise.
        """
        c = self.config
        depth = 1 + max(c.layer(index) for index in layers)
        unit = c.tokens(height or c.image_size, width or c.image_size)
        return {"layers": depth, "heads": c.num_heads, "head_dim": c.head_dim, "unit": unit}

    def tokenize(self, frames: Tensor, order: Tensor) -> tuple[Tensor, Rope]:
        """Frames (B, S, 3, H, W) as tokens (B, S, N, D), with the rotation of one frame's tokens.

        ``order`` (B, S) holds 0 for the first frame of a session and 1 for any other.
        """
        height, width = frames.shape[-2:]
        patch = self.config.patch_size
        if frames.ndim != 5 or frames.shape[2] != 3 or height % patch or width % patch:
            raise ValueError(
                f"expected RGB frames (B, S, 3, H, W) with sides in multiples of {patch}, got {tuple(frames.shape)}"
            )
        mean, std = (frames.new_tensor(x).view(3, 1, 1) for x in (IMAGE_MEAN, IMAGE_STD))
        images = (frames.flatten(0, 1) - mean) / std
        patches = self.patch_embed(images.to(self.camera_token.dtype)).unflatten(0, frames.shape[:2])
        special = torch.cat([self.camera_token[0], self.register_token[0]], 1)[order]  # (B, S, 1 + registers, D)
        c = self.config
        rope = grid_rope(height // patch, width // patch, c.special, c.head_dim, c.rope_base, frames.device)
        return torch.cat([special, patches], 2), rope

    def _alternate(self, x: Tensor, rope: Rope, layers: Sequence[int], attend: Callable[[int], Attend]) -> list[Tensor]:
        """Run the pairs of blocks up to the last layer wanted; ``attend(layer)`` says what its global block sees."""
        batch, frames, tokens, _ = x.shape
        wanted = [self.config.layer(index) for index in layers]
        walk_rope = rope.tiled(frames) if frames > 1 else rope
        features: dict[int, Tensor] = {}
        for layer in range(max(wanted) + 1):
            local = self.frame_blocks[layer](x.reshape(batch * frames, tokens, -1), rope)
            x = self.global_blocks[layer](local.reshape(batch, frames * tokens, -1), walk_rope, attend(layer))
            x, local = (y.view(batch, frames, tokens, -1) for y in (x, local))
            if layer in wanted:
                features[layer] = torch.cat([local, x], -1)
        return [features[layer] for layer in wanted]


def windowed(visibility: Window | Literal["causal"], tokens: int) -> Attend:
    """Attention in which each frame of ``tokens`` tokens sees what ``visibility`` lets it see.

    Frame by frame over slices of the keys: no mask of (S N)^2 entries, and no work on pairs that are hidden.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        frames = q.shape[2] // tokens
        window = Window(frames, 0) if visibility == "causal" else visibility
        q, k, v = (x.unflatten(2, (frames, tokens)) for x in (q, k, v))  # (B, heads, S, N, head_dim)
        return torch.cat([attend_all(q[:, :, t], _seen(k, window, t), _seen(v, window, t)) for t in range(frames)], 2)

    return attend


def _seen(x: Tensor, window: Window, frame: int) -> Tensor:
    """The tokens of the frames that ``frame`` sees: (B, heads, S, N, head_dim) to (B, heads, K, head_dim)."""
    parts = [x[:, :, seen] for seen in window.visible(frame)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 2)).flatten(2, 3)


class VGGT(nn.Module):
    """The aggregator and those heads that the configuration names; parameters as in ``facebook/VGGT-1B``."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        c = self.config = config
        self.aggregator = Aggregator(c)
        width = 2 * c.embed_dim

        def dense(channels: int, activation: str) -> DPTHead:
            return DPTHead(width, channels, c.patch_size, c.dpt_features, c.dpt_channels, activation)

        self.camera_head = CameraHead(width, c.camera_depth, c.camera_heads) if "camera" in c.heads else None
        self.point_head = dense(3, "inv_log") if "point" in c.heads else None
        self.depth_head = dense(1, "exp") if "depth" in c.heads else None

    def forward(self, frames: Tensor, visibility: Visibility = "causal") -> Geometry:
        """The geometry of walks, ``frames`` (B, S, 3, H, W) in [0, 1], as far as there are heads for it.

        No frame's estimate uses a frame that ``visibility`` hides from it.
        """
        height, width = frames.shape[-2:]
        *dense, last = self.aggregator(frames, visibility, (*self.config.dpt_layers, -1))
        geometry = Geometry()
        if self.camera_head:
            attend = attend_all if visibility == "bidirectional" else windowed(visibility, 1)
            geometry.poses = self.camera_head(last[:, :, 0], attend)
        if self.depth_head:
            depth, geometry.depth_confidence = self.depth_head(dense, height, width)
            geometry.depth = depth[..., 0]
        if self.point_head:
            geometry.points, geometry.points_confidence = self.point_head(dense, height, width)
        return geometry
