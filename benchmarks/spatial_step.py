"""One streamed VGGT step with a full memory: ours against a plain reference, in one run, on the same weights.

The reference does what the released JanusVLN does (raw keys kept and concatenated, all of them normalised and rotated
again at every step, eviction by slicing and concatenating, the last pair of blocks computed and thrown away), written
here from that description. Both see the same frames, turn by turn, so that a busy machine slows both; the outputs
must agree. A second part streams on to frame 400 at TINY size and watches the memory of the process.

    python benchmarks/spatial_step.py                          # 224 x 224, 8 layers, 384 wide, float32, CPU
    python benchmarks/spatial_step.py --size 1b --device cuda --dtype bfloat16
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from dualsight.bench.speed import medians, resident_bytes, save_result
from dualsight.memory.window import WindowMemory
from dualsight.nn.attention import Block
from dualsight.nn.rope import Rope, rotate
from dualsight.pathways.vggt import TINY, VGGT_1B, Aggregator, VGGTConfig

SIZES = {
    "small": (VGGTConfig(224, embed_dim=384, depth=8, num_heads=6, dino_depth=8, dino_heads=6), 224, 224),
    "1b": (VGGT_1B, 490, 644),
    "tiny": (TINY, 112, 112),
}
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2}
"""Largest deviation, relative to the largest output. bfloat16 sums in another order round apart."""


class PlainStep:
    """The reference: the same aggregator, stepped as the released code steps it."""

    def __init__(self, aggregator: Aggregator, initial: int, recent: int) -> None:
        self.aggregator, self.initial, self.recent = aggregator, initial, recent
        self.cache: list[list[Tensor] | None] = [None] * aggregator.config.depth

    def __call__(self, frame: Tensor) -> Tensor:
        model = self.aggregator
        order = torch.tensor([[0 if self.cache[0] is None else 1]], device=frame.device)
        x, rope = model.tokenize(frame[:, None], order)
        x, outputs = x[:, 0], []
        for layer in range(model.config.depth):
            local = model.frame_blocks[layer](x, rope)
            x = self.global_block(layer, local, rope)
            outputs.append(torch.cat([local, x], -1))
        self.evict()
        return outputs[-2]

    def global_block(self, layer: int, x: Tensor, rope: Rope) -> Tensor:
        block = self.aggregator.global_blocks[layer]
        assert isinstance(block, Block)
        attention = block.attn
        q, k, v = attention.qkv(block.norm1(x)).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        k, v = k[:, :, None], v[:, :, None]  # (1, heads, frames, tokens, head_dim)
        if (past := self.cache[layer]) is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        self.cache[layer] = [k, v]
        q = rotate(attention.q_norm(q), rope)
        keys = rotate(attention.k_norm(k.flatten(2, 3)), rope.tiled(k.shape[2]))
        seen = F.scaled_dot_product_attention(q, keys, v.flatten(2, 3))
        x = x + block.ls1(attention.proj(seen.transpose(1, 2).flatten(2)))
        return x + block.ls2(block.mlp(block.norm2(x)))

    def evict(self) -> None:
        """Keep the first frames and the most recent ones, the current one among these."""
        if self.cache[0] is None or self.cache[0][0].shape[2] <= self.initial + self.recent:
            return
        self.cache = [
            [torch.cat([x[:, :, : self.initial], x[:, :, -self.recent :]], 2) for x in pair]
            for pair in self.cache
            if pair
        ]


def spread_weights(aggregator: Aggregator) -> None:
    """Random weights under which blocks matter: fresh LayerScales of 0.01 would hide a wrong memory."""
    for name, parameter in aggregator.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.constant_(parameter, 0.5)


def timed(step: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    start = time.perf_counter()
    output = step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, output


def compare(args: argparse.Namespace, console: Console) -> dict:
    """Fill both memories with the same walk, then time ``args.steps`` steps of each, turn by turn."""
    config, height, width = SIZES[args.size]
    dtype, device = getattr(torch, args.dtype), torch.device(args.device)
    torch.manual_seed(0)
    aggregator = Aggregator(replace(config, heads=())).to(device, dtype).eval()
    spread_weights(aggregator)
    sizes = aggregator.memory_shape((-2,), height, width)
    memory = WindowMemory(**sizes, initial=args.initial, recent=args.recent, dtype=dtype, device=device)
    plain = PlainStep(aggregator, args.initial, args.recent)
    full, deviation, scale = args.initial + args.recent + 1, 0.0, 0.0
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    with console.status("") as status:
        for t in range(full + args.steps):
            status.update(f"frame {t} of {full + args.steps}")
            frame = torch.rand(1, 3, height, width, device=device)
            reference, expected = timed(lambda frame=frame: plain(frame), device)
            ours, actual = timed(lambda frame=frame: aggregator.step(frame, memory)[0], device)
            deviation = max(deviation, (actual - expected).abs().max().item())
            scale = max(scale, expected.abs().max().item())
            if t >= full:
                seconds["plain"].append(reference)
                seconds["ours"].append(ours)
    middle = medians(seconds)
    return {
        "size": args.size, "frame": [height, width], "tokens": memory.unit, "initial": args.initial,
        "recent": args.recent, "steps": args.steps, "dtype": args.dtype, "device": args.device,
        "threads": torch.get_num_threads(), "seconds": middle, "fastest": {n: min(v) for n, v in seconds.items()},
        "ratio": middle["plain"] / middle["ours"], "deviation": deviation, "scale": scale,
        "memory_bytes": memory.nbytes,
    }  # fmt: skip


def resident(frames: int) -> dict:
    """Resident bytes of this process while TINY streams: the most between frames 60 and 100, and in the last 40."""
    aggregator = Aggregator(TINY).eval()
    memory = WindowMemory(**aggregator.memory_shape())
    sizes = []
    for _ in range(frames):
        aggregator.step(torch.rand(1, 3, 112, 112), memory)
        sizes.append(resident_bytes())
    early, late = max(sizes[60:100]), max(sizes[-40:])
    return {"frames": frames, "memory_bytes": memory.nbytes, "early": early, "late": late, "growth": late - early}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--initial", type=int, default=8)
    parser.add_argument("--recent", type=int, default=48)
    parser.add_argument("--steps", type=int, default=10, help="timed steps with a full memory")
    parser.add_argument("--frames", type=int, default=400, help="frames of the walk whose memory is watched")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    parser.add_argument("--out", type=Path, default=Path("runs/bench/spatial_step.json"))
    args = parser.parse_args()
    if args.frames < 140:
        parser.error("--frames: memory is compared between frames 60 to 100 and the last 40, so 140 at least")
    torch.set_num_threads(args.threads)
    console = Console()
    with torch.inference_mode():
        result = {"step": compare(args, console), "memory": resident(args.frames)}

    step, memory = result["step"], result["memory"]
    table = Table(
        title=f"One step, {args.initial}+{args.recent} frames of {step['tokens']} tokens, {args.size}, {args.dtype}"
    )
    for column in ("", "median s", "fastest s"):
        table.add_column(column, justify="right")
    for name in ("plain", "ours"):
        table.add_row(name, f"{step['seconds'][name]:.3f}", f"{step['fastest'][name]:.3f}")
    console.print(table)
    print(f"ratio {step['ratio']:.2f}; largest deviation {step['deviation']:.1e}, largest output {step['scale']:.1e}")
    megabytes = (memory["memory_bytes"] / 1e6, memory["growth"] / 1e6)
    print(
        "TINY, frame 60 to {}: memory {:.1f} MB throughout; process grew by {:.1f} MB".format(args.frames, *megabytes)
    )

    save_result(args.out, result)
    print(f"written to {args.out}")
    if step["deviation"] > step["scale"] * TOLERANCE[args.dtype]:
        raise SystemExit("the two do not agree: one of them is wrong")


if __name__ == "__main__":
    main()
