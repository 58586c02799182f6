"""The report of an evaluation: a page that needs nothing else, Markdown for papers, a leaderboard as CSV."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any

from watermark.evaluation.report import page, tables
from watermark.evaluation.report.sections import DEFINITIONS, SECTIONS
from watermark.evaluation.report.view import View, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watermark.evaluation.report.tables import Table

__all__ = ["html", "leaderboard", "markdown"]

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def html(summary: Mapping[str, Any], thumbnails: Mapping[str, bytes] | None = None) -> str:
    """The report as one page of HTML: no scripts, no requests, readable in a light and a dark scheme and on paper.

    Args:
        summary: What ``summary.json`` holds.
        thumbnails: WebP files by "original", "marked" and the id of an attack. Those beyond 3 MB are left out.
    """
    return page.draw(View(summary), thumbnails or {})


def markdown(summary: Mapping[str, Any]) -> str:
    """The report in GitHub's Markdown: the tables of the page with their intervals, without pictures.

    Args:
        summary: What ``summary.json`` holds.
    """
    view = View(summary)
    lines = [f"# {_escaped(plain(summary.get('title')))}", ""]
    for scheme in view.schemes:
        figure, rest = tables.verdict(view, scheme)
        lines.append(f"- **{_escaped(scheme)}** " + (f"detects **{figure}** " if figure else "") + _escaped(rest) + ".")
    lines += ["", "## Checks", ""]
    for row in tables.checks(view)[1]:
        lines.append(f"- {tables.state(row['passed'])} **{_escaped(row['check'])}**: {_escaped(row['message'])}")
    lines += [f"- {_escaped(limit)}" for limit in tables.limits(view)]
    for section in SECTIONS:
        found = [table for table in section.tables(view) if table.rows and not table.folded]
        if found:
            lines += ["", f"## {section.title}", "", section.lead]
        for table in found:
            lines += ["", f"**{_escaped(table.caption)}**", "", *_markdown_table(table)]
    lines += ["", "## Protocol"]
    for table in tables.protocol(view):
        if table.rows and not table.folded:
            lines += ["", f"**{_escaped(table.caption)}**", "", *_markdown_table(table)]
    lines += ["", "## Definitions", "", *(f"- **{term}**: {_escaped(text)}" for term, text in DEFINITIONS.items())]
    return "\n".join(lines) + "\n"


def leaderboard(summary: Mapping[str, Any]) -> str:
    """The cells as CSV (RFC 4180): a row for each scheme and attack.

    Text that a spreadsheet would take for a formula begins with an apostrophe.

    Args:
        summary: What ``summary.json`` holds.
    """
    view = View(summary)
    schemes = {row["label"]: row for row in view.rows("schemes")}
    kinds = ("detected", "calibrated", "false", "false_calibrated")
    metrics = list(dict.fromkeys(name for cell in view.cells.values() for name in cell.get("quality") or ()))
    rows = []
    for (scheme, attack), cell in view.cells.items():
        about = view.attacks.get(attack, {})
        row: dict[str, Any] = {"scheme": scheme, "null": schemes.get(scheme, {}).get("null"), "attack": attack}
        row |= {"attack_name": about.get("name"), "strength": about.get("strength"), "goal": about.get("goal")}
        row |= {"trials": cell["trials"], "errors": cell.get("errors")}
        rates = {f"{kind}@{level}": (cell.get(kind) or {}).get(level) for kind in kinds for level in view.levels}
        for name, rate in (rates | {"exact": cell.get("exact"), "auc": cell.get("auc")}).items():
            row |= {
                f"{name}{end}": (rate or {}).get(key)
                for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
        row |= {key: cell.get(key) for key in ("median_log10_p", "degradation")}
        row |= {f"quality_{name}": (cell.get("quality") or {}).get(name) for name in metrics}
        rows.append(row)
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(map(_inert, rows[0] if rows else ("scheme", "attack")))
    writer.writerows([_inert(value) for value in row.values()] for row in rows)
    return file.getvalue()


def _inert(value: Any) -> Any:
    text = isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA)
    return f"'{value}" if text else value


def _markdown_table(table: Table) -> list[str]:
    heads = [_escaped(" ".join(filter(None, (column.group, column.title)))) for column in table.columns]
    rules = ["---:" if column.number else ":---" for column in table.columns]
    lines = [[_escaped(v.text) + (f" ({_escaped(v.detail)})" if v.detail else "") for v in row] for row in table.rows]
    return [f"| {' | '.join(row)} |" for row in (heads, rules, *lines)]


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", text)
