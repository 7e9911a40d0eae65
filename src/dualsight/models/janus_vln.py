"""JanusVLN (arXiv:2509.22548): a language model that sees a walk through two pathways and remembers it through both.

Each frame passes Qwen2.5-VL's ViT (what things are) and streaming VGGT (where things are). Both are merged to one token
per cell of patches and fused, ``F = S + lam * MLP(G)``; a decoder reads the tokens and names the next action.

In ``paper`` behaviour each frame enters once, as one unit of the episode's sequence (``vln_layout``). What a step sees
of the past are the keys and values of the first frames and of a sliding window, in VGGT and in the decoder alike:

- ``step`` streams one frame of each session through a :class:`DualMemory`, at constant cost;
- ``forward_episodes`` computes all steps of whole episodes at once under a mask that is exactly that memory's
  visibility, so that what is trained is what is run.

``release`` behaviour, which reads sampled frames again at every step, stands in ``janus_vln_release``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

from dualsight.memory.cache import WindowCache
from dualsight.memory.window import WindowMemory
from dualsight.models.decoder import LAST, NONE, decode
from dualsight.models.dual_memory import DualMemory
from dualsight.models.janus_vln_config import JANUS_VLN_7B, TINY, JanusVLNConfig, TextConfig
from dualsight.models.vln_layout import (
    EMPTY,
    EpisodeBatch,
    Layout,
    draft_positions,
    draft_visibility,
    episode_positions,
    episode_visibility,
    unit_positions,
    unit_validity,
)
from dualsight.pathways.project import MergeProjector, make_fusion
from dualsight.pathways.qwen_vit import encode, merge_order, patchify, vision_transformer
from dualsight.pathways.vggt import VGGT, Window

__all__ = ["JANUS_VLN_7B", "TINY", "DualMemory", "EpisodeBatch", "JanusVLN", "JanusVLNConfig", "Output"]


class Output(NamedTuple):
    """What one step returns."""

    logits: Float[Tensor, "B V"]
    """Scores of the first token of the next action."""
    memory: DualMemory
    """One frame older."""
    hidden: Float[Tensor, "B D"]
    """What the scores were read from."""
    image: Float[Tensor, "B N D"]
    """The frame as it entered the decoder."""


class JanusVLN(nn.Module):
    """The model. Attribute names are chosen so that the state dict has the names of the released checkpoints."""

    def __init__(self, config: JanusVLNConfig):
        super().__init__()
        self.config = config
        text, width = config.text, config.text.hidden_size
        self.visual = vision_transformer(width, **asdict(config.vision))
        self.model = text_model(text)
        self.lm_head = nn.Linear(width, text.vocab_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=0.02)
        self.vggt = VGGT(config.vggt)
        self.merger = MergeProjector(2 * config.vggt.embed_dim, config.merger_hidden, width, config.geometry_merge)
        self.fusion = make_fusion(config.fusion, width, text.num_attention_heads, config.lam)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype

    def freeze_encoders(self) -> JanusVLN:
        """Freeze what the paper freezes: the ViT's patch embedding and blocks, and all of VGGT. The ViT's merger,
        the geometry merger, the fusion and the decoder stay trainable."""
        for module in (self.visual.patch_embed, self.visual.blocks, self.vggt):
            module.requires_grad_(False)
        return self

    def encoder_state(self) -> dict[str, Tensor]:
        """The weights that decide the output of ``encode_semantic`` and ``encode_spatial``."""
        encoders = ("visual.patch_embed.", "visual.blocks.", "vggt.aggregator.")
        return {name: tensor for name, tensor in self.state_dict().items() if name.startswith(encoders)}

    # --- the two pathways -------------------------------------------------------------------------------------

    def encode_semantic(self, frames: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B P Dv"]:
        """Frames in [0, 1] to the output of the ViT's last block, before its merger, patches in merge order."""
        patch, merge = self.config.vision.patch_size, self.config.vision.spatial_merge_size
        patches = patchify(frames, patch, self.config.vision.temporal_patch_size, merge)
        rows, cols = self.config.grid_of(*frames.shape[-2:])
        return encode(self.visual, patches, rows * merge, cols * merge)

    def encode_spatial(self, frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T P C"]:
        """Whole walks to the geometry layer of VGGT, patches in merge order; frame t sees what the memory holds at t.

        Frames after the end of a walk reach nothing before them, so padded walks may share a batch.
        """
        window = Window(self.config.initial, self.config.recent)
        (features,) = self.vggt.aggregator(frames, window, layers=(self.config.geometry_layer,))
        return self._patches(features, *frames.shape[-2:])

    def encode_next(
        self, frames: Float[Tensor, "B 3 H W"], memory: WindowMemory, rows: Sequence[int] | None = None
    ) -> Float[Tensor, "B P C"]:
        """One more frame of every session to the geometry layer; ``memory`` grows older by it, in ``rows`` only."""
        (features,) = self.vggt.aggregator.step(frames, memory, (self.config.geometry_layer,), rows)
        return self._patches(features, *frames.shape[-2:])

    def _patches(self, features: Float[Tensor, "... N C"], height: int, width: int) -> Float[Tensor, "... P C"]:
        """The patch tokens of an aggregator layer in merge order, cut to whole image tokens."""
        patch = self.config.vggt.patch_size
        order = merge_order(height // patch, width // patch, self.config.geometry_merge)
        return features[..., self.config.vggt.special + order.to(features.device), :]

    def merge_semantic(self, semantic: Float[Tensor, "*shape P Dv"]) -> Float[Tensor, "*shape N D"]:
        """The ViT's own merger: the patches of a cell to one image token."""
        merged = self.visual.merger(semantic.to(self.dtype).flatten(0, -2))
        return merged.unflatten(0, (*semantic.shape[:-2], -1))

    def fuse(
        self, semantic: Float[Tensor, "*shape P Dv"], spatial: Float[Tensor, "*shape P C"] | None
    ) -> Float[Tensor, "*shape N D"]:
        """Image tokens for the decoder from the features of both pathways."""
        tokens = self.merge_semantic(semantic)
        if self.fusion is None or spatial is None:
            return tokens
        return self.fusion(tokens, self.merger(spatial.to(self.dtype)))

    # --- whole episodes -----------------------------------------------------------------------------------------

    def forward_episodes(self, batch: EpisodeBatch) -> Float[Tensor, "B T V"]:
        """Scores of the first token of each action, at each unit's <|vision_end|>, for all steps in one pass.

        A frozen encoder's features may come with the batch instead of frames. Row b is defined up to ``lengths[b]``.
        """
        return self.lm_head(self.read_episodes(replace(batch, answers=None))[:, :, 0])

    def read_episodes(self, batch: EpisodeBatch) -> Float[Tensor, "B T A D"]:
        """The decoder's last hidden states where the tokens of each answer are read (A = 1 without ``answers``)."""
        embeddings, positions, visible, ends, _ = self.lay_out(batch)
        read = ends
        if batch.answers is not None and batch.answers.shape[-1] > 1:
            drafts = batch.answers[..., :-1]
            read = torch.cat([ends, embeddings.shape[1] + torch.arange(drafts[0].numel(), device=self.device)])
            embeddings = torch.cat([embeddings, self.model.embed_tokens(drafts.clamp(min=0)).flatten(1, 2)], dim=1)
            positions = torch.cat([positions, draft_positions(positions, ends, drafts.shape[-1])], dim=-1)
            visible = draft_visibility(visible, ends, drafts != EMPTY)
        hidden = decode(self.model, embeddings, positions, visible, read=read)
        first, further = hidden[:, : len(ends)], hidden[:, len(ends) :]
        return torch.cat([first[:, :, None], further.reshape(*first.shape[:2], -1, first.shape[-1])], dim=2)

    def lay_out(self, batch: EpisodeBatch) -> Layout:
        """``[prompt][unit 0][unit 1]...`` of every episode, and who sees whom in it."""
        image = self.fuse(*self._features(batch))
        units = self._embed_units(batch.previous, image)  # (B, T, U, D)
        prompt = self.model.embed_tokens(batch.prompts)
        prompt_size, config = prompt.shape[1], self.config
        valid = unit_validity(batch.previous, config.image_tokens)
        visible = episode_visibility(batch.prompt_lengths, prompt_size, valid, config.initial, config.recent)
        positions = episode_positions(batch.prompt_lengths, prompt_size, batch.previous, config.grid)
        embeddings = torch.cat([prompt, units.flatten(1, 2)], dim=1)
        ends = torch.arange(prompt_size + config.unit - 1, embeddings.shape[1], config.unit, device=self.device)
        return Layout(embeddings, positions, visible, ends, image)

    def _features(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor | None]:
        if batch.semantic is not None and (batch.spatial is not None or self.fusion is None):
            return batch.semantic, batch.spatial
        if batch.frames is None:
            raise ValueError("an EpisodeBatch needs frames, or both semantic and spatial features")
        semantic = self.encode_semantic(batch.frames.flatten(0, 1)).unflatten(0, batch.frames.shape[:2])
        return semantic, self.encode_spatial(batch.frames) if self.fusion is not None else None

    def _embed_units(self, previous: Int[Tensor, "*shape A"], image: Float[Tensor, "*shape N D"]) -> Tensor:
        """[previous action][vision start][image][vision end] as embeddings, (..., U, D)."""
        if image.shape[-2] != self.config.image_tokens:
            raise ValueError(
                f"a frame became {image.shape[-2]} image tokens, the config's image of "
                f"{self.config.image_width}x{self.config.image_height} makes {self.config.image_tokens}"
            )
        tokens = self.config.tokens
        marks = torch.tensor([tokens.vision_start, tokens.vision_end], device=previous.device)
        ids = torch.cat([previous.clamp(min=0), marks.expand(*previous.shape[:-1], 2)], dim=-1)
        text = self.model.embed_tokens(ids)
        return torch.cat([text[..., :-1, :], image, text[..., -1:, :]], dim=-2)

    # --- one frame at a time ------------------------------------------------------------------------------------

    def new_memory(self, batch: int = 1) -> DualMemory:
        """Empty memories for ``batch`` sessions. Their size is fixed by the config and never grows."""
        config, text = self.config, self.config.text
        size = {"layers": text.num_hidden_layers, "heads": text.num_key_value_heads, "head_dim": text.head_dim}
        semantic = self._window(batch, **size, unit=config.unit, permanent=config.max_prompt)
        spatial = self.new_spatial_memory(batch) if self.fusion is not None else None
        return DualMemory(semantic, spatial, torch.zeros(batch, dtype=torch.long, device=self.device))

    def new_spatial_memory(self, batch: int = 1, height: int = 0, width: int = 0) -> WindowMemory:
        """VGGT's part alone, for frames of the config's size or of ``height`` x ``width`` pixels."""
        height, width = height or self.config.image_height, width or self.config.image_width
        return self._window(batch, **self.vggt.aggregator.memory_shape((self.config.geometry_layer,), height, width))

    def _window(self, batch: int, **size: int) -> WindowMemory:
        window = {"initial": self.config.initial, "recent": self.config.recent, "batch": batch}
        return WindowMemory(**size, **window, dtype=self.dtype, device=self.device)

    @torch.no_grad()
    def start(
        self,
        memory: DualMemory,
        prompts: Int[Tensor, "R L"],
        prompt_lengths: Int[Tensor, " R"],
        rows: Sequence[int] | None = None,
    ) -> DualMemory:
        """Begin new episodes in ``rows`` (default: all): forget the old ones, read the right-padded prompts."""
        rows = list(range(memory.batch) if rows is None else rows)
        memory.reset(rows)
        prompts, prompt_lengths = prompts.to(self.device), prompt_lengths.to(self.device)
        index = torch.arange(prompts.shape[1], device=self.device)
        cache = WindowCache(memory.semantic)
        with cache.prompt(prompts.shape[1], index < prompt_lengths[:, None], rows) as visible:
            decode(
                self.model, self.model.embed_tokens(prompts), index.expand(3, len(prompts), -1), visible, cache, NONE
            )
        memory.positions[rows] = prompt_lengths
        return memory

    @torch.no_grad()
    def step(
        self,
        frames: Float[Tensor, "B 3 H W"],
        memory: DualMemory,
        previous: Int[Tensor, "B A"],
        rows: Sequence[int] | None = None,
    ) -> Output:
        """One more frame of every session, or of ``rows`` only; the memory grows older in place.

        Args:
            frames: prepared frames in [0, 1]; those of sessions that are not in ``rows`` are not looked at.
            previous: tokens of the action each session executed since its last frame (``EMPTY`` at the first one).
            rows: the sessions that take part; the others stay exactly as they are and their logits mean nothing.
        """
        previous, frames = previous.to(self.device), frames.to(self.device)
        spatial = self.encode_next(frames, memory.spatial, rows) if memory.spatial is not None else None
        image = self.fuse(self.encode_semantic(frames), spatial)
        unit = self._embed_units(previous, image)
        positions, following = unit_positions(memory.positions, previous, self.config.grid)
        cache = WindowCache(memory.semantic)
        with cache.unit(unit_validity(previous, self.config.image_tokens), rows) as visible:
            hidden = decode(self.model, unit, positions, visible, cache, LAST)[:, -1]
        memory.advance(following, rows)
        return Output(self.lm_head(hidden), memory, hidden, image)

    @torch.no_grad()
    def decode_action(self, output: Output) -> Int[Tensor, "B A"]:
        """The action each session names, greedily, up to ``action_slots`` tokens.

        Tokens after the first come from a draft behind the current frame, which is then dropped: the memory is left as
        it was, since what enters it with the next frame is the action that was executed.
        """
        ids = [output.logits.argmax(-1)]
        memory = output.memory
        cache, visible = WindowCache(memory.semantic), memory.semantic.view(0)[2]  # (B, K)
        for offset in range(self.config.action_slots - 1):
            visible = F.pad(visible, (0, 1), value=True)
            positions = (memory.positions + offset).expand(3, -1)[..., None]
            token = self.model.embed_tokens(ids[-1][:, None])
            hidden = decode(self.model, token, positions, visible[:, None, None], cache)
            ids.append(self.lm_head(hidden[:, -1]).argmax(-1))
        return torch.stack(ids, dim=1)


def text_model(config: TextConfig) -> Qwen2_5_VLTextModel:
    """Qwen2.5-VL's decoder with random weights."""
    sizes = asdict(config)
    section, theta = list(sizes.pop("mrope_section")), sizes.pop("rope_theta")
    rope = {"rope_type": "default", "rope_theta": theta, "mrope_section": section}
    tokens = {"bos_token_id": None, "eos_token_id": None}  # Qwen's would lie outside a small vocabulary
    return Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**sizes, **tokens, rope_parameters=rope))
