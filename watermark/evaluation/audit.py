"""Whether the figures of an evaluation may be believed: thresholds, and checks of what was measured."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.evaluation.grid import NONE
from watermark.evaluation.rates import limit
from watermark.evaluation.subjects import KNOWN_MESSAGE
from watermark.evaluation.tables import NO_CELLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from watermark.evaluation.tables import Group, Groups

_CONTAMINATED = 1e-4
"""How improbable the least p-value of all negatives must be for one of them to count as marked."""
_MOST_ERRORS = 0.05
"""Share of cells that may be missing: of all, and of each scheme and attack, but for one. Those that fail are not like
the others, and what is left flatters."""


_WRONG_MESSAGES = 2.0**-16
_Outcome = tuple[bool | None, str]


def thresholds(log10_p: NDArray[np.float64], levels: Sequence[float]) -> dict[str, float | None]:
    """What p-values must fall below for the false-positive rate to be a level, by negatives alone.

    Split conformal: of n + 1 exchangeable negatives the last is among the k smallest with probability k / (n + 1) at
    most. So the rate holds on average over the negatives, whatever the p-values are worth.

    Args:
        log10_p: Verdicts on calibration negatives.
        levels: False-positive rates.

    Returns:
        By level, log10; None where there are too few negatives.
    """
    ordered = np.sort(log10_p)
    ranks = {f"{level:g}": math.floor(level * (len(ordered) + 1) + 1e-9) for level in levels}
    return {level: float(ordered[rank - 1]) if rank else None for level, rank in ranks.items()}


def audit(
    facts: Mapping[str, Any],
    groups: Groups,
    calibration: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Every check with its outcome: check, passed (None: there was nothing to go by), message.

    Args:
        facts: As in `Tables`.
        groups: Cells by scheme, split and attack.
        calibration: False positives with fresh keys, of each scheme.
    """
    checks = [
        ("splits", _disjoint(facts, groups)),
        ("thresholds", _frozen(facts, groups)),
        *(("negatives", _unmarked(scheme["label"], groups)) for scheme in facts["schemes"]),
        *(("calibration", _valid(*pair)) for pair in zip(facts["schemes"], calibration, strict=True)),
        *(("attacked negatives", _no_alarms(scheme, facts, groups)) for scheme in facts["schemes"]),
        *(("messages", _vouched(scheme["label"], groups)) for scheme in facts["schemes"] if scheme["payload_bits"]),
        ("errors", _measured(groups)),
    ]
    return [{"check": check, "passed": passed, "message": message} for check, (passed, message) in checks]


def _disjoint(facts: Mapping[str, Any], groups: Groups) -> _Outcome:
    serves: dict[tuple[str, str], set[str]] = defaultdict(set)
    for (scheme, split, _), group in groups.items():
        for digest in group["digest"].tolist():
            serves[scheme, digest].add(split)
    if twice := len({digest for (_, digest), ends in serves.items() if len(ends) > 1}):
        return (
            False,
            f"{count(twice, 'item')} served two of calibration, negatives and positives, which must be disjoint",
        )
    message = "calibration, negatives and positives share no item"
    if repeated := facts["protocol"]["repeated"]:
        message += f"; {count(repeated, 'copy', 'copies')} of other items left out"
    return True, message


def _frozen(facts: Mapping[str, Any], groups: Groups) -> _Outcome:
    levels = facts["protocol"]["levels"]
    wrong = [
        scheme
        for scheme, stored in facts["thresholds"].items()
        if stored != thresholds(groups.get((scheme, "calibration", NONE), NO_CELLS)["log10_p"], levels)
    ]
    if wrong:
        return False, f"thresholds of {', '.join(wrong)} are not those of the calibration negatives"
    return True, "thresholds follow from the calibration negatives alone"


def _unmarked(scheme: str, groups: Groups) -> _Outcome:
    negatives = [groups.get((scheme, split, NONE), NO_CELLS) for split in ("calibration", "negative")]
    total = sum(map(len, negatives))
    least = math.log10(_CONTAMINATED / max(1, total))
    found = [pair for group in negatives for pair in _items(group) if pair[0] < least]
    if not total:
        return None, f"{scheme}: there are no negatives"
    if not found:
        return True, f"{scheme}: {count(total, 'negative')}, none of which carries the mark"
    p, item = min(found)
    return False, f"{scheme}: {len(found)} of {count(total, 'negative')} carry the mark, such as {item} (p = 1e{p:.0f})"


def _items(group: Group) -> Iterator[tuple[float, str]]:
    return zip(group["log10_p"].tolist(), group["item"].tolist(), strict=True)


def _valid(about: Mapping[str, Any], found: Mapping[str, Any]) -> _Outcome:
    scheme, trials = found["scheme"], found["trials"]
    if trials == 0 and found["errors"]:
        return False, f"{scheme}: p-values could not be tested with fresh keys: {found['errors'][0]}"
    if trials == 0:
        return None, f"{scheme}: p-values were not tested with fresh keys; only the calibrated rates stand without that"
    bad = [
        f"{level['rate']['count']} of {trials} at {level['nominal']:g} (at most {level['limit']})"
        for level in found["levels"]
        if not level["passed"]
    ]
    if bad:
        return False, f"{scheme}: p-values are too small on media without a mark: {'; '.join(bad)}"
    if about["null"] == KNOWN_MESSAGE:
        return True, f"{scheme}: p-values compare bits with messages that the evaluation drew, and hold by construction"
    return True, f"{scheme}: p-values are valid in {trials} trials with fresh keys"


def _no_alarms(scheme: Mapping[str, Any], facts: Mapping[str, Any], groups: Groups) -> _Outcome:
    label, levels = scheme["label"], facts["protocol"]["levels"]
    removal = [attack["id"] for attack in facts["attacks"] if attack["goal"] == "removal"]
    alarms = []
    for attack in removal:
        group = groups.get((label, "negative", attack), NO_CELLS)
        for level in levels if len(group) else ():
            found = group.detected(math.log10(level))
            if found["count"] > limit(len(group), level * scheme["fixed_key"], len(removal) * len(levels)):
                alarms.append(
                    f"{'no attack' if attack == NONE else attack}: {found['count']} of {found['trials']} at {level:g}"
                )
    if alarms:
        return False, f"{label}: media without a mark look marked: {'; '.join(alarms[:3])}"
    if not any(len(groups.get((label, "negative", attack), NO_CELLS)) for attack in removal):
        return None, f"{label}: there are no test negatives"
    return True, f"{label}: attacks raise no false alarms"


def _vouched(scheme: str, groups: Groups) -> _Outcome:
    """Wrong messages that a detector vouched for: `Detection.payload_ok` promises 2^-16 at most."""
    read = [group["wrong"] for (label, _, _), group in groups.items() if label == scheme and "wrong" in group.columns]
    told = [bool(wrong) for column in read for wrong in column.tolist() if wrong is not None]
    if not told:
        return None, f"{scheme}: no messages were read"
    if sum(told) > limit(len(told), _WRONG_MESSAGES):
        return False, f"{scheme}: vouched for {sum(told)} wrong messages in {len(told)} media"
    return True, f"{scheme}: vouched for {sum(told) or 'no'} wrong messages in {len(told)} media"


def _measured(groups: Groups) -> _Outcome:
    errors = sum(group.errors for group in groups.values())
    total = errors + sum(map(len, groups.values()))
    if not errors:
        return True, f"{count(total, 'cell')}, all of which were measured"
    (scheme, split, attack), group = max(groups.items(), key=lambda one: one[1].errors / (one[1].errors + len(one[1])))
    message = (
        f"{errors} of {count(total, 'cell')} could not be measured, and do not count; most often {scheme}, attack "
        f"{attack}, {split}: {group.errors} of {group.errors + len(group)} ({group.reason})"
    )
    many = any(group.errors > max(1, _MOST_ERRORS * (group.errors + len(group))) for group in groups.values())
    return not many and errors <= _MOST_ERRORS * total, message


def count(number: int, one: str, many: str | None = None) -> str:
    """A number of things in words, such as "1 item"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
