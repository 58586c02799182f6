"""SynthID-Text: tokens compete in a tournament of random bits (Dathathri et al., Nature 634, 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from watermark._values import whole
from watermark.llm.engine import CONTEXT_PRFS, Step, Tail, TokenParameters, TokenScheme, prf_name
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import log_binomial_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watermark.ops.token import Function, Texts


@dataclass(frozen=True, slots=True)
class SynthIdParameters(TokenParameters):
    """Parameters of `llm.synthid`.

    Attributes:
        depth: Layers of the tournament, 1 to 32.
        width: Tokens of a context, 1 to 64.
        prf: Function of tokens: vLLM's, or the secure "chacha8-v1".
    """

    depth: int = 30
    width: int = 4
    prf: str = "philox4x32-10-v1"

    def __post_init__(self) -> None:
        TokenParameters.__post_init__(self)
        object.__setattr__(self, "depth", whole(self.depth, "depth", 1, 32))
        object.__setattr__(self, "width", whole(self.width, "width", 1, 64))
        prf_name(self.prf, CONTEXT_PRFS)


class SynthId(TokenScheme):
    """The mark `llm.synthid`.

    Bit l of a token's word decides its matches in layer l. A context that comes back within a text is left unmarked, so
    that the text as a whole has the model's law over the key.
    """

    on_device = True
    info = SchemeInfo(
        name="llm.synthid",
        modality="tokens",
        null="exact",
        fixed_key=FixedKey(1.4, 1.6, "200 tokens of English or Chinese prose, width 4: benchmarks/null.py"),
        distortion_free=True,
        payload="none",
        security_bits=64,
    )
    Parameters = SynthIdParameters

    def _mark(self, step: Step) -> None:
        function: Function = self._tables[0]
        step.tournament(function, self.parameters.depth, step.is_new(function.width))

    def _score(self, tables: Function, texts: Texts) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        words, counts = tables.read(texts, by_context=True)
        return np.bitwise_count(words & np.uint32(2**self.parameters.depth - 1)).astype(np.float64), counts

    def _tail(self, units: NDArray[np.float64]) -> Tail:
        won, trials = int(units.sum()), len(units) * self.parameters.depth
        return log_binomial_tail(won, trials, 0.5), (2 * won - trials) / math.sqrt(max(trials, 1)), {}
