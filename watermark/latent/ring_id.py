"""RingID: keyed rings in the Fourier planes of all channels tell which of many keys marked (Ci et al., ECCV 2024).

The paper gives 11 rings of one channel one of two levels each. That is 11 bits, so a p-value cannot fall below 2^-11,
and among all 2^11 patterns every latent fits one. Here every ring of every channel has a normal value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.errors import ParameterError
from watermark.latent.fourier import FourierScheme, check_planes, flip, hartley, like
from watermark.payload import FRAMED_FROM, Frame
from watermark.scheme import FixedKey, SchemeInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_VALUES = 1 << 26


@dataclass(frozen=True, slots=True)
class RingIdParameters:
    """Parameters of `latent.ring_id`.

    Attributes:
        shape: Shape of one latent: (channels, height, width).
        payload_bits: The message is an index below ``2**payload_bits``, 0 to 23: so many patterns does a key have.
            Times the values of a pattern they number at most 2^26, which take 256 MiB.
        radius: Radius of the outermost ring in cycles per shorter side, less than half that side. A pattern has
            ``channels * radius`` values, at least 8.
        energy: Mean square of a ring's sum, 1 to 100. In normal noise it is 1, and then a sample is N(0, 1)^n over the
            key. More makes the mark stronger; the rest of the ring is damped, so that its mean energy stays.
    """

    shape: tuple[int, ...] = (4, 64, 64)
    payload_bits: int = 11
    radius: int = 20
    energy: float = 8.0

    def __post_init__(self) -> None:
        channels, *sides = check_planes(self.shape)
        object.__setattr__(self, "shape", (channels, *sides))
        bits = whole(self.payload_bits, "payload_bits of latent.ring_id", 0, FRAMED_FROM - 1)
        object.__setattr__(self, "payload_bits", bits)
        radius = whole(self.radius, f"radius in planes of {sides}", 1, max(1, (min(sides) - 1) // 2))
        object.__setattr__(self, "radius", radius)
        values = channels * radius
        if min(sides) < 3 or values < 8 or values << bits > _MAX_VALUES:
            raise ParameterError(
                f"{1 << bits} patterns of {channels} channels x {radius} rings in planes of {sides}: a pattern needs 8 "
                f"values, all patterns together have at most {_MAX_VALUES}, and a plane has at least 3 x 3 elements"
            )
        real = isinstance(self.energy, (int, float, np.integer, np.floating)) and not isinstance(self.energy, bool)
        if not real or not 1 <= self.energy <= 100:
            raise ParameterError(f"energy must be a number from 1 to 100, not {self.energy!r}")
        object.__setattr__(self, "energy", float(self.energy))


class RingId(FourierScheme):
    """The mark `latent.ring_id`: which of 2^payload_bits patterns, and whether any.

    The value of a ring is the sum of its Fourier coefficients about the centre of the plane, where a rotation of the
    picture leaves it. The null is exact, by the angular test over all rings of all channels.
    """

    info = SchemeInfo(
        name="latent.ring_id",
        modality="latent",
        null="exact",
        fixed_key=FixedKey(1.001, 1.0, "iid normal latents: at most -ln(1 - a) / a at rate a, by the union bound"),
        distortion_free=False,
        payload="an index of 0 to 23 bits",
        security_bits=256,
    )
    Parameters = RingIdParameters
    parameters: RingIdParameters
    _channels = slice(None)

    @cached_property
    def _frame(self) -> Frame:
        return Frame(self.parameters.payload_bits)

    @cached_property
    def _dimension(self) -> int:
        return self.shape[0] * self.parameters.radius

    @cached_property
    def _rings(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """The rings of a spectrum: the positions in them, the ring of each, and an orthonormal basis of ring sums.

        A plane that is even about the centre c has F(k) = R(k) exp(-2 pi i <k, c>) with real R, and so an h(k) in
        proportion to cos + sin of that phase. The centre is that of the elements, (side - 1) / 2, about which pictures
        are turned. The basis has shape (positions, rings).
        """
        ring = np.floor(self._frequency + 0.5).astype(np.int64)
        at = np.flatnonzero((ring >= 1) & (ring <= self.parameters.radius))
        ring_of = ring[at] - 1
        turns = np.add.outer(*(np.fft.fftfreq(side) * (side - 1) / 2 for side in self.shape[1:])).ravel()[at]
        basis = np.zeros((at.size, self.parameters.radius))
        basis[np.arange(at.size), ring_of] = np.cos(2 * math.pi * turns) + np.sin(2 * math.pi * turns)
        return at, ring_of, basis / np.sqrt((basis**2).sum(axis=0))

    @cached_property
    def _scales(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale of each ring's value: shape (rings,); and of all else in its ring: shape (positions,).

        A value takes no more than half of the ring's mean energy, lest the smallest rings stand out.
        """
        _, ring_of, _ = self._rings
        count = np.bincount(ring_of)
        energy = np.minimum(self.parameters.energy, count / 2)
        return np.sqrt(energy), np.sqrt((count - energy) / (count - 1))[ring_of]

    @cached_property
    def _waves(self) -> NDArray[np.float64]:
        """The basis in the plane: float64 of shape (ceil(height / 2) * ceil(width / 2), rings).

        It is even about the centre in both axes, so a quarter tells all.
        """
        at, _, basis = self._rings
        _, height, width = self.shape
        spectrum = np.zeros((self.parameters.radius, height * width))
        spectrum[:, at] = basis.T
        waves = hartley(spectrum.reshape(-1, height, width))[:, : -(-height // 2), : -(-width // 2)]
        waves[:, height // 2 :] /= 2  # the middle row of an odd number of them
        waves[:, :, width // 2 :] /= 2
        return np.ascontiguousarray(waves.reshape(len(waves), -1).T)

    def _coordinates(self, planes: Any) -> Any:
        rows, channels, height, width = planes.shape
        planes = (planes + flip(planes, -2))[:, :, : -(-height // 2)]
        planes = (planes + flip(planes, -1))[..., : -(-width // 2)]
        return (planes.reshape(rows, channels, -1) @ like(self._waves, planes)).reshape(rows, -1)

    def _imprint(self, spectrum: Any, patterns: NDArray[np.float64]) -> None:
        at, _, basis = (like(part, spectrum) for part in self._rings)
        scale, rest = (like(part, spectrum) for part in self._scales)
        values = scale * like(patterns.reshape(len(patterns), -1, self.parameters.radius), spectrum)
        inside = spectrum[:, :, at]
        others = inside - (inside @ basis) @ basis.T
        spectrum[:, :, at] = rest * others + values @ basis.T
