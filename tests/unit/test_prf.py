from __future__ import annotations

import math

import numpy as np
import pytest

from watermark import ParameterError
from watermark.ops.chacha import chacha20_reference
from watermark.prf import Prf, hkdf, seed

PRF = Prf(bytes(range(32)))


def test_words_are_the_chacha_stream_of_the_number():
    stream = 0x1234_5678_9ABC_DEF0
    nonce = np.array([0, 0x9ABC_DEF0, 0x1234_5678], np.uint32)
    key = np.frombuffer(bytes(range(32)), "<u4").astype(np.uint32)
    assert np.array_equal(PRF.words(100, stream=stream), chacha20_reference(key, nonce, 100))


def test_known_answers():
    # The first words of stream 0; what a keyed choice is made of must never change.
    assert PRF.words(3).tolist() == [2100034873, 1780073945, 1996733837]
    assert int(PRF.wide(2)[0]) == int(PRF.words(4)[0]) | int(PRF.words(4)[1]) << 32
    assert PRF.uniform(2)[0] == (int(PRF.wide(2)[0]) >> 11) / 2**53
    assert PRF.bits(40).tolist() == [int(PRF.words(2)[i // 32]) >> i % 32 & 1 for i in range(40)]
    assert np.array_equal(PRF.signs(40), 1.0 - 2.0 * PRF.bits(40))
    assert PRF.permutation(8).tolist() == [7, 6, 1, 5, 0, 3, 4, 2]


def test_a_longer_draw_starts_with_the_shorter_one():
    for draw in (PRF.words, PRF.wide, PRF.uniform, PRF.bits, PRF.signs):
        assert np.array_equal(draw(1000)[:37], draw(37))
        assert draw(0).size == 0


def test_streams_and_keys_are_independent():
    streams = [PRF.words(64), PRF.words(64, stream=1), PRF.words(64, stream=2**64 - 1), Prf(bytes(32)).words(64)]
    assert len({s.tobytes() for s in streams}) == len(streams)


def test_types_and_ranges():
    n = 200_000
    assert (PRF.words(n).dtype, PRF.wide(n).dtype, PRF.bits(n).dtype) == (np.uint32, np.uint64, np.uint8)
    uniform, bits, signs = PRF.uniform(n), PRF.bits(n), PRF.signs(n)
    assert (uniform.dtype, signs.dtype) == (np.float64, np.float32)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    limit = 4 / math.sqrt(n)
    assert abs(uniform.mean() - 0.5) < limit * math.sqrt(1 / 12)
    assert abs(uniform.var() - 1 / 12) < limit * math.sqrt(1 / 180)
    assert abs(bits.mean() - 0.5) < limit / 2
    assert set(np.unique(signs)) == {-1.0, 1.0}


def test_permutations_are_uniform():
    """All 24 orders of 4 items, chi-square with 23 degrees of freedom below its 99.9 % quantile."""
    draws = 4800
    orders = [tuple(PRF.permutation(4, stream=i)) for i in range(draws)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert counts.size == 24
    assert ((counts - draws / 24) ** 2).sum() / (draws / 24) < 49.7


def test_a_stream_is_a_number_below_2_to_64():
    with pytest.raises((OverflowError, ValueError)):
        PRF.words(4, stream=2**64)
    with pytest.raises((OverflowError, ValueError)):
        PRF.words(4, stream=-1)


class TestSeed:
    def test_none_is_fresh(self):
        assert seed().words(8).tobytes() != seed().words(8).tobytes()

    @pytest.mark.parametrize("number", [0, 7, -7, 2**2048 - 1, np.int64(7), np.uint8(3)])
    def test_an_int_repeats(self, number):
        assert np.array_equal(seed(number).words(8), seed(int(number)).words(8))

    def test_ints_differ(self):
        assert len({seed(i).words(8).tobytes() for i in range(-50, 50)}) == 100

    def test_a_numpy_generator_is_read_once(self):
        a, b = np.random.default_rng(5), np.random.default_rng(5)
        assert np.array_equal(seed(a).words(8), seed(b).words(8))
        assert not np.array_equal(seed(a).words(8), seed(np.random.default_rng(5)).words(8))
        b.bytes(32)
        a_next, b_next = a.bytes(8), b.bytes(8)
        assert a_next == b_next

    def test_a_torch_generator_is_read_once(self):
        torch = pytest.importorskip("torch")
        a, b = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
        first = seed(a).words(8)
        assert np.array_equal(first, seed(b).words(8))
        assert not np.array_equal(first, seed(a).words(8))

    @pytest.mark.parametrize("rng", [True, 1.5, "7", b"7", object(), [1]])
    def test_nothing_else(self, rng):
        with pytest.raises(ParameterError, match="rng"):
            seed(rng)

    def test_an_int_has_a_size(self):
        """Python turns no int of more than 4300 digits into text."""
        for rng in (2**2048, -(2**2048), 10**5000):
            with pytest.raises(ParameterError, match="2048 bits"):
                seed(rng)


@pytest.mark.parametrize("length", [0, -1, 8161])
def test_hkdf_has_a_range(length):
    with pytest.raises(ParameterError):
        hkdf(b"secret", salt=b"", info=b"", length=length)
