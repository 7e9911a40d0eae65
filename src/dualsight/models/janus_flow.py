"""JanusFlow (arXiv:2411.07975): images come out of a flow, and the language model itself is in its loop.

::

    image ---> Encoder (SigLIP) ---> aligner ----+
                                                 v
    text ---> embed_tokens --------------> language model ---> lm_head ---> text
                                              ^        |
    x_t, t --> U-ViT encoder --> aligner -----+        +--> norm, aligner --> U-ViT decoder ---> velocity
                     |                                                              ^
                     +------------------------------ skip, t -----------------------+

    noise ---> the velocity's way from t = 0 to 1 ---> latents ---> VAE (decode) ---> image

Behind a prompt stand the embedding of t, at the place of ``<begin_of_image>``, and one token for each patch of the
latents, all under the causal mask of text. So the prompt does not depend on t: it is read once, and at every step only
what follows it. Names of parameters are the official ones, but for the understanding side's, which are Janus's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dualsight.models.janus_config import JanusConfig
from dualsight.models.janus_core import JanusBatch, Losses, Reading, put
from dualsight.models.janus_latent import LatentJanus
from dualsight.pathways.flow import Latents, Sampling, on_the_way
from dualsight.pathways.shallow_uvit import ShallowUViTDecoder, ShallowUViTEncoder


class Entering(NamedTuple):
    """Latents on their way into the language model."""

    tokens: Float[Tensor, "B 1+N D"]
    """The embedding of t and one token for each patch, row by row."""
    skip: Float[Tensor, "B C h w"]
    time: Float[Tensor, "B D"]


class JanusFlow(LatentJanus):
    """A Janus whose language model is the network of a rectified flow."""

    sampling = Sampling(guidance=2.0, steps=30, solver="euler")  # the release's

    def __init__(self, config: JanusConfig):
        if config.flow is None or config.encoder is None:
            raise ValueError(
                "this model makes images by a flow inside the language model, its config has none (see Janus, JanusDiT)"
            )
        super().__init__(config, config.flow.vae)
        flow, width = config.flow, config.text.hidden_size
        channels = flow.vae.latent_channels
        self.flow = flow
        if flow.begin_token:
            self.beg_of_und_embed = nn.Parameter(torch.zeros(1, width))
        self.vision_gen_enc_model = ShallowUViTEncoder(channels, flow.width, flow.blocks, width)
        self.vision_gen_enc_aligner = nn.Linear(flow.width, width)
        self.vision_gen_dec_aligner_norm = nn.RMSNorm(width, eps=config.text.rms_norm_eps)
        self.vision_gen_dec_aligner = nn.Linear(width, flow.width)
        self.vision_gen_dec_model = ShallowUViTDecoder(channels, flow.width, flow.blocks, width)

    # --- what enters the language model, and what leaves it -------------------------------------------------------

    def embed(
        self,
        ids: Int[Tensor, "B L"],
        images: Float[Tensor, "M 3 S S"] | None = None,
        seen: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """As every Janus; in the released layout a learned embedding stands in front of each image's tokens."""
        seen = ids == self.config.tokens.image if seen is None else seen
        embeddings = super().embed(ids, images, seen)
        if self.flow.begin_token:
            embeddings = torch.where(_in_front(seen)[..., None], self.beg_of_und_embed, embeddings)
        return embeddings

    def enter(self, x: Latents, t: Float[Tensor, " B"]) -> Entering:
        """``x_t`` and t as the language model reads them."""
        features, time = self.vision_gen_enc_model(x.to(self.dtype), t)
        tokens = self.vision_gen_enc_aligner(features.flatten(2).transpose(1, 2))
        return Entering(torch.cat([time[:, None], tokens], 1), features, time)

    def leave(self, hidden: Float[Tensor, "B N D"], entered: Entering) -> Latents:
        """The velocity, from the last hidden states of the patches."""
        features = self.vision_gen_dec_aligner(self.vision_gen_dec_aligner_norm(hidden))
        features = features.transpose(1, 2).unflatten(2, entered.skip.shape[2:])  # (B, C, h, w)
        return self.vision_gen_dec_model(features, entered.skip, entered.time).float()

    # --- learning -------------------------------------------------------------------------------------------------

    def forward(self, batch: JanusBatch) -> Losses:
        """Cross-entropy of the text, and the flow's squared error of the images, that a batch teaches."""
        embeddings = self.embed(batch.ids, batch.images, batch.seen)
        if batch.canvases is None:
            hidden, _ = self.run(batch.segments, embeddings)
            text, tokens = self.text_loss(batch, hidden)
            return Losses(text, hidden.new_zeros(()), tokens, 0)
        with torch.no_grad():  # the autoencoder is learnt by itself, before
            latents = self.codec.encode(batch.canvases).float()
        x, t, target = on_the_way(latents)
        entering = self.enter(x, t)
        embeddings = put(embeddings, batch.drawn | _in_front(batch.drawn), entering.tokens, "make")
        after = self.config.align_after
        hidden, layers = self.run(batch.segments, embeddings, self._unread(batch), every_layer=after is not None)
        text, tokens = self.text_loss(batch, hidden)
        leaving = hidden[batch.drawn].unflatten(0, (len(latents), -1))  # (K, N, D)
        image = (self.leave(leaving, entering) - target).square().mean()
        alignment = None
        if after is not None:
            states = layers[after][batch.drawn].unflatten(0, (len(latents), -1))
            alignment = self.alignment_loss(states, batch.canvases)
        return Losses(text, image, tokens, len(latents), alignment)

    def _unread(self, batch: JanusBatch) -> Bool[Tensor, "B L"] | None:
        """The padding of unconditional prompts, where it is hidden."""
        if not self.flow.hides_padding:
            return None
        return (batch.ids == self.config.tokens.pad) & ~batch.drawn & ~batch.seen

    # --- drawing --------------------------------------------------------------------------------------------------

    def ask(self, ids: Int[Tensor, "B L"], valid: Bool[Tensor, "B L"]) -> Reading:
        """Read left-padded prompts for images, but for ``<begin_of_image>``, in whose place t stands."""
        reading = self.begin(len(ids), ids.shape[1] + self.config.drawn_tokens)
        ids, valid = ids[:, :-1], valid[:, :-1]
        self.read(self.embed(ids), reading, valid)
        if self.flow.hides_padding:  # where it stands is still counted, as in training
            reading.valid = F.pad(ids != self.config.tokens.pad, (0, self.config.drawn_tokens + 1), value=True)
        return reading

    def velocity(self, x: Latents, t: Float[Tensor, " B"], asked: Reading) -> Latents:
        """The velocity of the flow behind each prompt. Of what is read here ``asked`` keeps nothing."""
        entering = self.enter(x, t)
        return self.leave(self.read(entering.tokens, asked.branch())[:, 1:], entering)


def _in_front(places: Bool[Tensor, "B L"]) -> Bool[Tensor, "B L"]:
    """The place in front of each run of places."""
    return F.pad(places[:, 1:], (0, 1)) & ~places
