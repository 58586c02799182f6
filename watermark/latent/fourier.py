"""What marks in the Fourier plane share: real coordinates, keyed patterns, the angular test.

The coordinates are those of the discrete Hartley transform: one real number h(k) = Re F(k) - Im F(k) per frequency k.
It is orthonormal, so normal noise has independent N(0, 1) coordinates. No frequency is a special case: a pattern in h
over a disc is a Hermitian-symmetric pattern in F over that disc, real where a frequency is its own opposite (the
constant, Nyquist).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._cache import cached_property
from watermark.detection import MAX_LOG10_P_OF_PAYLOAD, Detections
from watermark.errors import MediaError, ParameterError
from watermark.latent.noise import LatentScheme, check_shape
from watermark.ops._native import is_cuda, to_host
from watermark.ops.normal import standard_normal
from watermark.stats import LN10, log_angular_tail, log_sidak

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from watermark.key import Key
    from watermark.payload import Frame

_ELEMENTS_AT_A_TIME, _MAX_PLANE = 1 << 16, 1 << 20
# Rounding moves a cosine by less than this. A larger one counts as so large, which keeps p above the truth, and finite.
_LARGEST_COSINE = 1 - 1e-12


class FourierScheme(LatentScheme):
    """A mark that gives d Fourier coordinates of a latent the direction of a keyed normal vector g.

    Among the 2^payload_bits vectors of a key the message chooses one. The detector takes the same coordinates x of a
    latent, and the vector at the smallest angle. For any latent made without the key the cosine <g, x> / (|g| |x|) has
    the law of `watermark.stats.log_angular_tail`, and the vectors are independent: 1 - (1 - p)^N is exact.
    """

    _frame: Frame
    _channels: slice
    """The channels that carry the mark."""
    _dimension: int
    """Number of coordinates d."""

    @abstractmethod
    def _coordinates(self, planes: Any) -> Any:
        """The coordinates of the channels that carry the mark.

        Args:
            planes: float64 of shape (rows, channels, height, width); NumPy, or a tensor on CUDA.

        Returns:
            float64 of shape (rows, d), on the same device.
        """

    @abstractmethod
    def _imprint(self, spectrum: Any, patterns: NDArray[np.float64]) -> None:
        """Writes patterns into Hartley spectra.

        Args:
            spectrum: float64 of shape (rows, channels, height * width), changed in place; NumPy, or a tensor on CUDA.
            patterns: float64 of shape (1 | rows, d).
        """

    def _bind(self, key: Key) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The vectors, float32 of shape (2^payload_bits, d), and the inverse of their lengths."""
        bank = np.empty((1 << self._frame.payload_bits, self._dimension), np.float32)
        standard_normal(key.derive(f"{self.name}/1/patterns").key_words, bank)
        return bank, 1 / np.sqrt(np.einsum("ij,ij->i", bank, bank))

    def _fill(self, out: Any, payloads: Sequence[bytes | None], one_payload: bool, noise: NDArray[np.uint32]) -> None:
        distinct = payloads[:1] if one_payload else payloads
        numbers = [int.from_bytes(np.packbits(self._frame.encode(p)[::-1], bitorder="little")[::-1]) for p in distinct]
        patterns = self._tables[0][0][numbers].astype(np.float64)
        standard_normal(noise, out)
        out = out if is_cuda(out) else np.asarray(out)
        for rows in self._parts(len(out)):
            planes = self._planes(out[rows])
            spectrum = hartley(doubles(planes)).reshape(*planes.shape[:2], -1)
            self._imprint(spectrum, patterns if one_payload else patterns[rows])
            planes[...] = hartley(spectrum.reshape(planes.shape))

    def _observe(self, z: Any) -> NDArray[np.float64]:
        """The coordinates: float64 of shape (rows, d). All else stays where the latents are."""
        z = z if is_cuda(z) else np.asarray(z)
        seen = np.empty((len(z), self._dimension))
        for rows in self._parts(len(z)):
            part = z[rows]
            if not bool((part.isfinite() if is_cuda(part) else np.isfinite(part)).all()):
                raise MediaError("the latent holds values that are not finite")
            seen[rows] = to_host(self._coordinates(doubles(self._planes(part))))
        return seen

    def _parts(self, rows: int) -> Iterator[slice]:
        """So many rows at a time that their spectra stay in the cache."""
        step = max(1, _ELEMENTS_AT_A_TIME // math.prod(self.shape))
        return (slice(start, start + step) for start in range(0, rows, step))

    def _planes(self, latents: Any) -> Any:
        """A view of the channels that carry the mark: shape (rows, channels, height, width)."""
        return latents.reshape(-1, *self.shape)[:, self._channels]

    def _read(self, tables: tuple[NDArray[np.float32], NDArray[np.float32]], seen: Any, key_id: str) -> Detections:
        found = [self._nearest(*tables, x) for x in seen]
        payloads = []
        for nearest, _, _ in found:
            bits = np.array([nearest >> i & 1 for i in reversed(range(self._frame.size))], np.uint8)
            payloads.append(self._frame.decode(np.packbits(bits).tobytes()))
        return Detections(
            self.name,
            [key_id] * len(found),
            [log10_p for _, _, log10_p in found],
            [cosine for _, cosine, _ in found],
            [self._dimension] * len(found),
            payloads,
            [log10_p <= MAX_LOG10_P_OF_PAYLOAD for _, _, log10_p in found],
            [{}] * len(found),
        )

    def _nearest(
        self, bank: NDArray[np.float32], inverse_lengths: NDArray[np.float32], x: NDArray[np.float64]
    ) -> tuple[int, float, float]:
        """The vector of a bank at the smallest angle to x, the cosine of that angle, and log10 p."""
        length = float(np.sqrt((x * x).sum()))
        if length == 0:
            return 0, 0.0, 0.0
        # Not a matrix product: its rounding depends on how the linear algebra library shares the work.
        nearest = int(np.argmax(np.einsum("ij,j->i", bank, (x / length).astype(np.float32)) * inverse_lengths))
        g = bank[nearest].astype(np.float64)
        cosine = float((g * x).sum() / np.sqrt((g * g).sum()) / length)
        log_p = log_angular_tail(min(cosine, _LARGEST_COSINE), self._dimension)
        return nearest, cosine, log_sidak(log_p, len(bank)) / LN10

    @cached_property
    def _frequency(self) -> NDArray[np.float64]:
        return frequency(*self.shape[1:]).ravel()


def hartley(planes: Any) -> Any:
    """The discrete Hartley transform of the last two axes, orthonormal and its own inverse.

    Args:
        planes: float64 array, or tensor on CUDA.

    Returns:
        float64 of the same shape, on the same device.
    """
    if is_cuda(planes):
        import torch

        spectrum = torch.fft.fft2(planes, norm="ortho")
    else:
        spectrum = np.fft.fft2(planes, norm="ortho")
    return spectrum.real - spectrum.imag


def doubles(planes: Any) -> Any:
    """The same as float64, in which no finite float32 can overflow."""
    return planes.double() if is_cuda(planes) else planes.astype(np.float64)


def flip(planes: Any, axis: int) -> Any:
    """The planes in the reverse order along an axis."""
    return planes.flip(axis) if is_cuda(planes) else np.flip(planes, axis)


def frequency(height: int, width: int) -> NDArray[np.float64]:
    """Size of each frequency in cycles per shorter side: float64 of shape (height, width), in the order of an FFT."""
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    return np.asarray(min(height, width) * np.hypot(vertical, horizontal))


def check_planes(shape: Any) -> tuple[int, int, int]:
    """The shape of a latent that is a stack of planes.

    Raises:
        ParameterError: It is not (channels, height, width), or its planes have more than 2^20 elements.
    """
    sides = check_shape(shape)
    if len(sides) != 3:
        raise ParameterError(
            f"a mark in the Fourier plane needs latents of shape (channels, height, width), not {sides}; pass the "
            "frames of a video one by one"
        )
    if sides[1] * sides[2] > _MAX_PLANE:
        raise ParameterError(f"a plane of {sides[1]} x {sides[2]} has more than {_MAX_PLANE} elements")
    return sides


def like(array: NDArray[Any], planes: Any) -> Any:
    """The array itself, or a tensor on the device of `planes`."""
    if not is_cuda(planes):
        return array
    import torch

    return torch.from_numpy(array).to(planes.device)
