"""``watermark evaluate``."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from watermark.cli.common import console, report, shown
from watermark.errors import ParameterError

_CORPUS = "WATERMARK_DATA"
_PEERS = {
    "peer.invisible_watermark": "watermark.integrations.invisible_watermark:InvisibleWatermark",
    "peer.blind_watermark": "watermark.integrations.blind_watermark:BlindWatermark",
}


def evaluate(
    config: Annotated[Path, typer.Argument(help="TOML file: schemes, attacks, corpus, settings.", show_default=False)],
    corpus: Annotated[
        Path | None, typer.Option(help="Folder of media.", show_default=f"that of the file, or ${_CORPUS}")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the results.", show_default="that of the file")
    ] = None,
    items: Annotated[int | None, typer.Option(min=1, help="At most so many items.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes.", show_default="one per core")
    ] = None,
) -> None:
    """Measures what attacks leave of marks, and writes a report.

    A run that was stopped goes on where it was. Exit code: 0, or 1 if a check failed, so that the figures cannot be
    trusted, or 2 for errors. docs/evaluation.md says what the file holds.
    """
    from watermark import evaluation
    from watermark.evaluation import config as configuration

    arguments = configuration.read(config, _load)
    given = {"corpus": corpus, "out": out, "items": items, "workers": workers}
    arguments |= {name: value for name, value in given.items() if value is not None}
    if "corpus" not in arguments and _CORPUS in os.environ:
        arguments["corpus"] = Path(os.environ[_CORPUS])
    for name in ("corpus", "out"):
        if name not in arguments:
            raise ParameterError(f"{shown(config)} has no {name}: add it, or pass --{name}")
    try:
        found = evaluation.run(**arguments)
    except KeyboardInterrupt:
        report("stopped: the same command goes on from here")
        raise typer.Exit(130) from None
    _print(found.to_dict())
    typer.echo(f"Report: {shown(Path(arguments['out']) / 'report.html')}")
    for fault in found.faults:
        report(f"check failed: {fault}")
    if found.faults:
        raise typer.Exit(1)


def _load(name: str, key: Any, **parameters: Any) -> Any:
    """A scheme of this library, or of another package."""
    from importlib import import_module

    import watermark

    if name not in _PEERS:
        return watermark.load(name, key, **parameters)
    module, _, attribute = _PEERS[name].partition(":")
    try:
        return getattr(import_module(module), attribute)(**parameters)
    except TypeError as error:
        raise ParameterError(f"{name}: {error}") from None


def _print(summary: dict[str, Any]) -> None:
    split = summary["protocol"]["split"]
    items = f"{split['positive']} marked, {split['negative']} not"
    tables = {
        "removal": f"{summary['title']} ({items}): detected, %",
        "forgery": "Forged and accepted, % (lower is better)",
    }
    for goal, title in tables.items():
        attacks = [attack for attack in summary["attacks"] if attack["goal"] == goal]
        if attacks:
            _print_table(summary, attacks, title)


def _print_table(summary: dict[str, Any], attacks: list[dict[str, Any]], title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    level = f"{summary['protocol']['levels'][-1]:g}"
    labels = [scheme["label"] for scheme in summary["schemes"]]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"{title}, at p ≤ {level}", title_justify="left")
    details = len(labels) == 1
    for column in ("attack", *(("share", "95 % interval", "exact message") if details else labels)):
        table.add_column(column, justify="left" if column == "attack" else "right")
    cells = {(cell["scheme"], cell["attack"]): cell for cell in summary["cells"]}
    for attack in attacks:
        row = [cells[label, attack["id"]] for label in labels]
        shown = [_percent(cell["detected"][level]) for cell in row]
        if details:
            found, exact = row[0]["detected"][level], row[0]["exact"]
            shown += [f"{_percent(found, 'low')} to {_percent(found, 'high')}", _percent(exact) if exact else ""]
        table.add_row(_named(attack), *shown)
    console().print(table)


def _percent(rate: dict[str, Any], bound: str = "value") -> str:
    return "" if rate[bound] is None else f"{100 * rate[bound]:.1f}"


def _named(attack: dict[str, Any]) -> str:
    native = ", ".join(f"{name} {value:.4g}" for name, value in attack["parameters"].items())
    name = attack["name"].partition(".")[2] or "no attack"
    return f"{name} ({native})" if native else name
