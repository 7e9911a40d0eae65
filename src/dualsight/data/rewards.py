"""What an answer is worth: S(prompt, answer, row), for GRPO. Any function of these three will do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Row = Mapping[str, Any]
"""What a prompt is given as: ``inputs``, a batch of one for the VLM; ``prompt``, its text; and what its reward needs,
such as ``answer``."""
Reward = Callable[[str, str, Row], float]
"""Prompt, answer, row -> S."""
Decode = Callable[[list[int]], str]
"""Ids of an answer, without those of memory -> its text."""


def exact_match(prompt: str, answer: str, row: Row) -> float:
    """The row's answer and nothing else, but for case, spaces and a full stop."""
    said, right = (" ".join(text.casefold().split()).rstrip(".").rstrip() for text in (answer, str(row["answer"])))
    return float(said == right)


NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+|\s?/\s?\d+)?")
"""1,024, -.5, 2e-3 and 3/4."""


def numeric_match(prompt: str, answer: str, row: Row) -> float:
    """The last number that is said is the row's, to a millionth.

    Raises:
        ValueError: the row's answer is no number.
    """
    right = NUMBER.findall(str(row["answer"]))
    if not right:
        raise ValueError(f"the answer {row['answer']!r} is no number: use exact_match or multiple_choice")
    said = NUMBER.findall(answer)
    return float(math.isclose(_value(said[-1]) if said else math.nan, _value(right[-1]), rel_tol=1e-6, abs_tol=1e-9))


def _value(number: str) -> float:
    above, _, below = number.replace(",", "").partition("/")
    return float(above) / float(below or 1) if float(below or 1) else math.nan


CHOICES = (
    re.compile(r"\\boxed\{\(?([A-Za-z])\b"),
    re.compile(r"\b(?i:answer|option|choice)\s*(?i:is)?\s*:?[\s*(]*(?:([A-Z])\b(?!')|([a-z])(?=[\s*)]*(?:[.,]|$)))"),
    re.compile(r"\b(?i:pick|choose|select)\s*:?[\s*(]*([A-Z])\b(?!')"),
    re.compile(r"\(([A-Za-z])\)"),
    re.compile(r"^\s*(?:([A-Z])\s*(?:[.:),]|$)|([a-z])\s*(?:[.:)]|$))"),
)
"""A small letter is one where nothing follows: "the answer is a" may go on as "a red cup"."""
CHOICE = re.compile(r"\s*(?:\(([A-Za-z])\)|([A-Za-z])\s*(?:[.:)]|$))")
"""B, b), (B) or "B. red": how a row may write the right one."""


def multiple_choice(prompt: str, answer: str, row: Row) -> float:
    """The letter that is chosen is the row's: the last in a box, else in "answer is B", else in "I pick B", else in
    "(B)", else a "B" in front.

    Raises:
        ValueError: the row's answer does not begin with a letter.
    """
    right = CHOICE.match(str(row["answer"]))
    if not right:
        raise ValueError(
            f"the answer {row['answer']!r} is no choice: expected a letter, such as B, (B) or 'B. red', or another "
            "reward: exact_match"
        )
    said = next((found[-1] for pattern in CHOICES if (found := list(pattern.finditer(answer)))), None)
    return float(said is not None and _letter(said) == _letter(right))


def _letter(found: re.Match[str]) -> str:
    return next(letter for letter in found.groups() if letter).upper()
