"""JanusVLN's dual implicit memory: keys and values of the decoder and of VGGT, owned by the sessions of a batch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dualsight.memory.window import WindowMemory


@dataclass
class DualMemory:
    """What ``batch`` sessions remember. A value: it can be saved, forked, measured; the model holds none of it."""

    semantic: WindowMemory
    """The decoder's: prompts as the permanent part, one unit per frame."""
    spatial: WindowMemory | None
    """VGGT's, one unit per frame; None for a model without geometry."""
    positions: Int[Tensor, " B"]
    """The M-RoPE position at which each session's next unit begins."""

    @property
    def batch(self) -> int:
        return len(self.positions)

    @property
    def parts(self) -> dict[str, WindowMemory]:
        return {"semantic": self.semantic} | ({} if self.spatial is None else {"spatial": self.spatial})

    @property
    def nbytes(self) -> int:
        return self.positions.nbytes + sum(part.nbytes for part in self.parts.values())

    def frames(self, row: int = 0) -> list[int]:
        """The frames of session ``row`` that its next step will see, oldest first."""
        return self.semantic.frames(row)

    def steps(self, row: int = 0) -> int:
        """Frames that session ``row`` has seen."""
        return self.semantic.counts[row]

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Forget everything of ``rows`` (default: all), prompts included."""
        for part in self.parts.values():
            part.reset(rows)
        self.positions[list(range(self.batch) if rows is None else rows)] = 0

    def advance(self, positions: Int[Tensor, " B"], rows: Sequence[int] | None = None) -> None:
        """End a step for ``rows`` (default: all), whose next units begin at ``positions``.

        The spatial memory has committed its unit already. Sessions that took no part give theirs back: their slot is
        the one their next frame will be written to, so nothing that they remember was lost.
        """
        self.semantic.commit()
        if rows is None:
            self.positions = positions
            return
        self.positions[list(rows)] = positions[list(rows)]
        for part in self.parts.values():
            for idle in set(range(self.batch)) - set(rows):
                part.counts[idle] -= 1

    def fork(self, rows: Sequence[int] | None = None) -> DualMemory:
        """An independent copy of ``rows`` (default: all); a row may be named more than once."""
        which = list(range(self.batch) if rows is None else rows)
        spatial = None if self.spatial is None else self.spatial.fork(which)
        return DualMemory(self.semantic.fork(which), spatial, self.positions[which])

    def state_dict(self) -> dict[str, Tensor]:
        state = {"positions": self.positions}
        for name, part in self.parts.items():
            state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the contents of a memory made by a model of the same config for as many sessions."""
        for name, part in self.parts.items():
            part.load_state_dict({key: state[f"{name}.{key}"] for key in part.state_dict()})
        self.positions = state["positions"].to(self.positions.device)

    def save(self, path: str | Path) -> None:
        """Write it to a safetensors file, whole or not at all."""
        path = Path(path)
        temporary = path.with_name(path.name + ".tmp")
        shapes = {name: part.shape for name, part in self.parts.items()}
        save_file(self.state_dict(), temporary, {"dual_memory": json.dumps(shapes)})
        os.replace(temporary, path)

    @classmethod
    def restore(cls, path: str | Path, device: torch.device | str = "cpu") -> DualMemory:
        """Read one back. Raises ValueError for a file that holds something else."""
        with safe_open(path, "pt") as file:
            if "dual_memory" not in (metadata := file.metadata() or {}):
                raise ValueError(f"{path} is no saved dual memory: its metadata does not say so")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        dtype = state["semantic.store"].dtype
        parts = {
            name: WindowMemory(**shape, dtype=dtype, device=device)
            for name, shape in json.loads(metadata["dual_memory"]).items()
        }
        memory = cls(parts["semantic"], parts.get("spatial"), state["positions"].to(device))
        memory.load_state_dict(state)
        return memory


class PromptCache:
    """Lets transformers' decoder write prompts into the permanent part of a memory."""

    def __init__(self, memory: WindowMemory, valid: Bool[Tensor, "R L"], rows: Sequence[int]):
        self.memory, self.valid, self.rows = memory, valid, rows

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_) -> tuple[Tensor, Tensor]:
        self.memory.prefill(layer_idx, keys, values, self.valid, self.rows)
        return keys, values


class UnitCache:
    """Lets transformers' decoder write the current unit into a memory and attend to what the memory holds."""

    def __init__(self, memory: WindowMemory, valid: Bool[Tensor, "B U"]):
        self.memory = memory
        step = memory.begin(valid)
        self.visible = _causal_in_unit(memory, step.starts, step.extent, valid)

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_) -> tuple[Tensor, Tensor]:
        keys, values, _mask = self.memory.append(layer_idx, keys, values)
        return keys, values


def _causal_in_unit(
    memory: WindowMemory, starts: list[int], extent: int, valid: Bool[Tensor, "B U"]
) -> Bool[Tensor, "B 1 U K"]:
    """All of the past, and of the current unit what stands before each token, itself (even if empty) included."""
    size = valid.shape[1]
    visible = memory.valid[:, None, :extent].expand(-1, size, -1).clone()
    order = torch.arange(size, device=valid.device)
    causal = (order <= order[:, None]) & valid[:, None] | torch.eye(size, dtype=torch.bool, device=valid.device)
    slot = torch.tensor(starts, device=valid.device)[:, None, None] + order  # (B, 1, U)
    return visible.scatter_(2, slot.expand(-1, size, -1), causal)[:, None]


class DraftCache:
    """Tokens after the last committed unit that the memory itself never holds."""

    def __init__(self, memory: WindowMemory):
        self.memory = memory
        self.drafts: dict[int, tuple[Tensor, Tensor]] = {}
        self.held = memory.view(0)[2]  # (B, K)

    @property
    def visible(self) -> Bool[Tensor, "B 1 1 K"]:
        """For the next draft token: what the memory holds, the drafts before it and itself."""
        drafted = self.drafts[0][0].shape[2] if self.drafts else 0
        return torch.nn.functional.pad(self.held, (0, drafted + 1), value=True)[:, None, None]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_) -> tuple[Tensor, Tensor]:
        if layer_idx in self.drafts:
            drafted = self.drafts[layer_idx]
            keys, values = torch.cat([drafted[0], keys], dim=2), torch.cat([drafted[1], values], dim=2)
        self.drafts[layer_idx] = keys, values
        past_keys, past_values, _ = self.memory.view(layer_idx)
        return torch.cat([past_keys, keys], dim=2), torch.cat([past_values, values], dim=2)
