"""Small statistics for benchmark tables."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact (Clopper-Pearson) interval of a rate, by bisection on the binomial tails.

    Args:
        successes: Number of successes, 0 to `trials`.
        trials: Number of independent trials, at least 1.
        level: Coverage, such as 0.95.
    """
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else _bisect(lambda p: upper_tail(successes, trials, p) < tail)
    high = 1.0 if successes == trials else _bisect(lambda p: 1 - upper_tail(successes + 1, trials, p) > tail)
    return low, high


def wilson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a rate; its coverage is `level` on average. Arguments as in `clopper_pearson`."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, weight = successes / trials, z * z / trials
    middle = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(rate * (1 - rate) / trials + weight / trials / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def upper_tail(successes: int, trials: int, p: float) -> float:
    """P(Bin(trials, p) >= successes)."""
    if successes <= 0 or p >= 1:
        return 1.0
    if p <= 0 or successes > trials:
        return 0.0
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(p) + (trials - k) * math.log1p(-p)
        for k in range(successes, trials + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))


def percent(rate: float) -> str:
    """A rate as a percentage of fixed width: 98.6, and 100 only for all."""
    return "100" if rate == 1 else f"{min(100 * rate, 99.9):.1f}"


def _bisect(below: Callable[[float], bool]) -> float:
    """Where `below`, true and then false over [0, 1], changes."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2
