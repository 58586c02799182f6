"""Reweighted marks: tokens in a keyed order, of which the first ones lose probability to the last ones.

`llm.dipmark` (Wu et al., "DiPmark: A Stealthy, Efficient and Resilient Watermark", 2024) with strength `alpha`;
`llm.unbiased` is its strongest case alpha = 1/2, the gamma-reweight of Hu et al. ("Unbiased Watermark for Large
Language Models", ICLR 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from watermark._values import whole
from watermark.errors import ParameterError
from watermark.llm.engine import CONTEXT_PRFS, SECURE_PRF, Step, Tail, TokenParameters, TokenScheme, number, prf_name
from watermark.ops.token import Function, Scores, Texts, Value, reweight
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import log_binomial_tail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class UnbiasedParameters(TokenParameters):
    """Parameters of `llm.unbiased`.

    Attributes:
        width: Tokens of a context, 1 to 64.
        prf: Function of tokens: the secure "chacha8-v1", or vLLM's.
    """

    width: int = 4
    prf: str = SECURE_PRF

    def __post_init__(self) -> None:
        TokenParameters.__post_init__(self)
        object.__setattr__(self, "width", whole(self.width, "width", 1, 64))
        prf_name(self.prf, CONTEXT_PRFS)


@dataclass(frozen=True, slots=True)
class DipMarkParameters(UnbiasedParameters):
    """Parameters of `llm.dipmark`.

    Attributes:
        width: Tokens of a context, 1 to 64.
        prf: Function of tokens: the secure "chacha8-v1", or vLLM's.
        alpha: Share of probability at the beginning of the order that moves to its end, above 0 and at most 1/2.
    """

    alpha: float = 0.45

    def __post_init__(self) -> None:
        UnbiasedParameters.__post_init__(self)
        object.__setattr__(self, "alpha", number(self.alpha, "alpha", 0, 0.5000001))
        if self.alpha > 0.5:
            raise ParameterError("alpha is at most 1/2")


class DipMark(TokenScheme):
    """The mark `llm.dipmark`.

    The order of the tokens is that of their words. A context that comes back within a text is left unmarked, so that
    the text as a whole has the model's law over the key. The detector counts tokens in the upper half of the words,
    where probability moved to: for any text made without the key that is a fair coin per context, exactly.
    """

    info = SchemeInfo(
        name="llm.dipmark",
        modality="tokens",
        null="exact",
        fixed_key=FixedKey(1.4, 1.6, "200 tokens of English or Chinese prose, width 4: benchmarks/null.py"),
        distortion_free=True,
        payload="none",
        security_bits=256,
    )
    Parameters: ClassVar[type[Any]] = DipMarkParameters

    @property
    def _alpha(self) -> float:
        alpha: float = self.parameters.alpha
        return alpha

    def _mark(self, step: Step) -> None:
        function: Function = self._tables[0]
        step.reshape(function, lambda words, logits: reweight(words, self._alpha, logits), step.is_new(function.width))

    def _score(self, tables: Function, texts: Texts, starts: list[int]) -> Scores:
        return tables.score(texts, Value.ONES, 2**31, by_context=True)

    def _tail(self, n: int, total: float, scores: NDArray[np.float32]) -> Tail:
        hits = int(total)
        return log_binomial_tail(hits, n, 0.5), (2 * hits - n) / math.sqrt(max(n, 1)), {}


class Unbiased(DipMark):
    """The mark `llm.unbiased`: all probability in the first half of the order moves to the second."""

    info = SchemeInfo(
        name="llm.unbiased",
        modality="tokens",
        null="exact",
        fixed_key=FixedKey(1.4, 1.7, "200 tokens of English or Chinese prose, width 4: benchmarks/null.py"),
        distortion_free=True,
        payload="none",
        security_bits=256,
    )
    Parameters = UnbiasedParameters

    @property
    def _alpha(self) -> float:
        return 0.5
