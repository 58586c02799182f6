"""``watermark info``."""

import json
from typing import Annotated, Any

import typer

from watermark.cli.common import console

_PACKAGES = ("numpy", "pillow", "torch")
_DISTRIBUTION = "watermarking"


def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Shows versions, what the core can use here, and the schemes."""
    facts = _facts()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print_facts(facts)


def _facts() -> dict[str, Any]:
    import dataclasses
    import platform

    import watermark
    from watermark import cuda
    from watermark.ops._native import core

    return {
        "watermark": watermark.__version__,
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in _PACKAGES},
        "instruction_sets": list(core.instruction_sets()),
        "threads": watermark.threads(),
        "cuda": {"built": cuda.is_built(), "available": cuda.is_available(), "why_not": cuda.why_not()},
        "extras": {extra: all(map(_version, packages)) for extra, packages in _extras().items()},
        "schemes": [dataclasses.asdict(scheme) for scheme in watermark.schemes()],
    }


def _version(package: str) -> str | None:
    # Asked from the package's metadata: importing torch to learn its version takes seconds.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """The packages of each extra, from the metadata of the installed distribution."""
    import re
    from importlib.metadata import requires

    extras: dict[str, list[str]] = {}
    for requirement in requires(_DISTRIBUTION) or ():
        found = re.match(r"""([\w.-]+).*extra == ['"]([\w-]+)""", requirement)
        if found and found[1] != _DISTRIBUTION:
            extras.setdefault(found[2], []).append(found[1])
    return extras


def _print_facts(facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 3))
    table.add_row("watermark", facts["watermark"])
    table.add_row("python", facts["python"])
    for package, version in facts["packages"].items():
        table.add_row(package, version or "not installed")
    table.add_row("instruction sets", ", ".join(facts["instruction_sets"]))
    table.add_row("threads", str(facts["threads"]))
    state = facts["cuda"]
    table.add_row("CUDA", "available" if state["available"] else f"not available: {state['why_not']}")
    for extra, installed in facts["extras"].items():
        line = "installed" if installed else f"pip install '{_DISTRIBUTION}[{extra}]'"
        table.add_row(f"extra {extra}", line)
    for scheme in facts["schemes"]:
        table.add_row(f"scheme {scheme['name']}", f"{scheme['payload']}; {scheme['null']} null")
    console().print(table)
