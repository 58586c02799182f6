"""``watermark detect``."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watermark.cli.common import console, explain, for_each, load_mark, report, shown, to_message, to_power
from watermark.errors import MediaError

if TYPE_CHECKING:
    from watermark.cli.text import Tested


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
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For texts: folder of the model's tokenizer.", show_default=False),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print texts with their tokens coloured.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    as_lines: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per line, as they come.")] = False,
) -> None:
    """Tests pictures for marks, and reads the messages. Texts, too, with --profile and --tokenizer.

    Texts are .txt and .md files, and the "text" fields of .jsonl files, without their prompts.

    With --maps, each picture with a mark is drawn with a heat map over it: what was pasted or erased shows in red. A
    text becomes a page of HTML whose tokens are the greener, the more they speak for the mark.

    Exit code: 0 if some are marked, 1 if none is, 2 if there were errors.
    """
    from watermark import media
    from watermark.cli import text

    if as_json and as_lines:
        raise typer.BadParameter("choose one of --json and --jsonl")
    mark = load_mark(keys, scheme, payload_bits, profile, ("image", "tokens"))
    of_text = mark.info.modality == "tokens"
    if of_text != (tokenizer is not None):
        raise typer.BadParameter(
            f"{mark.name} is read in tokens: add --tokenizer" if of_text else f"{mark.name} needs no --tokenizer"
        )
    if show and (as_json or as_lines or not of_text):
        raise typer.BadParameter("--show is for texts, and not for JSON")
    found = media.find(inputs, suffixes=text.SUFFIXES if of_text else None)
    kind = "tokens.html" if of_text else "presence.png"
    targets = {source: _target(maps, relative, kind) for source, relative in found.files.items()} if maps else {}
    uses = Counter(targets.values())
    encoder = tokenizer and _encoder(mark, tokenizer)

    def work(source: Path) -> list[text.Tested]:
        target = targets.get(source)
        if target and uses[target] > 1:
            raise FileExistsError(f"{shown(source)}: the map of another input would become {shown(target)} too")
        if encoder is not None:
            return text.test(source, mark, encoder, fpr, target, show=show, force=force)
        return [_test_picture(source, mark, fpr, target, force)]

    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        if as_lines:
            typer.echo(json.dumps(row))

    things = "texts" if of_text else "pictures"
    for path in found.unmatched:
        add({"path": path, "error": f"{path}: no such file, or no {things} in it"})
    for source, result in for_each(found.files, work, "Testing"):
        if isinstance(result, (MediaError, OSError)):
            result = [text.Tested(str(source), error=explain(result, source))]
        for tested in result:
            if tested.detection is None:
                add({"path": tested.path, "error": tested.error})
                continue
            drawn = {"map": tested.drawn and str(tested.drawn)} if maps else {}
            add({"path": tested.path, "detected": tested.detected} | drawn | tested.detection.to_dict())
            if tested.error is not None:
                add({"path": tested.path, "error": tested.error})
            elif maps and tested.detected and not tested.drawn:
                report(f"warning: {shown(tested.path)}: no map, since the mark is too faint to tell where it lies")
            if tested.view is not None:
                console().rule(shown(tested.path))
                console().print(tested.view)
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


def _target(maps: Path, relative: Path, kind: str) -> Path:
    """Where the map of a file goes; its suffix stays in the name, so that a.jpg and a.png do not meet."""
    return maps / relative.with_name(f"{relative.name}.{kind}")


def _encoder(mark: Any, folder: Path) -> Any:
    """The tokenizer in a folder, which must be that of the mark."""
    from watermark.integrations.tokenizer import load, require

    tokenizer = load(folder)
    require(mark, tokenizer)
    return tokenizer


def _test_picture(source: Path, mark: Any, fpr: float, target: Path | None, force: bool) -> "Tested":
    """Tests a picture, and draws where its mark lies."""
    from watermark import media
    from watermark.cli.text import Tested

    if target and target.exists() and not force:
        raise FileExistsError(f"{shown(target)} exists; --force replaces it")
    picture = media.read(source)
    detection = mark.detect(picture)
    tested = Tested(str(source), detection, detection.detected(fpr))
    if target and tested.detected and "presence" in detection.details:
        from watermark.cli import heatmap

        target.parent.mkdir(parents=True, exist_ok=True)
        media.write(heatmap.draw(shown(source.name), picture, detection), target, overwrite=force)
        tested.drawn = target
    return tested


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
