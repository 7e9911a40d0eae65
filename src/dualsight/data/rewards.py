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


NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)")


def numeric_match(prompt: str, answer: str, row: Row) -> float:
    """The last number that is said is the row's, to a millionth.

    Raises:
        ValueError: the row's answer is no number.
    """
    right = NUMBER.findall(str(row["answer"]))
    if not right:
        raise ValueError(f"the answer {row['answer']!r} is no number: use exact_match or multiple_choice")
    said = NUMBER.findall(answer)
    a, b = (float(numbers[-1].replace(",", "")) if numbers else math.nan for numbers in (said, right))
    return float(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9))


CHOICES = (
    re.compile(r"\\boxed\{\(?([A-Z])\b"),
    re.compile(r"\b(?i:answer|option|choice)\s*(?i:is)?\s*:?[\s*(]*([A-Z])\b(?!')"),
    re.compile(r"\(([A-Z])\)"),
    re.compile(r"^\s*([A-Z])\s*(?:[.:),]|$)"),
)


def multiple_choice(prompt: str, answer: str, row: Row) -> float:
    """The letter that is chosen is the row's: the last in a box, else in "answer is B", else in "(B)", else a "B" in
    front."""
    said = next((found[-1] for pattern in CHOICES if (found := pattern.findall(answer))), None)
    return float(said is not None and said == str(row["answer"]).strip("() .").upper())
