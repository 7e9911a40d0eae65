"""One road from what a navigator is given to what its model reads, for training, evaluation and serving alike.

Frames become tensors (PIL, never torchvision), instructions become prompts, actions become tokens and back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from dualsight.models.janus_vln_config import JanusVLNConfig
from dualsight.types import Action, Frame

ROLE = (
    "You are a visual language navigation model, and your should go to the locations to complete the given task. "
    "Compare the observation and instruction to infer your current progress, and then select the correct direction "
    "from the candidates to go to the target location and finish the task."
)
"""The release's task description, its slip ("your should") included: the weights were trained on it."""

CHOICES = "You should take one of the following actions:\n MOVE_FORWARD\n TURN_LEFT\n TURN_RIGHT\n STOP."
SPECIAL_TOKENS = ("<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
NO_INSTRUCTION = "navigate"
"""What a deaf agent is told."""


def chat(system: str, user: str) -> str:
    """Qwen's chat format, open at the assistant's turn."""
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def paper_prompt(instruction: str) -> str:
    """The prompt before the first frame of an episode in ``paper`` behaviour."""
    return chat("You are a visual language navigation model.", f"Your task is to {instruction.strip()}")


def release_prompt(instruction: str, images: Sequence[int], split: Literal["train", "eval"] = "eval") -> str:
    """The released prompt, byte for byte, with the history images and the current one last.

    Args:
        images: tokens of each image, oldest first.
        split: the release trains on one prompt and evaluates on another; both are its own.
    """
    *history, current = (f"<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>" for tokens in images)
    if split == "train":
        seen = f"This is your historical observation:{''.join(history)}\n This is your current observation:{current}"
        return chat(
            "You are a helpful assistant.", f"{ROLE}\n {seen}\n Your task is to {instruction.strip()}\n {CHOICES}"
        )
    seen = f"{''.join(history)}{current}These images are your historical observations and your current observation."
    return chat(ROLE, f"{seen}\n Your task is to {instruction} \n {CHOICES}")


def parse_action(text: str) -> Action | None:
    """The action that ``text`` is the exact name of, or None."""
    return Action[text] if text in Action.__members__ else None


def word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer for models trained from scratch: lower-cased words, punctuation apart, Qwen's special
    tokens and the names of the four actions as single tokens, ``<unk>`` for every other word."""
    actions = [action.name for action in Action]
    template = re.findall(r"\w+|[^\w\s]+", paper_prompt(NO_INSTRUCTION).lower())
    known = {token for word in (*words, *template) for token in re.findall(r"\w+|[^\w\s]+", word.lower())}
    vocabulary = [*SPECIAL_TOKENS, *actions, *sorted(known | set(".,;:!?'-"))]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(action, normalized=False) for action in actions])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<|im_end|>"
    )


class VLNProcessor:
    """Prepares frames, prompts and actions for one model.

    Raises:
        ValueError: the tokenizer is not the model's (a token the model relies on has another id).
    """

    def __init__(self, config: JanusVLNConfig, tokenizer: PreTrainedTokenizerBase):
        self.config, self.tokenizer = config, tokenizer
        expected = {
            "<|image_pad|>": config.tokens.image,
            "<|vision_start|>": config.tokens.vision_start,
            "<|vision_end|>": config.tokens.vision_end,
            "<|im_end|>": config.tokens.end_of_turn,
        }
        for token, index in expected.items():
            if (found := tokenizer.convert_tokens_to_ids(token)) != index:
                raise ValueError(
                    f"the tokenizer has {token} at {found}, the model's config at {index}; load the "
                    "tokenizer that belongs to this checkpoint"
                )
        if len(tokenizer) > config.text.vocab_size:
            raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the model room for {config.text.vocab_size}")
        self.action_ids = [tokenizer.encode(action.name, add_special_tokens=False) for action in Action]
        if (longest := max(map(len, self.action_ids))) > config.action_slots:
            raise ValueError(f"an action takes {longest} tokens; action_slots is {config.action_slots}")

    def frame(self, rgb: Frame | Image.Image) -> Float[Tensor, "3 H W"]:
        """One frame, resized and cropped as the config says, in [0, 1].

        Raises:
            TypeError: not a uint8 array nor an image in mode RGB.
            ValueError: not (H, W, 3).
        """
        image = _as_image(rgb)
        config = self.config
        if config.fit == "square":
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
            height = config.image_height
        else:
            # in the release's order of operations: 480 rows of a 640-pixel image become 490, not 476
            patches = round(image.height * (config.image_width / image.width) / config.vision.patch_size)
            height = patches * config.vision.patch_size
        if image.size != (config.image_width, height):
            image = image.resize((config.image_width, height), Image.Resampling.BICUBIC)
        if height > config.image_width:
            top = (height - config.image_width) // 2
            image = image.crop((0, top, config.image_width, top + config.image_width))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)

    def frames(self, images: Iterable[Frame | Image.Image]) -> Float[Tensor, "B 3 H W"]:
        return torch.stack([self.frame(image) for image in images])

    def prompt(self, instruction: str) -> list[int]:
        """Token ids of the ``paper`` prompt for an instruction.

        Raises:
            ValueError: the instruction is empty, or its prompt is longer than the memory's ``max_prompt`` tokens.
        """
        ids = self.tokenizer.encode(paper_prompt(check_instruction(instruction)), add_special_tokens=False)
        if len(ids) > self.config.max_prompt:
            raise ValueError(
                f"the instruction makes a prompt of {len(ids)} tokens ({len(instruction.split())} words), "
                f"this model reads at most {self.config.max_prompt} (max_prompt): shorten it"
            )
        return ids

    def prompts(self, instructions: Sequence[str]) -> tuple[Int[Tensor, "B L"], Int[Tensor, " B"]]:
        """Right-padded prompts and their lengths."""
        rows = [torch.tensor(self.prompt(instruction)) for instruction in instructions]
        lengths = torch.tensor([len(row) for row in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths

    def previous(self, actions: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape A"]:
        """Tokens of the actions executed before each frame, right-aligned, -1 where a slot is empty.

        ``actions`` holds ``Action`` numbers, and -1 where there was none (the first frame of an episode).
        """
        slots = self.config.action_slots
        table = torch.tensor([[-1] * (slots - len(ids)) + ids for ids in [*self.action_ids, []]])  # the last row: none
        return table.to(actions.device)[actions]

    @property
    def answer_ids(self) -> Int[Tensor, "4 A"]:
        """Tokens of the answer that names each action: its name and the end of the turn, as far as ``action_slots``
        reach; -1 after its end."""
        rows = [[*ids, self.config.tokens.end_of_turn][: self.config.action_slots] for ids in self.action_ids]
        longest = max(map(len, rows))
        return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, up to the end of the turn."""
        end = self.config.tokens.end_of_turn
        ids = [int(i) for i in ids]
        return str(self.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)).strip()


def check_instruction(instruction: str) -> str:
    """The instruction itself; a ValueError where it holds no word."""
    if not isinstance(instruction, str) or not re.search(r"\w", instruction):
        raise ValueError(f"the instruction is {instruction!r}; expected a text with at least one word")
    return instruction


def _as_image(rgb: Frame | Image.Image) -> Image.Image:
    if isinstance(rgb, Image.Image):
        if rgb.mode != "RGB":
            raise TypeError(f"the image has mode {rgb.mode}; expected RGB (image.convert('RGB'))")
        return rgb
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        kind = f"an array of {rgb.dtype}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise TypeError(f"the frame is {kind}; expected a uint8 array (H, W, 3) or a PIL image in mode RGB")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"the frame has shape {rgb.shape}; expected (H, W, 3)")
    return Image.fromarray(np.ascontiguousarray(rgb))
