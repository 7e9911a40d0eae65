"""When is a short answer right? One rule for all generated questions.

Answers are one or two words. Both sides are brought to a canonical form (lower case, no punctuation, no articles and
openings such as "it is", one word for synonyms) and have to be equal then. For yes and no the first of the two words
that is said counts, as in POPE. What counts as a synonym is `SYNONYMS`; nothing is matched by likeness.
"""

from __future__ import annotations

import re

SYNONYMS = {
    "0": "zero", "none": "zero", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five",
    "left of": "left", "right of": "right", "over": "above", "on top": "above", "under": "below", "beneath": "below",
    "top left corner": "top left", "top right corner": "top right", "upper left": "top left",
    "upper right": "top right", "bottom left corner": "bottom left", "bottom right corner": "bottom right",
    "lower left": "bottom left", "lower right": "bottom right",
    "big": "large", "little": "small", "plain": "solid", "stripes": "striped", "dots": "dotted", "plus": "cross",
    "gray": "grey", "violet": "purple", "refrigerator": "fridge", "couch": "sofa", "tv": "television",
}  # fmt: skip
OPENING = re.compile(r"^((it|that|this|there|they) (is|are)|its|in|on|at|to|the|a|an)\b ?")


def canonical(text: str) -> str:
    """``"It's on the left."`` -> ``"left"``, ``"2"`` -> ``"two"``."""
    words = re.sub(r"\s+", " ", re.sub(r"[^\w\s]", " ", text.lower().replace("it's", "it is"))).strip()
    while (shorter := OPENING.sub("", words).strip()) != words:
        words = shorter
    return SYNONYMS.get(words, words)


def accepted(answer: str, reply: str) -> bool:
    """Does ``reply`` say ``answer``?"""
    if answer in ("yes", "no"):
        said = re.search(r"\b(yes|no)\b", reply.lower())
        return said is not None and said[1] == answer
    return canonical(reply) == canonical(answer)
