"""Gaussian Shading: a keystream turns message bits into the signs of the noise (Yang et al., CVPR 2024, section 3).

Bits are repeated over the latent, encrypted by ChaCha20, and each encrypted bit picks the half of N(0, 1) from which an
element is drawn. Without the key the samples of one nonce are still linkable, since they share their signs: every
latent of a key, nonce and message has the same sign pattern.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._cache import cached_property
from watermark._values import FrozenDict, whole
from watermark.detection import MAX_LOG10_P_OF_PAYLOAD, Detections
from watermark.errors import MediaError, ParameterError
from watermark.latent.noise import LatentScheme, check_shape
from watermark.ops._native import to_host
from watermark.ops.chacha import chacha20
from watermark.ops.normal import pack_bits, signed_normal, unpack_bits
from watermark.ops.sign_pad import sign_votes
from watermark.payload import Frame
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import LN10, log_majority_tail, log_sidak

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermark.key import Key


@dataclass(frozen=True, slots=True)
class GaussianShadingParameters:
    """Parameters of `latent.gaussian_shading`.

    Attributes:
        shape: Shape of one latent, such as (4, 64, 64).
        payload_bits: Net message bits, 1 to 4096; every bit must be repeated at least 8 times.
        nonces: Keystreams per key, 1 to 4096. A sample takes one of them at random, and the detector tries all and pays
            for all. All samples of one nonce and message have the same sign pattern, by which they can be linked.
    """

    shape: tuple[int, ...] = (4, 64, 64)
    payload_bits: int = 256
    nonces: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "nonces", whole(self.nonces, "nonces", 1, 4096))
        object.__setattr__(self, "shape", check_shape(self.shape))
        object.__setattr__(self, "payload_bits", Frame(self.payload_bits).payload_bits)
        size, elements = Frame(self.payload_bits).size, math.prod(self.shape)
        if size < 1 or 8 * size > elements:
            raise ParameterError(
                f"payload_bits={self.payload_bits} makes {size} bits, and {elements} elements carry "
                f"1 to {elements // 8}"
            )


class GaussianShading(LatentScheme):
    """The mark `latent.gaussian_shading`.

    The null is exact: for any latent made without the key its signs under the keystream are fair coins, so the number
    of signs that agree within each repeated bit has the law that `watermark.stats.log_majority_tail` computes. The
    keystreams of different nonces are independent, so that the best of N has p = 1 - (1 - p_min)^N exactly.
    """

    info = SchemeInfo(
        name="latent.gaussian_shading",
        modality="latent",
        null="exact",
        fixed_key=FixedKey(1.0, 1.0, "iid normal latents, on which every key has one law: benchmarks/null.py"),
        distortion_free=False,
        payload="1 to 4096 bits",
        security_bits=256,
    )
    Parameters = GaussianShadingParameters
    parameters: GaussianShadingParameters

    @cached_property
    def _frame(self) -> Frame:
        return Frame(self.parameters.payload_bits)

    @cached_property
    def _elements(self) -> int:
        return int(np.prod(self.shape))

    def _log10_p(self, agreed: int) -> float:
        """The p-value of the best of all nonces, in which `agreed` signs agree."""
        log_p = float(log_majority_tail(self._elements, self._frame.size)[agreed])
        return log_sidak(log_p, self.parameters.nonces) / LN10

    def _bind(self, key: Key) -> NDArray[np.uint32]:
        """The keystreams, one bit per element: uint32 of shape (nonces, ceil(n / 32))."""
        prf = key.derive("latent.gaussian_shading/1/signs")
        words = -(-self._elements // 32)
        return np.stack([prf.words(words, stream=nonce) for nonce in range(self.parameters.nonces)])

    def _fill(self, out: Any, payloads: Sequence[bytes | None], one_payload: bool, noise: NDArray[np.uint32]) -> None:
        distinct = payloads[:1] if one_payload else payloads
        bits = np.array([self._frame.encode(payload) for payload in distinct], np.uint8)
        if distinct:
            repeated = np.tile(bits, -(-self._elements // self._frame.size))[:, : self._elements]
            signed_normal(noise, 0, pack_bits(repeated) ^ self._tables[0][self._picks(noise, len(payloads))], out)

    def _picks(self, noise: NDArray[np.uint32], rows: int) -> NDArray[np.intp] | slice:
        """The nonce of each row, from words that the sizes do not use. A single one serves all rows."""
        if self.parameters.nonces == 1:
            return slice(None)
        words = chacha20(noise, np.array([1, 0, 0], np.uint32), rows)
        return (words.astype(np.uint64) * np.uint64(self.parameters.nonces) >> np.uint64(32)).astype(np.intp)

    def _read(self, tables: NDArray[np.uint32], z: Any, key_id: str) -> Detections:
        votes = [self._votes(z, pad) for pad in tables]
        agreed: list[int] = []
        log10_p: list[float] = []
        payloads: list[bytes | None] = []
        vouched: list[bool] = []
        for row, counts in enumerate(zip(*(agreement.tolist() for _, agreement in votes), strict=True)):
            agreed.append(max(counts))
            log10_p.append(self._log10_p(agreed[row]))
            nonce = counts.index(agreed[row])
            packed = votes[nonce][0][row]
            payloads.append(self._frame.decode(packed.tobytes()))
            known = payloads[row] is not None and log10_p[row] <= MAX_LOG10_P_OF_PAYLOAD
            vouched.append(known and (self._frame.framed or self._carries(z[row], tables[nonce], packed)))
        rows, scores = len(agreed), [count / self._elements for count in agreed]
        n, details = [self._elements] * rows, [self._details] * rows
        return Detections(self.name, [key_id] * rows, log10_p, scores, n, payloads, vouched, details)

    def _votes(self, z: Any, pad: NDArray[np.uint32]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The packed bits of each row under one keystream, and how many signs agree with them."""
        bits, agreement = sign_votes(z, pad, self._frame.size)
        if agreement.min(initial=0) < 0:  # a sum is not finite
            largest = float(abs(z).max())
            if not math.isfinite(largest):
                raise MediaError("the latent holds values that are not finite")
            bits, agreement = sign_votes(z / largest, pad, self._frame.size)
        return bits, agreement

    def _carries(self, row: Any, pad: NDArray[np.uint32], packed: NDArray[np.uint8]) -> bool:
        """Whether the votes vouch for every bit of a message without a checksum.

        A wrong bit has at most an even chance of each vote, so it gets m of n with probability at most
        exp(-2 (m - n/2)^2 / n) (Hoeffding); over all bits and nonces that may add up to 2^-16.
        """
        size = self._frame.size
        symbol = np.arange(self._elements) % size
        votes = np.signbit(to_host(row)) ^ unpack_bits(pad, self._elements)
        agreeing = np.bincount(symbol, votes == np.unpackbits(packed, count=size)[symbol], size)
        half = np.bincount(symbol, minlength=size) / 2
        wrong = np.exp(-(np.maximum(agreeing - half, 0) ** 2) / half)
        return bool(self.parameters.nonces * wrong.sum() <= 2.0**-16)

    @cached_property
    def _details(self) -> FrozenDict:
        floor = 10.0 ** self._log10_p(self._elements)
        return FrozenDict({"p_floor": floor} if floor > 0 else {})
