from __future__ import annotations

import math

import numpy as np
import pytest

from watermark.ops import patch
from watermark.ops._native import core

ISAS = core.instruction_sets()
KEY = np.arange(1, 9, dtype=np.uint32) * 0x01234567


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("count", [0, 1, 17, 5000])
def test_projections_equal_the_reference(count):
    assert np.array_equal(patch.projections(KEY, count), patch.projections_reference(KEY, count))


@pytest.mark.parametrize(("patches", "bits", "dimension"), [(1, 1, 1), (3, 7, 33), (130, 7, 256), (5, 8, 4096)])
def test_simhash(isa, patches, bits, dimension):
    rng = np.random.default_rng(1)
    weights = patch.projections(KEY, patches * bits * dimension).reshape(patches, bits, dimension)
    v = rng.standard_normal((3, dimension))
    v = np.rint(patch.VECTOR_SCALE * v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.int16)
    codes = np.empty((3, patches), np.uint8)
    core.simhash(weights, v, codes, isa=isa)
    assert np.array_equal(codes, patch.simhash_reference(weights, v))


@pytest.mark.parametrize(("rows", "patches", "width"), [(0, 3, 16), (1, 1, 4), (2, 9, 16), (3, 17, 20), (1, 8, 64)])
@pytest.mark.parametrize("codes", [1, 128, 256])
def test_patch_noise(isa, set_threads, rows, patches, width, codes):
    set_threads(2)
    code = np.random.default_rng(2).integers(0, codes, (rows, patches), np.uint8)
    out, expected = np.full((2, rows, patches, width), 9, np.float32)
    core.patch_noise(KEY, code, codes, out, isa=isa)
    patch.patch_noise_reference(KEY, code, codes, expected)
    assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("rows", "patches", "width"), [(0, 3, 16), (1, 1, 4), (2, 33, 16), (35, 2, 20), (3, 70, 8)])
@pytest.mark.parametrize("codes", [32, 128])
def test_patch_search(isa, set_threads, rows, patches, width, codes):
    set_threads(2)
    x = np.random.default_rng(3).standard_normal((rows, patches, width)).astype(np.float32)
    x[..., 0, :] *= 1e37
    if rows > 1:
        x[1, -1] = 0
    best = np.empty((rows, patches), np.float32)
    matches = np.empty((rows, patches, codes // 32), np.uint32)
    core.patch_search(KEY, x, 0.3, best, matches, isa=isa)
    expected = patch.patch_search_reference(KEY, x, codes, 0.3)
    assert np.array_equal(best.view(np.uint32), expected[0].view(np.uint32))
    assert np.array_equal(matches, expected[1])
    assert np.isfinite(best).all()
    if rows > 1:
        assert best[1, -1] == 0


def test_the_search_finds_the_noise():
    code = np.random.default_rng(4).integers(0, 128, (2, 40), np.uint8)
    x = np.empty((2, 40, 16), np.float32)
    patch.patch_noise(KEY, code, 128, x)
    best, matches = patch.patch_search(KEY, 5 * x, 128, 0.99)
    assert np.abs(best - 1).max() < 1e-6
    bits = patch.unpack_bits(matches, 128)
    assert np.array_equal(bits.argmax(axis=2), code)
    assert (bits.sum(axis=2) == 1).all()


@pytest.mark.parametrize(
    ("rows", "patches", "masks", "words"), [(0, 3, 2, 4), (1, 1, 1, 1), (3, 70, 33, 4), (2, 9, 5, 8)]
)
def test_patch_counts(isa, rows, patches, masks, words):
    rng = np.random.default_rng(6)
    matches = rng.integers(0, 2**32, (rows, patches, words), np.uint32)
    code = rng.integers(0, 32 * words, (rows, patches), np.uint8)
    turns = rng.integers(0, 32 * words, (masks, patches), np.uint8)
    counts = np.empty((rows, masks), np.int32)
    core.patch_counts(matches, code, turns, counts, isa=isa)
    assert np.array_equal(counts, patch.patch_counts_reference(matches, code, turns).reshape(rows, masks))


def test_normals_are_normal():
    """Over all levels of a fine grid of words: the law is N(0, 1) to the grid's step, sign and size independent."""
    words = np.arange(0, 2**32, 65_537, dtype=np.uint64).astype(np.uint32)
    x = np.sort(patch.normals(words)).astype(np.float64)
    cdf = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x[::64]])
    assert np.abs(cdf - np.arange(x.size)[::64] / x.size).max() < 1e-4
    assert abs(x.mean()) < 1e-4


@pytest.mark.parametrize("degrees", [15, 45, 60, 90])
@pytest.mark.parametrize("kind", ["dense", "two numbers", "large and small"])
def test_hash_bits_agree_as_the_angle_says(degrees, kind):
    """P(equal) = 1 - angle / 180, for any pair of vectors: 40,000 projections, 4 sigma and the stated rounding."""
    rng, dimension, angle = np.random.default_rng(5), 48, math.radians(degrees)
    basis = {
        "dense": np.linalg.qr(rng.standard_normal((dimension, 2)))[0].T,
        "two numbers": np.eye(2, dimension),
        "large and small": np.linalg.qr(np.column_stack([np.eye(dimension)[0], 0.01 + np.eye(dimension)[1]]))[0].T,
    }[kind]
    v = np.array([[1, 0], [math.cos(angle), math.sin(angle)]]) @ basis
    v = np.rint(patch.VECTOR_SCALE * v).astype(np.int16)
    weights = patch.projections(KEY, 40_000 * dimension).reshape(-1, 8, dimension)
    first, second = np.unpackbits(patch.simhash(weights, v)[:, :, None], axis=2).reshape(2, -1)
    share = 1 - degrees / 180
    assert abs((first == second).mean() - share) < 4 * math.sqrt(share * (1 - share) / 40_000) + 0.005


def test_bad_arrays_are_refused():
    weights, v, codes = np.zeros((4, 7, 3), np.int16), np.zeros((2, 3), np.int16), np.zeros((2, 4), np.uint8)
    out, x = np.zeros((2, 4, 16), np.float32), np.zeros((2, 4, 16), np.float32)
    best, matches = np.zeros((2, 4), np.float32), np.zeros((2, 4, 4), np.uint32)
    for call in (
        lambda: core.simhash(np.zeros((4, 9, 3), np.int16), v, codes),
        lambda: core.simhash(weights, np.zeros((2, 4), np.int16), codes),
        lambda: core.simhash(weights, v, codes[:, :3].copy()),
        lambda: core.patch_noise(KEY, codes, 0, out),
        lambda: core.patch_noise(KEY, codes, 257, out),
        lambda: core.patch_noise(KEY, codes + np.uint8(9), 9, out),
        lambda: core.patch_noise(KEY[:7], codes, 128, out),
        lambda: core.patch_noise(KEY, codes[:1], 128, out),
        lambda: core.patch_counts(matches, codes, codes[:, :3].copy(), np.zeros((2, 2), np.int32)),
        lambda: core.patch_counts(matches, codes + np.uint8(128), codes, np.zeros((2, 2), np.int32)),
        lambda: core.patch_search(KEY, x, 0.3, best[:1], matches),
        lambda: core.patch_search(KEY, x, 0.3, best, np.zeros((2, 4, 9), np.uint32)),
        lambda: core.patch_search(KEY, np.zeros((2, 4, 0), np.float32), 0.3, best, matches),
    ):
        with pytest.raises(ValueError, match=r"must|reach"):
            call()
