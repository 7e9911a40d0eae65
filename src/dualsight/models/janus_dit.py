"""Janus with a diffusion transformer: the generation pathway of the document that names "DiT", and of many after it.

::

    image ---> Encoder ---> aligner ---+
                                       v
    text ---> embed_tokens ---> language model ---> lm_head ---> text
                                       |
               hidden states of the prompt, layer by layer
                                       v
    noise ------------------------>   DiT   ---> latents ---> VAE (decode) ---> image

The language model reads the prompt once; it is not in the loop of sampling. It learns from both tasks: the gradient of
the flow passes through the hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dualsight.models.janus_config import JanusConfig
from dualsight.models.janus_core import JanusBatch, Losses
from dualsight.models.janus_latent import LatentJanus
from dualsight.pathways.dit import Condition, DiT
from dualsight.pathways.flow import Latents, Sampling, on_the_way

DRAWS = 4
"""Points of its path at which each image is learnt in one pass, each with a noise of its own: reading the prompt and
encoding the image cost more than half of the transformer's work on one (as in MAR, arXiv:2406.11838)."""


class JanusDiT(LatentJanus):
    """A Janus whose images come out of a rectified flow."""

    sampling = Sampling(guidance=3.0, steps=20, solver="heun")

    def __init__(self, config: JanusConfig):
        if config.dit is None:
            raise ValueError("this model makes images through a diffusion transformer, its config has none (see Janus)")
        super().__init__(config, config.dit.vae)
        sizes, text = config.dit.dit, config.text
        if sizes.condition_width != text.hidden_size or max(sizes.condition_layers) > text.num_hidden_layers:
            raise ValueError(
                f"the diffusion transformer reads states of width {sizes.condition_width} behind the layers "
                f"{sizes.condition_layers}; the language model has {text.num_hidden_layers}, {text.hidden_size} wide"
            )
        self.dit = DiT(config.dit.dit)

    def forward(self, batch: JanusBatch) -> Losses:
        """Cross-entropy of the text, and the flow's squared error of the images, that a batch teaches."""
        hidden, layers = self.run(
            batch.segments, self.embed(batch.ids, batch.images, batch.seen), every_layer=batch.canvases is not None
        )
        text, tokens = self.text_loss(batch, hidden)
        if batch.canvases is None:
            return Losses(text, hidden.new_zeros(()), tokens, 0)
        with torch.no_grad():  # the autoencoder is learnt by itself, before
            latents = self.codec.encode(batch.canvases).float()
        states, visible = prompts_of(batch, self._read_of(layers))
        if len(states) != len(latents):
            raise ValueError(f"{len(states)} prompts ask for images, {len(latents)} images came with them")
        condition = self.dit.condition(states, visible).repeat(DRAWS)
        x, t, target = on_the_way(latents.repeat(DRAWS, 1, 1, 1), shift=self.dit.config.shift)
        after = self.config.align_after
        velocity, states = self.dit.run(x, t, condition, after or 0)
        image = (velocity - target).square().mean()
        alignment = None if after is None else self.alignment_loss(states, batch.canvases)
        return Losses(text, image, tokens, len(latents), alignment)

    def _read_of(self, layers: Sequence[Float[Tensor, "B L D"]]) -> Float[Tensor, "B L S D"]:
        """The states that the transformer reads, of those behind every layer."""
        return torch.stack([layers[n] for n in self.dit.config.condition_layers], 2)

    # --- drawing --------------------------------------------------------------------------------------------------

    def ask(self, ids: Int[Tensor, "B L"], valid: Bool[Tensor, "B L"]) -> Condition:
        """Read left-padded prompts for images: what all steps of sampling go by."""
        _, layers = self.run(valid.long(), self.embed(ids), every_layer=True)
        return self.dit.condition(self._read_of(layers), valid)

    def velocity(self, x: Latents, t: Float[Tensor, " B"], asked: Condition) -> Latents:
        """The velocity of the flow for each prompt."""
        return self.dit(x, t, asked)


def prompts_of(
    batch: JanusBatch, hidden: Float[Tensor, "B L S D"]
) -> tuple[Float[Tensor, "K P S D"], Bool[Tensor, "K P"]]:
    """The hidden states of every prompt for an image, padded at the end, in the order of the images."""
    example = batch.segments + batch.segments.max() * torch.arange(len(batch.ids), device=batch.ids.device)[:, None]
    _, lengths = example[batch.drawn].unique_consecutive(return_counts=True)
    states = torch.nn.utils.rnn.pad_sequence(hidden[batch.drawn].split(lengths.tolist()), batch_first=True)
    return states, torch.arange(states.shape[1], device=states.device) < lengths[:, None]
