"""One row of a chat data set, whatever file it stands in, as a `Conversation` or a `Drawing`.

Four shapes are known, each by the field that only it has::

    {"messages": [{"role": "user", "content": "<image> What is this?"}, {"role": "assistant", "content": "A cup."}],
     "images": ["a.png"], "system": "..."}
    {"conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", "value": "..."}], "image": "a.png"}
    {"question": "What is this?", "answer": "A cup.", "image": "a.png"}       <image> is put before it if it has none
    {"prompt": "a red cup", "image": "a.png"}                                 text to image

``image`` and ``images`` are one field, a name or a list of names. ``id`` is allowed everywhere, null means absent, a
first message of the role "system" is the system prompt, and a message's content may be a list of parts
(``{"type": "image"}``, ``{"type": "text", "text": "..."}``). Any other key is an error: a misspelt one would
otherwise be data that silently never trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from dualsight.types import IMAGE_MARK, Conversation, Drawing, Picture, Turn

Example = Conversation | Drawing
Kind = Literal["understanding", "text", "generation"]
KINDS: tuple[Kind, ...] = ("understanding", "text", "generation")

COMMON = {"id", "image", "images"}
ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}


class BadData(ValueError):
    """A file that cannot be read, or a row in it; the message names file and row."""


def kind_of(example: Example) -> Kind:
    """Which of the three kinds that training mixes ``example`` belongs to."""
    if isinstance(example, Drawing):
        return "generation"
    return "understanding" if example.images else "text"


def example_of(row: dict[str, Any], picture: Callable[[Any], Picture]) -> Example:
    """The example that ``row`` describes.

    Args:
        picture: makes an image of what the row gives for one.

    Raises:
        ValueError: saying what is wrong, but not where; the caller knows where.
    """
    row = {key: value for key, value in row.items() if value is not None}
    shapes = [key for key in SHAPES if key in row]
    if len(shapes) != 1:
        raise ValueError(
            f"has {' and '.join(shapes) or 'none'} of {', '.join(SHAPES)}; exactly one is expected. "
            f"Its keys: {_names(row)}"
        )
    known, make = SHAPES[shapes[0]]
    if unknown := row.keys() - known - COMMON:
        raise ValueError(f"unknown key {_names(unknown)}; a row with {shapes[0]} has {_names(known | COMMON)}")
    return make(row, tuple(picture(value) for value in _listed(row)))


def _listed(row: dict[str, Any]) -> list[Any]:
    if "image" in row and "images" in row:
        raise ValueError("has image and images; one of them is expected")
    value = row.get("images", row.get("image", []))
    return value if isinstance(value, list) else [value]


def _from_messages(row: dict[str, Any], images: tuple[Picture, ...]) -> Conversation:
    said = [_said(entry, n, "role", "content") for n, entry in enumerate(_list(row, "messages"), 1)]
    return _conversation(said, images, row)


def _from_llava(row: dict[str, Any], images: tuple[Picture, ...]) -> Conversation:
    said = [_said(entry, n, "from", "value") for n, entry in enumerate(_list(row, "conversations"), 1)]
    return _conversation(said, images, row)


def _from_question(row: dict[str, Any], images: tuple[Picture, ...]) -> Conversation:
    question = _text(row["question"], "question")
    marks = "" if IMAGE_MARK in question else (IMAGE_MARK + "\n") * len(images)
    said = [("user", marks + question), ("assistant", _text(row.get("answer"), "answer"))]
    return _conversation(said, images, row)


def _drawing(row: dict[str, Any], images: tuple[Picture, ...]) -> Drawing:
    if len(images) != 1:
        raise ValueError(f"has a prompt and {len(images)} images; exactly one is expected")
    return Drawing(_text(row["prompt"], "prompt"), images[0])


SHAPES: dict[str, tuple[set[str], Callable[[dict[str, Any], tuple[Picture, ...]], Example]]] = {
    "messages": ({"messages", "system"}, _from_messages),
    "conversations": ({"conversations", "system", "model"}, _from_llava),
    "question": ({"question", "answer", "system"}, _from_question),
    "prompt": ({"prompt"}, _drawing),
}
"""By the field that only this shape has: the fields it knows besides `COMMON`, and what makes an example of it."""


def _list(row: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(row[key], list):
        raise ValueError(f"{key} is {row[key]!r:.80}; a list is expected")
    return row[key]


def _said(entry: Any, number: int, role_key: str, text_key: str) -> tuple[str, str]:
    """Role and text of one message."""
    where = f"message {number}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {entry!r:.80}; an object with {role_key} and {text_key} is expected")
    if entry.keys() != {role_key, text_key}:
        raise ValueError(f"{where} has the keys {_names(entry) or 'none'}; expected {role_key} and {text_key}")
    role = entry[role_key]
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"{where} is said by {role!r:.80}; expected one of {_names(ROLES)}")
    content = entry[text_key]
    if isinstance(content, list):
        content = "".join(_part(part, where) for part in content)
    return ROLES[role], _text(content, where)


def _part(part: Any, where: str) -> str:
    match part:
        case {"type": "image"}:
            return IMAGE_MARK
        case {"type": "text", "text": str(text)}:
            return text
    raise ValueError(f'{where} has the part {part!r:.80}; expected {{"type": "image"}} or a text')


def _conversation(said: Sequence[tuple[str, str]], images: tuple[Picture, ...], row: dict[str, Any]) -> Conversation:
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise ValueError(f"system is {system!r:.80}; a text is expected")
    if said and said[0][0] == "system":
        if system:
            raise ValueError("has a system prompt twice: as its first message and in system")
        system, said = said[0][1], said[1:]
    turns = []
    for number, (role, text) in enumerate(said, 1):
        expected: Literal["user", "assistant"] = "user" if number % 2 else "assistant"
        if role != expected:
            raise ValueError(f"turn {number} is the {role}'s, expected the {expected}'s: the user begins, then in turn")
        turns.append(Turn(expected, text))
    if not turns or turns[-1].role == "user":
        raise ValueError(
            f"ends without an answer after {len(turns)} turn(s); the last is expected to be the assistant's"
        )
    marks = sum(turn.text.count(IMAGE_MARK) for turn in turns)
    if marks != len(images):
        raise ValueError(f"has {marks} {IMAGE_MARK} in its turns and {len(images)} image(s); as many are expected")
    return Conversation(tuple(turns), images, system)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r:.80}; a text is expected")
    if not value.strip():
        raise ValueError(f"{what} is empty; a text is expected")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} holds half a character (a lone surrogate, \\ud800 to \\udfff): {value!r:.80}"
        ) from None
    return value


def _names(keys) -> str:
    return ", ".join(sorted(map(str, keys)))[:200]
