"""How to get an optional part, said the same everywhere."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
"""Where the repository is, unless the package was installed elsewhere."""


def install(extra: str) -> str:
    """The command that brings an extra: here, in a checkout; or of the installed package."""
    if (CHECKOUT / "constraints.txt").exists():
        return f"pip install -c constraints.txt -e '.[{extra}]' in the checkout"
    return f"pip install 'dualsight[{extra}]'"
