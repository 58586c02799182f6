"""What the functions of tokens are keyed with: words derived from a `Key`, or the numbers of another serving engine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from watermark._values import whole
from watermark.errors import InvalidKeyError, ParameterError
from watermark.key import Key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class EngineKey(Key):
    """The key of another serving engine: whole numbers that are used as they are, where those of a `Key` are derived.

    It goes wherever a key goes, so that marks of that engine can be read and written. It is as strong as the engine's.

    Args:
        numbers: One or more whole numbers from -2^63 to 2^64 - 1.

    Raises:
        InvalidKeyError: No numbers, or numbers out of range.
    """

    __slots__ = ("numbers",)

    numbers: tuple[int, ...]

    def __init__(self, numbers: Iterable[int]) -> None:
        try:
            given = tuple(whole(number, "a key's number", -(2**63), 2**64 - 1) for number in numbers)
        except (TypeError, ParameterError):
            given = ()
        if not given:
            raise InvalidKeyError("an EngineKey is made from whole numbers from -2^63 to 2^64 - 1")
        octets = b"".join(number.to_bytes(9, "little", signed=True) for number in given)
        super().__init__(hashlib.sha256(b"watermark/engine-key/1/" + octets).digest())
        self._set(numbers=given)

    def to_bytes(self) -> NoReturn:
        """There are no 32 secret bytes.

        Raises:
            InvalidKeyError: Always.
        """
        raise InvalidKeyError("the key of another engine has no 32 secret bytes: keep that engine's configuration")

    def save(self, *_: Any, **__: Any) -> NoReturn:
        """Such a key has no key file.

        Raises:
            InvalidKeyError: Always.
        """
        raise InvalidKeyError("the key of another engine has no key file: keep that engine's configuration")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.numbers,)


def function_key(key: Key, label: str) -> NDArray[np.uint32]:
    """Key of a function of tokens: uint32 of shape (8,), little endian.

    A `Key` is expanded by HKDF for the label; an `EngineKey` gives its number, 64 bits.

    Raises:
        InvalidKeyError: An `EngineKey` of several numbers.
    """
    if not isinstance(key, EngineKey):
        return key.derive(label).words(8)
    if len(key.numbers) > 1:
        raise InvalidKeyError(f"this scheme has a key of one number, and the engine's has {len(key.numbers)}")
    words = np.zeros(4, "<u8")
    words[0] = key.numbers[0] % 2**64
    return words.view("<u4").astype(np.uint32)
