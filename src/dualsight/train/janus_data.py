"""From conversations and drawings to what Janus learns from: tokens, places of images, labels, packed into rows.

The text that a model learns is what the assistant says, with the end of it; of a drawing it learns the tokens of the
image. One drawing in ten has its caption replaced by padding (``JanusProcessor.unconditional``): that is what guidance
compares with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dualsight.data.mixture import Mixture
from dualsight.data.packing import pack
from dualsight.data.rows import Example, Kind
from dualsight.models.janus_core import IGNORE
from dualsight.models.janus_processor import JanusProcessor
from dualsight.types import Conversation, Drawing, Examples


@dataclass
class Encoded:
    """One example as tokens."""

    ids: list[int]
    labels: list[int]
    """What each position should say next, ``IGNORE`` where nothing is learnt."""
    seen: list[bool]
    """Places of tokens of images to understand."""
    drawn: list[bool]
    """Places that belong to an image to make (see ``JanusBatch.drawn``)."""
    images: list[Tensor] = field(default_factory=list)
    """Prepared images to understand."""
    canvas: Tensor | None = None
    """The image to make."""
    untaught: list[tuple[int, int]] = field(default_factory=list)
    """Places, and tokens that are not chosen against there."""


class BadExample(ValueError):
    """An example that cannot be learnt from, by its number in the batch."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


class JanusCollate:
    """Makes a batch: encodes examples, and packs them into rows of at most ``capacity`` tokens.

    Args:
        capacity: tokens of a row. An example that is longer is a `BadExample`; its message shows its beginning.
        caption_drop: share of drawings that lose their caption.
    """

    def __init__(self, processor: JanusProcessor, capacity: int, caption_drop: float = 0.1):
        self.processor, self.capacity, self.caption_drop = processor, capacity, caption_drop

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> dict[str, Tensor]:
        """The fields of a ``JanusBatch``.

        Raises:
            BadExample: one is longer than a row, or cannot be encoded; its image does not decode, say.
        """
        encoded = []
        for number, example in enumerate(examples):
            try:
                encoded.append(self.encode(example, rng))
            except ValueError as error:
                raise BadExample(number, str(error)) from error
            if (length := len(encoded[-1].ids)) > self.capacity:
                raise BadExample(
                    number,
                    f"an example has {length} tokens, a row {self.capacity}; it begins {_beginning(example)!r}. "
                    "`dualsight data validate --model --capacity` names all that are too long",
                )
        rows = pack([len(tokens.ids) for tokens in encoded], self.capacity).sequences
        ordered = [encoded[index] for row in rows for index in row]
        images = [image for tokens in ordered for image in tokens.images]
        canvases = [tokens.canvas for tokens in ordered if tokens.canvas is not None]
        batch = {
            "ids": self._rows(rows, encoded, "ids", 0),
            "labels": self._rows(rows, encoded, "labels", IGNORE),
            "seen": self._rows(rows, encoded, "seen", False),
            "drawn": self._rows(rows, encoded, "drawn", False),
            "segments": _segments(rows, encoded),
        }
        untaught = [
            (row, start + place, token)
            for row, indices in enumerate(rows)
            for index, start in zip(indices, _starts(indices, encoded), strict=True)
            for place, token in encoded[index].untaught
        ]
        if untaught:
            batch["untaught"] = torch.tensor(untaught)
        if images:
            batch["images"] = torch.stack(images)
        if canvases:
            batch["canvases"] = torch.stack(canvases)
        return batch

    def tokens(self, example: Example) -> int:
        """How many an example takes of a row; no image is prepared."""
        if isinstance(example, Drawing):
            return len(self.processor.drawing(example.prompt)) + self.processor.config.drawn_tokens
        return len(self.processor.conversation(example)[0])

    def encode(self, example: Example, rng: np.random.Generator) -> Encoded:
        """One example as tokens."""
        if isinstance(example, Drawing):
            return self._drawing(example, bool(rng.random() < self.caption_drop))
        ids, said = self.processor.conversation(example)
        image = self.processor.config.tokens.image
        return Encoded(
            ids,
            [*(token if mine else IGNORE for token, mine in zip(ids[1:], said[1:], strict=True)), IGNORE],
            [token == image for token in ids],
            [False] * len(ids),
            [self.processor.picture(picture) for picture in example.images],
            untaught=self._untaught(example, ids, said),
        )

    def _untaught(self, conversation: Conversation, ids: list[int], said: list[bool]) -> list[tuple[int, int]]:
        """The place before each answer, with the first tokens of what is not to be chosen against there."""
        answers = [turn for turn in conversation.turns if turn.role == "assistant"]
        if not any(turn.untaught for turn in answers):
            return []
        begins = [place for place in range(1, len(said)) if said[place] and not said[place - 1]]
        firsts = [
            (place, self.processor.encode(f" {word}")[0])
            for place, turn in zip(begins, answers, strict=True)
            for word in turn.untaught
        ]
        return [(place - 1, token) for place, token in firsts if token != ids[place]]

    def _drawing(self, drawing: Drawing, without_caption: bool) -> Encoded:
        prompt = self.processor.drawing(drawing.prompt)
        prompt = self.processor.unconditional(prompt) if without_caption else prompt
        size = self.processor.config.drawn_tokens
        length = len(prompt) + size
        return Encoded(
            [*prompt, *[0] * size],
            [IGNORE] * length,
            [False] * length,
            # what belongs to the image: its tokens, or the prompt where it has no tokens in the sequence
            [size == 0] * len(prompt) + [True] * size,
            canvas=self.processor.canvas(drawing.image),
        )

    @staticmethod
    def _rows(rows: list[list[int]], encoded: list[Encoded], name: str, fill: int) -> Tensor:
        joined = [torch.tensor([value for index in row for value in getattr(encoded[index], name)]) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(joined, batch_first=True, padding_value=fill)


def _starts(row: list[int], encoded: list[Encoded]) -> list[int]:
    """Where each example of a row begins."""
    return [0, *accumulate(len(encoded[index].ids) for index in row)][:-1]


def _segments(rows: list[list[int]], encoded: list[Encoded]) -> Tensor:
    joined = [
        torch.cat([torch.full((len(encoded[index].ids),), number) for number, index in enumerate(row, 1)])
        for row in rows
    ]
    return torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)


def _beginning(example: Example) -> str:
    text = example.prompt if isinstance(example, Drawing) else example.turns[0].text
    return text[:60]


def place_of(examples: Examples, index: int) -> str:
    """File and row of an example, as its source names it; empty for generated ones."""
    where = getattr(examples, "where", None)
    return where(index) if where else ""


class JanusPlan(Dataset):
    """Batch number ``i`` of a run, for every ``i``: its examples and its dice follow from the seed alone.

    Args:
        sources: ``understanding``, ``text`` and ``generation``, as far as their ratio is not 0.
        ratios: of the three, in examples of every batch.
        batch: examples of one batch of one process.
        batches: how many there are; with N processes each step takes N of them.
    """

    def __init__(
        self,
        sources: Mapping[Kind, Examples],
        ratios: Mapping[Kind, int],
        batch: int,
        batches: int,
        seed: int,
        collate: JanusCollate,
    ):
        self.sources, self.batches, self.seed, self.collate = sources, batches, seed, collate
        lengths = {str(kind): len(source) for kind, source in sources.items()}
        self.mixture = Mixture(lengths, {str(kind): share for kind, share in ratios.items()}, batch, seed)

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        picks = self.mixture.picks(index)
        examples = [self.sources[cast(Kind, pick.source)][pick.index] for pick in picks]
        try:
            return self.collate(examples, np.random.default_rng((self.seed, index)))
        except BadExample as error:
            pick = picks[error.number]
            place = place_of(self.sources[cast(Kind, pick.source)], pick.index)
            raise ValueError(f"{place}: {error}" if place else str(error)) from error
