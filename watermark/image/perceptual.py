"""How strong a pattern may be where, and what a detector makes of it: statistics of a picture at the mark's scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from watermark.ops.picture import CELL, blur

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DETECTED = (3.0, 1.0)
"""What a detector sees: `limited_high_pass` with this limit in grey levels and this smoothing in pixels."""
SEEN = (12.0, 1.0)
"""The same for the eye: greater differences are edges, beside which a pattern would show as a halo."""
_SURROUNDINGS, _FLAT = 6.0, 0.75  # pixels over which its variance is made even; deviation where nothing happens
_RESPONSE, _ATTACK_NOISE = 0.5, 2.0  # amplitude that it leaves of a pattern; variance that an edit adds


def visibility(means: Floats) -> Floats:
    """Grey levels per unit of pattern that are equally visible everywhere, on the cell grid.

    A little where nothing happens, rising with activity^(3/4) (contrast masking), less in the dark. Activity is the
    local (mean of sqrt|b|)^2, scaled to the mean of |b| in noise, which discounts what is busy in a few places only.

    Args:
        means: Of sqrt|b|, b^2 and luma over cells, from `limited_high_pass` as `SEEN`.
    """
    root, level = blur(means[0], 3.6 / CELL), blur(means[2], 4 / CELL)
    busy = np.sqrt(np.minimum(np.float32(2.8) * root * root, 16))
    masking = np.float32(0.4) + np.float32(0.48) * busy * np.sqrt(busy)
    darkness = np.clip(np.float32(0.6) + np.float32(0.4 / 50) * level, np.float32(0.6), 1)
    return np.asarray(masking * darkness)


def detector_weight(power: Floats) -> Floats:
    """What a detector multiplies the high-pass by, for even variance: on the cell grid, of its mean squares."""
    return np.asarray(1 / np.sqrt(blur(power, _SURROUNDINGS / CELL) + np.float32(_FLAT * _FLAT)))


def expected_evidence(amplitude: Floats, power: Floats) -> float:
    """Correlation that a detector will see of a pattern of this amplitude, in standard deviations of its noise."""
    weight = detector_weight(power)
    noise = np.sqrt(np.mean((power + np.float32(_ATTACK_NOISE)) * weight * weight))
    return float(_RESPONSE * np.mean(amplitude * weight) / noise * CELL * np.sqrt(amplitude.size))
