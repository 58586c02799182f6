"""What marks of other packages have in common: bits that are read without a key, and so without a p-value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from watermark._values import whole
from watermark.detection import Detection, Detections
from watermark.errors import MediaError, ParameterError, PayloadError
from watermark.media.pixels import Pixels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Peer(ABC):
    """A mark of another package, which reads bits from any picture, marked or not, and cannot say which is which.

    The evaluator sets the bits that it embedded against those that were read (`known_message`): for a message that was
    drawn at random this is an exact test. On their own the verdicts say nothing; their p-value is 1.

    Instances hold their parameters alone: they are immutable, comparable and picklable.

    Args:
        payload_bits: Length of the messages, a multiple of 8.

    Raises:
        ParameterError: A parameter is out of its range.
        MissingExtraError: The package is not installed.
    """

    payload_bits: int = field(default=32, kw_only=True)

    modality: ClassVar[str] = "image"
    known_message: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if whole(self.payload_bits, "payload_bits", 8, 2**16) % 8:
            raise ParameterError(f"payload_bits must be a multiple of 8, not {self.payload_bits}")
        self._import()

    @property
    @abstractmethod
    def name(self) -> str:
        """The package, and the method where it has several."""

    def mark(self, item: Any, payload: bytes, rng: Any = None) -> Any:
        """Marks a picture.

        Args:
            item: RGB of uint8, as any type that `watermark.media` knows.
            payload: The message, of exactly `payload_bits`.
            rng: Ignored: these marks draw nothing at random.

        Returns:
            The marked picture, of the same type.

        Raises:
            MediaError: The picture is no RGB of uint8, or too small for the package.
            PayloadError: The message has another length.
        """
        if not isinstance(payload, bytes) or 8 * len(payload) != self.payload_bits:
            raise PayloadError(f"{self.name} takes messages of exactly {self.payload_bits // 8} bytes, as bytes")
        pixels = _rgb(item)
        height, width, _ = pixels.array.shape
        if not self._has_room(height, width):
            raise MediaError(f"the image has {width} x {height} pixels, too few for {self.name}")
        return pixels.restore(self._embed(pixels.array[:, :, ::-1].copy(), payload)[:, :, ::-1])

    def detect_batch(self, media: Iterable[Any]) -> Detections:
        """Reads pictures.

        Args:
            media: Pictures as in `mark`.

        Returns:
            One verdict per picture, with p-value 1. The payload is what the package reads, meaningful or not; it is
            None where the package reads nothing, as the picture has become too small for it. No other failure of the
            package counts as a missing mark: it is raised.

        Raises:
            MediaError: A picture is no RGB of uint8.
        """
        return Detections.of([self._detect(_rgb(item).array) for item in media], self.name)

    def _detect(self, rgb: Picture) -> Detection:
        payload = self._read(rgb[:, :, ::-1].copy()) if self._has_room(*rgb.shape[:2]) else None
        return Detection(self.name, key_id="", log10_p=0.0, score=0.0, n=self.payload_bits, payload=payload)

    @abstractmethod
    def _import(self) -> Any:
        """The package.

        Raises:
            MissingExtraError: It is not installed.
        """

    @abstractmethod
    def _has_room(self, height: int, width: int) -> bool:
        """Whether a picture is large enough for the package."""

    @abstractmethod
    def _embed(self, bgr: Picture, payload: bytes) -> Picture:
        """Marks a contiguous (H, W, 3) picture in OpenCV's order of channels."""

    @abstractmethod
    def _read(self, bgr: Picture) -> bytes:
        """What a picture says, marked or not."""


def _rgb(item: Any) -> Pixels[Any]:
    pixels = Pixels.of(item)
    if pixels.array.dtype != np.uint8 or pixels.array.shape[2] != 3:
        what = f"{pixels.array.dtype} with {pixels.array.shape[2]} channels"
        raise MediaError(f"marks of other packages take RGB of uint8, not {what}: convert the picture first")
    return pixels
