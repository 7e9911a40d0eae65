"""What goes into a Janus model and comes out of it: prompts, prepared images, finished images, answers.

One road from a conversation to tokens serves training, chat, evaluation and the server alike. Images are prepared as
in the release, to the pixel: with ``int`` where transformers' processor rounds, which moves the border of half of all
sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from dualsight.models.janus_config import TOKEN_NAMES, JanusConfig
from dualsight.pictures import open_picture
from dualsight.types import IMAGE_MARK, Conversation, Frame, Picture

WORD = r"\w+|[^\w\s]+"
"""What one token of a word-level tokenizer is."""
GREY = 127
"""What fills a picture up to a square: int(0.5 * 255)."""
LEAST_SIDE = 14
"""A very long picture is not made thinner than this, pixels."""


@dataclass
class Prompts:
    """Prompts of a batch, padded on the left."""

    ids: Int[Tensor, "B L"]
    valid: Bool[Tensor, "B L"]
    images: Float[Tensor, "M 3 S S"] | None = None
    """Prepared images of all rows, in order."""


class JanusProcessor:
    """Prepares text and images for one model.

    Raises:
        ValueError: the tokenizer is not the model's (a token that the model relies on has another id).
    """

    def __init__(self, config: JanusConfig, tokenizer: PreTrainedTokenizerBase):
        self.config, self.tokenizer = config, tokenizer
        if len(tokenizer) > config.text.vocab_size:
            raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the model room for {config.text.vocab_size}")
        encoder = config.encoder
        self.mean, self.std = (encoder.mean, encoder.std) if encoder else ((0.5,) * 3, (0.5,) * 3)

    # --- images ---------------------------------------------------------------------------------------------------

    def picture(self, image: Picture) -> Float[Tensor, "3 S S"]:
        """An image to understand: its longer side scaled to ``S``, filled up to a square with grey, normalised.

        Raises:
            TypeError: it is neither a path, a uint8 array (H, W, 3) nor a PIL image.
            ValueError: it has no pixels, or is an array of another shape.
        """
        size = self.config.seen_size
        image = open_picture(image)
        longest = max(image.size)
        width, height = (max(int(side / longest * size), LEAST_SIDE) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        square = Image.new("RGB", (size, size), (GREY,) * 3)
        square.paste(image, ((size - width) // 2, (size - height) // 2))
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float().div(255)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (pixels - mean) / std

    def canvas(self, image: Picture) -> Float[Tensor, "3 S S"]:
        """An image to learn to make: its shorter side scaled to ``S``, its middle cut out, in [-1, 1]."""
        size = self.config.image_size
        image = open_picture(image)
        shortest = min(image.size)
        width, height = (max(size, round(side / shortest * size)) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(127.5) - 1

    def finished(self, images: Float[Tensor, "B 3 H W"]) -> list[Frame]:
        """Images that a model made, in [-1, 1], as uint8. Values are cut off, not rounded, as in the release."""
        pixels = ((images.float().clamp(-1, 1) + 1) / 2 * 255).to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())

    # --- text -----------------------------------------------------------------------------------------------------

    def conversation(self, conversation: Conversation) -> tuple[list[int], list[bool]]:
        """Tokens of a conversation, and which of them the assistant said (its answers, each with the end of text).

        A conversation that ends with the user's turn gets the assistant's role behind it, to be continued.

        Raises:
            ValueError: turns do not alternate beginning with the user's, or images and their marks do not match.
        """
        _check(conversation)
        user, assistant = self.config.roles
        system = self.config.system if conversation.system is None else conversation.system
        ids, said = [self.config.tokens.bos], [False]
        prefix = f"{system}\n\n" if system else ""
        for turn in conversation.turns:
            if turn.role == "user":
                new = self._with_images(f"{prefix}{user}: {turn.text.strip()}\n\n{assistant}:")
                prefix = ""
            else:
                new = [*self.encode(f" {turn.text.strip()}"), self.config.tokens.eos]
            ids += new
            said += [turn.role == "assistant"] * len(new)
        return ids, said

    def drawing(self, prompt: str) -> list[int]:
        """Tokens of a request for an image, up to and with ``<begin_of_image>``.

        Raises:
            ValueError: the prompt is empty.
        """
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"the prompt is {prompt!r}; expected a text that says what to draw")
        user, assistant = self.config.roles
        text = self.encode(f"{user}: {prompt.strip()}\n\n{assistant}:")
        return [self.config.tokens.bos, *text, self.config.tokens.begin_image]

    def unconditional(self, drawing: Sequence[int]) -> list[int]:
        """The prompt that says nothing, as long as ``drawing``: all but its first and last token are padding, which
        the model does attend to (so the pad token is part of what was trained)."""
        return [drawing[0], *[self.config.tokens.pad] * (len(drawing) - 2), drawing[-1]]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated tokens, up to the end of text."""
        ids, end = [int(i) for i in ids], self.config.tokens.eos
        ids = ids[: ids.index(end)] if end in ids else ids
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def prompts(self, conversations: Sequence[Conversation]) -> Prompts:
        """A batch of conversations to be continued, with their images."""
        rows = [self.conversation(conversation)[0] for conversation in conversations]
        images = [self.picture(image) for conversation in conversations for image in conversation.images]
        ids, valid = self.left_padded(rows)
        return Prompts(ids, valid, torch.stack(images) if images else None)

    def left_padded(self, rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
        """Rows of tokens as one tensor, and which of its places are taken."""
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.config.tokens.pad)
        valid = torch.zeros(len(rows), longest, dtype=torch.bool)
        for index, row in enumerate(rows):
            ids[index, longest - len(row) :] = torch.tensor(row)
            valid[index, longest - len(row) :] = True
        return ids, valid

    def _with_images(self, text: str) -> list[int]:
        tokens = self.config.tokens
        before, *after = text.split(IMAGE_MARK)
        image = [tokens.begin_image, *[tokens.image] * self.config.seen_tokens, tokens.end_image]
        ids = self.encode(before)
        for part in after:
            ids += image + self.encode(part)
        return ids

    def encode(self, text: str) -> list[int]:
        """Tokens of a text and no others."""
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []


def _check(conversation: Conversation) -> None:
    turns = conversation.turns
    expected = ["user" if index % 2 == 0 else "assistant" for index in range(len(turns))]
    if not turns or [turn.role for turn in turns] != expected:
        raise ValueError(
            f"the turns are by {', '.join(turn.role for turn in turns) or 'nobody'}; "
            "expected user, assistant, user, ..."
        )
    marks = sum(turn.text.count(IMAGE_MARK) for turn in turns)
    if marks != len(conversation.images):
        raise ValueError(
            f"the conversation has {len(conversation.images)} images and {marks} marks {IMAGE_MARK} where they belong"
        )
    if any(IMAGE_MARK in turn.text for turn in turns if turn.role == "assistant"):
        raise ValueError(f"an assistant's turn holds {IMAGE_MARK}; only the user shows images")


def word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer for models trained from nothing: lower-cased words, punctuation apart, the special tokens
    under the names that the releases give them, ``<unk>`` for every other word."""
    marks = [*TOKEN_NAMES.values()]
    vocabulary = [*marks, "<unk>", *sorted({word for text in words for word in re.findall(WORD, text.lower())})]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token=TOKEN_NAMES["pad"], eos_token=TOKEN_NAMES["eos"]
    )
