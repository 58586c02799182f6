"""The public API is what `public_api.json` says. After a change that is meant, run this file as a script."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import watermark

INVENTORY = Path(__file__).with_name("public_api.json")


def describe(thing: Any) -> Any:
    """Signature of a function; of a class its bases and public members; of a module its public names."""
    if isinstance(thing, ModuleType):
        return {n: describe(getattr(thing, n)) for n in getattr(thing, "__all__", ()) or functions_of(thing)}
    if inspect.isclass(thing):
        return {
            "bases": [base.__name__ for base in thing.__bases__],
            **{name: describe(member) for name, member in sorted(members_of(thing).items())},
        }
    if isinstance(thing, (staticmethod, classmethod)):
        return describe(thing.__func__)
    if inspect.isfunction(thing):
        return str(inspect.signature(thing))
    return "property" if isinstance(thing, property) else "attribute"


def members_of(cls: type) -> dict[str, Any]:
    own = {"__init__"} if "__init__" in vars(cls) else set()
    annotated = {name: None for name in inspect.get_annotations(cls) if not name.startswith("_")}
    return annotated | {n: v for n, v in vars(cls).items() if n in own or not n.startswith("_")}


def functions_of(module: ModuleType) -> list[str]:
    return [
        n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__ and n[0] != "_"
    ]


def inventory() -> dict[str, Any]:
    return {name: describe(getattr(watermark, name)) for name in sorted(watermark.__all__)}


def test_every_public_name_exists():
    assert sorted(set(watermark.__all__)) == watermark.__all__
    for name in watermark.__all__:
        assert getattr(watermark, name) is not None


def test_the_api_is_the_inventory():
    assert inventory() == json.loads(INVENTORY.read_text())


def test_public_things_are_documented():
    for name in watermark.__all__:
        thing = getattr(watermark, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and callable(getattr(value, "__func__", value)):
                    assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


if __name__ == "__main__":
    INVENTORY.write_text(json.dumps(inventory(), indent=1) + "\n")
