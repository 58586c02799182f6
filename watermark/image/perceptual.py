"""How strong a pattern may be where, and what a detector makes of it: statistics of a picture at the mark's scale."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops import batch
from watermark.ops.picture import CELL, blur

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats = Any  # float32: an array of one picture, (h, w), or a tensor of many, (n, h, w)

DETECTED = 3.0
"""What a detector sees: `limited_high_pass` with this limit in grey levels."""
SEEN = 12.0
"""The same for the eye: greater differences are edges, beside which a pattern would show as a halo."""
SMOOTHING = 1.0
"""Of both, in pixels."""
_SURROUNDINGS, _FLAT = 6.0, 0.75  # pixels over which its variance is made even; deviation where nothing happens
_RESPONSE, _ATTACK_NOISE = 0.5, 2.0  # amplitude that it leaves of a pattern; variance that an edit adds


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


def visibility(means: Floats) -> Floats:
    """Grey levels per unit of pattern that are equally visible everywhere, on the cell grid.

    A little where nothing happens, rising with activity^(3/4) (contrast masking), less in the dark. Activity is the
    local (mean of sqrt|b|)^2, scaled to the mean of |b| in noise, which discounts what is busy in a few places only.

    Args:
        means: Of sqrt|b|, b^2 and luma over cells, from `limited_high_pass` as `SEEN`.
    """
    root, level = smooth(means[..., 0, :, :], 3.6 / CELL), smooth(means[..., 2, :, :], 4 / CELL)
    xp = library(means)
    busy = xp.sqrt(xp.clip(2.8 * root * root, None, 16))
    masking = 0.4 + 0.48 * busy * xp.sqrt(busy)
    return masking * xp.clip(0.6 + 0.4 / 50 * level, 0.6, 1)


def detector_weight(power: Floats) -> Floats:
    """What a detector multiplies the high-pass by, for even variance: on the cell grid, of its mean squares."""
    return 1 / library(power).sqrt(smooth(power, _SURROUNDINGS / CELL) + _FLAT * _FLAT)


def expected_evidence(amplitude: Floats, power: Floats) -> Any:
    """Correlation that a detector will see of a pattern of this amplitude, in standard deviations of its noise."""
    weight = detector_weight(power)
    noise = library(power).sqrt(mean_of((power + _ATTACK_NOISE) * weight * weight))
    return mean_of(amplitude * weight) / noise * (_RESPONSE * CELL * math.sqrt(math.prod(amplitude.shape[-2:])))
