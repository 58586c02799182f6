"""The ChaCha20 keystream (RFC 8439), bit-identical in NumPy, C++ and CUDA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from watermark.ops._native import core

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CONSTANTS = np.frombuffer(b"expand 32-byte k", dtype="<u4")


def chacha20(key: NDArray[np.uint32], nonce: NDArray[np.uint32], count: int, counter: int = 0) -> NDArray[np.uint32]:
    """Words of the ChaCha20 keystream.

    Args:
        key: 8 words, little endian.
        nonce: 3 words.
        count: Number of 32-bit words wanted.
        counter: Block (16 words) at which to start.

    Returns:
        uint32 array of shape (count,).
    """
    out = np.empty(count, np.uint32)
    core.chacha20(key, nonce, counter, out)
    return out


def chacha20_reference(
    key: NDArray[np.uint32], nonce: NDArray[np.uint32], count: int, counter: int = 0
) -> NDArray[np.uint32]:
    """The same in NumPy: one column per block."""
    blocks = -(-count // 16)
    start = np.empty((16, blocks), np.uint32)
    start[:4], start[4:12], start[13:] = _CONSTANTS[:, None], key[:, None], nonce[:, None]
    start[12] = np.arange(counter, counter + blocks, dtype=np.uint64).astype(np.uint32)
    x = start.copy()

    def quarter_round(a: int, b: int, c: int, d: int) -> None:
        for first, second, target, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[first] += x[second]
            x[target] ^= x[first]
            x[target] = (x[target] << np.uint32(turn)) | (x[target] >> np.uint32(32 - turn))

    for _ in range(10):
        for i in range(4):
            quarter_round(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter_round(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return np.ascontiguousarray((x + start).T).ravel()[:count]
