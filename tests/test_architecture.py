"""The structure that docs/architecture.md draws: imports flow one way, tests mirror the source."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "dualsight"

# A layer may import itself and whatever stands before it, but for the siblings in `APART`.
ORDER = [
    "types",
    "mirror",
    "extras",
    "pictures",
    "nn",
    "pathways",
    "memory",
    "data",
    "envs",
    "models",
    "checkpoints",
    "inference",
    "train",
    "bench",
    "studies",
]
ORDER += ["demo", "doctor", "commands", "cli", "__main__"]
APART = {
    ("pathways", "memory"), ("memory", "pathways"),
    *((leaf, other) for leaf in ("data", "envs") for other in ("nn", "pathways", "memory")),
    ("data", "envs"), ("envs", "data"),
    *((other, leaf) for leaf in ("data", "envs") for other in ("models", "checkpoints")),
    ("bench", "train"),
}  # fmt: skip


def layer(module: str) -> str:
    """`dualsight.envs.sim.raster` -> `envs`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "dualsight"


def imports(path: Path) -> set[str]:
    """Every dualsight module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if node.module == "dualsight" else node.module for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("dualsight.")}


def files() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if path.name != "__init__.py"]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_flow_one_way(path):
    own = layer(".".join(["dualsight", *path.relative_to(SOURCE).with_suffix("").parts]))
    assert own in ORDER, f"{path.name} stands in no layer: name it in ORDER and in docs/architecture.md"
    for module in imports(path):
        other = layer(module)
        assert ORDER.index(other) <= ORDER.index(own), f"{own} may not import {module}"
        assert (own, other) not in APART, f"{own} and {other} do not know each other, but {path.name} imports {module}"


def test_the_check_sees_a_wrong_import(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from dualsight.memory.window import WindowMemory\n    import dualsight.cli\n")
    assert imports(wrong) == {"dualsight.memory.window", "dualsight.cli"}


def test_nothing_is_unpickled():
    for path in files():
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "trust_remote_code" not in text, path
        assert "torch.load(" not in text or "weights_only=True" in text, path
