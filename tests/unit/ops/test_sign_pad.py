from __future__ import annotations

import numpy as np
import pytest

from watermark.ops.normal import pack_bits
from watermark.ops.sign_pad import sign_votes, sign_votes_reference


def test_by_hand():
    # Symbols 0 and 1 of five elements: 0 gets elements 0, 2, 4; 1 gets elements 1 and 3.
    z = np.array([[1, -2, 3, 4, -9]], np.float32)
    bits, agreement = sign_votes(z, pack_bits(np.array([0, 0, 0, 1, 1], np.uint8)), 2)
    # Votes: 1, -2, 3, -4, 9. Sums: 13 and -6. All signs agree with their majority.
    assert bits.tolist() == [[0b01000000]]
    assert agreement.tolist() == [5]
    bits, agreement = sign_votes(z, np.zeros(1, np.uint32), 2)
    # Votes as they are. Sums: -5 and 2; majorities: 2 of 3, and a tie of 2.
    assert bits.tolist() == [[0b10000000]]
    assert agreement.tolist() == [3]


def test_a_zero_votes_by_its_sign_bit_and_a_zero_sum_is_a_0():
    z = np.array([[0.0, -0.0, 0.0, -0.0]], np.float32)
    bits, agreement = sign_votes(z, np.zeros(1, np.uint32), 1)
    assert (bits.tolist(), agreement.tolist()) == ([[0]], [2])


@pytest.mark.parametrize("symbols", [1, 7, 64, 300])
def test_the_reference_agrees(symbols):
    rng = np.random.default_rng(symbols)
    z = rng.standard_normal((6, 300)).astype(np.float32)
    pad = pack_bits(rng.integers(0, 2, 300, np.uint8))
    for found, expected in zip(sign_votes(z, pad, symbols), sign_votes_reference(z, pad, symbols), strict=True):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


def test_torch_on_the_cpu():
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(1).standard_normal((2, 100)).astype(np.float32)
    pad = np.zeros(4, np.uint32)
    for found, expected in zip(sign_votes(torch.from_numpy(z), pad, 9), sign_votes(z, pad, 9), strict=True):
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, expected)
