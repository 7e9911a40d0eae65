"""JanusVLN's dual implicit memory: keys and values of the decoder and of VGGT, owned by the sessions of a batch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
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
        """End a step for ``rows`` (default: all), whose next units begin at ``positions``. The parts have committed."""
        which = list(range(self.batch) if rows is None else rows)
        self.positions[which] = positions[which]

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
