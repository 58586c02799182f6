"""A complete scheme in one file: the sign of each pair difference of a 1-D signal votes for a keyed sign.

The toy of docs/adding_a_scheme.md. It survives noise and gain, but no shift; the point is its exact p-value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark import Detection, FixedKey, MediaError, ParameterError, PayloadError, SchemeInfo
from watermark.scheme import MediaScheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watermark import Key


@dataclass(frozen=True, slots=True)
class SignalParameters:
    """Parameters of `signal.pairs`.

    Attributes:
        strength: Height of the mark as a share of the root mean square of the signal's pair differences.
    """

    strength: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 2:
            raise ParameterError(f"strength must be above 0 and at most 2, not {self.strength!r}")


class SignalMark(MediaScheme):
    """The mark `signal.pairs`: presence only, for finite float arrays of shape (n,) with 64 <= n <= 2**24."""

    info = SchemeInfo(
        name="signal.pairs",
        modality="signal",
        null="exact",
        fixed_key=FixedKey(1.0, 1.0, "signals whose pair differences have independent fair signs"),
        distortion_free=False,
        payload="presence only",
        security_bits=256,
    )
    Parameters = SignalParameters
    parameters: SignalParameters

    def _bind(self, key: Key) -> Any:
        return key.derive("signal.pairs/1/signs")

    def embed(self, media: NDArray[np.float64], payload: bytes | None = None) -> NDArray[np.float64]:
        """The marked signal."""
        if payload:
            raise PayloadError("signal.pairs marks presence only and carries no message")
        difference = self._observe(media)
        height = self.parameters.strength * math.sqrt(np.mean(difference**2))
        push = height / 2 * self._tables[0].signs(difference.size)
        marked = media.astype(np.float64)
        marked[0 : 2 * push.size : 2] -= push
        marked[1 : 2 * push.size : 2] += push
        return marked

    def _observe(self, media: Any) -> NDArray[np.float64]:
        """Differences within pairs, in which slow trends cancel. No key is needed."""
        if not isinstance(media, np.ndarray) or media.ndim != 1 or media.dtype.kind != "f":
            raise MediaError("a signal is a NumPy array of floats of shape (n,)")
        if not 64 <= media.size <= 1 << 24 or not np.isfinite(media).all():
            raise MediaError("a signal has 64 to 2**24 finite samples")
        pairs = media[: media.size // 2 * 2].astype(np.float64).reshape(-1, 2)
        return np.asarray(pairs[:, 1] - pairs[:, 0])

    def _test(self, tables: Any, observation: NDArray[np.float64], key_id: str) -> Detection:
        used = observation != 0  # chosen without the key, so it costs nothing
        count = int(used.sum())
        hits = int((np.sign(observation) == tables.signs(observation.size))[used].sum())
        floor = 2.0**-count
        return Detection(
            self.name, key_id, log10_binomial_tail(hits, count), hits / max(count, 1), count, details={"p_floor": floor}
        )


def log10_binomial_tail(hits: int, count: int) -> float:
    """log10 P(Bin(count, 1/2) >= hits): for any fixed signal the keyed signs are fair coins, so this is exact."""
    k = np.arange(hits, count + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    logs = log_factorial[count] - log_factorial[k] - log_factorial[count - k] - count * math.log(2)
    top = logs.max()
    return float(min(0.0, top + math.log(np.exp(logs - top).sum())) / math.log(10))
