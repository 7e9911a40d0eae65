"""Does a memory help a Janus to understand? It never loses sight of its image, so all that a memory can add is a
second look that knows the question.

One frozen Janus, a memory for every seed, trained on questions about scenes and rooms (``train/sft.py``), then the
suite ``janus-house``: pictures and combinations that nobody has seen. A memory is called behind the question. Whatever
it adds must be due to what it is formed of: constant latents, or those of another image, must not do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from dualsight.bench import understanding
from dualsight.bench.janus import ANSWER_TOKENS
from dualsight.checkpoints.janus import from_pretrained, understanding_vlm
from dualsight.checkpoints.vismem import load_memory
from dualsight.data.files import write_json
from dualsight.inference.grid_vlm import MEMORY
from dualsight.models.janus_processor import JanusProcessor
from dualsight.models.vismem import Mode, VisMem, delimiters_of
from dualsight.studies.study import Claim, Figure, Study, conclude
from dualsight.train import sft
from dualsight.train.janus_sources import open_sources
from dualsight.train.rewards import Row
from dualsight.train.trainer import Examples
from dualsight.types import IMAGE_MARK, Conversation, Frame, Turn

ARMS = {
    "off": "off",
    "short": "always+short",
    "long": "always+long",
    "constant": "always+short+constant",
    "noise": "always+short+noise",
    "wrong image": "always+short+wrong-image",
    "wrong question": "always+short+wrong-question",
}
MEASURES = ("overall", *understanding.CATEGORIES)
STUDY = Study(
    "janus-memory",
    (),
    (
        Claim("short memory makes it understand better", "short", "off", "overall"),
        Claim("long memory makes it understand better", "long", "off", "overall"),
        Claim("not by the mere presence of latents: better than constant ones", "short", "constant", "overall"),
        Claim("it is formed of the image: better than of another one", "short", "wrong image", "overall"),
        Claim("it is formed for the question: better than for another one", "short", "wrong question", "overall"),
    ),
)
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
        *asked, answer = chat.turns
        inputs = asking(self.processor, [replace(chat, turns=tuple(asked))])
        return {"inputs": inputs, "prompt": asked[-1].text, "answer": answer.text}


def asking(processor: JanusProcessor, chats: Sequence[Conversation]) -> dict[str, Any]:
    """Conversations that end with the user's turn, as transformers' Janus takes them."""
    prompts = processor.prompts(chats)
    assert prompts.images is not None
    return {"input_ids": prompts.ids, "attention_mask": prompts.valid.long(), "pixel_values": prompts.images}


def answering(memory: VisMem, processor: JanusProcessor, mode: str) -> understanding.Answer:
    """A Janus with memory as the understanding suite asks it."""
    rules = Mode.parse(mode)
    called = () if rules.decision == "off" else rules.kinds
    room = ANSWER_TOKENS + max((len(memory.written(kind)) for kind in called), default=0)

    def answer(frames: Sequence[Frame], questions: Sequence[str]) -> list[str]:
        chats = [
            Conversation((Turn("user", f"{IMAGE_MARK}\n{question}"),), (frame,))
            for frame, question in zip(frames, questions, strict=True)
        ]
        inputs = asking(processor, chats)
        said = memory.generate(mode, **inputs, max_new_tokens=room, do_sample=False)
        said = said[:, inputs["input_ids"].shape[1] :].tolist()
        return [processor.decode([token for token in row if token < memory.tokens.first]) for row in said]

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
    rows: dict[str, dict[str, list[Figure]]] = {arm: {measure: [] for measure in MEASURES} for arm in ARMS}
    for seed in seeds:
        folder = out / f"seed{seed}"
        vlm = understanding_vlm(janus)
        if not (folder / "memory" / "config.json").exists():
            torch.manual_seed(seed)
            talk = open_sources(["scenes", f"room-talk:{rooms}"], seed=seed)["understanding"]
            memory = VisMem(vlm, delimiters_of(processor.tokenizer), CONFIG)
            settings = sft.memory_run(folder / "memory", steps, learning_rate=2e-3, batch=32, seed=seed)

            def encode(answer: str) -> list[int]:
                return processor.tokenizer.encode(f" {answer}", add_special_tokens=False)

            sft.warm_start(memory, LastAnswers(talk, processor), encode, settings)
        memory = load_memory(vlm, folder / "memory")
        items = None
        for arm, mode in ARMS.items():
            path = folder / f"{arm.replace(' ', '-')}.json"
            if not path.exists():
                items = items or understanding.make_items(questions, 1000 + seed)
                result = understanding.evaluate(answering(memory, processor, mode), items=items)
                of = {"overall": result["overall"], **result["categories"]}
                write_json(path, {measure: asdict(Figure.of(of[measure])) for measure in MEASURES})
            for measure, figure in json.loads(path.read_text(encoding="utf-8")).items():
                rows[arm][measure].append(Figure(**figure))
    settings = {"model": str(model), "seeds": list(seeds), "steps": steps, "questions": questions}
    return conclude(STUDY, out, rows, settings)
