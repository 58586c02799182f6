"""MajorMark: shards of the vocabulary stand for bits, and those whose bit is in the majority are green.

Reconstructed: arXiv:2508.03829 was known by its abstract and public reviews only, not by its text or code. Ours are the
seeding, the odd number of ones, the code and the p-value; docs/schemes/majormark.md says what is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from watermark._values import whole
from watermark.llm.multibit import MultiBit, MultiBitParameters
from watermark.ops.polar import word_ratios
from watermark.scheme import FixedKey, SchemeInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MajorMarkParameters(MultiBitParameters):
    """Parameters of `llm.majormark`.

    Attributes:
        payload_bits: Net message bits, 1 to 32. From 24 bits on a frame with length and CRC comes on top.
        delta: What is added to the logits of green tokens, above 0.
        width: Tokens of a context, 1 to 64.
        prf: Function of tokens: the secure "chacha8-v1", or vLLM's.
    """

    def __post_init__(self) -> None:
        MultiBitParameters.__post_init__(self)
        whole(self.payload_bits, "payload_bits", 1, 32)


class MajorMark(MultiBit):
    """The mark `llm.majormark`: one shard for each symbol of the code word, and the majority bit seeds the shards.

    Code words have an odd number of ones, so that there always is a majority.
    """

    info = SchemeInfo(
        name="llm.majormark",
        modality="tokens",
        null="bound",
        fixed_key=FixedKey(4.0, 8.0, "that of llm.greenlist of width 1, with the same units: benchmarks/null.py"),
        distortion_free=False,
        payload="1 to 32 bits",
        security_bits=256,
    )
    Parameters: ClassVar[type[Any]] = MajorMarkParameters
    seedings = 2
    most_symbols = 64

    @property
    def colours(self) -> int:
        """Shards of the vocabulary: one for each symbol of a site."""
        return self._symbols

    @property
    def _group(self) -> int:
        return self.colours

    @property
    def sites(self) -> int:
        """Number of blocks."""
        return self.code.symbols // self.colours

    def _green(self, words: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        symbols = words.reshape(len(words), -1, self.colours)
        majority = 2 * symbols.sum(axis=2, dtype=np.int64) > self.colours
        return majority.astype(np.int64), symbols == majority[..., None]

    def _soft(self, table: NDArray[np.int64], lift: float) -> NDArray[np.float32]:
        """As if shards were independent Poisson counts of two means, about half of them with the higher one."""
        counts = table[:, 0].astype(np.float64)  # (texts, seedings, colours)
        mean, high = counts[:, :1].sum(axis=2, keepdims=True) / self.colours, 2 / (1 + np.exp(-lift))
        up = counts * np.log(high) - mean * (high - 1)
        down = counts * np.log(2 - high) + mean * (high - 1)
        evidence = np.logaddexp(up, down).sum(axis=2)
        shares = np.exp(evidence - np.logaddexp.reduce(evidence, axis=1, keepdims=True))
        green = 1 / (1 + np.exp(np.clip(down - up, -500, 500)))
        ones = shares[:, 1:] * green[:, 1] + shares[:, :1] * (1 - green[:, 0])
        ones = np.clip(ones, 1e-15, 1 - 1e-15)
        return np.asarray(np.log(1 - ones) - np.log(ones), np.float32)


class MajorMarkPlus(MajorMark):
    """The mark `llm.majormark_plus`: blocks of eight shards, of which a context speaks for one.

    The majority bit and its number seed the shards of a block: four ways, as a block has 1, 3, 5 or 7 ones.
    """

    info = SchemeInfo(
        name="llm.majormark_plus",
        modality="tokens",
        null="bound",
        fixed_key=FixedKey(4.0, 8.0, "that of llm.greenlist of width 1, with the same units: benchmarks/null.py"),
        distortion_free=False,
        payload="1 to 1024 bits",
        security_bits=256,
    )
    Parameters = MultiBitParameters
    seedings = 4
    most_symbols = MultiBit.most_symbols

    @property
    def colours(self) -> int:
        """Shards of a block."""
        return 8

    def _green(self, words: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        _, green = super()._green(words)
        ones = words.reshape(green.shape).sum(axis=2, dtype=np.int64)
        return ones // 2, green

    def _soft(self, table: NDArray[np.int64], lift: float) -> NDArray[np.float32]:
        """Exact: every block may hold any of its 128 words."""
        words = _odd_words()
        seeding, green = (part[:, 0] for part in self._green(words))
        hits = np.einsum("tswc,wc->tsw", table[:, :, seeding], green, order="C")
        units = table[:, :, 0].sum(axis=2, keepdims=True)
        likelihood = lift * hits - units * np.log1p(green.mean(axis=1) * np.expm1(lift))
        return word_ratios(likelihood.reshape(-1, len(words)), words).reshape(len(table), -1)


@lru_cache(maxsize=1)
def _odd_words() -> NDArray[np.uint8]:
    """Bytes with an odd number of ones: uint8 of shape (128, 8)."""
    words: NDArray[np.uint8] = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    words = words[words.sum(axis=1) % 2 == 1]
    words.setflags(write=False)
    return words
