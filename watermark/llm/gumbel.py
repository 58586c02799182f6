"""Gumbel marks: the key's randomness chooses the token (Aaronson, "My AI Safety Lecture", 2022).

With uniform numbers u_v of the context, the token that maximises u_v^(1 / p_v) is a sample of p. Who knows the key
sees that chosen tokens have large u.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from watermark._values import whole
from watermark.llm.engine import CONTEXT_PRFS, Step, Tail, TokenParameters, TokenScheme, prf_name
from watermark.ops.token import Value
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import log_gamma_tail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from watermark.ops.token import Function, Scores, Texts


@dataclass(frozen=True, slots=True)
class GumbelParameters(TokenParameters):
    """Parameters of `llm.gumbel`.

    Attributes:
        width: Tokens of a context, 1 to 64.
        prf: Function of tokens: vLLM's, or the secure "chacha8-v1".
    """

    width: int = 4
    prf: str = "philox4x32-10-v1"

    def __post_init__(self) -> None:
        TokenParameters.__post_init__(self)
        object.__setattr__(self, "width", whole(self.width, "width", 1, 64))
        prf_name(self.prf, CONTEXT_PRFS)


class Gumbel(TokenScheme):
    """The mark `llm.gumbel`.

    It samples. Where a context comes back within a text, fresh randomness chooses, so that the text as a whole has the
    model's law over the key. The detector scores each context where it first occurs: -ln(1 - u) is exponential for any
    text made without the key, and the sum over n of them is Gamma(n), exactly.
    """

    samples = True
    on_device = True
    info = SchemeInfo(
        name="llm.gumbel",
        modality="tokens",
        null="exact",
        fixed_key=FixedKey(1.4, 1.6, "200 tokens of English or Chinese prose, width 4: benchmarks/null.py"),
        distortion_free=True,
        payload="none",
        security_bits=64,
    )
    Parameters = GumbelParameters

    def _mark(self, step: Step) -> None:
        function: Function = self._tables[0]
        new = step.is_new(function.width)
        step.sample(function, function.states(step.texts), new)
        if not new.all():
            step.sample(step.noise, step.fresh_states(), ~new)

    def _score(self, tables: Function, texts: Texts, starts: list[int]) -> Scores:
        return tables.score(texts, Value.EXPONENTIAL, by_context=True)

    def _tail(self, n: int, total: float, scores: NDArray[np.float32]) -> Tail:
        # Uniform numbers lie on a grid: P(1 - u <= y) is up to (1 + 2^-24) y.
        log_p = log_gamma_tail(total, n) + n * 2.0**-24
        return log_p, (total - n) / math.sqrt(n) if n else 0.0, {}
