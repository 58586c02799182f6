"""How strong a pattern may be where, and what a detector makes of it: statistics of a picture at the mark's scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from watermark.ops.picture import CELL, blur

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

HIGH_PASS = 2.0
"""Deviation in pixels of the low-pass that luma is freed of, to give the high-pass b."""
_DETECTOR_NOISE = 1.5**2
_ATTACK_NOISE = 9.0


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
        """From the means over cells of sqrt|b|, b^2 and luma: float32 of shape (3, rows, columns)."""
        smooth_root = blur(means[0], 3.6 / CELL)
        activity = np.float32(1.4) * smooth_root * smooth_root
        return cls(blur(means[1], 6 / CELL), activity, blur(means[2], 4 / CELL))

    def visibility(self) -> Floats:
        """Grey levels per unit of pattern that are equally visible everywhere, on the cell grid.

        Half a level where nothing happens, rising with activity^(3/4) (contrast masking), less in the dark.
        """
        busy = np.sqrt(np.minimum(self.activity, 16))
        masking = np.float32(0.5) + np.float32(0.35) * busy * np.sqrt(busy)
        darkness = np.clip(np.float32(0.6) + np.float32(0.4 / 50) * self.level, np.float32(0.6), 1)
        return np.asarray(masking * darkness)

    def expected_evidence(self, amplitude: Floats) -> float:
        """Correlation that a detector will see of a pattern of this amplitude, in standard deviations of its noise."""
        deviation = np.sqrt(self.variance + np.float32(_DETECTOR_NOISE))
        weight = 1 / (deviation * np.sqrt(deviation))
        noise = np.sqrt(np.mean((self.variance + np.float32(_ATTACK_NOISE)) * weight * weight))
        return float(np.mean(amplitude * weight) / noise * CELL * np.sqrt(amplitude.size))
