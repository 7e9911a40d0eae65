"""A small VLM that talks about grids or houses, and how a batch of talks is laid out for it and for memory around it.

It is an InternVL of TINY size whose language model sees a sliding window: the image is out of reach after a while by
construction, and nothing that it does afterwards can look at it again. What runs around it runs around a released VLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

from dualsight.checkpoints.weights import WeightFiles, load_weights, read_config, save_weights, write_json
from dualsight.data.gridtalk import CELL, GridTalk
from dualsight.data.housetalk import TYPES as HOUSE_TYPES
from dualsight.data.housetalk import HouseTalk
from dualsight.data.talks import ANSWER, ASKED, MARK, SENTENCE, Talk, TalkTask, filler, gaps
from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import Kind, VisMem, VisMemConfig
from dualsight.nn.config import build

PATCH = CELL
"""Pixels a side of a patch: a cell of a grid."""


@dataclass(frozen=True)
class PolicyConfig:
    """Sizes of the small VLM."""

    task: GridTalk | HouseTalk = field(default_factory=GridTalk)
    taught: tuple[str, ...] = ("color", "fine", "count", "text")
    """Questions of its pre-training. It is asked, but not told which kind a colour and a bar make: memory has to be."""
    merge: int = 2
    """Patches a side of what a visual token shows."""
    vision_width: int = 96
    vision_layers: int = 3
    width: int = 192
    layers: int = 4
    heads: int = 6
    window: int = 40
    """Tokens that a layer sees, itself among them: the image is in reach of ``layers * (window - 1)``."""
    placed: bool = False
    """Of grids whose cells are visual tokens. It begins with what released VLMs bring along. Names of cells and the
    embeddings of positions are the same codes of places (`place_codes`), as words of a pre-trained model know what they
    have in common, read or said: to find one of 36 cells is learnt once for all names, and so is to tell from hidden
    states which one is asked about. A row's name is the mean of its cells'."""
    interleaved: float | None = None
    """Share of the delimiters of its pre-training behind which the image stood once more: what is true of a policy that
    met visual tokens amid a text need not be of one that never did. None before it is trained, and in older files."""
    steps: int | None = None
    """Of its pre-training."""

    def __post_init__(self) -> None:
        if self.placed and not (isinstance(self.task, GridTalk) and self.merge == 1):
            raise ValueError("placed is for grids of which every cell is a visual token: GridTalk, and merge 1")

    @property
    def visual_tokens(self) -> int:
        return (self.task.side // PATCH // self.merge) ** 2

    @property
    def lessons(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """What each visual token is taught to show by itself, as the encoders of released VLMs have learnt before: of
        each feature the number of classes, and the ids of the words for the last of them; see `TalkTask.shown`. What
        has a word is taught in the words' own embeddings, as tokens of released VLMs are.

        Nothing where nine cells are all there is. Where there is more, the image that is shown once more is so in any
        number of its tokens, as images amid a text are: of one number only, what was asked is found behind it by
        counting, and behind four latents it is not.
        """
        if not (self.placed or isinstance(self.task, HouseTalk)):
            return ()
        words = (tuple(self.index[word] for word in names) for names in self.task.shown_words)
        return tuple(zip(self.task.shown, words, strict=True))

    @property
    def image(self) -> list[int]:
        """The places of an image between its marks."""
        return [MARK["<image>"], *[MARK["<seen>"]] * self.visual_tokens, MARK["</image>"]]

    @cached_property
    def index(self) -> dict[str, int]:
        """The id of every word."""
        return {word: number for number, word in enumerate(self.task.vocabulary)}

    @property
    def reach(self) -> int:
        return self.layers * (self.window - 1)

    @property
    def late(self) -> int:
        """From this question on the image is out of reach even where no word stands between sentences."""
        return (self.reach - ANSWER - 1) // SENTENCE + 2


SMALL = PolicyConfig(GridTalk(size=3, colors=4, types=("color",)), ("color",), 1, 48, 2, 64, 3, 4, 16)
"""Nine cells and four colours, on which a spike passed the gate."""
FULL = PolicyConfig(merge=1, layers=3, window=64, placed=True)
"""36 cells in 36 visual tokens, of which the first questions see all at once."""
HOUSE = PolicyConfig(HouseTalk(), HOUSE_TYPES, vision_width=144, vision_layers=4, layers=3, window=80)
"""Four views of 8 x 8 patches: 64 visual tokens, of which the first questions see nearly all at once."""
SIZES = {"small": SMALL, "full": FULL, "house": HOUSE}
POSITIONS = 0.5
"""Size of the embeddings of positions at the beginning."""
MEMORY = VisMemConfig(
    4, 4, 6, 64, heads=4, rank=8, alpha=16, last_layers=0.5, prompt_tail=8, max_invocations=64,
    standing="image", entrance="linear",
)  # fmt: skip
"""Of a memory around any of them. Six long latents, one for each cell of a row: the full policy counts by the share of
a row's tokens, and of eight two would count twice (docs/log.md)."""


def new_policy(config: PolicyConfig, seed: int = 0) -> InternVLForConditionalGeneration:
    """The VLM with random weights."""
    torch.manual_seed(seed)
    side = config.task.side
    vision = InternVLVisionConfig(
        hidden_size=config.vision_width, intermediate_size=4 * config.vision_width, attention_bias=True,
        num_hidden_layers=config.vision_layers, num_attention_heads=config.vision_width // 24,
        image_size=[side, side], patch_size=[PATCH, PATCH], layer_scale_init_value=1.0,
    )  # fmt: skip
    text = Qwen2Config(
        vocab_size=len(config.task.vocabulary), hidden_size=config.width, intermediate_size=3 * config.width,
        num_hidden_layers=config.layers, num_attention_heads=config.heads, num_key_value_heads=config.heads,
        use_sliding_window=True, sliding_window=config.window, max_window_layers=0, max_position_embeddings=4096,
        pad_token_id=MARK["<pad>"], bos_token_id=None, eos_token_id=MARK["<eos>"], tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, initializer_range=0.05,
    )  # fmt: skip
    whole = InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=MARK["<seen>"], downsample_ratio=1 / config.merge,
        image_seq_length=config.visual_tokens, tie_word_embeddings=False,
    )  # fmt: skip
    vlm = InternVLForConditionalGeneration(whole)
    # Visual tokens of released VLMs tell where they were. Starting from zero, as InternVL does, ours would not: the
    # language model would count them instead, and could not read one that stands anywhere else.
    positions = vlm.model.vision_tower.embeddings.position_embeddings
    torch.nn.init.normal_(positions, std=POSITIONS)
    read, said = (
        cast(torch.nn.Embedding | torch.nn.Linear, table).weight
        for table in (vlm.get_input_embeddings(), vlm.get_output_embeddings())
    )
    if isinstance(config.task, HouseTalk):  # words are said as they are read, to begin with
        with torch.no_grad():
            said.copy_(read)
    if config.placed:
        assert isinstance(config.task, GridTalk)
        codes = place_codes(config.task.size)
        rows = codes.unflatten(0, (config.task.size, -1)).mean(1)  # of what is in a row
        rows = rows / rows.square().mean().sqrt()
        names = [config.index[name] for name in (*config.task.names, *config.task.rows)]
        with torch.no_grad():
            positions[0, -len(codes) :] = POSITIONS * _spread(codes, positions.shape[-1])
            named = _spread(torch.cat([codes, rows]), config.width)
            for words in (read, said):
                words[names] = words.std() * named
    return vlm


def place_codes(size: int) -> Float[Tensor, "P 12"]:
    """A code for every cell of a grid, row by row: sine and cosine of its row and its column at three frequencies, of
    mean 0 and mean square 1."""
    along = (torch.arange(size) + 0.5) / size * torch.pi
    waves = torch.stack([wave(n * along) for n in (1, 2, 3) for wave in (torch.sin, torch.cos)], -1)  # (size, 6)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    codes = torch.cat([waves[rows.flatten()], waves[columns.flatten()]], -1)
    codes = codes - codes.mean(0)
    return codes / codes.square().mean().sqrt()


def _spread(codes: Float[Tensor, "P C"], width: int) -> Float[Tensor, "P D"]:
    """Codes in more dimensions, each of these a random mixture."""
    return codes @ torch.randn(codes.shape[-1], width) / codes.shape[-1] ** 0.5


@dataclass(frozen=True)
class Call:
    """A memory behind the delimiter of one sentence."""

    sentence: int
    kind: Kind


class TalkBatch:
    """Talks with one layout to a batch: every row has its columns at the same places."""

    def __init__(self, config: PolicyConfig, memory: VisMem | None = None):
        self.config, self.memory = config, memory

    def __call__(
        self,
        talks: Sequence[Talk],
        rng: np.random.Generator,
        again: Mapping[int, int] = MappingProxyType({}),
        calls: Sequence[Call] = (),
        learn: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask``, ``labels`` (of the next token), ``pixel_values`` and ``answers``, the
        columns of the answers.

        Args:
            again: sentences behind whose delimiter the image is shown once more, and how many of its tokens.
            calls: memories, one at most behind a delimiter.
            learn: sentences of which is learnt what stands behind the delimiter, up to the answer; all by default.
        """
        between = gaps(self.config.task, len(talks[0].sentences), rng)
        begin, *seen, end = self.config.image
        inserted: dict[int, list[int]] = {number: [begin, *seen[:count], end] for number, count in again.items()}
        for call in calls:
            assert self.memory is not None
            inserted[call.sentence] = self.memory.written(call.kind)
        rows, places = zip(*(lay_out(talk, self.config, between, inserted, rng) for talk in talks), strict=True)
        answers, count = places[0], len(between)
        ids = torch.tensor(rows)
        labels = torch.full_like(ids, IGNORE)
        for number in range(count) if learn is None else learn:
            said = slice(answers[number] + ASKED - ANSWER, answers[number] + 1)
            labels[:, said.start - 1 : said.stop - 1] = ids[:, said]
        pixels = torch.stack([prepared(talk.image) for talk in talks])
        if again:  # one picture for each place, row by row
            pixels = pixels.repeat_interleave(1 + len(again), 0)
        return {
            "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "pixel_values": pixels,
            "answers": torch.tensor(answers),
        }  # fmt: skip


def lay_out(
    talk: Talk,
    config: PolicyConfig,
    words_between: Sequence[int],
    inserted: Mapping[int, list[int]],
    rng: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """A talk as ids, and the columns of its answers.

    Args:
        words_between: sentences: so many stand behind each.
        inserted: what stands behind the delimiter of a sentence.
    """
    ids, answers, index = list(config.image), [], config.index
    for number, (sentence, gap) in enumerate(zip(talk.sentences, words_between, strict=True)):
        words, behind = [index[word] for word in sentence.words], inserted.get(number, [])
        answers.append(len(ids) + len(behind) + ANSWER)
        ids += [*words[:ASKED], *behind, *words[ASKED:SENTENCE], *(index[filler(rng)] for _ in range(gap))]
    return ids, answers


def prepared(image: Any) -> Tensor:
    """An image as the VLM takes it, (3, H, W) in -2..2."""
    return (torch.from_numpy(image).permute(2, 0, 1).float() / 255 - 0.5) * 4


def with_views(task: TalkTask, views: Path) -> HouseTalk:
    """A task with its pictures.

    Raises:
        ValueError: it makes its own.
    """
    if not isinstance(task, HouseTalk):
        raise ValueError("views are for a model that talks about houses; grids are drawn as they are asked for")
    return replace(task, views=str(views))


# --- on disk ----------------------------------------------------------------------------------------------------------


def save_policy(vlm: InternVLForConditionalGeneration, config: PolicyConfig, folder: Path) -> None:
    """Weights and sizes."""
    save_weights(vlm.state_dict(), folder)
    data = asdict(config)
    data["task"].pop("views", None)  # where the pictures lie on this machine is no property of the model
    write_json(folder / "config.json", {"model_type": "grid_vlm", **data})


def load_policy(folder: Path, views: Path | None = None) -> tuple[InternVLForConditionalGeneration, PolicyConfig]:
    """What `save_policy` wrote.

    Args:
        views: of one that talks about houses, the folder of the pictures to talk about.

    Raises:
        CheckpointError: there is none, or it is another model's folder.
        ValueError: its config has what no policy has; or pictures for one that talks about grids.
    """
    data = read_config(folder, "grid_vlm", "policy", "dualsight train policy")
    config = build(PolicyConfig, data, f"{folder}/config.json")
    if views:
        config = replace(config, task=with_views(config.task, views))
    vlm = new_policy(config)
    load_weights(vlm, WeightFiles(folder))
    return vlm.eval(), config
