"""The parts of a report, in the order that a reader needs, and what its words mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from watermark.evaluation.report import charts, tables
from watermark.evaluation.report.markup import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from watermark.evaluation.report.tables import Table
    from watermark.evaluation.report.view import View


class Section(NamedTuple):
    """A heading, what to know before reading on, tables, and on the page a chart."""

    title: str
    lead: str
    tables: Callable[[View], Sequence[Table]]
    chart: Callable[[View], Markup] = lambda view: Markup()


SECTIONS = (
    Section(
        "Robustness",
        "How many marked media are still detected after an attack, with p-values at most the false-positive rate.",
        lambda view: [*tables.robustness(view), tables.calibrated(view), tables.figures(view)],
    ),
    Section(
        "ROC curves",
        "Detected against false-positive rate, without attack and under the worst ones. The left end is the strictest:"
        " a curve that is high there needs no leniency.",
        lambda view: [],
        charts.roc,
    ),
    Section(
        "Quality and detectability",
        "What an attack costs in quality and what it gains. The line is the lower hull: an attacker who mixes attacks"
        " reaches every point of it.",
        lambda view: [],
        charts.tradeoff,
    ),
    Section(
        "Worst case",
        "A scheme is as robust as under the attack that harms it most and leaves the media usable.",
        lambda view: [tables.worst(view)],
    ),
    Section(
        "Calibration",
        "Whether a p-value is what it claims to be: false positives among unmarked media, over fresh keys. On the"
        " diagonal the rate is the nominal one. The dashed line is the limit; a hollow mark is a rate of 0.",
        tables.calibration,
        charts.calibration,
    ),
    Section(
        "False positives under attack",
        "Whether attacks make unmarked media look marked.",
        tables.false_positives,
    ),
    Section("Messages", "Read, right, and vouched for by the detector.", lambda view: [tables.messages(view)]),
    Section(
        "Attribution",
        "The more users there are, the more evidence it takes to name one of them.",
        lambda view: [tables.attribution(view)],
    ),
    Section("Ranking of attacks", "By the rules of WAVES: the most harmful attack comes first.", tables.waves),
    Section(
        "Protection",
        "By the scores of CopyrightMeter, beside the quality of marked media before any attack.",
        lambda view: [tables.protection(view)],
    ),
    Section("Costs", "On the machine described at the end.", tables.costs),
)
DEFINITIONS = {
    "false-positive rate": "Share of media without the mark that are called marked, fixed before the test."
    " 10⁻⁶ is one in a million.",
    "detected": "Share of marked media whose p-value is at most the false-positive rate: what a user gets.",
    "calibrated": "The same with a threshold on the score that was frozen on unmarked media before any attack.",
    "interval": "Clopper-Pearson, 95 %: it holds the true rate in at least 95 of 100 repetitions. That of a worst case "
    "is wider, as it pays for the number of attacks that it was chosen from.",
    "null": "What the p-value rests on. Exact: it holds for any media, over the key. Bound: it holds and may be too"
    " large. Calibrated: fitted to unmarked media. Known message: the bits that were read are compared with those that"
    " were embedded at random.",
    "p-value": "Chance that media without the mark score as high, over the choice of the key. Medians are given as"
    " log₁₀ p.",
    "AUC": "Chance that a marked item scores higher than one without the mark: 1 separates them, 0.5 is chance.",
    "degradation": "Loss of quality by the attack, from 0 (none) to 1: the mean of its metrics, each normalised as"
    " in WAVES.",
    "usable": f"Attacked media with a degradation of at most {tables.USABLE}.",
    "exact message": "Share of marked media whose message was read without an error and vouched for by the detector.",
    "correct, wrong user": "Share of marked media traced to their own user, and to someone else, among all users.",
    "limit": "Largest number of false positives that 99.9 % of valid tests stay under.",
    "Q@0.95P, Q@0.7P": "Degradation at which the detected rate falls to 95 % or 70 %: ∞ if it never falls so low, −∞"
    " if it always lies below. Lower means a stronger attack.",
    "average P, average Q": "Detected rate and degradation, averaged over the strengths of an attack.",
    "fidelity, efficacy, resilience": "How little a mark changes the media, how often it is found without an attack,"
    " and how often after attacks.",
    "forgery": "An attack that makes media without the mark pass as marked; here a low rate is good.",
}
