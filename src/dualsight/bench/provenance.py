"""Where numbers come from: the weights and versions that made them, and the run that a folder belongs to."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualsight.data.files import write_json


class DifferentRun(ValueError):
    """The folder holds what another run made: another model, other settings, another protocol."""


def claim(out: Path, run: Mapping[str, Any], things: str, name: str = "run.json") -> None:
    """Write down in a file of ``out`` what the folder is for, or check that it is for this.

    Args:
        run: settings, plain JSON, nested as one likes. A ``path`` in them, where something lies, does not count.
        things: what the folder keeps, for the message.
        name: of the file.

    Raises:
        DifferentRun: it is for another run; what differs is named.
    """
    path = out / name
    run = json.loads(json.dumps(run))  # tuples become lists, as they do in the file
    if not path.exists():
        write_json(path, run)
        return
    now, before = dict(_flat(run)), dict(_flat(json.loads(path.read_text(encoding="utf-8"))))
    differing = [
        f"{key} is {now.get(key)!r}, was {before.get(key)!r}"
        for key in {**now, **before}
        if now.get(key) != before.get(key) and not key.endswith(".path")
    ]
    if differing:
        raise DifferentRun(
            f"{out} holds the {things} of another run: {'; '.join(differing)}. Choose another folder (--out FOLDER)"
        )


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` as ``("a.b", 1)``."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def sha256(*files: Path) -> str:
    """A hash of files, in their order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def weights_sha256(folder: Path) -> str:
    """A hash of all weights in a folder: a model that was trained anew has another, one that was moved the same.

    Raises:
        FileNotFoundError: there are none.
    """
    found = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    if not found:
        raise FileNotFoundError(f"{folder} holds no weights (*.safetensors)")
    return sha256(*found)


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
