"""What attacks on image marks yield, and the rows that it is counted in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from robustness import Picture

SCHEME, PAYLOAD_BITS = "image.spectral", 64


class Attempt(NamedTuple):
    """A picture to be detected, most of them made by an attacker.

    Attributes:
        row: Which row of the table it belongs to.
        picture: The picture itself.
        message: What was embedded.
        psnr: Of the change to the picture in dB; None where there is no pixel to compare with.
        height: How far the peaks that were cut rise over their surroundings, as a factor; None without peaks.
    """

    row: str
    picture: Picture
    message: bytes
    psnr: float | None = None
    height: float | None = None


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        target: Least rate at which the mark is found, or largest in a forgery; None: reported only.
        level: Power of ten that p must not exceed for a mark to count as found.
        forgery: Whether the attacker wants it to be found.
        pooled: The rows whose attempts it counts together; none: it has attempts of its own.
    """

    target: float | None = None
    level: int = -6
    forgery: bool = False
    pooled: tuple[str, ...] = ()
