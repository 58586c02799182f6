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
from watermark.image.perceptual import (
    alike,
    library,
    mean_of,
    smooth,
)
from watermark.ops import lattice
from watermark.ops.picture import (
    REGION,
    gaussian_taps,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
LONG_SIDE = 7 * lattice.FIELD // 8
_LINE_LIMIT = np.float32(2.5)
_SMALLEST, SCALES = 0.235, 326  # up to 2.7: pictures enlarged by 4.3 to shrunk by 2.7 against their reduced size
PEAKS, _PLACED, TESTED = 48, 6, 3
ALIGNED_PLACED, ALIGNED_TESTED = 3, 2
ALIGNED_CHANCE, SEARCHED_CHANCE = 4.4, 5.2
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


def hypotheses(peaks: NDArray[np.integer[Any]], stretches: slice) -> Matrix:
    """The G of peaks that a search of these stretches found: float64 of shape (n, 2, 2)."""
    _, shape, scale, turn = peaks.T
    size = _SMALLEST * np.exp(lattice.LOG_STEP * scale)
    cosine, sine = (size * f(np.pi * turn / lattice.ANGLES) for f in (np.cos, np.sin))
    return np.asarray(np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0) @ _stretches()[stretches][shape])


def distinct(row: Lines, linear: Matrix, scores: Matrix) -> Lines:
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


def families(linear: Matrix) -> tuple[Lines, Matrix, list[Matrix]]:
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


def derotate(values: NDArray[np.complexfloating[Any]], lines: Lines, shift: Matrix) -> Turns:
    """Line values as they would be without the shift, in periods."""
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
