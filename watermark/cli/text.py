"""Texts for ``watermark detect``: reading them from files, and testing their tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watermark.cli.common import explain, shown
from watermark.errors import MediaError
from watermark.integrations.tokenizer import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.text import Text

    from watermark import Detection

SUFFIXES = frozenset({".txt", ".md", ".jsonl"})
"""Suffixes of the files that are picked from folders."""
_MAX_LINE_BYTES = 8 * MAX_TEXT_BYTES


@dataclass(slots=True)
class Tested:
    """What was found in one text or picture.

    Attributes:
        path: Name of its file; of a line of JSONL, with a colon and its number.
        detection: The verdict, if there is one.
        detected: Whether it is marked.
        error: What went wrong instead.
        drawn: File with its map.
        view: How the terminal shows it.
    """

    path: str
    detection: Detection | None = None
    detected: bool = False
    error: str | None = None
    drawn: Path | None = None
    view: Text | None = None


def read(source: Path) -> Iterator[tuple[str, str | MediaError]]:
    """The texts of a file, each with what tells it from the others: nothing, or the line of a JSONL file.

    Raises:
        MediaError: The file is no text in UTF-8, or has more than 1 MiB.
        OSError: The file cannot be read.
    """
    with open(source, "rb") as file:
        if source.suffix.lower() != ".jsonl":
            data = file.read(MAX_TEXT_BYTES + 1)
            if len(data) > MAX_TEXT_BYTES:
                raise MediaError(f"{source}: texts of up to 1 MiB are read: split it")
            yield "", _decode(data)
            return
        number = 0
        while line := file.readline(_MAX_LINE_BYTES):
            number += 1
            whole = line.endswith(b"\n") or len(line) < _MAX_LINE_BYTES
            while not whole and not line.endswith(b"\n") and line:
                line = file.readline(_MAX_LINE_BYTES)
            if not whole or line.strip():
                try:
                    yield f":{number}", _field(line if whole else None)
                except MediaError as error:
                    yield f":{number}", error


def test(
    source: Path, mark: Any, tokenizer: Any, fpr: float, target: Path | None, *, show: bool, force: bool
) -> list[Tested]:
    """Tests all texts of a file.

    Args:
        source: The file.
        mark: A scheme for tokens.
        tokenizer: Its tokenizer.
        fpr: False-positive rate of a verdict.
        target: Where the map of the file goes, if one is wanted; of a line of JSONL, with its number.
        show: Whether the terminal shows the texts.
        force: Whether existing maps are replaced.

    Raises:
        MediaError: The file is no text in UTF-8, or has more than 1 MiB.
        OSError: The file cannot be read.
    """
    found = []
    for place, text in read(source):
        tested = Tested(f"{source}{place}")
        found.append(tested)
        try:
            if isinstance(text, MediaError):
                raise text
            own = target and target.with_name(
                target.name.replace(".tokens.html", f"{place.replace(':', '.')}.tokens.html")
            )
            if own and own.exists() and not force:
                raise FileExistsError(f"{shown(own)} exists; --force replaces it")
            encoded = tokenizer.encode(text, add_special_tokens=False)
            detection = mark.detect(encoded.ids)
            tested.detection, tested.detected = detection, detection.detected(fpr)
            if own and tested.detected:
                from watermark.cli import highlight

                own.parent.mkdir(parents=True, exist_ok=True)
                page = highlight.html(shown(source.name) + place, text, encoded.offsets, detection)
                own.write_text(page, encoding="utf-8", errors="replace", newline="")
                tested.drawn = own
            if show:
                from watermark.cli import highlight

                tested.view = highlight.terminal(text, encoded.offsets, detection)
        except (MediaError, OSError) as error:
            tested.error = explain(error, source)
    return found


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError(f"is no text in UTF-8 ({error.reason} at byte {error.start})") from None


def _field(line: bytes | None) -> str:
    """The text of a line of JSONL.

    Raises:
        MediaError: There is none.
    """
    try:
        fields = None if line is None else json.loads(_decode(line))
    except (ValueError, RecursionError):
        raise MediaError("is no line of JSON") from None
    text = fields.get("text") if isinstance(fields, dict) else None
    if line is None or (isinstance(text, str) and len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES):
        raise MediaError("texts of up to 1 MiB are read: split it")
    if not isinstance(text, str):
        raise MediaError('has no field "text"')
    return text
