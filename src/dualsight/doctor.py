"""What is wrong with this installation, and how to mend it: ``dualsight doctor``."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dualsight.extras import install

GIB = 2**30
EXTRAS = {
    "numba": "sim", "gymnasium": "sim", "av": "video", "moderngl": "gl", "datasets": "data", "peft": "lora",
    "diffusers": "diffusion", "trl": "grpo",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One check: ``level`` is "ok", "note" (something optional is absent) or "broken"."""

    what: str
    level: str
    found: str
    fix: str = ""


def check_python() -> Iterator[Finding]:
    version = platform.python_version()
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding("Python", "ok" if supported else "broken", version, "" if supported else "use Python 3.11 to 3.13")


def check_packages() -> Iterator[Finding]:
    for name, low, high in (
        ("torch", (2, 10), (2, 16)),
        ("transformers", (5, 19), (5, 24)),
        ("accelerate", (1, 13), (2, 0)),
    ):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "broken", "not installed", "pip install -c constraints.txt dualsight")
            continue
        number = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
        good = low <= number < high
        wanted = f"{low[0]}.{low[1]} or newer, below {high[0]}.{high[1]}"
        yield Finding(
            name,
            "ok" if good else "broken",
            version,
            "" if good else f"pip install -c constraints.txt {name} ({wanted})",
        )


def check_torchvision() -> Iterator[Finding]:
    """A torchvision built for another torch makes transformers fail to import its image models; none at all is fine."""
    if importlib.util.find_spec("torchvision") is None:
        yield Finding("torchvision", "ok", "not installed (not needed)")
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # whatever a broken binary raises: RuntimeError, OSError, ImportError
        yield Finding(
            "torchvision", "broken", f"{type(error).__name__}: {str(error).splitlines()[0]}",
            "pip uninstall torchvision (dualsight does not need it; a broken one breaks transformers)",
        )  # fmt: skip
        return
    yield Finding("torchvision", "ok", importlib.metadata.version("torchvision"))


def check_extras() -> Iterator[Finding]:
    for module, extra in EXTRAS.items():
        if importlib.util.find_spec(module):
            yield Finding(f"{module} [{extra}]", "ok", importlib.metadata.version(module))
        else:
            yield Finding(f"{module} [{extra}]", "note", "not installed", install(extra))


def check_accelerator() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        yield Finding("GPU", "ok", f"{device.name}, {device.total_memory / GIB:.0f} GiB")
    elif shutil.which("nvidia-smi"):
        yield Finding("GPU", "broken", f"nvidia-smi is here, torch {torch.__version__} sees no GPU",
                      "install a CUDA build of torch that fits the driver")  # fmt: skip
    else:
        yield Finding("GPU", "note", "none: everything runs on the CPU, the 7B models slowly")


def check_room() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory().available / GIB
    yield Finding("free memory", "ok" if memory > 2 else "broken", f"{memory:.1f} GiB",
                  "" if memory > 2 else "the TINY models want 2 GiB: close other programs")  # fmt: skip
    disk = shutil.disk_usage(Path.cwd()).free / GIB
    yield Finding("free disk", "ok" if disk > 1 else "broken", f"{disk:.1f} GiB",
                  "" if disk > 1 else "runs and caches want 1 GiB here")  # fmt: skip


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python, check_packages, check_torchvision, check_extras, check_accelerator, check_room,
)  # fmt: skip


def doctor() -> list[Finding]:
    """Run every check, print a table, return the findings."""
    findings = [finding for check in CHECKS for finding in check()]
    table = Table("", "found", "what to do", title="dualsight doctor")
    mark = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "broken": "[red]broken[/]"}
    for finding in findings:
        table.add_row(f"{mark[finding.level]} {escape(finding.what)}", escape(finding.found), escape(finding.fix))
    Console().print(table)
    return findings
