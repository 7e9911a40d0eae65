"""Virtual environments of their own, for what the project is held against but does not want beside it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest


def python_with(name: str, *installs: Sequence[str]) -> Path:
    """The interpreter of an environment in which pip was run with each of ``installs``; the test is skipped where that
    fails. It is made once, in the temporary folder or where ``DUALSIGHT_<NAME>_VENV`` says."""
    default = Path(tempfile.gettempdir()) / f"dualsight-{name}-env"
    folder = Path(os.environ.get(f"DUALSIGHT_{name.upper()}_VENV", default))
    python = folder / "bin" / "python"
    if not (folder / ".complete").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True)
            for words in installs:
                subprocess.run([python, "-m", "pip", "install", "-q", *words], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"{installs[0]} could not be installed: {error}")
        (folder / ".complete").touch()
    return python
