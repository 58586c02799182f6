"""Secret keys: 32 bytes, a public id, sub-keys by HKDF, and a checksummed file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import stat
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, overload

from watermark._values import Immutable
from watermark.errors import InvalidKeyError, KeyFileWarning
from watermark.prf import Prf, hkdf

_FORMAT, _VERSION = "watermark-key", 1
_MAX_FILE_BYTES = 4096


class Key(Immutable):
    """A 256-bit secret from which every mark is made.

    Two keys are equal if their secrets are. The secret never shows in ``repr``; `to_bytes` is the way to read it. A
    pickle of the key contains it.
    """

    __slots__ = ("_secret", "id")

    _secret: bytes
    id: str
    """Public name of the key: ``wm-`` and 16 hexadecimal digits, derived from the secret by HKDF."""

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) != 32:
            raise InvalidKeyError("a key is made from exactly 32 secret bytes; Key.generate() draws them")
        self._set(_secret=secret)
        self._set(id="wm-" + self._expand("id", length=8).hex())

    @classmethod
    def generate(cls) -> Self:
        """A fresh key from the operating system's randomness."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def from_bytes(cls, secret: bytes | bytearray | memoryview) -> Self:
        """The key with these 32 secret bytes.

        Raises:
            InvalidKeyError: Not bytes, or not 32 of them.
        """
        if not isinstance(secret, (bytes, bytearray, memoryview)):
            raise InvalidKeyError(f"a key is made from bytes, not from {type(secret).__name__}")
        return cls(bytes(secret))

    def to_bytes(self) -> bytes:
        """The 32 secret bytes. Keep them out of logs."""
        return self._secret

    def child(self, name: str) -> Key:
        """An independent key for `name`, such as a user or a year. Nobody can go from a child to its parent.

        Raises:
            InvalidKeyError: `name` is no text.
        """
        return Key(self._expand("child", name))

    def derive(self, label: str) -> Prf:
        """The keyed random function of one purpose, such as ``"image.spectral/1/sync"``. Labels are independent."""
        return Prf(self._expand("derive", label))

    def _expand(self, *path: str, length: int = 32) -> bytes:
        try:
            info = "/".join(path).encode()
        except (TypeError, UnicodeEncodeError):
            raise InvalidKeyError(f"what is derived from a key is named by Unicode text, not {path[-1]!r}") from None
        return hkdf(self._secret, salt=b"watermark/1", info=info, length=length)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the key file: JSON, readable by its owner only (mode 0600), whole or not at all.

        Args:
            path: Where to write.
            overwrite: Replace an existing file. What was marked with a lost key cannot be detected any more.

        Raises:
            FileExistsError: The file exists and `overwrite` is False.
        """
        target = Path(path)
        fields = {
            "format": _FORMAT,
            "version": _VERSION,
            "id": self.id,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "secret": base64.b64encode(self._secret).decode(),
        }
        text = json.dumps({**fields, "checksum": _checksum(fields)}, indent=2) + "\n"
        if not overwrite:
            try:
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # claims the name
            except FileExistsError:
                raise FileExistsError(
                    f"{target} exists; a key that is overwritten is lost with all its marks"
                ) from None
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            if not overwrite:
                target.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a key file.

        Raises:
            InvalidKeyError: The file is no key file, is damaged, or was written by a newer version.
            OSError: The file cannot be read.

        Warns:
            KeyFileWarning: Others can read or write the file.
        """
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_MAX_FILE_BYTES + 1)
        key = cls._parse(content, os.fspath(path))
        if mode & 0o077:
            warnings.warn(
                f"{path} holds a secret and has mode {mode:04o}: run `chmod 600 {path}`", KeyFileWarning, stacklevel=2
            )
        return key

    @classmethod
    def _parse(cls, content: bytes, name: str) -> Self:
        if len(content) > _MAX_FILE_BYTES:
            raise InvalidKeyError(f"{name} is too large for a key file")
        # Errors are raised outside of `except`: a parser's error holds the text, and would stay attached as context.
        fields: Any = None
        with suppress(ValueError, RecursionError):
            fields = json.loads(content)
        if not isinstance(fields, dict) or fields.get("format") != _FORMAT:
            raise InvalidKeyError(f'{name} is no key file: it is no JSON with "format": "{_FORMAT}"')
        if fields.get("version") != _VERSION:
            raise InvalidKeyError(f"{name} was written by another version of the library: version 1 is known here")
        checksum = fields.pop("checksum", None)
        if not all(isinstance(v, (str, int)) for v in fields.values()) or checksum != _checksum(fields):
            raise InvalidKeyError(f"{name} is damaged: its checksum does not hold. Restore it from a backup.")
        secret = b""
        with suppress(KeyError, TypeError, ValueError):
            secret = base64.b64decode(fields["secret"], validate=True)
        if len(secret) != 32:
            raise InvalidKeyError(f"{name} holds no 32-byte secret")
        key = cls(secret)
        if fields.get("id") != key.id:
            raise InvalidKeyError(f"{name} names an id that its secret does not have")
        return key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._secret,)


class Keyring(Immutable, Sequence[Key]):
    """Several keys that go wherever one goes: the first marks, all detect, and p-values pay for their number.

    Rings of the same keys in the same order are equal.

    Raises:
        InvalidKeyError: No key, something that is no key, or one key twice.
    """

    __slots__ = ("_keys",)

    _keys: tuple[Key, ...]

    def __init__(self, keys: Iterable[Key]) -> None:
        if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
            raise InvalidKeyError(f"a Keyring takes a list of keys, not {type(keys).__name__}")
        self._set(_keys=tuple(keys))
        if not self._keys or not all(isinstance(key, Key) for key in self._keys):
            raise InvalidKeyError("a Keyring takes one or more Key objects")
        if len(set(self._keys)) != len(self._keys):
            raise InvalidKeyError("a Keyring takes each key once")

    @classmethod
    def of(cls, key: Key | Keyring) -> Keyring:
        """The ring itself, or a ring of one key.

        Raises:
            InvalidKeyError: Neither a key nor a ring.
        """
        if isinstance(key, Keyring):
            return key
        if isinstance(key, Key):
            return cls([key])
        raise InvalidKeyError(
            f"expected a Key or a Keyring, not {type(key).__name__}: Key.generate() or Key.load(path)"
        )

    @property
    def primary(self) -> Key:
        """The key that marks."""
        return self._keys[0]

    @overload
    def __getitem__(self, index: int) -> Key: ...
    @overload
    def __getitem__(self, index: slice) -> Keyring: ...
    def __getitem__(self, index: int | slice) -> Key | Keyring:
        return Keyring(self._keys[index]) if isinstance(index, slice) else self._keys[index]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyring) and self._keys == other._keys

    def __hash__(self) -> int:
        return hash(self._keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._keys,)

    def __repr__(self) -> str:
        return f"Keyring([{', '.join(map(repr, self._keys))}])"


def _checksum(fields: dict[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"watermark-key-file/1/" + text.encode()).hexdigest()[:32]
