"""The ``release`` behaviour with image features kept, against encoding every history image again as the release does.

The ViT sees one image at a time, so the features of a past frame cannot change; the release computes them anew at every
step, up to eight times nine images. Both ways see the same frames in turn and must give the same scores.

    python benchmarks/release_step.py
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dualsight.bench.speed import clock, medians, save_result
from dualsight.models.janus_vln import TINY, JanusVLN
from dualsight.models.janus_vln_release import ReleaseMemory, look, new_release_memory, prefill, sampled_history

CONFIG = replace(
    TINY,
    behaviour="release",
    vision=replace(TINY.vision, spatial_merge_size=2, window_size=56),
    vggt=replace(TINY.vggt, patch_size=14),
)
"""TINY with the release's merging of 2x2 patches."""
TOLERANCE = 1e-5


def look_again(model: JanusVLN, frames: list[Tensor], memory: ReleaseMemory) -> list[Tensor]:
    """What ``look`` does, written plainly: only VGGT remembers, all images of the prompt are encoded."""
    geometry = model.merger(model.encode_next(frames[-1][None], memory.spatial))  # (1, N, D)
    history = sampled_history(len(frames) - 1, model.config.num_history)
    images = model.merge_semantic(model.encode_semantic(torch.stack([frames[index] for index in history])))
    assert model.fusion is not None
    return [model.fusion(images, geometry.expand_as(images))]


def prompt(model: JanusVLN, images: int) -> Tensor:
    """A prompt of 100 words and the images."""
    tokens, words = model.config.tokens, torch.arange(7, 107)
    image = [tokens.vision_start, *[tokens.image] * model.config.image_tokens, tokens.vision_end]
    return torch.cat([words[:30], torch.tensor(image * images), words[30:]])


@torch.no_grad()
def compare(model: JanusVLN, steps: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of the steps of both, and the largest difference between their scores."""
    size = (model.config.image_height, model.config.image_width)
    ours, plain = (new_release_memory(model, *size) for _ in range(2))
    frames: list[Tensor] = []
    seconds: dict[str, list[float]] = {"encoded again": [], "kept": []}
    deviation = 0.0
    for _ in range(steps):
        frames.append(torch.rand(3, *size))
        scores = []
        for name in seconds:
            start = clock()
            images = look(model, frames[-1][None], ours) if name == "kept" else look_again(model, frames, plain)
            read = prefill(model, [prompt(model, len(images[0]))], images, ours.grid)
            scores.append(model.lm_head(read.last))
            seconds[name].append(clock() - start)
        deviation = max(deviation, (scores[0] - scores[1]).abs().max().item())
    return seconds, deviation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=70)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/release_step.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    console = Console()
    with console.status("walking"):
        seconds, deviation = compare(JanusVLN(CONFIG).eval(), args.steps)
    full = CONFIG.num_history + 1  # from here on every prompt holds nine images
    middle = medians({name: values[full:] for name, values in seconds.items()})
    ratio = middle["encoded again"] / middle["kept"]

    table = Table(title=f"One step in release behaviour, {full} images a prompt, CPU time")
    for column in ("history images", "median ms"):
        table.add_column(column, justify="right")
    for name, value in middle.items():
        table.add_row(name, f"{1000 * value:.2f}")
    console.print(table)
    print(f"ratio {ratio:.2f}; largest deviation of scores {deviation:.1e}")
    save_result(args.out, {"steps": args.steps, "seconds": middle, "ratio": ratio, "deviation": deviation})
    print(f"written to {args.out}")
    if deviation > TOLERANCE:
        raise SystemExit("the two do not agree: one of them is wrong")


if __name__ == "__main__":
    main()
