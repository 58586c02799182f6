"""From cells to figures: rates with intervals, worst cases, calibration, attribution, and checks of the evaluation."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.evaluation import quality
from watermark.evaluation.audit import audit, count
from watermark.evaluation.grid import NONE, NULL_LEVELS
from watermark.evaluation.rates import auc, limit, rate
from watermark.evaluation.subjects import KNOWN_MESSAGE
from watermark.evaluation.tables import NO_CELLS, Group, groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from watermark.evaluation.tables import Tables

USABLE = 0.3
"""Degradation up to which an attacked picture is still of use, as in the NeurIPS 2024 challenge and WAVES."""
USERS = (1, 1_000, 1_000_000, 1_000_000_000)
_FALSE_ATTRIBUTION = 0.01
_CHECKED_LEVELS = (0.5, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
_ROC = np.linspace(0, -12, 97)


class Summary:
    """Everything that a report shows, of one evaluation.

    Args:
        tables: What was measured.
        run: Environment and costs, which differ from run to run.
    """

    def __init__(self, tables: Tables, run: Mapping[str, Any]) -> None:
        self._facts, self._null, self._run = tables.facts, tables.null.to_pylist(), run
        self._groups = groups(tables.cells)
        self.levels: list[float] = self._facts["protocol"]["levels"]
        self.schemes = [scheme["label"] for scheme in self._facts["schemes"]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; see docs/evaluation.md for every field."""
        cells = [self._cell(s, attack) for s in self.schemes for attack in self._facts["attacks"]]
        calibration = [self._calibration(scheme) for scheme in self.schemes]
        by_cell = {(cell["scheme"], cell["attack"]): cell for cell in cells}
        return {
            "version": self._facts["version"],
            "title": self._title(),
            "modality": self._facts["modality"],
            "environment": self._run.get("environment", {}),
            "protocol": self._facts["protocol"],
            "schemes": self._facts["schemes"],
            "attacks": self._facts["attacks"],
            "cells": cells,
            "fidelity": [self._fidelity(scheme) for scheme in self.schemes],
            "thresholds": [row for scheme in self.schemes for row in self._frozen(scheme)],
            "roc": [self._roc(scheme, attack["id"]) for scheme in self.schemes for attack in self._removal()],
            "calibration": calibration,
            "worst": [worst for s in self.schemes if (worst := self._worst(s, by_cell)) is not None],
            "waves": [row for scheme in self.schemes for row in self._waves(scheme, by_cell)],
            "attribution": [row for scheme in self._facts["schemes"] for row in self._attribution(scheme)],
            "protection": [self._protection(scheme, by_cell) for scheme in self.schemes],
            "costs": self._run.get("costs", []),
            "attack_costs": self._run.get("attack_costs", []),
            "audit": audit(self._facts, self._groups, calibration),
        }

    def _frozen(self, scheme: str) -> list[dict[str, Any]]:
        negatives = len(self._group(scheme, "calibration"))
        stored = self._facts["thresholds"][scheme]
        score = {level: None if p is None else -p for level, p in stored.items()}
        return [
            {"scheme": scheme, "level": level, "score": score[level], "negatives": negatives}
            for level in map(_text, self.levels)
        ]

    def _group(self, scheme: str, split: str, attack: str = NONE) -> Group:
        return self._groups.get((scheme, split, attack), NO_CELLS)

    def _removal(self) -> list[dict[str, Any]]:
        return [attack for attack in self._facts["attacks"] if attack["goal"] == "removal"]

    def _title(self) -> str:
        protocol = self._facts["protocol"]
        attacks, items = len(self._facts["attacks"]) - 1, sum(protocol["split"].values())
        return ", ".join(count(*what) for what in ((len(self.schemes), "scheme"), (attacks, "attack"), (items, "item")))

    def _cell(self, scheme: str, attack: Mapping[str, Any]) -> dict[str, Any]:
        forgery = attack["goal"] == "forgery"
        marked = self._group(scheme, "negative" if forgery else "positive", attack["id"])
        clean = self._group(scheme, "negative", NONE if forgery else attack["id"])
        thresholds = self._facts["thresholds"][scheme]
        at = {_text(level): math.log10(level) for level in self.levels}

        def calibrated(group: Group) -> dict[str, Any]:
            return {
                level: None if thresholds[level] is None else group.detected(thresholds[level], strictly=True)
                for level in at
            }

        exact = [] if forgery or not len(marked) else [e for e in marked["exact"].tolist() if e is not None]
        wrong = [] if forgery or not len(marked) else [w for w in marked["wrong"].tolist() if w is not None]
        metrics = [name for name in quality.METRICS if name in marked.columns]
        return {
            "scheme": scheme,
            "attack": attack["id"],
            "trials": len(marked),
            "errors": marked.errors + (0 if forgery else clean.errors),
            "detected": {level: marked.detected(threshold) for level, threshold in at.items()},
            "calibrated": calibrated(marked),
            "false": {level: clean.detected(threshold) for level, threshold in at.items()},
            "false_calibrated": calibrated(clean),
            "exact": rate(sum(exact), len(exact)) if exact else None,
            "wrong": rate(sum(wrong), len(wrong)) if wrong else None,
            "auc": auc(-marked["log10_p"], -clean["log10_p"]),
            "median_log10_p": float(np.median(marked["log10_p"])) if len(marked) else None,
            "quality": {} if attack["id"] == NONE else {name: _median(marked[name]) for name in metrics},
            "degradation": None if attack["id"] == NONE else marked.degradation,
        }

    def _fidelity(self, scheme: str) -> dict[str, Any]:
        group = self._group(scheme, "positive")
        metrics = [name for name in quality.METRICS if name in group.columns]
        return {"scheme": scheme, "quality": {name: _median(group[name]) for name in metrics}}

    def _roc(self, scheme: str, attack: str) -> dict[str, Any]:
        found = np.sort(self._group(scheme, "positive", attack)["log10_p"])
        share = np.searchsorted(found, _ROC, "right") / max(1, len(found))
        return {"scheme": scheme, "attack": attack, "fpr": (10.0**_ROC).tolist(), "tpr": share.tolist()}

    def _calibration(self, scheme: str) -> dict[str, Any]:
        blocks = [row for row in self._null if row["scheme"] == scheme and row["trials"]]
        trials = sum(row["trials"] for row in blocks)
        totals = np.sum([row["counts"] for row in blocks], axis=0) if blocks else np.zeros(len(NULL_LEVELS), int)
        levels = []
        for nominal, passed in zip(NULL_LEVELS, totals.tolist(), strict=True):
            most = limit(trials, nominal, len(_CHECKED_LEVELS))
            counted = nominal in _CHECKED_LEVELS
            levels.append(
                {
                    "nominal": nominal,
                    "rate": rate(passed, trials),
                    "limit": most,
                    "passed": not counted or passed <= most,
                }
            )
        return {
            "scheme": scheme,
            "items": len({row["digest"] for row in blocks}),
            "keys": trials,
            "trials": trials,
            "errors": [row["error"] for row in self._null if row["scheme"] == scheme and row["error"]],
            "levels": levels,
            "passed": trials > 0 and all(level["passed"] for level in levels),
        }

    def _worst(self, scheme: str, cells: Mapping[tuple[str, str], Any]) -> dict[str, Any] | None:
        level = self.levels[-1]
        usable = [
            cell
            for attack in self._removal()
            if attack["id"] != NONE and (cell := cells[scheme, attack["id"]])["trials"]
            if cell["degradation"] is None or cell["degradation"] <= USABLE
        ]
        if not usable:
            return None
        cell = min(usable, key=lambda cell: (cell["detected"][_text(level)]["value"], cell["median_log10_p"] * -1))
        # The least of several rates: the interval pays for their number.
        group = self._group(scheme, "positive", cell["attack"])
        found = group.detected(math.log10(level), level=1 - 0.05 / len(usable))
        return {
            "scheme": scheme,
            "attack": cell["attack"],
            "degradation": cell["degradation"],
            "level": _text(level),
            "detected": found,
        }

    def _waves(self, scheme: str, cells: Mapping[tuple[str, str], Any]) -> list[dict[str, Any]]:
        """Attacks by the degradation that it takes them to hide the mark, as WAVES ranks them."""
        level = _text(min(self.levels, key=lambda level: abs(math.log10(level) + 3)))
        by_name: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for attack in self._removal():
            cell = cells[scheme, attack["id"]]
            if attack["id"] != NONE and cell["degradation"] is not None and cell["trials"]:
                found = cell["detected"][level]["value"]
                by_name[attack["name"]].append((cell["degradation"], found, attack["strength"]))
        rows = []
        for name, points in by_name.items():
            if len(points) < 2:
                continue  # one strength gives no curve
            q, p, strengths = map(np.array, zip(*sorted(points), strict=True))
            rows.append(
                {
                    "scheme": scheme,
                    "attack": name,
                    "strengths": sorted(strengths.tolist()),
                    "q95": _crossing(q, p, 0.95),
                    "q70": _crossing(q, p, 0.7),
                    "avg_p": float(p.mean()),
                    "avg_q": float(q.mean()),
                }
            )
        return sorted(rows, key=lambda row: tuple(float(row[name]) for name in ("q95", "q70", "avg_p", "avg_q")))

    def _attribution(self, scheme: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Who made it? With a message: the user's number; without: one key per user, all of which are tried."""
        rows, bits = [], scheme["payload_bits"]
        by_message = bits is not None and scheme["null"] != KNOWN_MESSAGE
        for attack in self._removal():
            group = self._group(scheme["label"], "positive", attack["id"])
            if not len(group):
                continue
            for users in USERS:
                if bits is not None and users > 2**bits:
                    correct, wrong = rate(0, len(group)), rate(0, 0)
                elif by_message:
                    correct = rate(int((group["exact"] == True).sum()), len(group))  # noqa: E712 (None is neither)
                    # Users have messages at random: so many of all others are one of theirs.
                    others = (users - 1) / (2**bits - 1)
                    wrong = _scaled(rate(int((group["wrong"] == True).sum()), len(group)), others)  # noqa: E712
                else:
                    correct = group.detected(math.log10(_FALSE_ATTRIBUTION / users))
                    wrong = rate(0, 0)  # at most `_FALSE_ATTRIBUTION`, by the family-wise test
                rows.append(
                    {
                        "scheme": scheme["label"],
                        "attack": attack["id"],
                        "users": users,
                        "correct": correct,
                        "wrong": wrong,
                    }
                )
        return rows

    def _protection(self, scheme: str, cells: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
        level = _text(self.levels[-1])
        harm = self._group(scheme, "positive").degradation
        removal = [cells[scheme, attack["id"]]["detected"][level]["value"] for attack in self._removal()]
        after = [value for value in removal[1:] if value is not None]
        return {
            "scheme": scheme,
            "fidelity": None if harm is None else 1 - harm,
            "efficacy": removal[0],
            "resilience": float(np.mean(after)) if after else None,
        }


def _text(level: float) -> str:
    return f"{level:g}"


def _median(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _scaled(share: dict[str, Any], factor: float) -> dict[str, Any]:
    return share | {name: share[name] * factor for name in ("value", "low", "high") if share[name] is not None}


def _crossing(q: NDArray[np.float64], p: NDArray[np.float64], level: float) -> float | str:
    """The degradation at which detection first falls to a level; "inf" if it never does, "-inf" if it starts there."""
    if p[0] <= level:
        return "-inf"
    below = np.flatnonzero(p <= level)
    if not len(below):
        return "inf"
    i = int(below[0])
    return float(q[i - 1] + (q[i] - q[i - 1]) * (p[i - 1] - level) / (p[i - 1] - p[i]))
