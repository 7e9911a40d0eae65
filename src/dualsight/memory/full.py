"""The memory that forgets nothing: keys and values of a whole sequence, in a buffer that is allocated once.

A growing ``transformers.DynamicCache`` copies itself at every token; here a token writes its own place. Rows can be
repeated, so that images of one prompt share the pass over it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class FullMemory:
    """Finalised keys and values (after norm and RoPE) of up to ``capacity`` tokens of ``batch`` rows.

    ``update`` has the signature of ``transformers.Cache``. All layers write the same tokens; the last one's write makes
    the memory longer.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        self.buffer = torch.empty(2, layers, batch, heads, capacity, head_dim, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.buffer.shape[4]

    @property
    def nbytes(self) -> int:
        return self.buffer.nbytes

    def update(
        self, keys: Float[Tensor, "B H Q d"], values: Float[Tensor, "B H Q d"], layer: int
    ) -> tuple[Float[Tensor, "B H K d"], Float[Tensor, "B H K d"]]:
        """Write the newest tokens of a layer; returns all of its tokens so far, as views.

        Raises:
            ValueError: they do not fit.
        """
        end = self.length + keys.shape[2]
        if end > self.capacity:
            raise ValueError(f"{end} tokens do not fit a memory of {self.capacity}")
        self.buffer[0, layer, :, :, self.length : end] = keys
        self.buffer[1, layer, :, :, self.length : end] = values
        if layer == self.buffer.shape[1] - 1:
            self.length = end
        return self.buffer[0, layer, :, :, :end], self.buffer[1, layer, :, :, :end]

    def select(self, rows: Int[Tensor, " R"], capacity: int | None = None) -> FullMemory:
        """A memory whose row i is a copy of row ``rows[i]`` of this one, by default with the same capacity."""
        chosen = object.__new__(FullMemory)
        shape = list(self.buffer.shape)
        shape[2], shape[4] = len(rows), capacity or self.capacity
        chosen.buffer = self.buffer.new_empty(shape)
        chosen.buffer[:, :, :, :, : self.length] = self.buffer[:, :, rows, :, : self.length]
        chosen.length = self.length
        return chosen
