"""``watermark detect``."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watermark.cli.common import console, explain, for_each, load_mark, report, shown, to_message, to_power
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
    profile: Annotated[
        Path | None, typer.Option(help="File of a scheme's profile, instead of both.", show_default=False)
    ] = None,
    fpr: Annotated[float, typer.Option(help="False-positive rate of a verdict.", callback=_probability)] = 1e-6,
    maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for pictures of where the marks lie.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing maps.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    as_lines: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per line, as they come.")] = False,
) -> None:
    """Tests pictures for marks, and reads the messages.

    With --maps, each picture with a mark is drawn with a heat map over it: what was pasted or erased shows in red.

    Exit code: 0 if some are marked, 1 if none is, 2 if there were errors.
    """
    from watermark import media

    if as_json and as_lines:
        raise typer.BadParameter("choose one of --json and --jsonl")
    mark = load_mark(keys, scheme, payload_bits, profile)
    found = media.find(inputs)
    targets = {source: _target(maps, relative) for source, relative in found.files.items()} if maps else {}
    uses = Counter(targets.values())

    def work(source: Path) -> "tuple[Detection, bool, Path | None]":
        target = targets.get(source)
        if target and uses[target] > 1:
            raise FileExistsError(f"{shown(source)}: the map of another input would become {shown(target)} too")
        if target and target.exists() and not force:
            raise FileExistsError(f"{shown(target)} exists; --force replaces it")
        picture = media.read(source)
        detection = mark.detect(picture)
        detected = detection.detected(fpr)
        if not (target and detected and "presence" in detection.details):
            return detection, detected, None
        from watermark.cli import heatmap

        target.parent.mkdir(parents=True, exist_ok=True)
        media.write(heatmap.draw(shown(source.name), picture, detection), target, overwrite=force)
        return detection, detected, target

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
            detection, detected, target = result
            drawn = {"map": target and str(target)} if maps else {}
            add({"path": str(source), "detected": detected} | drawn | detection.to_dict())
            if maps and detected and not target:
                report(f"warning: {shown(source)}: no map, since the mark is too faint to tell where it lies")
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not as_lines:
        _print_table([row for row in rows if "error" not in row])
        if count := sum(bool(row.get("map")) for row in rows):
            console().print(f"Wrote {count} map{'s' * (count > 1)} in {shown(maps or '')}.")
        for error in [row["error"] for row in rows if "error" in row]:
            report(f"error: {error}")
    if any("error" in row for row in rows):
        raise typer.Exit(2)
    if not any(row["detected"] for row in rows):
        raise typer.Exit(1)


def _target(maps: Path, relative: Path) -> Path:
    """Where the map of a picture goes; its suffix stays in the name, so that a.jpg and a.png do not meet."""
    return maps / relative.with_name(f"{relative.name}.presence.png")


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
