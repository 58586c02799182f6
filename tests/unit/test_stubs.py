"""The stubs of the compiled modules are kept by hand: they must name what the modules hold, and nothing else."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import watermark
from watermark import cuda

if TYPE_CHECKING:
    from types import ModuleType

PACKAGE = Path(watermark.__file__).parent


def stub_parameters(name: str) -> dict[str, list[str]]:
    """Parameter names of every function of a stub."""
    tree = ast.parse((PACKAGE / f"{name}.pyi").read_text())
    return {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}


def module_parameters(module: ModuleType) -> dict[str, list[str]]:
    """The same, read from the signatures in the docstrings that pybind11 writes."""
    found = {}
    for name in dir(module):
        if not name.startswith("_"):
            signature = (getattr(module, name).__doc__ or "").splitlines()[0]
            node = ast.parse(f"def {signature}: ...").body[0]
            assert isinstance(node, ast.FunctionDef)
            # pybind11 calls parameters without a py::arg arg0, arg1, ...: those have no name to compare.
            found[name] = [a.arg for a in node.args.args]
    return found


@pytest.mark.parametrize(
    "name", ["_core", pytest.param("_cuda", marks=pytest.mark.skipif(not cuda.is_built(), reason="built without CUDA"))]
)
def test_stub_and_module_agree(name):
    stub, module = stub_parameters(name), module_parameters(importlib.import_module(f"watermark.{name}"))
    assert sorted(stub) == sorted(module)
    for function, parameters in module.items():
        if not any(p.startswith("arg") and p[3:].isdigit() for p in parameters):
            assert stub[function] == parameters, function
        else:
            assert len(stub[function]) == len(parameters), function
