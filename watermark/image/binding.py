"""Ties a mark to the picture that it was made for, so that copying it to another picture is noticed.

A share of the mark's energy goes to a second pattern whose sign follows the picture: +1 where luma, smoothed, curves up
along its contour lines, -1 where it curves down. A detector that has read the payload takes this field from the picture
before it, and asks how much of the second pattern agrees with it. The field is local and turns with the picture, so a
part of it is as good as the whole. It is blind to straight edges, wherever they are: two seascapes whose horizons meet
have nothing in common.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from watermark.image.perceptual import library, slopes, smooth
from watermark.ops.picture import CELL
from watermark.stats import log_rademacher_sum

if TYPE_CHECKING:
    from watermark.image.perceptual import Floats

SHARE = 0.25
"""Largest share of the energy at any place that the second pattern takes; about .15 on average."""
TOLERATED = 0.3
"""Agreement up to which a mark counts as made for another picture."""
_SIGMA = 8.0
_FIRM = 0.5


class Binding(NamedTuple):
    """What a detector finds of the second pattern.

    Attributes:
        log_p: Logarithm of a bound on the probability, over the key, of seeing as much of it if it agrees with the
            picture to `TOLERATED` at most.
        agreement: How much of it there is, relative to what the payload's strength lets expect: about 1 in the picture
            that it was made for, 0 in others.
    """

    log_p: float
    agreement: float


def field(luma: Floats, scale: float) -> Floats:
    """The sign that the second pattern has where: -1 to 1, near 0 where the picture does not tell.

    With derivatives of Gaussian-smoothed luma L, q = sigma^2 (L_xx L_y^2 - 2 L_xy L_x L_y + L_yy L_x^2) / |grad L|^2
    is its second derivative along the contour line (Lindeberg's L_vv, in grey levels); the field is q / 0.5, limited.

    Args:
        luma: Means over cells of 4 x 4 pixels, 0 to 255: float32 of shape (rows, columns), two at least on each axis.
        scale: Pixels per pixel of the mark's frame.

    Returns:
        float32 on the same grid.
    """
    sigma = _SIGMA * scale / CELL
    y, x = slopes(smooth(luma, sigma))
    (yy, xy), (_, xx) = slopes(y), slopes(x)
    along = (xx * y * y - 2 * xy * x * y + yy * x * x) / (x * x + y * y + 1e-6)
    return library(along).clip(along * (sigma * sigma / _FIRM), -1, 1)


def layers(field: Floats) -> Floats:
    """Amplitudes of the payload's pattern and of the second one, whose squares sum to 1.

    Args:
        field: float32 of shape (rows, columns), or a tensor (n, rows, columns).

    Returns:
        float32 of shape (2, rows, columns), or a tensor (n, 2, rows, columns).
    """
    return _pair(*_shares(field))


def probes(field: Floats) -> Floats:
    """What a picture is multiplied by, to read either pattern: the shape of `layers`.

    The first leaves of the payload's pattern just as much as the second leaves of the second pattern where its sign is
    that of `field`.
    """
    payload, second = _shares(field)
    return _pair(second * field / payload, field)


def _shares(field: Floats) -> tuple[Floats, Floats]:
    return library(field).sqrt(1 - SHARE * field * field), math.sqrt(SHARE) * field


def _pair(first: Floats, second: Floats) -> Floats:
    return library(first).stack([first, second], max(first.ndim - 2, 0))


def verdict(payload: Floats, second: Floats) -> Binding:
    """Tests whether the second pattern agrees with the picture.

    Both patterns are read on the same lines, through `probes`; T_1 and T_2 are the sums of their chips, each turned to
    be positive. In a picture whose field agrees with the carried one by theta, E T_2 = theta E T_1. The rest of
    T_2 - theta T_1 is a sum of fixed numbers with independent fair signs, which the key chooses.

    Args:
        payload: Chips of the payload's pattern, scaled to the strength of the second pattern's, float32 of shape (n,).
        second: Chips of the second pattern.
    """
    expected, found = float(payload.sum()), float(second.sum())
    excess = found - TOLERATED * expected
    deviation = math.sqrt(float(second @ second) + TOLERATED**2 * float(payload @ payload))
    if expected <= 0 or excess <= 0:
        return Binding(0.0, found / expected if expected > 0 else 0.0)
    return Binding(log_rademacher_sum(excess / deviation), found / expected)
