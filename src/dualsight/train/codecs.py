"""Training of the image codecs: the VQ tokenizer and the VAE of the generation pathways.

    vq    L1 + s L2 + bands + codebook + beta commitment      (VQGAN's, arXiv:2012.09841, without its discriminator)
    vae   L1 + s L2 + bands + gamma KL

``bands`` stands in for VQGAN's perceptual loss, which needs a network that was trained on photographs: the L1 distance
of Laplacian pyramids (arXiv:1707.05776). A pixel loss is small wherever a thin line or a texture is missing, since
these cover few pixels; in their band of the pyramid they are all there is. It costs a few blurs, where features of a
random network cost a forward and a backward pass and know no more of edges than these.

Codes that nothing chooses get no gradient and stay lost. So each code keeps a moving average of its uses; one that
falls below a share of the mean is put where a feature of the current batch is (as in Jukebox, arXiv:2005.00341).

In the first steps nothing is quantised: codes that are chosen before the features mean anything teach the decoder
shapes without colours, and it takes a long time to unlearn that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dualsight.checkpoints.codecs import save_codec
from dualsight.pathways.vae import TINY as TINY_VAE
from dualsight.pathways.vae import VAE, VAEConfig
from dualsight.pathways.vq import TINY as TINY_VQ
from dualsight.pathways.vq import Images, VQConfig, VQTokenizer
from dualsight.train.trainer import BatchPlan, Run, fit, is_main_process
from dualsight.types import Examples, Frame

STANDARD = 1024
"""So many images set the mean and the variance of the VAE's latents."""


@dataclass(frozen=True)
class LossWeights:
    """What each term of a codec's loss counts; L1 counts 1."""

    squared: float = 4.0
    """L2's. Figures cover a tenth of a picture; that one is blue and not green has to count beside the tint of its
    ground, and counts for more the farther colours are apart."""
    bands: float = 1.0
    commitment: float = 0.05
    """LlamaGen has 0.25. In the first steps of a small run that is all that the encoder hears: its features gather in
    one place. Unit vectors cannot run away from the codes, so little holds them."""
    kl: float = 1e-3


CONVOLUTIONS = r"\.(conv_blocks|mid)\."
"""Names of what Muon trains of a codec: all but what touches pixels, codes and latents (see ``Run.matrices``)."""
FREE_STEPS = 200
"""So many steps without quantising; the codes are then put where features are."""


@dataclass(frozen=True)
class Revival:
    """When a code counts as dead: its moving average (``decay`` per step) of uses is below ``share`` of the mean."""

    decay: float = 0.9
    share: float = 0.1


def train_vq(
    images: Examples | Iterable[Frame],
    run: Run,
    config: VQConfig = TINY_VQ,
    weights: LossWeights = LossWeights(),
    revival: Revival = Revival(),
) -> Path:
    """Train a tokenizer on uint8 ``images`` (H, W, 3) of one size; writes config and weights to ``run.out``."""
    torch.manual_seed(run.seed)
    model = VQTraining(VQTokenizer(config), weights, revival, min(FREE_STEPS, run.steps // 4))
    fit(model, _plan(images, run), run)
    if is_main_process():
        save_codec(model.tokenizer, run.out)
    return run.out


def train_vae(
    images: Examples | Iterable[Frame], run: Run, config: VAEConfig = TINY_VAE, weights: LossWeights = LossWeights()
) -> Path:
    """Train a VAE likewise; its latents are then standardised on the first images."""
    torch.manual_seed(run.seed)
    model = VAETraining(VAE(config), weights)
    plan = _plan(images, run)
    fit(model, plan, run)
    if is_main_process():
        first = [plan.examples[i] for i in range(min(STANDARD, len(plan.examples)))]
        model.vae.standardise(pixels(first)["images"].to(model.vae.scale.device))
        save_codec(model.vae, run.out)
    return run.out


def _plan(images: Examples | Iterable[Frame], run: Run) -> BatchPlan:
    examples = images if hasattr(images, "__getitem__") else list(images)
    return BatchPlan(examples, pixels, run.batch, run.steps, run.seed)  # ty: ignore[invalid-argument-type]


def pixels(images: list[Frame]) -> dict[str, Images]:
    """A batch of uint8 images (H, W, 3) as channels first in [-1, 1]."""
    return {"images": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1}


class VQTraining(nn.Module):
    """A tokenizer under its losses, and the count of who uses which code."""

    uses: Float[Tensor, " K"]
    steps: Int[Tensor, ""]

    def __init__(self, tokenizer: VQTokenizer, weights: LossWeights, revival: Revival, free_steps: int = 0):
        super().__init__()
        self.tokenizer, self.weights, self.revival, self.free_steps = tokenizer, weights, revival, free_steps
        # 1 is a fair share. All codes are born dead: the first batch puts them where its features are.
        self.register_buffer("uses", torch.zeros(tokenizer.config.codebook_size))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, images: Images) -> dict[str, Tensor]:
        quantise = not self.training or bool(self.steps >= self.free_steps)
        output = self.tokenizer(images, quantise)
        losses = reconstruction(output.images, images, self.weights)
        commitment = output.commitment_loss if quantise else 0.0 * output.commitment_loss
        losses["loss"] = losses["loss"] + output.codebook_loss + self.weights.commitment * commitment
        if self.training:
            self.steps += 1
            if self.steps >= self.free_steps:
                self.count(output.ids)
                losses["revived"] = self.revive(output.features.detach().flatten(0, 1))
        share = self.uses / self.uses.sum().clamp(min=1)
        perplexity = torch.special.entr(share).sum().exp()
        return losses | {"commitment": commitment.detach(), "codebook_use": perplexity / len(share)}

    @torch.no_grad()
    def count(self, ids: Tensor) -> None:
        """Add a batch to the moving average of uses, all processes' together."""
        counts = torch.bincount(ids.flatten(), minlength=len(self.uses)).to(self.uses.dtype)
        if dist.is_initialized():
            dist.all_reduce(counts)
        self.uses.lerp_(counts / counts.mean(), 1 - self.revival.decay)

    @torch.no_grad()
    def revive(self, features: Float[Tensor, "M D"]) -> Tensor:
        """Put dead codes where features drawn at random are; returns their number."""
        dead = self.uses < self.revival.share
        drawn = features[torch.randint(len(features), dead.shape, device=features.device)]
        if dist.is_initialized():  # all processes keep one codebook
            dist.broadcast(drawn, src=0)
        codes = self.tokenizer.quantize.embedding.weight
        codes.copy_(torch.where(dead[:, None], drawn.to(codes.dtype), codes))
        self.uses.masked_fill_(dead, 1.0)
        return dead.sum().float()


class VAETraining(nn.Module):
    """A VAE under its losses."""

    def __init__(self, vae: VAE, weights: LossWeights):
        super().__init__()
        self.vae, self.weights = vae, weights

    def forward(self, images: Images) -> dict[str, Tensor]:
        output = self.vae(images)
        losses = reconstruction(output.images, images, self.weights)
        losses["loss"] = losses["loss"] + self.weights.kl * output.kl
        return losses | {"kl": output.kl.detach()}


def reconstruction(made: Images, images: Images, weights: LossWeights) -> dict[str, Tensor]:
    """``L1 + squared * L2 + bands * band_distance`` as ``loss``, and PSNR in dB (of pixels in [-1, 1]) to report."""
    error = made - images
    squared = error.square().mean()
    distance = band_distance(made, images)
    loss = error.abs().mean() + weights.squared * squared + weights.bands * distance
    return {"loss": loss, "bands": distance.detach(), "psnr": 10 * (4 / squared.detach()).log10()}


def band_distance(a: Images, b: Images, levels: int = 4) -> Tensor:
    """The L1 distance of the bands of two Laplacian pyramids, summed over bands that each count the same.

    As the pyramid is linear, it is that of the difference: band i is what a blur takes from the i-times halved image.
    """
    rest, total = a - b, torch.zeros((), device=a.device)
    for _ in range(levels):
        smaller = F.avg_pool2d(rest, 2)
        total = total + (rest - F.interpolate(smaller, scale_factor=2.0, mode="nearest")).abs().mean()
        rest = smaller
    return total
