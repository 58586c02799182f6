"""Verdicts: `Detection` for one item, `Detections` for a batch, and `combine` for several looks at one item."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from watermark._values import FrozenDict, Immutable, read_only
from watermark.errors import ParameterError, ThresholdError
from watermark.stats import LN10, log_fisher, log_sidak

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_LOG10_P_OF_PAYLOAD = -16 * math.log10(2)
"""A payload is vouched for (`Detection.payload_ok`) only if its checksum holds and p <= 2^-16: so a false one is as
rare as that, however many candidates a list decoder, a search or a ring of keys has tried."""


@dataclass(frozen=True)
class Detection:
    """What a detector has to say about one item. Equality compares the scalar fields.

    Attributes:
        scheme: Name of the scheme, such as ``"image.spectral"``.
        key_id: Public id of the key that fits best.
        log10_p: Decimal logarithm of the p-value, finite and at most 0, also where `p_value` underflows to 0.
        score: Evidence in the scheme's own unit; grows with evidence.
        n: Number of independent units that were scored.
        payload: The message, or None if none was read.
        payload_ok: Whether the message's checksum holds and the p-value vouches for it: wrong at most once in 2^16
            unmarked items.
        details: Arrays and figures of the scheme; not compared.

    Raises:
        ParameterError: `log10_p` is no logarithm of a probability.
    """

    scheme: str
    key_id: str
    log10_p: float
    score: float
    n: int
    payload: bytes | None = None
    payload_ok: bool = False
    details: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.log10_p, (int, float, np.floating)) or not -math.inf < self.log10_p <= 0:
            raise ParameterError(f"log10_p is the finite logarithm of a probability, not {self.log10_p!r}")
        object.__setattr__(self, "log10_p", float(self.log10_p))
        if not isinstance(self.details, FrozenDict):
            object.__setattr__(self, "details", FrozenDict(self.details))

    @property
    def p_value(self) -> float:
        """Probability, over a random key, of evidence this strong in media that was made without the key."""
        return float(10.0**self.log10_p)

    def detected(self, fpr: float = 1e-6) -> bool:
        """Whether the mark is there, at false-positive rate `fpr`. The only place where a threshold exists.

        Raises:
            ThresholdError: `fpr` is no probability in (0, 1), or below the smallest p-value that this test can give
                (``details["p_floor"]``).
        """
        return self.log10_p <= _threshold(fpr, self.details.get("p_floor", 0.0))

    def to_dict(self) -> dict[str, Any]:
        """Versioned JSON-ready form; the payload in hexadecimal, of the details only plain scalars."""
        return {
            "version": 1,
            "scheme": self.scheme,
            "key_id": self.key_id,
            "p_value": self.p_value,
            "log10_p": self.log10_p,
            "score": self.score,
            "n": self.n,
            "payload": None if self.payload is None else self.payload.hex(),
            "payload_ok": self.payload_ok,
            "details": {k: v for k, v in self.details.items() if isinstance(v, (str, int, float, bool))},
        }


class Detections(Immutable, Sequence[Detection]):
    """Verdicts of a batch as columns; an item is built when it is asked for. Immutable; arrays are read-only views.

    Of latents in GPU memory the numeric columns, and what `detected` says, are torch tensors there. A verdict needs the
    host all the same, which decodes messages: the columns are copied to the device when all are known, and items,
    equality and pickles use the host's own.

    Args:
        scheme: Name of the scheme.
        key_id: One id per item.
        log10_p: float64 of shape (rows,).
        score: float64 of shape (rows,).
        n: int64 of shape (rows,).
        payload: One message or None per item.
        payload_ok: bool of shape (rows,).
        details: One mapping per item.
    """

    __slots__ = ("_details", "_host", "key_id", "log10_p", "n", "payload", "payload_ok", "scheme", "score")

    scheme: str
    key_id: tuple[str, ...]
    log10_p: NDArray[np.float64] | Any
    score: NDArray[np.float64] | Any
    n: NDArray[np.int64] | Any
    payload: tuple[bytes | None, ...]
    payload_ok: NDArray[np.bool_] | Any
    _host: Detections | None
    _details: tuple[Mapping[str, Any], ...]

    def __init__(
        self,
        scheme: str,
        key_id: Sequence[str],
        log10_p: Sequence[float] | NDArray[np.float64],
        score: Sequence[float] | NDArray[np.float64],
        n: Sequence[int] | NDArray[np.int64],
        payload: Sequence[bytes | None],
        payload_ok: Sequence[bool] | NDArray[np.bool_],
        details: Sequence[Mapping[str, Any]],
    ) -> None:
        self._set(
            scheme=scheme,
            key_id=tuple(key_id),
            log10_p=read_only(np.asarray(log10_p, np.float64)),
            score=read_only(np.asarray(score, np.float64)),
            n=read_only(np.asarray(n, np.int64)),
            payload=tuple(payload),
            payload_ok=read_only(np.asarray(payload_ok, np.bool_)),
            _details=tuple(details),
            _host=None,  # of verdicts on a device: the same in NumPy
        )

    @classmethod
    def of(cls, items: Iterable[Detection], scheme: str = "") -> Detections:
        """The batch of these verdicts."""
        rows = tuple(items)
        return cls(
            rows[0].scheme if rows else scheme,
            [d.key_id for d in rows],
            [d.log10_p for d in rows],
            [d.score for d in rows],
            [d.n for d in rows],
            [d.payload for d in rows],
            [d.payload_ok for d in rows],
            [d.details for d in rows],
        )

    def to(self, device: Any) -> Detections:
        """The same verdicts with their numeric columns as torch tensors on a device."""
        import torch

        host, moved = self._on_host, copy.copy(self)
        columns = {name: getattr(host, name) for name in ("log10_p", "score", "n", "payload_ok")}
        moved._set(**{name: torch.from_numpy(column.copy()).to(device) for name, column in columns.items()}, _host=host)
        return moved

    @property
    def _on_host(self) -> Detections:
        return self if self._host is None else self._host

    @property
    def p_value(self) -> NDArray[np.float64] | Any:
        """p-values: float64 of shape (rows,)."""
        with np.errstate(under="ignore"):
            return 10.0**self.log10_p

    def detected(self, fpr: float = 1e-6) -> NDArray[np.bool_] | Any:
        """`Detection.detected` of every item: bool of shape (rows,).

        Raises:
            ThresholdError: As `Detection.detected`, for any of them.
        """
        return self.log10_p <= _threshold(fpr, max((d.get("p_floor", 0.0) for d in self._details), default=0.0))

    def __len__(self) -> int:
        return len(self.payload)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> Detections: ...
    def __getitem__(self, index: int | slice) -> Detection | Detections:
        host = self._on_host
        if isinstance(index, slice):
            part = Detections(
                self.scheme,
                self.key_id[index],
                host.log10_p[index],
                host.score[index],
                host.n[index],
                self.payload[index],
                host.payload_ok[index],
                self._details[index],
            )
            return part if host is self else part.to(self.log10_p.device)
        return Detection(
            self.scheme,
            self.key_id[index],
            float(host.log10_p[index]),
            float(host.score[index]),
            int(host.n[index]),
            self.payload[index],
            bool(host.payload_ok[index]),
            self._details[index],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Detections) and len(self) == len(other) and all(map(Detection.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        host = self._on_host
        columns = host.key_id, host.log10_p, host.score, host.n, host.payload, host.payload_ok, host._details
        return type(self), (self.scheme, *columns)

    def __repr__(self) -> str:
        return f"<{len(self)} detections by {self.scheme}>"


def strongest(detections: Sequence[Detection]) -> Detection:
    """The smallest p-value, a read payload before an unread one: what several looks together report."""
    return min(detections, key=lambda d: (d.log10_p, not d.payload_ok))


def over_keys(by_key: Sequence[Detections]) -> Detections:
    """Items tested with several independent keys: the best verdict of each, its p-value paid for (Sidak, exact).

    Args:
        by_key: The verdicts of each key on the same items.
    """
    keys = len(by_key)
    if keys == 1:
        return by_key[0]
    log10_p, read = np.stack([found.log10_p for found in by_key]), np.stack([found.payload_ok for found in by_key])
    winners = list(enumerate(np.lexsort((~read, log10_p), axis=0)[0].tolist()))

    def won(column: str) -> list[Any]:
        return [getattr(by_key[key], column)[row] for row, key in winners]

    def pay(log_p: Sequence[float]) -> float:
        return log_sidak(min(log_p), keys)

    paid = np.array([pay([p * LN10]) / LN10 for p in won("log10_p")], np.float64)
    details = zip(won("_details"), zip(*(found._details for found in by_key), strict=True), strict=True)
    return Detections(
        by_key[0].scheme,
        won("key_id"),
        paid,
        won("score"),
        won("n"),
        won("payload"),
        np.array(won("payload_ok"), np.bool_) & (paid <= MAX_LOG10_P_OF_PAYLOAD),
        [{**_joint(best, each, pay), "keys_tried": keys} for best, each in details],
    )


def combine(detections: Iterable[Detection], *, independent: bool = False) -> Detection:
    """Joins several verdicts on one item (schemes, crops, segments) into one.

    Args:
        detections: One or more verdicts.
        independent: Whether their p-values are independent if there is no mark, as those of different keys or schemes
            are. Looks at one item with one key are not. False pays with Bonferroni's factor; True joins the evidence
            (Fisher's method).

    Returns:
        A verdict with the key, score and details of the strongest, and the sum of units. Its message is the one that
        the strongest verdict of the same key vouches for after paying for the number of verdicts.

    Raises:
        ParameterError: Nothing to combine, or something that is no Detection.
    """
    items = list(detections) if isinstance(detections, Iterable) else []
    if not items or not all(isinstance(d, Detection) for d in items):
        raise ParameterError("combine takes a list of one or more Detection objects")
    rule = log_fisher if independent else _log_bonferroni
    best, log10_p = strongest(items), rule([d.log10_p * LN10 for d in items]) / LN10
    limit = MAX_LOG10_P_OF_PAYLOAD - math.log10(len(items))
    readers = [d for d in items if d.payload_ok and d.key_id == best.key_id and d.log10_p <= limit]
    return replace(
        best,
        scheme=" + ".join(dict.fromkeys(d.scheme for d in items)),
        log10_p=log10_p,
        n=sum(d.n for d in items),
        payload=strongest(readers).payload if readers else best.payload,
        payload_ok=bool(readers) and log10_p <= MAX_LOG10_P_OF_PAYLOAD,
        details={**_joint(best.details, [d.details for d in items], rule), "combined": len(items)},
    )


def _log_bonferroni(log_p: Sequence[float]) -> float:
    return min(0.0, min(log_p) + math.log(len(log_p)))


def _joint(
    best: Mapping[str, Any], every: Sequence[Mapping[str, Any]], rule: Callable[[list[float]], float]
) -> dict[str, Any]:
    """Details of the strongest of several verdicts, with the joint floor where each has one."""
    details = {name: value for name, value in best.items() if name != "p_floor"}
    if all(floors := [figures.get("p_floor", 0.0) for figures in every]):
        details["p_floor"] = math.exp(rule([math.log(floor) for floor in floors]))
    return details


def _threshold(fpr: float, floor: float) -> float:
    """The log10_p up to which a mark is there.

    Raises:
        ThresholdError: `fpr` is no probability in (0, 1), or below the floor.
    """
    if not isinstance(fpr, (float, np.floating)) or not 0 < fpr < 1:
        raise ThresholdError(f"fpr is a probability between 0 and 1, such as 1e-6, not {fpr!r}")
    if fpr < floor:
        raise ThresholdError(f"this test cannot go below p = {floor:.3g}: ask for a larger fpr, or use a longer mark")
    return math.log10(fpr)
