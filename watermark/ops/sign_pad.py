"""Votes of a latent's signs under a keystream: the detector of Gaussian Shading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops._native import core, is_cuda, on_cuda, to_device, to_host
from watermark.ops.normal import unpack_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sign_votes(z: Any, pad: NDArray[np.uint32], symbols: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Lets signed samples vote on the symbols that they repeat: element i votes for symbol ``i % symbols``.

    A vote is ``z * (-1)**pad``. The sum of a symbol's votes, added in float32 in the order of i, decides its bit.

    Args:
        z: float32 of shape (rows, n), C-contiguous; NumPy, or a tensor on the CPU or on CUDA.
        pad: Keystream bits, uint32 of shape (ceil(n / 32),), least significant bit first.
        symbols: Number of symbols, 1 to n.

    Returns:
        The bits, 1 where the sum is negative: uint8 of shape (rows, ceil(symbols / 8)), most significant first; and how
        many signs agree with the majority of their symbol: int64 of shape (rows,), -1 where a sum is not finite.
    """
    shape = len(z), -(-symbols // 8)
    if is_cuda(z):
        import torch

        bits = torch.empty(shape, dtype=torch.uint8, device=z.device)
        agreement = torch.empty(shape[:1], dtype=torch.int64, device=z.device)
        on_cuda("sign_votes", z, to_device(pad, z), symbols, bits, agreement)
        return to_host(bits), to_host(agreement)
    out = np.empty(shape, np.uint8), np.empty(shape[0], np.int64)
    core.sign_votes(z, pad, symbols, *out)
    return out


def sign_votes_reference(
    z: NDArray[np.float32], pad: NDArray[np.uint32], symbols: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The same in NumPy."""
    rows, count = z.shape
    soft, ones = np.zeros((rows, symbols), np.float32), np.zeros((rows, symbols), np.int64)
    repeats = np.bincount(np.arange(count) % symbols)
    votes = np.where(unpack_bits(pad, count), -z, z)
    for start in range(0, count, symbols):
        part = votes[:, start : start + symbols]
        soft[:, : part.shape[1]] += part
        ones[:, : part.shape[1]] += np.signbit(part)
    agreement = np.maximum(ones, repeats - ones).sum(axis=1)
    return np.packbits(soft < 0, axis=1), np.where(np.isfinite(soft).all(axis=1), agreement, -1)
