"""Make a virtual environment with pip in it, also where Debian's python3-venv package (ensurepip) is missing.

python3 tools/venv.py .venv
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  whoever runs make may have an older one
    sys.exit(f"dualsight needs Python 3.11 or newer, this is {sys.version.split()[0]}: make PYTHON=python3.12 ...")


def make(folder: Path) -> None:
    """Create ``folder`` and make sure that ``folder/bin/python -m pip`` runs."""
    python = folder / "bin" / "python"
    if subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True).returncode:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True)
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        with tempfile.TemporaryDirectory() as temporary:
            wheel = fetch_pip(Path(temporary))
            subprocess.run([python, wheel / "pip", "install", "--quiet", wheel], check=True)


def fetch_pip(folder: Path) -> Path:
    """Download pip's wheel from PyPI and check its digest: a wheel of pip can run itself."""
    with urllib.request.urlopen("https://pypi.org/pypi/pip/json") as answer:
        release = next(url for url in json.load(answer)["urls"] if url["packagetype"] == "bdist_wheel")
    with urllib.request.urlopen(release["url"]) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != release["digests"]["sha256"]:
        sys.exit(f"{release['url']} did not arrive whole: try again")
    wheel = folder / release["filename"]
    wheel.write_bytes(content)
    return wheel


if __name__ == "__main__":
    make(Path(sys.argv[1]))
