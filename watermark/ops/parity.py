"""Sparse parity checks over the coordinates of a latent: encoding, the syndrome test, and belief propagation.

A check is a row of coordinates whose code bits add up to zero; the last one is its own, which no earlier check has. Bit
i of the code shows in the sign of ``z[i] * (-1)**pad[i]``.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops._native import core, is_cuda, on_cuda
from watermark.ops.normal import pack_bits, unpack_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES = 32
"""Checks of a layer."""
MAX_DEGREE = 16
"""Most coordinates of a check."""
MAGNITUDES = 256
"""Steps of |z|; 64 of them make the root mean square of a latent."""
LEVELS = 64
"""Weights that a check can have in the syndrome test."""
_BLANK = np.float32(30)
_TANH_ABOVE = np.array([7.40000740e-6, 2.79720280e-3, 0.128205128, 1], np.float32)
_TANH_BELOW = np.array([2.07200207e-4, 2.33100233e-2, 0.461538462, 1], np.float32)
_LOG = np.array(
    [-0.0989535074, 0.161262479, -0.172782061, 0.199133479, -0.24968907, 0.33334606, -0.500003751, 0.999999968],
    np.float32,
)


def extend_code(checks: NDArray[np.int32], bits: NDArray[np.uint8]) -> None:
    """Sets the last coordinate of every check, in turn, to the sum of the others.

    Args:
        checks: int32 of shape (r, t).
        bits: uint8 of shape (planes, n), changed in place; each bit of a byte belongs to a code word of its own.
    """
    core.extend_code(checks, bits)


def extend_code_reference(checks: NDArray[np.int32], bits: NDArray[np.uint8]) -> None:
    """The same in NumPy."""
    for check in checks:
        bits[:, check[-1]] = np.bitwise_xor.reduce(bits[:, check[:-1]], axis=1)


def code_signs(
    bits: NDArray[np.uint8], flips: NDArray[np.uint32], pad: NDArray[np.uint32], count: int
) -> NDArray[np.uint32]:
    """Signs of code words, some of them falsified, all encrypted.

    Args:
        bits: uint8 of shape (planes, count or more), 8 code words side by side: row i is bit ``7 - i % 8`` of plane
            ``i // 8``.
        flips: uint32 of shape (rows, m), uniform: each flips the coordinate at this share of 2**32.
        pad: uint32 of shape (ceil(count / 32),), least significant bit first.
        count: Number of coordinates.

    Returns:
        uint32 of shape (rows, ceil(count / 32)), 1 for minus.
    """
    signs = np.empty((len(flips), pad.size), np.uint32)
    core.code_signs(bits, np.ascontiguousarray(flips), pad, count, signs)
    return signs


def code_signs_reference(
    bits: NDArray[np.uint8], flips: NDArray[np.uint32], pad: NDArray[np.uint32], count: int
) -> NDArray[np.uint32]:
    """The same in NumPy."""
    rows = np.arange(len(flips))[:, None]
    words = bits[:, :count][rows[:, 0] // 8] >> (7 - rows % 8).astype(np.uint8) & np.uint8(1)
    flipped = (flips.astype(np.uint64) * np.uint64(count)) >> np.uint64(32)
    np.bitwise_xor.at(words, (rows, flipped.astype(np.int64)), np.uint8(1))
    return pack_bits(words) ^ pad


def layers(checks: NDArray[np.int32], coordinates: int) -> NDArray[np.int32]:
    """Checks in layers of 32 that share no coordinate; those that do share one keep their order.

    So a pass over the layers, 32 checks at a time, gives what a pass over the checks gives.

    Args:
        checks: int32 of shape (r, t).
        coordinates: Number of coordinates n; a check may name n itself, which stands for no coordinate.

    Returns:
        int32 of shape (count, t, 32); n where there is no check.
    """
    places = np.empty(len(checks), np.int32)
    count = core.schedule(checks, coordinates, places)
    members = np.full((count, LANES, checks.shape[1]), coordinates, np.int32)
    members.reshape(-1, checks.shape[1])[places] = checks
    return np.ascontiguousarray(members.transpose(0, 2, 1))


def syndrome(z: Any, pad: Any, checks: Any, weights: Any, levels: Any) -> tuple[Any, Any]:
    """Counts the checks by level and sign.

    The sign of a check is the product of its coordinates' signs, its level follows from their magnitudes.

    Args:
        z: float32 of shape (rows, n), C-contiguous; NumPy, or a tensor on the CPU or on CUDA. The tables lie where z
            does; `to_device` copies them.
        pad: uint32 of shape (ceil(n / 32),), least significant bit first.
        checks: int32 of shape (r, t).
        weights: What a coordinate of magnitude step m brings to the sum of a check: uint16 of shape (256,).
        levels: Level of a sum: uint8, below 64.

    Returns:
        Steps per unit of z, float32 of shape (rows,): 64 over the root mean square, 0 for zeros, NaN where a value is
        not finite. And the counts, int32 of shape (rows, 128): level l with sign plus, 64 + l with sign minus. They lie
        where z does.
    """
    if is_cuda(z):
        scales, counts = _empty(z, (len(z),), "float32"), _empty(z, (len(z), 2 * LEVELS), "int32")
        on_cuda("batch_syndrome", z, pad, checks, weights, levels, _empty(z, z.shape, "int16"), scales, counts)
    else:
        scales, counts = np.empty(len(z), np.float32), np.empty((len(z), 2 * LEVELS), np.int32)
        core.syndrome(z, pad, checks, weights, levels, scales, counts)
    return scales, counts


def syndrome_reference(
    z: NDArray[np.float32],
    pad: NDArray[np.uint32],
    checks: NDArray[np.int32],
    weights: NDArray[np.uint16],
    levels: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The same in NumPy."""
    scales, counts = np.empty(len(z), np.float32), np.empty((len(z), 2 * LEVELS), np.int32)
    for row, values in enumerate(z):
        squares = np.zeros(-(-values.size // 256) * 256)
        squares[: values.size] = values.astype(np.float64) ** 2
        parts = functools.reduce(np.add, squares.reshape(-1, 256), np.zeros(256))
        while parts.size > 1:
            parts = parts[: parts.size // 2] + parts[parts.size // 2 :]
        total = float(parts[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 64 / np.sqrt(total / values.size) if total else 0.0
        scales[row] = np.nan if total and not scale > 0 else np.float32(min(scale, 1e38))
        weight = weights[_steps(values, scales[row])].astype(np.int64)
        minus = np.signbit(values) ^ unpack_bits(pad, values.size).astype(bool)
        level = levels[weight[checks].sum(axis=1)] + LEVELS * np.bitwise_xor.reduce(minus[checks], axis=1)
        counts[row] = np.bincount(level, minlength=2 * LEVELS)
    return scales, counts


def rademacher_tail(counts: Any, values: Any) -> tuple[Any, Any]:
    """Tail of the sum of weighted signs, if they are fair coins, given the weights.

    The sum has ``counts[:, l]`` summands ``+values[l]`` and ``counts[:, levels + l]`` summands ``-values[l]``. Its tail
    is the saddle-point approximation of Lugannani and Rice on the lattice of the sums, times 1.003, which is more than
    its error; a Chernoff bound where fewer than 50 summands matter.

    Args:
        counts: int32 of shape (rows, 2 * levels); NumPy or a CUDA tensor.
        values: int32 of shape (levels,), not negative.

    Returns:
        The sums in standard deviations, and ln P(sum >= this sum): float64 of shape (rows,).
    """
    if is_cuda(counts):
        scores, log_p = (_empty(counts, (len(counts),), "float64") for _ in range(2))
        on_cuda("batch_rademacher_tail", counts, values, scores, log_p)
    else:
        scores, log_p = np.empty(len(counts)), np.empty(len(counts))
        core.rademacher_tail(counts, values, scores, log_p)
    return scores, log_p


def rademacher_tail_reference(
    counts: NDArray[np.int32], values: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same in NumPy."""
    found = [_tail(row[: values.size], row[values.size :], values.astype(np.float64)) for row in counts]
    scores, log_p = np.array(found, np.float64).reshape(-1, 2).T
    return scores, log_p


def beliefs(
    z: Any, pad: Any, scales: Any, odds: Any, outer: Any, inner: Any, passes: int, patience: int
) -> tuple[Any, Any]:
    """Layered belief propagation (sum-product) on two sets of checks.

    Args:
        z: float32 of shape (rows, n), C-contiguous; NumPy, or a tensor on the CPU or on CUDA, and so are the tables.
        pad: uint32 of shape (ceil(n / 32),), least significant bit first.
        scales: As `syndrome` returns them.
        odds: ln P(0) / P(1) of a coordinate of magnitude step m and sign plus: float32 of shape (256,).
        outer: Layers of the checks that come first, as `layers` returns them.
        inner: Layers of the others.
        passes: Passes over all checks, at most.
        patience: Passes without fewer unsatisfied checks after which to give up.

    Returns:
        ln P(0) / P(1) of every coordinate, float32 of shape (rows, n); and the number of checks that the last pass
        found unsatisfied, int64 of shape (rows,).
    """
    rows, n = z.shape
    if is_cuda(z):
        totals, unsatisfied = _empty(z, (rows, n + 1), "float32"), _empty(z, (rows,), "int64")
        messages = _empty(z, (rows, outer.numel() + inner.numel()), "float32")
        on_cuda("batch_beliefs", z, pad, scales, odds, outer, inner, passes, patience, messages, totals, unsatisfied)
    else:
        totals, unsatisfied = np.empty((rows, n + 1), np.float32), np.zeros(rows, np.int64)
        core.beliefs(z, pad, scales, odds, outer, inner, passes, patience, totals, unsatisfied)
    return totals[:, :n], unsatisfied


def beliefs_reference(
    z: NDArray[np.float32],
    pad: NDArray[np.uint32],
    scales: NDArray[np.float32],
    odds: NDArray[np.float32],
    outer: NDArray[np.int32],
    inner: NDArray[np.int32],
    passes: int,
    patience: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The same in NumPy."""
    rows, n = z.shape
    totals, unsatisfied = np.empty((rows, n + 1), np.float32), np.zeros(rows, np.int64)
    for row in range(rows):
        prior = odds[_steps(z[row], scales[row])]
        minus = np.signbit(z[row]) ^ unpack_bits(pad, n).astype(bool)
        total = totals[row]
        total[:n], total[n] = np.where(minus, -prior, prior), _BLANK
        messages = [np.zeros(members.shape, np.float32) for members in (outer, inner)]
        best, last = math.inf, 0
        for step in range(passes):
            if step - last > patience:
                break
            wrong = 0
            for members, kept in zip((outer, inner), messages, strict=True):
                for who, message in zip(members, kept, strict=True):
                    wrong += int(np.bitwise_xor.reduce(np.signbit(total[who]), axis=0).sum())
                    others = total[who] - message
                    bias = _tanh_half(others)  # numerators and denominators
                    before, product = np.empty_like(bias), np.ones((2, LANES), np.float32)
                    for e in range(len(who)):
                        before[:, e] = product
                        product = product * bias[:, e]
                    product = np.ones((2, LANES), np.float32)
                    for e in range(len(who))[::-1]:
                        message[e] = _twice_atanh(before[:, e] * product)
                        product = product * bias[:, e]
                    total[who] = others + message
                    total[n] = _BLANK
            unsatisfied[row] = wrong
            if wrong < best:
                best, last = wrong, step
            if not wrong:
                break
    return totals[:, :n], unsatisfied


def _empty(like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    import torch

    return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)


def _steps(z: NDArray[np.float32], scale: np.float32) -> NDArray[np.int64]:
    """Magnitude steps of a row."""
    with np.errstate(all="ignore"):
        size = np.abs(z) * scale
        return np.where(size < MAGNITUDES - 1, size, np.float32(MAGNITUDES - 1)).astype(np.int64)


def _tanh_half(x: NDArray[np.float32]) -> NDArray[np.float32]:
    y = np.clip(x * np.float32(0.5), np.float32(-4.5), np.float32(4.5))
    q = y * y
    return np.stack([y * _polynomial(_TANH_ABOVE, q), _polynomial(_TANH_BELOW, q)])


def _twice_atanh(m: NDArray[np.float32]) -> NDArray[np.float32]:
    bits = ((m[1] + m[0]) / (m[1] - m[0])).view(np.int32)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    x = (bits - (exponent << np.int32(23))).view(np.float32) - np.float32(1)
    return np.asarray(_polynomial(_LOG, x) * x + exponent.astype(np.float32) * np.float32(0.693147181))


def _polynomial(coefficients: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Horner's rule, highest power first."""
    value = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        value = value * x + c
    return value


def _half_step(count: NDArray[np.float64], a: NDArray[np.float64], variance: float) -> float:
    """Half the step of the lattice: the greatest common divisor of the weights, but for light ones of small spread."""
    step = 0
    for level in np.flatnonzero((count > 0) & (a > 0))[::-1].tolist():
        divisor = math.gcd(step, int(a[level]))
        if step and divisor < step and variance < step**2:
            break
        step = divisor
        variance -= float(count[level] * a[level] ** 2)
    return float(step)


def _tail(plus: NDArray[np.int32], minus: NDArray[np.int32], a: NDArray[np.float64]) -> tuple[float, float]:
    count = (plus + minus).astype(np.float64)
    total, variance = float(a @ (plus - minus)), float(count @ a**2)
    if total == -float(count @ a):
        return (total / math.sqrt(variance) if variance else 0.0), 0.0
    score, few = total / math.sqrt(variance), variance**2 < 50 * float(count @ a**4)
    if few and total <= 0:
        return score, 0.0
    step = _half_step(count, a, variance)
    x = total if few else abs(total - step)
    u = x / variance
    for _ in range(200):
        e = np.exp(-2 * u * a)
        missing = x - float(count @ (a * (1 - e) / (1 + e)))
        second = float(count @ (a * a * 4 * e / (1 + e) ** 2))
        if not second > 0 or missing <= 1e-9 * x:
            break
        u += missing / second
    exponent = u * x - float(count @ (np.logaddexp(u * a, -u * a) - math.log(2)))
    if few:
        return score, -exponent
    w, v = math.sqrt(max(0.0, 2 * exponent)), u * math.sqrt(second)
    root = math.sqrt(2 * math.pi)
    mills = math.erfc(w / math.sqrt(2)) / 2 * math.exp(w * w / 2) * root if w < 25 else (1 - 1 / w**2) / w
    log_p = math.log(mills + (1 / v - 1 / w if w > 1e-4 else 0.0)) - w * w / 2 - math.log(root)
    if total < step:
        return score, math.log1p(-0.95 * math.exp(log_p)) if w < 25 else 0.0
    return score, min(0.0, log_p + math.log(1.003))
