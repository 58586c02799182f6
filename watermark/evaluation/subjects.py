"""What is evaluated: anything that marks items and detects. Schemes of this library are wrapped to that form."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark import Detection, Key, Keyring
from watermark._cache import cached_property
from watermark.errors import ParameterError
from watermark.latent.noise import LatentScheme
from watermark.llm.engine import TextScheme
from watermark.payload import Frame
from watermark.reference import SyntheticLanguage
from watermark.scheme import MediaScheme, Scheme
from watermark.stats import LN10, log_binomial_tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ENTROPY, TOKENS = 4.0, 200
"""Nats per token of the texts that bare token schemes mark, and their length."""
KNOWN_MESSAGE = "known message"
"""The `Subject.null` of what reads bits and knows no p-value."""
_KNOWN_CODE = sys.stdlib_module_names | {"watermark"}


class Subject(ABC):
    """What the runner works with.

    Attributes:
        label: Its name in the results; no two subjects of a run share one.
        modality: "image", "text", "latent" or "tokens".
        source: What an item of the corpus is: "media" (files, or media in memory), "prompts", or "numbers", of media
            that are made up.
        null: What the p-value rests on: "exact", "bound" or "calibrated", as schemes say, "known message" or "claimed".
        payload_bits: Size of its messages in bits; None if it carries none.
        key_id: Public id of the key.
        fingerprint: What its results depend on, besides the media and the code.
    """

    label: str
    modality: str
    source: str = "media"
    null: str = "exact"
    payload_bits: int | None = None
    key_id: str | None = None
    fingerprint: str

    @abstractmethod
    def mark(self, item: Any, payload: bytes | None, rng: int) -> Any:
        """Marked media of an item."""

    def clean(self, item: Any, rng: int) -> Any:
        """The same without a mark."""
        return item

    @abstractmethod
    def detect(self, media: Any, item: Any, payload: bytes | None) -> Detection:
        """The verdict on media that are said to be made of an item, which only content-bound marks look at.

        `payload` is for those that have no p-value of their own.
        """

    changes_keys = True
    """Whether there is `fresh_keys`."""

    @abstractmethod
    def fresh_keys(self, media: Any, item: Any, keys: Sequence[Key]) -> Iterator[float]:
        """log10_p of the same test with other keys."""

    def message(self, rng: np.random.Generator) -> bytes | None:
        """A random message of full length."""
        if self.payload_bits is None:
            return None
        return random_message(self.payload_bits, rng)


def subject(thing: Any) -> Subject:
    """Anything that can be evaluated, as a `Subject`.

    Args:
        thing: A scheme of this library, or an object with ``mark(item, payload, rng)`` and ``detect_batch(media)``.
            It may also have ``clean(item, rng)`` and the attributes of `Subject`; ``known_message = True`` says that
            it reads bits and knows no p-value: then the bits are compared with the message that was drawn at random.

    Raises:
        ParameterError: It is neither.
    """
    if isinstance(thing, Subject):
        return thing
    if isinstance(thing, MediaScheme):
        return _Finished(thing)
    if isinstance(thing, LatentScheme):
        return _Latent(thing)
    if isinstance(thing, TextScheme):
        return _Tokens(thing)
    if callable(getattr(thing, "mark", None)) and callable(getattr(thing, "detect_batch", None)):
        return _Known(thing) if getattr(thing, "known_message", False) else _Given(thing)
    raise ParameterError(
        f"a {type(thing).__name__} cannot be evaluated: pass a scheme, or an object with mark(item, payload, rng) and "
        "detect_batch(media)"
    )


class _OfScheme(Subject):
    """A scheme of this library."""

    def __init__(self, scheme: Any) -> None:
        self.scheme = scheme
        self.label = scheme.name
        self.modality = scheme.info.modality
        self.null = scheme.info.null
        self.key_id = scheme.key.id
        self.payload_bits = getattr(scheme.parameters, "payload_bits", 0) or None
        ring = ",".join(key.id for key in scheme.keyring)
        self.fingerprint = f"{scheme.profile()} {ring}"

    def _with(self, key: Key) -> Any:
        """The same scheme with a fresh ring of as many keys."""
        ring = Keyring([key, *(key.child(str(number)) for number in range(1, len(self.scheme.keyring)))])
        return type(self.scheme)(ring, self.scheme.parameters)


class _Finished(_OfScheme):
    """A scheme for finished media."""

    scheme: MediaScheme

    def mark(self, item: Any, payload: bytes | None, rng: int) -> Any:
        return self.scheme.embed(item, payload)

    def detect(self, media: Any, item: Any, payload: bytes | None) -> Detection:
        return self.scheme.detect(media)

    def fresh_keys(self, media: Any, item: Any, keys: Sequence[Key]) -> Iterator[float]:
        if type(self.scheme).detect is not MediaScheme.detect:
            return (self._with(key).detect(media).log10_p for key in keys)
        seen = self.scheme._observe(media)  # what needs no key is done once
        return (self._with(key)._over_keys(seen).log10_p for key in keys)


class _Latent(_OfScheme):
    """Initial noise; what is bound to content gets a random vector per item."""

    scheme: LatentScheme
    source = "numbers"

    def mark(self, item: Any, payload: bytes | None, rng: int) -> Any:
        return self.scheme.sample(payload, rng=rng, **self._content(item))

    def clean(self, item: Any, rng: int) -> Any:
        return np.random.default_rng(rng).standard_normal(self.scheme.shape, np.float32)

    def detect(self, media: Any, item: Any, payload: bytes | None) -> Detection:
        return self.scheme.detect(media, **self._content(item))

    def fresh_keys(self, media: Any, item: Any, keys: Sequence[Key]) -> Iterator[float]:
        about = self._content(item)
        return (self._with(key).detect(media, **about).log10_p for key in keys)

    @cached_property
    def _bound(self) -> bool:
        return "content" in inspect.signature(self.scheme.sample).parameters

    def _content(self, item: Any) -> dict[str, Any]:
        if not self._bound:
            return {}
        return {"content": np.random.default_rng([int(item)]).standard_normal(self.scheme.parameters.dimension)}


class _Tokens(_OfScheme):
    """Token marks, in texts of a synthetic language whose tokens have `ENTROPY` nats each."""

    scheme: TextScheme
    source = "numbers"

    @cached_property
    def _language(self) -> SyntheticLanguage:
        size = self.scheme.parameters.vocab_size
        return SyntheticLanguage(size, min(ENTROPY, 0.9 * float(np.log(size))))

    def mark(self, item: Any, payload: bytes | None, rng: int) -> Any:
        return self._language.write(1, TOKENS, self.scheme, [payload], seed=rng)[0]

    def clean(self, item: Any, rng: int) -> Any:
        return self._language.write(1, TOKENS, seed=rng)[0]

    def detect(self, media: Any, item: Any, payload: bytes | None) -> Detection:
        return self.scheme.detect(media)

    def fresh_keys(self, media: Any, item: Any, keys: Sequence[Key]) -> Iterator[float]:
        return (self._with(key).detect(media).log10_p for key in keys)


class _Given(Subject):
    """An object of the user's."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing
        kind = type(thing)
        bound = getattr(thing, "scheme", None)
        self.scheme = scheme = bound if isinstance(bound, Scheme) else None
        self.label = str(getattr(thing, "label", None) or getattr(scheme or thing, "name", kind.__name__))
        self.modality = str(getattr(thing, "modality", "image"))
        self.source = str(getattr(thing, "source", "media"))
        if scheme is not None:
            self.null, self.key_id = scheme.info.null, scheme.key.id
        else:
            self.null = str(getattr(thing, "null", "claimed"))
        bits = getattr(thing, "payload_bits", None if scheme is None else getattr(scheme.parameters, "payload_bits", 0))
        self.payload_bits = int(bits) if bits else None
        self.fingerprint = f"{self.label} {self.payload_bits} {identity(thing)}"
        if self.source != "media" and not callable(getattr(thing, "clean", None)):
            raise ParameterError(f"{self.label} makes media from {self.source}: it also needs clean(item, rng)")

    def mark(self, item: Any, payload: bytes | None, rng: int) -> Any:
        return self._thing.mark(item, payload, rng)

    def clean(self, item: Any, rng: int) -> Any:
        return self._thing.clean(item, rng) if hasattr(self._thing, "clean") else item

    def detect(self, media: Any, item: Any, payload: bytes | None) -> Detection:
        found: Detection = self._thing.detect_batch([media])[0]
        return found

    @property
    def changes_keys(self) -> bool:  # type: ignore[override]
        return callable(getattr(self._thing, "with_key", None))

    def fresh_keys(self, media: Any, item: Any, keys: Sequence[Key]) -> Iterator[float]:
        return (self._thing.with_key(key).detect_batch([media])[0].log10_p for key in keys)


class _Known(_Given):
    """One that reads bits, which are compared with a message that was drawn at random.

    Over that draw the number of bits that agree is binomial, whatever was read.
    """

    changes_keys = True

    def __init__(self, thing: Any) -> None:
        super().__init__(thing)
        self.null = KNOWN_MESSAGE
        if self.payload_bits is None:
            raise ParameterError(f"{self.label} has a known message and no payload_bits")

    def detect(self, media: Any, item: Any, payload: bytes | None) -> Detection:
        return self._compare(super().detect(media, item, payload).payload, payload)

    def fresh_keys(self, media: Any, item: Any, keys: Sequence[Key]) -> Iterator[float]:
        # There is no key: the message is what is random.
        read = super().detect(media, item, None).payload
        messages = (self.message(np.random.default_rng(int.from_bytes(key.to_bytes()))) for key in keys)
        return (self._compare(read, message).log10_p for message in messages)

    def _compare(self, read: bytes | None, payload: bytes | None) -> Detection:
        size = self.payload_bits or 0
        if read is None or payload is None:
            return Detection(self.label, "", 0.0, 0.0, size)
        agree = size - (int.from_bytes(read) ^ int.from_bytes(payload)).bit_count()
        log10_p = min(0.0, log_binomial_tail(agree, size, 0.5) / LN10)
        return Detection(self.label, "", log10_p, agree, size, read, read == payload)


def random_message(bits: int, rng: np.random.Generator) -> bytes:
    """A message that fills `payload_bits`."""
    frame = Frame(bits)
    length = frame.max_bytes
    value = int.from_bytes(rng.bytes(length)) >> (0 if frame.framed else 8 * length - bits)
    return value.to_bytes(length)


def identity(thing: Any) -> str:
    """SHA-256 of what tells an object from others: its ``fingerprint``, or its class, the code of that, and attributes.

    Attributes that are objects count by their ``fingerprint``, or by their class alone: weights of models are not read.
    """
    return hashlib.sha256(repr([_told(thing), _attributes(thing)]).encode("utf-8", "surrogatepass")).hexdigest()


def _attributes(thing: Any) -> list[Any]:
    if hasattr(thing, "fingerprint") or isinstance(thing, Scheme):
        return []
    return [(name, _told(value)) for name, value in sorted(getattr(thing, "__dict__", {}).items())]


def _told(value: Any) -> Any:
    """The same in every process."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, Scheme):
        return value.profile(), [key.id for key in value.keyring]
    if isinstance(value, (Key, Keyring)):
        return [key.id for key in Keyring.of(value)]
    if isinstance(value, Mapping):
        return sorted((repr(_told(name)), _told(each)) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return [_told(each) for each in value]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.shape, str(value.dtype), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if hasattr(value, "fingerprint"):
        return str(value.fingerprint)
    kind = value if inspect.isroutine(value) or isinstance(value, type) else type(value)
    name = f"{kind.__module__}.{getattr(kind, '__qualname__', '')}"
    return name, [_code(base) for base in getattr(kind, "__mro__", (kind,))]


@cache
def _code(defined: Any) -> str:
    """Source code of a class or function that is not this library's, whose code counts as a whole."""
    if str(defined.__module__).partition(".")[0] in _KNOWN_CODE:
        return ""
    try:
        return inspect.getsource(defined)
    except (OSError, TypeError):  # written at a prompt, or compiled
        return ""


def labelled(things: Iterable[Any] | Any) -> list[Subject]:
    """Subjects with different labels: the second of a name says in what it differs, or gets a number.

    Raises:
        ParameterError: There are none, something cannot be evaluated, their modalities differ, or two objects cannot be
            told apart.
    """
    listed = list(things) if isinstance(things, (list, tuple)) else [things]
    found = [subject(thing) for thing in listed]
    if not found:
        raise ParameterError("pass one or more schemes to evaluate")
    if len({(one.modality, one.source) for one in found}) > 1:
        kinds = ", ".join(sorted({f"{one.modality} from {one.source}" for one in found}))
        raise ParameterError(f"one evaluation has one kind of media, not {kinds}")
    made = [one.fingerprint for one in found if isinstance(one, _Given)]
    if len(set(made)) < len(made):
        raise ParameterError("two of the objects that mark cannot be told apart: give each a fingerprint of its own")
    named: dict[str, list[Subject]] = {}
    for one in found:
        named.setdefault(one.label, []).append(one)
    for name, (first, *others) in named.items():
        taken = {""}
        for number, one in enumerate(others, 2):
            told = _difference(one, first)
            one.label = f"{name} ({number if told in taken else told})"
            taken.add(told)
    return found


def _difference(one: Subject, first: Subject) -> str:
    """The parameters of two schemes of one name that are not the same."""
    if not isinstance(one, _OfScheme) or not isinstance(first, _OfScheme):
        return ""
    usual = dataclasses.asdict(first.scheme.parameters)
    return ", ".join(
        f"{name}={value}" for name, value in dataclasses.asdict(one.scheme.parameters).items() if value != usual[name]
    )
