"""What is wrong with a set of chats, row by row, before a run finds it: ``dualsight data validate``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dualsight.data.chats import expand, open_file
from dualsight.data.reader import Chats
from dualsight.data.rows import KINDS, Example, kind_of
from dualsight.pictures import open_picture
from dualsight.types import Drawing, Picture


@dataclass
class Spread:
    """The least, the mean and the most of numbers that are added one by one."""

    count: int = 0
    total: int = 0
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: int) -> None:
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)

    def __str__(self) -> str:
        return f"{self.least:.0f} to {self.most:.0f}, mean {self.total / self.count:.0f}" if self.count else "none"


@dataclass
class Report:
    """What `validate` found."""

    rows: int = 0
    """Good and bad."""
    bad: int = 0
    """Rows that cannot be used, and files that cannot be opened, each as one."""
    problems: list[str] = field(default_factory=list)
    """The first of them, each with its file and row."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Good rows: understanding, text, generation."""
    width: Spread = field(default_factory=Spread)
    """Of the images of good rows, pixels."""
    height: Spread = field(default_factory=Spread)
    prompts: Spread = field(default_factory=Spread)
    """Length of what the user says in a good row, characters (all its turns together)."""
    answers: Spread = field(default_factory=Spread)
    """Length of what the assistant says in a good row, characters."""
    tokens: Spread = field(default_factory=Spread)
    """Of a good row, where they were counted."""


def validate(
    path: Path | str,
    *,
    limit: int = 20,
    columns: Mapping[str, str] | None = None,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
    tokens: Callable[[Example], int] | None = None,
    capacity: int = 4096,
    console: Console | None = None,
) -> Report:
    """Read every row that `chats.open_data` would give, and decode every image in it.

    A row or a file that is bad does not end the search.

    Args:
        limit: how many problems the report holds; all are counted.
        columns, images, root, split: as in `chats.open_data`.
        tokens: how many an example has for the model that is to learn from it; None: they are not counted.
        capacity: tokens of a packed row. An example of more is bad: training would stop at it.
        console: where a progress bar goes; None: nowhere.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ImportError: the extra that a format needs is missing.
    """
    report = Report()

    def bad(problem: object) -> None:
        report.bad += 1
        if len(report.problems) < limit:
            report.problems.append(str(problem))

    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, console=console, transient=True) if console else nullcontext() as progress:
        for file in expand(path):
            try:
                chats = open_file(file, columns=columns, images=images, root=root, split=split)
            except ValueError as error:
                bad(error)
                continue
            if not len(chats):
                bad(f"{file} holds no rows")
            numbers = range(len(chats))
            for index in progress.track(numbers, description=file.name) if progress else numbers:
                report.rows += 1
                try:
                    _examine(chats, index, report, tokens, capacity)
                except ValueError as error:
                    bad(error)
    return report


def validate_data(path: Path | str, limit: int = 20, **reading: Any) -> int:
    """Print what `validate` finds (``reading`` is passed on to it); returns how many rows or files are bad."""
    console = Console(soft_wrap=True)
    report = validate(path, limit=limit, console=console, **reading)
    for problem in report.problems:
        console.print(escape(problem), highlight=False)
    if report.bad > len(report.problems):
        console.print(f"... and {report.bad - len(report.problems)} more")
    table = Table(show_header=False, title=escape(str(path)))
    table.add_row("rows", f"{report.rows}, {report.bad} bad" if report.bad else f"{report.rows}, all good")
    for kind in KINDS:
        table.add_row(kind, str(report.kinds[kind]))
    table.add_row("images", str(report.width.count))
    table.add_row("width, pixels", str(report.width))
    table.add_row("height, pixels", str(report.height))
    table.add_row("prompts, characters", str(report.prompts))
    table.add_row("answers, characters", str(report.answers))
    if report.tokens.count:
        table.add_row("tokens", str(report.tokens))
    console.print(table)
    return report.bad


def _examine(chats: Chats, index: int, report: Report, tokens: Callable[[Example], int] | None, capacity: int) -> None:
    """Add a row to the report. Raises ValueError, which names the row, when it is bad; nothing is added then."""
    example = chats[index]
    try:
        sizes = [open_picture(picture).size for picture in _images(example)]
        length = tokens(example) if tokens else 0
        if length > capacity:
            raise ValueError(f"has {length} tokens, a packed row {capacity}; shorten it, or raise --capacity")
    except ValueError as error:
        raise ValueError(f"{chats.where(index)}: {error}") from error
    report.kinds[kind_of(example)] += 1
    if tokens:
        report.tokens.add(length)
    for width, height in sizes:
        report.width.add(width)
        report.height.add(height)
    if isinstance(example, Drawing):
        report.prompts.add(len(example.prompt))
    else:
        report.prompts.add(sum(len(turn.text) for turn in example.turns if turn.role == "user"))
        report.answers.add(sum(len(turn.text) for turn in example.turns if turn.role == "assistant"))


def _images(example: Example) -> tuple[Picture, ...]:
    return (example.image,) if isinstance(example, Drawing) else example.images
