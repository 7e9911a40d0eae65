"""Functions by their names: ours, and a user's own as ``module:function`` on the Python path (a reward, a judge)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def function_of(name: str, what: str, ours: Mapping[str, Callable[..., Any]] | None = None) -> Callable[..., Any]:
    """One of ``ours``, or the function behind ``module:function``.

    Raises:
        ValueError: there is none; ``what`` says what was asked for.
    """
    ours = ours or {}
    if name in ours:
        return ours[name]
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        expected = " or ".join(filter(None, [", ".join(ours), "module:function"]))
        raise ValueError(f"no {what} {name!r}: {error}; expected {expected}, on the Python path") from error
    if not callable(found):
        raise ValueError(f"the {what} {name!r} is a {type(found).__name__}; expected a function")
    return found
