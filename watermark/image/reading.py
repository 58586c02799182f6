"""What a detector knows of a picture before it sees a key, and how it looks for sync lines in it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._cache import cached_property
from watermark.image.geometry import (
    ALIGNED_CHANCE,
    ALIGNED_PLACED,
    ALIGNED_TESTED,
    DIHEDRAL,
    LONG_SIDE,
    PEAKS,
    PERIOD,
    SCALES,
    SEARCHED_CHANCE,
    STEPS,
    TESTED,
    TILE,
    TILTS,
    TOP,
    Candidate,
    derotate,
    distinct,
    families,
    hypotheses,
    in_periods,
    limited,
    over_noise,
    parts,
    presence_scores,
    reduction,
    tile_layout,
)
from watermark.image.perceptual import DETECTED, SMOOTHING, detector_weight
from watermark.ops import lattice
from watermark.ops.picture import (
    CELL,
    correlate_tile,
    demodulate,
    displace,
    fold,
    limited_high_pass,
    reduced_shape,
    whiten,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from watermark.image.geometry import Floats, Lines, Matrix, Parts, Probes, Spectra, Sync, Turns


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
        self._search_factor = max(self._factor, max(height, width) / LONG_SIDE)
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
        kept = distinct(row, linear, scores)
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
        which, starts, directions = families(linear)
        turns = derotate(sync.phases.conj(), sync.lines, shift[which])
        fitted = self._polished(spectra, of[which], starts, directions, sync.lines / TILE, turns)
        [(z, moved)] = self._agreements(spectra, of[which], fitted, sync)
        worth = z * z / 2 - [len(along) for along in directions]
        best = [int(mine[np.argmax(worth[mine])]) for mine in _each(which, len(linear))]
        return self._at(spectra, of, fitted[best], moved[best], z[best], lines, [SEARCHED_CHANCE] * len(best))

    def _in_parts(
        self, sync: Sync, lines: Lines, rows: Sequence[int], candidates: Sequence[Candidate]
    ) -> list[Candidate]:
        """One reading in parts for each of `rows`, which may repeat."""
        spectra, of = self._spectra(rows)
        linear = np.array([at.linear * (self._search_factor / at.factor) for at in candidates])
        [(_, shift)] = self._agreements(spectra, of, linear, sync)
        frequencies = sync.lines / TILE @ linear.swapaxes(1, 2)
        phases = sync.phases.conj() * np.exp(2j * np.pi * (frequencies @ np.array(self._centre)))
        turns = derotate(phases, sync.lines, shift)
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
            read = derotate(self._tiles[tilt, n[:, 1] + TOP, n[:, 0] + TOP], lines, np.array(shift))
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
        return derotate(_sampled(spectra, of, linear, lines), lines, shift)


def _sampled(spectra: Spectra, of: Lines, linear: Matrix, lines: Lines) -> Turns:
    """Line values over noise, limited: complex64 of shape (m, lines)."""
    read = []
    for i, g in zip(of, linear, strict=True):
        values, level = spectra[i]
        read.append(lattice.sample(values, level, g, lines / TILE))
    return np.asarray(limited(np.array(read)))


def _each(numbers: Lines, count: int) -> list[Lines]:
    """Where 0, 1, ... stand in a list of numbers."""
    return [np.flatnonzero(numbers == i) for i in range(count)]
