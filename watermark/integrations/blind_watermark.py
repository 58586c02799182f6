"""The mark of the package blind-watermark, to be evaluated beside ours: ``pip install 'watermarking[peers]'``.

::

    peer = BlindWatermark(payload_bits=64)
    marked = peer.mark(picture, b"8 bytes.")
    peer.detect_batch([marked])[0].payload
"""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.errors import MissingExtraError
from watermark.integrations._peers import Peer

if TYPE_CHECKING:
    from watermark.integrations._peers import Picture

_PASSWORDS = {"password_img": 1, "password_wm": 1}
_BLOCK = 4
"""Side of the blocks that carry a bit each, in samples of a wavelet transform that halves the picture."""


@dataclass(frozen=True)
class BlindWatermark(Peer):
    """blind-watermark: bits in blocks of a wavelet transform, their order shuffled by two small numbers.

    Both numbers, which the package calls passwords, are its defaults, 1 and 1. It reads at the size and in the place at
    which it marked: of a picture that was scaled, cropped or turned it returns bits that mean nothing. It tells ones
    from zeros by two clusters of what it reads, and so cannot carry a message of ones or of zeros alone.

    Args:
        payload_bits: Length of the messages, a multiple of 8.

    Raises:
        ParameterError: `payload_bits` is out of its range.
        MissingExtraError: The package, or another that it imports, is not installed.
    """

    @property
    def name(self) -> str:
        """The package."""
        return "blind-watermark"

    def _import(self) -> Any:
        if (loaded := sys.modules.get("blind_watermark")) is not None:
            return loaded
        # On import the package sets how this process starts others, and fails if that is set: it is put back.
        before = multiprocessing.get_start_method(allow_none=True)
        multiprocessing.set_start_method(None, force=True)
        try:
            import blind_watermark
        except ImportError as error:
            raise MissingExtraError(error.name or "blind-watermark", "peers") from error
        finally:
            multiprocessing.set_start_method(before, force=True)
        blind_watermark.bw_notes.close()  # prints otherwise
        return blind_watermark

    def _has_room(self, height: int, width: int) -> bool:
        rows, columns = ((side + 1) // 2 // _BLOCK for side in (height, width))
        return rows * columns > self.payload_bits

    def _embed(self, bgr: Picture, payload: bytes) -> Picture:
        engine = self._import().WaterMark(**_PASSWORDS)
        engine.read_img(img=bgr)
        engine.read_wm(np.unpackbits(np.frombuffer(payload, np.uint8)).astype(bool), mode="bit")
        marked: Picture = np.rint(engine.embed()).astype(np.uint8)  # floats from 0 to 255
        return marked

    def _read(self, bgr: Picture) -> bytes:
        engine = self._import().WaterMark(**_PASSWORDS)
        with warnings.catch_warnings():
            # Where all bits look alike, as in a picture of one colour, one cluster is empty.
            warnings.simplefilter("ignore", RuntimeWarning)
            bits = engine.extract(embed_img=bgr, wm_shape=self.payload_bits, mode="bit")
        return np.packbits(np.asarray(bits) > 0.5).tobytes()
