"""Features of generated scenes for Frechet distance and diversity: a small classifier that no model was trained with.

It learned which colours are on which shapes in rendered scenes of all combinations (`tools/train_scene_features.py`,
which says what it reached); its weights are shipped. Features are the 64 numbers before the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from dualsight.data.scenes import COLORS, SHAPES
from dualsight.types import Frame

WEIGHTS = Path(__file__).with_name("assets") / "scene_features.safetensors"
SIZE = 64
"""Pixels a side of what it sees; other pictures are resized."""
WORDS = (*SHAPES, *COLORS, *(f"{color} {shape}" for color in COLORS for shape in SHAPES))
"""What it tells: a logit for each shape, each colour, and each colour on each shape."""


class SceneClassifier(nn.Module):
    """Three convolutions, the maximum over quarters of the picture, 64 features, a logit for each of `WORDS`."""

    def __init__(self, widths: tuple[int, int, int] = (32, 48, 96), features: int = 64):
        super().__init__()
        one, two, three = widths
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(3, one, 6, 4, 1), nn.BatchNorm2d(one), nn.ReLU()),
            *(nn.Conv2d(one, two, 3, 1, 1), nn.BatchNorm2d(two), nn.ReLU()),
            *(nn.Conv2d(two, three, 3, 2, 1), nn.BatchNorm2d(three), nn.ReLU()),
            nn.AdaptiveMaxPool2d(2),  # what is anywhere in a quarter counts as much as what fills it
            nn.Flatten(),
        )
        self.project = nn.Linear(4 * three, features)
        self.classify = nn.Linear(features, len(WORDS))

    def features(self, pictures: Tensor) -> Tensor:
        """(B, 3, 64, 64) in [0, 1] -> (B, 64)."""
        return self.project(self.convolutions(2 * pictures - 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, 64, 64) in [0, 1] -> logits (B, len(WORDS))."""
        return self.classify(torch.relu(self.features(pictures)))


def scene_features(frames: Sequence[Frame], batch: int = 128) -> NDArray[np.float64]:
    """The features of pictures, (N, 64)."""
    model = _shipped()
    with torch.no_grad():
        parts = [model.features(to_pixels(frames[i : i + batch])) for i in range(0, len(frames), batch)]
    return torch.cat(parts).double().numpy()


def to_pixels(frames: Sequence[Frame]) -> Tensor:
    """Pictures of any size as (B, 3, 64, 64) in [0, 1]."""
    resized = [
        frame if frame.shape[:2] == (SIZE, SIZE) else np.asarray(Image.fromarray(frame).resize((SIZE, SIZE)))
        for frame in frames
    ]
    return torch.from_numpy(np.stack(resized)).movedim(-1, 1).float() / 255


@cache
def _shipped() -> SceneClassifier:
    model = SceneClassifier()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()
