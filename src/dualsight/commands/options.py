"""What options of several commands can be, and the shipped models that some stand for by default."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "val_seen", "val_unseen", "test"]
Precision = Literal["float32", "bfloat16", "float16"]

NAVIGATOR = Path(__file__).parents[3] / "checkpoints" / "janus_vln_tiny"
"""The shipped navigator, in a checkout."""
JANUS = NAVIGATOR.with_name("janus_tiny")
"""The shipped Janus."""
VISMEM = NAVIGATOR.with_name("vismem_tiny")
"""The shipped VisMem."""


def given(**options: Any) -> dict[str, Any]:
    """Options that the user set."""
    return {name: value for name, value in options.items() if value is not None}


def refuse_others(command: Callable[..., None], options: Mapping[str, Any], what: str, used: str) -> None:
    """Of a command that does several things: was anything asked for that this one does not heed?

    Args:
        options: all of the command's, as they came.
        what: is to be done.
        used: names of its options.

    Raises:
        ValueError: something that is not the default was.
    """
    defaults = {name: option.default for name, option in inspect.signature(command).parameters.items()}
    others = [
        name
        for name, value in options.items()
        if name not in used.split() and defaults[name] is not inspect.Parameter.empty and value != defaults[name]
    ]
    if others:
        raise ValueError(f"{what} takes no {_flags(others)}; it takes {_flags(sorted(used.split()))}")


def _flags(names: list[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)
