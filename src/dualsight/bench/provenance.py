"""Where numbers come from: the weights and versions that made them, and the run that a folder belongs to."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualsight.data.files import write_json


class DifferentRun(ValueError):
    """The folder holds what another run made: another model, other settings, another protocol."""


def claim(out: Path, run: Mapping[str, Mapping[str, Any]], things: str) -> None:
    """Write down in ``out/run.json`` what the folder is for, or check that it is for this.

    Args:
        run: named groups of settings, plain JSON.
        things: what the folder keeps, for the message.

    Raises:
        DifferentRun: it is for another run; what differs is named.
    """
    path = out / "run.json"
    run = json.loads(json.dumps(run))  # tuples become lists, as they do in the file
    if not path.exists():
        write_json(path, run)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    differing = []
    for part, new in run.items():
        old = before.get(part, {})
        differing += [
            f"{part}.{name} is {new.get(name)!r}, was {old.get(name)!r}"
            for name in sorted(new.keys() | old.keys())
            if new.get(name) != old.get(name)
        ]
    if differing:
        raise DifferentRun(
            f"{out} holds the {things} of another run: {'; '.join(differing)}. Choose another folder (--out FOLDER)"
        )


def weights_sha256(folder: Path) -> str:
    """A hash of all weights in a folder: a model that was trained anew has another, one that was moved the same."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as weights:
            digest.update(hashlib.file_digest(weights, "sha256").digest())
    return digest.hexdigest()


def versions() -> dict[str, str | None]:
    """What the numbers were made with; ``git`` is the revision of a checkout, None for an installed package."""
    found: dict[str, str | None] = {"python": platform.python_version(), "git": _git_revision()}
    for package in ("dualsight", "torch", "transformers", "numpy", "numba"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _git_revision() -> str | None:
    if "site-packages" in __file__:
        return None  # the revision of whatever checkout the environment lies in
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
