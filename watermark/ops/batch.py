"""The kernels of `picture` and `lattice` for many pictures of one size at a time, on torch tensors in GPU memory.

Each function computes what its namesake there does, for every item, with the same operations in the same order: results
are the same bits, but for Fourier transforms, which are torch's. Tensors in CPU memory go through the same code, run by
one thread that plays all of a GPU's: slow, and meant for tests. Small arguments and results are NumPy arrays.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops import lattice
from watermark.ops._native import core, is_cuda, on_cuda, to_host
from watermark.ops.picture import CELL, PART, REGION, gaussian_taps, reduced_shape, taper_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Whole = NDArray[np.int64]

Tensor = Any
_SCALES_AT_ONCE = 4


def launch(name: str, first: Tensor, *rest: Any) -> None:
    """Runs a kernel where its first argument lies."""
    if is_cuda(first):
        on_cuda(f"batch_{name}", first, *rest)
    else:
        getattr(core._emulated, f"batch_{name}")(first, *rest)


def _empty(like: Tensor, shape: tuple[int, ...], dtype: str = "float32") -> Tensor:
    import torch

    return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)


def to_device(array: NDArray[Any], like: Tensor) -> Tensor:
    """A copy of an array where a tensor lies."""
    import torch

    return torch.tensor(np.ascontiguousarray(array), device=like.device)


@lru_cache(maxsize=32)
def _taps(sigma: float, device: Any) -> Tensor:
    return _constant(gaussian_taps(sigma), device)


@lru_cache(maxsize=64)
def _window(size: int, taper: int, device: Any) -> Tensor:
    return _constant(taper_window(size, taper), device)


@lru_cache(maxsize=8)
def _sinc(device: Any) -> Tensor:
    return _constant(lattice.kaiser_sinc(), device)


@lru_cache(maxsize=8)
def _circle(steps: int, device: Any) -> Tensor:
    return _constant(lattice._circle(steps), device)


@lru_cache(maxsize=8)
def _places(device: Any) -> Tensor:
    return _constant(lattice._places(), device)


def _constant(array: NDArray[Any], device: Any) -> Tensor:
    import torch

    return torch.from_numpy(array.copy()).to(device)


def luma(pixels: Tensor, factor: float) -> Tensor:
    """Reduced pictures' luma, 0 to 255: float32 of shape (n, h, w).

    Args:
        pixels: uint8, uint16, float32 or float64 of shape (n, C, H, W), any strides.
        factor: At least 1.
    """
    out = _empty(pixels, (pixels.shape[0], *reduced_shape(pixels.shape[2:], factor)))
    launch("luma", pixels, factor, out)
    return out


def limited_high_pass(luma: Tensor, limit: float, sigma: float) -> tuple[Tensor, Tensor]:
    """High-pass of luma that no edge dominates, and local statistics.

    Args:
        luma: float32 of shape (n, h, w).
        limit: Of the differences between neighbours, in grey levels.
        sigma: Standard deviation of the smoothing, at most 9 pixels.

    Returns:
        The high-pass b, float32 of shape (n, h, w); and the means over cells of sqrt|b|, b^2 and luma, float32 of shape
        (n, 3, rows, columns).
    """
    high = _empty(luma, tuple(luma.shape))
    return high, _statistics(luma, limit, sigma, high)


def statistics(luma: Tensor, limit: float, sigma: float) -> Tensor:
    """The second result of `limited_high_pass` alone, for less."""
    return _statistics(luma, limit, sigma, None)


def _statistics(luma: Tensor, limit: float, sigma: float, high: Tensor | None) -> Tensor:
    means = _empty(luma, (luma.shape[0], 3, -(-luma.shape[1] // CELL), -(-luma.shape[2] // CELL)))
    launch("limited_high_pass", luma, limit, _taps(sigma, luma.device), means, high)
    return means


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian filter: float32 of shape (..., h, w) in and out. Sigma is at most 9."""
    stack = images.reshape(-1, *images.shape[-2:]).contiguous()
    out = _empty(images, tuple(stack.shape))
    launch("blur", stack, _taps(sigma, images.device), out)
    return out.reshape(images.shape)


def whiten(high: Tensor, weight: Tensor, *, clip: float = 3.0, taper: int = 10) -> Tensor:
    """Weights high-passes (n, h, w) by maps (n, rows, columns), scales, clips and fades them out. Works in place."""
    count, height, width = high.shape
    windows = (_window(size, taper, high.device) for size in (height, width))
    sums, scales = _empty(high, (count, height)), _empty(high, (count,))
    launch("whiten", high, weight.contiguous(), clip, *windows, sums, scales)
    return high


def fold(y: Tensor, steps: Whole, period: int) -> Tensor:
    """Sums of pixels at the same places of cycles: float32 of shape (n, k, period)."""
    out = _empty(y, (y.shape[0], len(steps), period))
    launch("fold", y, to_device(steps, y), out)
    return out


def add_pattern(pixels: Tensor, cycles: NDArray[np.float32], steps: Whole, amplitudes: Tensor, factor: float) -> Tensor:
    """Adds periodic patterns to pictures.

    Args:
        pixels: (n, C, H, W), as `high_pass` takes them.
        cycles: float32 of shape (n, k, period), k = 1 or 2.
        steps: One per picture, in [0, period).
        amplitudes: float32 of shape (n, k, rows, columns).
        factor: Pixels per unit of the patterns' frame.

    Returns:
        The same type, shape and order of dimensions in memory.
    """
    import torch

    out = torch.empty_like(pixels)
    launch(
        "add_pattern", pixels, to_device(cycles, pixels), to_device(steps, pixels), amplitudes.contiguous(), factor, out
    )
    return out


def correlate_tile(
    y: Tensor, items: Whole, samples: NDArray[np.float32], linear: Doubles, offset: Doubles
) -> tuple[Tensor, Tensor]:
    """Products of pictures with periodic patterns over 8 x 8 cells.

    Args:
        y: float32 of shape (n, h, w).
        items: Which picture each pattern lies on, shape (m,).
        samples: float32 of shape (m, 128, 128).
        linear: float64 of shape (m, 2, 2).
        offset: float64 of shape (m, 2).

    Returns:
        Sums with the pattern, and with it moved by half a period: float32 of shape (m, rows, columns) each.
    """
    rows, columns = (-(-size // REGION) for size in y.shape[1:])
    out = _empty(y, (len(items), 2, rows, columns))
    small = [to_device(a, y) for a in (items, samples, np.asarray(linear, np.float64), np.asarray(offset, np.float64))]
    launch("correlate_tile", y, *small, out)
    return out[:, 0], out[:, 1]


def demodulate(y: Tensor, items: Whole, frequencies: Doubles) -> Tensor:
    """What waves contribute to pictures, place by place.

    Args:
        y: float32 of shape (n, h, w).
        items: Which picture each set of waves is about, shape (m,).
        frequencies: float64 of shape (m, k, 2).

    Returns:
        complex64 of shape (m, k, ceil(h / 16), ceil(w / 16)).
    """
    import torch

    f = to_device(frequencies, y)
    waves = []
    for axis, size in ((0, y.shape[2]), (1, y.shape[1])):
        turns = f[..., axis, None] * torch.arange(size, dtype=torch.float64, device=y.device)
        wave = torch.exp(-2j * np.pi * turns)
        waves.append(torch.stack([wave.real, wave.imag], dim=2).float())
    rows, columns = (-(-size // PART) for size in y.shape[1:])
    out = _empty(y, (*frequencies.shape[:2], rows, columns), "complex64")
    launch("demodulate", y, to_device(items, y), *waves, _real(out))
    return out


def displace(y: Tensor, items: Whole, maps: Tensor) -> Tensor:
    """Moves what is in pictures, and weights it.

    Args:
        y: float32 of shape (n, h, w).
        items: Which of them to move, shape (m,).
        maps: Moves along x and y, and weights: float32 of shape (m, 3, rows, columns).

    Returns:
        float32 of shape (m, h, w).
    """
    out = _empty(y, (len(items), *y.shape[1:]))
    launch("displace", y, to_device(items, y), maps.contiguous(), out)
    return out


def spectrum(y: Tensor) -> Tensor:
    """Fourier transforms of pictures around their centres: complex64 of shape (n, N, N / 2 + 1)."""
    import torch

    count, height, width = y.shape
    size = lattice.FIELD
    above, left = height // 2, width // 2
    padded = torch.zeros((count, size, size), dtype=torch.float32, device=y.device)
    padded[:, : height - above, : width - left] = y[:, above:, left:]
    padded[:, size - above :, : width - left] = y[:, :above, left:]
    padded[:, : height - above, size - left :] = y[:, above:, :left]
    padded[:, size - above :, size - left :] = y[:, :above, :left]
    return torch.fft.rfft2(padded).contiguous()


def _real(values: Tensor) -> Tensor:
    """Complex numbers as pairs in the last dimension."""
    import torch

    pairs = torch.view_as_real(values)
    return pairs.view(*pairs.shape[:-2], -1)


def noise(values: Tensor) -> Tensor:
    """Noise maps of spectra: float32 of shape (n, N / 8, N / 16 + 1)."""
    shape = (lattice.FIELD // lattice.NOISE_CELL, lattice.FIELD // (2 * lattice.NOISE_CELL) + 1)
    out = _empty(values, (values.shape[0], *shape))
    launch("noise", _real(values), out, _empty(values, (2, values.shape[0], *shape)))
    return out


def power_ratio(values: Tensor, level: Tensor) -> Tensor:
    """Power over noise: float32 of the shape of `values`."""
    out = _empty(values, tuple(values.shape))
    launch("power_ratio", _real(values), level, out)
    return out


def log_polar(ratio: Tensor) -> Tensor:
    """Power over noise on rings and rays: uint8 of shape (n, `ROWS`, `ANGLES`)."""
    import torch

    count = ratio.shape[0]
    out = _empty(ratio, (count, lattice.ROWS, lattice.ANGLES), "uint8")
    sums = torch.zeros(count, dtype=torch.int32, device=ratio.device)
    known = int(np.count_nonzero(lattice._places() >= 0))
    launch("log_polar", ratio, _places(ratio.device), known, out, sums)
    return out


def search(
    table: Tensor, rows: NDArray[np.int32], columns: NDArray[np.int32], scales: int, most: int
) -> list[NDArray[np.int64]]:
    """The best hypotheses in each of many tables: per table int64 of shape (at most `most`, 4), as `lattice.search`.

    Raises:
        ValueError: A line leaves the table at some scale, or their number is not even.
    """
    import torch

    if rows.min() < 0 or rows.max() + scales > table.shape[1] or columns.min() < 0 or columns.max() >= lattice.ANGLES:
        raise ValueError("every line must stay in the table at every scale")
    count = table.shape[0]
    packed = _empty(table, (count, lattice.ROWS, lattice.ANGLES // 4), "int32")
    out = _empty(table, (count, -(-scales // _SCALES_AT_ONCE), most), "int64")
    launch("search", table, to_device(rows, table), to_device(columns, table), scales, packed, out)
    peaks = to_host(torch.topk(out.reshape(count, -1), most, sorted=True).values)
    score, place = peaks >> 32, 0xFFFFFFFF - (peaks & 0xFFFFFFFF)
    scale, turn = np.divmod(place, lattice.ANGLES)
    found = np.stack([score, scale // scales, scale % scales, turn], axis=-1)
    return [f[f[:, 0] > 0] for f in found]


def refine(ratio: Tensor, items: Whole, start: Doubles, lines: Doubles, reach: int = 4) -> tuple[Doubles, Doubles]:
    """Fits hypotheses to the peaks around them.

    Args:
        ratio: From `power_ratio`.
        items: Which of them each hypothesis is about, shape (m,).
        start: G, float64 of shape (m, 2, 2).
        lines: float64 of shape (k, 2), at most 64.
        reach: Radius of the first search, in frequency steps.

    Returns:
        The fitted G, and their scores, float64 of shape (m,).
    """
    maps, scores = to_device(start, ratio), _empty(ratio, (len(items),), "float64")
    launch("refine", ratio, to_device(items, ratio), maps, to_device(lines, ratio), reach, scores)
    return to_host(maps), to_host(scores)


def sample(values: Tensor, level: Tensor, items: Whole, linear: Doubles, lines: Doubles) -> Tensor:
    """Complex values at arbitrary frequencies over the root of the noise level: complex64 of shape (m, k)."""
    import torch

    out = _empty(values, (len(items), len(lines)), "complex64")
    small = [to_device(a, values) for a in (items, linear, lines)]
    launch("sample", _real(values), level, *small, _sinc(values.device), torch.view_as_real(out))
    return out


def polish(
    values: Tensor,
    level: Tensor,
    items: Whole,
    start: Doubles,
    directions: Sequence[Doubles],
    lines: Doubles,
    turns: NDArray[np.complex64],
) -> Doubles:
    """Fits hypotheses to the phases of lines.

    Args:
        values: Spectra.
        level: Their noise maps.
        items: Which of them each hypothesis is about, shape (m,).
        start: G, float64 of shape (m, 2, 2).
        directions: In which each may change: float64 of shape (at most 4, 2, 2).
        lines: float64 of shape (k, 2), at most 64.
        turns: Conjugates of the phases that the lines should have, complex64 of shape (m, k).

    Returns:
        The fitted G.
    """
    padded, freedom = np.zeros((len(items), 4, 2, 2)), np.array([len(d) for d in directions], np.int64)
    for row, given in zip(padded, directions, strict=True):
        row[: len(given)] = given
    maps = to_device(start, values)
    angles = np.ascontiguousarray(turns, np.complex64).view(np.float32).reshape(*turns.shape, 2)
    free, along, f, wanted = (to_device(a, values) for a in (freedom, padded, lines, angles))
    launch("polish", _real(values), level, to_device(items, values), maps, along, free, f, wanted, _sinc(values.device))
    return to_host(maps)


def locate(sync: Tensor, lines: Whole, period: int) -> Doubles:
    """Translations that line up lines of known phase: per row of complex64 (m, k) the largest value, x and y."""
    import torch

    out = _empty(sync, (sync.shape[0], 3), "float64")
    values = torch.view_as_real(sync.resolve_conj().contiguous())
    launch("locate", values, to_device(lines, sync), period, _circle(16 * period, sync.device), out)
    return to_host(out)
