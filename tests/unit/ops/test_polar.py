from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.ops.polar import decode, decode_reference, transform


@given(st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_the_transform_is_its_own_inverse_and_linear(layers, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, (2, 2**layers), np.uint8)
    assert np.array_equal(transform(transform(a)), a)
    assert np.array_equal(transform(a ^ b), transform(a) ^ transform(b))


def test_the_transform_is_the_power_of_its_kernel():
    kernel, matrix = np.array([[1, 0], [1, 1]]), np.ones((1, 1), int)
    for _ in range(5):
        matrix = np.kron(matrix, kernel)
    inputs = np.random.default_rng(1).integers(0, 2, (4, 32), np.uint8)
    assert np.array_equal(transform(inputs), inputs @ matrix % 2)
    assert transform(inputs) is not inputs


@given(st.data())
def test_native_and_reference_agree(data):
    layers = data.draw(st.integers(1, 7))
    symbols = 2**layers
    information = np.array(sorted(data.draw(st.sets(st.integers(0, symbols - 1), min_size=1))), np.int32)
    paths = data.draw(st.integers(1, 40))
    soft = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).standard_normal(symbols).astype(np.float32)
    if data.draw(st.booleans()):
        soft = np.round(soft)  # ties
    for found, expected in zip(
        decode(soft, information, paths), decode_reference(soft, information, paths), strict=True
    ):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("paths", [1, 4, 64])
def test_the_list_holds_code_words_the_likeliest_first(paths):
    rng = np.random.default_rng(2)
    symbols, information = 64, np.arange(48, 64, dtype=np.int32)
    soft = rng.standard_normal(symbols).astype(np.float32)
    packed, words = decode(soft, information, paths)
    inputs = transform(words)
    assert len(packed) == paths
    assert np.array_equal(np.packbits(inputs[:, information], axis=1), packed)
    assert not inputs[:, :48].any()
    likelihood = ((1 - 2.0 * words) * soft).sum(axis=1)
    assert (np.diff(likelihood) <= 1e-4).all()
    assert len({row.tobytes() for row in packed}) == paths


def test_a_list_that_holds_all_words_finds_the_best_one():
    rng = np.random.default_rng(3)
    information = np.array([3, 5, 6, 7], np.int32)
    inputs = np.zeros((16, 8), np.uint8)
    inputs[:, information] = (np.arange(16)[:, None] >> np.arange(4)) & 1
    words = transform(inputs)
    for _ in range(200):
        soft = rng.standard_normal(8).astype(np.float32)
        best = words[((1 - 2.0 * words) @ soft).argmax()]
        assert np.array_equal(decode(soft, information, 16)[1][0], best)


def test_a_longer_list_errs_less():
    rng = np.random.default_rng(4)
    from watermark.payload import Frame, SoftCode

    information = SoftCode(Frame(64), 512).information
    errors = dict.fromkeys((1, 32), 0)
    for _ in range(60):
        inputs = np.zeros(512, np.uint8)
        inputs[information] = rng.integers(0, 2, information.size)
        word = transform(inputs)
        soft = (1 - 2.0 * word + 1.55 * rng.standard_normal(512)).astype(np.float32)
        for paths in errors:
            errors[paths] += not (decode(soft, information, paths)[1] == word).all(axis=1).any()
    assert errors[32] < errors[1]
    assert errors[1] > 0
