"""Published vectors: tests/native/test_vectors.py. Equality over machines: tests/native/test_equality.py."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.ops.chacha import chacha20, chacha20_reference

KEY, NONCE = np.arange(8, dtype=np.uint32), np.arange(3, dtype=np.uint32)


@pytest.mark.parametrize("count", [0, 1, 16, 1000])
def test_the_reference_agrees(count):
    found = chacha20(KEY, NONCE, count, counter=9)
    assert (found.dtype, found.shape) == (np.uint32, (count,))
    assert np.array_equal(found, chacha20_reference(KEY, NONCE, count, counter=9))


def test_a_counter_skips_blocks():
    assert np.array_equal(chacha20(KEY, NONCE, 80)[48:], chacha20(KEY, NONCE, 32, counter=3))
