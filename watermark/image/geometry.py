"""Where a lattice of spectral lines lies in a picture: how it was turned, mirrored, scaled and shifted.

The mark is periodic, so its spectrum is a lattice of lines. A picture that was changed by x = B u + t (u in the mark's
frame) shows line f at G f, G = B^-T. A few keyed sync lines of known phase tell G and t; nothing here looks at the
payload's signs, so the search costs no significance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from watermark._cache import cached_property
from watermark.image.perceptual import DETECTED, detector_weight
from watermark.ops import lattice
from watermark.ops.picture import (
    CELL,
    REGION,
    blur,
    correlate_tile,
    demodulate,
    displace,
    fold,
    gaussian_taps,
    limited_high_pass,
    whiten,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Lines = NDArray[np.int64]
    Matrix = NDArray[np.float64]
    Floats = NDArray[np.float32]
    Probes = Callable[[Floats, float], Floats]

SHORT_SIDE = 512
"""Pixels of the short side at which larger pictures carry the mark."""
PERIOD = 9425
"""Samples in one period of the mark: 5^2 13 29, a sum of two squares in several ways, and quick to transform."""
TILE = math.sqrt(PERIOD)
"""T: side of one period, in pixels at the mark's scale."""
TOP = 26
"""Lattice lines with |n| up to here are read from a folded picture, two more than the mark uses."""
PRESENCE_CELL = REGION
"""Pixels of the reduced picture to a side of a presence map's cell."""
PRESENCE_SAMPLES = 128
_PRESENCE_SIGMA = 2.5
_LONG_SIDE = 7 * lattice.FIELD // 8
_LINE_LIMIT = np.float32(2.5)
_SMALLEST, _SCALES = 0.235, 326  # up to 2.7: pictures enlarged by 4.3 to shrunk by 2.7 against their reduced size
_PEAKS, _PLACED, TESTED = 48, 6, 3
_ALIGNED_PLACED, ALIGNED_TESTED = 3, 2
_PART, _PART_REACH, _PART_MOVE = 2.0, 5, 3.0  # parts of 16 pixels around a place; pixels at most; pixels expected
_GRID = 64  # locate: half of them coarsely, 16 of them finely per period
_FREE = np.eye(4).reshape(4, 2, 2)
_STRETCH, _STRETCH_STEP = 0.095, 0.012

_MIRROR = np.diag([-1.0, 1.0])
_QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
_RIGHT_ANGLES = [np.eye(2), -np.eye(2), _QUARTER, -_QUARTER]
_DIHEDRAL = np.array([*_RIGHT_ANGLES, *(turn @ _MIRROR for turn in _RIGHT_ANGLES)])


class Tilt(NamedTuple):
    """How the mark's square lattice lies on the pixels: its sides are the whole vectors (a, b) and (-b, a).

    So the mark repeats exactly, although it is turned: at pixel (x, y) stands sample (x + step y) mod n of a cycle of
    n = a^2 + b^2 samples, and lattice line m is its frequency a m_x - b m_y.
    """

    a: int
    b: int

    @property
    def step(self) -> int:
        """How much further in the cycle each row starts than the one above."""
        return -self.a * pow(self.b, -1, PERIOD) % PERIOD

    @property
    def turn(self) -> Matrix:
        """Rotation from the mark's axes to the picture's: float64 of shape (2, 2)."""
        return np.array([[self.a, -self.b], [self.b, self.a]]) / TILE

    def places(self, lines: Lines) -> Lines:
        """Frequencies of lattice lines in the cycle, in [0, n)."""
        return (self.a * lines[..., 0] - self.b * lines[..., 1]) % PERIOD


TILTS = [Tilt(*sides) for a, b in ((97, 4), (92, 31), (88, 41), (73, 64)) for sides in ((a, b), (b, a))]
"""The ways to lay the mark on the pixels, one of which each picture gets: spectra that are averaged over many pictures
spread the lines over all. Mirror images of each other in pairs, so a mirrored picture has them too."""


def upright(linear: Matrix, tilts: Sequence[Tilt]) -> Matrix:
    """G without the tilt: how the picture was changed. Of several tilts the one is taken that leaves the least turn."""
    options = [linear @ tilt.turn.T for tilt in tilts]
    return min(options, key=lambda g: min(abs(g[0, 0]) + abs(g[1, 1]), abs(g[0, 1]) + abs(g[1, 0])))


_STEPS = np.array([tilt.step for tilt in TILTS])
_UPRIGHT = np.array([tilt.turn @ turn for tilt in TILTS for turn in _RIGHT_ANGLES])


@lru_cache(maxsize=1)
def _stretches() -> Matrix:
    """Shapes that the search tries beside turn and scale: float64 of shape (n, 2, 2), the mildest first.

    exp of symmetric traceless matrices on a disc, each plain and mirrored: aspect up to 1.21 in any direction.
    """
    reach = int(_STRETCH / _STRETCH_STEP) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1] * _STRETCH_STEP
    size = np.hypot(x, y)
    order = np.argsort(size, axis=None, kind="stable")
    order = order[size.ravel()[order] <= _STRETCH]
    x, y, size = x.ravel()[order], y.ravel()[order], size.ravel()[order]
    turn = np.moveaxis(np.array([[x, y], [y, -x]]), 2, 0) / np.maximum(size, 1e-9)[:, None, None]
    shapes = np.cosh(size)[:, None, None] * np.eye(2) + np.sinh(size)[:, None, None] * turn
    return np.stack([shapes, shapes @ _MIRROR], axis=1).reshape(-1, 2, 2)


STAGES = (slice(20), slice(20, None))
"""Which stretches each stage of the search tries: the mildest, which are shapes of photos that were only turned and
scaled; then the others."""


def reduction(height: int, width: int) -> float:
    """Pixels of a picture per unit of the mark's frame."""
    return max(1.0, min(height, width) / SHORT_SIDE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One hypothesis on where the mark lies.

    Attributes:
        linear: G, float64 of shape (2, 2), for spectra in cycles per pixel of the reduced picture.
        shift: Translation (x, y) in the mark's frame, in periods.
        sync: Agreement of the sync lines' phases in standard deviations; at most 8 with 32 lines, 4 by chance.
        lines: Values at all requested lines, normalised by noise and de-rotated by `shift`, complex64.
        factor: Pixels of the picture per pixel of its reduced form.
        chance: Value of `sync` that one picture in ten without the mark exceeds where this was found.
        origin: Pixel (x, y) of the reduced picture from which phases count: it lies at -`shift` in the tile.
        parts: Moves and weights that the picture was read through (`displace`); None: as it is.
    """

    linear: Matrix
    shift: tuple[float, float]
    sync: float
    lines: NDArray[np.complex64]
    factor: float
    chance: float
    origin: tuple[float, float]
    parts: tuple[Floats, Floats] | None = None


@dataclass(frozen=True)
class Sync:
    """Keyed lines of known phase.

    Attributes:
        lines: Integer frequencies n in the tile, int64 of shape (k, 2) as (x, y).
        phases: exp(i phi) of each, complex64.
    """

    lines: Lines
    phases: NDArray[np.complex64]

    @cached_property
    def _template(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return lattice.template(self.lines / TILE, _stretches(), _SMALLEST)

    def peaks(self, table: NDArray[np.uint8], stretches: slice) -> Matrix:
        """The most promising hypotheses G: float64 of shape (n, 2, 2), best first."""
        rows, columns = (part[stretches] for part in self._template)
        _, shape, scale, turn = lattice.search(table, rows, columns, _SCALES, _PEAKS).T
        size = _SMALLEST * np.exp(lattice.LOG_STEP * scale)
        cosine, sine = (size * f(np.pi * turn / lattice.ANGLES) for f in (np.cos, np.sin))
        return np.asarray(
            np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0) @ _stretches()[stretches][shape]
        )

    def align(self, values: NDArray[np.complex64]) -> tuple[float, tuple[float, float]]:
        """Best agreement in standard deviations over all translations, and that translation."""
        best, x, y = lattice.locate(values * self.phases.conj(), self.lines, _GRID)
        return best / float(np.sqrt(np.sum(np.abs(values) ** 2) / 2 + 1e-9)), (x / _GRID, y / _GRID)


class Reading:
    """What a detector knows of a picture before it sees a key. Parts are computed when they are first needed.

    Args:
        pixels: uint8, uint16, or floats in [0, 1], of shape (H, W, C).
    """

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels
        self._factor = reduction(*pixels.shape[:2])
        self._seen: dict[float, tuple[Floats, Floats]] = {}

    @cached_property
    def _tiles(self) -> NDArray[np.complex64]:
        """Spectra of the picture folded in every tilt, each line over the root mean power around it."""
        cycles = np.fft.rfft(fold(self._whitened(self._factor), _STEPS, PERIOD)).astype(np.complex64)
        place, behind, known = _tile_layout()
        values = np.take_along_axis(cycles, place.reshape(len(TILTS), -1), 1).reshape(place.shape)
        values = np.where(behind, values.conj(), values)
        power = (values.real**2 + values.imag**2) * known
        level = _box(power, known)
        level = _box(np.minimum(power, 3 * level), known)
        level = _box(np.minimum(power, 4 * level), known)
        return _limited(values / np.sqrt(np.float32(1.08) * level + np.float32(1e-20)))

    @cached_property
    def _search_factor(self) -> float:
        return max(self._factor, float(max(self._pixels.shape[:2])) / _LONG_SIDE)

    @cached_property
    def _spectrum(self) -> NDArray[np.complex64]:
        return lattice.spectrum(self._whitened(self._search_factor))

    @cached_property
    def _noise(self) -> NDArray[np.float32]:
        return lattice.noise(self._spectrum)

    def _whitened(self, factor: float) -> NDArray[np.float32]:
        """The picture as the detector sees it: reduced, high-passed, of even local variance."""
        return self._reduced(factor)[0]

    def _reduced(self, factor: float) -> tuple[Floats, Floats]:
        """The whitened picture, and luma on the grid of 4 x 4 pixel cells."""
        if factor not in self._seen:
            high, means = limited_high_pass(self._pixels, factor, *DETECTED)
            self._seen[factor] = whiten(high, detector_weight(means[1])), means[2]
        return self._seen[factor]

    def presence(self, candidate: Candidate, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much of a pattern lies where, once it was found.

        Args:
            candidate: Where the pattern lies.
            samples: One period of it, float32 of shape (128, 128).

        Returns:
            Standard scores on a grid of `PRESENCE_CELL` x `candidate.factor` pixels, float32: correlation of the
            surroundings (Gaussian of 2.5 cells) with the pattern over its deviation in places without it.
        """
        y = self._whitened(candidate.factor)
        linear = candidate.linear.T / TILE
        offset = -np.array(candidate.shift) - linear @ np.array(candidate.origin)
        found, elsewhere = correlate_tile(y, samples, linear, offset)
        # The pattern half a period away is not there: what it correlates with is what chance gives, place by place.
        reach = gaussian_taps(_PRESENCE_SIGMA)
        overlap = float(2 * np.sum(reach * reach) - reach[0] * reach[0]) ** 2
        variance = blur(elsewhere * elsewhere, _PRESENCE_SIGMA / math.sqrt(2)) * np.float32(overlap)
        # Where the picture is blank, chance gives nothing to divide by.
        least = np.float32(0.05) * variance.mean() + np.float32(1e-12)
        return np.asarray(blur(found, _PRESENCE_SIGMA) / np.sqrt(np.maximum(variance, least)))

    def aligned(self, sync: Sync, lines: Lines) -> Iterator[Candidate]:
        """Pictures at the scale of their marking: turned by right angles or mirrored, and cropped anyhow.

        Yields the best hypotheses on tilt and orientation.
        """
        turned = sync.lines @ _DIHEDRAL.swapaxes(1, 2).astype(np.int64)
        values = self._tiles[:, turned[..., 1] + TOP, turned[..., 0] + TOP]
        power = np.sum(values.real**2 + values.imag**2, axis=-1)
        strongest = np.argsort(-power, axis=None)[:_ALIGNED_PLACED]
        places = [(int(i) // len(_DIHEDRAL), int(i) % len(_DIHEDRAL)) for i in strongest]
        placed = [(*sync.align(values[place]), *place) for place in places]
        for z, shift, tilt, way in sorted(placed, key=lambda item: -item[0])[:ALIGNED_TESTED]:
            n = lines @ _DIHEDRAL[way].T.astype(np.int64)
            read = _derotate(self._tiles[tilt, n[:, 1] + TOP, n[:, 0] + TOP], lines, shift)
            yield Candidate(TILTS[tilt].turn @ _DIHEDRAL[way], shift, z, read, self._factor, 4.4, (0.0, 0.0))

    @cached_property
    def _ratio(self) -> NDArray[np.float32]:
        return lattice.power_ratio(self._spectrum, self._noise)

    @cached_property
    def _table(self) -> NDArray[np.uint8]:
        return lattice.log_polar(self._ratio)

    def searched(self, sync: Sync, lines: Lines, stretches: slice) -> list[Candidate]:
        """Pictures turned by any angle, mirrored, scaled and stretched: the three best hypotheses."""
        frequencies = sync.lines / TILE
        fitted, scores = lattice.refine(self._ratio, sync.peaks(self._table, stretches), frequencies)
        distinct: list[Matrix] = []
        for linear in fitted[np.argsort(-scores, kind="stable")]:
            near = 0.004 * np.abs(linear).max()
            if all(min(np.abs(linear - g).max(), np.abs(linear + g).max()) > near for g in distinct):
                distinct.append(linear)
            if len(distinct) == _PLACED:
                break
        placed = [self._placed(linear, sync) for linear in distinct]
        best = sorted(placed, key=lambda item: -item[0])[:TESTED]
        return [self._candidate(linear, shift, sync, lines) for _, linear, shift in best]

    def in_parts(self, candidate: Candidate, sync: Sync, lines: Lines) -> Candidate:
        """Reads a hypothesis again, part by part: only where its sync lines are, and moved to where they fit.

        For pictures that were warped, or of which only a part is left. The picture is weighted and unwarped by what the
        sync lines say around each place, then read as a whole.
        """
        y = self._whitened(self._search_factor)
        linear = candidate.linear * (self._search_factor / candidate.factor)
        origin = float(y.shape[1] // 2), float(y.shape[0] // 2)
        _, shift = sync.align(_limited(lattice.sample(self._spectrum, self._noise, linear, sync.lines / TILE)))
        frequencies = sync.lines / TILE @ linear.T
        turns = _derotate(sync.phases.conj() * np.exp(2j * np.pi * (frequencies @ origin)), sync.lines, shift)
        parts = _parts(demodulate(y, frequencies) * turns[:, None, None], frequencies)
        spectrum = lattice.spectrum(displace(y, *parts))
        noise = lattice.noise(spectrum)
        z, shift = sync.align(_limited(lattice.sample(spectrum, noise, linear, sync.lines / TILE)))
        read = _derotate(_limited(lattice.sample(spectrum, noise, linear, lines / TILE)), lines, shift)
        return Candidate(linear, shift, z, read, self._search_factor, candidate.chance, origin, parts)

    def through(self, candidate: Candidate, lines: Lines, probes: Probes) -> NDArray[np.complex64]:
        """Lines of the picture times maps that are made of it.

        Args:
            candidate: Where the lines lie.
            lines: Integer frequencies in the tile.
            probes: Called with luma (0 to 255) on the grid of 4 x 4 pixel cells, and the number of pixels per pixel of
                the mark's frame; returns k maps on that grid.

        Returns:
            Values normalised by one noise for all maps, limited and de-rotated: complex64 of shape (k, lines).
        """
        y, luma = self._reduced(self._search_factor)
        (height, width), ratio = y.shape, self._search_factor / candidate.factor
        linear = candidate.linear * ratio
        maps = probes(luma, 1 / math.sqrt(abs(np.linalg.det(linear))))
        seen = [y * m.repeat(CELL, 0).repeat(CELL, 1)[:height, :width] for m in maps]
        if candidate.parts is not None:
            seen = [displace(part, *candidate.parts) for part in seen]
        spectra = [lattice.spectrum(part) for part in seen]
        noise = lattice.noise(spectra[-1])
        origin = (np.array([width // 2, height // 2]) + 0.5) * ratio - 0.5
        x, y0 = candidate.shift - candidate.linear.T @ (origin - candidate.origin) / TILE
        read = [_limited(lattice.sample(spectrum, noise, linear, lines / TILE)) for spectrum in spectra]
        return np.stack([_derotate(values, lines, (x, y0)) for values in read])

    def _placed(self, linear: Matrix, sync: Sync) -> tuple[float, Matrix, tuple[float, float]]:
        """Reads a hypothesis both ways round, since power spectra do not tell G from -G: sync, G and translation."""
        values = _limited(lattice.sample(self._spectrum, self._noise, linear, sync.lines / TILE))
        ahead, behind = sync.align(values), sync.align(values.conj())
        (z, shift), linear = (ahead, linear) if ahead[0] >= behind[0] else (behind, -linear)
        return z, linear, shift

    def _candidate(self, linear: Matrix, shift: tuple[float, float], sync: Sync, lines: Lines) -> Candidate:
        """Fits a hypothesis finely by the phases of the sync lines, and reads all lines there.

        Of an affine change, a similarity, and a mere scale of an upright picture the one is taken that fits best for
        its freedom: fewer parameters follow the noise less.
        """
        frequencies = sync.lines / TILE
        turns = _derotate(sync.phases.conj(), sync.lines, shift)
        best = -math.inf
        for start, directions in _families(linear):
            fitted, _ = lattice.polish(self._spectrum, self._noise, start, directions, frequencies, turns)
            z, moved = sync.align(_limited(lattice.sample(self._spectrum, self._noise, fitted, frequencies)))
            if z * z / 2 - len(directions) > best:
                best, linear, shift, agreement = z * z / 2 - len(directions), fitted, moved, z
        height, width = self._whitened(self._search_factor).shape
        read = _limited(lattice.sample(self._spectrum, self._noise, linear, lines / TILE))
        origin = float(width // 2), float(height // 2)
        return Candidate(linear, shift, agreement, _derotate(read, lines, shift), self._search_factor, 5.2, origin)


def _parts(sync: NDArray[np.complex64], frequencies: Matrix) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where sync lines are, and how far they were moved there.

    Args:
        sync: What each line contributes to each part, turned so that its phase should be 0: complex64 of shape
            (k, rows, columns).
        frequencies: Of the lines, float64 of shape (k, 2).

    Returns:
        Moves that undo the displacement, in pixels, float32 of shape (2, rows, columns); and weights from 0 to 1.
    """
    sync = sync / np.sqrt(np.mean(np.abs(sync) ** 2, axis=(1, 2), keepdims=True) + np.float32(1e-20))
    around = [blur(np.ascontiguousarray(part), _PART) for line in sync for part in (line.real, line.imag)]
    taps = gaussian_taps(_PART)
    deviation = math.sqrt(len(sync) / 2) * float(2 * np.sum(taps * taps) - taps[0] ** 2)
    steps = np.arange(-_PART_REACH, _PART_REACH + 1.0)
    moves = np.stack([m.ravel() for m in np.meshgrid(steps, steps)])
    turns = np.exp(-2j * np.pi * (frequencies @ moves)).T / deviation
    waves = np.stack([turns.real, -turns.imag], axis=2).reshape(len(turns), -1).astype(np.float32)
    z = np.tensordot(waves, np.array(around), 1)
    evidence = np.maximum(z, 0) ** 2 / 2 - (np.sum(moves * moves, axis=0) / (2 * _PART_MOVE**2))[:, None, None]
    best = evidence.argmax(axis=0)
    z = np.take_along_axis(z, best[None], 0)[0]
    trust = np.where(z > 3, z * z, 0) + np.float32(1e-3)
    known = blur(trust.astype(np.float32), 1.0)
    smooth = np.stack([blur((trust * move[best]).astype(np.float32), 1.0) / known for move in moves])
    sure = np.maximum(z - 1, 0)
    return smooth, np.minimum(2 * sure / (sure.max() + np.float32(1e-9)), 1)


def _families(linear: Matrix) -> Iterator[tuple[Matrix, Matrix]]:
    """Starting points near G, each with the directions in which its family of changes may move."""
    yield linear, _FREE
    mirror = np.diag([math.copysign(1.0, float(np.linalg.det(linear))), 1.0])
    upright = linear @ mirror
    a, b = (upright[0, 0] + upright[1, 1]) / 2, (upright[1, 0] - upright[0, 1]) / 2
    similar = np.array([[a, -b], [b, a]])
    size = math.hypot(a, b)
    if np.abs(similar - upright).max() > 0.02 * size:
        return
    yield similar @ mirror, np.stack([similar @ mirror, similar @ _QUARTER @ mirror]) / size
    straight = min(_UPRIGHT, key=lambda turn: float(np.abs(turn * size - similar).max()))
    if np.abs(straight * size - similar).max() <= 0.02 * size:
        yield straight * size @ mirror, (straight @ mirror)[None]


def _limited(values: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Limits magnitudes: text and tiles make single lines far stronger than a mark's."""
    size = np.abs(values)
    return (values * np.minimum(1, _LINE_LIMIT / np.maximum(size, np.float32(1e-9)))).astype(np.complex64)


def _derotate(values: NDArray[np.complex64], lines: Lines, shift: tuple[float, float]) -> NDArray[np.complex64]:
    return np.asarray(values * np.exp(2j * np.pi * (lines @ np.array(shift))), np.complex64)


@lru_cache(maxsize=1)
def _tile_layout() -> tuple[Lines, NDArray[np.bool_], NDArray[np.float32]]:
    """Where lattice lines are found in half a cycle's spectrum, for every tilt and |n| <= `TOP`.

    Returns:
        The place; whether that holds the conjugate; and 0 for lines near the picture's axes, which hold borders and
        block edges, else 1. Shapes (tilts, 2 TOP + 1, 2 TOP + 1): row and column i hold n = i - TOP.
    """
    y, x = np.mgrid[-TOP : TOP + 1, -TOP : TOP + 1]
    n = np.stack([x, y], axis=-1)
    place = np.array([tilt.places(n) for tilt in TILTS])
    frequency = np.abs([n @ tilt.turn.T for tilt in TILTS])
    behind = place > PERIOD // 2
    return np.where(behind, PERIOD - place, place), behind, (frequency.min(axis=-1) > 0.5).astype(np.float32)


def _box(power: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over those of the 5 x 5 neighbours where `known` is 1; `power` is 0 elsewhere."""
    return np.asarray(_running(_running(power, 1), 2) / np.maximum(_running(_running(known, 1), 2), 1))


def _running(m: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Sums over five neighbours along an axis."""
    m = np.moveaxis(m, axis, 0)
    padded = np.zeros((len(m) + 4, *m.shape[1:]), np.float32)
    padded[2:-2] = m
    return np.moveaxis(padded[:-4] + padded[1:-3] + padded[2:-2] + padded[3:-1] + padded[4:], 0, axis)
