"""A memory of fixed size: the keys and values of the first units and of a sliding window of recent ones.

A *unit* is what a step adds: a frame's tokens in VGGT, an action and a frame in a language model. Everything lives in
one buffer, laid out per layer, session and head in tokens, ``unit`` of them to a slot::

    [ permanent | initial 0 .. initial-1 | ring of recent + 1 slots ]

Unit ``t`` goes to slot ``t`` while there is room, then round the ring. With ``recent + 1`` slots the current unit
lands exactly on the one that has just left the window, so neither appending nor evicting copies anything: a step
writes its own keys once and attends over a view. Keys are stored finished (after norm and rotation); attention does
not care in which order they lie.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


class Step(NamedTuple):
    """Where the unit that is being written goes."""

    starts: list[int]
    """First token of its slot, per session."""
    slots: Tensor
    """(B, unit) all tokens of its slot."""
    extent: int
    """The tokens it may attend to are the first ``extent`` of the buffer."""
    mask: Tensor | None
    """(B, 1, 1, extent) boolean, or None where all of them exist."""


class WindowMemory:
    """Keys and values of ``layers`` attention layers for ``batch`` sessions; see the module for the layout.

    Unit ``t`` attends to the permanent tokens, the first ``initial`` units, the ``recent`` units before it and
    itself. Each session counts its own units. As long as all are at the same step and nothing is padded no mask is
    needed; otherwise one comes with the keys. Streaming is inference: what is stored carries no gradient.
    """

    def __init__(
        self,
        layers: int,
        heads: int,
        head_dim: int,
        unit: int,
        initial: int = 8,
        recent: int = 48,
        permanent: int = 0,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        sizes = {"layers": layers, "heads": heads, "head_dim": head_dim, "unit": unit, "batch": batch}
        if min(sizes.values()) < 1 or min(initial, recent, permanent) < 0:
            raise ValueError(
                f"a window memory needs sizes of at least one and windows of at least zero: {sizes}, "
                f"initial={initial}, recent={recent}, permanent={permanent}"
            )
        self.layers, self.heads, self.head_dim, self.unit = layers, heads, head_dim, unit
        self.initial, self.recent, self.permanent, self.batch = initial, recent, permanent, batch
        tokens = permanent + self.slots * unit
        with torch.inference_mode(False):  # so that a memory made while serving can also be used outside
            self.store = torch.zeros(layers, 2, batch, heads, tokens, head_dim, dtype=dtype, device=device)
            self.valid = torch.zeros(batch, tokens, dtype=torch.bool, device=device)
        self.counts = [0] * batch
        self.padded = [permanent > 0] * batch
        """Sessions in whose part of the buffer some position holds no token."""
        self._step: Step | None = None

    @property
    def slots(self) -> int:
        """Units the buffer holds: those a unit attends to, itself included."""
        return self.initial + self.recent + 1

    @property
    def nbytes(self) -> int:
        """Bytes of the whole memory, from the first step to the last."""
        return self.store.nbytes + self.valid.nbytes

    def frames(self, row: int = 0) -> list[int]:
        """The units of session ``row`` that its next unit will see, oldest first."""
        count = self.counts[row]
        return [*range(min(count, self.initial)), *range(max(self.initial, count - self.recent), count)]

    # --- one step -----------------------------------------------------------------------------------------------

    def begin(self, valid: Tensor | None = None) -> Step:
        """Open a step. ``valid`` (B, unit) is true where the unit has a token; None where all of it does.

        :meth:`append` does this by itself for units without padding. A step that is not committed can be begun again.
        """
        starts = [self._start(count) for count in self.counts]
        extent = self._extent(max(self.counts) + 1)
        if valid is not None:
            self.padded = [True] * self.batch
        device = self.store.device
        slots = torch.tensor(starts, device=device)[:, None] + torch.arange(self.unit, device=device)
        self.valid.scatter_(1, slots, torch.ones_like(slots, dtype=torch.bool) if valid is None else valid)
        dense = len(set(self.counts)) == 1 and not any(self.padded)
        self._step = Step(starts, slots, extent, None if dense else self.valid[:, None, None, :extent])
        return self._step

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Write the current unit, ``(B, heads, unit, head_dim)``, and return what it may attend to.

        Returns views of the keys and of the values, ``(B, heads, K, head_dim)``, and the mask of :class:`Step`.
        """
        step = self._step or self.begin()
        expected = (self.batch, self.heads, self.unit, self.head_dim)
        if tuple(keys.shape) != expected:
            raise ValueError(
                f"keys of shape {tuple(keys.shape)} for a memory of units (B, heads, unit, head_dim) = {expected}"
            )
        held = self.store[layer]
        if len(set(step.starts)) == 1:
            slot = slice(step.starts[0], step.starts[0] + self.unit)
            held[0, :, :, slot] = keys.detach()
            held[1, :, :, slot] = values.detach()
        else:
            rows = torch.arange(self.batch, device=held.device)[:, None]
            held[0, rows, :, step.slots] = keys.detach().transpose(1, 2)
            held[1, rows, :, step.slots] = values.detach().transpose(1, 2)
        return held[0, :, :, : step.extent], held[1, :, :, : step.extent], step.mask

    def commit(self, rows: Sequence[int] | None = None) -> None:
        """Close the step: the current unit becomes a past one, in ``rows`` (default: all).

        A session that sits out still sees at its next unit all that it would have seen: what was written for it lies
        in the slot of that unit.
        """
        for row in range(self.batch) if rows is None else rows:
            self.counts[row] += 1
        self._step = None

    def view(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """What the last unit attended to: keys, values ``(B, heads, K, head_dim)``, and which of them exist (B, K)."""
        extent = self.extent
        return self.store[layer, 0, :, :, :extent], self.store[layer, 1, :, :, :extent], self.valid[:, :extent]

    @property
    def extent(self) -> int:
        """Tokens in :meth:`view`, those that exist only for some sessions included."""
        return self._extent(max(self.counts))

    def _start(self, count: int) -> int:
        """First token of the slot that unit ``count`` is written to."""
        over = count - self.initial
        slot = count if over < 0 else self.initial + over % (self.recent + 1)
        return self.permanent + slot * self.unit

    def _extent(self, units: int) -> int:
        return self.permanent + min(units, self.slots) * self.unit

    # --- the permanent part ---------------------------------------------------------------------------------------

    def prefill(
        self, layer: int, keys: Tensor, values: Tensor, valid: Tensor | None = None, rows: Sequence[int] | None = None
    ) -> None:
        """Write what is never forgotten (an instruction), ``(R, heads, P, head_dim)``, for ``rows`` (default: all).

        ``P`` may be less than ``permanent``; ``valid`` (R, P) is true where there is a token, so prompts of different
        length may be padded on either side.
        """
        length = keys.shape[2]
        if length > self.permanent:
            raise ValueError(f"a prompt of {length} tokens does not fit a memory made with permanent={self.permanent}")
        which = list(range(self.batch)) if rows is None else list(rows)
        self.store[layer, 0, which, :, :length] = keys.detach()
        self.store[layer, 1, which, :, :length] = values.detach()
        self.valid[which, : self.permanent] = False
        self.valid[which, :length] = True if valid is None else valid
        for row in which:
            self.padded[row] = valid is not None or length < self.permanent

    # --- a memory as a value --------------------------------------------------------------------------------------

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Forget everything of ``rows`` (default: all), the permanent part included: new sessions begin there."""
        for row in range(self.batch) if rows is None else rows:
            self.counts[row], self.padded[row] = 0, self.permanent > 0
            self.valid[row] = False
        self._step = None

    def fork(self, rows: Sequence[int] | None = None) -> WindowMemory:
        """An independent copy of ``rows`` (default: all); a row may be named more than once."""
        which = list(range(self.batch)) if rows is None else list(rows)
        other = WindowMemory(**{**self.shape, "batch": len(which)}, dtype=self.store.dtype, device=self.store.device)
        other.store.copy_(self.store[:, :, which])
        other.valid.copy_(self.valid[which])
        other.counts = [self.counts[row] for row in which]
        other.padded = [self.padded[row] for row in which]
        return other

    @property
    def shape(self) -> dict[str, Any]:
        """The sizes it was made with, as arguments of the constructor."""
        names = ("layers", "heads", "head_dim", "unit", "initial", "recent", "permanent", "batch")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything it holds, as flat tensors (not copies)."""
        return {"store": self.store, "valid": self.valid, "counts": torch.tensor(self.counts),
                "padded": torch.tensor(self.padded)}  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the contents of a memory made with the same sizes."""
        if state["store"].shape != self.store.shape:
            raise ValueError(
                f"a memory of {tuple(state['store'].shape)} does not fit one of {tuple(self.store.shape)} "
                "(layers, 2, batch, heads, tokens, head_dim)"
            )
        self.store.copy_(state["store"])
        self.valid.copy_(state["valid"])
        self.counts, self.padded = state["counts"].tolist(), state["padded"].tolist()
        self._step = None

    def save(self, path: str | Path) -> None:
        """Write it to a safetensors file, whole or not at all."""
        path = Path(path)
        temporary = path.with_name(path.name + ".tmp")
        save_file(self.state_dict(), temporary, {"window_memory": json.dumps(self.shape)})
        os.replace(temporary, path)

    @classmethod
    def restore(cls, path: str | Path, device: torch.device | str = "cpu") -> WindowMemory:
        """Read one back. Raises ValueError for a file that holds something else."""
        with safe_open(path, "pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            if "window_memory" not in metadata:
                raise ValueError(f"{path} is no saved window memory: its metadata does not say so")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        memory = cls(**json.loads(metadata["window_memory"]), dtype=state["store"].dtype, device=device)
        memory.load_state_dict(state)
        return memory
