"""What a model draws while it learns: the same prompts and seeds every few steps, as one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import TrainerCallback

from dualsight.data.files import replacing
from dualsight.inference.assistant import Assistant
from dualsight.models.janus_core import JanusCore
from dualsight.models.janus_processor import JanusProcessor
from dualsight.types import Frame

COLUMNS = 8


def contact_sheet(images: Sequence[Frame], columns: int = COLUMNS, margin: int = 4) -> Image.Image:
    """Images of one size side by side, row by row, on white."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    sheet = Image.new("RGB", (columns * (width + margin) + margin, rows * (height + margin) + margin), "white")
    for index, pixels in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(pixels), (margin + column * (width + margin), margin + row * (height + margin)))
    return sheet


class Samples(TrainerCallback):
    """Writes ``step-000500.png`` every ``every`` steps. What it draws changes nothing of the training."""

    def __init__(self, model: JanusCore, processor: JanusProcessor, prompts: Sequence[str], folder: Path, every: int):
        self.model, self.processor, self.prompts = model, processor, list(prompts)
        self.folder, self.every = folder, every

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every or not state.is_world_process_zero:
            return control
        training, random = self.model.training, torch.get_rng_state()
        self.model.eval()
        images = Assistant(self.model, self.processor).generate_images(self.prompts)
        self.model.train(training)
        torch.set_rng_state(random)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / f"step-{state.global_step:06d}.png") as temporary:
            contact_sheet(images).save(temporary, "png")
        return control
