"""Evaluations as TOML files: the arguments of `run` by their names."""

from __future__ import annotations

import hashlib
import inspect
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import watermark
from watermark import Key, attacks
from watermark.errors import ParameterError
from watermark.evaluation.protocol import run

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_MAX_BYTES = 1 << 20
_IN_PYTHON_ONLY = {"models", "progress"}


def read(path: str | os.PathLike[str], load: Callable[..., Any] | None = None) -> dict[str, Any]:
    """What `run` takes, from a file.

    Paths are relative to the file. ``attacks`` lists names of suites, and tables with the name of an attack and its
    strength or one native parameter. Each table of ``schemes`` has a ``name``, the path of a ``key`` (without one, a
    key that anybody can compute is made for the evaluation) and the scheme's parameters. Every other entry is an
    argument of `run`.

    Args:
        path: A TOML file of up to 1 MiB.
        load: Makes schemes in place of `watermark.load`, from the same arguments.

    Raises:
        ParameterError: The file is no TOML, misses an entry, or has one of another name or type.
        WatermarkError: A scheme, key or attack cannot be made.
        OSError: A file cannot be read.
    """
    file = Path(path)
    with file.open("rb") as stream:
        text = stream.read(_MAX_BYTES + 1)
    try:
        entries = tomllib.loads(text.decode()) if len(text) <= _MAX_BYTES else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{file} is no TOML: {error}") from None
    known = set(inspect.signature(run).parameters) - _IN_PYTHON_ONLY
    if unknown := entries.keys() - known:
        raise ParameterError(f"{file} has no entry '{min(unknown)}': one of {', '.join(sorted(known))}")
    if missing := {"schemes", "attacks"} - entries.keys():
        raise ParameterError(f"{file} misses the entry '{min(missing)}'")
    entries["schemes"] = [_scheme(table, file.parent, load or watermark.load) for table in _tables(entries, "schemes")]
    entries["attacks"] = [attack for entry in _listed(entries, "attacks") for attack in _attacks(entry)]
    for name in ("corpus", "out"):
        if isinstance(entries.get(name), str):
            entries[name] = file.parent / entries[name]
    return entries


def _scheme(table: dict[str, Any], folder: Path, load: Callable[..., Any]) -> Any:
    if not isinstance(table.get("name"), str):
        raise ParameterError("each table of schemes needs a name, such as image.spectral")
    key = table.get("key")
    if key is None:
        # No secret: an evaluation needs a key, and repeats with the same one.
        secret = Key.from_bytes(hashlib.sha256(b"watermark/evaluation/" + table["name"].encode()).digest())
    elif isinstance(key, str):
        secret = Key.load(folder / key)
    else:
        raise ParameterError(f"the key of {table['name']} is the path of a key file, not {key!r}")
    own = {name: value for name, value in table.items() if name not in ("name", "key")}
    parameters = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    return load(table["name"], secret, **parameters)


def _attacks(entry: Any) -> tuple[attacks.Attack, ...]:
    if isinstance(entry, str):
        return attacks.suite(entry) if entry in attacks.SUITES else (attacks.load(entry),)
    if isinstance(entry, dict) and isinstance(entry.get("name"), str):
        return (attacks.load(**entry),)
    raise ParameterError(f"an attack is the name of a suite or of an attack, or a table with a name, not {entry!r}")


def _tables(entries: dict[str, Any], name: str) -> list[dict[str, Any]]:
    listed = _listed(entries, name)
    if not all(isinstance(table, dict) for table in listed):
        raise ParameterError(f"{name} are tables: [[{name}]] begins each")
    return listed


def _listed(entries: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(entries[name], list):
        raise ParameterError(f"{name} is a list, not {entries[name]!r}")
    return list(entries[name])
