"""A Janus with its processor: what most users want, in four lines.

model = Assistant.from_pretrained("checkpoints/janus_tiny")
image, = model.generate_images(["a red circle left of a blue star"], seeds=[7])
model.answer(image, "What is left of the star?")
model.chat([Conversation(...), Conversation(...)])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch

from dualsight.checkpoints.janus import from_pretrained
from dualsight.inference.best_of import best_of, candidate_seeds, check, shows
from dualsight.inference.flow import draw_by_flow
from dualsight.inference.image import develop, draw, seeds_of
from dualsight.inference.text import answer, stream
from dualsight.models.janus import Janus
from dualsight.models.janus_core import JanusCore
from dualsight.models.janus_latent import LatentJanus
from dualsight.models.janus_processor import JanusProcessor
from dualsight.types import IMAGE_MARK, Conversation, Frame, Picture, Turn

OF_TOKENS, OF_FLOW = {"temperature", "top_k", "compile"}, {"steps", "solver"}
"""Settings that only one way of making images has."""


class Assistant:
    """Answers about images and makes images. Holds no state: each call is a function of its arguments."""

    def __init__(self, model: JanusCore, processor: JanusProcessor):
        self.model, self.processor = model, processor

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | str = torch.float32
    ) -> Assistant:
        """Load a folder of ours, of the official release or of transformers.

        Raises:
            CheckpointError: it is none of these.
            ValueError: there is no such device on this machine, or no such dtype.
        """
        precision = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(precision, torch.dtype):
            raise ValueError(f"no dtype {dtype!r}; expected float32, bfloat16 or float16")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # what torch raises depends on how it was built
            raise ValueError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
        return cls(*from_pretrained(folder, device, precision))

    def generate_images(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int] | None = None,
        per_prompt: int = 1,
        guidance: float | None = None,
        candidates: int = 1,
        **settings,
    ) -> list[Frame]:
        """Images of many prompts in one batch; see ``image.draw`` (temperature, top_k) and ``flow.draw_by_flow``
        (steps, solver) for the settings of the two ways of making them. ``guidance`` None is each way's own.

        Args:
            candidates: draw so many for each image, and keep the one that the model itself finds most like its prompt
                (``best_of``); partial images are those of all candidates.

        Raises:
            ValueError: a setting is of the other way, or there is no candidate; and what the two ways and
                ``best_of.shows`` raise.
        """
        if candidates < 1:
            raise ValueError(f"candidates is {candidates}; expected at least 1, which is drawn and kept")
        if candidates > 1:
            check(self.model, self.processor, prompts)  # before hours of drawing
            seeds = [s for seed in seeds_of(prompts, per_prompt, seeds) for s in candidate_seeds(seed, candidates)]
            frames = self.generate_images(prompts, seeds, per_prompt * candidates, guidance, **settings)
            wanted = [prompt for prompt in prompts for _ in range(per_prompt)]
            return best_of(self.model, self.processor, frames, wanted, candidates)
        if guidance is not None:
            settings["guidance"] = guidance
        flow = isinstance(self.model, LatentJanus)
        if foreign := sorted(settings.keys() & (OF_TOKENS if flow else OF_FLOW)):
            raise ValueError(f"this model draws {'by flow' if flow else 'token by token'}: it has no {foreign[0]}")
        if flow:
            return draw_by_flow(self.model, self.processor, prompts, seeds, per_prompt, **settings)
        return draw(cast(Janus, self.model), self.processor, prompts, seeds, per_prompt, **settings)

    @torch.inference_mode()
    def reconstruct(self, pictures: Sequence[Picture]) -> list[Frame]:
        """Pictures through the codec of the generation pathway and back: the best that a drawing can be."""
        canvases = torch.stack([self.processor.canvas(picture) for picture in pictures])
        canvases = canvases.to(self.model.device, self.model.dtype)
        if isinstance(self.model, LatentJanus):
            codec = self.model.codec
            return self.processor.finished(codec.decode(codec.encode(canvases)))
        model = cast(Janus, self.model)
        return develop(model, self.processor, model.gen_vision_model.encode(canvases))

    def shows(self, pictures: Sequence[Picture], prompts: Sequence[str]) -> list[float]:
        """How sure the model is that each picture shows its prompt; see ``best_of.shows``."""
        return shows(self.model, self.processor, pictures, prompts)

    def chat(self, conversations: Sequence[Conversation], **settings) -> list[str]:
        """The assistant's next turn in each conversation; see ``text.answer``."""
        return answer(self.model, self.processor, conversations, **settings)

    def answer(self, image: Picture, question: str, **settings) -> str:
        """One question about one image."""
        return self.chat([Conversation((Turn("user", f"{IMAGE_MARK}\n{question}"),), (image,))], **settings)[0]

    def stream(self, conversation: Conversation, **settings) -> Iterator[str]:
        """The assistant's next turn, piece by piece; see ``text.stream``."""
        return stream(self.model, self.processor, conversation, **settings)
