"""Votes of a latent's signs under a keystream: the detector of Gaussian Shading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops._native import core, cuda, is_cuda, to_device
from watermark.ops.normal import unpack_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sign_votes(
    z: Any, pad: NDArray[np.uint32], symbols: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Folds signed samples onto the symbols that they repeat: element i votes for symbol ``i % symbols``.

    Args:
        z: float32 of shape (rows, n), C-contiguous; NumPy, or a tensor on the CPU or on CUDA.
        pad: Keystream bits, uint32 of shape (ceil(n / 32),), least significant bit first.
        symbols: Number of symbols.

    Returns:
        float32 of shape (rows, symbols), the sum of ``z * (-1)**pad`` added in the order of i; and int32 of the same
        shape, how many sign bits of z differ from the pad.
    """
    shape = (len(z), symbols)
    if is_cuda(z):
        soft, ones = z.new_empty(shape), z.new_empty(shape).int()
        cuda().sign_votes(z, to_device(pad, z), soft, ones)
        return soft.cpu().numpy(), ones.cpu().numpy()
    out = np.empty(shape, np.float32), np.empty(shape, np.int32)
    core.sign_votes(z, pad, *out)
    return out


def sign_votes_reference(
    z: NDArray[np.float32], pad: NDArray[np.uint32], symbols: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The same in NumPy."""
    rows, count = z.shape
    soft, ones = np.zeros((rows, symbols), np.float32), np.zeros((rows, symbols), np.int32)
    flipped = np.where(unpack_bits(pad, count), -z, z)
    for start in range(0, count, symbols):
        part = flipped[:, start : start + symbols]
        soft[:, : part.shape[1]] += part
        ones[:, : part.shape[1]] += np.signbit(part)
    return soft, ones
