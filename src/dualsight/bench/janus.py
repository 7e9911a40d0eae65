"""The suites that judge a Janus, on the model of a folder: what ``dualsight eval --suite`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dualsight.bench import generation, understanding
from dualsight.inference.assistant import Assistant
from dualsight.types import IMAGE_MARK, Conversation, Frame, Turn

Suite = Literal["janus-house", "geneval-shapes"]
ANSWER_TOKENS = 12
"""An answer of the suite is one word or a few."""


def evaluate_janus(suite: Suite, folder: Path, seed: int, out: Path, count: int | None = None) -> dict:
    """Score a Janus on a fresh test set.

    Args:
        folder: the model.
        seed: of the test set: any seed makes another.
        out: folder of ``results.json`` (and of ``sheet.png``).
        count: questions of each kind, or prompts of each category; None is the suite's own.

    Returns:
        The content of ``results.json``; see ``understanding.evaluate`` and ``generation.evaluate``.
    """
    assistant = Assistant.from_pretrained(folder)
    config = {"model": str(folder), "parameters": sum(p.numel() for p in assistant.model.parameters())}
    if suite == "janus-house":

        def answer(frames: Sequence[Frame], questions: Sequence[str]) -> list[str]:
            talks = [
                Conversation((Turn("user", f"{IMAGE_MARK}\n{question}"),), (frame,))
                for frame, question in zip(frames, questions, strict=True)
            ]
            return assistant.chat(talks, max_tokens=ANSWER_TOKENS)

        return understanding.evaluate(answer, count or 100, seed, out=out, config=config)
    return generation.evaluate(assistant.generate_images, count or 50, seed, out=out, config=config)
