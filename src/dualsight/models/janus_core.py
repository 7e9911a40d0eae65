"""What every Janus is, however it makes images: a language model that reads text and images as one causal sequence.

A subclass adds the pathway through which images are made, and says what is learnt from them.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from dualsight.memory.full import FullMemory
from dualsight.models.decoder import decode
from dualsight.models.janus_config import JanusConfig, JanusTextConfig
from dualsight.nn.hf_attention import QUICK
from dualsight.pathways.encoders import Encoder

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
    """The places that belong to ``canvases``, in their order: of their tokens, or (where an image has no tokens in the
    sequence) of the prompts that ask for them."""
    images: Float[Tensor, "M 3 S S"] | None = None
    """Prepared images to understand."""
    canvases: Float[Tensor, "K 3 Z Z"] | None = None
    """Prepared images to make."""
    untaught: Int[Tensor, "U 3"] | None = None
    """Row, position and token, where a token is left out of the softmax: what the data leaves out on purpose (a
    combination that a test holds out) would otherwise be learnt as what cannot be."""

    def to(self, device: torch.device | str) -> JanusBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in tensors.items() if value is not None})


class Losses(NamedTuple):
    """Of text the mean cross-entropy in nats, of images what their pathway has; zero where a batch has none of it."""

    text: Tensor
    image: Tensor
    text_tokens: int
    """How many tokens the mean is over."""
    image_tokens: int
    """The same, or how many images."""
    alignment: Tensor | None = None
    """Of the images, REPA's; None where nothing is compared."""


@dataclass
class Reading:
    """How far sequences have been read: their memory, which of it is there, and the positions that come next."""

    memory: FullMemory
    valid: Bool[Tensor, "B C"] | None
    """Left-padded rows have places that nobody may see; None if there are none."""
    position: Int[Tensor, " B"]

    def select(self, rows: Int[Tensor, " R"], room: int | None = None) -> Reading:
        """Row i becomes a copy of row ``rows[i]``: images of one prompt share the pass over it.

        Args:
            room: for so many tokens in all; by default as before.
        """
        memory, valid = self.memory.select(rows, room), self.valid
        if valid is not None:
            valid = F.pad(valid[rows], (0, memory.capacity - valid.shape[1]), value=True)
        return Reading(memory, valid, self.position[rows])

    def branch(self) -> Reading:
        """Goes on from here and leaves this reading as it is. All branches write to one place, the latest over the
        others: what follows a prompt is read again and again, the prompt is not."""
        return replace(self, memory=copy(self.memory))


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


class JanusCore(nn.Module):
    """Understanding encoder, aligner and language model, with the names of the released checkpoints."""

    def __init__(self, config: JanusConfig):
        super().__init__()
        self.config = config
        if config.encoder:
            self.vision_model = Encoder(config.encoder)
            self.aligner = Projector(config.encoder.hidden_size, config.text.hidden_size, config.aligner_depth)
        self.language_model = causal_lm(config.text)
        if config.align_after is not None:
            self.align(config.align_after)

    def align(self, after: int) -> None:
        """Have images be learnt through what the understanding encoder sees in them, too (``config.align_after``),
        by a new head.

        Raises:
            ValueError: there is no such layer, or the encoder does not see as many patches as are made.
        """
        self.config = replace(self.config, align_after=after)
        encoder, dit = self.config.encoder, self.config.dit
        assert encoder
        width = dit.dit.width if dit else self.config.text.hidden_size
        self.repa_head = Projector(width, encoder.hidden_size, depth=3).to(self.device, self.dtype)

    @property
    def device(self) -> torch.device:
        return self._embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._embeddings.weight.dtype

    @property
    def _embeddings(self) -> nn.Embedding:
        return self.language_model.model.embed_tokens

    # --- what enters the language model ---------------------------------------------------------------------------

    def see(self, images: Float[Tensor, "M 3 S S"]) -> Float[Tensor, "M N D"]:
        """Prepared images to what the language model reads of them."""
        return self.aligner(self.vision_model(images.to(self.device, self.dtype)))

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
        text = self._embeddings(ids.masked_fill(seen, 0))
        if images is None or not len(images):
            if seen.any():
                raise ValueError(f"the prompt has {int(seen.sum())} places for image tokens, but no image came with it")
            return text
        return put(text, seen, self.see(images), "understand")

    # --- learning -------------------------------------------------------------------------------------------------

    def run(
        self,
        segments: Int[Tensor, "B L"],
        embeddings: Float[Tensor, "B L D"],
        unseen: Bool[Tensor, "B L"] | None = None,
        every_layer: bool = False,
    ) -> tuple[Float[Tensor, "B L D"], tuple[Float[Tensor, "B L D"], ...]]:
        """The last hidden states of one pass over packed examples, none of which sees another; and (if ``every_layer``)
        the embeddings and the hidden states behind every layer.

        Args:
            unseen: tokens that no other token sees.
        """
        index = torch.arange(segments.shape[1], device=segments.device)
        together = segments[:, :, None] == segments[:, None, :]
        visible = together & (index[:, None] >= index)  # (B, L, L): causal, and within an example
        if unseen is not None:
            visible &= ~unseen[:, None] | (index[:, None] == index)
        states = self.language_model.model(
            inputs_embeds=embeddings,
            attention_mask=visible[:, None],
            position_ids=_positions(segments),
            use_cache=False,
            output_hidden_states=every_layer,
        )
        return states.last_hidden_state, states.hidden_states or ()

    def alignment_loss(self, states: Float[Tensor, "R*K N D"], canvases: Float[Tensor, "K 3 Z Z"]) -> Tensor:
        """REPA (arXiv:2410.06940): ``-cos(MLP(states), sg(what the understanding encoder sees))``, patch by patch.

        What a pixel is worth says little of what a figure is; this says it at every patch, so words are learnt sooner.
        """
        encoder = self.config.encoder
        assert encoder
        with torch.no_grad():
            pixels = F.interpolate((canvases + 1) / 2, (encoder.image_size,) * 2, mode="bilinear", antialias=True)
            mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
            seen = self.vision_model(((pixels - mean) / std).to(self.dtype))  # (K, N, E)
        return -F.cosine_similarity(self.repa_head(states), seen.repeat(len(states) // len(seen), 1, 1), dim=-1).mean()

    def text_loss(self, batch: JanusBatch, hidden: Float[Tensor, "B L D"]) -> tuple[Tensor, int]:
        """Mean cross-entropy of what the assistant says, and of how many tokens."""
        learnt = batch.labels != IGNORE
        logits = self.language_model.lm_head(hidden[learnt])
        if batch.untaught is not None:
            row, position, token = batch.untaught.T
            where = (learnt.flatten().cumsum(0) - 1).view_as(learnt)[row, position]  # among those that are learnt
            logits = logits.index_put((where, token), logits.new_tensor(-torch.inf))
        return cross_entropy(logits, batch.labels[learnt]), int(learnt.sum())

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
        "attn_implementation": QUICK,
        # Ids of special tokens are the business of JanusTokens; transformers' defaults need not fit the vocabulary.
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")),
    }
    if config.architecture == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**settings))
    return LlamaForCausalLM(LlamaConfig(**settings))


def put(
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


def cross_entropy(logits: Float[Tensor, "T V"], targets: Int[Tensor, " T"]) -> Tensor:
    """The mean in float32; zero, but with a gradient path, over no tokens at all (all processes have one graph)."""
    if not len(targets):
        return logits.float().sum()
    return F.cross_entropy(logits.float(), targets)
