"""Shares of trials with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.errors import MissingExtraError

try:
    from scipy import stats
except ImportError:
    raise MissingExtraError("scipy", "evaluation") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.999
"""Of the limits that false positives must stay under."""


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


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64], draws: int = 300) -> dict[str, float] | None:
    """Area under the ROC curve, with a 95 % interval by resampling items: value, low and high. None without media.

    Args:
        positive: Evidence in marked media.
        negative: Evidence in the others. Ties count half.
        draws: Number of resamples.
    """
    if not len(positive) or not len(negative):
        return None
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    rng = np.random.default_rng(0)
    ours = rng.multinomial(len(positive), np.full(len(positive), 1 / len(positive)), draws) / len(positive)
    theirs = rng.multinomial(len(negative), np.full(len(negative), 1 / len(negative)), draws) / len(negative)
    areas = np.einsum("dp,pn,dn->d", ours, wins, theirs, optimize=True)
    low, high = np.quantile(areas, [0.025, 0.975])
    return {"value": float(wins.mean()), "low": float(low), "high": float(high)}
