from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from watermark.ops._native import core
from watermark.ops.chacha import chacha20_reference
from watermark.ops.normal import (
    half_normal,
    half_normal_reference,
    pack_bits,
    signed_normal,
    signed_normal_reference,
    standard_normal,
    unpack_bits,
)
from watermark.prf import Prf

KEY = np.arange(8, dtype=np.uint32)


def exact(word: int) -> float:
    """x with P(|Z| > x) = (word + 1/2) / 2^32."""
    return -NormalDist().inv_cdf((int(word) + 0.5) / 2.0**33)


def test_the_map_is_the_inverse_of_the_tail():
    rng = np.random.default_rng(1)
    spread = np.unique((2.0 ** rng.uniform(0, 32, 20_000)).astype(np.uint64))
    words = spread[spread < 2**32].astype(np.uint32)
    error = np.abs(half_normal(words).astype(np.float64) - [exact(w) for w in words])
    assert error.max() < 3e-6


def test_the_map_never_rises_by_more_than_rounding():
    # Along the whole range, and densely over every joint between two pieces.
    edges = np.arange(0x3F000000 >> 19, (0x4F800000 >> 19) + 1, dtype=np.uint32) << np.uint32(19)
    joints = np.floor(edges.view(np.float32).astype(np.float64)).astype(np.int64)[:, None] + np.arange(-2, 3)
    words = np.unique(
        np.clip(np.concatenate([joints.ravel(), np.linspace(0, 2**32 - 1, 200_001).astype(np.int64)]), 0, 2**32 - 1)
    )
    x = half_normal(words.astype(np.uint32)).astype(np.float64)
    assert np.diff(x).max() < 5e-6


def test_the_ends():
    low, high = half_normal(np.array([0, 2**32 - 1], np.uint32))
    assert low == pytest.approx(exact(0), abs=3e-6)
    assert 6.3 < low < 6.5
    assert 0 <= high < 1e-6
    assert not np.signbit(high)


def test_moments():
    """E x^k of a half-normal for k = 1..4 over 2^20 words: spread evenly, as quadrature, and drawn, at five sigma."""
    even = (np.arange(2**20, dtype=np.uint64) * 4096 + 2048).astype(np.uint32)
    drawn = Prf(bytes(32)).words(2**20)
    moments = [math.sqrt(2 / math.pi), 1.0, 2 * math.sqrt(2 / math.pi), 3.0, 0, 15.0, 0, 105.0]
    for words, scale in ((even, 0.05), (drawn, 5.0)):
        x = half_normal(words).astype(np.float64)
        for k in range(1, 5):
            deviation = math.sqrt((moments[2 * k - 1] - moments[k - 1] ** 2) / x.size)
            assert abs((x**k).mean() - moments[k - 1]) < scale * deviation


def test_kolmogorov_smirnov():
    x = np.sort(half_normal(Prf(bytes(32)).words(200_000))).astype(np.float64)
    normal = NormalDist()
    cdf = np.array([2 * normal.cdf(v) - 1 for v in x[::20]])
    assert np.abs(cdf - np.arange(0, x.size, 20) / x.size).max() < 1.95 / math.sqrt(x.size) + 1 / x.size


def test_reference_and_table():
    words = Prf(bytes(32)).words(10_000)
    assert np.array_equal(half_normal(words), half_normal_reference(words))
    table = core.half_normal_table()
    assert (table.shape, table.dtype) == ((529, 4), np.float32)
    table[:] = 0  # a copy: the kernels keep theirs
    assert np.array_equal(half_normal(words), half_normal_reference(words))


def test_signs_and_sizes_are_separate():
    out, mirrored = np.empty((2, 500), np.float32), np.empty((2, 500), np.float32)
    signs = pack_bits(np.random.default_rng(1).integers(0, 2, (2, 500), np.uint8))
    signed_normal(KEY, 3, signs, out)
    signed_normal(KEY, 3, ~signs, mirrored)
    assert np.array_equal(out, -mirrored)
    assert np.array_equal(np.signbit(out), unpack_bits(signs, 500))


def test_rows_are_numbered_from_the_first():
    out, shifted = np.empty((5, 70), np.float32), np.empty((3, 70), np.float32)
    signs = np.zeros((1, 3), np.uint32)
    signed_normal(KEY, 10, signs, out)
    signed_normal(KEY, 12, signs, shifted)
    assert np.array_equal(out[2:], shifted)
    assert len({row.tobytes() for row in out}) == 5


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100])
def test_bits_round_trip(count):
    bits = np.random.default_rng(count).integers(0, 2, (2, 3, count), np.uint8)
    words = pack_bits(bits)
    assert (words.shape, words.dtype) == ((2, 3, -(-count // 32)), np.uint32)
    assert np.array_equal(unpack_bits(words, count), bits)
    if count >= 32:
        assert words[0, 0, 0] == sum(int(b) << i for i, b in enumerate(bits[0, 0, :32]))


@pytest.mark.parametrize(("rows", "count"), [(0, 5), (1, 1), (3, 33), (5, 512)])
def test_sizes_and_signs_from_one_key(rows, count):
    words = -(-count // 32)
    signs = chacha20_reference(KEY, np.array([1, 0, 0], np.uint32), rows * words).reshape(rows, words)
    expected, out, more = (np.empty((n, count), np.float32) for n in (rows, rows, rows + 2))
    signed_normal_reference(KEY, 0, signs, expected)
    standard_normal(KEY, out)
    standard_normal(KEY, more)
    assert np.array_equal(out, expected)
    assert np.array_equal(more[:rows], expected)
