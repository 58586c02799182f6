"""Passes over pictures: luma at a reduced scale, local statistics, whitening, folding, and adding a pattern.

Statistics live on a grid of 4 x 4 pixel cells; between cell centres they are interpolated bilinearly. Only additions,
multiplications, divisions and square roots are used, so that every machine gives the same bits.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops._native import core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Samples = NDArray[Any]  # uint8 or uint16 over their full range, float32 or float64 in [0, 1]

CELL = 4
REGION = 8
PART = 16
LUMA = (0.299, 0.587, 0.114)


@lru_cache(maxsize=16)
def gaussian_taps(sigma: float) -> Floats:
    """Right half of a normalised Gaussian filter, centre first: float32 of shape (ceil(3 sigma) + 1,)."""
    bell = np.exp(-0.5 * (np.arange(math.ceil(3 * sigma) + 1) / sigma) ** 2)
    taps = np.asarray(bell / (2 * bell.sum() - bell[0]), np.float32)
    taps.setflags(write=False)
    return taps


def reduced_shape(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Rows and columns of a picture after reduction by `factor`; what a last pixel does not cover is dropped."""
    height, width = (max(1, math.floor(size / factor + 1e-6)) for size in shape[:2])
    return height, width


def limited_high_pass(pixels: Samples, factor: float, limit: float, sigma: float) -> tuple[Floats, Floats]:
    """High-pass of a reduced picture's luma that no edge dominates, and local statistics.

    Luma (ITU-R BT.601 weights) is area-averaged down by the same factor on both axes: output pixel x covers the input
    interval [x factor, (x + 1) factor). Each pixel's differences to its four neighbours are limited and summed, and the
    sums smoothed. Where nothing is limited, this is a Laplacian of Gaussian with its sign turned; but an edge, which
    outweighs a faint pattern a hundred times, counts no more than `limit`.

    Args:
        pixels: uint8, uint16, or float32 or float64 in [0, 1], of shape (H, W, C), any strides. C = 1, 2: grey (and
            alpha); C = 3, 4: RGB (and alpha).
        factor: At least 1.
        limit: In grey levels.
        sigma: Standard deviation of the smoothing, in pixels of the reduced picture.

    Returns:
        The high-pass b, float32 of `reduced_shape` (h, w); and float32 of shape (3, ceil(h / 4), ceil(w / 4)): per
        4 x 4 cell the means of sqrt|b|, b^2 and luma (0 to 255).
    """
    high = np.empty(reduced_shape(pixels.shape, factor), np.float32)
    return high, _statistics(pixels, factor, (limit,), sigma, high)[0]


def statistics(pixels: Samples, factor: float, limits: Sequence[float], sigma: float) -> Floats:
    """The second results of `limited_high_pass` for several limits, for less: float32 of shape (limits, 3, ...)."""
    return _statistics(pixels, factor, limits, sigma, None)


def _statistics(pixels: Samples, factor: float, limits: Sequence[float], sigma: float, high: Floats | None) -> Floats:
    height, width = reduced_shape(pixels.shape, factor)
    means = np.empty((len(limits), 3, -(-height // CELL), -(-width // CELL)), np.float32)
    core.limited_high_pass(pixels, factor, limits, gaussian_taps(sigma), height, width, means, high)
    return means


def limited_high_pass_reference(pixels: Samples, factor: float, limit: float, sigma: float) -> tuple[Floats, Floats]:
    """The same as `limited_high_pass` in NumPy."""
    y = _luma(pixels, factor)
    flow = np.zeros_like(y)
    for axis in (0, 1):
        steps = np.clip(np.diff(y, axis=axis), -limit, limit)
        nothing = np.zeros_like(np.take(y, [0], axis))
        flow -= np.diff(np.concatenate([nothing, steps, nothing], axis), axis=axis)
    high = blur_reference(flow, sigma)
    rows, columns = np.arange(0, y.shape[0], CELL), np.arange(0, y.shape[1], CELL)
    maps = np.stack([np.sqrt(np.abs(high)), high * high, y]).astype(np.float64)
    sums = np.add.reduceat(np.add.reduceat(maps, rows, axis=1), columns, axis=2)
    counts = np.outer(np.diff(np.append(rows, y.shape[0])), np.diff(np.append(columns, y.shape[1])))
    return high, (sums / counts).astype(np.float32)


def _units(dtype: np.dtype[Any]) -> float:
    """What one grey level is in samples of a type."""
    return {"uint8": 1.0, "uint16": 257.0}.get(dtype.name, 1 / 255)


def _luma(pixels: Samples, factor: float) -> Floats:
    height, width = reduced_shape(pixels.shape, factor)
    levels = pixels.astype(np.float64) / _units(pixels.dtype)
    y = levels[..., 0] if pixels.shape[2] < 3 else levels[..., :3] @ np.array(LUMA)
    return (_coverage(height, y.shape[0], factor) @ y @ _coverage(width, y.shape[1], factor).T).astype(np.float32)


def _coverage(rows: int, source: int, factor: float) -> NDArray[np.float64]:
    """Weights of the box filter: the share of source pixel j in output pixel i."""
    edges = np.minimum(np.arange(rows + 1) * factor, source)[:, None]
    inside = np.clip(edges - np.arange(source), 0, 1)
    weights: NDArray[np.float64] = np.diff(inside, axis=0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def blur(image: Floats, sigma: float) -> Floats:
    """Gaussian filter with a reach of 3 sigma, mirrored at the borders (the border pixel is repeated).

    Args:
        image: float32 of shape (h, w).
        sigma: Standard deviation in pixels.

    Returns:
        float32 of the same shape.
    """
    out = np.empty_like(image)
    core.blur(image, gaussian_taps(sigma), out)
    return out


def blur_reference(image: Floats, sigma: float) -> Floats:
    """The same in NumPy."""
    taps = gaussian_taps(sigma).astype(np.float64)
    result = image.astype(np.float64)
    for axis in (0, 1):
        size = result.shape[axis]
        total = taps[0] * result
        for distance in range(1, taps.size):
            for step in (-distance, distance):
                index = np.arange(size) + step
                index %= 2 * size
                index = np.where(index < size, index, 2 * size - 1 - index)
                total += taps[distance] * np.take(result, index, axis)
        result = total
    return result.astype(np.float32)


def _interpolate(grid: Floats, height: int, width: int, scale: float) -> Floats:
    """Bilinear interpolation of cell means: pixel x lies at (x + 1/2) / scale on an axis with cells of size 1."""
    result = grid.astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        position = np.clip((np.arange(size) + 0.5) / scale - 0.5, 0, grid.shape[axis] - 1)
        low = np.minimum(position.astype(int), max(grid.shape[axis] - 2, 0))
        share = (position - low).reshape([-1, 1][:: 1 if axis == 0 else -1])
        high = np.minimum(low + 1, grid.shape[axis] - 1)
        result = np.take(result, low, axis) * (1 - share) + np.take(result, high, axis) * share
    return result.astype(np.float32)


def whiten(high: Floats, weight: Floats, *, clip: float = 3.0, taper: int = 10) -> Floats:
    """Weights a high-pass, scales it to unit variance, clips it and fades it out at the borders. Works in place.

    Args:
        high: float32 of shape (h, w); overwritten.
        weight: On the cell grid, float32.
        clip: Limit in standard deviations.
        taper: Length of the raised-cosine border in pixels, at most an eighth of a side.

    Returns:
        `high`; all zero if the picture is flat.
    """
    core.whiten(high, weight, clip, taper_window(high.shape[0], taper), taper_window(high.shape[1], taper), high)
    return high


def whiten_reference(high: Floats, weight: Floats, *, clip: float = 3.0, taper: int = 10) -> Floats:
    """The same in NumPy."""
    y = high * _interpolate(weight, high.shape[0], high.shape[1], CELL)
    deviation = math.sqrt(float(np.mean(np.square(y, dtype=np.float64)))) + 1e-9
    windows = np.outer(taper_window(high.shape[0], taper), taper_window(high.shape[1], taper))
    return np.asarray(np.clip(y / deviation, -clip, clip) * windows, np.float32)


@lru_cache(maxsize=64)
def taper_window(size: int, taper: int) -> Floats:
    """1 inside, a raised cosine over the first and last `taper` samples (at most size // 8)."""
    taper = min(taper, size // 8)
    window = np.ones(size, np.float32)
    if taper:
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(taper) + 0.5) / taper)
        window[:taper], window[size - taper :] = ramp, ramp[::-1]
    window.setflags(write=False)
    return window


def fold(y: Floats, steps: NDArray[np.int64], period: int) -> Floats:
    """Sums of all pixels (x, y) with the same x + step y modulo the period: a picture's share in a periodic pattern.

    Args:
        y: float32 of shape (h, w).
        steps: How much further each row starts than the one above: int64 of shape (k,), each in [0, period).
        period: Length of the cycle.

    Returns:
        float32 of shape (k, period).
    """
    out = np.empty((len(steps), period), np.float32)
    core.fold(y, steps, out)
    return out


def fold_reference(y: Floats, steps: NDArray[np.int64], period: int) -> Floats:
    """The same in NumPy."""
    row, column = np.indices(y.shape)
    places = [((column + step * row) % period).ravel() for step in steps]
    return np.array([np.bincount(place, y.ravel(), period) for place in places], np.float32)


def correlate_tile(
    y: Floats, samples: Floats, linear: NDArray[np.float64], offset: NDArray[np.float64]
) -> tuple[Floats, Floats]:
    """Products of a picture with a periodic pattern, summed over 8 x 8 cells: where it should lie, and where not.

    Args:
        y: float32 of shape (h, w).
        samples: One period of the pattern, float32 of shape (128, 128); the nearest sample is taken.
        linear: float64 of shape (2, 2): pixel (x, y) lies at ``linear @ (x, y) + offset`` periods.
        offset: float64 of shape (2,).

    Returns:
        Sums with the pattern there, and with the pattern moved by half a period on both axes: float32 of shape
        (ceil(h / 8), ceil(w / 8)) each.
    """
    out = np.empty((2, -(-y.shape[0] // REGION), -(-y.shape[1] // REGION)), np.float32)
    core.correlate_tile(y, samples, np.ascontiguousarray(linear), offset, out)
    return out[0], out[1]


def correlate_tile_reference(
    y: Floats, samples: Floats, linear: NDArray[np.float64], offset: NDArray[np.float64]
) -> tuple[Floats, Floats]:
    """The same in NumPy. Positions half-way between two samples may go to the other one."""
    rows, columns = np.indices(y.shape)
    turns = np.stack([columns, rows], axis=-1) @ linear.T + offset
    u, v = np.moveaxis(np.floor(turns % 1 * 128 + 0.5).astype(int), -1, 0)
    down, across = (np.arange(0, size, REGION) for size in y.shape)

    def sums(product: Floats) -> Floats:
        return np.asarray(np.add.reduceat(np.add.reduceat(product, down, axis=0), across, axis=1), np.float32)

    return sums(y * samples[v % 128, u % 128]), sums(y * samples[(v + 64) % 128, (u + 64) % 128])


def demodulate(y: Floats, frequencies: NDArray[np.float64]) -> NDArray[np.complex64]:
    """What waves contribute to a picture, place by place: sums of y exp(-2 pi i f . x) over parts of 16 x 16 pixels.

    Args:
        y: float32 of shape (h, w); phases count from its first pixel.
        frequencies: In cycles per pixel, float64 of shape (k, 2) as (x, y).

    Returns:
        complex64 of shape (k, ceil(h / 16), ceil(w / 16)).
    """
    waves = [
        np.exp(-2j * np.pi * np.outer(f, np.arange(size)))
        for f, size in zip(frequencies.T, reversed(y.shape), strict=True)
    ]
    across, down = (np.stack([wave.real, wave.imag], axis=1).astype(np.float32) for wave in waves)
    out = np.empty((len(frequencies), -(-y.shape[0] // PART), -(-y.shape[1] // PART)), np.complex64)
    core.demodulate(y, across, down, out.view(np.float32))
    return out


def demodulate_reference(y: Floats, frequencies: NDArray[np.float64]) -> NDArray[np.complex64]:
    """The same in NumPy."""
    rows, columns = (np.arange(size) for size in y.shape)
    down, across = (np.arange(0, size, PART) for size in y.shape)
    waves = (np.exp(-2j * np.pi * (fx * columns + fy * rows[:, None])) for fx, fy in frequencies)
    sums = [np.add.reduceat(np.add.reduceat(y * wave, down, axis=0), across, axis=1) for wave in waves]
    return np.array(sums, np.complex64)


def displace(y: Floats, moves: Floats, weight: Floats) -> Floats:
    """Moves what is in a picture, place by place, and weights it: out(x) = weight(x) y(x - move(x)).

    Args:
        y: float32 of shape (h, w). Catmull-Rom cubics interpolate it; where they reach beyond it, the result is 0.
        moves: In pixels, per part of 16 x 16 pixels, float32 of shape (2, rows, columns): along x, along y.
            Between the centres of parts they are interpolated bilinearly.
        weight: On the same grid, float32 of shape (rows, columns).

    Returns:
        float32 of shape (h, w).
    """
    out = np.empty_like(y)
    core.displace(y, np.stack([*moves, weight]), out)
    return out


def displace_reference(y: Floats, moves: Floats, weight: Floats) -> Floats:
    """The same in NumPy."""
    height, width = y.shape
    along_x, along_y, weights = (_interpolate(m, height, width, PART) for m in (*moves, weight))
    u, v = np.arange(width) - along_x, np.arange(height)[:, None] - along_y
    inside = (u >= 1) & (v >= 1) & (u < width - 2) & (v < height - 2)
    u, v = np.where(inside, u, 1), np.where(inside, v, 1)
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    total = sum(
        wy * wx * y[np.clip(top + j - 1, 0, height - 1), np.clip(left + i - 1, 0, width - 1)]
        for j, wy in enumerate(_catmull_rom(v - top))
        for i, wx in enumerate(_catmull_rom(u - left))
    )
    return np.asarray(np.where(inside, weights * total, 0), np.float32)


def add_pattern(pixels: Samples, cycles: Floats, step: int, amplitudes: Floats, factor: float) -> Samples:
    """Adds periodic patterns, each shaped by an amplitude map, to every colour channel; alpha stays.

    A pattern is a cycle of n samples: at (x, y) of its frame stands sample (x + step y) mod n. Pixel X lies at
    u = (X + 1/2) / factor - 1/2 in that frame, which is the frame of the cell grid as well. Patterns are interpolated
    by Catmull-Rom cubics, maps bilinearly; the sum of their products is added with saturation, after rounding (half to
    even) to whole steps where samples are integers: in uint16 a grey level has 257 of them.

    Args:
        pixels: uint8, uint16, or float32 or float64 in [0, 1], of shape (H, W, C), any strides.
        cycles: float32 of shape (k, n).
        step: In [0, n).
        amplitudes: Grey levels per unit of each pattern, on the cell grid: float32 of shape (k, rows, columns).
        factor: Pixels per unit of the patterns' frame, at least 1.

    Returns:
        The same type, shape and order of dimensions in memory, without gaps.
    """
    out = np.empty_like(pixels)
    core.add_pattern(pixels, cycles, step, amplitudes, factor, out)
    return out


def add_pattern_reference(pixels: Samples, cycles: Floats, step: int, amplitudes: Floats, factor: float) -> Samples:
    """The same in NumPy."""
    height, width, channels = pixels.shape
    levels = np.zeros((height, width))
    for cycle, amplitude in zip(cycles, amplitudes, strict=True):
        row, column = (np.arange(-2, int(size / factor) + 4) for size in (height, width))
        samples = cycle[(column + step * row[:, None]) % len(cycle)]
        pattern = _cubic(_cubic(samples, height, factor).T, width, factor).T
        levels += pattern * _interpolate(amplitude, height, width, CELL * factor)
    change = levels * _units(pixels.dtype)
    whole = pixels.dtype.kind == "u"
    out = pixels.astype(np.float64)
    colours = channels - (channels % 2 == 0)
    out[..., :colours] += (np.rint(change) if whole else change)[..., None]
    return np.clip(out, 0, np.iinfo(pixels.dtype).max if whole else 1).astype(pixels.dtype)


def _cubic(samples: Floats, size: int, factor: float) -> Floats:
    """Catmull-Rom interpolation along axis 0 at u = (X + 1/2) / factor - 1/2; the first sample lies at u = -2."""
    u = (np.arange(size) + 0.5) / factor - 0.5
    base = np.floor(u)
    weights = _catmull_rom((u - base)[:, None])
    rows = [samples[base.astype(int) + k + 1] for k in range(4)]
    return np.asarray(sum(w * r for w, r in zip(weights, rows, strict=True)), np.float32)


def _catmull_rom(t: NDArray[np.floating[Any]]) -> tuple[NDArray[Any], ...]:
    """Weights of four samples for a place at fraction t between the second and the third."""
    return (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
