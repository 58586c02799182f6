"""Imports point one way: a module imports from layers below its own, or from its own package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import watermark

PACKAGE = Path(watermark.__file__).parent
LAYERS = [
    {"errors"},
    {"_cache", "_values"},
    {"ops"},
    {"_threads", "cuda", "prf", "stats", "payload"},
    {"detection", "key", "media"},
    {"prc_code", "scheme"},
    {"dataset", "image", "latent", "llm", "text", "video"},
    {"attacks", "reference"},
    {"evaluation"},
    {"integrations"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
NATIVE = {"_core", "_cuda"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> set[str]:
    """Names below `watermark` that a file imports, anywhere in it; "" stands for the package itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from watermark import x` may take a module or a public name: both count.
            names = [f"watermark.{a.name}" for a in node.names] if node.module == "watermark" else [node.module or ""]
        else:
            continue
        found |= {name.partition(".")[2].partition(".")[0] for name in names if name.split(".")[0] == "watermark"}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in RANK, f"{own} has no layer: give it one here and in DESIGN"
    for name in imported(path):
        if name in NATIVE:
            assert own == "ops", f"{path} reaches native code past ops"
        elif name in RANK:
            assert name == own or RANK[name] < RANK[own], f"{path} imports {name}"
        else:  # the package itself, or a public name of it
            assert name == "" or name in watermark.__all__ or name == "__version__", f"{path} imports {name}"
            assert RANK[own] > RANK["scheme"], f"{path} imports the package that imports it"


def test_the_check_sees_imports():
    assert {"errors", "ops"} <= imported(PACKAGE / "prf.py")
    assert imported(PACKAGE / "ops" / "_native.py") >= {"_core", "_cuda", "errors"}
