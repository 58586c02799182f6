"""The marks of the package invisible-watermark, to be evaluated beside ours: ``pip install 'watermarking[peers]'``.

::

    peer = InvisibleWatermark("dwtDctSvd", payload_bits=64)
    marked = peer.mark(picture, b"8 bytes.")
    peer.detect_batch([marked])[0].payload
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from watermark.errors import MissingExtraError, ParameterError
from watermark.integrations._peers import Peer

if TYPE_CHECKING:
    from watermark.integrations._peers import Picture

Method = Literal["dwtDct", "dwtDctSvd", "rivaGan"]

_FEWEST_PIXELS = 256 * 256
_BLOCK = 8
"""Side in pixels of the blocks that carry a bit each, for the methods without a network."""
_RIVAGAN_BITS = 32


@dataclass(frozen=True)
class InvisibleWatermark(Peer):
    """invisible-watermark: bits without a key in blocks of a wavelet transform, or by the network RivaGAN.

    Of many photos `dwtDct` returns a wrong message even if nothing was done to them: the package is measured as it is.
    A process that has used `rivaGan` must not be forked for workers that use it too, since the threads of onnxruntime
    hang there: start these by spawn or forkserver.

    Args:
        method: ``dwtDct``, ``dwtDctSvd`` or ``rivaGan`` (needs onnxruntime).
        payload_bits: Length of the messages, a multiple of 8; ``rivaGan`` has 32 and no other number.

    Raises:
        ParameterError: There is no such method, or it carries no messages of this length.
        MissingExtraError: The package, or another that it imports, is not installed.
    """

    method: Method = "dwtDct"

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ParameterError(f"invisible-watermark has no method {self.method!r}: {', '.join(get_args(Method))}")
        if self.method == "rivaGan" and self.payload_bits != _RIVAGAN_BITS:
            raise ParameterError(f"rivaGan carries {_RIVAGAN_BITS} bits, not {self.payload_bits!r}")
        super().__post_init__()

    @property
    def name(self) -> str:
        """The package and the method."""
        return f"invisible-watermark {self.method}"

    def _import(self) -> Any:
        try:
            import imwatermark

            if self.method == "rivaGan":
                import onnxruntime  # noqa: F401 (which the package imports when it loads the network)
        except ImportError as error:
            raise MissingExtraError(error.name or "invisible-watermark", "peers") from error
        return imwatermark

    def _has_room(self, height: int, width: int) -> bool:
        if self.method == "rivaGan":
            return height * width >= _FEWEST_PIXELS
        blocks = (height // _BLOCK) * (width // _BLOCK)
        return height * width >= _FEWEST_PIXELS and blocks >= self.payload_bits

    def _embed(self, bgr: Picture, payload: bytes) -> Picture:
        encoder = self._import().WatermarkEncoder()
        if self.method == "rivaGan":
            encoder.loadModel()  # once in each process
        encoder.set_watermark("bytes", payload)
        marked: Picture = encoder.encode(bgr, self.method)
        return marked

    def _read(self, bgr: Picture) -> bytes:
        decoder = self._import().WatermarkDecoder("bytes", self.payload_bits)
        if self.method == "rivaGan":
            decoder.loadModel()
        return bytes(decoder.decode(bgr, self.method))
