"""What a scheme is, the table of schemes, and `load`."""

from __future__ import annotations

import dataclasses
import json
import operator
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from watermark._cache import cached_property
from watermark._values import Immutable
from watermark.detection import Detection, Detections, over_keys
from watermark.errors import MediaError, ParameterError, PayloadError
from watermark.key import Key, Keyring
from watermark.ops._native import core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_SCHEMES = {
    "image.spectral": "watermark.image.spectral:SpectralMark",
    "latent.gaussian_shading": "watermark.latent.gaussian_shading:GaussianShading",
    "latent.prc": "watermark.latent.prc:Prc",
    "latent.ring_id": "watermark.latent.ring_id:RingId",
    "latent.seal": "watermark.latent.seal:Seal",
    "latent.tree_ring": "watermark.latent.tree_ring:TreeRing",
    "llm.dipmark": "watermark.llm.unbiased:DipMark",
    "llm.exp": "watermark.llm.alignment:Exp",
    "llm.greenlist": "watermark.llm.greenlist:GreenList",
    "llm.gumbel": "watermark.llm.gumbel:Gumbel",
    "llm.its": "watermark.llm.alignment:Its",
    "llm.majormark": "watermark.llm.majormark:MajorMark",
    "llm.majormark_plus": "watermark.llm.majormark:MajorMarkPlus",
    "llm.mpac": "watermark.llm.mpac:Mpac",
    "llm.prc": "watermark.llm.prc:Prc",
    "llm.synthid": "watermark.llm.synthid:SynthId",
    "llm.unbiased": "watermark.llm.unbiased:Unbiased",
    "llm.unigram": "watermark.llm.greenlist:Unigram",
}
_ENTRY_POINTS = "watermark.schemes"
_PROFILE_FORMAT, _PROFILE_VERSION = "watermark-profile", 1
_MAX_PROFILE_CHARACTERS = 65_536
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class FixedKey:
    """How far one key's false-positive rate can lie above the nominal one, which holds on average over keys.

    Attributes:
        at_1e3: Factor that 99 % of keys stay under, at a nominal rate of 1e-3.
        at_1e6: The same at 1e-6.
        corpus: The media on which it was measured, and how.
    """

    at_1e3: float
    at_1e6: float
    corpus: str


@dataclass(frozen=True, slots=True)
class SchemeInfo:
    """One row of `watermark.schemes()`.

    Attributes:
        name: What `load` takes.
        modality: "image", "video", "text", "latent", "tokens" or "dataset".
        null: "exact", "bound" or "calibrated": what the p-value rests on.
        fixed_key: False-positive rate of a single key against the average over keys.
        distortion_free: Whether marked output has the same law as unmarked output, to one without the key.
        payload: Message sizes that the scheme carries.
        security_bits: Logarithm to base 2 of the best known attack on the secret.
    """

    name: str
    modality: str
    null: str
    fixed_key: FixedKey
    distortion_free: bool
    payload: str
    security_bits: int


class Scheme(Immutable, ABC):
    """A watermark: parameters and keys bound together, immutable and safe to use from many threads.

    Pickling a scheme, as worker processes need it, writes the secret into the bytes.
    """

    info: ClassVar[SchemeInfo]
    Parameters: ClassVar[type[Any]]
    """Frozen dataclass of the scheme's parameters; validates itself."""
    keyring: Keyring
    parameters: Any

    def __init__(self, key: Key | Keyring, parameters: Any = None) -> None:
        self._set(keyring=Keyring.of(key), parameters=self.Parameters() if parameters is None else parameters)

    @abstractmethod
    def _bind(self, key: Key) -> Any:
        """Secret tables of one key."""

    @property
    def name(self) -> str:
        """Name of the scheme."""
        return self.info.name

    @property
    def key(self) -> Key:
        """The key that marks."""
        return self.keyring.primary

    @cached_property
    def _tables(self) -> tuple[Any, ...]:
        return tuple(self._bind(key) for key in self.keyring)

    @abstractmethod
    def detect(self, media: Any) -> Detection:
        """The verdict on one item.

        Raises:
            MediaError: The item is not what the scheme reads.
        """

    @abstractmethod
    def detect_batch(self, items: Any) -> Detections:
        """The verdicts on many items, in their order.

        Raises:
            MediaError: `items` is one item instead of many, or an item is not what the scheme reads.
        """

    def profile(self) -> str:
        """The scheme and its parameters as versioned JSON, without the secret: what `load` needs beside the key."""
        return json.dumps(
            {
                "format": _PROFILE_FORMAT,
                "version": _PROFILE_VERSION,
                "scheme": self.name,
                "parameters": dataclasses.asdict(self.parameters),
                "key_id": self.key.id,
            },
            default=operator.index,  # NumPy's whole numbers
        )

    def __repr__(self) -> str:
        return f"<{self.name} {self.parameters} {self.keyring if len(self.keyring) > 1 else self.key}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.keyring, self.parameters)


class MediaScheme(Scheme):
    """A scheme for finished media: `embed` and `detect`.

    Detection has two steps, so that several keys share the work that needs none: `_observe` reads media without a key,
    `_test` holds one key's tables against what was seen.
    """

    @abstractmethod
    def _observe(self, media: Any) -> Any:
        """What the detector needs of the media, whatever the key. Raises MediaError."""

    @abstractmethod
    def _test(self, tables: Any, observation: Any, key_id: str) -> Detection:
        """The verdict of one key."""

    @abstractmethod
    def embed(self, media: Any, payload: bytes | None = None) -> Any:
        """The same item, marked; of the same type. Deterministic in key, item and payload.

        Args:
            media: One item.
            payload: The message; None leaves it empty.

        Raises:
            MediaError: The item is not what the scheme marks.
            PayloadError: The message does not fit.
        """

    def embed_batch(self, items: Iterable[Any], payload: bytes | Sequence[bytes | None] | None = None) -> list[Any]:
        """Marks many items, in their order, with one message or one per item. Uses `watermark.threads()` threads.

        Raises:
            MediaError: `items` is one item instead of many, or an item is not what the scheme marks.
            PayloadError: A message does not fit, or their number is not the number of items.
        """
        media = list(each(items))
        return _in_threads(lambda pair: self.embed(*pair), zip(media, per_row(payload, len(media)), strict=True))

    def detect(self, media: Any) -> Detection:
        """The verdict on one item.

        Raises:
            MediaError: The item is not what the scheme reads.
        """
        return self._over_keys(self._observe(media))

    def _over_keys(self, observation: Any) -> Detection:
        """The verdict of all keys on what was seen."""
        by_key = zip(self._tables, self.keyring, strict=True)
        return over_keys([Detections.of([self._test(tables, observation, key.id)]) for tables, key in by_key])[0]

    def detect_batch(self, items: Iterable[Any]) -> Detections:
        """The verdicts on many items, of mixed sizes, in their order. Uses `watermark.threads()` threads.

        Args:
            items: A sequence, iterator or generator of items (few of which are held at a time), or an array that
                stacks them.

        Raises:
            MediaError: `items` is one item instead of many, or an item is not what the scheme reads.
        """
        return Detections.of(_in_threads(self.detect, each(items)), self.name)


def each(items: Any) -> Iterator[Any]:
    """The items of a batch.

    Raises:
        MediaError: It is one item: an array of two or three dimensions, text, bytes, or nothing to iterate over.
    """
    if not isinstance(items, (str, bytes, bytearray, memoryview)) and getattr(items, "ndim", 1) not in (2, 3):
        with suppress(TypeError):
            return iter(items)
    raise MediaError(
        "a batch is a list or an iterator of items, or an array of more than three dimensions that stacks them, "
        f"not one {type(items).__name__}"
    )


def per_row(payload: bytes | Sequence[bytes | None] | None, rows: int) -> Sequence[bytes | None]:
    """One message per row, from one for all or one each.

    Raises:
        PayloadError: The number of messages is not the number of rows.
    """
    if payload is None:
        return [None] * rows
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return [bytes(payload)] * rows
    if not isinstance(payload, (list, tuple)) or len(payload) != rows:
        raise PayloadError(f"pass one message as bytes, or a list of {rows}, one per row")
    return payload


def _in_threads(function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """Maps in threads (kernels release the GIL), in order; takes no more items ahead than two per thread."""
    if (workers := core.threads()) == 1:
        return [function(item) for item in items]
    results: list[_Out] = []
    waiting: deque[Future[_Out]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == 2 * workers:
                results.append(waiting.popleft().result())
        return results + [future.result() for future in waiting]
    finally:
        pool.shutdown(cancel_futures=True)


def load(name: str, key: Key | Keyring, **parameters: Any) -> Any:
    """A scheme, ready to mark and to detect.

    Args:
        name: Name of a scheme (`schemes` lists them), or the text of a profile, whose key must be among those of `key`.
        key: A key, or a ring of keys of which the first marks and all detect.
        **parameters: The scheme's parameters, such as ``payload_bits=64``.

    Returns:
        The scheme.

    Raises:
        ParameterError: Unknown scheme or parameter, a value out of range, or a profile of another key.
        InvalidKeyError: `key` is no key.

    Example:
        >>> import watermark
        >>> image = watermark.load("image.spectral", watermark.Key.generate(), payload_bits=64)
        >>> image.parameters.payload_bits
        64
    """
    if not isinstance(name, str):
        raise ParameterError(f"a scheme is named by a string, not {type(name).__name__}")
    ring = Keyring.of(key)
    if name.lstrip().startswith("{"):
        name, stored, key_id = _read_profile(name)
        given = [k.id for k in ring]
        if key_id is not None and key_id not in given:
            raise ParameterError(f"the profile is for the key {key_id}, and {', '.join(given)} was given")
        parameters = {**stored, **parameters}
    scheme = _scheme_class(name)
    known = [f.name for f in dataclasses.fields(scheme.Parameters)]
    for parameter in parameters:
        if parameter not in known:
            raise ParameterError(f"{name} has no parameter '{parameter}'; it has {', '.join(known)}")
    return scheme(ring, scheme.Parameters(**parameters))


def schemes() -> list[SchemeInfo]:
    """What `load` can load, with the facts to choose by."""
    return [_scheme_class(name).info for name in sorted(_known())]


def _known() -> dict[str, str]:
    return {e.name: e.value for e in entry_points(group=_ENTRY_POINTS)} | _SCHEMES


def _scheme_class(name: str) -> type[Scheme]:
    location = _SCHEMES.get(name) or _known().get(name)
    if location is None:
        raise ParameterError(f"there is no scheme '{name}'; there are {', '.join(sorted(_known()))}")
    module, _, attribute = location.partition(":")
    found: type[Scheme] = getattr(import_module(module), attribute)
    return found


def _read_profile(text: str) -> tuple[str, dict[str, Any], object]:
    try:
        profile = json.loads(text) if len(text) <= _MAX_PROFILE_CHARACTERS else None
    except (ValueError, RecursionError):
        profile = None
    if not isinstance(profile, dict) or profile.get("format") != _PROFILE_FORMAT:
        raise ParameterError("this is no profile: pass what scheme.profile() returned")
    if profile.get("version") != _PROFILE_VERSION:
        raise ParameterError("the profile was written by another version of the library: version 1 is known here")
    name, parameters = profile.get("scheme"), profile.get("parameters")
    if not isinstance(name, str) or not isinstance(parameters, dict):
        raise ParameterError("the profile is incomplete: it needs a scheme and its parameters")
    # JSON has no tuples; parameters are hashable.
    return name, {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}, profile.get("key_id")
