"""What crosses the borders between a world, an agent and a data set.

The world frame is Habitat's: metres, Y up, an agent with heading 0 looks along -Z, and a positive turn
(to the left) is a positive rotation about +Y::

              -Z (heading 0)
               ^
               |
    -X <-------+-------> +X        Y points out of the page, at you
               |
               v
              +Z
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Frame = NDArray[np.uint8]
"""An RGB image, ``(H, W, 3)`` uint8."""

Point = NDArray[np.float64]
"""A place in the world, ``(3,)`` metres, Y up."""


class Action(IntEnum):
    """The four moves of VLN-CE, with VLN-CE's numbers."""

    STOP = 0
    MOVE_FORWARD = 1
    TURN_LEFT = 2
    TURN_RIGHT = 3


@dataclass(frozen=True)
class Pose:
    """Where an agent stands (on the floor) and looks: ``position`` (3,) metres, ``heading`` radians about +Y."""

    position: Point
    heading: float

    @property
    def forward(self) -> Point:
        """The unit vector it looks along: ``(-sin h, 0, -cos h)``."""
        return np.array([-math.sin(self.heading), 0.0, -math.cos(self.heading)])

    @property
    def right(self) -> Point:
        """The unit vector to its right: ``(cos h, 0, -sin h)``."""
        return np.array([math.cos(self.heading), 0.0, -math.sin(self.heading)])

    @property
    def rotation(self) -> list[float]:
        """The quaternion ``[x, y, z, w]`` that R2R-CE files store."""
        return [0.0, math.sin(self.heading / 2), 0.0, math.cos(self.heading / 2)]

    @classmethod
    def from_rotation(cls, position, rotation) -> Pose:
        """The pose of an R2R-CE ``start_position`` and ``start_rotation`` ([x, y, z, w], about Y only)."""
        _, y, _, w = rotation
        return cls(np.asarray(position, float), 2.0 * math.atan2(y, w))

    def turned(self, angle: float) -> Pose:
        """The same place, ``angle`` radians further to the left."""
        heading = self.heading + angle
        return Pose(self.position, math.atan2(math.sin(heading), math.cos(heading)))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera on the agent: square pixels, ``hfov`` in degrees, ``elevation`` metres above the floor."""

    width: int = 224
    height: int = 224
    hfov: float = 90.0
    elevation: float = 1.25
    pitch: float = 0.0
    """Radians, positive looks up."""

    @property
    def focal(self) -> float:
        """Focal length in pixels: ``(W / 2) / tan(hfov / 2)``."""
        return 0.5 * self.width / math.tan(math.radians(self.hfov) / 2)


@dataclass(frozen=True)
class View:
    """What a renderer returns for one pose, all ``(H, W)``: 0 stands for "nothing there" in depth and instances."""

    rgb: Frame
    """(H, W, 3) uint8."""
    depth: NDArray[np.float32]
    """Metres along the optical axis, not along the ray."""
    instances: NDArray[np.int32]
    """Index into ``Scene.instances``."""


@dataclass(frozen=True)
class Observation:
    """What an agent gets for one step. A navigator may use ``rgb`` only; the rest is for experts and for training."""

    rgb: Frame
    depth: NDArray[np.float32] | None = None
    instances: NDArray[np.int32] | None = None
    pose: Pose | None = None
    collided: bool = False


@dataclass(frozen=True)
class Episode:
    """One task: follow ``instruction`` from the start to the goal. The fields are those of R2R-CE v1-3 files."""

    episode_id: str
    scene_id: str
    start: Pose
    goal: Point
    instruction: str
    reference_path: list[Point] = field(default_factory=list)
    geodesic_distance: float = math.nan
    goal_radius: float = 3.0
    trajectory_id: str = ""
    info: dict = field(default_factory=dict)
    """Whatever else a data set says of it (style, rooms on the way, language...)."""


Picture = Path | Image.Image | Frame
"""An image: in a file, or in memory."""

IMAGE_MARK = "<image>"
"""Stands in the text of a turn where one image belongs."""


@dataclass(frozen=True)
class Turn:
    """What one side says. Each ``IMAGE_MARK`` in ``text`` stands for the next image of the conversation."""

    role: Literal["user", "assistant"]
    text: str
    untaught: tuple[str, ...] = ()
    """Words that an answer could have begun with in examples that the data leaves out: learning it, a model does not
    choose against them (see ``JanusBatch.untaught``)."""


@dataclass(frozen=True)
class Conversation:
    """Turns that begin with the user's and alternate; a model learns the assistant's. Without images: text only."""

    turns: tuple[Turn, ...]
    images: tuple[Picture, ...] = ()
    system: str | None = None
    """The system prompt; None is the model's own, an empty one is none."""


@dataclass(frozen=True)
class Drawing:
    """An image that a model should make from ``prompt``."""

    prompt: str
    image: Picture


class Examples(Protocol):
    """Anything with a length and items that can be asked for by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...
