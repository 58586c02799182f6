"""MPAC: each context speaks for a digit of the code word, and its colour is raised (Yoo et al., NAACL 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from watermark.llm.multibit import MultiBit
from watermark.ops.polar import word_ratios
from watermark.scheme import FixedKey, SchemeInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DIGITS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.uint8)
_IS_DIGIT = np.eye(4, dtype=np.bool_)


class Mpac(MultiBit):
    """The mark `llm.mpac`, with four colours.

    A digit is two symbols of the code word, one from each half. The paper sends the digits as they are; here a polar
    code with list decoding protects them. Sites and colours come from the keyed function, so digits need no
    interleaving.
    """

    info = SchemeInfo(
        name="llm.mpac",
        modality="tokens",
        null="bound",
        fixed_key=FixedKey(4.0, 8.0, "that of llm.greenlist of width 1, with the same units: benchmarks/null.py"),
        distortion_free=False,
        payload="1 to 1024 bits",
        security_bits=256,
    )

    @property
    def colours(self) -> int:
        """Colours of the vocabulary: the values of a digit."""
        return 4

    @property
    def sites(self) -> int:
        """Number of digits."""
        return self.code.symbols // 2

    def _green(self, words: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        digits = 2 * words[:, : self.sites] + words[:, self.sites :]
        return np.zeros(digits.shape, np.int64), _IS_DIGIT.take(digits, axis=0)

    def _soft(self, table: NDArray[np.int64], lift: float) -> NDArray[np.float32]:
        likelihood = np.multiply(lift, table[:, :, 0], dtype=np.float64).reshape(-1, 4)
        return word_ratios(likelihood, _DIGITS).reshape(len(table), -1, 2).swapaxes(1, 2).reshape(len(table), -1)
