"""The report as a page of HTML."""

from __future__ import annotations

import base64
import re
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING

from watermark.evaluation.report import charts, tables
from watermark.evaluation.report.markup import Markup, element, join
from watermark.evaluation.report.sections import DEFINITIONS, SECTIONS, Section
from watermark.evaluation.report.view import Value, View, number, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from watermark.evaluation.report.tables import Column, Table

_MOST_CHECKS = 8
_MOST_PICTURE_BYTES = 3_000_000
_ABOUT = ("date", "watermarking", "cpu")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def draw(view: View, thumbnails: Mapping[str, bytes]) -> str:
    """The page; arguments as in `report.html`."""
    sections = [_section(view, section) for section in SECTIONS]
    sections += [_thumbnails(view, thumbnails), _protocol(view), _definitions()]
    shown = [section for section in sections if section]
    title = plain(view.summary.get("title"))
    failed = any(row["passed"] is False for row in view.rows("audit"))
    links = (element("li", element("a", name, href=f"#{_slug(name)}")) for name, _ in shown)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{title} – watermark evaluation"),
        element("style", Markup(resources.files(__package__).joinpath("page.css").read_text("utf-8"))),
    )
    body = element(
        "body",
        _header(view, title, _checks(view) if failed else Markup()),
        element("nav", element("ul", *links), aria_label="Contents"),
        element("main", Markup() if failed else _checks(view), *(content for _, content in shown)),
        element("footer", element("p", "This page needs no network: it can be kept, sent and printed as it is.")),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(view: View, title: str, alarm: Markup) -> Markup:
    known = {key: plain(value) for key, value in (view.summary.get("environment") or {}).items()}
    about = [f"watermarking {known[key]}" if key == "watermarking" else known[key] for key in _ABOUT if key in known]
    cards = []
    for index, scheme in enumerate(view.schemes):
        figure, rest = tables.verdict(view, scheme)
        sentence = ["detects ", element("strong", figure), f" {rest}."] if figure else [f"{rest}."]
        name = element("h2", charts.swatch(index), scheme)
        cards.append(element("li", name, element("p", *sentence), class_=f"s{index % charts.COLOURS}"))
    return element(
        "header",
        element("p", "Watermark evaluation", class_="kind"),
        element("h1", title),
        element("p", " · ".join(about), class_="about"),
        alarm,
        element("ul", *cards, class_="verdicts") if cards else "",
    )


def _checks(view: View) -> Markup:
    heading, audit = tables.checks(view)
    failed = any(row["passed"] is False for row in audit)
    items = [
        element("li", element("b", tables.state(row["passed"])), " ", element("b", row["check"]), f" {row['message']}",
                class_={True: "passed", False: "failed", None: "untested"}[row["passed"]])
        for row in audit
    ]  # fmt: skip
    # Those that passed come last, and of many there is no need to read them.
    shown = sum(row["passed"] is not True for row in audit) if len(audit) > _MOST_CHECKS else len(audit)
    told, folded = [*items[:shown], *(element("li", text) for text in tables.limits(view))], items[shown:]
    kind = "alarm" if failed else "calm" if audit else ""
    return element(
        "section",
        element("h2", heading if audit else "No checks were made", id="checks"),
        element("p", "Do not rely on the figures below before this is explained.") if failed else "",
        element("ul", *told) if told else "",
        element("details", element("summary", "What passed"), element("ul", *folded)) if folded else "",
        class_=f"checks {kind}".rstrip(), aria_labelledby="checks",
    )  # fmt: skip


def _section(view: View, section: Section) -> tuple[str, Markup] | None:
    found = [table for table in section.tables(view) if table.rows]
    chart = section.chart(view)
    if not (found or chart):
        return None
    return section.title, _framed(section.title, element("p", section.lead), chart, *_all_drawn(found))


def _framed(title: str, *content: str) -> Markup:
    return element("section", element("h2", title, id=_slug(title)), *content, aria_labelledby=_slug(title))


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _all_drawn(found: Sequence[Table]) -> list[Markup]:
    """Tables on the page: plain ones that follow each other stand side by side where there is room."""
    drawn = []
    for plain_ones, group in groupby(found, lambda table: not (table.heat or table.folded)):
        parts = list(map(_drawn, group))
        drawn.append(element("div", *parts, class_="beside") if plain_ones and len(parts) > 1 else join(*parts))
    return drawn


def _drawn(table: Table) -> Markup:
    """A table on the page; one with colours is followed by itself with its intervals."""
    if table.folded:
        return element("details", element("summary", table.caption), _scrolled(table, detailed=True))
    drawn = element("figure", element("figcaption", table.caption), _scrolled(table, not table.heat), class_="table")
    if not table.heat:
        return drawn
    intervals = element("details", element("summary", "With 95 % intervals"), _scrolled(table, detailed=True))
    return join(drawn, _scale(), intervals)


def _scale() -> Markup:
    steps = (element("i", class_=f"heat h{step}") for step in range(11))
    return element("p", "none ", element("span", *steps, aria_hidden="true"), " all", class_="scale")


def _scrolled(table: Table, detailed: bool) -> Markup:
    """The table in a box of its own that scrolls sideways."""
    caption = f"{table.caption}, with 95 % intervals" if table.heat and detailed else table.caption
    groups = [(group, len(list(columns))) for group, columns in groupby(table.columns, lambda column: column.group)]
    above = []
    if any(group for group, _ in groups):
        above = [
            element("th", group, colspan=size, scope="colgroup") if group else element("td", colspan=size)
            for group, size in groups
        ]
    starts = {sum(size for _, size in groups[:index]) for index, (group, _) in enumerate(groups) if group}
    heads = [
        element("th", column.title, scope="col", class_=_class(column, index in starts))
        for index, column in enumerate(table.columns)
    ]
    rows, last = [], ""
    for first, *others in table.rows:
        entries = [element("th", *_worded(first), scope="row")]
        for index, (column, value) in enumerate(zip(table.columns[1:], others, strict=True), 1):
            entries.append(_entry(value, column, index in starts, table.heat and not detailed))
        rows.append(element("tr", *entries, class_="first" if first.text != last else None))
        last = first.text
    body = element(
        "table",
        element("thead", element("tr", *above) if above else "", element("tr", *heads)),
        element("tbody", *rows),
        class_="heatmap" if table.heat and not detailed else None,
        aria_label=caption,
    )
    return element("div", body, class_="scroll", tabindex=0, role="group", aria_label=caption)


def _class(column: Column, start: bool, *more: str) -> str | None:
    return " ".join([*(["number"] if column.number else []), *(["start"] if start else []), *more]) or None


def _worded(value: Value) -> list[str]:
    return [value.text, " ", element("small", value.detail)] if value.detail else [value.text]


def _entry(value: Value, column: Column, start: bool, heat: bool) -> Markup:
    if not heat or not column.number:
        return element("td", *_worded(value), class_=_class(column, start))
    if value.share is None:
        return element("td", value.text, class_=_class(column, start), title=value.detail or None)
    colour = "heat", f"h{int(10 * value.share)}"
    return element("td", value.text, class_=_class(column, start, *colour), title=f"95 % interval: {value.detail} %")


def _thumbnails(view: View, thumbnails: Mapping[str, bytes]) -> tuple[str, Markup] | None:
    if not thumbnails:
        return None
    order = {name: index for index, name in enumerate(("original", "marked", *view.attacks))}
    figures, size, left_out = [], 0, 0
    for name in sorted(thumbnails, key=lambda name: order.get(name, len(order))):
        if size + len(thumbnails[name]) > _MOST_PICTURE_BYTES:
            left_out += 1
            continue
        size += len(thumbnails[name])
        label = view.attack(name) if name in view.attacks else Value(name)
        found = (cell.get("degradation") for (_, attack), cell in view.cells.items() if attack == name)
        losses = [float(loss) for loss in found if loss is not None]
        low, high = (number(pick(losses)) if losses else "" for pick in (min, max))
        loss = f"degradation {low}" if low == high else f"degradation {low} to {high}"
        source = f"data:image/webp;base64,{base64.b64encode(thumbnails[name]).decode('ascii')}"
        caption = element("figcaption", *_worded(label), element("span", loss) if losses else "")
        picture = element("img", src=source, alt=f"The example, {', '.join(filter(None, label[:2]))}")
        figures.append(element("figure", picture, caption))
    lead = "One example, and what each attack makes of it."
    if left_out:
        lead += f" {left_out} more were left out to keep this page small."
    grid = element("div", *figures, class_="pictures")
    return "Pictures", _framed("Pictures", element("p", lead), grid)


def _protocol(view: View) -> tuple[str, Markup]:
    found = [table for table in tables.protocol(view) if table.rows]
    return "Protocol", _framed("Protocol", element("p", "What it takes to run this again."), *_all_drawn(found))


def _definitions() -> tuple[str, Markup]:
    terms = (element("div", element("dt", term), element("dd", text)) for term, text in DEFINITIONS.items())
    return "Definitions", _framed("Definitions", element("dl", *terms))
