"""How strong a pattern may be where, and what a detector makes of it: statistics of a picture at the mark's scale."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops import batch
from watermark.ops.picture import CELL, blur

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats = Any  # float32: an array of one picture, (h, w), or a tensor of many, (n, h, w)

HIGH_PASS = 2.0
"""Deviation in pixels of the low-pass that luma is freed of, to give the high-pass b."""
_DETECTOR_NOISE = 1.5**2
_ATTACK_NOISE = 9.0


def library(values: Any) -> Any:
    """NumPy for arrays, torch for tensors."""
    return np if isinstance(values, np.ndarray) else sys.modules["torch"]


def alike(values: NDArray[Any], like: Any) -> Any:
    """An array as the same kind of thing as `like`, where that lies."""
    return values if isinstance(like, np.ndarray) else batch.to_device(values, like)


def smooth(maps: Floats, sigma: float) -> Floats:
    """`watermark.ops.picture.blur` of one map, or of each of many."""
    if not isinstance(maps, np.ndarray):
        return batch.blur(maps, sigma)
    maps = np.ascontiguousarray(maps)
    return blur(maps, sigma) if maps.ndim == 2 else np.stack([blur(one, sigma) for one in maps])


def slopes(maps: Floats) -> tuple[Floats, Floats]:
    """Derivatives down and across."""
    if isinstance(maps, np.ndarray):
        down, across = np.gradient(maps, axis=(-2, -1))
    else:
        down, across = library(maps).gradient(maps, dim=(-2, -1))
    return down, across


def mean_of(maps: Floats) -> Any:
    """The mean of one picture, or those of many, which then lie along the first of three axes."""
    return maps.mean() if isinstance(maps, np.ndarray) else maps.mean((-2, -1), keepdim=True)


def rms(maps: Floats) -> Any:
    """The root mean square of one picture, or those of many."""
    return library(maps).sqrt(mean_of(maps * maps))


@dataclass(frozen=True, slots=True)
class Statistics:
    """Maps of a picture at the mark's scale, on the grid of 4 x 4 pixel cells; b is its high-pass.

    Attributes:
        variance: Local mean of b^2 (sigma 6 px).
        activity: Local (mean of sqrt|b|)^2, scaled to the mean of |b| in noise (sigma 3.6 px). Unlike the variance it
            discounts lone edges, beside which a pattern would show as a halo.
        level: Local luma (sigma 4 px).
    """

    variance: Floats
    activity: Floats
    level: Floats

    @classmethod
    def of(cls, means: Floats) -> Statistics:
        """From the means over cells of sqrt|b|, b^2 and luma: float32 of shape (..., 3, rows, columns)."""
        root, square, level = (means[..., i, :, :] for i in range(3))
        smooth_root = smooth(root, 3.6 / CELL)
        return cls(smooth(square, 6 / CELL), 1.4 * smooth_root * smooth_root, smooth(level, 4 / CELL))

    def visibility(self) -> Floats:
        """Grey levels per unit of pattern that are equally visible everywhere, on the cell grid.

        Half a level where nothing happens, rising with activity^(3/4) (contrast masking), less in the dark.
        """
        xp = library(self.activity)
        busy = xp.sqrt(xp.clip(self.activity, None, 16))
        masking = 0.5 + 0.35 * busy * xp.sqrt(busy)
        return masking * xp.clip(0.6 + 0.4 / 50 * self.level, 0.6, 1)

    def expected_evidence(self, amplitude: Floats) -> Any:
        """Correlation that a detector will see of a pattern of this amplitude, in standard deviations of its noise."""
        sqrt = library(amplitude).sqrt
        deviation = sqrt(self.variance + _DETECTOR_NOISE)
        weight = 1 / (deviation * sqrt(deviation))
        noise = mean_of((self.variance + _ATTACK_NOISE) * weight * weight)
        size = math.prod(amplitude.shape[-2:])
        return mean_of(amplitude * weight) / sqrt(noise) * (CELL * math.sqrt(size))
