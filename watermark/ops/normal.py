"""Normal samples whose signs are given: the noise of latent marks. Version 1 of the map, bit-identical everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops._native import core, is_cuda, on_cuda, to_device
from watermark.ops.chacha import chacha20, chacha20_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIRST_PIECE = 0x3F000000 >> 19  # the piece of v = 1/2


def half_normal(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Half-normal variates, x >= 0 with P(X > x) = (word + 1/2) / 2**32.

    Args:
        words: uint32 of shape (n,), uniform.

    Returns:
        float32 of shape (n,).
    """
    out = np.empty(words.shape, np.float32)
    core.half_normal(words, out)
    return out


def half_normal_reference(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The same in NumPy."""
    bits = (words.astype(np.float32) + np.float32(0.5)).view(np.uint32)
    c = core.half_normal_table()[(bits >> np.uint32(19)) - np.uint32(_FIRST_PIECE)].T
    t = (np.uint32(0x3F800000) | ((bits & np.uint32(0x7FFFF)) << np.uint32(4))).view(np.float32) - np.float32(1)
    return np.asarray(np.maximum(((c[3] * t + c[2]) * t + c[1]) * t + c[0], np.float32(0)))


def signed_normal(key: NDArray[np.uint32], first_row: int, signs: NDArray[np.uint32], out: Any) -> None:
    """Fills rows of normal samples with given signs.

    Args:
        key: ChaCha20 key of the sizes, 8 words. Row i of `out` uses the stream of row number ``first_row + i``.
        first_row: Row number of the first row.
        signs: uint32 of shape (1 | rows, ceil(n / 32)); bit i of a row, least significant first, is 1 for a negative
            sample.
        out: float32 of shape (rows, n), C-contiguous; NumPy, or a tensor on the CPU or on CUDA.
    """
    if is_cuda(out):
        on_cuda("signed_normal", key, first_row, to_device(signs, out), out)
    else:
        core.signed_normal(key, first_row, signs, out)


def signed_normal_reference(
    key: NDArray[np.uint32], first_row: int, signs: NDArray[np.uint32], out: NDArray[np.float32]
) -> None:
    """The same in NumPy."""
    for i, row in enumerate(out):
        number = first_row + i
        nonce = np.array([0, number & 0xFFFFFFFF, number >> 32], np.uint32)
        size = half_normal_reference(chacha20_reference(key, nonce, row.size))
        row[:] = np.where(unpack_bits(signs[i % len(signs)], row.size), -size, size)


def standard_normal(key: NDArray[np.uint32], out: Any) -> None:
    """Fills rows of normal samples, sizes and signs from one key. The first rows do not depend on how many follow.

    Args:
        key: ChaCha20 key, 8 words. The signs use nonces whose first word is 1, apart from all numbered streams.
        out: As in `signed_normal`.
    """
    rows, words = len(out), -(-out.shape[1] // 32)
    signs = chacha20(key, np.array([1, 0, 0], np.uint32), rows * words).reshape(rows, words)
    signed_normal(key, 0, signs, out)


def pack_bits(bits: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Packs bits (not zero: 1) of shape (..., n) into uint32 of shape (..., ceil(n / 32)), least significant first."""
    packed = np.packbits(bits, axis=-1, bitorder="little")
    if missing := -packed.shape[-1] % 4:
        packed = np.concatenate([packed, np.zeros((*packed.shape[:-1], missing), np.uint8)], axis=-1)
    return packed.view("<u4").astype(np.uint32, copy=False)


def unpack_bits(words: NDArray[np.uint32], count: int) -> NDArray[np.uint8]:
    """Inverse of `pack_bits`: the first `count` bits of the last axis."""
    octets = np.ascontiguousarray(words.astype("<u4", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=count, bitorder="little")
