"""What an evaluation says, as tables of text: the part that the page and the Markdown share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from watermark.evaluation.report.view import NOTHING, Value, View, count, number, percent, plain, power, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from watermark.evaluation.report.view import Rate

USABLE = 0.3
"""Degradation up to which attacked media count as usable."""
_EMPTY: Mapping[str, Any] = {"detected": {}, "calibrated": {}}


class Column(NamedTuple):
    """Head of a column, and of the group of columns that it belongs to."""

    title: str
    group: str = ""
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table whose first column heads its rows.

    Attributes:
        caption: What it shows.
        columns: Heads.
        rows: Entries, as many as there are columns.
        heat: Entries are coloured by their shares, and details are left to a second table.
        folded: For reference only: closed on the page, and no part of the Markdown.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    heat: bool = False
    folded: bool = False


def _words(*titles: str) -> list[Column]:
    return [Column(title, number=False) for title in titles]


def _numbers(*titles: str) -> list[Column]:
    return [Column(title) for title in titles]


def verdict(view: View, scheme: str) -> tuple[str, str]:
    """The first figure of a scheme in percent, or nothing, and the rest of a sentence that starts with "detects"."""
    found = share(view.detected(scheme, "none"))
    if found.share is None:
        return "", f"was not tried on unattacked {view.noun}"
    text = (
        f"({found.detail.replace('–', ' to ')}) of unattacked {view.noun}"
        f" at a false-positive rate of {power(float(view.strictest))}"
    )
    worst = [row for row in view.rows("worst") if row["scheme"] == scheme and share(row["detected"]).share is not None]
    if worst:
        row = min(worst, key=lambda row: float(row["level"]))
        at = "" if row["level"] == view.strictest else f" at {power(float(row['level']))}"
        if row["detected"]["value"] == found.share and not at:
            text += "; no usable attack lowers it"
        else:
            text += f"; worst usable attack: {view.called(row['attack'])}, {share(row['detected']).text}\u00a0%{at}"
    forged = {
        attack: rate["value"]
        for (label, attack) in view.cells
        if label == scheme and not view.removal(attack) and (rate := view.detected(label, attack))
        if rate["value"] is not None
    }
    if forged:
        attack = max(forged, key=lambda attack: forged[attack])
        text += f"; accepts {percent(forged[attack])}\u00a0% of forgeries by {view.called(attack)}"
    return f"{found.text}\u00a0%", text


def state(passed: bool | None) -> str:
    """The outcome of a check; None stands for one that had nothing to go by."""
    return "○ not tested" if passed is None else "✓ passed" if passed else "✗ FAILED"


def checks(view: View) -> tuple[str, list[Mapping[str, Any]]]:
    """What all checks come to, and each of them: those that failed first, then what was not tested."""
    audit = sorted(view.rows("audit"), key=lambda row: (row["passed"] is not False, row["passed"] is not None))
    failed, untested = (sum(row["passed"] is state for row in audit) for state in (False, None))
    if failed:
        return f"{failed} of {len(audit)} checks failed", audit
    if untested:
        return f"{len(audit) - untested} of {len(audit)} checks passed, {untested} had nothing to go by", audit
    return f"All {len(audit)} checks passed", audit


def limits(view: View) -> list[str]:
    """What the figures of this run cannot say, in sentences."""
    found = []
    trials = max(
        (r["trials"] for cell in view.cells.values() for r in (cell.get("false") or {}).values() if r), default=0
    )
    if not trials:
        found.append(f"No unmarked {view.noun} were tested: false positives are not measured.")
    elif view.levels and trials * float(view.strictest) < 1:
        found.append(
            f"{trials} unmarked {view.noun} for each attack cannot measure a false-positive rate of"
            f" {power(float(view.strictest))}: it rests on the null of the scheme."
        )
    unfrozen = sorted({row["level"] for row in view.rows("thresholds") if row["score"] is None}, key=float)
    if unfrozen:
        names = ", ".join(power(float(key)) for key in reversed(unfrozen))
        found.append(f"Too few calibration negatives to freeze a threshold at {names}: no calibrated rate there.")
    errors, tried = (sum(cell.get(key) or 0 for cell in view.cells.values()) for key in ("errors", "trials"))
    if errors:
        found.append(f"{errors} of {tried} attacked {view.noun} ended in an error.")
    return found


def robustness(view: View) -> list[Table]:
    """Detected rates: attacks by schemes and levels, removal and forgery apart."""
    return [
        _grid(view, caption, lambda cell, key: cell["detected"].get(key), removal=removal)
        for removal, caption in (
            (True, f"Marked {view.noun} that are detected, in %, by false-positive rate"),
            (False, f"Forged {view.noun} that are accepted as marked, in %, by false-positive rate (lower is better)"),
        )
    ]


def calibrated(view: View) -> Table:
    """Detected rates at thresholds frozen on negatives."""
    caption = "Detected at thresholds frozen on calibration negatives, in %"
    return _grid(view, caption, lambda cell, key: (cell.get("calibrated") or {}).get(key), folded=True)


def _grid(
    view: View, caption: str, rate: Callable[[Mapping[str, Any], str], Rate | None], removal: bool = True,
    folded: bool = False,
) -> Table:  # fmt: skip
    cells = {key: cell for key, cell in view.cells.items() if view.removal(key[1]) == removal}
    known = {
        (scheme, level) for (scheme, _), cell in cells.items() for level in view.levels if rate(cell, level) is not None
    }
    heads = [(scheme, level) for scheme in view.schemes for level in view.levels if (scheme, level) in known]
    rows = [
        [view.attack(attack), *(share(rate(cells.get((scheme, attack), _EMPTY), level)) for scheme, level in heads)]
        for attack in _attacks(view, cells)
    ]
    columns = [*_words("attack"), *(Column(power(float(level)), scheme) for scheme, level in heads)]
    return Table(caption, columns, rows if heads else (), heat=not folded, folded=folded)


def _attacks(view: View, cells: Iterable[tuple[str, str]]) -> list[str]:
    """Attacks of some cells, in the order of the summary."""
    present = dict.fromkeys(attack for _, attack in cells)
    return [*(attack for attack in view.attacks if attack in present), *(a for a in present if a not in view.attacks)]


def figures(view: View) -> Table:
    """Every other figure of a cell."""
    metrics = list(dict.fromkeys(name for cell in view.cells.values() for name in cell.get("quality") or ()))
    names = "trials", "errors", "AUC", "median log₁₀ p", "degradation", *metrics
    rows = []
    for (scheme, attack), cell in sorted(view.cells.items(), key=lambda item: view.schemes.index(item[0][0])):
        auc, quality = cell.get("auc") or {}, cell.get("quality") or {}
        curve = Value(number(auc.get("value"), 3), f"{number(auc['low'], 3)}–{number(auc['high'], 3)}" if auc else "")
        counts = (Value(plain(cell.get(key))) for key in ("trials", "errors"))
        log_p, loss = Value(number(cell.get("median_log10_p"), 1)), Value(number(cell.get("degradation")))
        measured = (Value(number(quality.get(name))) for name in metrics)
        rows.append([view.attack(attack), Value(scheme), *counts, curve, log_p, loss, *measured])
    columns = [*_words("attack", "scheme"), *_numbers(*names)]
    return Table(f"Medians over the attacked {view.noun}", columns, rows, folded=True)


def calibration(view: View) -> list[Table]:
    """Rates of false positives over fresh keys: at the levels of the run, and at all that were tried."""
    names = "nominal rate", "false positives", "limit", "trials", "rate / nominal"
    columns = [*_words("scheme"), *_numbers(*names), *_words("verdict")]
    entries = [(row["scheme"], entry) for row in view.rows("calibration") for entry in row["levels"]]
    levels = {float(level) for level in view.levels}
    # One that failed is never left to the longer table.
    short = [(scheme, entry) for scheme, entry in entries if entry["nominal"] in levels or not entry["passed"]]
    caption = f"Fresh keys on unmarked {view.noun}"
    return [
        Table(caption, columns, [_tested(*entry) for entry in short]),
        Table(f"{caption}, all rates", columns, [_tested(*entry) for entry in entries], folded=True),
    ]


def _tested(scheme: str, entry: Mapping[str, Any]) -> list[Value]:
    rate = entry["rate"]
    counts = (Value(number(n, 0)) for n in (rate["count"], entry["limit"], rate["trials"]))
    verdict = Value("passed" if entry["passed"] else "FAILED")
    return [Value(scheme), Value(power(entry["nominal"])), *counts, _ratio(rate, entry["nominal"]), verdict]


def _ratio(rate: Rate, nominal: float) -> Value:
    if rate.get("value") is None:
        return Value(NOTHING)
    value, low, high = (
        number(rate[key] / nominal, 2 if rate[key] < 10 * nominal else 0) for key in ("value", "low", "high")
    )
    return Value(value, f"{low} to {high}")


def worst(view: View) -> Table:
    """The least detected of the usable attacks."""
    columns = [*_words("scheme", "attack"), *_numbers("false-positive rate", "detected, %", "degradation")]
    rows = [
        [Value(row["scheme"]), view.attack(row["attack"]), Value(power(float(row["level"]))), share(row["detected"]),
         Value(number(row.get("degradation")))]
        for row in view.rows("worst")
    ]  # fmt: skip
    return Table(f"Least detected attack with a degradation of at most {USABLE}", columns, rows)


def false_positives(view: View) -> list[Table]:
    """False positives on attacked media without a mark: over all attacks, and one by one."""
    rows, all_rows = [], []
    for scheme in view.schemes:
        cells = {
            attack: cell for (label, attack), cell in view.cells.items()
            if label == scheme and any(rate and rate["trials"] for rate in (cell.get("false") or {}).values())
        }  # fmt: skip
        for level in view.levels if cells else ():
            rates = {attack: cell["false"][level] for attack, cell in cells.items() if cell["false"].get(level)}
            attacked = {attack: rate for attack, rate in rates.items() if attack != "none"}
            hits, trials = (sum(rate[key] for rate in attacked.values()) for key in ("count", "trials"))
            expected = trials * float(level)
            most = max(attacked, key=lambda attack: attacked[attack]["count"], default="none")
            rows.append([
                Value(scheme), Value(power(float(level))), count(rates.get("none")), Value(f"{hits} / {trials}"),
                Value(number(expected, 1) if expected >= 0.1 else power(expected)),
                Value(view.called(most) if hits else "none", count(attacked.get(most)).text if hits else ""),
            ])  # fmt: skip
        for attack, cell in cells.items():
            frozen = cell.get("false_calibrated") or {}
            entries = [count(rates.get(level)) for rates in (cell["false"], frozen) for level in view.levels]
            all_rows.append([view.attack(attack), Value(scheme), *entries])
    heads = _numbers("false-positive rate", "no attack", "all attacks", "expected at most")
    columns = [*_words("scheme"), *heads, *_words("most under one attack")]
    names = "p-value at most", "beyond the frozen threshold of"
    levels = [Column(power(float(level)), name) for name in names for level in view.levels]
    return [
        Table(f"False positives among unmarked {view.noun}, before and after attacks", columns, rows),
        Table("The same for each attack", [*_words("attack", "scheme"), *levels], all_rows, folded=True),
    ]


def messages(view: View) -> Table:
    """Messages that were read, right and vouched for."""
    cells = {key: cell for key, cell in view.cells.items() if cell.get("exact") and view.removal(key[1])}
    schemes = [scheme for scheme in view.schemes if any(key[0] == scheme for key in cells)]
    bits = {scheme["label"]: scheme.get("payload_bits") for scheme in view.rows("schemes")}
    columns = [Column(f"{bits[s]} bits" if bits.get(s) else "message", s) for s in schemes]
    rows = [
        [view.attack(attack), *(share(cells[s, attack]["exact"] if (s, attack) in cells else None) for s in schemes)]
        for attack in _attacks(view, cells)
    ]
    return Table("Messages read exactly, in %", [*_words("attack"), *columns], rows, heat=True)


def attribution(view: View) -> Table:
    """Right and wrong users named, by the number of users."""
    found = {(row["scheme"], row["attack"], row["users"]): row for row in view.rows("attribution")}
    users = sorted({key[2] for key in found})
    heads = [(what, n) for what in ("correct", "wrong") for n in users]
    rows = []
    for scheme, attack in dict.fromkeys(key[:2] for key in found):
        row = [found.get((scheme, attack, n), {}).get(what) for what, n in heads]
        shares = [share(rate) for rate in row]
        shares = [v if head[0] == "correct" else v._replace(share=None) for v, head in zip(shares, heads, strict=True)]
        rows.append([view.attack(attack), Value(scheme), *shares])
    columns = [Column(f"{power(n)} users" if n > 1 else "1 user", f"{what} user named") for what, n in heads]
    return Table(
        f"{view.noun.capitalize()} traced to a user, in %", [*_words("attack", "scheme"), *columns], rows, heat=True
    )


def waves(view: View) -> list[Table]:
    """The ranking of attacks of WAVES, a table for each scheme."""
    columns = [*_words("attack"), *_numbers("Q@0.95P", "Q@0.7P", "average P", "average Q")]
    return [
        Table(scheme, columns, [
            [Value(row["attack"].removeprefix(f"{view.summary.get('modality')}.")),
             *(Value(number(row.get(key), 3)) for key in ("q95", "q70", "avg_p", "avg_q"))]
            for row in view.rows("waves") if row["scheme"] == scheme
        ])
        for scheme in view.schemes
    ]  # fmt: skip


def protection(view: View) -> Table:
    """Fidelity, efficacy and resilience, with the quality of unattacked marked media."""
    scores = {row["scheme"]: row for row in view.rows("protection")}
    quality = {row["scheme"]: row.get("quality") or {} for row in view.rows("fidelity")}
    names = [key for key in ("fidelity", "efficacy", "resilience") if scores]
    metrics = list(dict.fromkeys(name for values in quality.values() for name in values))
    rows = [
        [Value(scheme), *(Value(number(scores.get(scheme, {}).get(key))) for key in names),
         *(Value(number(quality.get(scheme, {}).get(name))) for name in metrics)]
        for scheme in view.schemes if scheme in scores or quality.get(scheme)
    ]  # fmt: skip
    grouped = [Column(name, "protection, 0 to 1") for name in names] + [
        Column(n, "marked and original") for n in metrics
    ]
    return Table("What a mark costs and what it gives", [*_words("scheme"), *grouped], rows)


def costs(view: View) -> list[Table]:
    """Time of marking, detecting and attacking."""
    rows = [
        [Value(row["scheme"]), Value(number(row.get("mark_ms"), 1)), Value(number(row.get("detect_ms"), 1))]
        for row in view.rows("costs")
    ]
    attacks = [[view.attack(row["attack"]), Value(number(row.get("ms"), 1))] for row in view.rows("attack_costs")]
    return [
        Table("Milliseconds for one item", [*_words("scheme"), *_numbers("mark", "detect")], rows),
        Table("Milliseconds of an attack", [*_words("attack"), *_numbers("time")], attacks, folded=True),
    ]


def protocol(view: View) -> list[Table]:
    """What it takes to run the evaluation again."""
    entries = [
        ("protocol", "Protocol", ("setting", "value")),
        ("environment", "Environment", ("part", "value")),
    ]
    tables = [
        Table(caption, _words(*heads),
              [[Value(key.replace("_", " ")), Value(plain(v))] for key, v in (view.summary.get(name) or {}).items()])
        for name, caption, heads in entries
    ]  # fmt: skip
    kinds = ("schemes", "Schemes", True), ("attacks", "Attacks", False), ("thresholds", "Frozen thresholds", False)
    for name, caption, shown in kinds:
        keys = list(dict.fromkeys(key for row in view.rows(name) for key in row))
        columns = _words(*(key.replace("_", " ") for key in keys))
        rows = [[Value(plain(row.get(key))) for key in keys] for row in view.rows(name)]
        tables.append(Table(caption, columns, rows, folded=not shown))
    return tables
