"""A picture's spectrum, and how a mark's lattice of lines is found and read in it.

Frequencies are in cycles per pixel. A spectrum is the lower half plane's worth of a real picture centred in an N x N
field, as `numpy.fft.rfft2` orders it: rows are vertical frequencies 0..N/2-1, -N/2..-1, columns horizontal ones 0..N/2.
A matrix G maps a line's frequency in the mark's frame to where it lies in the spectrum.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from watermark.ops._native import core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Octets = NDArray[np.uint8]
    Spectrum = NDArray[np.complex64]

FIELD = 1024
"""N: side of the field. A picture must fit with room to spare (at most 7/8 of it) for `sample` to be accurate."""
NOISE_CELL = 8
ANGLES = 448
LOG_STEP = 0.0075
LOWEST = 0.0145
ROWS = 530
_REACH = 4
_BETA = 4.5
_CLIP = np.float32(8)


def spectrum(y: Floats) -> Spectrum:
    """Fourier transform of a picture whose centre pixel (h // 2, w // 2) is taken as the origin.

    Args:
        y: float32 of shape (h, w), at most N on a side.

    Returns:
        complex64 of shape (N, N / 2 + 1).
    """
    out = np.empty((FIELD, FIELD // 2 + 1), np.complex64)
    core.spectrum(y, out.view(np.float32))
    return out


def spectrum_reference(y: Floats) -> Spectrum:
    """The same in NumPy."""
    field = np.zeros((FIELD, FIELD), np.float32)
    field[: y.shape[0], : y.shape[1]] = y
    field = np.roll(field, (-(y.shape[0] // 2), -(y.shape[1] // 2)), (0, 1))
    return np.fft.rfft2(field).astype(np.complex64)


def noise(values: Spectrum) -> Floats:
    """Smooth map of the power around each frequency, blind to lone peaks.

    Power is averaged over 8 x 8 cells and 3 x 3 of them, then twice more with peaks clipped at three, then four times
    the average so far.

    Args:
        values: A spectrum.

    Returns:
        float32 of shape (N / 8, N / 16 + 1): cell (i, j) is centred on row 8 i, column 8 j.
    """
    out = np.empty((FIELD // NOISE_CELL, FIELD // (2 * NOISE_CELL) + 1), np.float32)
    core.noise(values.view(np.float32), out)
    return out


def noise_reference(values: Spectrum) -> Floats:
    """The same in NumPy."""
    power = np.abs(values.astype(np.complex128)) ** 2
    power[np.abs(np.fft.fftfreq(FIELD) * FIELD) < 4, :4] = 0  # the mean and its leakage
    rows, columns = FIELD // NOISE_CELL, FIELD // (2 * NOISE_CELL) + 1
    half = NOISE_CELL // 2
    # Columns left of 0 mirror those right of it: the picture is real.
    left = np.roll(power[::-1], 1, axis=0)[:, half:0:-1]
    right = np.roll(power[::-1], 1, axis=0)[:, -2 : -2 - half : -1]
    power = np.roll(np.concatenate([left, power, right], axis=1)[:, : columns * NOISE_CELL], half, axis=0)

    def smooth(cell: Doubles) -> Doubles:
        wide = np.concatenate([np.roll(cell[::-1], 1, axis=0)[:, 1:2], cell, cell[:, -1:]], axis=1)
        wide = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
        return np.asarray((np.roll(wide, 1, axis=0) + wide + np.roll(wide, -1, axis=0)) / 9)

    def average(limit: Doubles | None) -> Doubles:
        tiles = power.reshape(rows, NOISE_CELL, columns, NOISE_CELL)
        if limit is not None:
            tiles = np.minimum(tiles, limit[:, None, :, None])
        return smooth(tiles.mean(axis=(1, 3)))

    first = average(None)
    second = average(3 * first)
    return (1.08 * average(4 * second)).astype(np.float32) + np.float32(1e-20)


def power_ratio(values: Spectrum, level: Floats) -> Floats:
    """Power over noise: float32 of shape (N, N / 2 + 1).

    Args:
        values: A spectrum.
        level: Its noise map.
    """
    out = np.empty(values.shape, np.float32)
    core.power_ratio(values.view(np.float32), level, out)
    return out


def power_ratio_reference(values: Spectrum, level: Floats) -> Floats:
    """The same in NumPy."""
    row, column = np.arange(values.shape[0])[:, None], np.arange(values.shape[1])
    near = level[(row + NOISE_CELL // 2) // NOISE_CELL % len(level), (column + NOISE_CELL // 2) // NOISE_CELL]
    return np.asarray((values.real * values.real + values.imag * values.imag) / near)


def _at(ratio: Floats, x: NDArray[np.int64], y: NDArray[np.int64]) -> Floats:
    """Values at integer frequencies (x to the right, y down, either sign)."""
    return np.asarray(ratio[np.where(x < 0, -y, y) % FIELD, np.abs(x)])


def log_polar(ratio: Floats) -> Octets:
    """Power over noise on rings and rays, pooled so that a near miss still counts.

    The ratio is limited to 7 and rounded down; an entry is the largest of 3 x 3 frequencies around it. Row i lies
    at radius `LOWEST` exp(`LOG_STEP` i) cycles per pixel, column j at angle pi j / `ANGLES`. Rows beyond .49 cycles per
    pixel hold the rounded mean of the others.

    Args:
        ratio: From `power_ratio`.

    Returns:
        uint8 of shape (`ROWS`, `ANGLES`).
    """
    out = np.empty((ROWS, ANGLES), np.uint8)
    core.log_polar(ratio, _places(), out)
    return out


def log_polar_reference(ratio: Floats) -> Octets:
    """The same in NumPy."""
    places = _places()
    row, column = np.divmod(places.astype(np.int64), FIELD // 2 + 1)
    pooled = np.zeros(places.shape, np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            known = column + dx <= FIELD // 2
            near = _at(ratio, np.minimum(column + dx, FIELD // 2), row + dy)
            pooled = np.maximum(pooled, np.where(known, near, 0))
    known = places >= 0
    table = np.floor(np.minimum(pooled, 7)).astype(np.uint8)
    total, count = int(table[known].sum()), int(known.sum())
    table[~known] = (2 * total + count) // (2 * count)
    return table


@lru_cache(maxsize=1)
def _places() -> NDArray[np.int32]:
    """Index into a spectrum of each entry of the log-polar table, -1 beyond .49 cycles per pixel."""
    radius = LOWEST * np.exp(LOG_STEP * np.arange(ROWS))[:, None]
    angle = np.pi * np.arange(ANGLES) / ANGLES
    x, y = (np.rint(FIELD * radius * turn(angle)).astype(np.int64) for turn in (np.cos, np.sin))
    row = np.where(x < 0, -y, y) % FIELD
    places = np.where(radius < 0.49, row * (FIELD // 2 + 1) + np.abs(x), -1).astype(np.int32)
    places.setflags(write=False)
    return places


def template(lines: Doubles, maps: Doubles, smallest: float) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Where hypotheses expect lines in the log-polar table.

    Args:
        lines: Frequencies in the mark's frame, float64 of shape (k, 2) as (x, y).
        maps: Hypotheses G without turn and scale, float64 of shape (n, 2, 2).
        smallest: Scale at which the search starts.

    Returns:
        Rows and columns, int32 of shape (n, k), for scale `smallest` and no turn.
    """
    f = np.einsum("nij,kj->nki", maps, lines)
    rows = np.log(smallest * np.hypot(f[..., 0], f[..., 1]) / LOWEST) / LOG_STEP
    columns = np.arctan2(f[..., 1], f[..., 0]) / np.pi * ANGLES
    return np.rint(rows).astype(np.int32), (np.rint(columns) % ANGLES).astype(np.int32)


def search(
    table: Octets, rows: NDArray[np.int32], columns: NDArray[np.int32], scales: int, most: int
) -> NDArray[np.int32]:
    """The hypotheses, scales and turns at which lines collect most power: sums of shifted table rows.

    Args:
        table: From `log_polar`.
        rows: From `template`, int32 of shape (n, k), k even and at most 36: so many limited ratios fit a byte.
        columns: The same.
        scales: Number of steps of `LOG_STEP` to try.
        most: How many to return.

    Returns:
        int32 of shape (at most `most`, 4), best first: score, hypothesis, scale step, turn in steps of pi / `ANGLES`.
        Only local maxima along the turn.
    """
    out = np.empty((most, 4), np.int32)
    return out[: core.search(table, rows, columns, scales, out)]


def search_reference(
    table: Octets, rows: NDArray[np.int32], columns: NDArray[np.int32], scales: int, most: int
) -> NDArray[np.int32]:
    """The same in NumPy. Among equal scores it may keep others."""
    turn = np.arange(ANGLES)
    step = np.arange(scales)[:, None]
    peaks = []
    for h, (row, column) in enumerate(zip(rows, columns, strict=True)):
        sums = sum(table[r + step, (c + turn) % ANGLES].astype(np.int32) for r, c in zip(row, column, strict=True))
        highest = (sums > 0) & (np.roll(sums, 1, 1) <= sums) & (np.roll(sums, -1, 1) < sums)
        s, a = np.nonzero(highest)
        peaks.append(np.stack([sums[s, a], np.full(len(s), h), s, a], axis=1))
    found = np.concatenate(peaks)
    return found[np.argsort(-found[:, 0], kind="stable")[:most]].astype(np.int32)


def refine(ratio: Floats, starts: Doubles, lines: Doubles, reach: int = 4) -> tuple[Doubles, Doubles]:
    """Fits hypotheses to the peaks around them.

    Five rounds of weighted least squares on sub-pixel peak positions within a shrinking reach, each kept only if the
    power on the lines does not drop, then coordinate ascent on that power.

    Args:
        ratio: From `power_ratio`.
        starts: G of each, float64 of shape (n, 2, 2).
        lines: float64 of shape (k, 2).
        reach: Radius of the first search, in frequency steps.

    Returns:
        The fitted G, and their scores: the sums of interpolated power ratios, float64 of shape (n,).
    """
    fitted, scores = np.array(starts, np.float64), np.empty(len(starts))
    core.refine(ratio, fitted, lines, reach, scores)
    return fitted, scores


def refine_reference(ratio: Floats, start: Doubles, lines: Doubles, reach: int = 4) -> tuple[Doubles, float]:
    """The same for one hypothesis in NumPy."""
    g = np.array(start, np.float64)

    def at(x: NDArray[np.int64], y: NDArray[np.int64]) -> Doubles:
        return _at(ratio, x, y).astype(np.float64)

    def score(g: Doubles) -> float:
        f = lines @ g.T
        seen = np.abs(f).max(axis=1) < 0.49
        position = np.where(seen[:, None], f * FIELD, 0)
        (x, y), (tx, ty) = np.floor(position).astype(int).T, (position % 1).T
        upper = (1 - tx) * at(x, y) + tx * at(x + 1, y)
        lower = (1 - tx) * at(x, y + 1) + tx * at(x + 1, y + 1)
        return float(np.where(seen, np.minimum((1 - ty) * upper + ty * lower, _CLIP), 1).sum())

    def top(left: Doubles, middle: Doubles, right: Doubles) -> Doubles:
        left, middle, right = np.sqrt(left), np.sqrt(middle), np.sqrt(right)
        bend = np.minimum(left - 2 * middle + right, -1e-6)
        return np.where(bend > -1.0001e-6, 0, np.clip(0.5 * (left - right) / bend, -0.5, 0.5))

    for r in (max(reach - i, 1) for i in range(5)):
        f = lines @ g.T
        near = np.abs(f).max(axis=1) < 0.5 - (r + 2) / FIELD
        centre = np.rint(f[near] * FIELD).astype(int)
        dy, dx = (d.ravel() for d in np.mgrid[-r : r + 1, -r : r + 1])
        around = at(centre[:, :1] + dx, centre[:, 1:] + dy)
        best = around.argmax(axis=1)
        x, y, peak = centre[:, 0] + dx[best], centre[:, 1] + dy[best], around.max(axis=1)
        q = np.stack([x + top(at(x - 1, y), peak, at(x + 1, y)), y + top(at(x, y - 1), peak, at(x, y + 1))])
        far = np.sum((q.T - f[near] * FIELD) ** 2, axis=1)
        weight = np.where(peak < 2, 0, (np.minimum(peak, _CLIP) - 1.5) ** 2 / (1 + far / 4))
        ff = (lines[near].T * weight) @ lines[near]
        qf = (q / FIELD * weight) @ lines[near]
        ridge = 0.02 * np.trace(ff) + 1e-12
        if np.linalg.det(ff + ridge * np.eye(2)) <= 1e-18:
            break
        fitted = np.linalg.solve(ff + ridge * np.eye(2), (qf + ridge * g).T).T
        if score(fitted) < score(g) - 2:
            break
        g = fitted
    best_score, step = score(g), 3 / FIELD
    for _ in range(6):
        for _ in range(6):
            improved = False
            for i in range(8):
                trial = g.copy()
                trial.flat[i // 2] += step if i % 2 else -step
                if (now := score(trial)) > best_score + 1e-9:
                    g, best_score, improved = trial, now, True
            if not improved:
                break
        step *= 0.6
    return g, best_score


def sample(values: Spectrum, level: Floats, linear: Doubles, lines: Doubles) -> Spectrum:
    """Complex values at arbitrary frequencies, over the square root of the noise level.

    Interpolates with a Kaiser-windowed sinc of 8 x 8 taps. Lines at or beyond .485 cycles per pixel read 0.

    Args:
        values: A spectrum.
        level: Its noise map.
        linear: G, float64 of shape (2, 2).
        lines: float64 of shape (k, 2).

    Returns:
        complex64 of shape (k,).
    """
    out = np.empty(len(lines), np.complex64)
    core.sample(values.view(np.float32), level, linear, lines, kaiser_sinc(), out.view(np.float32))
    return out


def sample_reference(values: Spectrum, level: Floats, linear: Doubles, lines: Doubles) -> Spectrum:
    """The same in NumPy."""
    table, steps = kaiser_sinc(), 1024
    f = lines @ linear.T
    seen = np.abs(f).max(axis=1) < 0.485
    position = np.where(seen[:, None], f * FIELD, 0)
    base = np.floor(position).astype(int)
    offset = np.arange(-_REACH + 1, _REACH + 1)
    total = np.zeros(len(lines), np.complex128)
    x, y = base[:, :1] + offset, base[:, 1:] + offset
    wx, wy = (table[np.rint(np.abs(position[:, i : i + 1] - p) * steps).astype(int)] for i, p in ((0, x), (1, y)))
    for j in range(2 * _REACH):
        for i in range(2 * _REACH):
            total += wx[:, i] * wy[:, j] * _value(values, x[:, i], y[:, j])
    x0, y0 = np.rint(position).astype(int).T
    row, column = np.where(x0 < 0, -y0, y0) % FIELD, np.abs(x0)
    m = level[(row + NOISE_CELL // 2) // NOISE_CELL % len(level), (column + NOISE_CELL // 2) // NOISE_CELL]
    return np.where(seen, total / np.sqrt(m), 0).astype(np.complex64)


def polish(
    values: Spectrum, level: Floats, start: Doubles, directions: Doubles, lines: Doubles, turns: Spectrum
) -> tuple[Doubles, float]:
    """Fits a hypothesis to the phases of lines, which tell more than their places: coordinate ascent.

    Args:
        values: A spectrum.
        level: Its noise map.
        start: G, float64 of shape (2, 2).
        directions: In which it may change, float64 of shape (d, 2, 2).
        lines: float64 of shape (k, 2).
        turns: Conjugates of the phases that the lines should have, complex64 of shape (k,).

    Returns:
        The fitted G, and Re sum of turned line values, each limited to 2.5 in magnitude.
    """
    fitted = np.array(start, np.float64)
    angles = np.ascontiguousarray(turns, np.complex64).view(np.float32)
    score = core.polish(values.view(np.float32), level, fitted, directions, lines, angles, kaiser_sinc())
    return fitted, score


def polish_reference(
    values: Spectrum, level: Floats, start: Doubles, directions: Doubles, lines: Doubles, turns: Spectrum
) -> tuple[Doubles, float]:
    """The same in NumPy."""

    def score(g: Doubles) -> float:
        v = sample_reference(values, level, g, lines)
        return float(np.sum((v * turns).real * np.minimum(1, 2.5 / np.maximum(np.abs(v), 1e-9))))

    g = np.array(start, np.float64)
    best, move = score(g), 0.35 / (0.2 * FIELD)
    for _ in range(5):
        for _ in range(4):
            improved = False
            for step in (sign * move * direction for direction in directions for sign in (-1, 1)):
                if (now := score(g + step)) > best:
                    g, best, improved = g + step, now, True
            if not improved:
                break
        move *= 0.55
    return g, best


def _value(values: Spectrum, x: NDArray[np.int64], y: NDArray[np.int64]) -> Spectrum:
    flip = x < 0
    v = values[np.where(flip, -y, y) % FIELD, np.abs(x)]
    return np.asarray(np.where(flip, v.conj(), v))


@lru_cache(maxsize=1)
def kaiser_sinc() -> Floats:
    """Kaiser-windowed sinc at distances i / 1024, i = 0..4096: float32."""
    distance = np.arange(_REACH * 1024 + 1) / 1024
    window = np.i0(_BETA * np.sqrt(np.maximum(0, 1 - (distance / _REACH) ** 2))) / np.i0(_BETA)
    table = (np.sinc(distance) * window).astype(np.float32)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=4)
def _circle(steps: int) -> Floats:
    """Cosine and sine of every step around: float32 of shape (2, steps)."""
    angle = 2 * np.pi * np.arange(steps) / steps
    turns = np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    turns.setflags(write=False)
    return turns


def locate(sync: Spectrum, lines: NDArray[np.int64], period: int) -> tuple[float, float, float]:
    """Translation that lines up lines of known phase: the largest Re sum v exp(2 pi i n . t / T) over t in [0, T)^2.

    Half-pixel grid, then three halvings of the step around the best point.

    Args:
        sync: Line values times the conjugate of their known phases, complex64 of shape (k,).
        lines: Integer frequencies n, shape (k, 2) as (x, y).
        period: T.

    Returns:
        The largest value, and the translation (x, y) in pixels.
    """
    found: tuple[float, float, float] = core.locate(sync.view(np.float32), lines, period, _circle(16 * period))
    return found


def locate_reference(sync: Spectrum, lines: NDArray[np.int64], period: int) -> tuple[float, float, float]:
    """The same in NumPy."""

    def best(x: Doubles, y: Doubles) -> tuple[float, float, float]:
        turn = 2j * math.pi / period * (np.multiply.outer(x, lines[:, 0]) + np.multiply.outer(y, lines[:, 1]))
        values = (np.exp(turn) @ sync).real
        top = int(np.argmax(values))
        return float(values[top]), float(x[top]), float(y[top])

    grid = np.arange(0, period, 0.5)
    y, x = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    found = best(x, y)
    for step in (0.25, 0.125, 0.0625):
        y, x = (axis.ravel() for axis in np.meshgrid(*[[-step, 0, step]] * 2, indexing="ij"))
        found = max(found, best(found[1] + x, found[2] + y))
    return found[0], found[1] % period, found[2] % period
