"""Charts of an evaluation as inline SVG. A scheme has its colour from the style sheet: class ``s0``, ``s1``, ..."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from watermark.evaluation.report.markup import Markup, element, join
from watermark.evaluation.report.tables import USABLE
from watermark.evaluation.report.view import percent, power, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from watermark.evaluation.report.view import View

    Point = tuple[float, float]

COLOURS = 7
_DASHES = (None, "7 3", "2 2.5", "9 3 2 3", "4 2", "12 3", "1 3")
_SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M-3.5 -3.5h7v7h-7z", "M0 -4.6L4.3 3.2H-4.3z", "M0 -5L5 0L0 5L-5 0z",
    "M0 4.6L4.3 -3.2H-4.3z", "M-4.5 -1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z", "M-5 -2.5H5V2.5H-5z",
)  # fmt: skip
_WIDTH, _HEIGHT = 320, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 12, 24, 38
_MOST_PANELS = 6


def _shape(number: int) -> str:
    """The mark of a scheme; once the colours are used up, they come again with other marks."""
    return _SHAPES[(number + number // COLOURS) % len(_SHAPES)]


def _dashes(number: int) -> str | None:
    return _DASHES[(number + number // COLOURS) % len(_DASHES)]


class Axis(NamedTuple):
    """An axis from `low` to `high`, with labelled ticks."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1; values beyond the ends lie on them."""
        low, high, value = (math.log10(max(v, 1e-300)) if self.log else v for v in (self.low, self.high, value))
        return min(max((value - low) / (high - low), 0.0), 1.0)


_RATE = Axis("detected, %", 0, 1, [(v / 100, str(v)) for v in (0, 25, 50, 75, 100)])


class Plot:
    """A frame with axes, onto which lines and marks are put."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self._x, self._y = x, y
        self._parts: list[str] = []
        for value, text in y.ticks:
            self.line([(x.low, value), (x.high, value)], class_="grid")
            self.text((x.low, value), text, -6, 4, anchor="end")
        for value, text in x.ticks:
            self.line([(value, y.low), (value, y.high)], class_="grid")
            self.text((value, y.low), text, 0, 16, anchor="middle")
        self._parts += [
            element("text", y.title, x=4, y=12, class_="axis"),
            element("text", x.title, x=_WIDTH - _RIGHT, y=_HEIGHT - 6, text_anchor="end", class_="axis"),
        ]

    def at(self, point: Point) -> Point:
        """Where a point lies in the picture."""
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + self._x.place(point[0]) * width, _HEIGHT - _BOTTOM - self._y.place(point[1]) * height

    def line(self, points: Iterable[Point], class_: str, dashes: str | None = None) -> None:
        """Adds a line through points."""
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in map(self.at, points))
        self._parts.append(element("path", d=path, class_=class_, stroke_dasharray=dashes))

    def band(self, first: Point, last: Point) -> None:
        """Shades a box between two corners."""
        (x0, y0), (x1, y1) = self.at(first), self.at(last)
        box = {"x": min(x0, x1), "y": min(y0, y1), "width": abs(x1 - x0), "height": abs(y1 - y0)}
        self._parts.append(element("rect", **box, class_="band"))

    def mark(self, point: Point, number: int, title: str, class_: str = "") -> None:
        """Adds the mark of a scheme, with a tooltip."""
        x, y = self.at(point)
        place, classes = f"translate({x:.1f} {y:.1f})", f"mark s{number % COLOURS} {class_}".rstrip()
        shape = element("path", element("title", title), d=_shape(number), transform=place, class_=classes)
        self._parts.append(shape)

    def text(
        self, point: Point, text: str, dx: float = 0, dy: float = 0, anchor: str = "start", class_: str = "tick"
    ) -> None:
        """Adds text beside a point."""
        x, y = self.at(point)
        self._parts.append(element("text", text, x=x + dx, y=y + dy, text_anchor=anchor, class_=class_))

    def panel(self, title: str, label: str) -> Markup:
        """The plot under its title. `label` says in words what it shows."""
        picture = element(
            "svg", *self._parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label, class_="plot"
        )
        return element("figure", element("figcaption", title), picture, class_="panel")


def swatch(number: int) -> Markup:
    """The line and mark of a scheme, for a legend."""
    return element(
        "svg",
        element("path", d="M1 8H31", class_=f"curve s{number % COLOURS}", stroke_dasharray=_dashes(number)),
        element("path", d=_shape(number), transform="translate(16 8)", class_=f"mark s{number % COLOURS}"),
        viewBox="0 0 32 16", width=32, height=16, aria_hidden="true", class_="swatch",
    )  # fmt: skip


def legend(view: View) -> Markup:
    """Which line and mark belongs to which scheme."""
    items = (element("li", swatch(i), element("span", scheme)) for i, scheme in enumerate(view.schemes))
    return element("ul", *items, class_="legend")


def roc(view: View) -> Markup:
    """Detected against false-positive rate, without attack and under the worst: a curve for each scheme."""
    curves = {(row["scheme"], row["attack"]): row for row in view.rows("roc") if row["fpr"]}
    lowest = min((min(row["fpr"]) for row in curves.values()), default=1.0)
    decades = min(max(math.ceil(-math.log10(max(lowest, 1e-12)) - 1e-9), 1), 12)
    step = -(-decades // 4)
    ticks = [(10.0**-k, power(10.0**-k)) for k in range(0, decades + 1, step)]
    x = Axis("false-positive rate", 10.0**-decades, 1.0, ticks, log=True)
    panels = []
    for attack in _shown(view, {attack for _, attack in curves}):
        plot, said = Plot(x, _RATE), []
        for number, scheme in enumerate(view.schemes):
            row = curves.get((scheme, attack))
            if row is None:
                continue
            points = sorted((max(fpr, x.low), tpr) for fpr, tpr in zip(row["fpr"], row["tpr"], strict=True))
            plot.line(points, f"curve s{number % COLOURS}", _dashes(number))
            plot.mark(points[0], number, f"{scheme}: {percent(points[0][1])} % at {power(points[0][0])}")
            said.append(f"{scheme} {percent(points[0][1])} % at {power(points[0][0])}")
        title = view.called(attack)
        panels.append(plot.panel(title, f"Detected rate against false-positive rate, {title}: {'; '.join(said)}"))
    return _panels(view, panels)


def _shown(view: View, attacks: set[str]) -> list[str]:
    """No attack, then the worst: those named so, and else the least detected."""
    worst = sorted(view.rows("worst"), key=lambda row: float(row["level"]))
    rates = {key: share(view.detected(*key)).share for key in view.cells}
    least = sorted((rate, attack) for (_, attack), rate in rates.items() if rate is not None and view.removal(attack))
    order = dict.fromkeys(["none", *(row["attack"] for row in worst), *(attack for _, attack in least)])
    return [attack for attack in order if attack in attacks][:_MOST_PANELS]


def tradeoff(view: View) -> Markup:
    """Detected rate against degradation: a panel for each scheme, a mark for each attack, and the lower hull."""
    panels = []
    x = Axis("degradation", 0, 1, [(v / 100, f"{v / 100:g}") for v in (0, 25, 50, 75, 100)])
    for number, scheme in enumerate(view.schemes):
        found: dict[str, Point] = {}
        for (label, attack), cell in view.cells.items():
            rate = share(view.detected(label, attack)).share
            loss = 0.0 if attack == "none" else cell.get("degradation")
            if label == scheme and view.removal(attack) and rate is not None and loss is not None:
                found[attack] = loss, rate
        if not found.keys() - {"none"}:
            continue
        plot = Plot(x, _RATE)
        plot.band((0, 0), (USABLE, 1))
        plot.text((USABLE, 1), "usable", 0, -5, "end", "note")
        hull = _hull(found)
        plot.line([found[attack] for attack in hull], f"curve s{number % COLOURS}")
        for attack, point in found.items():
            title = f"{view.called(attack)}: {percent(point[1])} % detected, degradation {point[0]:.2f}"
            plot.mark(point, number, title, "" if attack in hull else "faint")
        _name(plot, {attack: found[attack] for attack in hull if attack != "none"}, view)
        said = "; ".join(f"{view.called(a)} {percent(found[a][1])} % at {found[a][0]:.2f}" for a in hull)
        panels.append(plot.panel(scheme, f"Detected rate against degradation, {scheme}. Lower hull: {said}"))
    return _panels(view, panels, named=False)


def _hull(found: Mapping[str, Point]) -> list[str]:
    """The lower convex hull from the least degraded point to the least detected one."""
    hull: list[str] = []
    for attack in sorted(found, key=lambda attack: (*found[attack], attack)):
        if hull and found[attack][1] >= found[hull[-1]][1]:
            continue
        while len(hull) > 1 and _turn(found[hull[-2]], found[hull[-1]], found[attack]) <= 0:
            hull.pop()
        hull.append(attack)
    return hull


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _name(plot: Plot, points: Mapping[str, Point], view: View) -> None:
    """Names the marks of a lower hull, below it where there is room, as far as names do not run into each other."""
    taken: list[tuple[float, float, float]] = []
    for attack, point in sorted(points.items(), key=lambda item: item[1][1]):
        text, (x, y) = view.called(attack), plot.at(point)
        width = 5.7 * len(text)
        if point[1] > 0.1:
            left = max(x - 4 - width, _LEFT + 4)
            base = y + 15 + max(left + width - x, 0)
        else:
            left, base = min(x + 6, _WIDTH - width), y - 8
        if base > plot.at((0, 0))[1]:
            left, base = min(x + 8, _WIDTH - width), y + 4
        if any(abs(base - v) < 12 and left < b and a < left + width for a, b, v in taken):
            continue
        taken.append((left, left + width, base))
        plot.text(point, text, left - x, base - y, class_="name")


def calibration(view: View) -> Markup:
    """Rate of false positives against its nominal value, on logarithmic axes."""
    panels = []
    for row in view.rows("calibration"):
        levels = [entry for entry in row["levels"] if entry["rate"].get("value") is not None]
        if not levels:
            continue
        number = view.schemes.index(row["scheme"]) if row["scheme"] in view.schemes else 0
        nominal = [entry["nominal"] for entry in levels]
        found = [entry["rate"][key] for entry in levels for key in ("value", "low", "high") if entry["rate"][key]]
        x, y = _decades("nominal rate", nominal), _decades("rate found", nominal + found)
        plot = Plot(x, y)
        ends = max(x.low, y.low), min(x.high, y.high)
        plot.line([(end, end) for end in ends], "even")
        limits = sorted((entry["nominal"], entry["limit"] / entry["rate"]["trials"]) for entry in levels)
        plot.line(limits, "limit", "5 3")
        for entry in levels:
            _level(plot, entry, number)
        said = "; ".join(f"{power(entry['rate']['value'])} at {power(entry['nominal'])}" for entry in levels)
        verdict = "passed" if row["passed"] else "FAILED"
        panels.append(
            plot.panel(f"{row['scheme']}: {verdict}", f"Rate of false positives, {row['scheme']}: {said}; {verdict}")
        )
    return _panels(view, panels, named=False)


def _decades(title: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis with room beside the values."""
    low, high = math.floor(math.log10(min(values)) - 0.3), min(math.ceil(math.log10(max(values)) + 0.3), 0)
    step = -(-(high - low) // 6) or 1
    return Axis(
        title, 10.0**low, 10.0**high, [(10.0**k, power(10.0**k)) for k in range(high, low - 1, -step)], log=True
    )


def _level(plot: Plot, entry: Mapping[str, Any], number: int) -> None:
    nominal, rate = entry["nominal"], entry["rate"]
    plot.line([(nominal, rate["low"]), (nominal, rate["high"])], f"interval s{number % COLOURS}")
    title = f"{rate['count']} of {rate['trials']} at a nominal rate of {power(nominal)}; limit: {entry['limit']}"
    plot.mark((nominal, rate["value"]), number, title, "" if rate["value"] else "open")
    if not entry["passed"]:
        plot.text((nominal, rate["value"]), "failed", 9, 4, class_="name")


def _panels(view: View, panels: Sequence[Markup], named: bool = True) -> Markup:
    if not panels:
        return Markup()
    return join(*([legend(view)] if named else []), element("div", *panels, class_="panels"))
