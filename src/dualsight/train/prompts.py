"""What a memory is trained on: prompts with their images, as inputs of a VLM, and what an answer is compared with."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, ProcessorMixin

from dualsight.checkpoints.weights import CheckpointError
from dualsight.data.housetalk import is_views
from dualsight.data.json_chats import JsonLines
from dualsight.data.named import function_of
from dualsight.data.reader import Chats
from dualsight.data.rewards import Decode, Reward, Row, exact_match, multiple_choice, numeric_match
from dualsight.data.rows import BadData
from dualsight.data.talks import ANSWER, ASKED, MARK, gaps
from dualsight.inference.talk_vlm import PolicyConfig, lay_out, load_policy, prepared
from dualsight.models.vismem import delimiters_of
from dualsight.pictures import open_picture
from dualsight.train.sft import Encode
from dualsight.train.trainer import training_device
from dualsight.types import IMAGE_MARK, Conversation, Examples


class Task(NamedTuple):
    """A VLM and what it is asked."""

    vlm: Any
    delimiters: list[int]
    rows: Examples
    reward: Reward
    decode: Decode
    encode: Encode


def task_of(folder: Path, data: Path | None, reward: str, seed: int) -> Task:
    """Chats for a VLM of transformers; talks about grids or houses for a policy of ours.

    Raises:
        CheckpointError: the folder holds no VLM, or one of transformers without data.
        ValueError: there is no such reward, or ``data`` is a folder of something else.
    """
    if data and data.is_dir() and not is_views(data):
        raise ValueError(f"{data} is a folder without pictures of `dualsight data views`; other data is a file of JSON")
    if data is None or is_views(data):
        try:
            vlm, config = load_policy(folder, data)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; for a VLM of transformers say what it is asked: --data") from error
        rows = TalkPrompts(config, 1_000_000, seed, 2 * config.late)
        return Task(vlm, [MARK[";"]], rows, begins_with_answer, rows.said, rows.ids_of)
    return chat_task(folder, data, reward)[0]


def chat_task(folder: Path, data: Path, reward: str, *others: Path) -> tuple[Task, list[Examples]]:
    """A VLM of transformers and what it is asked, and the rows of ``others``, prepared for it, too.

    Raises:
        CheckpointError: the folder holds no VLM.
        ValueError: there is no such reward.
    """
    judge = function_of(reward, "reward", REWARDS)
    try:
        vlm: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
        vlm.to(training_device())
        processor = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} holds no VLM with its processor: {str(error).splitlines()[0]}") from error
    tokenizer = processor.tokenizer

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    def encode(answer: str) -> list[int]:
        return tokenizer(answer, add_special_tokens=False).input_ids

    rest: list[Examples] = [ChatPrompts(JsonLines(path), processor) for path in others]
    rows = ChatPrompts(JsonLines(data), processor)
    return Task(vlm, delimiters_of(tokenizer), rows, judge, decode, encode), rest


REWARDS: dict[str, Reward] = {"exact": exact_match, "numeric": numeric_match, "choice": multiple_choice}


class ChatPrompts:
    """Chats that end in a right answer, as rows of GRPO: all before it is the prompt.

    Args:
        chats: such as ``JsonLines(path)``: ``{"question": .., "answer": .., "image": ..}`` on each line, or whole
            conversations (``data/rows.py``).
        processor: of the VLM, with a chat template.
    """

    def __init__(self, chats: Chats, processor: ProcessorMixin):
        self.chats, self.processor = chats, processor

    def __len__(self) -> int:
        return len(self.chats)

    def __getitem__(self, index: int) -> Row:
        """Raises BadData: the row is a drawing, or does not end in an answer."""
        chat = self.chats[index]
        if not isinstance(chat, Conversation) or len(chat.turns) < 2 or chat.turns[-1].role != "assistant":
            raise BadData(f"{self.chats.where(operator.index(index))}: a question and its answer are expected")
        images = iter(chat.images)
        messages: list[Any] = [{"role": "system", "content": [_said(chat.system)]}] if chat.system else []
        messages += [{"role": turn.role, "content": _parts(turn.text, images)} for turn in chat.turns[:-1]]
        inputs: Any = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )  # fmt: skip
        text = "\n".join(turn.text.replace(IMAGE_MARK, "").strip() for turn in chat.turns[:-1])
        return {"inputs": dict(inputs), "prompt": text, "answer": chat.turns[-1].text.strip()}


def _said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _parts(text: str, images: Any) -> list[dict[str, Any]]:
    """A message whose marks are images."""
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(text.split(IMAGE_MARK)):
        if number:
            parts.append({"type": "image", "image": open_picture(next(images))})
        if piece.strip():
            parts.append(_said(piece.strip()))
    return parts


class TalkPrompts:
    """Talks about grids or houses, each up to a delimiter: what is asked last may be early or late. Row ``i`` follows
    from ``seed`` and ``i``."""

    def __init__(self, config: PolicyConfig, rows: int, seed: int, most: int):
        """
        Args:
            most: questions of a talk.
        """
        self.config, self.rows, self.seed, self.most = config, rows, seed, most

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Row:
        rng = np.random.default_rng((self.seed, index))
        talk = self.config.task.sample(int(rng.integers(1, self.most + 1)), rng)
        ids, answers = lay_out(talk, self.config, gaps(self.config.task, len(talk.sentences), rng), {}, rng)
        words = talk.sentences[-1].words
        given = ids[: answers[-1] - (ANSWER - ASKED)]
        inputs = {"input_ids": torch.tensor([given]), "pixel_values": prepared(talk.image)[None]}
        return {"inputs": inputs, "prompt": self.said(given), "answer": " ".join(words[ASKED : ANSWER + 1])}

    def said(self, ids: list[int]) -> str:
        """Words of a talk."""
        words = self.config.task.vocabulary
        return " ".join(words[token] for token in ids if token < len(words))

    def ids_of(self, words: str) -> list[int]:
        """``said``, the other way round."""
        return [self.config.index[word] for word in words.split()]


def begins_with_answer(prompt: str, answer: str, row: Row) -> float:
    """The sentence of a talk is finished with the right word; what is said behind it does not count."""
    right = row["answer"].split()
    return float(answer.split()[: len(right)] == right)
