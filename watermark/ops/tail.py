"""The upper tail of a binomial, which stays finite and exact where a float underflows."""

from __future__ import annotations

import math

import numpy as np

from watermark.ops._native import core


def log_binomial_tail(count: int, trials: int, rate: float) -> float:
    """Ln P(Bin(trials, rate) >= count) for 0 < count <= trials and 0 < rate < 1."""
    return float(core.log_binomial_tail(count, trials, rate))


def log_binomial_tail_reference(count: int, trials: int, rate: float) -> float:
    """The same in NumPy: the summand at the edge, times the sum of the ratios of all further ones to it."""
    odds, lower = rate / (1 - rate), count <= trials * rate
    edge = count - 1 if lower else count
    if lower:
        k = np.arange(edge, 0, -1.0)
        ratios = k / ((trials + 1 - k) * odds)
    else:
        k = np.arange(edge + 1.0, trials + 1)
        ratios = (trials + 1 - k) * odds / k
    choices = math.lgamma(trials + 1) - math.lgamma(edge + 1) - math.lgamma(trials - edge + 1)
    log_edge = choices + edge * math.log(rate) + (trials - edge) * math.log1p(-rate)
    log_sum = min(0.0, log_edge + math.log1p(float(ratios.cumprod().sum())))
    return log_sum if not lower else math.log(-math.expm1(log_sum)) if log_sum < 0 else -math.inf
