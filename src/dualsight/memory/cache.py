"""The window memory as a ``transformers`` cache, so that a stock language model remembers through it.

What a forward pass means depends on what is open when it runs::

    cache = WindowCache(WindowMemory(**sizes, permanent=prompt_length))
    with cache.prompt(prompt_length) as mask:       # never forgotten
        model(inputs_embeds=prompt, attention_mask=mask, position_ids=positions, past_key_values=cache)
    with cache.unit() as mask:                      # one unit of the window
        model(inputs_embeds=frame, attention_mask=mask, position_ids=positions, past_key_values=cache)
    model.generate(...)                             # neither: a draft after the last unit
    cache.drop_draft()

A draft is text that the memory shall not keep: it sees what the last unit saw and its own tokens, and stock
``generate()`` writes it. Masks are 4-D, causal inside the new tokens and exact about windows, padding and sessions at
different steps, which the 2-D masks of ``transformers`` cannot express.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from dualsight.memory.window import WindowMemory

Write = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes a layer's index and its new keys and values; returns what the new tokens may attend to."""


class WindowCache(Cache):
    """``transformers.Cache`` over a :class:`WindowMemory`, one cache layer per layer of the memory."""

    def __init__(self, memory: WindowMemory) -> None:
        self.memory = memory
        self.drafts: list[tuple[Tensor, Tensor] | None] = [None] * memory.layers
        self.write: Write = self.draft
        self._prompting = False
        super().__init__(layers=[WindowLayer(self, index) for index in range(memory.layers)])

    @contextmanager
    def prompt(self, length: int, valid: Tensor | None = None, rows: Sequence[int] | None = None) -> Generator[Tensor]:
        """Inside, a forward pass fills the permanent part of ``rows`` (default: all) with ``length`` tokens.

        ``valid`` (R, length) is true where there is a token. Yields the additive attention mask (R, 1, length, length).
        """
        which = list(range(self.memory.batch)) if rows is None else list(rows)
        seen = self._causal(length).expand(len(which), 1, -1, -1)
        if valid is not None:
            seen = seen & valid[:, None, None] | torch.eye(length, dtype=torch.bool, device=valid.device)

        def write(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            self.memory.prefill(layer, keys, values, valid, which)
            return keys, values

        with self._writing(write):
            self._prompting = True
            yield self._additive(seen)

    @contextmanager
    def unit(self, valid: Tensor | None = None, rows: Sequence[int] | None = None) -> Generator[Tensor]:
        """Inside, a forward pass adds one unit to every session; leaving commits it, an exception does not.

        ``valid`` (B, unit) is true where there is a token, ``rows`` (default: all) are the sessions for which the unit
        counts. Yields the additive attention mask (B, 1, unit, K). Any draft is dropped.
        """
        self.drop_draft()
        memory = self.memory
        step = memory.begin(valid)
        seen = memory.valid[:, None, None, : step.extent].repeat(1, 1, memory.unit, 1)
        causal = self._causal(memory.unit)
        diagonal = torch.eye(memory.unit, dtype=torch.bool, device=causal.device)
        for row, start in enumerate(step.starts):
            own = seen[row, 0, :, start : start + memory.unit]
            own &= causal
            own |= diagonal  # a padded token sees itself: nothing reads it, and no softmax is over nothing

        def write(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            return memory.append(layer, keys, values)[:2]

        with self._writing(write):
            yield self._additive(seen)
        memory.commit(rows)

    def attention_mask(self, new: int) -> Tensor:
        """The 2-D mask (B, seen + new) that ``generate()`` wants for a draft of ``new`` tokens so far.

        ``seen`` counts every token since the session began, as positions do; those no longer held are never read.
        """
        held = self.memory.valid[:, : self.memory.extent]
        gone = self.get_seq_length() - self._draft_length() - held.shape[1]
        ones = [held.new_ones(len(held), n) for n in (gone, self._draft_length() + new)]
        return torch.cat([ones[0], held, ones[1]], 1).long()

    def drop_draft(self) -> None:
        """Forget what was written outside :meth:`prompt` and :meth:`unit`."""
        self.drafts = [None] * len(self.drafts)

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Begin new sessions in ``rows`` (default: all)."""
        self.drop_draft()
        self.memory.reset(rows)

    def draft(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Extend the draft of a layer; returns what its tokens may attend to."""
        if past := self.drafts[layer]:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        self.drafts[layer] = keys, values
        held_keys, held_values, _ = self.memory.view(layer)
        return torch.cat([held_keys, keys], 2), torch.cat([held_values, values], 2)

    def crop_draft(self, layer: int, tokens: int) -> None:
        """Take the last ``tokens`` of the draft back."""
        if past := self.drafts[layer]:
            keep = past[0].shape[2] - tokens
            if keep < 0:
                raise ValueError(f"cannot take back {tokens} tokens of a draft of {past[0].shape[2]}: units are kept")
            self.drafts[layer] = past[0][:, :, :keep], past[1][:, :, :keep]

    def _draft_length(self, layer: int = 0) -> int:
        past = self.drafts[layer]
        return past[0].shape[2] if past else 0

    def seen(self, layer: int) -> int:
        """Tokens since the session began (of the longest session), the draft included: the next default position."""
        memory = self.memory
        if self._prompting:
            return 0
        return memory.permanent + max(memory.counts) * memory.unit + self._draft_length(layer)

    def held(self, layer: int) -> int:
        """Tokens that a draft attends to so far."""
        return self.memory.extent + self._draft_length(layer)

    def _causal(self, length: int) -> Tensor:
        return torch.ones(length, length, dtype=torch.bool, device=self.memory.store.device).tril()

    def _additive(self, seen: Tensor) -> Tensor:
        """A mask to add to attention scores: every implementation of attention in ``transformers`` takes it."""
        dtype = self.memory.store.dtype
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)

    @contextmanager
    def _writing(self, write: Write) -> Generator[None]:
        """Layers hand their new keys and values to ``write(layer, keys, values)`` for as long as this is open."""
        self.write = write
        try:
            yield
        finally:
            self.write, self._prompting = self.draft, False


class WindowLayer(CacheLayerMixin):
    """What one layer of a language model sees of a :class:`WindowCache`."""

    is_sliding = False  # as far as masks of transformers go: our own are 4-D
    is_croppable = True
    supports_early_init = False

    def __init__(self, cache: WindowCache, index: int) -> None:
        super().__init__()
        self.cache, self.index = cache, index
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the memory was allocated when it was made."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        return self.cache.write(self.index, key_states, value_states)

    def get_seq_length(self) -> int:
        return self.cache.seen(self.index)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and first position of the keys that a draft gets: numbered so that the last one is the last seen."""
        held = self.cache.held(self.index)
        return held + query_length, self.cache.seen(self.index) - held

    def get_max_length(self) -> int:
        return -1  # a session never fills up

    def crop(self, tokens_to_remove: int) -> None:
        """``tokens_to_remove`` is zero or, as transformers has it, minus the number of tokens to take back."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop({tokens_to_remove}): pass minus the number of tokens to take back")
        self.cache.crop_draft(self.index, -tokens_to_remove)

    def reset(self) -> None:
        self.cache.reset()
