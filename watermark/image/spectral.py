"""The mark `image.spectral`: a keyed, periodic spread-spectrum pattern that is found again after any affine change.

The pattern has a square period of 97 pixels a side at a canonical size, so its spectrum is a lattice of about 860 lines
between .045 and .25 cycles per pixel. 32 keyed sync lines of known phase carry a share of the energy and tell geometry;
every other line carries two payload chips with keyed signs. A polar code spreads the message over 512 symbols of about
three chips. The pattern is shaped by a visibility model; its tilt and its shift depend on key and picture.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.detection import MAX_LOG10_P_OF_PAYLOAD, Detection, Detections, over_keys
from watermark.errors import MediaError, ParameterError
from watermark.image import batch, binding
from watermark.image.geometry import (
    ALIGNED_TESTED,
    PERIOD,
    PRESENCE_CELL,
    PRESENCE_SAMPLES,
    STAGES,
    TESTED,
    TILE,
    TILTS,
    TOP,
    Candidate,
    Sync,
    Tilt,
    reduction,
    upright,
)
from watermark.image.perceptual import DETECTED, SEEN, SMOOTHING, expected_evidence, rms, visibility
from watermark.image.reading import Reading, Readings
from watermark.media.pixels import Pixels
from watermark.ops.picture import add_pattern, statistics
from watermark.payload import Frame, SoftCode
from watermark.scheme import FixedKey, MediaScheme, SchemeInfo, each, per_row
from watermark.stats import LN10, log_rademacher_energy, log_rademacher_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from watermark.key import Key
    from watermark.prf import Prf

_MARKED_SIDE, _READ_SIDE = 64, 32
_LABEL = "image.spectral/1/"
_BAND = (0.045, 0.25)
_SYNC_BAND = (0.075, 0.22)
_SYNC_LINES = 32
_SYMBOLS = 512

# Evidence (z^2 / 2) that sync needs to be found, and that the whole pattern of a 64-bit mark needs. The parts share the
# energy as they need it, so that they fail together when a picture is edited ever more.
_SYNC_NEEDS, _USUAL_NEEDS = 31.0, 95.0

_EVIDENCE = 240.0  # standard deviations of the whole pattern that embedding aims at, after an edit that adds some noise
_GAIN = (0.85, 1.6)
_PSNR = (38.6, 47.0)

# What each look of the detector may spend of the significance, fixed beforehand: 3/8 go to the aligned looks, 3/8 to
# the hypotheses of both searches, 1/4 to second looks; within a look, half to the energy and half to the message test.
_SECOND_LOOKS = 2
_ALIGNED, _SEARCHED, _SECOND = 3 / 8 / ALIGNED_TESTED, 3 / 8 / (len(STAGES) * TESTED), 1 / 4 / _SECOND_LOOKS
_SETTLED = math.log(1e-8)


@dataclass(frozen=True, slots=True)
class SpectralParameters:
    """Parameters of `image.spectral`.

    Attributes:
        payload_bits: Net message bits, 0 to 128.
        strength: Amplitude relative to the visibility model; 1 is meant to be invisible in normal viewing. 0.25 to 4.
        bind: Whether to tie the mark to the picture (`watermark.image.binding`). Where it was copied to another one it
            is then rejected: p tests "not marked with this key, or marked for another picture", and
            ``details["unbound_log10_p"]`` the former alone. A detector without it reads bound marks as well; one with
            it accepts no others.
    """

    payload_bits: int = 64
    strength: float = 1.0
    bind: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "payload_bits", whole(self.payload_bits, "payload_bits", 0, 128))
        if isinstance(self.strength, bool) or not isinstance(self.strength, Real) or not 0.25 <= self.strength <= 4:
            raise ParameterError(f"strength is a factor from 0.25 to 4, not {self.strength!r}")
        object.__setattr__(self, "strength", float(self.strength))
        if not isinstance(self.bind, bool):
            raise ParameterError(f"bind is True or False, not {self.bind!r}")


class _Tables(NamedTuple):
    """Secrets of one key."""

    sync: Sync
    lines: NDArray[np.int64]  # of the payload, two chips each
    symbol: NDArray[np.int64]  # which code symbol a chip repeats
    sign: NDArray[np.float32]  # keyed sign of a chip
    second: NDArray[np.float32]  # keyed sign of a chip of the pattern that binds
    placement: Prf


class _Look(NamedTuple):
    """Result of testing one candidate."""

    log_p: float
    score: float
    payload: bytes | None
    symbols: NDArray[np.uint8]
    candidate: Candidate | None


class SpectralMark(MediaScheme):
    """The mark `image.spectral`. Media are pictures: NumPy (H, W[, C]), torch (C, H, W), PIL images.

    Tensors in GPU memory are marked and read there: `embed_batch` and `detect_batch` take (n, C, H, W) or a list of
    any sizes, and no picture leaves the device.

    Arrays and tensors are uint8, uint16 (0 to 65535), or float16, float32 or float64 in [0, 1]; PIL images have mode L,
    LA, RGB, RGBA or I;16. One or two channels are grey, three or four RGB; the last of two or four is alpha.

    The null is a bound that holds for any picture. Given the picture and the sync key, the payload statistics are sums
    of fixed numbers with independent fair signs; so normalised symbol sums have sub-Gaussian squares (energy test), and
    the correlation with any one message has a Gaussian tail bound (message test, times the number of messages).
    """

    info = SchemeInfo(
        name="image.spectral",
        modality="image",
        null="bound",
        fixed_key=FixedKey(1.0, 1.0, "Kodak photos and wallpapers, 85 pictures x 100 keys: benchmarks/null.py"),
        distortion_free=False,
        payload="0 to 128 bits",
        security_bits=256,
    )
    Parameters = SpectralParameters
    parameters: SpectralParameters

    @cached_property
    def _code(self) -> SoftCode:
        return SoftCode(Frame(self.parameters.payload_bits, len(TILTS)), _SYMBOLS)

    @cached_property
    def _needs(self) -> float:
        """Evidence that sync and message need together."""
        return _SYNC_NEEDS + self._code.frame.size * math.log(2) + 8

    @cached_property
    def _sync_share(self) -> float:
        """Of the pattern's energy."""
        return _SYNC_NEEDS / self._needs

    def _bind(self, key: Key) -> _Tables:
        lines = _band_lines()
        chosen = _choose_sync(lines, key.derive(_LABEL + "sync"))
        phases = 2j * np.pi * key.derive(_LABEL + "sync").uniform(len(chosen), stream=2)
        rest = np.delete(lines, chosen, axis=0)
        payload = key.derive(_LABEL + "payload")
        chips = 2 * len(rest)
        symbol = np.empty(chips, np.int64)
        symbol[payload.permutation(chips)] = np.arange(chips) % _SYMBOLS
        return _Tables(
            Sync(lines[chosen], np.exp(phases).astype(np.complex64)),
            rest,
            symbol,
            payload.signs(chips, stream=1),
            key.derive(_LABEL + "bind").signs(chips),
            key.derive(_LABEL + "placement"),
        )

    def embed(self, media: Any, payload: bytes | None = None) -> Any:
        """The same picture, marked.

        Args:
            media: A picture of at least 64 pixels a side. Alpha is kept as it is.
            payload: The message, at most ``payload_bits // 8`` bytes; below 24 bits an index, big endian. None leaves
                it empty.

        Returns:
            A picture of the same type, dtype, shape and mode. The mark is as fine as the samples are: it is rounded to
            whole grey levels in 8 bits only.

        Raises:
            MediaError: Not a picture of an accepted type, floats outside [0, 1], or too small.
            PayloadError: The message does not fit.
        """
        if batch.on_device(media):
            return self.embed_batch([media], [payload])[0]
        self._code.frame.encode(payload)  # a wrong message is told before any work
        pixels = _pixels(media, _MARKED_SIDE)
        size = pixels.array.shape[:2]
        factor = reduction(*size)
        means, detected = statistics(pixels.array, factor, (SEEN, DETECTED), SMOOTHING)
        amplitude = visibility(means)
        evidence = expected_evidence(amplitude, detected[1])
        amplitude *= self._gain(float(rms(amplitude)), float(evidence))
        step_y, step_x = _sampling(*size)
        cycles, step = self._laid(payload, pixels.array[::step_y, ::step_x])
        amplitudes = amplitude[None]
        if self.parameters.bind:
            amplitudes = amplitude * binding.layers(binding.field(means[2], 1.0))
        return pixels.restore(add_pattern(pixels.array, cycles, step, amplitudes, factor))

    def embed_batch(self, items: Iterable[Any], payload: bytes | Sequence[bytes | None] | None = None) -> Any:
        """Marks many pictures, in their order, with one message or one per picture.

        Args:
            items: Pictures of mixed sizes and types, or tensors in GPU memory only: these are sorted by size and marked
                there, many at a time.
            payload: One message for all, or one per picture.

        Returns:
            A list of pictures; one tensor if `items` is a tensor (n, C, H, W) in GPU memory.

        Raises:
            MediaError: `items` is one picture instead of many, or an item is not what the scheme marks.
            PayloadError: A message does not fit, or their number is not the number of items.
        """
        media = list(each(items))
        if not any(map(batch.on_device, media)):
            return super().embed_batch(media, payload)
        payloads = per_row(payload, len(media))
        for message in payloads:
            self._code.frame.encode(message)
        marked: list[Any] = [None] * len(media)
        for places, pixels in batch.groups(media, _MARKED_SIDE):
            canvas, size = batch.Canvas(pixels), tuple(pixels.shape[2:])
            laid = [
                self._laid(payloads[place], samples)
                for place, samples in zip(places, canvas.sampled(_sampling(*size)), strict=True)
            ]
            cycles, steps = zip(*laid, strict=True)
            gains = [self._gain(*numbers) for numbers in canvas.measured()]
            rows = canvas.marked(np.array(cycles), np.array(steps), gains)
            for place, row in zip(places, rows, strict=True):
                marked[place] = batch.restored(row, media[place])
        return batch.stacked(marked) if batch.on_device(items) else marked

    def _laid(self, payload: bytes | None, samples: NDArray[Any]) -> tuple[NDArray[np.float32], int]:
        """The cycles of a picture's patterns, as key and picture place them, and their step."""
        tables = self._tables[0]
        number, start = _placement(tables.placement, samples)
        symbols, tilt = self._code.encode(payload, number), TILTS[number]
        cycles = [_place(self._pattern(tables, symbols), tilt)]
        if self.parameters.bind:
            cycles.append(_place(_second(tables, symbols), tilt))
        return np.roll(cycles, start, 1), tilt.step

    def _pattern(self, tables: _Tables, symbols: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.complex64]]:
        """The pattern's lines and their complex amplitudes, for unit mean square."""
        share = self._sync_share
        chips = (tables.sign * (1 - 2 * symbols[tables.symbol].astype(np.float32))).view(np.complex64)
        payload = chips * math.sqrt((1 - share) / len(chips))
        sync = tables.sync.phases * math.sqrt(2 * share / len(tables.sync.lines))
        return np.concatenate([tables.lines, tables.sync.lines]), np.concatenate([payload, sync])

    def _gain(self, strength: float, evidence: float) -> float:
        """Factor for an amplitude that the detector needs, within the limits of visibility and of the picture's PSNR.

        Args:
            strength: Root mean square of the amplitude.
            evidence: What it would give.
        """
        faintest, strongest = (255 / 10 ** (psnr / 20) / strength for psnr in reversed(_PSNR))
        wanted = min(max(_EVIDENCE / evidence, _GAIN[0]), _GAIN[1])
        more = math.sqrt(max(self._needs / _USUAL_NEEDS, 1))
        return self.parameters.strength * min(max(wanted, faintest) * more, strongest)

    def detect_batch(self, items: Iterable[Any]) -> Detections:
        """The verdicts on many pictures, of mixed sizes, in their order.

        Args:
            items: A sequence, iterator or generator of pictures (few of which are held at a time), or an array that
                stacks them. A list of tensors in GPU memory, or one tensor (n, C, H, W), is read there, many at a time.

        Raises:
            MediaError: `items` is one picture instead of many, or an item is not what the scheme reads.
        """
        media = items if isinstance(items, (list, tuple)) or batch.on_device(items) else None
        if media is None or not any(map(batch.on_device, each(media))):
            return super().detect_batch(items)
        found: dict[int, Detection] = {}
        for places, verdicts in batch.in_turn(self._verdicts_of, batch.groups(list(each(media)), _READ_SIDE)):
            found |= dict(zip(places, verdicts, strict=True))
        return Detections.of((found[place] for place in range(len(found))), self.name)

    def _verdicts_of(self, pixels: Any) -> Detections:
        """The verdicts of all keys on a group of pictures."""
        observation = batch.DeviceReadings(pixels)
        keyed = zip(self._tables, self.keyring, strict=True)
        return over_keys([Detections.of(self._verdicts(tables, observation, key.id)) for tables, key in keyed])

    def _observe(self, media: Any) -> Readings:
        if batch.on_device(media):
            return batch.DeviceReadings(batch.groups([media], _READ_SIDE)[0].pixels)
        return Reading(_pixels(media, _READ_SIDE).array)

    def _test(self, tables: _Tables, observation: Readings, key_id: str) -> Detection:
        return self._verdicts(tables, observation, key_id)[0]

    def _verdicts(self, tables: _Tables, observation: Readings, key_id: str) -> list[Detection]:
        """The verdicts of one key on pictures of one size."""
        looks = [[_Look(0.0, 0.0, None, np.zeros(_SYMBOLS, np.uint8), None)] for _ in range(observation.count)]
        secrets = tables.sync, tables.lines

        def unsettled() -> list[int]:
            return [row for row, seen in enumerate(looks) if not any(map(_settled, seen))]

        def test(rows: list[int], candidates: Sequence[Iterable[Candidate]], weight: float) -> None:
            for row, mine in zip(rows, candidates, strict=True):
                looks[row] += self._looks(tables, mine, weight)

        rows = unsettled()
        test(rows, observation.aligned(*secrets, rows), _ALIGNED)
        for stretches in STAGES:
            if rows := unsettled():
                test(rows, observation.searched(*secrets, rows, stretches), _SEARCHED)
        if rows := unsettled():
            doubtful = [_doubtful(looks[row]) for row in rows]
            test(rows, observation.in_parts(*secrets, rows, doubtful), _SECOND)
        best = [min(seen, key=lambda look: (look.log_p, look.payload is None)) for seen in looks]
        sure = [(row, look, look.candidate) for row, look in enumerate(best) if look.candidate and _settled(look)]
        presence: dict[int, NDArray[np.float32]] = {}
        if sure:
            rows, samples = (
                [row for row, _, _ in sure],
                [_square(self._pattern(tables, at.symbols)) for _, at, _ in sure],
            )
            maps = observation.presence(rows, [at for _, _, at in sure], samples)
            presence = dict(zip(rows, maps, strict=True))
        return [
            self._verdict(tables, observation, row, look, len(seen) - 1, presence.get(row), key_id)
            for row, (look, seen) in enumerate(zip(best, looks, strict=True))
        ]

    def _verdict(
        self,
        tables: _Tables,
        observation: Readings,
        row: int,
        best: _Look,
        count: int,
        presence: NDArray[np.float32] | None,
        key_id: str,
    ) -> Detection:
        """The verdict after so many looks, of which this was the best."""
        details: dict[str, Any] = {"looks": count}
        if (at := best.candidate) is not None:
            tag = None if best.payload is None else self._code.tag(best.payload, best.symbols)
            linear = upright(at.linear, TILTS if tag is None else TILTS[tag : tag + 1])
            details |= {"sync": at.sync, "linear": linear, "shift": at.shift, "factor": at.factor}
            if presence is not None:
                details |= {"presence": presence, "presence_cell": PRESENCE_CELL * at.factor}
        log_p = best.log_p
        if self.parameters.bind:
            bound = self._bound(tables, observation, row, best)
            details |= {"unbound_log10_p": log_p / LN10, "agreement": bound.agreement}
            log_p = max(log_p, bound.log_p)
        vouched = best.payload is not None and log_p / LN10 <= MAX_LOG10_P_OF_PAYLOAD
        chips = len(tables.sign)
        return Detection(self.name, key_id, log_p / LN10, best.score, chips, best.payload, vouched, details)

    def _looks(self, tables: _Tables, candidates: Iterable[Candidate], weight: float) -> Iterator[_Look]:
        """Tests candidates until one settles the matter."""
        for candidate in candidates:
            look = self._look(tables, candidate, weight)
            yield look
            if _settled(look):
                return

    def _look(self, tables: _Tables, candidate: Candidate, weight: float) -> _Look:
        """Tests the payload lines of one candidate. What this look may spend is `weight`, half on each test."""
        chips = candidate.lines.view(np.float32) * tables.sign
        sums = np.bincount(tables.symbol, chips, _SYMBOLS)
        squares = np.bincount(tables.symbol, chips * chips, _SYMBOLS)
        used = squares > 0
        count = int(used.sum())
        symbols = np.zeros(_SYMBOLS, np.uint8)
        if not count:
            return _Look(0.0, 0.0, None, symbols, candidate)
        energy = float(np.sum(sums[used] ** 2 / squares[used]))
        log_p = log_rademacher_energy(energy, count)
        score, payload = 0.0, None
        # A gate, not a test: below it no message can be read, and leaving the test out only raises p.
        if energy > count + math.sqrt(2 * count):
            payload, symbols = self._code.decode(sums.astype(np.float32))
            score = float(np.sum((1 - 2.0 * symbols) * sums) / math.sqrt(float(squares.sum())))
            if payload is not None and score > 0:
                log_p = min(log_p, log_rademacher_message(score * score / 2, self._code.frame.log_messages))
        return _Look(min(0.0, log_p + math.log(2 / weight)), max(score, 0.0), payload, symbols, candidate)

    def _bound(self, tables: _Tables, observation: Readings, row: int, look: _Look) -> binding.Binding:
        """Whether the second pattern is there, too, and was made for this picture."""
        if look.candidate is None or look.payload is None:
            return binding.Binding(0.0, 0.0)
        lines = observation.through(
            row, look.candidate, tables.lines, lambda *seen: binding.probes(binding.field(*seen))
        )
        payload, second = lines.view(np.float32) * (1 - 2 * look.symbols[tables.symbol].astype(np.float32))
        # What the payload's lines would hold if the sync lines had no energy, as the second pattern's do.
        payload *= tables.sign / math.sqrt(1 - self._sync_share)
        return binding.verdict(payload, second * tables.second)


def _settled(look: _Look) -> bool:
    """Whether a look leaves nothing to search for."""
    return look.payload is not None and look.log_p < _SETTLED


def _doubtful(looks: Sequence[_Look]) -> list[Candidate]:
    """Where second looks may pay: the candidates whose sync lines agree more than chance explains."""
    found = [at for look in looks if (at := look.candidate) and at.sync > at.chance]
    return sorted(found, key=lambda at: at.chance - at.sync)[:_SECOND_LOOKS]


def _pixels(media: Any, least: int) -> Pixels[Any]:
    pixels = Pixels.of(media)
    height, width = pixels.array.shape[:2]
    if min(height, width) < least:
        raise MediaError(f"the picture is {width} x {height} pixels; this needs at least {least} a side")
    return pixels


def _band_lines() -> NDArray[np.int64]:
    """Lattice lines of the band in the upper half plane, off the axes: int64 of shape (k, 2) as (x, y)."""
    y, x = np.mgrid[1 : TOP + 1, -TOP : TOP + 1]
    lines = np.stack([x.ravel(), y.ravel()], axis=1)
    radius = np.hypot(*lines.T) / TILE
    return np.asarray(lines[(lines[:, 0] != 0) & (radius >= _BAND[0]) & (radius <= _BAND[1])])


def _choose_sync(lines: NDArray[np.int64], prf: Prf) -> NDArray[np.int64]:
    """Keyed sync lines: one per sector of 180 / 32 degrees, off the axes, two steps apart at least."""
    x, y = lines.T
    radius = np.hypot(x, y) / TILE
    sector = np.arctan2(y, x) / np.pi * _SYNC_LINES
    free = (radius >= _SYNC_BAND[0]) & (radius <= _SYNC_BAND[1]) & (np.abs(x) >= 2) & (np.abs(y) >= 2)
    offset = float(prf.uniform(1)[0])
    order = prf.permutation(_SYNC_LINES)
    draws = prf.wide(_SYNC_LINES, stream=1)
    chosen: list[int] = []
    for turn, draw in zip(order, draws, strict=True):
        distance = np.abs((sector - turn - offset + _SYNC_LINES / 2) % _SYNC_LINES - _SYNC_LINES / 2)
        for reach in (0.5, 0.75, 1.25, 3.0, _SYNC_LINES):
            candidates = np.flatnonzero(free & (distance <= reach))
            if candidates.size:
                break
        line = int(candidates[int(draw) % candidates.size])
        chosen.append(line)
        free &= (np.abs(x - x[line]) >= 2) | (np.abs(y - y[line]) >= 2)
    return np.array(chosen)


def _second(tables: _Tables, symbols: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.complex64]]:
    """The lines and amplitudes of the pattern that binds, for unit mean square. It depends on the message, too."""
    chips = (tables.second * (1 - 2 * symbols[tables.symbol].astype(np.float32))).view(np.complex64)
    return tables.lines, chips / np.float32(math.sqrt(len(chips)))


def _place(pattern: tuple[NDArray[np.int64], NDArray[np.complex64]], tilt: Tilt) -> NDArray[np.float32]:
    """One period as it is laid on the pixels: float32 of shape (PERIOD,)."""
    lines, amplitudes = pattern
    spectrum = np.zeros(PERIOD, np.complex64)
    spectrum[tilt.places(lines)] = amplitudes
    return np.ascontiguousarray(np.fft.ifft(spectrum, norm="forward").real, np.float32)


def _square(pattern: tuple[NDArray[np.int64], NDArray[np.complex64]]) -> NDArray[np.float32]:
    """One period in the mark's own frame: float32 of shape (128, 128)."""
    lines, amplitudes = pattern
    spectrum = np.zeros((PRESENCE_SAMPLES, PRESENCE_SAMPLES), np.complex64)
    spectrum[lines[:, 1], lines[:, 0]] = amplitudes
    return np.ascontiguousarray(np.fft.ifft2(spectrum, norm="forward").real, np.float32)


def _sampling(height: int, width: int) -> tuple[int, int]:
    """Every how many rows and columns of a picture decide on the placement of the pattern."""
    return max(1, height // 64), max(1, width // 64)


def _placement(prf: Prf, samples: NDArray[Any]) -> tuple[int, int]:
    """Number of the tilt and shift of the pattern: keyed functions of the picture, so that averages show no pattern."""
    digest = hashlib.sha256(samples.tobytes()).digest()
    tilt, start = prf.wide(2, stream=int.from_bytes(digest[:8]))
    return int(tilt) % len(TILTS), int(start) % PERIOD
