"""From a message to bits and back: a self-describing frame, and a soft-decision code that carries it.

`payload_bits` counts net message bits everywhere. From 24 bits on, a frame comes on top: all messages of up to
``payload_bits // 8`` bytes are numbered, the shorter ones first, so that the length costs a single bit, and a CRC-16
follows. The version of the frame and a tag, which tells how the message was embedded, enter the CRC's start value
instead of the bits. Below 24 bits the message is an index below ``2**payload_bits`` and nothing is added: then only the
detector's p-value vouches for it.
"""

from __future__ import annotations

import binascii
import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.errors import ParameterError, PayloadError
from watermark.ops import polar

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMED_FROM = 24
_VERSION = 1
_CRC_BITS = 16
_CRC_START = 0xFFFF ^ _VERSION


@dataclass(frozen=True)
class Frame:
    """The bits that carry a message of up to `payload_bits` bits.

    Args:
        payload_bits: Net message bits, 0 to 4096. 0 carries presence only.
        tags: How many tags are in use, 1 to 256.
        checksum: Whether a CRC follows the message; without one, something else must vouch for it.

    Raises:
        ParameterError: `payload_bits` is out of range.
    """

    payload_bits: int
    tags: int = 1
    checksum: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "payload_bits", whole(self.payload_bits, "payload_bits", 0, 4096))

    @cached_property
    def framed(self) -> bool:
        """Whether length and checksum come on top (from 24 bits on)."""
        return self.payload_bits >= FRAMED_FROM

    @cached_property
    def max_bytes(self) -> int:
        """The longest message in bytes (of an index: the bytes that hold it)."""
        return self.payload_bits // 8 if self.framed else -(-self.payload_bits // 8)

    @cached_property
    def size(self) -> int:
        """Bits on the wire."""
        return 8 * self.max_bytes + 1 + self._crc_bits if self.framed else self.payload_bits

    @property
    def _crc_bits(self) -> int:
        return _CRC_BITS if self.checksum else 0

    @property
    def log_messages(self) -> float:
        """Natural logarithm of the number of frames that `decode` accepts."""
        return math.log(self.tags * self._first[-1]) if self.framed else self.payload_bits * math.log(2)

    @cached_property
    def _first(self) -> tuple[int, ...]:
        """Number of the first message of each length, and how many messages there are."""
        return tuple((256**length - 1) // 255 for length in range(self.max_bytes + 2))

    def encode(self, payload: bytes | None, tag: int = 0) -> NDArray[np.uint8]:
        """Bits of a message: uint8 of shape (size,), 0 or 1.

        Args:
            payload: The message; None stands for the empty one (an index of 0).
            tag: 0 to ``tags - 1``; lost below 24 bits.

        Raises:
            PayloadError: Not bytes, too long, or an index that is too large.
        """
        payload = b"" if payload is None else payload
        if not isinstance(payload, (bytes, bytearray, memoryview)):
            raise PayloadError(
                f"a payload is bytes, not {type(payload).__name__}: encode text first, as in 'id'.encode()"
            )
        message = bytes(payload)
        if self.framed:
            if len(message) > self.max_bytes:
                raise PayloadError(
                    f"the message has {len(message)} bytes and payload_bits={self.payload_bits} holds "
                    f"{self.max_bytes}: shorten it or load the scheme with payload_bits={8 * len(message)}"
                )
            number = self._first[len(message)] + int.from_bytes(message)
            number = number << _CRC_BITS | self._checksum(number, tag) if self.checksum else number
        else:
            number = int.from_bytes(message)
            if number >= 1 << self.payload_bits:
                raise PayloadError(
                    f"payload_bits={self.payload_bits} is an index: big-endian bytes below {1 << self.payload_bits}"
                )
        octets = np.frombuffer((number << -self.size % 8).to_bytes(-(-self.size // 8)), np.uint8)
        return np.unpackbits(octets, count=self.size)

    def decode(self, packed: bytes) -> bytes | None:
        """The message of packed bits (most significant first, zeros at the end), or None if no tag's checksum holds."""
        number = int.from_bytes(packed) >> -self.size % 8
        if not self.framed:
            return number.to_bytes(self.max_bytes)
        number, checksum = number >> self._crc_bits, number & (1 << self._crc_bits) - 1
        if number >= self._first[-1]:
            return None
        if self.checksum and all(checksum != self._checksum(number, tag) for tag in range(self.tags)):
            return None
        length = bisect_right(self._first, number) - 1
        return (number - self._first[length]).to_bytes(length)

    def _checksum(self, number: int, tag: int) -> int:
        return binascii.crc_hqx(number.to_bytes(self.max_bytes + 1), _CRC_START ^ tag << 8)


class SoftCode:
    """A polar code with list decoding (Tal and Vardy, IEEE Trans. Inf. Theory 2015) around a frame.

    Args:
        frame: What the code carries.
        symbols: Code length, a power of two, at least the frame's size.
        paths: Paths of the list decoder. One path is tried first, which settles clean media at a tenth of the cost.
        even: Every group of so many symbols (a power of two) has an even number of ones; 0 asks for nothing.
    """

    def __init__(self, frame: Frame, symbols: int, paths: int = 32, even: int = 0) -> None:
        if frame.size > symbols - (symbols // even if even else 0):
            raise ParameterError(f"payload_bits={frame.payload_bits} does not fit a code of {symbols} symbols")
        self.frame, self.symbols, self.paths, self.even = frame, symbols, paths, even

    @cached_property
    def information(self) -> NDArray[np.int32]:
        """Positions of the frame's bits among the code's inputs."""
        return _reliable_positions(self.symbols, self.frame.size, self.even)

    def encode(self, payload: bytes | None, tag: int = 0) -> NDArray[np.uint8]:
        """Code symbols of a message: uint8 of shape (symbols,), 0 or 1. Raises like `Frame.encode`."""
        inputs = np.zeros(self.symbols, np.uint8)
        inputs[self.information] = self.frame.encode(payload, tag)
        return polar.transform(inputs)

    def tag(self, payload: bytes, symbols: NDArray[np.uint8]) -> int | None:
        """The tag with which a message has these symbols; None below 24 bits."""
        bits = polar.transform(symbols)[self.information]  # the transform is its own inverse
        tags = range(self.frame.tags) if self.frame.framed else ()
        return next((tag for tag in tags if np.array_equal(self.frame.encode(payload, tag), bits)), None)

    def decode(self, soft: NDArray[np.float32]) -> tuple[bytes | None, NDArray[np.uint8]]:
        """The most likely message.

        Args:
            soft: float32 of shape (symbols,), any scale; positive where the symbol looks like 0.

        Returns:
            The first message on the list whose checksum holds (None if none does), and its code symbols (without one,
            those of the best path).
        """
        best: NDArray[np.uint8] | None = None
        for paths in (1, self.paths):
            packed, symbols = polar.decode(soft, self.information, paths)
            for candidate, word in zip(packed, symbols, strict=True):
                message = self.frame.decode(candidate.tobytes())
                if message is not None and (self.frame.framed or paths > 1):
                    return message, word
            best = symbols[0]
        assert best is not None
        return None, best


@lru_cache(maxsize=64)
def _reliable_positions(symbols: int, count: int, even: int) -> NDArray[np.int32]:
    """The `count` best inputs by polarisation weight (He et al. 2017): sum over set bits b of 2^(b/4). Ascending.

    The parity of group g is the sum of the inputs j * even over those j that have all bits of g: these stay 0.
    """
    index = np.arange(symbols)
    weight = sum(((index >> b) & 1) * 2 ** (b / 4) for b in range(symbols.bit_length() - 1))
    weight = np.where(index % even == 0, -1.0, weight) if even else weight
    chosen = np.sort(np.argsort(weight, kind="stable")[symbols - count :]).astype(np.int32)
    chosen.setflags(write=False)
    return chosen
