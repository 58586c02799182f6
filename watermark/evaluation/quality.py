"""How much worse does a picture look than its reference?

::

    measure(marked, attacked)                      # {"psnr": 31.2, "ssim": 0.93}
    reference = Reference(marked)                  # keeps what only depends on the reference
    reference.measure(attacked, ["psnr", "ssim", "gmsd"])
    degradation({"psnr": 31.2, "ssim": 0.93})      # 0: as good as new, 1: ruined

Pictures are uint8, grey or RGB. A picture of another size is first resized to the reference's (Pillow, bicubic), as a
viewer would see both in the same place: so a crop or a rotation counts as the large change of pixels that it is. Of a
grey and a coloured picture, the grey one counts as RGB. Metrics of brightness alone take luma (ITU-R BT.601), 0 to 255.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

from watermark._cache import cached_property
from watermark.errors import MediaError, ParameterError
from watermark.media.pixels import Pixels, to_pillow
from watermark.ops.picture import LUMA, blur
from watermark.reference.embedders import ImageEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DEFAULT = ("psnr", "ssim")
"""The metrics that are measured unless others are asked for."""
PSNR_LIMIT = 100.0
"""PSNR of equal pictures, in dB: finite, so that means and JSON stay so."""

_SSIM_SIGMA, _SSIM_REACH = 1.5, 5
_SSIM_C1, _SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_GMSD_C = 170.0
_HAARPSI_C, _HAARPSI_ALPHA = 30.0, 4.2
_IQ = ((0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_EMBEDDER = ImageEmbedder()


@dataclass(frozen=True)
class Metric:
    """A measure of how alike two pictures are.

    Attributes:
        name: As in `METRICS`, which says unit and range.
        higher_is_better: Whether it falls as a picture gets worse.
        function: What it computes of two pictures of one size and number of channels.
    """

    name: str
    higher_is_better: bool
    function: Callable[[_Picture, _Picture], float]

    def __call__(self, reference: Any, image: Any) -> float:
        """The metric alone: `measure` with one name."""
        return measure(reference, image, (self.name,))[self.name]


class Reference:
    """A picture that others are compared with. What depends on it alone is computed once.

    Args:
        picture: uint8 of shape (H, W), (H, W, 1) or (H, W, 3), or PIL.Image of mode L or RGB. It must not change.

    Raises:
        MediaError: It is anything else, has transparency, or is empty.
    """

    def __init__(self, picture: Any) -> None:
        self._picture = _Picture(_levels(picture))

    def measure(self, image: Any, metrics: Iterable[str] = DEFAULT) -> dict[str, float]:
        """Compares a picture with this one.

        Args:
            image: As for the reference. It is resized if its size differs.
            metrics: Names of `METRICS`.

        Returns:
            Values by name, in the order of `metrics`. NaN where a metric is undefined: the reference is too small
            (ssim: below 11 pixels, ms_ssim 176, gmsd 6, haarpsi 16), or both pictures are black (haarpsi).

        Raises:
            MediaError: `image` is no such picture.
            ParameterError: There is no such metric.
            MissingExtraError: ``embedding`` without ``pip install 'watermarking[semantic]'``.
        """
        chosen = list(metrics)
        for name in chosen:
            if name not in METRICS:
                raise ParameterError(f"no metric {name!r}: one of {', '.join(METRICS)}")
        ours, levels = self._picture, _levels(image)
        height, width, channels = ours.levels.shape
        if levels.shape[:2] != (height, width):
            resized = to_pillow(levels).resize((width, height), PIL.Image.Resampling.BICUBIC)
            levels = np.asarray(resized).reshape(height, width, -1)
        theirs = _Picture(levels)
        if levels.shape[2] != channels:
            ours, theirs = ours.coloured, theirs.coloured
        return {name: METRICS[name].function(ours, theirs) for name in chosen}


def measure(reference: Any, image: Any, metrics: Iterable[str] = DEFAULT) -> dict[str, float]:
    """Compares a picture with a reference: ``Reference(reference).measure(image, metrics)``."""
    return Reference(reference).measure(image, metrics)


def degradation(values: Mapping[str, float]) -> float:
    """How much worse a picture got, in one number: the mean of its metrics on a common scale (WAVES, An et al. 2024).

    A frozen table, which ``benchmarks/quality_quantiles.py`` makes, has the 10 % and 90 % quantiles of each metric over
    a pool of attacked pictures. From the milder one (.1) to the harsher one (.9) the scale is linear. Beyond, it goes
    on with the same slope and approaches 0 and 1 exponentially. A straight line, as in WAVES, would let one extreme
    PSNR outweigh all other metrics; clipping would make ties, which can be neither ranked nor interpolated.

    Equal pictures get a little more than 0. Numbers compare if the metrics and `QUANTILES_VERSION` are the same.

    Args:
        values: Metrics by name, as `measure` returns them. Those that are NaN do not count.

    Returns:
        0 (as good as new) to 1 (ruined); NaN if no value is defined.

    Raises:
        ParameterError: A name is not in the table.
    """
    scaled = [_scaled(name, value) for name, value in values.items()]
    defined = [value for value in scaled if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _scaled(name: str, value: float) -> float:
    if name not in _QUANTILES:
        raise ParameterError(f"no quantiles of '{name}': one of {', '.join(_QUANTILES)}")
    mild, harsh = _QUANTILES[name]["q10"], _QUANTILES[name]["q90"]
    if METRICS[name].higher_is_better:
        mild, harsh = harsh, mild
    linear = 0.1 + 0.8 * (value - mild) / (harsh - mild)
    if linear < 0.1:
        return 0.1 * math.exp(10 * linear - 1)
    return 1 - 0.1 * math.exp(9 - 10 * linear) if linear > 0.9 else linear


def _levels(picture: Any) -> NDArray[np.uint8]:
    """The pixels as (H, W, 1 or 3)."""
    pixels = Pixels.of(picture)
    if pixels.array.dtype != np.uint8:
        raise MediaError(f"metrics take pictures of uint8, not {pixels.array.dtype}: scale them to 0..255 and convert")
    if pixels.has_alpha:
        raise MediaError("metrics take pictures without transparency: flatten them to grey or RGB first")
    return pixels.array


class _Picture:
    """A picture, and what metrics compute of it alone.

    Attributes:
        levels: uint8 of shape (H, W, 1 or 3).
    """

    def __init__(self, levels: NDArray[np.uint8]) -> None:
        self.levels = levels

    @cached_property
    def coloured(self) -> _Picture:
        """The picture with three channels."""
        return self if self.levels.shape[2] == 3 else _Picture(np.repeat(self.levels, 3, axis=2))

    @cached_property
    def scales(self) -> list[_Scale]:
        """Luma at the scales of MS-SSIM, each half of the one before."""
        scales = [_Scale(_weighted(self.levels, LUMA))]
        while len(scales) < len(_MS_SSIM_WEIGHTS):
            scales.append(_Scale(_halved(scales[-1].luma)))
        return scales

    @cached_property
    def gradient(self) -> Floats:
        """Magnitude of the gradient of halved luma (Prewitt); zeros surround the picture."""
        y = np.pad(self.scales[1].luma, 1)
        across, down = y[:, 2:] - y[:, :-2], y[2:] - y[:-2]
        across = across[:-2] + across[1:-1] + across[2:]
        down = down[:, :-2] + down[:, 1:-1] + down[:, 2:]
        return np.asarray(np.sqrt(across * across + down * down) / np.float32(3))

    @cached_property
    def haar(self) -> Floats:
        """Magnitudes of Haar responses of halved luma: shape (3 scales, 2 directions, H // 2, W // 2).

        The filter of scale k is 2^k pixels wide and high, has gain 2^-k, and is centred; zeros surround the picture.
        """
        height, width = self.scales[1].luma.shape
        out = np.empty((3, 2, height, width), np.float32)
        boxes = np.pad(self.scales[1].luma, 4)  # sums of half x half pixels
        for scale, half in enumerate((1, 2, 4)):
            left, right = boxes[:, :-half], boxes[:, half:]
            pairs, steps = left + right, left - right
            rows, columns = slice(5 - half, 5 - half + height), slice(5 - half, 5 - half + width)
            for direction, response in enumerate((pairs[:-half] - pairs[half:], steps[:-half] + steps[half:])):
                np.abs(response[rows, columns], out=out[scale, direction])
            out[scale] /= 2 * half
            boxes = pairs[:-half] + pairs[half:]
        return out

    @cached_property
    def chroma(self) -> Floats:
        """Magnitudes of the channels I and Q of YIQ, halved and smoothed over 2 x 2 pixels: (2, H // 2, W // 2)."""
        planes = []
        for weights in _IQ:
            plane = np.pad(_halved(_weighted(self.levels, weights)), ((0, 1), (0, 1)))
            planes.append(np.abs(plane[:-1, :-1] + plane[1:, :-1] + plane[:-1, 1:] + plane[1:, 1:]) / 4)
        return np.stack(planes)

    @cached_property
    def content(self) -> Floats:
        """The embedder's vector, of length 1."""
        return _EMBEDDER(self.levels)


class _Scale:
    """Luma at one scale, with its local moments under SSIM's window."""

    def __init__(self, luma: Floats) -> None:
        self.luma = luma

    @cached_property
    def mean(self) -> Floats:
        return _windowed(self.luma)

    @cached_property
    def variance(self) -> Floats:
        return _windowed(self.luma * self.luma) - self.mean * self.mean

    def ssim(self, other: _Scale) -> tuple[float, float]:
        """Means of the SSIM map, and of its factor for contrast and structure; NaN where no window fits in."""
        if min(self.luma.shape) <= 2 * _SSIM_REACH:
            return math.nan, math.nan
        product = self.mean * other.mean
        structure = 2 * (_windowed(self.luma * other.luma) - product) + _SSIM_C2
        structure /= self.variance + other.variance + _SSIM_C2
        means = self.mean * self.mean + other.mean * other.mean
        ssim = structure * ((2 * product + _SSIM_C1) / (means + _SSIM_C1))
        return float(ssim.mean(dtype=np.float64)), float(structure.mean(dtype=np.float64))


def _weighted(levels: NDArray[np.uint8], weights: tuple[float, float, float]) -> Floats:
    """A weighted sum of the channels: float32 of shape (H, W). Grey pictures are returned as they are."""
    if levels.shape[2] == 1:
        return levels[:, :, 0].astype(np.float32)
    return levels.astype(np.float32) @ np.array(weights, np.float32)


def _halved(plane: Floats) -> Floats:
    """Means of 2 x 2 pixels; an odd row or column at the end is dropped."""
    height, width = plane.shape
    rows = plane[0 : height - 1 : 2] + plane[1::2]
    return np.asarray((rows[:, 0 : width - 1 : 2] + rows[:, 1::2]) / 4)


def _windowed(plane: Floats) -> Floats:
    """Means under an 11 x 11 Gaussian of sigma 1.5, where it lies inside the plane."""
    return blur(plane, _SSIM_SIGMA)[_SSIM_REACH:-_SSIM_REACH, _SSIM_REACH:-_SSIM_REACH]


def _similarity(a: Floats, b: Floats, c: float) -> Floats:
    return np.asarray((2 * a * b + c) / (a * a + b * b + c), np.float32)


def _psnr(reference: _Picture, image: _Picture) -> float:
    error = np.subtract(reference.levels, image.levels, dtype=np.int16)
    mean_square = float(np.square(error, dtype=np.int32).mean())
    return min(10 * math.log10(255**2 / mean_square), PSNR_LIMIT) if mean_square else PSNR_LIMIT


def _ssim(reference: _Picture, image: _Picture) -> float:
    return reference.scales[0].ssim(image.scales[0])[0]


def _ms_ssim(reference: _Picture, image: _Picture) -> float:
    pairs = [ours.ssim(theirs) for ours, theirs in zip(reference.scales, image.scales, strict=True)]
    factors = [structure for _, structure in pairs[:-1]] + [pairs[-1][0]]
    return float(np.prod(np.maximum(factors, 0) ** np.array(_MS_SSIM_WEIGHTS)))


def _gmsd(reference: _Picture, image: _Picture) -> float:
    if min(reference.gradient.shape) < 3:
        return math.nan
    return float(_similarity(reference.gradient, image.gradient, _GMSD_C).std(dtype=np.float64))


def _haarpsi(reference: _Picture, image: _Picture) -> float:
    ours, theirs = reference.haar, image.haar
    if min(ours.shape[2:]) < 8:
        return math.nan
    maps, weights = _similarity(ours[:2], theirs[:2], _HAARPSI_C).mean(0), np.maximum(ours[2], theirs[2])
    if reference.levels.shape[2] == 3:
        colour = _similarity(reference.chroma, image.chroma, _HAARPSI_C)
        maps, weights = (np.concatenate([a, b.mean(0)[None]]) for a, b in ((maps, colour), (weights, weights)))
    total = float(weights.sum(dtype=np.float64))
    if total == 0:
        return math.nan
    mean = float((weights / (1 + np.exp(-_HAARPSI_ALPHA * maps))).sum(dtype=np.float64)) / total
    return min((math.log(mean / (1 - mean)) / _HAARPSI_ALPHA) ** 2, 1.0)


def _embedding(reference: _Picture, image: _Picture) -> float:
    return max(1 - float(reference.content @ image.content), 0.0)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("psnr", True, _psnr), Metric("ssim", True, _ssim), Metric("ms_ssim", True, _ms_ssim),
            Metric("gmsd", False, _gmsd), Metric("haarpsi", True, _haarpsi), Metric("embedding", False, _embedding),
        )
    }
)  # fmt: skip
"""Every metric by name.

- ``psnr``: peak signal-to-noise ratio over all channels in dB, 0 to 100; equal pictures get 100.
- ``ssim``: mean structural similarity of luma (Wang et al. 2004), -1 to 1; 11 x 11 Gaussian windows, whole ones only.
- ``ms_ssim``: the same over five scales (Wang et al. 2003), 0 to 1; a negative factor counts as 0.
- ``gmsd``: gradient magnitude similarity deviation of luma (Xue et al. 2014), from 0 (equal), in practice below 0.5.
- ``haarpsi``: Haar wavelet-based perceptual similarity (Reisenhofer et al. 2018), 0 to 1; with colour, if there is any.
- ``embedding``: 1 - cosine of content vectors (`watermark.reference.embedders`), 0 to 2; it ignores how a picture is
  placed far more than the others do.
"""

_TABLE = json.loads((files("watermark.evaluation") / "quantiles.json").read_text(encoding="utf-8"))
_QUANTILES: Mapping[str, Mapping[str, float]] = _TABLE["metrics"]
QUANTILES_VERSION: str = _TABLE["version"]
"""Which table of quantiles `degradation` uses."""
