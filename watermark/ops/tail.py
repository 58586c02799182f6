"""The upper tails of a binomial and of a sum of exponentials, which stay finite and exact where a float underflows."""

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


def log_gamma_tail(x: float, count: int) -> float:
    """The sum of `count` > 0 standard exponentials: ln P(sum >= x) for finite x > 0."""
    return float(core.log_gamma_tail(x, count))


def log_gamma_tail_reference(x: float, count: int) -> float:
    """The same in NumPy: the logarithms of all summands of P(Poisson(x) < count)."""
    terms = np.array([k * math.log(x) - math.lgamma(k + 1) for k in range(count)])
    return min(0.0, float(np.logaddexp.reduce(terms)) - x)
