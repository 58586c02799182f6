"""SynthID-Text: tokens compete in a tournament of random bits (Dathathri et al., Nature 634, 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._values import whole
from watermark.errors import ParameterError
from watermark.llm.engine import CONTEXT_PRFS, Step, Tail, TokenParameters, TokenScheme, prf_name
from watermark.llm.foreign import SynthIdFunction, numbers_of
from watermark.ops.token import Value, tournament_of_words
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import log_binomial_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watermark.detection import Detection
    from watermark.key import Key
    from watermark.ops.token import Function, Scores, Texts

HF_SYNTHID = "hf-synthid"
"""The function of transformers' ``SynthIDTextWatermarkLogitsProcessor``."""


@dataclass(frozen=True, slots=True)
class SynthIdParameters(TokenParameters):
    """Parameters of `llm.synthid`.

    Attributes:
        depth: Layers of the tournament, 1 to 32; with prf "hf-synthid" to 64.
        width: Tokens of a context, 1 to 64.
        prf: Function of tokens: vLLM's, the secure "chacha8-v1", or "hf-synthid", that of transformers.
        table_size: Coins of "hf-synthid", a power of two up to 2^24; without use for the others. (With other sizes,
            whoever knows the table finds texts whose tokens share their coins.)
        table_seed: Their seed.
    """

    depth: int = 30
    width: int = 4
    prf: str = "philox4x32-10-v1"
    table_size: int = 1 << 16
    table_seed: int = 0

    def __post_init__(self) -> None:
        TokenParameters.__post_init__(self)
        prf_name(self.prf, (*CONTEXT_PRFS, HF_SYNTHID))
        object.__setattr__(self, "depth", whole(self.depth, "depth", 1, 64 if self.prf == HF_SYNTHID else 32))
        object.__setattr__(self, "width", whole(self.width, "width", 1, 64))
        object.__setattr__(self, "table_size", whole(self.table_size, "table_size", 2, 1 << 24))
        if self.table_size & self.table_size - 1:
            raise ParameterError(f"table_size must be a power of two for p-values to hold, not {self.table_size}")
        object.__setattr__(self, "table_seed", whole(self.table_seed, "table_seed", -(2**63), 2**64 - 1))


class SynthId(TokenScheme):
    """The mark `llm.synthid`.

    Bit l of a token's word decides its matches in layer l. A context that comes back within a text is left unmarked, so
    that the text as a whole has the model's law over the key.
    """

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

    @property
    def on_device(self) -> bool:  # type: ignore[override]
        """The table of transformers is the host's work."""
        return bool(self.parameters.prf != HF_SYNTHID)

    @property
    def security_bits(self) -> int:
        """Logarithm to base 2 of the best known attack on the secret of these parameters."""
        if self.parameters.prf != HF_SYNTHID:
            return super().security_bits
        # Keys count modulo the size of the table, and layers are found one by one.
        return math.ceil(math.log2(self.parameters.depth * self.parameters.table_size))

    def _bind(self, key: Key) -> Any:
        parameters = self.parameters
        if parameters.prf != HF_SYNTHID:
            return super()._bind(key)
        keys = numbers_of(key, f"{self.name}/1/{HF_SYNTHID}", parameters.depth)
        return SynthIdFunction(keys, parameters.width, parameters.table_size, parameters.table_seed)

    def _mark(self, step: Step) -> None:
        function, depth = self._tables[0], self.parameters.depth
        if isinstance(function, SynthIdFunction):
            new = function.is_new(step.texts)
            step.reshape(function, lambda words, logits: tournament_of_words(words[:, 0], depth, logits), new)
        else:
            step.tournament(function, depth, step.is_new(function.width))

    def _read(self, tables: Any, texts: Texts, starts: list[int], key_id: str) -> list[Detection]:
        if not isinstance(tables, SynthIdFunction):
            return super()._read(tables, texts, starts, key_id)
        # One table of coins is behind all units, so that they are not independent: their own law is computed.
        depth, rate = self.parameters.depth, tables.rate
        won, counts, entries = tables.read(texts)
        shown = np.where(counts, won, np.nan).astype(np.float32)
        found = []
        for first, last in zip(starts, texts.end.tolist(), strict=True):
            units = first + np.flatnonzero(counts[first:last])
            total, trials = int(won[units].sum()), len(units) * depth
            score = (total - rate * trials) / math.sqrt(max(trials, 1) * rate * (1 - rate))
            log_p = tables.log_tail(entries[units], total, depth)
            found.append(self._present(key_id, (log_p, score, {}), len(units), shown[first:last]))
        return found

    def _score(self, tables: Function, texts: Texts, starts: list[int]) -> Scores:
        return tables.score(texts, Value.ONES, 2**self.parameters.depth - 1, by_context=True)

    def _tail(self, n: int, total: float, scores: NDArray[np.float32]) -> Tail:
        won, trials = int(total), n * self.parameters.depth
        return log_binomial_tail(won, trials, 0.5), (2 * won - trials) / math.sqrt(max(trials, 1)), {}
