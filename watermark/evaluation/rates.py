"""Shares of trials with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.errors import MissingExtraError

try:
    from scipy import optimize, stats
except ImportError:
    raise MissingExtraError("scipy", "evaluation") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.999
"""Of the limits that false positives must stay under."""
_NEAR = 1e-9


def rate(count: int, trials: int, level: float = 0.95) -> dict[str, Any]:
    """A share with its exact interval (Clopper and Pearson, 1934): count, trials, value, low and high.

    The last three are None without trials.
    """
    if trials == 0:
        return {"count": 0, "trials": 0, "value": None, "low": None, "high": None}
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, trials - count + 1))
    high = 1.0 if count == trials else float(stats.beta.ppf(1 - tail, count + 1, trials - count))
    return {"count": int(count), "trials": int(trials), "value": count / trials, "low": low, "high": high}


def limit(trials: int, nominal: float, tests: int = 1) -> int:
    """The largest count that is no evidence against a rate of `nominal`.

    Args:
        trials: Number of trials.
        nominal: The rate that must not be exceeded.
        tests: Number of such tests that are made together.
    """
    return int(stats.binom.isf((1 - CONFIDENCE) / tests, trials, min(nominal, 1.0)))


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64], level: float = 0.95) -> dict[str, float] | None:
    """Area under the ROC curve with its interval: value, low and high. None without media.

    The interval holds all areas from which the one that was found is no further than it would be by chance (Newcombe,
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", 2006, method 5). Unlike
    resampling it does not shrink to nothing where marked and unmarked media are all told apart.

    Args:
        positive: Evidence in marked media.
        negative: Evidence in the others. Ties count half.
        level: Of the interval.
    """
    if not len(positive) or not len(negative):
        return None
    below, up_to = (np.searchsorted(np.sort(negative), positive, side) for side in ("left", "right"))
    pairs = len(positive) * len(negative)
    found = float((below + up_to).sum() / (2 * pairs))
    half = (len(positive) + len(negative)) / 2 - 1
    z2 = stats.norm.isf((1 - level) / 2) ** 2

    def off(area: float) -> float:
        variance = area * (1 - area) * (1 + half * (1 - area) / (2 - area) + half * area / (1 + area)) / pairs
        return float((found - area) ** 2 - z2 * variance)

    low = 0.0 if found == 0 else float(optimize.brentq(off, 0.0, found - _NEAR * found))
    high = 1.0 if found == 1 else float(optimize.brentq(off, found + _NEAR * (1 - found), 1.0))
    return {"value": found, "low": low, "high": high}
