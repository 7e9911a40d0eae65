"""What options of several commands can be, and the shipped models that some stand for by default."""

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
