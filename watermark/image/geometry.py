"""Where a lattice of spectral lines lies in a picture: how it was turned, mirrored, scaled and shifted.

The mark is periodic, so its spectrum is a lattice of lines. A picture that was changed by x = B u + t (u in the mark's
frame) shows line f at G f, G = B^-T. A few keyed sync lines of known phase tell G and t; nothing here looks at the
payload's signs, so the search costs no significance.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from watermark._cache import cached_property
from watermark.image.perceptual import (
    DETECTED,
    SMOOTHING,
    alike,
    detector_weight,
    library,
    mean_of,
    smooth,
)
from watermark.ops import lattice
from watermark.ops.picture import (
    CELL,
    REGION,
    correlate_tile,
    demodulate,
    displace,
    fold,
    gaussian_taps,
    limited_high_pass,
    reduced_shape,
    whiten,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Lines = NDArray[np.int64]
    Matrix = NDArray[np.float64]
    Turns = NDArray[np.complex64]
    Floats = NDArray[np.float32]
    Parts = tuple[Any, Any]  # moves and weights, arrays or tensors
    Probes = Callable[[Any, float], Any]
    Spectra = Any  # with their noise maps: a list of pairs of arrays, or a pair of tensors

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
_SMALLEST, SCALES = 0.235, 326  # up to 2.7: pictures enlarged by 4.3 to shrunk by 2.7 against their reduced size
PEAKS, _PLACED, TESTED = 48, 6, 3
ALIGNED_PLACED, ALIGNED_TESTED = 3, 2
ALIGNED_CHANCE, _SEARCHED_CHANCE = 4.4, 5.2
_PART, _PART_REACH, _PART_MOVE = 2.0, 5, 3.0  # parts of 16 pixels around a place; pixels at most; pixels expected
GRID = 64  # locate: half of them coarsely, 16 of them finely per period
_FREE = np.eye(4).reshape(4, 2, 2)
_STRETCH, _STRETCH_STEP = 0.095, 0.012

_MIRROR = np.diag([-1.0, 1.0])
_QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
_RIGHT_ANGLES = [np.eye(2), -np.eye(2), _QUARTER, -_QUARTER]
DIHEDRAL = np.array([*_RIGHT_ANGLES, *(turn @ _MIRROR for turn in _RIGHT_ANGLES)])


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


STEPS = np.array([tilt.step for tilt in TILTS])
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
    parts: Parts | None = None


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

    def template(self, stretches: slice) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Where some stretches expect the lines in a log-polar table: rows and columns."""
        rows, columns = self._template
        return rows[stretches], columns[stretches]

    def align(self, values: NDArray[np.complex64]) -> tuple[float, tuple[float, float]]:
        """Best agreement in standard deviations over all translations, and that translation."""
        best, x, y = lattice.locate(values * self.phases.conj(), self.lines, GRID)
        return best / float(np.sqrt(np.sum(np.abs(values) ** 2) / 2 + 1e-9)), (x / GRID, y / GRID)


class Readings(ABC):
    """What a detector knows of pictures of one size before it sees a key.

    Parts are computed when they are first needed.

    Args:
        height: Pixels.
        width: Pixels.
        count: Number of pictures; `rows` below are numbers of some of them.
    """

    def __init__(self, height: int, width: int, count: int) -> None:
        self._factor = reduction(height, width)
        self._search_factor = max(self._factor, max(height, width) / _LONG_SIDE)
        down, across = reduced_shape((height, width), self._search_factor)
        self._centre = float(across // 2), float(down // 2)
        self.count = count

    @abstractmethod
    def aligned(self, sync: Sync, lines: Lines, rows: Sequence[int]) -> Sequence[Iterable[Candidate]]:
        """Pictures at the scale of their marking: turned by right angles or mirrored, and cropped anyhow.

        Returns:
            For each of `rows` the best hypotheses on tilt and orientation.
        """

    @abstractmethod
    def presence(
        self, rows: Sequence[int], candidates: Sequence[Candidate], samples: Sequence[NDArray[np.float32]]
    ) -> Sequence[NDArray[np.float32]]:
        """How much of a pattern lies where, once it was found.

        Args:
            rows: Pictures.
            candidates: Where in each of them the pattern lies.
            samples: One period of each, float32 of shape (128, 128).

        Returns:
            Standard scores on a grid of `PRESENCE_CELL` x `Candidate.factor` pixels, float32: correlation of the
            surroundings (Gaussian of 2.5 cells) with the pattern over its deviation in places without it.
        """

    @abstractmethod
    def in_parts(
        self, sync: Sync, lines: Lines, rows: Sequence[int], candidates: Sequence[Sequence[Candidate]]
    ) -> Sequence[Iterable[Candidate]]:
        """Reads hypotheses again, part by part: only where their sync lines are, and moved to where they fit.

        For pictures that were warped, or of which only a part is left. A picture is weighted and unwarped by what the
        sync lines say around each place, then read as a whole.

        Returns:
            For each of `rows` one for each of its `candidates`.
        """

    @abstractmethod
    def _spectra(self, rows: Sequence[int]) -> tuple[Spectra, Lines]:
        """Spectra with their noise maps, and which of them belong to `rows`."""

    @abstractmethod
    def _unwarped(self, rows: Lines, frequencies: Matrix, turns: Turns) -> tuple[Spectra, Sequence[Parts]]:
        """Spectra of pictures moved and weighted by what lines at `frequencies`, (m, k, 2), say of their parts."""

    @abstractmethod
    def _probed(self, row: int, probes: Callable[[Any], Any], parts: Parts | None) -> tuple[Spectra, int]:
        """Spectra of a picture times maps, which are made of its luma over cells; and how many there are.

        They share the noise map of the last.
        """

    @abstractmethod
    def _peaks(self, sync: Sync, stretches: slice, rows: Sequence[int]) -> tuple[Lines, Matrix, Matrix]:
        """What a search finds, fitted to the power of the sync lines: to which of `rows` it belongs, G, scores."""

    @abstractmethod
    def _polished(
        self,
        spectra: Spectra,
        of: Lines,
        starts: Matrix,
        directions: Sequence[Matrix],
        frequencies: Matrix,
        turns: Turns,
    ) -> Matrix:
        """Hypotheses on the spectra `of`, fitted to the phases of lines, conjugate to `turns`."""

    @abstractmethod
    def _agreements(
        self, spectra: Spectra, of: Lines, linear: Matrix, sync: Sync, *, mirrored: bool = False
    ) -> list[tuple[Matrix, Matrix]]:
        """Agreement of sync lines, shape (m,), and best translation, (m, 2); once more for -G if `mirrored`."""

    @abstractmethod
    def _read(self, spectra: Spectra, of: Lines, linear: Matrix, lines: Lines, shift: Matrix) -> Turns:
        """Values at lines, de-rotated: complex64 of shape (m, lines)."""

    def searched(self, sync: Sync, lines: Lines, rows: Sequence[int], stretches: slice) -> list[list[Candidate]]:
        """Pictures turned by any angle, mirrored, scaled and stretched.

        Returns:
            For each of `rows` the three best hypotheses.
        """
        spectra, places = self._spectra(rows)
        row, linear, scores = self._peaks(sync, stretches, rows)
        if not len(row):  # blank pictures
            return [[] for _ in rows]
        kept = _distinct(row, linear, scores)
        row, linear = row[kept], linear[kept]
        # Power spectra do not tell G from -G.
        (ahead, shift), (behind, back) = self._agreements(spectra, places[row], linear, sync, mirrored=True)
        turned = behind > ahead
        linear = np.where(turned[:, None, None], -linear, linear)
        shift, z = np.where(turned[:, None], back, shift), np.maximum(ahead, behind)
        best = [mine[np.argsort(-z[mine], kind="stable")[:TESTED]] for mine in _each(row, len(rows))]
        chosen = np.concatenate(best)
        found = iter(self._candidates(spectra, places[row[chosen]], linear[chosen], shift[chosen], sync, lines))
        return [[next(found) for _ in mine] for mine in best]

    def _candidates(
        self, spectra: Spectra, of: Lines, linear: Matrix, shift: Matrix, sync: Sync, lines: Lines
    ) -> list[Candidate]:
        """Fits hypotheses finely by the phases of the sync lines, and reads all lines there.

        Of an affine change, a similarity, and a mere scale of an upright picture the one is taken that fits best for
        its freedom: fewer parameters follow the noise less.
        """
        which, starts, directions = _families(linear)
        turns = _derotate(sync.phases.conj(), sync.lines, shift[which])
        fitted = self._polished(spectra, of[which], starts, directions, sync.lines / TILE, turns)
        [(z, moved)] = self._agreements(spectra, of[which], fitted, sync)
        worth = z * z / 2 - [len(along) for along in directions]
        best = [int(mine[np.argmax(worth[mine])]) for mine in _each(which, len(linear))]
        return self._at(spectra, of, fitted[best], moved[best], z[best], lines, [_SEARCHED_CHANCE] * len(best))

    def _in_parts(
        self, sync: Sync, lines: Lines, rows: Sequence[int], candidates: Sequence[Candidate]
    ) -> list[Candidate]:
        """One reading in parts for each of `rows`, which may repeat."""
        spectra, of = self._spectra(rows)
        linear = np.array([at.linear * (self._search_factor / at.factor) for at in candidates])
        [(_, shift)] = self._agreements(spectra, of, linear, sync)
        frequencies = sync.lines / TILE @ linear.swapaxes(1, 2)
        phases = sync.phases.conj() * np.exp(2j * np.pi * (frequencies @ np.array(self._centre)))
        turns = _derotate(phases, sync.lines, shift)
        spectra, through = self._unwarped(np.array(rows, np.int64), frequencies, turns)
        each = np.arange(len(candidates))
        [(z, shift)] = self._agreements(spectra, each, linear, sync)
        found = self._at(spectra, each, linear, shift, z, lines, [at.chance for at in candidates])
        return [replace(at, parts=moved) for at, moved in zip(found, through, strict=True)]

    def through(self, row: int, candidate: Candidate, lines: Lines, probes: Probes) -> Turns:
        """Lines of a picture times maps that are made of it.

        Args:
            row: The picture.
            candidate: Where the lines lie.
            lines: Integer frequencies in the tile.
            probes: Called with luma (0 to 255) on the grid of 4 x 4 pixel cells, and the number of pixels per pixel of
                the mark's frame; returns k maps on that grid.

        Returns:
            Values normalised by one noise for all maps, limited and de-rotated: complex64 of shape (k, lines).
        """
        ratio = self._search_factor / candidate.factor
        linear = candidate.linear * ratio
        scale = 1 / math.sqrt(abs(np.linalg.det(linear)))
        spectra, count = self._probed(row, lambda luma: probes(luma, scale), candidate.parts)
        origin = (np.array(self._centre) + 0.5) * ratio - 0.5
        shift = candidate.shift - candidate.linear.T @ (origin - candidate.origin) / TILE
        return self._read(spectra, np.arange(count), np.array([linear] * count), lines, np.array([shift] * count))

    def _at(
        self,
        spectra: Spectra,
        of: Lines,
        linear: Matrix,
        shift: Matrix,
        z: Matrix,
        lines: Lines,
        chances: Sequence[float],
    ) -> list[Candidate]:
        """Candidates from where they are."""
        read = self._read(spectra, of, linear, lines, shift)
        found = zip(linear, shift.tolist(), z.tolist(), read, chances, strict=True)
        return [
            Candidate(g, (x, y), agreement, values, self._search_factor, chance, self._centre)
            for g, (x, y), agreement, values, chance in found
        ]


class Reading(Readings):
    """One picture on the CPU.

    Args:
        pixels: uint8, uint16, or floats in [0, 1], of shape (H, W, C).
    """

    def __init__(self, pixels: NDArray[Any]) -> None:
        super().__init__(pixels.shape[0], pixels.shape[1], 1)
        self._pixels = pixels
        self._seen: dict[float, tuple[Floats, Floats]] = {}

    @cached_property
    def _tiles(self) -> NDArray[np.complex64]:
        cycles = np.fft.rfft(fold(self._whitened(self._factor), STEPS, PERIOD)).astype(np.complex64)
        place, behind, known = tile_layout()
        values = np.take_along_axis(cycles, place.reshape(len(TILTS), -1), 1).reshape(place.shape)
        tiles: NDArray[np.complex64] = over_noise(np.where(behind, values.conj(), values), known)
        return tiles

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
            high, means = limited_high_pass(self._pixels, factor, DETECTED, SMOOTHING)
            self._seen[factor] = whiten(high, detector_weight(means[1])), means[2]
        return self._seen[factor]

    def presence(
        self, rows: Sequence[int], candidates: Sequence[Candidate], samples: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """See `Readings.presence`."""
        maps = []
        for candidate, pattern in zip(candidates, samples, strict=True):
            y = self._whitened(candidate.factor)
            maps.append(presence_scores(*correlate_tile(y, pattern, *in_periods(candidate))))
        return maps

    def aligned(self, sync: Sync, lines: Lines, rows: Sequence[int]) -> list[Iterator[Candidate]]:
        """See `Readings.aligned`."""
        return [self._aligned(sync, lines) for _ in rows]

    def _aligned(self, sync: Sync, lines: Lines) -> Iterator[Candidate]:
        turned = sync.lines @ DIHEDRAL.swapaxes(1, 2).astype(np.int64)
        values = self._tiles[:, turned[..., 1] + TOP, turned[..., 0] + TOP]
        power = np.sum(values.real**2 + values.imag**2, axis=-1)
        strongest = np.argsort(-power, axis=None)[:ALIGNED_PLACED]
        places = [(int(i) // len(DIHEDRAL), int(i) % len(DIHEDRAL)) for i in strongest]
        placed = [(*sync.align(values[place]), *place) for place in places]
        for z, shift, tilt, way in sorted(placed, key=lambda item: -item[0])[:ALIGNED_TESTED]:
            n = lines @ DIHEDRAL[way].T.astype(np.int64)
            read = _derotate(self._tiles[tilt, n[:, 1] + TOP, n[:, 0] + TOP], lines, np.array(shift))
            yield Candidate(TILTS[tilt].turn @ DIHEDRAL[way], shift, z, read, self._factor, ALIGNED_CHANCE, (0.0, 0.0))

    @cached_property
    def _ratio(self) -> NDArray[np.float32]:
        return lattice.power_ratio(self._spectrum, self._noise)

    @cached_property
    def _table(self) -> NDArray[np.uint8]:
        return lattice.log_polar(self._ratio)

    def _spectra(self, rows: Sequence[int]) -> tuple[Spectra, Lines]:
        return [(self._spectrum, self._noise)], np.zeros(len(rows), np.int64)

    def _peaks(self, sync: Sync, stretches: slice, rows: Sequence[int]) -> tuple[Lines, Matrix, Matrix]:
        found = lattice.search(self._table, *sync.template(stretches), SCALES, PEAKS)
        fitted, scores = lattice.refine(self._ratio, hypotheses(found, stretches), sync.lines / TILE)
        return np.zeros(len(found), np.int64), fitted, scores

    def in_parts(
        self, sync: Sync, lines: Lines, rows: Sequence[int], candidates: Sequence[Sequence[Candidate]]
    ) -> list[Iterator[Candidate]]:
        """See `Readings.in_parts`."""
        return [(self._in_parts(sync, lines, rows, [at])[0] for at in mine) for mine in candidates]

    def _unwarped(self, rows: Lines, frequencies: Matrix, turns: Turns) -> tuple[Spectra, list[Parts]]:
        y = self._whitened(self._search_factor)
        found, through = [], []
        for f, turn in zip(frequencies, turns, strict=True):
            through.append(parts(demodulate(y, f) * turn[:, None, None], f))
            spectrum = lattice.spectrum(displace(y, *through[-1]))
            found.append((spectrum, lattice.noise(spectrum)))
        return found, through

    def _probed(self, row: int, probes: Callable[[Any], Any], parts: Parts | None) -> tuple[Spectra, int]:
        y, luma = self._reduced(self._search_factor)
        height, width = y.shape
        seen = [y * m.repeat(CELL, 0).repeat(CELL, 1)[:height, :width] for m in probes(luma)]
        if parts is not None:
            seen = [displace(part, *parts) for part in seen]
        spectra = [lattice.spectrum(part) for part in seen]
        noise = lattice.noise(spectra[-1])
        return [(spectrum, noise) for spectrum in spectra], len(spectra)

    def _polished(
        self,
        spectra: Spectra,
        of: Lines,
        starts: Matrix,
        directions: Sequence[Matrix],
        frequencies: Matrix,
        turns: Turns,
    ) -> Matrix:
        found = []
        for i, start, along, turn in zip(of, starts, directions, turns, strict=True):
            values, level = spectra[i]
            found.append(lattice.polish(values, level, start, along, frequencies, turn)[0])
        return np.array(found)

    def _agreements(
        self, spectra: Spectra, of: Lines, linear: Matrix, sync: Sync, *, mirrored: bool = False
    ) -> list[tuple[Matrix, Matrix]]:
        values = _sampled(spectra, of, linear, sync.lines)
        placed = [[sync.align(v) for v in way] for way in ([values, values.conj()] if mirrored else [values])]
        return [(np.array([z for z, _ in way]), np.array([shift for _, shift in way])) for way in placed]

    def _read(self, spectra: Spectra, of: Lines, linear: Matrix, lines: Lines, shift: Matrix) -> Turns:
        return _derotate(_sampled(spectra, of, linear, lines), lines, shift)


def _sampled(spectra: Spectra, of: Lines, linear: Matrix, lines: Lines) -> Turns:
    """Line values over noise, limited: complex64 of shape (m, lines)."""
    read = []
    for i, g in zip(of, linear, strict=True):
        values, level = spectra[i]
        read.append(lattice.sample(values, level, g, lines / TILE))
    return np.asarray(limited(np.array(read)))


def hypotheses(peaks: NDArray[np.integer[Any]], stretches: slice) -> Matrix:
    """The G of peaks that a search of these stretches found: float64 of shape (n, 2, 2)."""
    _, shape, scale, turn = peaks.T
    size = _SMALLEST * np.exp(lattice.LOG_STEP * scale)
    cosine, sine = (size * f(np.pi * turn / lattice.ANGLES) for f in (np.cos, np.sin))
    return np.asarray(np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0) @ _stretches()[stretches][shape])


def _each(numbers: Lines, count: int) -> list[Lines]:
    """Where 0, 1, ... stand in a list of numbers."""
    return [np.flatnonzero(numbers == i) for i in range(count)]


def _distinct(row: Lines, linear: Matrix, scores: Matrix) -> Lines:
    """The best hypotheses of each row that are not the same: where they stand, rows and scores in order."""
    order = np.lexsort((-scores, row))
    row, g = row[order], linear[order].reshape(-1, 4)
    size = np.abs(g).max(axis=1)
    kept, rivals = np.zeros(len(g), bool), np.ones(len(g), bool)
    picked = np.zeros(row.max() + 1, np.int64)
    for _ in range(_PLACED):
        left = np.flatnonzero(rivals)
        rows, first = np.unique(row[left], return_index=True)
        picked[rows] = left[first]
        kept[picked[rows]] = True
        best = g[picked[row]]
        apart = np.minimum(np.abs(g - best).max(axis=1), np.abs(g + best).max(axis=1))
        rivals &= apart > 0.004 * size
    return np.asarray(order[kept])


def in_periods(candidate: Candidate) -> tuple[Matrix, Matrix]:
    """Where pixels lie in the pattern: pixel (x, y) at ``linear @ (x, y) + offset`` periods."""
    linear = candidate.linear.T / TILE
    return linear, -np.array(candidate.shift) - linear @ np.array(candidate.origin)


def presence_scores(found: Any, elsewhere: Any) -> Any:
    """A presence map from what `correlate_tile` gives, for arrays and for tensors."""
    # The pattern half a period away is not there: what it correlates with is what chance gives, place by place.
    reach = gaussian_taps(_PRESENCE_SIGMA)
    overlap = float(2 * np.sum(reach * reach) - reach[0] * reach[0]) ** 2
    variance = smooth(elsewhere * elsewhere, _PRESENCE_SIGMA / math.sqrt(2)) * overlap
    # Where the picture is blank, chance gives nothing to divide by.
    least = 0.05 * mean_of(variance) + 1e-12
    return smooth(found, _PRESENCE_SIGMA) / library(found).sqrt(library(found).maximum(variance, least))


def parts(sync: Any, frequencies: Matrix) -> tuple[Any, Any]:
    """Where sync lines are, and how far they were moved there; for arrays and for tensors.

    Args:
        sync: What each line contributes to each part, turned so that its phase should be 0: complex64 of shape
            (k, rows, columns).
        frequencies: Of the lines, float64 of shape (k, 2).

    Returns:
        Moves that undo the displacement, in pixels, float32 of shape (2, rows, columns); and weights from 0 to 1.
    """
    xp = library(sync)
    sync = sync / xp.sqrt((abs(sync) ** 2).mean((-2, -1))[:, None, None] + 1e-20)
    around = smooth(xp.stack([sync.real, sync.imag], 1).reshape(-1, *sync.shape[1:]), _PART)
    taps = gaussian_taps(_PART)
    deviation = math.sqrt(len(sync) / 2) * float(2 * np.sum(taps * taps) - taps[0] ** 2)
    steps = np.arange(-_PART_REACH, _PART_REACH + 1.0)
    moves = np.stack([m.ravel() for m in np.meshgrid(steps, steps)])
    turns = np.exp(-2j * np.pi * (frequencies @ moves)).T / deviation
    waves = np.stack([turns.real, -turns.imag], axis=2).reshape(len(turns), -1).astype(np.float32)
    unlikely = (np.sum(moves * moves, axis=0) / (2 * _PART_MOVE**2))[:, None, None]
    z = xp.tensordot(alike(waves, sync), around, 1)
    best = (xp.clip(z, 0, None) ** 2 / 2 - alike(unlikely, sync)).argmax(0)
    z = xp.where(best[None] == alike(np.arange(len(unlikely)), sync)[:, None, None], z, 0).sum(0)
    trust = xp.where(z > 3, z * z, 0) + 1e-3
    moved = alike(moves.astype(np.float32), sync)[:, best]
    sums = smooth(xp.concatenate([trust[None], trust * moved]), 1.0)
    sure = xp.clip(z - 1, 0, None)
    return sums[1:] / sums[:1], xp.clip(2 * sure / (sure.max() + 1e-9), None, 1)


def _families(linear: Matrix) -> tuple[Lines, Matrix, list[Matrix]]:
    """Starting points near each G, float64 of shape (n, 2, 2), with the directions in which its family may change.

    Returns:
        The number of the G that each starting point belongs to, starting points, and their directions.
    """
    mirror = np.ones((len(linear), 1, 2))
    mirror[:, 0, 0] = np.copysign(1.0, np.linalg.det(linear))
    upright = linear * mirror
    a, b = (upright[:, 0, 0] + upright[:, 1, 1]) / 2, (upright[:, 1, 0] - upright[:, 0, 1]) / 2
    similar = np.moveaxis(np.array([[a, -b], [b, a]]), 2, 0)
    size = np.hypot(a, b)[:, None, None]

    def like(other: Matrix) -> NDArray[np.bool_]:
        return np.asarray(np.abs(similar - other).max(axis=(1, 2)) <= 0.02 * size[:, 0, 0])

    apart = np.abs(_UPRIGHT * size[:, None] - similar[:, None]).max(axis=(2, 3))
    straight = _UPRIGHT[apart.argmin(axis=1)]
    turned, scaled = like(upright), like(upright) & like(straight * size)
    tried: list[tuple[int, Matrix, Matrix]] = []
    for i, (m, s) in enumerate(zip(mirror, size, strict=True)):
        tried.append((i, linear[i], _FREE))
        if turned[i]:
            tried.append((i, similar[i] * m, np.stack([similar[i] * m, similar[i] @ _QUARTER * m]) / s))
        if scaled[i]:
            tried.append((i, straight[i] * s * m, (straight[i] * m)[None]))
    which, starts = np.array([i for i, _, _ in tried], np.int64), np.array([start for _, start, _ in tried])
    return which, starts.reshape(-1, 2, 2), [along for _, _, along in tried]


def limited(values: Any) -> Any:
    """Limits magnitudes, of arrays or tensors: text and tiles make single lines far stronger than a mark's."""
    clip = library(values).clip
    return values * clip(float(_LINE_LIMIT) / clip(abs(values), 1e-9, None), None, 1)


def _derotate(values: NDArray[np.complexfloating[Any]], lines: Lines, shift: Matrix) -> Turns:
    return np.asarray(values * np.exp(2j * np.pi * (shift @ lines.T)), np.complex64)


@lru_cache(maxsize=1)
def tile_layout() -> tuple[Lines, NDArray[np.bool_], NDArray[np.float32]]:
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


def over_noise(values: Any, known: Any) -> Any:
    """Values of lattice lines over the root mean power around them, limited; for arrays and for tensors.

    Args:
        values: complex64 of shape (..., tilts, 2 TOP + 1, 2 TOP + 1).
        known: From `tile_layout`.
    """
    xp = library(values)
    neighbours = xp.clip(_running(_running(known, -2), -1), 1, None)
    power = (values.real**2 + values.imag**2) * known
    level = _running(_running(power, -2), -1) / neighbours
    level = _running(_running(xp.minimum(power, 3 * level), -2), -1) / neighbours
    level = _running(_running(xp.minimum(power, 4 * level), -2), -1) / neighbours
    return limited(values / xp.sqrt(1.08 * level + 1e-20))


def _running(m: Any, axis: int) -> Any:
    """Sums over five neighbours along one of the last two axes."""
    xp = library(m)
    after = (slice(None),) * (-1 - axis)
    edge = xp.zeros_like(m[(..., slice(2), *after)])
    padded = xp.concatenate([edge, m, edge], axis)
    size = m.shape[axis]
    a, b, c, d, e = (padded[(..., slice(i, i + size), *after)] for i in range(5))
    return a + b + c + d + e
