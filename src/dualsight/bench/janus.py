"""The suites that judge a Janus, on the model of a folder: what ``dualsight eval --suite`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dualsight.bench import dpg, generation, geneval, understanding
from dualsight.bench.provenance import weights_sha256
from dualsight.data.named import function_of
from dualsight.inference.assistant import Assistant
from dualsight.types import IMAGE_MARK, Conversation, Frame, Turn

Suite = Literal["janus-house", "geneval-shapes", "geneval", "dpg"]
ANSWER_TOKENS = 12
"""An answer of the suite is one word or a few."""


def evaluate_janus(
    suite: Suite,
    folder: Path,
    seed: int,
    out: Path,
    count: int | None = None,
    prompts: Path | None = None,
    judge: str = "",
    guidance: float | None = None,
    held_out: bool = True,
    candidates: int = 1,
    device: str = "cpu",
    dtype: str = "float32",
    **settings: Any,
) -> dict:
    """Score a Janus on a fresh test set, or on the prompts of GenEval or DPG-Bench.

    Args:
        folder: the model.
        seed: of the test set: any seed makes another; of the pictures, where the prompts are given.
        out: folder of ``results.json`` (and of ``sheet.png``, or of the pictures).
        count: questions of each kind, or prompts of each category; None is the suite's own. Pictures of each prompt,
            where the prompts are given (4).
        prompts: the file of GenEval or DPG-Bench.
        judge: ``module:function`` with a ``geneval.Detector`` or a ``dpg.Judge``.
        guidance: of the drawings; None is the model's own way's.
        held_out: of our own suites: False asks for combinations like those of training, for comparison.
        candidates: drawings of which the model itself keeps one (``Assistant.generate_images``).
        device, dtype: where, and in which type, the model computes.
        settings: more of the drawings (``Assistant.generate_images``).

    Returns:
        The content of ``results.json``; see ``evaluate`` of ``understanding``, ``generation``, ``geneval``, ``dpg``.

    Raises:
        ValueError: prompts or judge are missing, or the judge cannot be imported.
        DifferentRun: ``out`` holds pictures by other weights, with other settings, or of other prompts.
    """
    drawing: dict[str, Any] = {"guidance": guidance, "candidates": candidates, **settings}
    if suite in ("geneval", "dpg"):
        if prompts is None or not judge:
            raise ValueError(
                f"the suite {suite} needs its prompts (--prompts FILE) and who judges the pictures "
                "(--judge module:function)"
            )
        looks = function_of(judge, "judge")
        judging = {"model": str(folder), "judge": judge, "prompts": prompts.name}
        benchmark: Any = {"geneval": geneval, "dpg": dpg}[suite]
        wanted = benchmark.read_prompts(prompts)  # before the model, which takes longer to load
        draw = partial(Assistant.from_pretrained(folder, device, dtype).generate_images, **drawing)
        drawing |= {"weights_sha256": weights_sha256(folder), "dtype": dtype}
        return benchmark.evaluate(draw, looks, wanted, out, count or 4, seed, drawing, judging)
    assistant = Assistant.from_pretrained(folder, device, dtype)
    parameters = sum(p.numel() for p in assistant.model.parameters())
    config = {"model": str(folder), "weights_sha256": weights_sha256(folder), "parameters": parameters, "dtype": dtype}
    if suite == "janus-house":
        return understanding.evaluate(
            answering(assistant), count or 100, seed, held_out=held_out, out=out, config=config
        )
    draw, codec = partial(assistant.generate_images, **drawing), assistant.reconstruct
    config |= drawing
    return generation.evaluate(draw, count or 50, seed, held_out=held_out, reconstruct=codec, out=out, config=config)


def answering(assistant: Assistant) -> understanding.Answer:
    """An assistant as the understanding suite asks it."""

    def answer(frames: Sequence[Frame], questions: Sequence[str]) -> list[str]:
        return assistant.chat(asked(frames, questions), max_tokens=ANSWER_TOKENS)

    return answer


def asked(frames: Sequence[Frame], questions: Sequence[str]) -> list[Conversation]:
    """A question about a picture each, to be answered."""
    return [
        Conversation((Turn("user", f"{IMAGE_MARK}\n{question}"),), (frame,))
        for frame, question in zip(frames, questions, strict=True)
    ]
