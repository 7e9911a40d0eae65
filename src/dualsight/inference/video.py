"""A film of an episode: what the agent sees, where it is, what it was told, what it does, what it remembers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dualsight.types import Action, Frame

PAPER, INK, FAINT = (250, 249, 246), (32, 33, 36), (170, 170, 170)
TAKEN, GOAL, REFERENCE = (214, 69, 65), (46, 125, 50), (96, 125, 180)
ARROWS = {Action.STOP: "stop", Action.MOVE_FORWARD: "forward", Action.TURN_LEFT: "left", Action.TURN_RIGHT: "right"}
SIDE, MARGIN, THUMB = 320, 12, 36
WIDTH, HEIGHT = 2 * SIDE + 3 * MARGIN, SIDE + 220


@dataclass(frozen=True)
class Map:
    """One storey from above: ``image`` (H, W, 3) uint8, and what turns points of the world into its pixels."""

    image: Frame
    to_pixel: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """A function from (N, 3) metres to (N, 2) pixels as (column, row)."""


@dataclass
class Film:
    """Collects the moments of one episode and writes them as MP4.

    ``maps`` has one map per storey; a moment is drawn on the map whose height is nearest.
    """

    instruction: str
    maps: dict[float, Map]
    reference: NDArray[np.float64]
    """(R, 3) the path the instruction speaks of."""
    goal: NDArray[np.float64]
    frames: list[Frame] = field(default_factory=list)
    positions: list[NDArray[np.float64]] = field(default_factory=list)
    headings: list[float] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    held: list[list[int]] = field(default_factory=list)

    def add(self, frame: Frame, position: NDArray, heading: float, action: Action, held: list[int]) -> None:
        """One moment: the frame, the pose it was taken from, the action chosen there, and the frames held in memory."""
        self.frames.append(frame)
        self.positions.append(np.asarray(position, float))
        self.headings.append(heading)
        self.actions.append(action)
        self.held.append(list(held))

    def write(self, path: Path, fps: int = 6) -> None:
        """Encode as H.264 MP4 that browsers play; complete or absent. Raises ImportError naming the extra."""
        try:
            import av
        except ImportError as error:
            raise ImportError("films need PyAV: pip install 'dualsight[video]'") from error
        temporary = path.with_suffix(".part.mp4")
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "27", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for step in [*range(len(self.frames)), *[len(self.frames) - 1] * fps]:  # the last moment stays for a second
                picture = av.VideoFrame.from_ndarray(np.asarray(self.draw(step)), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        temporary.replace(path)

    def draw(self, step: int) -> Image.Image:
        """The picture of one moment, (HEIGHT, WIDTH)."""
        picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        view = Image.fromarray(self.frames[step]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.paste(view, (MARGIN, MARGIN))
        picture.paste(self._draw_map(step), (SIDE + 2 * MARGIN, MARGIN))
        pen = ImageDraw.Draw(picture)
        top = SIDE + 2 * MARGIN
        pen.text((MARGIN, top), f"step {step}", fill=FAINT, font=_font(15))
        pen.text((MARGIN + 70, top), ARROWS[self.actions[step]], fill=TAKEN, font=_font(16))
        for i, line in enumerate(textwrap.wrap(self.instruction, 92)[:5]):
            pen.text((MARGIN, top + 26 + 19 * i), line, fill=INK, font=_font(15))
        self._draw_memory(picture, pen, step, HEIGHT - THUMB - MARGIN)
        return picture

    def _draw_map(self, step: int) -> Image.Image:
        height = min(self.maps, key=lambda y: abs(y - self.positions[step][1]))
        storey = self.maps[height]
        rows, columns = storey.image.shape[:2]
        scale = min(SIDE / columns, SIDE / rows)
        canvas = Image.new("RGB", (SIDE, SIDE), PAPER)
        size = max(1, round(columns * scale)), max(1, round(rows * scale))
        canvas.paste(Image.fromarray(storey.image).resize(size, Image.Resampling.BOX), (0, 0))
        pen = ImageDraw.Draw(canvas)

        def place(points) -> list[tuple[float, float]]:
            return [(float(x) * scale, float(y) * scale) for x, y in storey.to_pixel(np.atleast_2d(points))]

        here = [p for p in self.positions[: step + 1] if abs(p[1] - height) < 1.5]
        for points, colour, width in ((self.reference, REFERENCE, 2), (here, TAKEN, 3)):
            near = [p for p in points if abs(p[1] - height) < 1.5]
            if len(near) > 1:
                pen.line(place(near), fill=colour, width=width, joint="curve")
        if abs(self.goal[1] - height) < 1.5:
            (x, y), r = place(self.goal)[0], 6
            pen.ellipse((x - r, y - r, x + r, y + r), outline=GOAL, width=3)
        (x, y), heading = place(self.positions[step])[0], self.headings[step]
        ahead = np.array([-np.sin(heading), -np.cos(heading)])
        side = np.array([-ahead[1], ahead[0]])
        tip = np.array([x, y])
        pen.polygon(
            [tuple(tip + 10 * ahead), tuple(tip - 6 * ahead + 6 * side), tuple(tip - 6 * ahead - 6 * side)], fill=TAKEN
        )
        return canvas

    def _draw_memory(self, picture: Image.Image, pen: ImageDraw.ImageDraw, step: int, top: int) -> None:
        """The frames that both memories hold, oldest first, squeezed into one row."""
        held = [i for i in self.held[step] if i < len(self.frames)]
        pen.text((MARGIN, top - 20), f"remembered: {len(held)} frames", fill=FAINT, font=_font(13))
        if not held:
            return
        stride = min(THUMB + 2, (WIDTH - 2 * MARGIN - THUMB) / max(1, len(held) - 1))
        for n, i in enumerate(held):
            thumb = Image.fromarray(self.frames[i]).resize((THUMB, THUMB), Image.Resampling.BOX)
            picture.paste(thumb, (int(MARGIN + n * stride), top))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
