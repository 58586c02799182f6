"""Every kernel gives the same bits in NumPy, on every instruction set and with any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.ops._native import core
from watermark.ops.chacha import chacha20_reference
from watermark.ops.normal import half_normal_reference, pack_bits, signed_normal_reference
from watermark.ops.polar import decode_reference, transform, word_ratios_reference
from watermark.ops.sign_pad import sign_votes_reference
from watermark.ops.tail import log_binomial_tail_reference, log_gamma_tail_reference

ISAS = core.instruction_sets()
KEY, NONCE = np.arange(1, 9, dtype=np.uint32) * 0x01234567, np.array([1, 2, 3], np.uint32)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[1, 2, 3, 4])
def threads(request: pytest.FixtureRequest, set_threads) -> int:
    set_threads(request.param)
    return request.param


def test_generic_is_always_there_and_the_best_comes_last():
    assert ISAS[0] == "generic"
    assert len(set(ISAS)) == len(ISAS)
    out, best = np.zeros(5, np.uint32), np.zeros(5, np.uint32)
    core.chacha20(KEY, NONCE, 0, out)
    core.chacha20(KEY, NONCE, 0, best, isa=ISAS[-1])
    assert np.array_equal(out, best)


@pytest.mark.parametrize("name", ["sse9", "AVX2", "generic "])
def test_unknown_instruction_sets(name):
    with pytest.raises(ValueError, match="no kernels"):
        core.chacha20(KEY, NONCE, 0, np.zeros(1, np.uint32), isa=name)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 127, 128, 129, 1000, 100_003])
@pytest.mark.parametrize("counter", [0, 5, 2**32 - 6251])
def test_chacha20(isa, threads, count, counter):
    out = np.full(count, 7, np.uint32)
    core.chacha20(KEY, NONCE, counter, out, isa=isa)
    assert np.array_equal(out, chacha20_reference(KEY, NONCE, count, counter))


def test_a_stream_ends_after_2_to_32_blocks(isa):
    core.chacha20(KEY, NONCE, 2**32 - 1, np.zeros(16, np.uint32), isa=isa)
    with pytest.raises(ValueError, match="blocks"):
        core.chacha20(KEY, NONCE, 2**32 - 1, np.zeros(17, np.uint32), isa=isa)
    with pytest.raises(TypeError):
        core.chacha20(KEY, NONCE, 2**32, np.zeros(1, np.uint32), isa=isa)


def test_half_normal(isa):
    random = np.random.default_rng(1).integers(0, 2**32, 100_001, np.uint32)
    edges = (2 ** np.arange(32)[:, None] + np.arange(-3, 4)).astype(np.int64).ravel()
    words = np.concatenate([random, edges[(edges >= 0) & (edges < 2**32)].astype(np.uint32), [0, 2**32 - 1]])
    out = np.empty(words.size, np.float32)
    core.half_normal(words.astype(np.uint32), out, isa=isa)
    expected = half_normal_reference(words.astype(np.uint32))
    assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("rows", "count"), [(0, 5), (3, 0), (1, 1), (1, 31), (2, 128), (5, 333), (40, 1000)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("first_row", [0, 7, 2**32 - 2, 2**64 - 100])
def test_signed_normal(isa, threads, rows, count, shared, first_row):
    rng = np.random.default_rng(2)
    signs = rng.integers(0, 2**32, (1 if shared else rows, -(-count // 32)), np.uint32)
    out, expected = np.full((rows, count), 9, np.float32), np.empty((rows, count), np.float32)
    core.signed_normal(KEY, first_row, signs, out, isa=isa)
    signed_normal_reference(KEY, first_row, signs, expected)
    assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("symbols", [1, 7, 8, 9, 100, 273, 511, 512, 513, 1025, 1500])
@pytest.mark.parametrize("rows", [0, 1, 9])
def test_sign_votes(isa, threads, symbols, rows):
    rng = np.random.default_rng(symbols)
    count = max(symbols, 1500) + 37
    # Sizes far apart make the sign of a sum depend on the order of its additions.
    z = (rng.standard_normal((rows, count)) * 10.0 ** rng.integers(-8, 8, (rows, count))).astype(np.float32)
    z[rng.random(z.shape) < 0.1] = 0.0
    z[rng.random(z.shape) < 0.05] *= -0.0
    pad = pack_bits(rng.integers(0, 2, count, np.uint8))
    bits, agreement = np.full((rows, -(-symbols // 8)), 0xAA, np.uint8), np.full(rows, 77, np.int64)
    core.sign_votes(z, pad, symbols, bits, agreement, isa=isa)
    expected_bits, expected_agreement = sign_votes_reference(z, pad, symbols)
    assert np.array_equal(bits, expected_bits)
    assert np.array_equal(agreement, expected_agreement)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", [0, 513, 1023, 2000])
def test_sign_votes_flags_what_is_not_finite(isa, value, at):
    z = np.ones((3, 2001), np.float32)
    z[1, at] = value
    pad = np.zeros(63, np.uint32)
    bits, agreement = np.empty((3, 128), np.uint8), np.empty(3, np.int64)
    core.sign_votes(z, pad, 1024, bits, agreement, isa=isa)
    assert agreement.tolist() == [2001, -1, 2001]
    assert agreement.tolist() == sign_votes_reference(z, pad, 1024)[1].tolist()


@pytest.mark.parametrize("layers", [1, 2, 5, 8])
@pytest.mark.parametrize("paths", [1, 2, 3, 8, 32, 64])
def test_polar_decode(isa, layers, paths):
    rng = np.random.default_rng(layers)
    symbols = 2**layers
    for information in {1, symbols // 3 + 1, symbols}:
        positions = np.sort(rng.permutation(symbols)[:information]).astype(np.int32)
        inputs = np.zeros(symbols, np.uint8)
        inputs[positions] = rng.integers(0, 2, information)
        # Whole numbers make ties: also those must fall the same way.
        for soft in (
            (1 - 2.0 * transform(inputs)) + 0.7 * rng.standard_normal(symbols),
            rng.integers(-3, 4, symbols),
            np.zeros(symbols),
        ):
            bits = np.full((paths, information), 9, np.uint8)
            words = np.full((paths, symbols), 9, np.uint8)
            rows = core.polar_decode(soft.astype(np.float32), positions, bits, words, isa=isa)
            packed, expected = decode_reference(soft.astype(np.float32), positions, paths)
            assert np.array_equal(words[:rows], expected)
            assert rows == len(packed) == min(paths, 2**information)
            assert np.array_equal(np.packbits(bits[:rows], axis=1), packed)


@pytest.mark.parametrize("rate", [1e-4, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("trials", [1, 2, 17, 200, 6000])
def test_log_binomial_tail(isa, trials, rate):
    for count in {1, trials, *np.linspace(1, trials, 9).astype(int).tolist()}:
        found = core.log_binomial_tail(count, trials, rate, isa)
        assert found == pytest.approx(log_binomial_tail_reference(count, trials, rate), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 17, 200, 3000])
def test_log_gamma_tail(isa, count):
    for x in (1e-300, 0.5, 0.5 * count, count - 0.01, count, count + 0.01, 1.3 * count, 9.0 * count, 1e6):
        found, expected = core.log_gamma_tail(x, count, isa), log_gamma_tail_reference(x, count)
        assert found <= 0
        # The reference loses what is small beside 1.
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize(("words", "width"), [(1, 1), (4, 2), (128, 8)])
def test_word_ratios(isa, words, width):
    rng = np.random.default_rng(words)
    likelihood = rng.choice([0.1, 3.0, 500.0], (9, 1)) * rng.standard_normal((9, words))
    likelihood[0] = 7.0  # ties
    symbols = rng.integers(0, 2, (words, width), np.uint8)
    symbols[: min(2, words)] = [[0], [1]][: min(2, words)]
    found = np.empty((9, width), np.float32)
    core.word_ratios(likelihood, symbols, found, isa)
    with np.errstate(divide="ignore"):  # a symbol that no word has
        np.testing.assert_allclose(found, word_ratios_reference(likelihood, symbols), rtol=1e-5, atol=1e-6)
