"""``watermark detect``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watermark.cli.common import console, explain, for_each, load_keys, report, shown, to_message, to_power
from watermark.errors import MediaError

if TYPE_CHECKING:
    from watermark import Detection


def _probability(value: float) -> float:
    if not 0 < value < 1:
        raise typer.BadParameter("a probability between 0 and 1, such as 1e-6")
    return value


def detect(
    inputs: Annotated[
        list[str], typer.Argument(metavar="PATHS...", help="Files, folders or globs to test.", show_default=False)
    ],
    keys: Annotated[
        list[Path], typer.Option("--key", "-k", help="Key file; repeat it to try several.", show_default=False)
    ],
    scheme: Annotated[str, typer.Option(help="How it was marked.")] = "image.spectral",
    payload_bits: Annotated[int, typer.Option(help="Longest message, in bits, as when marking.")] = 64,
    fpr: Annotated[float, typer.Option(help="False-positive rate of a verdict.", callback=_probability)] = 1e-6,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    as_lines: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per line, as they come.")] = False,
) -> None:
    """Tests pictures for marks, and reads the messages.

    Exit code: 0 if some are marked, 1 if none is, 2 if there were errors.
    """
    import watermark
    from watermark import media

    if as_json and as_lines:
        raise typer.BadParameter("choose one of --json and --jsonl")
    mark = watermark.load(scheme, watermark.Keyring(load_keys(keys)), payload_bits=payload_bits)
    found = media.find(inputs)

    def work(source: Path) -> "tuple[Detection, bool]":
        detection = mark.detect(media.read(source))
        return detection, detection.detected(fpr)

    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        if as_lines:
            typer.echo(json.dumps(row))

    for path in found.unmatched:
        add({"path": path, "error": f"{path}: no such file, or no pictures in it"})
    for source, result in for_each(found.files, work, "Testing"):
        if isinstance(result, (MediaError, OSError)):
            add({"path": str(source), "error": explain(result, source)})
        else:
            detection, detected = result
            add({"path": str(source), "detected": detected} | detection.to_dict())
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not as_lines:
        _print_table([row for row in rows if "error" not in row])
        for error in [row["error"] for row in rows if "error" in row]:
            report(f"error: {error}")
    if any("error" in row for row in rows):
        raise typer.Exit(2)
    if not any(row["detected"] for row in rows):
        raise typer.Exit(1)


def _print_table(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("file", "verdict", "p", "message", "key"):
        table.add_column(title, overflow="fold", justify="right" if title == "p" else "left")
    for row in rows:
        p = to_power(row["log10_p"])
        if row["detected"]:
            message = to_message(bytes.fromhex(row["payload"])) if row["payload_ok"] else ""
            table.add_row(shown(row["path"]), Text("marked", "bold green"), p, message, row["key_id"])
        else:
            table.add_row(shown(row["path"]), Text("no mark", "dim"), p, "", "")
    console().print(table)
