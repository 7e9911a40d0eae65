"""Make `src/dualsight/bench/assets/scene_features.safetensors`: the classifier whose features judge generated scenes.

    python tools/train_scene_features.py        # about two minutes on one idle core

It sees scenes of all combinations, those held out from models too: a judge may know them. Half of the pictures are
blurred or noisy, so that what a decoder of images does to a picture is a small step in its features. The last line
says how often, on fresh clean scenes, a shape, a colour or a pair of both that is there is found, and how often what is
found is there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits

from dualsight.bench.features import WEIGHTS, WORDS, SceneClassifier, to_pixels
from dualsight.data.files import replacing
from dualsight.data.scene_sampling import KIND_LAYOUTS, sample
from dualsight.data.scenes import render
from dualsight.types import Frame


def examples(count: int, seed: int) -> tuple[list[Frame], torch.Tensor]:
    """Scenes, every other with a held-out combination, and which of `WORDS` are true of them, (count, W)."""
    rng = np.random.default_rng((977, seed))
    kinds = tuple(kind for kind in KIND_LAYOUTS if kind != "count")  # the slow one to draw
    frames, labels = [], torch.zeros(count, len(WORDS))
    for n in range(count):
        scene = sample(rng, held_out=kinds[n // 2 % len(kinds)] if n % 2 else None)
        frames.append(render(scene))
        for figure in scene.figures:
            for word in (figure.shape, figure.color, f"{figure.color} {figure.shape}"):
                labels[n, WORDS.index(word)] = 1
    return frames, labels


def worn(frame: Frame, rng: np.random.Generator) -> Frame:
    """Blurred or noisy, half of the time."""
    wear = rng.integers(4)
    if wear == 0:
        return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2))))
    if wear == 1:
        return np.clip(frame + rng.normal(0, rng.uniform(2, 12), frame.shape), 0, 255).astype(np.uint8)
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--seconds", type=float, default=75.0, help="of training")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    frames, labels = examples(options.scenes, 0)
    pixels = to_pixels([worn(frame, rng) for frame in frames])
    model = SceneClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    start, step = time.process_time(), 0
    while (spent := (time.process_time() - start) / options.seconds) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - spent)
        chosen = torch.from_numpy(rng.integers(len(frames), size=options.batch))
        flip = rng.random() < 0.5  # all shapes are symmetric from left to right
        batch = pixels[chosen].flip(-1) if flip else pixels[chosen]
        loss = binary_cross_entropy_with_logits(model(batch), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)

    fresh, truth = examples(1000, 1)
    with torch.no_grad():
        found, there = model.eval()(to_pixels(fresh)) > 0, truth.bool()
    with replacing(options.out) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
    hits = float((found & there).sum())
    print(f"recall={100 * hits / float(there.sum()):.1f} precision={100 * hits / float(found.sum()):.1f}")


if __name__ == "__main__":
    main()
