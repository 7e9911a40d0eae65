"""Janus (arXiv:2410.13848): one language model that sees images through one encoder and makes them through another.

::

    image ---> Encoder (SigLIP) ----> aligner ---------+
                                                       v
    text ---> embed_tokens -------------------> language model ---> lm_head  ---> text
                                                       ^     +----> gen_head ---> tokens of an image
    image tokens ---> gen_embed ---> gen_aligner ------+                              |
         ^                                                                            v
    image ---> VQ tokenizer (encode) - - - - - - - - - - - - - - - - - - VQ tokenizer (decode) ---> image

Everything is one causal sequence. In a prompt each image to understand is ``<begin_of_image>``, one token for each of
its patches, ``<end_of_image>``; the image to make begins behind ``<begin_of_image>``, whose hidden state predicts its
first token. Attribute names are chosen so that the state dict has the names of the released checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from dualsight.memory.full import FullMemory
from dualsight.models.decoder import decode
from dualsight.models.janus_config import JANUS_1_3B, JANUS_PRO_1B, JANUS_PRO_7B, JanusConfig, JanusTextConfig
from dualsight.pathways.encoders import Encoder
from dualsight.pathways.vq import VQTokenizer

__all__ = ["JANUS_1_3B", "JANUS_PRO_1B", "JANUS_PRO_7B", "Janus", "JanusBatch", "JanusConfig", "Losses", "Reading"]

IGNORE = -100
"""A position that predicts nothing; cross-entropy's own mark."""


@dataclass
class JanusBatch:
    """Sequences to learn from, each of one or more examples laid end to end (packing) and padded at the end."""

    ids: Int[Tensor, "B L"]
    """Text tokens; what stands at the places of image tokens is not looked at."""
    segments: Int[Tensor, "B L"]
    """Which example of its row a token belongs to, from 1; 0 is padding. Examples do not see each other."""
    labels: Int[Tensor, "B L"]
    """The text token that each position should predict, ``IGNORE`` where none is learnt."""
    seen: Bool[Tensor, "B L"]
    """The places of the tokens of ``images``, in their order."""
    drawn: Bool[Tensor, "B L"]
    """The places of ``codes``, in their order."""
    images: Float[Tensor, "M 3 S S"] | None = None
    """Prepared images to understand."""
    codes: Int[Tensor, "K N"] | None = None
    """Tokens of images to make; the position before each should predict it."""

    def to(self, device: torch.device | str) -> JanusBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in tensors.items() if value is not None})


class Losses(NamedTuple):
    """Mean cross-entropies in nats, zero where a batch has nothing of the kind, and how many tokens they are of."""

    text: Tensor
    image: Tensor
    text_tokens: int
    image_tokens: int


@dataclass
class Reading:
    """How far sequences have been read: their memory, which of it is there, and the positions that come next."""

    memory: FullMemory
    valid: Bool[Tensor, "B C"] | None
    """Left-padded rows have places that nobody may see; None if there are none."""
    position: Int[Tensor, " B"]

    def select(self, rows: Int[Tensor, " R"]) -> Reading:
        """Row i becomes a copy of row ``rows[i]``: images of one prompt share the pass over it."""
        valid = None if self.valid is None else self.valid[rows]
        return Reading(self.memory.select(rows), valid, self.position[rows])


class Projector(nn.Module):
    """Linear layers with exact GELUs between: the released ``MlpProjector``."""

    def __init__(self, width: int, out: int, depth: int):
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(width, out)]
        for _ in range(1, depth):
            layers += [nn.GELU(), nn.Linear(out, out)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... D"]:
        return self.layers(x)


class GenerationHead(nn.Module):
    """Hidden states to scores of the codebook's entries."""

    def __init__(self, width: int, codebook: int):
        super().__init__()
        self.output_mlp_projector = nn.Linear(width, width)
        self.vision_head = nn.Linear(width, codebook)

    def forward(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        return self.vision_head(F.gelu(self.output_mlp_projector(hidden)))


class Janus(nn.Module):
    """The model: what is written above, read from left to right."""

    def __init__(self, config: JanusConfig):
        super().__init__()
        self.config = config
        width, codebook = config.text.hidden_size, config.vq.codebook_size
        if config.encoder:
            self.vision_model = Encoder(config.encoder)
            self.aligner = Projector(config.encoder.hidden_size, width, config.aligner_depth)
        self.gen_vision_model = VQTokenizer(config.vq)
        self.gen_embed = nn.Embedding(codebook, config.vq.codebook_dim)
        self.gen_aligner = Projector(config.vq.codebook_dim, width, config.aligner_depth)
        self.gen_head = GenerationHead(width, codebook)
        self.language_model = causal_lm(config.text)

    @property
    def device(self) -> torch.device:
        return self.gen_embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.gen_embed.weight.dtype

    # --- what enters the language model ---------------------------------------------------------------------------

    def see(self, images: Float[Tensor, "M 3 S S"]) -> Float[Tensor, "M N D"]:
        """Prepared images to what the language model reads of them. Without an encoder of its own, understanding
        goes through the tokens of the generation pathway."""
        images = images.to(self.device, self.dtype)
        if self.config.encoder is None:
            return self.embed_codes(self.gen_vision_model.encode(images))
        return self.aligner(self.vision_model(images))

    def embed_codes(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape D"]:
        """Tokens of an image, as the language model reads them."""
        return self.gen_aligner(self.gen_embed(codes))

    def embed(
        self,
        ids: Int[Tensor, "B L"],
        images: Float[Tensor, "M 3 S S"] | None = None,
        seen: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """A prompt: text, and ``images`` at the places ``seen`` (default: wherever ``ids`` has the image token).

        Raises:
            ValueError: there are not as many places as the images have tokens.
        """
        seen = ids == self.config.tokens.image if seen is None else seen
        text = self.language_model.get_input_embeddings()(ids.masked_fill(seen, 0))
        if images is None or not len(images):
            if seen.any():
                raise ValueError(f"the prompt has {int(seen.sum())} places for image tokens, but no image came with it")
            return text
        return _put(text, seen, self.see(images), "understand")

    # --- learning -------------------------------------------------------------------------------------------------

    def forward(self, batch: JanusBatch) -> Losses:
        """Cross-entropy of the text and of the image tokens that a batch teaches."""
        embeddings = self.embed(batch.ids, batch.images, batch.seen)
        if batch.codes is not None and len(batch.codes):
            embeddings = _put(embeddings, batch.drawn, self.embed_codes(batch.codes), "make")
        index = torch.arange(batch.ids.shape[1], device=batch.ids.device)
        together = batch.segments[:, :, None] == batch.segments[:, None, :]
        visible = (together & (index[:, None] >= index))[:, None]  # (B, 1, L, L): causal, and within an example
        hidden = self.language_model.model(
            inputs_embeds=embeddings,
            attention_mask=visible,
            position_ids=_positions(batch.segments),
            use_cache=False,
        ).last_hidden_state
        # The position before an image token predicts it; that before the first is <begin_of_image>.
        predicts = F.pad(batch.drawn[:, 1:], (0, 1))
        text = self.language_model.lm_head(hidden[batch.labels != IGNORE])
        image = self.gen_head(hidden[predicts])
        return Losses(
            _cross_entropy(text, batch.labels[batch.labels != IGNORE]),
            _cross_entropy(image, batch.codes.flatten() if batch.codes is not None else batch.ids.new_empty(0)),
            len(text),
            len(image),
        )

    # --- reading token by token -----------------------------------------------------------------------------------

    def begin(self, batch: int, room: int) -> Reading:
        """Nothing read yet; memory for ``room`` tokens of each row."""
        text = self.config.text
        memory = FullMemory(
            text.num_hidden_layers, batch, text.num_key_value_heads, text.head_dim, room, self.dtype, self.device
        )
        return Reading(memory, None, torch.zeros(batch, dtype=torch.long, device=self.device))

    def read(
        self, embeddings: Float[Tensor, "B Q D"], reading: Reading, valid: Bool[Tensor, "B Q"] | None = None
    ) -> Float[Tensor, "B Q D"]:
        """Read on; returns the last hidden states. ``reading`` grows longer in place.

        Args:
            valid: which tokens are there, for left-padded rows; the others are seen by nobody and take no position.
        """
        batch, size = embeddings.shape[:2]
        start = reading.memory.length
        if valid is not None and not valid.all():
            if reading.valid is None:
                reading.valid = torch.ones(batch, reading.memory.capacity, dtype=torch.bool, device=self.device)
            reading.valid[:, start : start + size] = valid
            steps = valid.cumsum(1)
        else:
            steps = torch.arange(1, size + 1, device=self.device).expand(batch, -1)
        positions = reading.position[:, None] + (steps - 1).clamp(min=0)
        visible = _visible(reading.valid, start, size, self.device)
        hidden = decode(self.language_model.model, embeddings, positions, visible, reading.memory)
        reading.position = reading.position + steps[:, -1]
        return hidden


def causal_lm(config: JanusTextConfig) -> LlamaForCausalLM | Qwen2ForCausalLM:
    """The language model of transformers, with random weights."""
    settings: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": False,
        "attn_implementation": "sdpa",
        # Ids of special tokens are the business of JanusTokens; transformers' defaults need not fit the vocabulary.
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")),
    }
    if config.architecture == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**settings))
    return LlamaForCausalLM(LlamaConfig(**settings))


def _put(
    embeddings: Float[Tensor, "B L D"], places: Bool[Tensor, "B L"], image: Float[Tensor, "M N D"], purpose: str
) -> Float[Tensor, "B L D"]:
    """Image tokens at their places."""
    if int(places.sum()) != image.shape[0] * image.shape[1]:
        raise ValueError(
            f"{int(places.sum())} places for the tokens of images to {purpose}, but {image.shape[0]} images of "
            f"{image.shape[1]} tokens each"
        )
    return embeddings.masked_scatter(places[..., None], image.to(embeddings.dtype))


def _positions(segments: Int[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """The position of each token within its example."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = F.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
    return index - torch.where(begins, index, 0).cummax(1).values


def _visible(
    valid: Bool[Tensor, "B C"] | None, start: int, size: int, device: torch.device
) -> Bool[Tensor, "B 1 Q K"] | None:
    """Who sees whom when ``size`` tokens follow ``start`` others; None where that is plainly causal."""
    if valid is None and (start == 0 or size == 1):
        return None
    index = torch.arange(start + size, device=device)
    causal = index[start:, None] >= index  # (Q, K)
    if valid is None:
        return causal[None, None]
    # a token that is not there sees itself, so that no row of the mask is empty
    itself = index[start:, None] == index
    return ((causal & valid[:, None, : start + size]) | itself)[:, None]


def _cross_entropy(logits: Float[Tensor, "T V"], targets: Int[Tensor, " T"]) -> Tensor:
    """The mean in float32; zero, but with a gradient path, over no tokens at all (all processes have one graph)."""
    if not len(targets):
        return logits.float().sum()
    return F.cross_entropy(logits.float(), targets)
