"""A film of an episode: what it was told, what it sees, where it is, what it does, what it remembers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dualsight.data.files import replacing
from dualsight.extras import install
from dualsight.inference.plan import Plan, font
from dualsight.types import Action, Frame, Pose

PAPER, INK, FAINT, WHITE = (250, 249, 246), (32, 33, 36), (120, 118, 114), (255, 255, 255)
TAKEN, GOAL, REFERENCE = (206, 62, 56), (34, 130, 60), (74, 116, 196)
FIRST_FRAMES, LATEST_FRAMES = (74, 116, 196), (224, 142, 40)
VIEW = 400
"""Side of the picture of what lies ahead, pixels."""
PLAN_SIZE = 524, VIEW
WIDTH, HEIGHT, GAP, TOP = 960, 600, 12, 92
THUMBS = 28
"""Remembered frames in a row; two rows hold the TINY memory of 8 + 48."""
FPS = 8
NAMES = {Action.STOP: "STOP", Action.MOVE_FORWARD: "FORWARD", Action.TURN_LEFT: "LEFT", Action.TURN_RIGHT: "RIGHT"}


@dataclass(frozen=True)
class Moment:
    """One step of a film."""

    frame: Frame
    """What the agent saw."""
    view: Frame
    """The same view, sharp, for people: (VIEW, VIEW, 3)."""
    pose: Pose
    action: Action
    distance: float
    """Metres left to the goal."""
    held: Sequence[int]
    """The frames in memory, oldest first."""


@dataclass
class Film:
    """Collects the moments of one episode and writes them as MP4."""

    instruction: str
    plans: list[Plan]
    """One per storey, lowest first, of ``PLAN_SIZE``."""
    reference: NDArray[np.float64]
    """(R, 3) the way that the instruction speaks of; it ends at the goal."""
    moments: list[Moment] = field(default_factory=list)
    outcome: tuple[bool, str] | None = None
    """Whether the goal was reached, and a few words; shown at the end."""
    _thumbs: dict[tuple[int, int], Image.Image] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Encode as H.264 MP4 that browsers play; whole or absent. Raises ImportError naming the extra."""
        try:
            import av
        except ImportError as error:
            raise ImportError(f"films need PyAV: {install('video')}") from error
        with (
            replacing(path) as temporary,
            av.open(str(temporary), "w", options={"movflags": "+faststart"}) as container,
        ):
            stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "28", "preset": "superfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for picture in [*map(self.draw, range(len(self.moments))), *[self.draw_end()] * (2 * FPS)]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
            container.mux(stream.encode())

    def draw(self, step: int) -> Image.Image:
        """The picture of one moment, (HEIGHT, WIDTH)."""
        moment = self.moments[step]
        picture = self._page.copy()
        picture.paste(Image.fromarray(moment.view), (GAP, TOP))
        picture.paste(self._draw_plan(step), (VIEW + 2 * GAP, TOP))
        pen = ImageDraw.Draw(picture, "RGBA")
        _label(pen, GAP + 10, TOP + 10, f"step {step}   {moment.distance:.1f} m to go")
        _draw_action(pen, GAP + VIEW / 2, TOP + VIEW - 50, moment.action)
        self._draw_memory(picture, pen, step)
        return picture

    def draw_end(self) -> Image.Image:
        """The last moment, with the outcome across the view."""
        picture = self.draw(len(self.moments) - 1)
        if self.outcome:
            reached, words = self.outcome
            pen = ImageDraw.Draw(picture, "RGBA")
            top = TOP + VIEW // 2 - 26
            pen.rectangle((GAP, top, GAP + VIEW - 1, top + 52), (*(GOAL if reached else TAKEN), 225))
            pen.text((GAP + VIEW / 2, top + 26), words, WHITE, font(21), "mm")
        return picture

    @cached_property
    def _page(self) -> Image.Image:
        """What stays the same: the instruction, as large as fits above the view (its end left out, if it is a book)."""
        picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        pen = ImageDraw.Draw(picture)
        for size in (21, 19, 17, 15, 13, 11):
            letter = pen.textlength(self.instruction, font(size)) / len(self.instruction)
            columns, fitting = int(0.96 * (WIDTH - 2 * GAP) / letter), int((TOP - 10) / (1.35 * size))
            if len(lines := textwrap.wrap(self.instruction, columns)) <= fitting:
                break
        lines = textwrap.wrap(self.instruction, columns, max_lines=fitting, placeholder=" ...")
        pen.multiline_text((GAP, TOP / 2), "\n".join(lines), INK, font(size), "lm", spacing=0.3 * size)
        return picture

    def _draw_plan(self, step: int) -> Image.Image:
        """The storey the agent is on, the way it should go, the way it went, and where it looks."""
        pose = self.moments[step].pose
        plan = min(self.plans, key=lambda plan: abs(plan.y - pose.position[1]))
        canvas = plan.image.copy()
        pen = ImageDraw.Draw(canvas, "RGBA")
        walked = np.stack([moment.pose.position for moment in self.moments[: step + 1]])
        _draw_path(pen, plan, self.reference, (*REFERENCE, 110), 6)
        _draw_path(pen, plan, walked, (*TAKEN, 255), 3)
        if abs(self.reference[-1, 1] - plan.y) < 1.0:
            (x, y) = plan.place(self.reference[-1:])[0]
            for radius, colour in ((9, WHITE), (8, GOAL), (5, WHITE), (3, GOAL)):
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
        _draw_agent(pen, plan.place(pose.position[None])[0], pose)
        if len(self.plans) > 1:
            floor = "upper" if plan is self.plans[-1] else "ground"
            pen.text((PLAN_SIZE[0] - 8, PLAN_SIZE[1] - 8), f"{floor} floor", FAINT, font(13), "rs")
        return canvas

    def _draw_memory(self, picture: Image.Image, pen: ImageDraw.ImageDraw, step: int) -> None:
        """The frames that the agent holds: those of the beginning underlined in one colour, the latest in another."""
        held = [index for index in self.moments[step].held if index <= step]
        columns = max(THUMBS, -(-len(held) // 2))
        side = (WIDTH - 2 * GAP) / columns
        size = int(side) - 2
        top = TOP + VIEW + 30
        pen.text((GAP, top - 11), f"remembers {len(held)} of {step + 1} frames", FAINT, font(14), "lm")
        for place, index in enumerate(held):
            x, y = round(GAP + place % columns * side), top + place // columns * (size + 5)
            picture.paste(self._thumb(index, size), (x, y))
            first = index == place and len(held) < step + 1  # older than the gap of forgotten frames
            pen.rectangle((x, y + size, x + size - 1, y + size + 1), FIRST_FRAMES if first else LATEST_FRAMES)

    def _thumb(self, index: int, size: int) -> Image.Image:
        if (index, size) not in self._thumbs:
            frame = Image.fromarray(self.moments[index].frame)
            self._thumbs[index, size] = frame.resize((size, size), Image.Resampling.BOX)
        return self._thumbs[index, size]


def _label(pen: ImageDraw.ImageDraw, x: float, y: float, text: str) -> None:
    """White on a dark, translucent pill whose upper left corner is (x, y)."""
    right = x + pen.textlength(text, font(15)) + 20
    pen.rounded_rectangle((x, y, right, y + 26), 13, (20, 20, 24, 170))
    pen.text((x + 10, y + 13), text, WHITE, font(15), "lm")


def _draw_action(pen: ImageDraw.ImageDraw, x: float, y: float, action: Action) -> None:
    """A sign for the action in a dark disc, its name below."""
    pen.ellipse((x - 26, y - 26, x + 26, y + 26), (20, 20, 24, 170))
    if action is Action.STOP:
        pen.rounded_rectangle((x - 10, y - 10, x + 10, y + 10), 3, (240, 96, 88))
    else:
        turns = {Action.MOVE_FORWARD: 0.0, Action.TURN_LEFT: np.pi / 2, Action.TURN_RIGHT: -np.pi / 2}
        arrow = np.array([[0, -15], [12, -1], [4.5, -1], [4.5, 14], [-4.5, 14], [-4.5, -1], [-12, -1]])
        cos, sin = np.cos(turns[action]), np.sin(turns[action])
        points = arrow @ np.array([[cos, -sin], [sin, cos]]) + (x, y)
        pen.polygon([tuple(point) for point in points], WHITE)
    pen.text((x, y + 33), NAMES[action], WHITE, font(12), "mm", stroke_width=2, stroke_fill=(20, 20, 24))


def _draw_path(pen: ImageDraw.ImageDraw, plan: Plan, points: NDArray, colour: tuple, width: int) -> None:
    """The parts of a path that lie on the plan's storey."""
    here = points[np.abs(points[:, 1] - plan.y) < 1.5]
    if len(here) > 1:
        pen.line([tuple(place) for place in plan.place(here)], colour, width, "curve")


def _draw_agent(pen: ImageDraw.ImageDraw, at: NDArray, pose: Pose) -> None:
    """A dot with the sector that the agent sees (90 degrees)."""
    x, y = at
    ahead = float(np.degrees(np.arctan2(pose.forward[2], pose.forward[0])))
    pen.pieslice((x - 42, y - 42, x + 42, y + 42), ahead - 45, ahead + 45, (*TAKEN, 70))
    pen.ellipse((x - 7, y - 7, x + 7, y + 7), WHITE)
    pen.ellipse((x - 5, y - 5, x + 5, y + 5), TAKEN)
