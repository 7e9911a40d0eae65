"""Janus (arXiv:2410.13848): one language model that sees images through one encoder and makes them through another.

::

    image ---> Encoder (SigLIP) ----> aligner ---------+
                                                       v
    text ---> embed_tokens -------------------> language model ---> lm_head  ---> text
                                                       ^     +----> gen_head ---> tokens of an image
    image tokens ---> gen_embed ---> gen_aligner ------+                              |
         ^                                                                            v
    image ---> VQ tokenizer (encode) - - - - - - - - - - - - - - - - - - VQ tokenizer (decode) ---> image

Everything is one causal sequence (``janus_core``). In a prompt each image to understand is ``<begin_of_image>``, one
token for each of its patches, ``<end_of_image>``; the image to make begins behind ``<begin_of_image>``, whose hidden
state predicts its first token. Attribute names are chosen so that the state dict has the names of the released
checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dualsight.models.janus_config import JANUS_1_3B, JANUS_PRO_1B, JANUS_PRO_7B, JanusConfig
from dualsight.models.janus_core import (
    IGNORE,
    JanusBatch,
    JanusCore,
    Losses,
    Projector,
    Reading,
    causal_lm,
    cross_entropy,
    put,
)
from dualsight.pathways.vq import VQTokenizer

__all__ = [
    "IGNORE", "JANUS_1_3B", "JANUS_PRO_1B", "JANUS_PRO_7B", "Janus", "JanusBatch", "JanusConfig", "Losses", "Reading",
    "causal_lm",
]  # fmt: skip


class GenerationHead(nn.Module):
    """Hidden states to scores of the codebook's entries."""

    def __init__(self, width: int, codebook: int):
        super().__init__()
        self.output_mlp_projector = nn.Linear(width, width)
        self.vision_head = nn.Linear(width, codebook)

    def forward(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        return self.vision_head(F.gelu(self.output_mlp_projector(hidden)))


class Janus(JanusCore):
    """The released model: what is written above, read from left to right."""

    def __init__(self, config: JanusConfig):
        super().__init__(config)
        if config.vq is None:
            raise ValueError(
                "this model makes images through a VQ tokenizer, its config has none (see JanusDiT, JanusFlow)"
            )
        width, codebook = config.text.hidden_size, config.vq.codebook_size
        self.gen_vision_model = VQTokenizer(config.vq)
        self.gen_embed = nn.Embedding(codebook, config.vq.codebook_dim)
        self.gen_aligner = Projector(config.vq.codebook_dim, width, config.aligner_depth)
        self.gen_head = GenerationHead(width, codebook)

    def see(self, images: Float[Tensor, "M 3 S S"]) -> Float[Tensor, "M N D"]:
        """Prepared images to what the language model reads of them. Without an encoder of its own, understanding
        goes through the tokens of the generation pathway."""
        if self.config.encoder is None:
            return self.embed_codes(self.gen_vision_model.encode(images.to(self.device, self.dtype)))
        return super().see(images)

    def embed_codes(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape D"]:
        """Tokens of an image, as the language model reads them."""
        return self.gen_aligner(self.gen_embed(codes))

    def forward(self, batch: JanusBatch) -> Losses:
        """Cross-entropy of the text and of the image tokens that a batch teaches."""
        embeddings, codes = self.embed(batch.ids, batch.images, batch.seen), batch.ids.new_empty(0)
        if batch.canvases is not None:
            with torch.no_grad():  # the tokenizer is learnt by itself, before
                codes = self.gen_vision_model.encode(batch.canvases)
            embeddings = put(embeddings, batch.drawn, self.embed_codes(codes), "make")
        after = self.config.align_after if batch.canvases is not None else None
        hidden, layers = self.run(batch.segments, embeddings, every_layer=after is not None)
        # The position before an image token predicts it; that before the first is <begin_of_image>.
        before = F.pad(batch.drawn[:, 1:], (0, 1))
        image = cross_entropy(self.gen_head(hidden[before]), codes.flatten())
        alignment = None
        if after is not None and batch.canvases is not None:
            states = layers[after][before].unflatten(0, (len(batch.canvases), -1))
            alignment = self.alignment_loss(states, batch.canvases)
        text, tokens = self.text_loss(batch, hidden)
        return Losses(text, image, tokens, codes.numel(), alignment)
