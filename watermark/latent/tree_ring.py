"""Tree-Ring: a keyed disc in the Fourier plane of one channel (Wen et al., NeurIPS 2023, section 3).

The paper writes a complex Gaussian disc, and taking the real part afterwards loses half of it. Here the disc is
Hermitian-symmetric, so that nothing is lost, and the test is exact where the paper fits a variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.latent.fourier import FourierScheme, check_planes, hartley, like
from watermark.payload import Frame
from watermark.scheme import FixedKey, SchemeInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TreeRingParameters:
    """Parameters of `latent.tree_ring`.

    Attributes:
        shape: Shape of one latent: (channels, height, width).
        channel: The channel that carries the disc.
        radius: Radius of the disc in cycles per shorter side, 2 to half that side.
    """

    shape: tuple[int, ...] = (4, 64, 64)
    channel: int = 0
    radius: int = 10

    def __post_init__(self) -> None:
        channels, *sides = check_planes(self.shape)
        object.__setattr__(self, "shape", (channels, *sides))
        object.__setattr__(self, "channel", whole(self.channel, "channel", 0, channels - 1))
        object.__setattr__(self, "radius", whole(self.radius, f"radius in planes of {sides}", 2, min(sides) // 2))


class TreeRing(FourierScheme):
    """The mark `latent.tree_ring`: presence only.

    The null is exact, by the angular test over the d real degrees of freedom of the disc (317 at radius 10). Over the
    key one sample is N(0, 1)^n; but all samples of one key share the disc, so that two of them give it away.
    """

    info = SchemeInfo(
        name="latent.tree_ring",
        modality="latent",
        null="exact",
        fixed_key=FixedKey(1.0, 1.0, "iid normal latents, on which every key has one law: benchmarks/null.py"),
        distortion_free=False,
        payload="none",
        security_bits=256,
    )
    Parameters = TreeRingParameters
    parameters: TreeRingParameters
    _frame = Frame(0)

    @cached_property
    def _channels(self) -> slice:
        return slice(self.parameters.channel, self.parameters.channel + 1)

    @cached_property
    def _disc(self) -> NDArray[np.int64]:
        """Positions of the disc in a spectrum."""
        return np.flatnonzero(self._frequency <= self.parameters.radius + 1e-9)

    @cached_property
    def _dimension(self) -> int:
        return self._disc.size

    def _coordinates(self, planes: Any) -> Any:
        return hartley(planes).reshape(len(planes), -1)[:, like(self._disc, planes)]

    def _imprint(self, spectrum: Any, patterns: NDArray[np.float64]) -> None:
        spectrum[:, 0, like(self._disc, spectrum)] = like(patterns, spectrum)
