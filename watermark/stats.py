"""Tail probabilities in the log domain, so that a verdict stays finite and exact where a float underflows.

Everything here returns natural logarithms of probabilities (at most 0).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from watermark.ops import tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

LN10 = math.log(10)
_MOST_SUMMANDS = 1 << 16


def log_sidak(log_p: float, count: int) -> float:
    """The smallest of `count` independent p-values: ln(1 - (1 - p)^count)."""
    if count == 1 or log_p == -math.inf:
        return log_p
    p = math.exp(log_p)
    if p < 1e-9:  # 1 - (1-p)^n = n p (1 - (n-1) p / 2 + ...), never above n p
        return min(0.0, log_p + math.log(count))
    return min(0.0, math.log(-math.expm1(count * math.log1p(-p)))) if p < 1 else 0.0


def log_fisher(log_p: Sequence[float]) -> float:
    """Fisher's combination of k independent p-values: ln Q(k, -sum ln p), Q the upper incomplete gamma function."""
    return log_gamma_tail(-sum(log_p), len(log_p))


def log_gamma_tail(x: float, count: int) -> float:
    """The sum of `count` standard exponentials: ln P(sum >= x) = ln Q(count, x)."""
    if x <= 0 or count == 0:
        return 0.0
    if x == math.inf:
        return -math.inf
    return tail.log_gamma_tail(x, count)


def log_of_draws(reached: Callable[[range], NDArray[np.bool_]], most: int, enough: int = 10) -> tuple[float, int]:
    """The test by random draws that stops early (Besag and Clifford, "Sequential Monte Carlo p-values", 1991).

    Draws go on until `enough` of them reach what was observed: if the L-th draw is the last of these, p = enough / L.
    If only g do among all, p = (g + 1) / (most + 1). Exact, if the observed value is a draw of the same law; ties count
    as reached.

    Args:
        reached: Whether draws of these numbers reach what was observed.
        most: Draws, at most.
        enough: Draws that reach it and end the test.

    Returns:
        ln p, and the number of draws that it rests on.
    """
    found = first = 0
    while first < most:
        numbers = range(first, min(most, max(16, 2 * first)))
        hits = np.flatnonzero(reached(numbers))
        if found + len(hits) >= enough:
            last = first + int(hits[enough - found - 1]) + 1
            return math.log(enough / last), last
        found, first = found + len(hits), numbers.stop
    return math.log((found + 1) / (most + 1)), most


def log_factorials(count: int) -> NDArray[np.float64]:
    """Logarithms ln 0!, ln 1!, ..., ln (count - 1)!: float64 of shape (count,)."""
    size = 1 << max(8, (count - 1).bit_length())
    return _log_factorials(size)[:count]


@lru_cache(maxsize=32)
def _log_factorials(size: int) -> NDArray[np.float64]:
    table = np.array([math.lgamma(k + 1) for k in range(size)])
    table.setflags(write=False)
    return table


def log_rademacher_energy(energy: float, count: int) -> float:
    """Bound on P(sum t_j^2 >= energy) for `count` independent unit-variance Rademacher sums t_j.

    Chernoff with E exp(l t^2) <= (1 - 2 l)^(-1/2), optimised over l: (E/N)^(N/2) exp(-(E-N)/2) for E > N.
    """
    if energy <= count:
        return 0.0
    return min(0.0, 0.5 * (count * math.log(energy / count) - (energy - count)))


def log_rademacher_sum(z: float) -> float:
    """Bound on P(t >= z), z > 0, for a unit-variance Rademacher sum t.

    The lesser of exp(-z^2 / 2) (Hoeffding) and c phi(z) / z, above c P(N(0, 1) >= z) with c = 1 / (4 P(N >= sqrt 2)) =
    3.178 (Bentkus and Dzindzalieta, "A tight Gaussian bound for weighted sums of Rademacher random variables", 2015).
    """
    return -z * z / 2 - max(0.0, math.log(z * math.sqrt(2 * math.pi) / 3.179))


def log_rademacher_message(half_z_squared: float, log_messages: float) -> float:
    """Bound on P(any of M messages reaches z), each a unit-variance Rademacher sum: M exp(-z^2 / 2).

    Args:
        half_z_squared: z^2 / 2 of the best message (z > 0).
        log_messages: ln M.
    """
    return min(0.0, log_messages - half_z_squared)


def log_binomial_tail(count: int, trials: int, rate: float) -> float:
    """Upper binomial tail: ln P(Bin(trials, rate) >= count), count from 0 to trials."""
    if count <= 0:
        return 0.0
    if rate <= 0:
        return -math.inf
    if trials > _MOST_SUMMANDS:
        return _log_incomplete_beta(rate, 1 - rate, count, trials - count + 1)
    return tail.log_binomial_tail(count, trials, rate)


def log_two_binomials_tail(count: int, trials: tuple[int, int], rates: tuple[float, float]) -> float:
    """Upper tail of the sum of two independent binomials: ln P(Bin(n_0, r_0) + Bin(n_1, r_1) >= count), 0 < r < 1."""
    if 0 in trials:
        return log_binomial_tail(count, sum(trials), rates[1 if trials[0] == 0 else 0])
    if not 0 < count <= sum(trials):
        return 0.0 if count <= 0 else -math.inf
    first, second = (_log_binomial(n, rate) for n, rate in zip(trials, rates, strict=True))
    reached = np.logaddexp.accumulate(first[::-1])[::-1]
    missing = count - np.arange(trials[1] + 1)  # what the first must reach
    possible = missing <= trials[0]
    return min(0.0, float(np.logaddexp.reduce(second[possible] + reached[np.maximum(missing[possible], 0)])))


def _log_binomial(trials: int, rate: float) -> NDArray[np.float64]:
    """Logarithms of P(Bin(trials, rate) = k) for k = 0..trials, 0 < rate < 1."""
    k, table = np.arange(trials + 1), log_factorials(trials + 1)
    return np.asarray(table[-1] - table - table[::-1] + k * math.log(rate) + (trials - k) * math.log1p(-rate))


def log_angular_tail(cosine: float, dimension: int) -> float:
    """Upper tail of an angle: ln P(cos(g, x) >= cosine) for normal g and any x != 0 in `dimension` >= 2 dimensions.

    P = I_{1 - c^2}((d - 1) / 2, 1 / 2) / 2 for c >= 0, I the regularised incomplete beta. Exact for every x: no
    law and no variance of x is assumed.
    """
    outside = max(0.0, (1 - cosine) * (1 + cosine))
    if outside == 0:
        return -math.inf if cosine > 0 else 0.0
    log_tail = _log_incomplete_beta(outside, cosine * cosine, (dimension - 1) / 2, 0.5) - math.log(2)
    return log_tail if cosine >= 0 else math.log1p(-math.exp(log_tail))


def _log_incomplete_beta(x: float, y: float, a: float, b: float) -> float:
    """Logarithm of I_x(a, b) with y = 1 - x, by the faster-converging continued fraction (Lentz's method)."""
    if y == 0:
        return 0.0
    if x > (a + 1) / (a + b + 2):
        other = _log_incomplete_beta(y, x, b, a)
        return math.log(-math.expm1(other)) if other < 0 else -math.inf
    tiny = 1e-300
    front, denominator = 1.0, 1 - (a + b) * x / (a + 1)
    denominator = 1 / (denominator or tiny)
    fraction = denominator
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            denominator = 1 / (1 + numerator * denominator or tiny)
            front = 1 + numerator / front or tiny
            fraction *= front * denominator
        if abs(front * denominator - 1) < 1e-15:
            break
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return min(0.0, a * math.log(x) + b * math.log(y) - log_beta - math.log(a) + math.log(fraction))


@lru_cache(maxsize=32)
def log_majority_tail(count: int, symbols: int) -> NDArray[np.float64]:
    """Exact law of S = sum over symbols of max(B_j, n_j - B_j), with fair coins B_j ~ Bin(n_j, 1/2).

    Symbol j is repeated n_j = ceil((count - j) / symbols) times (`count` elements dealt in turn). S measures how far
    the repetitions agree with themselves, whatever the message (Gaussian Shading with an unknown message).

    Returns:
        ln P(S >= s) for s = 0..count: float64 of shape (count + 1,). Exact to rounding where the tail is above 1e-280
        (products and sums of positive numbers only); a Chernoff bound, hence never too small, further out.
    """
    groups = [(symbols - count % symbols, count // symbols), (count % symbols, count // symbols + 1)]
    laws = [(repeat, _log_majority_law(size)) for repeat, size in groups if repeat]
    first, density = 0, np.ones(1)
    for repeat, law in laws:
        start, power = _convolution_power(np.exp(law), repeat)
        first, density = _trim(first + start, np.convolve(density, power))
    offset = sum(repeat * -(-size // 2) for repeat, size in groups)  # every symbol split evenly
    steps = np.arange(count + 1 - offset)
    tail = np.zeros(steps.size)
    tail[: first + density.size] = np.cumsum(density[::-1])[::-1][np.maximum(steps[: first + density.size] - first, 0)]

    slopes = np.concatenate([np.linspace(0.01, 2, 200), np.geomspace(2.05, 60, 100)])
    cumulants = np.array([sum(repeat * _log_moment(law, slope) for repeat, law in laws) for slope in slopes])
    # The bounds K(u) - u s are lines in s; as K is convex, each is lowest between its crossings with its neighbours.
    line = np.searchsorted(np.diff(cumulants) / np.diff(slopes), steps)
    with np.errstate(divide="ignore"):
        log_tail = np.where(tail > 1e-280, np.log(tail), cumulants[line] - slopes[line] * steps)
    result = np.zeros(count + 1)
    # A tail never rises; its bound may, where it takes over.
    result[offset:] = np.minimum.accumulate(np.minimum(log_tail, 0.0))
    result.setflags(write=False)
    return result


def log_repeated_tail(law: NDArray[np.float64], repeats: int, total: int) -> float:
    """A sum of independent draws from one law: ln P(sum >= total).

    Exact to rounding where that is above 1e-280 (products and sums of positive numbers only); a Chernoff bound below.

    Args:
        law: Probabilities of 0, 1, 2, ...
        repeats: Number of draws, at least 1.
        total: What the sum shall reach.
    """
    start, density = _convolution_power(law, repeats)
    tail = float(density[max(0, total - start) :].sum())
    if tail > 1e-280:
        return min(0.0, math.log(tail))
    with np.errstate(divide="ignore"):
        log_law = np.log(law)
    slopes: list[float] = np.geomspace(1e-3, 60, 200).tolist()
    return min(0.0, *(repeats * _log_moment(log_law, u) - u * total for u in slopes))


def _log_majority_law(size: int) -> NDArray[np.float64]:
    """Logarithm of P(max(B, n - B) = ceil(n/2) + i) for B ~ Bin(n, 1/2) and i = 0, 1, ..."""
    factorial = np.array([math.lgamma(k + 1) for k in range(size + 1)])
    k = np.arange(-(-size // 2), size + 1)
    twice = np.where(2 * k == size, 0.0, math.log(2))
    return np.asarray(factorial[size] - factorial[k] - factorial[size - k] - size * math.log(2) + twice)


def _log_moment(log_law: NDArray[np.float64], slope: float) -> float:
    """Logarithm of E exp(slope * i)."""
    exponents = log_law + slope * np.arange(log_law.size)
    top = exponents.max()
    return float(top + np.log(np.exp(exponents - top).sum()))


def _convolution_power(law: NDArray[np.float64], power: int) -> tuple[int, NDArray[np.float64]]:
    """The law of a sum of `power` draws: where it starts, and its density from there."""
    first, (start, law) = (0, np.ones(1)), _trim(0, law)
    while power:
        if power & 1:
            first = _trim(first[0] + start, np.convolve(first[1], law))
        power >>= 1
        if power:
            start, law = _trim(2 * start, np.convolve(law, law))
    return first


def _trim(start: int, density: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """Drops the ends that are too improbable to matter above 1e-280; that keeps large latents affordable."""
    kept = np.flatnonzero(density > 1e-300)
    return start + int(kept[0]), density[kept[0] : kept[-1] + 1]
