"""Configs are frozen dataclasses; this reads them back from JSON, and fails on what they do not know."""

from __future__ import annotations

import typing
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

Config = TypeVar("Config")


def build(cls: type[Config], data: dict[str, Any], where: str) -> Config:
    """A nested frozen dataclass from what JSON made of it (lists instead of tuples).

    Raises:
        ValueError: a key is unknown or missing; all of them are named.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # ty: ignore[invalid-argument-type]
    if unknown := sorted(set(data) - known):
        raise ValueError(f"unknown key {', '.join(unknown)} in {where}; known keys: {', '.join(sorted(known))}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    for key, value in values.items():
        if isinstance(value, dict) and (nested := _dataclass_of(hints[key], value)):
            values[key] = build(nested, value, f"{where}.{key}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _dataclass_of(hint: Any, data: dict[str, Any]) -> Any:
    """The dataclass of ``X`` or ``X | None``, of several the first that has all keys; None for another type."""
    options: list[Any] = [option for option in (hint, *typing.get_args(hint)) if is_dataclass(option)]
    fitting = [option for option in options if set(data) <= {f.name for f in fields(option)}]
    return next(iter(fitting or options), None)
