"""Maps of the walkable ground of one storey, seen from above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TopDownMap:
    """North-up: X grows to the right, Z grows downwards, an agent with heading 0 walks up."""

    image: NDArray[np.bool_]
    """(H, W), True where the middle of an agent may be."""
    origin: NDArray[np.float64]
    """(2,) world x and z of the outer corner of pixel (0, 0)."""
    metres_per_pixel: float

    def to_pixel(self, points) -> NDArray[np.float64]:
        """World points (..., 3) to (..., 2) pixel coordinates, column before row, as drawing functions want them."""
        return (np.asarray(points, float)[..., [0, 2]] - self.origin) / self.metres_per_pixel

    def to_world(self, pixels, y: float) -> NDArray[np.float64]:
        """Pixel coordinates (..., 2) to world points (..., 3) at height ``y``: the inverse of ``to_pixel``."""
        x, z = np.moveaxis(np.asarray(pixels, float) * self.metres_per_pixel + self.origin, -1, 0)
        return np.stack([x, np.full_like(x, y), z], axis=-1)
