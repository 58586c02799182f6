"""Green lists: the context picks tokens whose logits are raised (Kirchenbauer et al., ICML 2023).

`llm.greenlist` seeds the list with the last tokens, `llm.unigram` has one list for all (Zhao et al., ICLR 2024). Lists
are drawn token by token, as in SBW (Ceppi and Sanchez, EMNLP 2026), so that nothing is shuffled: a token is green if
its word is below `gamma`. The lists of transformers (`prf="hf-kgw"`), which are shuffled, can be read and written too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.errors import ParameterError
from watermark.llm.engine import CONTEXT_PRFS, SECURE_PRF, Step, Tail, TokenParameters, TokenScheme, number, prf_name
from watermark.llm.foreign import KgwFunction, numbers_of
from watermark.ops.token import PRFS, Function, Scores, Seeding, Texts, Value
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import log_binomial_tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from watermark.key import Key

HF_KGW = "hf-kgw"
"""The function of transformers' ``WatermarkLogitsProcessor``."""
_SBW_STEPS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class UnigramParameters(TokenParameters):
    """Parameters of `llm.unigram`.

    Attributes:
        gamma: Share of the vocabulary that is green, between 0 and 1; taken to the nearest of 256 steps, but for "sbw"
            and seeding "self".
        delta: What is added to the logits of green tokens, above 0.
        hard: Red tokens are excluded instead, unless there is no other.
        prf: Function of tokens.
    """

    gamma: float = 0.5
    delta: float = 2.0
    hard: bool = False
    prf: str = SECURE_PRF
    _prfs: ClassVar[tuple[str, ...]] = CONTEXT_PRFS

    def __post_init__(self) -> None:
        TokenParameters.__post_init__(self)
        object.__setattr__(self, "gamma", number(self.gamma, "gamma", 0, 1))
        object.__setattr__(self, "delta", number(self.delta, "delta", 0, 1000))
        object.__setattr__(self, "hard", bool(self.hard))
        prf_name(self.prf, self._prfs)


@dataclass(frozen=True, slots=True)
class GreenListParameters(UnigramParameters):
    """Parameters of `llm.greenlist`.

    Attributes:
        gamma: Share of the vocabulary that is green, between 0 and 1; taken to the nearest of 256 steps, but for "sbw"
            and seeding "self".
        delta: What is added to the logits of green tokens, above 0.
        hard: Red tokens are excluded instead, unless there is no other.
        prf: Function of tokens. With "hf-kgw", that of transformers on the CPU, contexts reach into the prompt,
            seeding is "left" (by the last token alone, but not before `width` tokens) or "self", and lists are not
            hard.
        seeding: What seeds a list: "left", the last `width` tokens in order; "skip", the oldest of them; "least", the
            one whose hash is least; "self", the least hash of a pair with the candidate itself, which takes the
            oldest's place.
        width: Tokens of a context, 1 to 64. Wide contexts leave fewer marks after an edit, narrow ones are easier to
            learn.
        top: With seeding "self": only so many candidates with the highest logits are tested, None for all.
        window: Least length of the windows of tokens that are tested beside the whole text, to find a mark in a part
            of it; None tests the whole text only.
    """

    seeding: str = "left"
    width: int = 1
    top: int | None = 40
    window: int | None = None
    _prfs: ClassVar[tuple[str, ...]] = (*PRFS, HF_KGW)  # "sbw" is a product with what the context sums up to

    def __post_init__(self) -> None:
        UnigramParameters.__post_init__(self)
        if self.seeding not in ("left", "skip", "least", "self"):
            raise ParameterError(f"seeding is left, skip, least or self, not {self.seeding!r}")
        object.__setattr__(self, "width", whole(self.width, "width", 1, 64))
        if self.top is not None:
            object.__setattr__(self, "top", whole(self.top, "top", 1, 1 << 24))
        if self.window is not None:
            object.__setattr__(self, "window", whole(self.window, "window", 8, 1 << 24))
        if self.prf == HF_KGW:
            if self.seeding not in ("left", "self") or self.hard:
                raise ParameterError(f"with prf {HF_KGW}, seeding is left or self, and hard is False")
            if not self.green_tokens:
                raise ParameterError(f"gamma = {self.gamma} leaves no green token among {self.vocab_size}")

    @property
    def green_tokens(self) -> int:
        """Length of a list of transformers."""
        return int(self.vocab_size * self.gamma)


class GreenList(TokenScheme):
    """The mark `llm.greenlist`.

    What is scored is a unit: what the context comes to in the function, and the token. Each unit counts once, so that
    for any text the number of green ones is binomial over the key, exactly. Lists of transformers have a fixed length,
    so that their tokens are drawn without replacement; the binomial tail then bounds the tail from one above the mean
    on (Hoeffding, "On the distribution of the number of successes in independent trials", 1956), and below p is 1.
    """

    info = SchemeInfo(
        name="llm.greenlist",
        modality="tokens",
        null="exact",
        fixed_key=FixedKey(6.0, 10.0, "200 tokens of English or Chinese prose, width 1: benchmarks/null.py"),
        distortion_free=False,
        payload="none",
        security_bits=256,
    )
    Parameters: ClassVar[type[Any]] = GreenListParameters

    def _bind(self, key: Key) -> Any:
        parameters = self.parameters
        if parameters.prf == HF_KGW:
            (number,) = numbers_of(key, f"{self.name}/1/{HF_KGW}", 1)
            by_candidate = parameters.seeding == "self"
            return KgwFunction(number, parameters.width, by_candidate, parameters.vocab_size, parameters.green_tokens)
        function = super()._bind(key)
        bytewise = parameters.prf != "sbw" and function.seeding != Seeding.SELF
        return replace(function, octets=bytewise)

    @cached_property
    def _green(self) -> tuple[int, float]:
        """Words below it are green; and the share of words that are."""
        gamma: float = self.parameters.gamma
        if self.parameters.prf == HF_KGW:  # no words, but lists
            return 0, self.parameters.green_tokens / self.parameters.vocab_size
        if self.parameters.prf == "sbw":  # 31 bits, moved up by one
            below = max(1, int(gamma * _SBW_STEPS))
            return below << 1, below / 2**31
        steps = 2**8 if self._tables[0].octets else 2**32
        below = min(steps - 1, max(1, round(gamma * steps)))
        return below, below / steps

    @property
    def on_device(self) -> bool:  # type: ignore[override]
        """Candidates with states of their own, and lists of transformers, are the host's work."""
        return self.parameters.prf != HF_KGW and bool(self._tables[0].seeding != Seeding.SELF)

    @property
    def sees_prompt(self) -> bool:  # type: ignore[override]
        """Contexts reach into the prompt with the lists of transformers."""
        return bool(self.parameters.prf == HF_KGW)

    @property
    def security_bits(self) -> int:
        """Logarithm to base 2 of the best known attack on the secret of these parameters."""
        if self.parameters.prf == HF_KGW and self.parameters.seeding == "left":
            return 32  # of a seed, torch's generator uses no more
        if self.parameters.prf == "sbw" and getattr(self.parameters, "seeding", "") == "self":
            return 36  # products of hashes that end in zeros drop as many bits of the key
        return super().security_bits

    def _mark(self, step: Step) -> None:
        function: Function | KgwFunction = self._tables[0]
        parameters, (below, _) = self.parameters, self._green
        if isinstance(function, KgwFunction):
            return function.mark(step.texts, step.logits, step.candidates, parameters.delta, parameters.top)
        if function.seeding == Seeding.SELF:
            step.bias(function, below, parameters.delta, hard=parameters.hard, top=parameters.top)
        elif not parameters.hard:
            step.bias(function, below, parameters.delta)
        else:
            before = step.logits + 0  # a row without a green token to choose stays as it is
            step.bias(function, below, parameters.delta, hard=True)
            for row in range(len(step.slots)):
                if not (step.logits[row] > -np.inf).any():
                    step.logits[row] = before[row]

    def _score(self, tables: Function | KgwFunction, texts: Texts, starts: list[int]) -> Scores:
        if isinstance(tables, KgwFunction):
            return tables.score(texts, starts)
        return tables.score(texts, Value.BELOW, self._green[0], by_context=False)

    def _tail(self, n: int, total: float, scores: NDArray[np.float32]) -> Tail:
        rate, hits = self._green[1], int(total)
        tail = _log_list_tail if self.parameters.prf == HF_KGW else log_binomial_tail
        z = (hits - rate * n) / math.sqrt(n * rate * (1 - rate)) if n else 0.0
        window = getattr(self.parameters, "window", None)
        if window is None:
            return tail(hits, n, rate), z, {"green": hits}
        log_p, (first, last) = window_tail(scores[~np.isnan(scores)], rate, window, tail)
        return log_p, z, {"green": hits, "first_unit": first, "last_unit": last}


class Unigram(GreenList):
    """The mark `llm.unigram`: one green list for every context. The hardest to edit away, and the easiest to learn.

    Every distinct token counts once, or a text that repeats itself would look marked.
    """

    info = SchemeInfo(
        name="llm.unigram",
        modality="tokens",
        null="exact",
        fixed_key=FixedKey(17.0, 20.0, "200 tokens of English or Chinese prose: benchmarks/null.py"),
        distortion_free=False,
        payload="none",
        security_bits=256,
    )
    Parameters = UnigramParameters

    def _width(self) -> int:
        return 0


def _log_list_tail(hits: int, trials: int, rate: float) -> float:
    """Bound on ln P(at least so many hits) for tokens drawn without replacement."""
    return log_binomial_tail(hits, trials, rate) if hits >= trials * rate + 1 else 0.0


def window_tail(
    units: NDArray[np.float32],
    rate: float,
    least: int,
    tail: Callable[[int, int, float], float] = log_binomial_tail,
) -> tuple[float, tuple[int, int]]:
    """The strongest of all windows of units, paid for: min(1, N min p) over N windows.

    Windows are as long as the text, half of it, and so on down to `least`, and start at every quarter of their length.

    Args:
        units: 1 for each hit, else 0: float32 of shape (units,).
        rate: Probability of a hit.
        least: Least length of a window.
        tail: ln P(at least so many hits) of hits, units and rate.

    Returns:
        ln p, and the first and the last unit of the strongest window.
    """
    n = len(units)
    reached = np.concatenate([[0], np.cumsum(units, dtype=np.int64)])
    windows = [(0, n)]
    length = n // 2
    while length >= least:
        step = max(1, length // 4)
        windows += [(start, start + length) for start in range(0, n - length + 1, step)]
        length //= 2
    tails = [tail(int(reached[b] - reached[a]), b - a, rate) for a, b in windows]
    best = int(np.argmin(tails))
    return min(0.0, tails[best] + math.log(len(windows))), (windows[best][0], max(windows[best][1] - 1, 0))
