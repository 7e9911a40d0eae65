"""Does a memory help a Janus to understand? It never loses sight of its image, so all that a memory can add is a
second look that knows the question.

One frozen Janus, a memory for every seed, trained on questions about scenes and rooms (``train/sft.py``), then the
suite ``janus-house``: pictures and combinations that nobody has seen. A memory is called behind the question. Whatever
it adds must be due to what it is formed of: constant latents, or those of another image, must not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dualsight.bench import understanding
from dualsight.bench.janus import ANSWER_TOKENS, asked
from dualsight.bench.provenance import sha256, weights_sha256
from dualsight.bench.questions import answers
from dualsight.bench.scores import Score
from dualsight.checkpoints.janus import from_pretrained, understanding_vlm
from dualsight.data.rewards import Row
from dualsight.data.shards import shards_in
from dualsight.inference.talk_vlm import MEMORY
from dualsight.models.janus_processor import JanusProcessor
from dualsight.models.vismem import VisMem, delimiters_of
from dualsight.studies.answers import CLAIMS, play
from dualsight.studies.study import Study
from dualsight.train import sft
from dualsight.train.distillation import LESSON
from dualsight.train.janus_sources import open_sources
from dualsight.types import Conversation, Examples, Frame

STUDY = Study("janus-memory", (), CLAIMS)
CONFIG = replace(MEMORY, prompt_tail=16)
"""A question and the assistant's name have about so many tokens."""


class LastAnswers:
    """Conversations as rows of a warm start: the last answer, and what was said before it."""

    def __init__(self, examples: Examples, processor: JanusProcessor):
        self.examples, self.processor = examples, processor

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Row:
        chat: Conversation = self.examples[index]
        *before, answer = chat.turns
        inputs = asking(self.processor, replace(chat, turns=tuple(before)))
        return {"inputs": inputs, "prompt": before[-1].text, "answer": answer.text}


def asking(processor: JanusProcessor, chat: Conversation) -> dict[str, Any]:
    """A conversation that ends with the user's turn, as transformers' Janus takes it."""
    prompts = processor.prompts([chat])
    assert prompts.images is not None
    return {"input_ids": prompts.ids, "attention_mask": prompts.valid.long(), "pixel_values": prompts.images}


def answering(memory: VisMem, processor: JanusProcessor, mode: str) -> understanding.Answer:
    """A Janus with memory as the understanding suite asks it."""

    def answer(frames: Sequence[Frame], questions: Sequence[str]) -> list[str]:
        rows = [{"inputs": asking(processor, chat)} for chat in asked(frames, questions)]
        return [one.text for one in answers(memory, rows, processor.decode, mode, ANSWER_TOKENS)]

    return answer


def run(
    out: Path, model: Path, rooms: Path, seeds: Sequence[int] = (0, 1, 2), steps: int = 600, questions: int = 100
) -> dict:
    """Train the memories that are not there yet, ask every arm, say what held. Everything is kept under ``out``.

    Args:
        model: a folder with a Janus.
        rooms: shards of pictures of rooms (``dualsight data rooms``).
        questions: of each kind and seed.

    Returns:
        The content of ``results.json``.

    Raises:
        ValueError: the model is not one that ``understanding_vlm`` can express.
    """
    janus, processor = from_pretrained(model)
    vlm = understanding_vlm(janus)

    def encode(answer: str) -> list[int]:
        return processor.tokenizer.encode(f" {answer}", add_special_tokens=False)

    def train(folder: Path, seed: int) -> VisMem:
        torch.manual_seed(seed)
        talk = open_sources(["scenes", f"room-talk:{rooms}"], seed=seed)["understanding"]
        memory = VisMem(vlm, delimiters_of(processor.tokenizer), CONFIG)
        settings = sft.memory_run(folder, steps, learning_rate=2e-3, batch=32, seed=seed)
        sft.warm_start(memory, LastAnswers(talk, processor), encode, settings, lesson=LESSON)
        return memory

    def ask(memory: VisMem, mode: str, seed: int) -> dict[str, Score]:
        items = made(questions, 1000 + seed)
        result = understanding.evaluate(answering(memory, processor, mode), items=items)
        return {"overall": result["overall"], **result["categories"]}

    made = cache(understanding.make_items)
    settings = {
        "model": {"path": str(model), "weights": weights_sha256(model)},
        "rooms": sha256(*shards_in(rooms, "rooms")),
        "steps": steps,
        "lesson": LESSON,
        "questions": questions,
    }
    return play(STUDY, out, seeds, vlm, train, ask, settings)
