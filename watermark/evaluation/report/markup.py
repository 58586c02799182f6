"""HTML and SVG that are escaped by construction: a string is text until an element is built around it."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"img", "link", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """An element of HTML or SVG.

    Args:
        name: Its tag.
        children: Text, which is escaped, and `Markup`, which is not.
        attributes: By name; ``_`` stands for ``-``, and one at the end is dropped (``class_``). None leaves one out.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{pairs}>" if name in _VOID else f"<{name}{pairs}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Text and markup one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def _plain(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
