"""Patches of a latent, their keyed noises, and the hash that names one of them: the kernels of SEAL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops._native import core, is_cuda, on_cuda, to_device
from watermark.ops.chacha import chacha20, chacha20_reference
from watermark.ops.normal import half_normal, half_normal_reference, pack_bits, unpack_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROJECTION_SCALE = 2048
"""A projection's weights are normals times this, rounded to int16."""
VECTOR_SCALE = 8192
"""A vector goes to this length before it is rounded to int16: so no inner product leaves 32 bits."""

_ZERO = np.zeros(3, np.uint32)


def normals(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Normal variates from one word each: all of it gives the size, its lowest bit the sign too.

    Args:
        words: uint32 of shape (n,), uniform.

    Returns:
        float32 of shape (n,), within 2^-32 of N(0, 1) in distribution.
    """
    return _signed(words, half_normal(words))


def _signed(words: NDArray[np.uint32], size: NDArray[np.float32]) -> NDArray[np.float32]:
    return (size.view(np.uint32) | words << np.uint32(31)).view(np.float32)


def projections(key: NDArray[np.uint32], count: int) -> NDArray[np.int16]:
    """Weights of random projections: normal variates in steps of 1 / `PROJECTION_SCALE`.

    Args:
        key: ChaCha20 key, 8 words.
        count: Number of weights.

    Returns:
        int16 of shape (count,).
    """
    return _in_steps(normals(chacha20(key, _ZERO, count)))


def projections_reference(key: NDArray[np.uint32], count: int) -> NDArray[np.int16]:
    """The same in NumPy."""
    words = chacha20_reference(key, _ZERO, count)
    return _in_steps(_signed(words, half_normal_reference(words)))


def _in_steps(values: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.asarray(np.rint(values * np.float32(PROJECTION_SCALE)), np.int16)


def simhash(weights: Any, v: NDArray[np.int16]) -> Any:
    """Signs of random projections (SimHash), gathered into one code per patch.

    Args:
        weights: int16 of shape (patches, bits, dimension), 1 to 8 bits; NumPy, or a tensor on CUDA.
        v: int16 of shape (rows, dimension).

    Returns:
        Codes, bit j of which is 1 where projection j is positive: uint8 of shape (rows, patches), where weights lie.
    """
    if is_cuda(weights):
        import torch

        device_codes = weights.new_empty((len(v), len(weights)), dtype=torch.uint8)
        on_cuda("batch_simhash", weights, to_device(v, weights), device_codes)
        return device_codes
    codes = np.empty((len(v), len(weights)), np.uint8)
    core.simhash(weights, v, codes)
    return codes


def simhash_reference(weights: NDArray[np.int16], v: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The same in NumPy."""
    positive = np.einsum("pbd,rd->rpb", weights.astype(np.int64), v.astype(np.int64)) > 0
    return np.asarray((positive << np.arange(weights.shape[1])).sum(axis=2), np.uint8)


def patch_noise(key: NDArray[np.uint32], code: Any, codes: int, out: Any) -> None:
    """Fills patches with the noises that their codes name: each patch has `codes` of its own.

    Args:
        key: ChaCha20 key of the noises, 8 words. Value e of noise c of patch i comes from word e of the stream's block
            ``(i * codes + c) * ceil(width / 16)`` and those after it, the lowest bit of a word giving the sign.
        code: uint8 of shape (rows, patches), below `codes`, where `out` lies.
        codes: Number of noises per patch, 1 to 256.
        out: float32 of shape (rows, patches, width), C-contiguous; NumPy, or a tensor on the CPU or on CUDA.
    """
    if is_cuda(out):
        on_cuda("patch_noise", key, code, codes, out)
    else:
        core.patch_noise(key, code, codes, out)


def patch_noise_reference(
    key: NDArray[np.uint32], code: NDArray[np.uint8], codes: int, out: NDArray[np.float32]
) -> None:
    """The same in NumPy."""
    out[:] = _all_noises(key, out.shape[1], codes, out.shape[2])[np.arange(out.shape[1]), code]


def _all_noises(key: NDArray[np.uint32], patches: int, codes: int, width: int) -> NDArray[np.float32]:
    """Every noise of every patch: float32 of shape (patches, codes, width)."""
    words = chacha20_reference(key, _ZERO, patches * codes * -(-width // 16) * 16)
    words = np.ascontiguousarray(words.reshape(patches, codes, -1)[:, :, :width])
    return _signed(words, half_normal_reference(words.ravel()).reshape(words.shape))


def patch_search(key: NDArray[np.uint32], x: Any, codes: int, least: float) -> tuple[Any, Any]:
    """Holds patches against all of their noises.

    The cosine of patch x and noise g is <g, x / |x|> / |g|, the sums over the values in their order in float32, with
    |x| in float64; of a patch of zeros it is 0.

    Args:
        key: As in `patch_noise`.
        x: float32 of shape (rows, patches, width), finite, C-contiguous; NumPy, or a tensor on the CPU or on CUDA.
        codes: Number of noises per patch: 32, 64, 128 or 256.
        least: A noise matches where its cosine is at least this.

    Returns:
        The largest cosine of each patch: float32 of shape (rows, patches); and which noises match, a bit each, least
        significant first: uint32 of shape (rows, patches, codes / 32). On CUDA tensors there, of the bits as int32.
    """
    shape = tuple(x.shape[:2])
    if is_cuda(x):
        import torch

        found, bits = x.new_empty(shape), x.new_empty((*shape, codes // 32), dtype=torch.int32)
        on_cuda("patch_search", key, x, least, found, bits)
        return found, bits
    best, matches = np.empty(shape, np.float32), np.empty((*shape, codes // 32), np.uint32)
    core.patch_search(key, x, least, best, matches)
    return best, matches


def patch_search_reference(
    key: NDArray[np.uint32], x: NDArray[np.float32], codes: int, least: float
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """The same in NumPy."""
    rows, patches, width = x.shape
    noise, energy = _all_noises(key, patches, codes, width), np.zeros((patches, codes), np.float32)
    square, dot = np.zeros((rows, patches)), np.zeros((rows, patches, codes), np.float32)
    for e in range(width):
        square += x[:, :, e].astype(np.float64) ** 2
        energy += noise[:, :, e] * noise[:, :, e]
    scale = np.divide(1.0, np.sqrt(square), where=square > 0, out=np.zeros_like(square))
    unit = (x * scale[:, :, None]).astype(np.float32)
    for e in range(width):
        dot += noise[None, :, :, e] * unit[:, :, None, e]
    cosine = dot / np.sqrt(energy)
    return cosine.max(axis=2), pack_bits((cosine >= np.float32(least)).astype(np.uint8))


def patch_counts(matches: Any, code: Any, masks: Any) -> Any:
    """How many patches match the noise that their code, turned by a mask, names.

    Args:
        matches: What `patch_search` found: uint32 of shape (rows, patches, words); NumPy, or a tensor on CUDA, and so
            are the others.
        code: uint8 of shape (1 | rows, patches), below 32 words.
        masks: uint8 of shape (masks, patches), exclusive-or-ed to the codes; below 32 words.

    Returns:
        int32 of shape (rows, masks), where the matches lie.
    """
    if is_cuda(matches):
        device_counts = matches.new_empty((len(matches), len(masks)))
        on_cuda("batch_patch_counts", matches, code, masks, device_counts)
        return device_counts
    counts = np.empty((len(matches), len(masks)), np.int32)
    core.patch_counts(matches, code, masks, counts)
    return counts


def patch_counts_reference(
    matches: NDArray[np.uint32], code: NDArray[np.uint8], masks: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """The same in NumPy."""
    bits, patches = unpack_bits(matches, 32 * matches.shape[2]), np.arange(matches.shape[1])
    return np.array([row[patches, masks ^ code[i % len(code)]].sum(axis=1) for i, row in enumerate(bits)], np.int32)
