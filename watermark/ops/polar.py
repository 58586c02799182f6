"""Polar codes: the transform, soft values of symbols, and list decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from watermark.ops._native import core

if TYPE_CHECKING:
    from numpy.typing import NDArray


def transform(inputs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The polar transform over GF(2), its own inverse: 0/1 of shape (..., 2**m) in natural order."""
    x = inputs.copy()
    half = 1
    while half < x.shape[-1]:
        pairs = x.reshape(*x.shape[:-1], -1, 2, half)
        pairs[..., 0, :] ^= pairs[..., 1, :]
        half *= 2
    return x


def word_ratios(likelihood: NDArray[np.float64], symbols: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Log-likelihood ratios of the symbols of sites, each of which holds one of some words.

    Args:
        likelihood: Logarithms, of each word at each site: float64 of shape (sites, words).
        symbols: 0 or 1, of each word: uint8 of shape (words, width).

    Returns:
        float32 of shape (sites, width), positive where a symbol looks like 0.
    """
    out = np.empty((len(likelihood), symbols.shape[1]), np.float32)
    core.word_ratios(likelihood, symbols, out)
    return out


def word_ratios_reference(likelihood: NDArray[np.float64], symbols: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The same in NumPy."""
    odds = np.exp(likelihood - likelihood.max(axis=1, keepdims=True)) + 1e-30
    return np.asarray(np.log(odds @ (1 - symbols)) - np.log(odds @ symbols), np.float32)


def decode(
    soft: NDArray[np.float32], information: NDArray[np.int32], paths: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Successive-cancellation list decoding (Tal and Vardy, 2015) with the min-sum rule.

    Args:
        soft: float32 of shape (2**m,), any scale; positive where the symbol looks like 0.
        information: Ascending positions of the free inputs.
        paths: Size of the list, 1 to 64.

    Returns:
        The information bits of the surviving paths, most likely first, uint8 of shape (rows, ceil(k / 8)) packed most
        significant first; and their code symbols, uint8 of shape (rows, 2**m).
    """
    bits, words = np.empty((paths, information.size), np.uint8), np.empty((paths, soft.size), np.uint8)
    rows = core.polar_decode(np.ascontiguousarray(soft, np.float32), information, bits, words)
    return np.packbits(bits[:rows], axis=1), words[:rows]


def decode_reference(
    soft: NDArray[np.float32], information: NDArray[np.int32], paths: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The same in NumPy: the textbook recursion over a code's halves, all paths at once."""
    free = np.zeros(soft.size, bool)
    free[information] = True
    metric = np.zeros(1, np.float32)
    decided = np.zeros((1, 0), np.uint8)

    def descend(values: NDArray[np.float32], start: int) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """Decodes one subtree; returns its partial sums and, per surviving path, the row it had on entry."""
        nonlocal metric, decided
        if values.shape[1] == 1:
            leaf = values[:, 0]
            against = np.stack([np.maximum(-leaf, 0), np.maximum(leaf, 0)], axis=1).astype(np.float32)
            if not free[start]:
                metric = metric + against[:, 0]
                return np.zeros((len(leaf), 1), np.uint8), np.arange(len(leaf))
            candidates = (metric[:, None] + against).ravel()
            kept = np.arange(candidates.size)
            if kept.size > paths:
                kept = np.argsort(candidates, kind="stable")[:paths]
            metric = candidates[kept]
            bit = (kept & 1).astype(np.uint8)[:, None]
            decided = np.concatenate([decided[kept // 2], bit], axis=1)
            return bit, kept // 2
        half = values.shape[1] // 2
        a, b = values[:, :half], values[:, half:]
        low = np.where((a < 0) != (b < 0), -1, 1).astype(np.float32) * np.minimum(np.abs(a), np.abs(b))
        left, origin = descend(low, start)
        a, b = a[origin], b[origin]
        right, came_from = descend(np.where(left == 1, b - a, b + a), start + half)
        return np.concatenate([left[came_from] ^ right, right], axis=1), origin[came_from]

    descend(np.asarray(soft, np.float32)[None], 0)
    bits = decided[np.argsort(metric, kind="stable")]
    inputs = np.zeros((len(bits), soft.size), np.uint8)
    inputs[:, information] = bits
    return np.packbits(bits, axis=1), transform(inputs)
