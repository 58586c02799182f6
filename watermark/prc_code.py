"""The keyed code of `latent.prc` and `llm.prc`: a sparse graph of parity checks, how to encode and how to decode.

Coordinates come in three parts: information bits; a staircase of outer parities, each the sum of twelve information
bits and the parity before (a high-rate code that repairs what the inner one leaves open); and inner coordinates, each
the sum of t - 1 earlier ones. Earlier rows are drawn more often, row floor(i u^2) for a uniform u, which gives few hubs
and many leaves: belief propagation then works close to capacity. The key shuffles this order over a latent. A text
keeps it, so that its first tokens make a shorter code.

Information bits are fresh random bits, and tag and message encrypted under them.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from watermark._cache import cached_property
from watermark.errors import ParameterError
from watermark.ops import parity
from watermark.ops._native import is_cuda, to_device, to_host
from watermark.ops.normal import unpack_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watermark.key import Key
    from watermark.prf import Prf

FLIPPED = 1 / 600
"""Rate eta of the code bits that are flipped at random: an attacker's exact joins break, the decoder hardly notices."""
_PASSES, _PATIENCE = 100, 4
_OUTER_WEIGHT = 3  # outer parities per information bit
_SIGMAS = 2.5  # the noise for which the decoder is made moves the syndrome test by so many standard deviations
_SCRATCH = 1 << 28  # messages of latents that are decoded together, at most
_TOP = 2047  # weight of the top level


@dataclass(frozen=True)
class Reader:
    """What reading needs beside the graph: tables by magnitude, for one assumed noise level. No secret in it.

    Args:
        checks: Number of inner checks.
        degree: Coordinates of a check, t.

    The bias of a coordinate of size x in z' = sqrt(1 - s^2) z + s eps is erf(x sqrt(1 - s^2) / (s sqrt 2)); a check
    weighs atanh of the product of its biases. Too high a noise level costs next to nothing, so one serves all.
    """

    checks: int
    degree: int

    @cached_property
    def noise(self) -> float:
        """The assumed level s: E bias^2 = m = 2/pi asin(1 - s^2), and checks m^t = `_SIGMAS`^2."""
        mean_square = min(0.9, (_SIGMAS**2 / self.checks) ** (1 / self.degree))
        return math.sqrt(1 - math.sin(math.pi / 2 * mean_square))

    @cached_property
    def _bias(self) -> NDArray[np.float64]:
        slope = math.sqrt(1 - self.noise**2) / self.noise / math.sqrt(2)
        sizes = (np.arange(parity.MAGNITUDES) + 0.5) / 64
        return np.array([(1 - 2 * FLIPPED) * math.erf(size * slope) for size in sizes])

    @cached_property
    def odds(self) -> NDArray[np.float32]:
        """Table of `watermark.ops.parity.beliefs`."""
        return (2 * np.arctanh(self._bias)).astype(np.float32)

    @cached_property
    def weights(self) -> NDArray[np.uint16]:
        """Table of `watermark.ops.parity.syndrome`: -64 ln(bias)."""
        return np.round(-64 * np.log(self._bias)).astype(np.uint16)

    @cached_property
    def values(self) -> NDArray[np.int32]:
        """Weights of the levels: 0, then whole numbers in about even ratios up to `_TOP`."""
        values = np.round(_TOP ** (np.arange(parity.LEVELS) / (parity.LEVELS - 1))).astype(np.int32)
        values[0] = 0
        for i in range(1, values.size):
            values[i] = max(values[i], values[i - 1] + 1)
        return values

    @cached_property
    def levels(self) -> NDArray[np.uint8]:
        """Level of a sum of weights: the nearest by ratio; the top one where all coordinates have three sigma."""
        top = math.atanh(min(math.exp(-self.degree * float(self.weights[3 * 64]) / 64), 0.99))
        sums = np.arange(self.degree * int(self.weights.max()) + 1)
        weight = np.arctanh(np.minimum(np.exp(-sums / 64), 1 - 1e-9)) / top * _TOP
        bounds = np.sqrt(self.values[1:] * np.maximum(self.values[:-1], 0.25))
        return np.searchsorted(bounds, weight).astype(np.uint8)


class _Tables(NamedTuple):
    """Arguments of `watermark.ops.parity`, and the positions of the information bits."""

    pad: Any
    checks: Any
    weights: Any
    levels: Any
    values: Any
    odds: Any
    outer: Any
    inner: Any
    order: Any


class Envelope:
    """How a message becomes information bits, uniform and never the same, and how its tag proves it.

    Args:
        key: Holds the secrets of cipher and tag.
        label: What they are derived for.
        fresh: Fresh random bits that come first.
        tag: Bits of the tag, a multiple of 8 up to 256.
    """

    def __init__(self, key: Key, label: str, fresh: int, tag: int) -> None:
        self._cipher, self._mac = key.derive(f"{label}/cipher"), key.derive(f"{label}/tag")
        self.fresh, self.tag = fresh, tag

    def seal(self, fresh: NDArray[np.uint8], message: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Fresh bits, encrypted tag and encrypted message."""
        plain = np.concatenate([self._tag_of(fresh, message), message])
        return np.concatenate([fresh, plain ^ self._stream(fresh, plain.size)])

    def unseal(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """The message bits, if the tag is theirs."""
        fresh, sealed = np.split(bits, [self.fresh])
        tag, message = np.split(sealed ^ self._stream(fresh, sealed.size), [self.tag])
        return message if hmac.compare_digest(tag.tobytes(), self._tag_of(fresh, message).tobytes()) else None

    def _stream(self, fresh: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
        return self._cipher.child(np.packbits(fresh).tobytes()).bits(count)

    def _tag_of(self, fresh: NDArray[np.uint8], message: NDArray[np.uint8]) -> NDArray[np.uint8]:
        digest = self._mac.child(np.packbits(fresh).tobytes() + np.packbits(message).tobytes())
        return unpack_bits(digest.key_words, self.tag)


class Code:
    """A code over n coordinates.

    Args:
        prf: Its secret.
        coordinates: Code length n.
        information: Number of information bits k.
        degree: Coordinates of an inner check, t.
        shuffled: Whether coordinates lie in an order of the key, instead of their own.
    """

    def __init__(self, prf: Prf, coordinates: int, information: int, degree: int, *, shuffled: bool = True) -> None:
        self.coordinates, self.information, self.degree = coordinates, information, degree
        self._on_devices: dict[Any, _Tables] = {}
        self.base = base_size(information)
        if 2 * self.base > coordinates:
            raise ParameterError(f"{information} bits need {2 * self.base} coordinates, and there are {coordinates}")
        self._order = (prf.permutation(coordinates) if shuffled else np.arange(coordinates)).astype(np.int32)
        self.pad = prf.words(-(-coordinates // 32), stream=1)
        self.outer = self._outer_checks(prf)
        self.inner = self._inner_checks(prf)

    def _outer_checks(self, prf: Prf) -> NDArray[np.int32]:
        """Every information bit in three checks, every parity in two: positions, or `coordinates` for none."""
        k, checks = self.information, self.base - self.information
        dealt = -(-k // checks)
        members: NDArray[np.int32] = np.full((checks, _OUTER_WEIGHT * dealt + 2), self.coordinates, np.int32)
        for i in range(_OUTER_WEIGHT):
            hand = np.full(checks * dealt, self.coordinates, np.int32)
            hand[:k] = self._order[:k][prf.permutation(k, stream=2 + i)]
            cards = hand.reshape(dealt, checks).T
            seen = (cards[:, :, None] == members[:, None, : i * dealt]).any(axis=2)
            members[:, i * dealt : (i + 1) * dealt] = np.where(seen, self.coordinates, cards)
        members[:, -1] = self._order[k : self.base]
        members[1:, -2] = members[:-1, -1]
        return members

    def _inner_checks(self, prf: Prf) -> NDArray[np.int32]:
        """Checks of which no two share more than t/2 coordinates, so that no sum of two is lighter than a check.

        No coordinate repeats another one or is always zero (a weak key: 64 random code words would show it).
        """
        rows = np.arange(self.base, self.coordinates)
        checks = np.empty((rows.size, self.degree), np.int32)
        checks[:, -1] = rows
        redraw = np.arange(rows.size)
        for attempt in range(1000):
            u = prf.uniform(redraw.size * (self.degree - 1), stream=16 + attempt).reshape(redraw.size, -1)
            checks[redraw, :-1] = (u * u * rows[redraw, None]).astype(np.int32)
            redraw = _too_close(checks)
            if not redraw.size:
                placed = self._order[checks]
                planes = prf.words(16 * self.information, stream=8).view(np.uint8).reshape(self.information, 64)
                columns = self._extended(planes[:, :8].T, placed).T[self._order].copy().view(np.uint64)[:, 0]
                redraw = np.flatnonzero((_repeats(columns) | (columns == 0))[self.base :])
                if not redraw.size:
                    return placed
        raise ParameterError(f"{self.coordinates} coordinates are too few for checks of {self.degree}")

    def _extended(self, planes: NDArray[np.uint8], inner: NDArray[np.int32]) -> NDArray[np.uint8]:
        words = np.zeros((len(planes), self.coordinates + 1), np.uint8)  # the last column stands for no coordinate
        words[:, self._order[: self.information]] = planes
        parity.extend_code(self.outer, words)
        parity.extend_code(inner, words)
        return words

    @property
    def reader(self) -> Reader:
        """Tables for reading."""
        return _reader(len(self.inner), self.degree)

    def _tables(self, z: Any) -> _Tables:
        """What reading needs, where z lies; copies on devices are kept."""
        if not is_cuda(z):
            return self._host_tables
        found = self._on_devices.get(z.device)
        if found is None:
            found = _Tables(*(to_device(table, z) for table in self._host_tables))
        return self._on_devices.setdefault(z.device, found)

    @cached_property
    def _host_tables(self) -> _Tables:
        reader = self.reader
        apart = np.concatenate([self.outer[::2], self.outer[1::2]])  # neighbours on the staircase share a parity
        outer, inner = parity.layers(apart, self.coordinates), parity.layers(self.inner, self.coordinates)
        order = self._order[: self.information].astype(np.int64)
        return _Tables(
            self.pad, self.inner, reader.weights, reader.levels, reader.values, reader.odds, outer, inner, order
        )

    def test(self, z: Any) -> tuple[Any, Any, Any]:
        """The syndrome test of latents (rows, n): scales, scores in standard deviations, and ln p; where z lies."""
        tables = self._tables(z)
        scales, counts = parity.syndrome(z, tables.pad, tables.checks, tables.weights, tables.levels)
        return scales, *parity.rademacher_tail(counts, tables.values)

    def decode(self, z: Any, scales: Any, odds: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
        """The information bits that belief propagation finds: uint8 of shape (rows, k).

        Args:
            z: As in `test`.
            scales: What `test` gave.
            odds: What magnitudes mean, as `watermark.ops.parity.beliefs` takes it, on the host; None: of latents.
        """
        t = self._tables(z) if odds is None else self._tables(z)._replace(odds=odds)
        bits = np.empty((len(z), self.information), np.uint8)
        step = max(1, _SCRATCH // (math.prod(t.outer.shape) + math.prod(t.inner.shape)))
        for first in range(0, len(z), step):
            part = slice(first, first + step)
            odds, _ = parity.beliefs(z[part], t.pad, scales[part], t.odds, t.outer, t.inner, _PASSES, _PATIENCE)
            bits[part] = np.signbit(to_host(odds[:, t.order]))
        return bits

    def signs(self, bits: NDArray[np.uint8], random: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Signs of latents that carry information bits.

        Args:
            bits: uint8 of shape (rows, k), 0 or 1.
            random: uint32 of shape (rows, `flips_of`): where the code words are falsified.

        Returns:
            uint32 of shape (rows, ceil(n / 32)), 1 for minus.
        """
        words = self._extended(np.packbits(bits, axis=0), self.inner)  # eight code words side by side
        return parity.code_signs(words, random, self.pad, self.coordinates)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all tables, in hexadecimal: equal wherever the key is expanded alike."""
        digest = hashlib.sha256()
        for table in (self._order, self.outer, self.inner, self.pad):
            digest.update(table.astype("<u4").tobytes())
        return digest.hexdigest()


@lru_cache(maxsize=32)
def _reader(checks: int, degree: int) -> Reader:
    return Reader(checks, degree)


def base_size(information: int) -> int:
    """Information bits and outer parities."""
    return information + -(-information // 4)


def flips_of(coordinates: int) -> int:
    """Falsified code bits of a latent."""
    return round(FLIPPED * coordinates)


def _too_close(checks: NDArray[np.int32]) -> NDArray[np.int64]:
    """Checks that name a coordinate twice, or share more than t/2 coordinates with an earlier one."""
    ordered = np.sort(checks, axis=1).astype(np.uint64)
    clash = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    degree = checks.shape[1]
    subsets = []
    for chosen in combinations(range(degree), degree // 2 + 1):
        mixed = np.zeros(len(checks), np.uint64)
        for column in chosen:
            mixed = (mixed ^ ordered[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        subsets.append(mixed)
    every = np.stack(subsets, axis=1)  # in the order of the checks
    return np.flatnonzero(clash | _repeats(every.ravel()).reshape(every.shape).any(axis=1))


def _repeats(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which values have come before. Few have, and sorting values alone is much faster than sorting their places."""
    ordered = np.sort(values)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    repeats = np.zeros(values.size, bool)
    if twice.size:
        places = np.flatnonzero(twice[np.minimum(np.searchsorted(twice, values), twice.size - 1)] == values)
        repeats[places] = True
        repeats[places[np.unique(values[places], return_index=True)[1]]] = False
    return repeats
