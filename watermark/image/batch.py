"""`image.spectral` for pictures in GPU memory: as many as there are of one size go through each step together.

No picture leaves the device; what does are a few thousand numbers of each, which the scheme judges as those of the CPU.
"""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from watermark._cache import cached_property
from watermark.errors import MediaError
from watermark.image import binding
from watermark.image.geometry import (
    ALIGNED_CHANCE,
    ALIGNED_PLACED,
    ALIGNED_TESTED,
    DIHEDRAL,
    GRID,
    PEAKS,
    PERIOD,
    SCALES,
    STEPS,
    TILE,
    TILTS,
    TOP,
    Candidate,
    hypotheses,
    in_periods,
    limited,
    over_noise,
    parts,
    presence_scores,
    reduction,
    tile_layout,
)
from watermark.image.perceptual import DETECTED, SEEN, SMOOTHING, detector_weight, expected_evidence, rms, visibility
from watermark.image.reading import Readings
from watermark.media.pixels import check_range, check_tensor
from watermark.ops import batch as ops
from watermark.ops._native import core, is_cuda, to_host
from watermark.ops.picture import CELL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from watermark.image.geometry import Lines, Matrix, Parts, Spectra, Sync, Turns

Tensor = Any
_Result = TypeVar("_Result")
_MOST_AT_ONCE = 64
_MOST_PIXELS = 1 << 27
_GROUPS_IN_FLIGHT = 4


def on_device(media: Any) -> bool:
    """Whether this is a tensor in GPU memory."""
    return is_cuda(media)


class Group(NamedTuple):
    """Pictures of one size that go through together."""

    places: list[int]  # in the batch that they come from
    pixels: Tensor  # (n, C, H, W): uint8, uint16, float32 or float64


def groups(items: Sequence[Tensor], least: int) -> list[Group]:
    """Sorts a batch by size and type.

    Raises:
        MediaError: An item is no picture, has values outside [0, 1], or a side of less than `least` pixels.
    """
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for place, item in enumerate(items):
        if not on_device(item):
            raise MediaError("a batch is in GPU memory as a whole or not at all: move the other pictures there too")
        check_tensor(item)
        if min(item.shape[-2:]) < least:
            height, width = item.shape[-2:]
            raise MediaError(f"the picture is {width} x {height} pixels; this needs at least {least} a side")
        kinds.setdefault((item.device, item.dtype, tuple(item.shape)), []).append(place)
    found = []
    for (_, _, shape), places in kinds.items():
        most = max(1, min(_MOST_AT_ONCE, _MOST_PIXELS // math.prod(shape[-2:])))
        remaining = iter(places)
        while chunk := list(islice(remaining, most)):
            found.append(Group(chunk, _together([items[place] for place in chunk])))
    return found


def _together(pictures: list[Tensor]) -> Tensor:
    """Pictures of one shape as a tensor that kernels take: a view of the caller's memory where it can be."""
    import torch

    first = pictures[0].detach()
    planes = first if first.ndim == 3 else first[None]
    if len(pictures) == 1:
        pixels = planes[None]
    elif (rows := _rows_of(pictures)) is not None:
        pixels = rows if first.ndim == 3 else rows[:, None]
    else:
        pixels = torch.stack([p.detach() if first.ndim == 3 else p.detach()[None] for p in pictures])
    if pixels.dtype == torch.float16:
        pixels = pixels.float()
    if pixels.dtype.is_floating_point:
        check_range(*(float(value) for value in torch.aminmax(pixels)))
    return pixels


def _rows_of(pictures: list[Tensor]) -> Tensor | None:
    """The tensor of which these are the rows, one after the other; None if they are not."""
    first, apart = pictures[0].detach(), 0
    for number, picture in enumerate(pictures):
        if (
            picture.stride() != first.stride()
            or picture.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
        ):
            return None
        if number == 1:
            apart = picture.storage_offset() - first.storage_offset()
        if picture.storage_offset() - first.storage_offset() != number * apart:
            return None
    return None if apart <= 0 else first.as_strided((len(pictures), *first.shape), (apart, *first.stride()))


def in_turn(function: Callable[[Tensor], _Result], groups: Sequence[Group]) -> list[tuple[list[int], _Result]]:
    """What a function makes of each group, on the caller's stream.

    Some threads take turns, so that the device works on one group while the host judges others.
    """
    if len(groups) < 2:
        return [(group.places, function(group.pixels)) for group in groups]

    def on_stream(group: Group) -> _Result:
        if not is_cuda(group.pixels):
            return function(group.pixels)
        with torch.cuda.stream(streams[group.pixels.device]):
            return function(group.pixels)

    torch = sys.modules["torch"]
    devices = {group.pixels.device for group in groups if is_cuda(group.pixels)}
    streams = {device: torch.cuda.current_stream(device) for device in devices}
    with ThreadPoolExecutor(max(2, min(_GROUPS_IN_FLIGHT, core.threads()))) as pool:
        return list(zip([group.places for group in groups], pool.map(on_stream, groups), strict=True))


def stacked(pictures: list[Tensor]) -> Tensor:
    """Pictures of one shape as one tensor."""
    rows = _rows_of(pictures) if pictures else None
    return sys.modules["torch"].stack(pictures) if rows is None else rows


def restored(pixels: Tensor, source: Tensor) -> Tensor:
    """Marked pictures (C, H, W) in the shape and the type that they came in."""
    return (pixels if source.ndim == 3 else pixels[0]).to(source.dtype)


class Canvas:
    """Pictures that are about to be marked.

    Args:
        pixels: (n, C, H, W) of a `Group`.
    """

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels
        self._factor = reduction(*pixels.shape[2:])
        luma = ops.luma(pixels, self._factor)
        means, power = ops.statistics(luma, SEEN, SMOOTHING), ops.statistics(luma, DETECTED, SMOOTHING)[:, 1]
        self._luma, self._amplitude = means[:, 2], visibility(means)
        self._strength, self._evidence = rms(self._amplitude), expected_evidence(self._amplitude, power)

    def measured(self) -> Iterator[tuple[float, float]]:
        """Of each picture: the pattern's strength and the evidence that it would give."""
        numbers = (to_host(values).ravel().tolist() for values in (self._strength, self._evidence))
        return zip(*numbers, strict=True)

    def sampled(self, steps: tuple[int, int]) -> NDArray[Any]:
        """Every so many pixels of each picture: shape (n, rows, columns, C)."""
        return to_host(self._pixels[:, :, :: steps[0], :: steps[1]].permute(0, 2, 3, 1).contiguous())

    def marked(self, cycles: NDArray[np.float32], steps: Lines, gains: Sequence[float]) -> Tensor:
        """Copies with patterns, (n, 1 or 2, PERIOD), of these steps and gains; the second of two binds."""
        gain = ops.to_device(np.array(gains, np.float32), self._pixels)
        amplitudes = (self._amplitude * gain[:, None, None])[:, None]
        if cycles.shape[1] == 2:
            amplitudes = amplitudes * binding.layers(binding.field(self._luma, 1.0))
        return ops.add_pattern(self._pixels, cycles, steps, amplitudes, self._factor)


class DeviceReadings(Readings):
    """Pictures on a GPU.

    Args:
        pixels: (n, C, H, W) of a `Group`.
    """

    def __init__(self, pixels: Tensor) -> None:
        count, _, height, width = pixels.shape
        super().__init__(height, width, count)
        self._pixels = pixels
        self._reduced: tuple[list[int], Tensor] | None = None
        self._searched: tuple[list[int], _Field] | None = None

    @cached_property
    def _whitened(self) -> Tensor:
        return _whitened(self._pixels, self._factor)

    @cached_property
    def _tiles(self) -> Tensor:
        """Spectra of the pictures folded in every tilt: (n, tilts, 2 TOP + 1, 2 TOP + 1)."""
        import torch

        cycles = torch.fft.rfft(ops.fold(self._whitened, STEPS, PERIOD))
        place, behind, known = (ops.to_device(layout, cycles) for layout in tile_layout())
        values = torch.gather(cycles, 2, place.reshape(1, len(TILTS), -1).expand(len(cycles), -1, -1))
        values = values.reshape(-1, *place.shape)
        return over_noise(torch.where(behind, values.conj(), values), known)

    def aligned(self, sync: Sync, lines: Lines, rows: Sequence[int]) -> list[list[Candidate]]:
        """See `Readings.aligned`."""
        tiles = self._tiles[ops.to_device(np.array(rows), self._tiles)].reshape(len(rows), len(TILTS), -1)
        values = tiles[:, :, _flat(sync.lines, tiles)].flatten(1, 2)  # (rows, tilts x ways, lines)
        power = (values.real**2 + values.imag**2).sum(2)
        strongest = power.topk(ALIGNED_PLACED, sorted=True).indices
        placed = values.gather(1, strongest[..., None].expand(-1, -1, values.shape[2]))
        z, shift = _located(placed.flatten(0, 1), sync)
        z, shift = z.reshape(len(rows), -1), shift.reshape(len(rows), -1, 2)
        best = np.argsort(-z, axis=1, kind="stable")[:, :ALIGNED_TESTED]
        way = np.take_along_axis(to_host(strongest), best, 1)
        z, shift = np.take_along_axis(z, best, 1), np.take_along_axis(shift, best[..., None], 1)
        chosen = ops.to_device(way, tiles)
        places = _flat(lines, tiles)[chosen % len(DIHEDRAL)]  # (rows, tested, lines)
        flat = (chosen // len(DIHEDRAL))[..., None] * tiles.shape[2] + places
        values = tiles.flatten(1).gather(1, flat.flatten(1)).reshape(flat.shape)
        read = _derotated(values, lines, shift)
        turns = np.array([tilt.turn @ turn for tilt in TILTS for turn in DIHEDRAL])
        return [
            [
                Candidate(turns[w], (s[0], s[1]), float(a), v, self._factor, ALIGNED_CHANCE, (0.0, 0.0))
                for w, s, a, v in zip(*row, strict=True)
            ]
            for row in zip(way, shift.tolist(), z, read, strict=True)
        ]

    def _seen(self, rows: Sequence[int]) -> tuple[Tensor, Lines]:
        """Whitened pictures at the scale of the search, and where `rows` are among them."""
        if self._search_factor == self._factor:
            return self._whitened, np.array(rows, np.int64)
        if self._reduced is None or not set(rows) <= set(self._reduced[0]):
            self._reduced = list(dict.fromkeys(rows)), _whitened(_chosen(self._pixels, rows), self._search_factor)
        known, y = self._reduced
        return y, np.array([known.index(row) for row in rows], np.int64)

    def _field(self, rows: Sequence[int]) -> tuple[_Field, Lines]:
        """What a search needs of pictures, and where `rows` are in it."""
        if self._searched is None or not set(rows) <= set(self._searched[0]):
            y, places = self._seen(rows)
            self._searched = list(rows), _Field(y if len(rows) == len(y) else _chosen(y, places))
        known, found = self._searched
        return found, np.array([known.index(row) for row in rows], np.int64)

    def _spectra(self, rows: Sequence[int]) -> tuple[Spectra, Lines]:
        field, places = self._field(rows)
        return field.spectra, places

    def _peaks(self, sync: Sync, stretches: slice, rows: Sequence[int]) -> tuple[Lines, Matrix, Matrix]:
        field, places = self._field(rows)
        table = field.table if len(rows) == len(field.table) else _chosen(field.table, places)
        found = ops.search(table, *sync.template(stretches), SCALES, PEAKS)
        row = np.repeat(np.arange(len(rows)), [len(f) for f in found])
        starts = hypotheses(np.concatenate(found), stretches)
        return row, *ops.refine(field.ratio, places[row], starts, sync.lines / TILE)

    def _polished(
        self,
        spectra: Spectra,
        of: Lines,
        starts: Matrix,
        directions: Sequence[Matrix],
        frequencies: Matrix,
        turns: Turns,
    ) -> Matrix:
        values, level = spectra
        return ops.polish(values, level, of, starts, directions, frequencies, turns)

    def _agreements(
        self, spectra: Spectra, of: Lines, linear: Matrix, sync: Sync, *, mirrored: bool = False
    ) -> list[tuple[Matrix, Matrix]]:
        values = _sampled(spectra, of, linear, sync.lines)
        return [_located(way, sync) for way in ([values, values.conj()] if mirrored else [values])]

    def _read(self, spectra: Spectra, of: Lines, linear: Matrix, lines: Lines, shift: Matrix) -> Turns:
        return _derotated(_sampled(spectra, of, linear, lines), lines, shift)

    def in_parts(
        self, sync: Sync, lines: Lines, rows: Sequence[int], candidates: Sequence[Sequence[Candidate]]
    ) -> list[list[Candidate]]:
        """See `Readings.in_parts`."""
        owners = [row for row, mine in zip(rows, candidates, strict=True) for _ in mine]
        if not owners:
            return [[] for _ in rows]
        found = iter(self._in_parts(sync, lines, owners, [at for mine in candidates for at in mine]))
        return [[next(found) for _ in mine] for mine in candidates]

    def _unwarped(self, rows: Lines, frequencies: Matrix, turns: Turns) -> tuple[Spectra, list[Parts]]:
        y, places = self._seen(rows.tolist())
        waves = ops.demodulate(y, places, frequencies) * ops.to_device(turns, y)[..., None, None]
        through = list(map(parts, waves, frequencies))
        return _spectra(ops.displace(y, places, _maps(through))), through

    def _probed(self, row: int, probes: Callable[[Any], Any], parts: Parts | None) -> tuple[Spectra, int]:
        y, [place] = self._seen([row])
        luma = ops.statistics(ops.luma(self._pixels[row : row + 1], self._search_factor), DETECTED, SMOOTHING)[0, 2]
        maps = probes(luma).repeat_interleave(CELL, -2).repeat_interleave(CELL, -1)
        seen = y[int(place)] * maps[:, : y.shape[1], : y.shape[2]]
        count = len(seen)
        if parts is not None:
            seen = ops.displace(seen, np.arange(count), _maps([parts] * count))
        values = ops.spectrum(seen)
        return (values, ops.noise(values[-1:]).expand(count, -1, -1).contiguous()), count

    def presence(
        self, rows: Sequence[int], candidates: Sequence[Candidate], samples: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """See `Readings.presence`."""
        found: dict[int, NDArray[np.float32]] = {}
        for searched in (False, True):
            mine = [i for i, at in enumerate(candidates) if (at.origin != (0.0, 0.0)) == searched]
            if not mine:
                continue
            y, places = self._whitened, np.array([rows[i] for i in mine], np.int64)
            if searched:
                y, places = self._seen([rows[i] for i in mine])
            linear, offset = (np.array(a) for a in zip(*(in_periods(candidates[i]) for i in mine), strict=True))
            sums = ops.correlate_tile(y, places, np.array([samples[i] for i in mine]), linear, offset)
            found |= dict(zip(mine, to_host(presence_scores(*sums)), strict=True))
        return [found[i] for i in range(len(candidates))]


class _Field:
    """Spectra of pictures, and what a search reads off them.

    Args:
        y: Whitened pictures, (n, h, w).
    """

    def __init__(self, y: Tensor) -> None:
        self.spectra = _spectra(y)
        self.ratio = ops.power_ratio(*self.spectra)
        self.table = ops.log_polar(self.ratio)


def _spectra(y: Tensor) -> Spectra:
    values = ops.spectrum(y)
    return values, ops.noise(values)


def _sampled(spectra: Spectra, of: Lines, linear: Matrix, lines: Lines) -> Tensor:
    """Line values over noise, limited."""
    values, level = spectra
    return limited(ops.sample(values, level, of, linear, lines / TILE))


def _maps(through: Sequence[Parts]) -> Tensor:
    """Moves and weights of several pictures, as `ops.displace` takes them."""
    return sys.modules["torch"].stack([sys.modules["torch"].cat([moves, weight[None]]) for moves, weight in through])


def _whitened(pixels: Tensor, factor: float) -> Tensor:
    """Pictures as the detector sees them: reduced, high-passed, of even local variance."""
    high, means = ops.limited_high_pass(ops.luma(pixels, factor), DETECTED, SMOOTHING)
    return ops.whiten(high, detector_weight(means[:, 1]))


def _chosen(tensor: Tensor, rows: Iterable[int]) -> Tensor:
    return tensor[ops.to_device(np.array(list(rows), np.int64), tensor)]


def _flat(lines: Lines, like: Tensor) -> Tensor:
    """Where lines lie in a flat tile that was turned each of eight ways: int64 of shape (8, lines)."""
    n = lines @ DIHEDRAL.swapaxes(1, 2).astype(np.int64) + TOP
    return ops.to_device(n[..., 1] * (2 * TOP + 1) + n[..., 0], like)


def _located(values: Tensor, sync: Sync) -> tuple[Matrix, Matrix]:
    """`Sync.align` of every row of a tensor: agreement (m,), translation (m, 2)."""
    found = ops.locate(values * ops.to_device(sync.phases.conj(), values), sync.lines, GRID)
    power = to_host((values.real**2 + values.imag**2).sum(1)).astype(np.float64)
    return found[:, 0] / np.sqrt(power / 2 + 1e-9), found[:, 1:] / GRID


def _derotated(values: Tensor, lines: Lines, shift: Matrix) -> Turns:
    """Values (..., lines) freed of the turns of a translation (..., 2), on the host."""
    turns = ops.to_device(shift, values) @ ops.to_device(lines.T.astype(np.float64), values)
    turned = values * sys.modules["torch"].exp(2j * np.pi * turns)
    return to_host(turned).astype(np.complex64)
