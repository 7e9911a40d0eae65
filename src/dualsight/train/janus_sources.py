"""What a Janus can learn from, by name: users' own files, generated scenes, pictures of generated houses.

======================  =========================================================================================
``scenes``              figures in their colours, places and numbers, made as they are asked for
                        (``data.scene_examples``)
``rooms:FOLDER``        pictures of rooms, collected by ``dualsight data rooms``: questions about them, and drawings
``room-talk:FOLDER``    the questions only
anything else           a file or folder of conversations and drawings (``data.chats``)
======================  =========================================================================================
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from dualsight.checkpoints.codecs import load_codec
from dualsight.checkpoints.janus import UNDERSTANDING, from_pretrained, model_of, tokens_of
from dualsight.checkpoints.weights import WeightFiles, load_weights
from dualsight.data.chats import by_kind, open_data
from dualsight.data.rooms import RoomConversations, RoomDrawings, read_rooms
from dualsight.data.rows import Kind
from dualsight.data.scene_examples import SceneConversations, SceneDrawings
from dualsight.models.janus_config import GENERATIONS, TINY, DiTPathwayConfig, Generation, JanusConfig
from dualsight.models.janus_core import JanusCore
from dualsight.models.janus_dit import JanusDiT
from dualsight.models.janus_processor import JanusProcessor, word_tokenizer
from dualsight.pathways.dit import DIT_XL
from dualsight.pathways.dit import TINY as TINY_DIT
from dualsight.pathways.vae import VAE, DiffusersVAE, PretrainedVAE
from dualsight.pathways.vq import VQTokenizer
from dualsight.pictures import open_picture
from dualsight.train.janus_data import place_of
from dualsight.types import Conversation, Drawing, Examples, Frame

ENDLESS = 1_000_000
"""Generated examples are not stored: so many different ones."""
SCENES_PER_ROOM = 3
"""Where both are generated: a picture of a room is asked about in as many ways as it takes for this share."""
WORDS_FROM = 4000
"""Examples of each source that a new tokenizer takes its words from."""


class Concatenation:
    """Sources one after the other."""

    def __init__(self, sources: Sequence[Examples]):
        self.sources = sources
        self.ends = list(accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Conversation | Drawing:
        part, within = self._place(index)
        return part[within]

    def where(self, index: int) -> str:
        """File and row of an example; empty for generated ones."""
        return place_of(*self._place(index))

    def _place(self, index: int) -> tuple[Examples, int]:
        part = bisect_right(self.ends, index)
        return self.sources[part], index - (self.ends[part - 1] if part else 0)


def open_sources(names: Sequence[str], size: int = 64, seed: int = 0, **reading: Any) -> dict[Kind, Examples]:
    """Examples by kind from the sources named; those that share a kind stand one after the other.

    Args:
        size: pixels of generated scenes.
        seed: of generated examples.
        reading: of files: ``columns``, ``images``, ``root`` and ``split`` of `chats.open_data`.

    Raises:
        ValueError, OSError: a name is neither of the above nor readable; the reader's error says why.
    """
    found: dict[Kind, list[Examples]] = {}
    for name in names:
        for kind, examples in _open(name, size, seed, reading).items():
            found.setdefault(kind, []).append(examples)
    return {kind: Concatenation(sources) for kind, sources in found.items()}


def _open(name: str, size: int, seed: int, reading: Mapping[str, Any]) -> dict[Kind, Examples]:
    if name == "scenes":
        return {
            "understanding": SceneConversations(ENDLESS, seed, size),
            "generation": SceneDrawings(ENDLESS, seed, size),
        }
    if name.startswith(("rooms:", "room-talk:")):
        kind, _, folder = name.partition(":")
        pictures = read_rooms(Path(folder))
        many = ENDLESS // SCENES_PER_ROOM
        found: dict[Kind, Examples] = {"understanding": RoomConversations(pictures, many, seed)}
        if kind == "rooms":
            found["generation"] = RoomDrawings(pictures, many, seed)
        return found
    return dict(by_kind(open_data(name, **reading)))


def pictures_of(sources: dict[Kind, Examples]) -> Examples:
    """The drawings: what a tokenizer and an encoder learn from."""
    if "generation" not in sources:
        raise ValueError("the data holds no drawings (an image with its prompt)")
    return sources["generation"]


class Frames:
    """The images of drawings as uint8 arrays of one size, for a codec."""

    def __init__(self, sources: dict[Kind, Examples], size: int = TINY.image_size):
        self.drawings, self.size = pictures_of(sources), (size, size)

    def __len__(self) -> int:
        return len(self.drawings)

    def __getitem__(self, index: int) -> Frame:
        image = open_picture(self.drawings[index].image)
        return np.asarray(
            ImageOps.fit(image, self.size, Image.Resampling.BICUBIC) if image.size != self.size else image
        )


def tiny(encoder: Literal["siglip", "clip", "dinov2", "none"], generation: Generation) -> JanusConfig:
    """The TINY model with that encoder and that way of making images."""
    config = GENERATIONS[generation]
    assert config.encoder
    if encoder == "none":
        return replace(config, encoder=None)
    return replace(config, encoder=replace(config.encoder, kind=encoder))


def new_janus(
    config: JanusConfig, sources: dict[Kind, Examples], codec: Path | None, encoder: Path | None, seed: int = 42
) -> tuple[JanusCore, JanusProcessor]:
    """A model with random weights but for its codec and its encoder, and a tokenizer that knows the sources' words.

    Args:
        codec: what ``train vq`` or ``train vae`` wrote.
        encoder: what ``train encoder`` wrote.

    Raises:
        ValueError: the sources have more words than the model has room for, or the codec is another kind or size.
    """
    torch.manual_seed(seed)
    tokenizer = word_tokenizer([*_texts(sources), *config.roles, ":"])
    if tokens_of(tokenizer) != config.tokens:
        raise ValueError(f"the config's tokens {config.tokens} are not those of a new tokenizer")
    model = model_of(config)
    processor = JanusProcessor(config, tokenizer)
    if codec:
        loaded = load_codec(codec)
        by_flow = config.dit or config.flow
        part = "gen_vae" if by_flow else "gen_vision_model"
        expected = by_flow.vae if by_flow else config.vq
        if loaded.config != expected:
            raise ValueError(f"{codec} holds a codec of {loaded.config}; the model's is {expected}")
        model.get_submodule(part).load_state_dict(loaded.state_dict())
    if encoder:
        load_weights(model.vision_model, WeightFiles(encoder))
    return model, processor


def swap_generation(folder: Path, codec: Path, seed: int = 42) -> tuple[JanusDiT, JanusProcessor]:
    """A Janus with a new generation pathway: a diffusion transformer in the latents of a VAE. Language model, encoder,
    aligner and tokenizer stay as they are.

    Args:
        folder: the model, of any size.
        codec: what ``train codec --kind vae`` wrote, for a transformer of TINY size; or an ``AutoencoderKL`` of
            diffusers', a folder or a name on the Hub, for a DiT-XL/2. That one is no part of the model.

    Raises:
        ValueError: the model understands through its generation pathway, too, or reads a learned token in front of
            images (the released JanusFlow), so that it would not answer as before; or the codec is no VAE: tokens of
            images are made by the language model itself, which would have to learn them.
    """
    torch.manual_seed(seed)
    before, processor = from_pretrained(folder)
    vae = load_codec(codec) if _is_ours(codec) else DiffusersVAE.from_pretrained(str(codec))
    if before.config.encoder is None:
        raise ValueError(f"{folder} understands images through its generation pathway: there is nothing to swap")
    if before.config.flow and before.config.flow.begin_token:
        raise ValueError(f"{folder} reads a learned token in front of images, which only a JanusFlow has")
    if isinstance(vae, VQTokenizer):
        raise ValueError(f"{codec} holds a VQ tokenizer, whose tokens the language model makes; expected a VAE")
    text = before.config.text
    layers = tuple(round(text.num_hidden_layers * share / 4) for share in range(5))
    reads = {"channels": vae.channels, "condition_width": text.hidden_size, "condition_layers": layers}
    if isinstance(vae, VAE):
        pathway = DiTPathwayConfig(replace(TINY_DIT, **reads), vae.config)
    else:
        pathway = DiTPathwayConfig(replace(DIT_XL, **reads), PretrainedVAE(str(codec), vae.channels, vae.factor))
    config = replace(before.config, vq=None, flow=None, dit=pathway, align_after=None)
    model = JanusDiT(config)
    for part in (name.rstrip(".") for name in UNDERSTANDING):
        model.get_submodule(part).load_state_dict(before.get_submodule(part).state_dict())
    if isinstance(vae, VAE):
        model.gen_vae.load_state_dict(vae.state_dict())
    else:
        model.use_codec(vae)
    return model, JanusProcessor(config, processor.tokenizer)


def _is_ours(codec: Path) -> bool:
    """Or one of diffusers': a name, or a folder whose config names a class."""
    config = codec / "config.json"
    return codec.exists() and not (config.exists() and "_class_name" in config.read_text(encoding="utf-8"))


def _texts(sources: dict[Kind, Examples]) -> Iterator[str]:
    for examples in sources.values():
        parts = examples.sources if isinstance(examples, Concatenation) else [examples]
        for part in parts:
            for example in islice((part[index] for index in range(len(part))), WORDS_FROM):
                if isinstance(example, Drawing):
                    yield example.prompt
                else:
                    yield from (turn.text for turn in example.turns)
