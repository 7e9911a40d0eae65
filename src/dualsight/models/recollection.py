"""VisMem's short memory (arXiv:2511.11007) around a JanusVLN navigator: latents of what its window has lost.

::

    [prompt][first frames]  ... lost frames ...  [recent frames][current frame] M M M M <|vision_end|> -> action
                                    |                                |          ^
                                    +---- looked at again ---- asked by --------+

A frame's keys and values are gone once it leaves the window. A `Recollection` has the image tokens of the frames that
left (as they entered the decoder: a few tokens each); what the navigator thinks at a step becomes queries, these choose
among the tokens, and N latents stand behind the current frame, where the action is then read.

The navigator is frozen, and the latents are a draft: nobody sees them later, and a navigator that calls up nothing is
the one without memory, bit for bit. Training reads whole episodes in one pass (`score`), a walk is streamed (`recall`);
both give the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dualsight.memory.cache import WindowCache
from dualsight.memory.latent import QueryBuilder, Relook
from dualsight.models.decoder import LAST, decode
from dualsight.models.janus_vln import EpisodeBatch, JanusVLN, Output
from dualsight.models.vln_layout import Layout, draft_positions, draft_visibility

Content = Literal["own", "blank", "noise"]
"""What the latents are: formed of the lost frames; nothing; noise of their size."""


@dataclass(frozen=True)
class RecollectionConfig:
    """Sizes of a memory around TINY."""

    queries: int = 4
    latents: int = 4
    """N; the closing mark is one more token."""
    width: int = 128
    """Of the query builder."""
    layers: int = 2
    heads: int = 4
    capacity: int = 256
    """Lost frames that are kept; then the oldest are forgotten for good."""
    sighted: bool = True
    """Without it the latents are learnt constants: what a navigator gains by being tuned alone."""


class Recollection(nn.Module):
    """Memory around a frozen navigator.

    Raises:
        ValueError: the navigator's actions are several tokens long, or it is not of ``paper`` behaviour.
    """

    def __init__(self, navigator: JanusVLN, config: RecollectionConfig = RecollectionConfig()):
        super().__init__()
        if navigator.config.behaviour != "paper":
            raise ValueError("a recollection is of frames that left the window: the release reads sampled frames again")
        if navigator.config.action_slots != 1:
            raise ValueError(f"actions must be one token long for a recollection, not {navigator.config.action_slots}")
        self.config, width = config, navigator.config.text.hidden_size
        self._navigator = [navigator.requires_grad_(False).eval()]  # in a list: its weights are not ours
        self.start = nn.Parameter(torch.zeros(config.latents, width))
        self.builder: QueryBuilder | None = None
        if config.sighted:
            self.builder = QueryBuilder(width, config.queries, config.width, config.layers, config.heads)
            self.relook = Relook(width, config.queries, config.latents, config.width)
            self.say = nn.Linear(config.width, width)
            self.trust = nn.Parameter(torch.zeros(config.latents, 1))
            """How much of the look enters. None at first: in that place a frozen navigator has never read an image, and
            whole ones drown what is learnt beside them (docs/log.md)."""
        nn.init.normal_(self.start, std=float(navigator.model.embed_tokens.weight.std()))

    @property
    def navigator(self) -> JanusVLN:
        return self._navigator[0]

    def form(
        self,
        thought: Float[Tensor, "R D"],
        lost: Float[Tensor, "R V D"],
        there: Bool[Tensor, "R V"],
    ) -> Float[Tensor, "R N D"]:
        """Latents: ``M = M_0 + trust * softmax(Q K^T) v + share * W Q``, Q from what is thought and from all that was
        lost; ``trust`` starts at 0 (ReZero, arXiv:2003.04887).

        Args:
            thought: the hidden state that a step's action would be read from.
            lost: image tokens of lost frames, of which some are ``there``, at least one in each row.
        """
        start = self.start.expand(len(thought), -1, -1)
        if self.builder is None:
            return start
        white = self.builder.whiten_v(lost)
        now = thought[:, None]
        queries = self.builder(self.builder.see(white, there), there, now, there.new_ones(len(now), 1))
        said = self.say(self.relook.mix @ queries)
        look = self.relook(queries, white, there) @ lost
        return start + self.trust * look + self.relook.share * said

    def written(self, latents: Float[Tensor, "R N D"]) -> Float[Tensor, "R N+1 D"]:
        """A memory as it stands behind a frame: closed as the frame itself is."""
        navigator = self.navigator
        mark = navigator.model.embed_tokens.weight[navigator.config.tokens.vision_end]
        return torch.cat([latents, mark.expand(len(latents), 1, -1)], dim=1)

    def lost_at(self, steps: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """How many frames the window has lost by each step; they are those behind the first ones."""
        config = self.navigator.config
        return (steps - config.initial - config.recent).clamp(min=0)

    # --- whole episodes -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def think(self, batch: EpisodeBatch) -> tuple[Layout, Float[Tensor, "B T D"]]:
        """Episodes, and what the navigator thinks at each step without a memory."""
        laid = self.navigator.lay_out(batch)
        return laid, decode(self.navigator.model, laid.embeddings, laid.positions, laid.visible, read=laid.ends)

    def score(
        self, laid: Layout, thought: Float[Tensor, "B T D"], steps: Int[Tensor, " Q"], content: Content = "own"
    ) -> Float[Tensor, "B Q W"]:
        """Scores of the next action at ``steps`` of whole episodes, with a memory at each; differentiable in it.

        Args:
            laid, thought: of ``think``. With ``image`` of other walks in ``laid``, theirs are recollected.
            steps: at which frames were lost.

        Raises:
            ValueError: nothing was lost at one of the steps.
        """
        count = self.lost_at(steps)
        if not bool((count > 0).all()):
            raise ValueError(f"at some of the steps {steps.tolist()} no frame has left the window: nothing to recall")
        rows, config, image = len(thought), self.navigator.config, laid.image
        seen = image[:, config.initial : config.initial + int(count.max())]
        held = torch.arange(seen.shape[1], device=steps.device)
        kept = (held < count[:, None]) & (held >= count[:, None] - self.config.capacity)  # (Q, frames)
        there = kept.repeat_interleave(image.shape[2], dim=1).repeat(rows, 1)
        lost = seen.flatten(1, 2).repeat_interleave(len(steps), dim=0)
        latents = self._content(self.form(thought[:, steps].flatten(0, 1), lost, there), content)
        drafts = self.written(latents).unflatten(0, (rows, len(steps)))
        ends, size = laid.ends[steps], drafts.shape[2]
        visible = draft_visibility(laid.visible, ends, there.new_ones(rows, len(steps), size))
        positions = torch.cat([laid.positions, draft_positions(laid.positions, ends, size)], dim=-1)
        read = laid.embeddings.shape[1] + torch.arange(size - 1, len(steps) * size, size, device=steps.device)
        embeddings = torch.cat([laid.embeddings, drafts.flatten(1, 2)], dim=1)
        return self.navigator.lm_head(decode(self.navigator.model, embeddings, positions, visible, read=read))

    # --- one frame at a time ------------------------------------------------------------------------------------

    @torch.no_grad()
    def recall(
        self,
        output: Output,
        lost: Float[Tensor, "B V D"],
        there: Bool[Tensor, "B V"],
        content: Content = "own",
    ) -> Float[Tensor, "B W"]:
        """Scores of the next action of every session after a step, with a memory; the navigator's own memory stays as
        it was. Those of a session of which nothing is ``there`` mean nothing.

        Args:
            output: of ``JanusVLN.step``.
        """
        there = there | ~there.any(1, keepdim=True)  # no attention is over nothing
        drafts = self.written(self._content(self.form(output.hidden, lost, there), content))
        memory = output.memory
        offsets = torch.arange(drafts.shape[1], device=drafts.device)
        positions = (memory.positions[:, None] + offsets).expand(3, -1, -1)
        held = memory.semantic.view(0)[2][:, None, None].expand(-1, 1, len(offsets), -1)
        own = held.new_ones(len(offsets), len(offsets)).tril().expand(len(held), 1, -1, -1)
        visible = torch.cat([held, own], dim=-1)
        hidden = decode(self.navigator.model, drafts, positions, visible, WindowCache(memory.semantic), LAST)
        return self.navigator.lm_head(hidden[:, -1])

    def _content(self, latents: Float[Tensor, "R N D"], content: Content) -> Float[Tensor, "R N D"]:
        if content == "blank":
            return torch.zeros_like(latents)
        if content == "noise":
            return F.normalize(torch.randn_like(latents), dim=-1) * latents.norm(dim=-1, keepdim=True)
        return latents
