"""Keyed randomness: a ChaCha20 stream per label, and what schemes draw from it."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.errors import ParameterError
from watermark.ops.chacha import chacha20

if TYPE_CHECKING:
    from numpy.typing import NDArray


def hkdf(secret: bytes, *, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-SHA-256 (RFC 5869)."""
    if not 0 < length <= 255 * 32:
        raise ParameterError(f"HKDF gives 1 to 8160 bytes, not {length}")
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    block, out = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        out += block
    return out[:length]


class Prf:
    """A keyed random function: numbered streams of uniform bits, the same on every machine.

    Args:
        key: 32 bytes, used for one purpose only (`watermark.Key.derive` gives one per label).

    Every method takes `stream`, a number below 2**64: streams are independent of each other, and asking twice for the
    same stream gives the same numbers.
    """

    __slots__ = ("_words",)

    def __init__(self, key: bytes) -> None:
        self._words = np.frombuffer(key, "<u4").astype(np.uint32)

    @property
    def key_words(self) -> NDArray[np.uint32]:
        """The ChaCha20 key as 8 words, for kernels that draw for themselves."""
        return self._words

    def child(self, material: Prf | bytes) -> Prf:
        """The random function of this key and of what else it shall depend on (HMAC-SHA-256)."""
        octets = material.key_words.tobytes() if isinstance(material, Prf) else material
        return Prf(hmac.digest(self._words.tobytes(), octets, "sha256"))

    def words(self, count: int, *, stream: int = 0) -> NDArray[np.uint32]:
        """Uniform 32-bit words: uint32 of shape (count,)."""
        nonce = np.array([0, stream & 0xFFFFFFFF, stream >> 32], np.uint32)
        return chacha20(self._words, nonce, count)

    def wide(self, count: int, *, stream: int = 0) -> NDArray[np.uint64]:
        """Uniform 64-bit words: uint64 of shape (count,)."""
        pairs = self.words(2 * count, stream=stream).astype(np.uint64).reshape(-1, 2)
        return pairs[:, 0] | pairs[:, 1] << np.uint64(32)

    def uniform(self, count: int, *, stream: int = 0) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1) with 53 random bits: float64 of shape (count,)."""
        return (self.wide(count, stream=stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def bits(self, count: int, *, stream: int = 0) -> NDArray[np.uint8]:
        """Fair bits: uint8 of shape (count,), 0 or 1."""
        octets = self.words(-(-count // 32), stream=stream).astype("<u4", copy=False).view(np.uint8)
        return np.unpackbits(octets, count=count, bitorder="little")

    def signs(self, count: int, *, stream: int = 0) -> NDArray[np.float32]:
        """Fair signs: float32 of shape (count,), +1 or -1."""
        return 1 - 2 * self.bits(count, stream=stream).astype(np.float32)

    def permutation(self, count: int, *, stream: int = 0) -> NDArray[np.int64]:
        """A uniform permutation of 0..count-1: int64 of shape (count,), the order of as many 64-bit words."""
        return np.argsort(self.wide(count, stream=stream), kind="stable")


def seed(rng: Any = None) -> Prf:
    """A source of fresh randomness from what the user passes as `rng`.

    Args:
        rng: None takes 256 bits from the operating system; an int of up to 2048 bits, a NumPy Generator or a
            torch.Generator is read once.

    Raises:
        ParameterError: `rng` is something else.
    """
    if rng is None:
        return Prf(os.urandom(32))
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        if int(rng).bit_length() > 2048:
            raise ParameterError("an int for rng has up to 2048 bits")
        material = b"integer:" + str(int(rng)).encode()
    elif isinstance(rng, np.random.Generator):
        material = b"generator:" + rng.bytes(32)
    elif (torch := sys.modules.get("torch")) is not None and isinstance(rng, torch.Generator):
        words = torch.randint(-(2**63), 2**63 - 1, (4,), generator=rng, dtype=torch.int64, device=rng.device)
        material = b"generator:" + words.cpu().numpy().tobytes()
    else:
        raise ParameterError(
            f"rng must be None, an int, a numpy.random.Generator or a torch.Generator, not {type(rng).__name__}"
        )
    return Prf(hashlib.sha256(b"watermark/rng/1/" + material).digest())
