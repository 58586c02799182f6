"""Marks that are read by alignment with a keyed sequence, and survive insertions and deletions.

Kuditipudi, Thickstun, Hashimoto and Liang, "Robust Distortion-free Watermarks for Language Models" (TMLR 2024). Token t
of a text is chosen by row (o + t) mod n of the key, o a random offset per text. The detector looks for the offset at
which text and key fit best, and compares it with random keys.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from watermark._values import whole
from watermark.errors import BudgetError, MediaError, ParameterError
from watermark.llm.engine import SECURE_PRF, Step, TextScheme, TokenParameters, number
from watermark.ops._native import is_cuda
from watermark.ops.alignment import CELLS, MAX_CHAIN, align, fractions_of_places, heaviest_pairs, random_keys_reach
from watermark.ops.token import ALL_COLUMNS, PRFS, Function, Texts
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import LN10, log_gamma_tail, log_of_draws

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watermark.detection import Detection
    from watermark.key import Key
    from watermark.prf import Prf

_MAX_BLOCK, _MAX_TOKENS = 1024, 1 << 15
_LOG_UNEDITED_SHARE = -10 * math.log(2)
"""The share of alpha that the test without edits gets; what it finds is far below."""
_SLOPES = np.geomspace(0.5, 2048, 73)
_NATS = -np.log1p(-np.arange(CELLS) / CELLS)
"""-ln(1 - u) of a cell, u its lower end: never above that of the number it stands for."""
_CORPUS = "prose of two authors, 35 words: benchmarks/alignment.py"


@dataclass(frozen=True, slots=True)
class AlignmentParameters(TokenParameters):
    """What `llm.exp` and `llm.its` share.

    Attributes:
        key_length: Rows of the key, n: so many tokens can a text have; 1 to 4096. The time to detect grows with it.
        gap: Cost of a token or a row without a partner, in the unit of the pairs' costs.
        block: Tokens of a block k, 1 to 1024: every k successive tokens are aligned with every k successive rows. None
            takes the whole text, or as few blocks of about one length as it needs if it is longer than the key.
        draws: Random keys that the text is aligned with, at most: p is never below 1 / (draws + 1), unless the text is
            unedited. 99 to 10^7.
    """

    key_length: int = 256
    gap: float = 0.0
    block: int | None = None
    draws: int = 5000
    _least_gap: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        TokenParameters.__post_init__(self)
        object.__setattr__(self, "key_length", whole(self.key_length, "key_length", 1, 4096))
        object.__setattr__(self, "gap", number(self.gap, "gap", -1, 8))
        if self.gap < self._least_gap:
            raise ParameterError(f"gap must be a number from {self._least_gap:g} to 8, not {self.gap!r}")
        if self.block is not None:
            object.__setattr__(self, "block", whole(self.block, "block", 1, _MAX_BLOCK))
        object.__setattr__(self, "draws", whole(self.draws, "draws", 99, 10**7))


@dataclass(frozen=True, slots=True)
class ExpParameters(AlignmentParameters):
    """Parameters of `llm.exp`.

    Attributes:
        gap: Cost of a token or a row without a partner in nats, 0 to 8.
    """


@dataclass(frozen=True, slots=True)
class ItsParameters(AlignmentParameters):
    """Parameters of `llm.its`.

    Attributes:
        gap: Cost of a token or a row without a partner as a share of the vocabulary, from 1e-6 to 8.
    """

    gap: float = 0.4
    _least_gap: ClassVar[float] = 1e-6


class Blocks(NamedTuple):
    """A text, cut into blocks.

    Attributes:
        kinds: Its different tokens, int64 of shape (kinds,).
        tokens: The text as indices of these, int32 of shape (tokens,).
        starts: First tokens of the blocks, int32 of shape (blocks,).
        length: Tokens of a block.
    """

    kinds: NDArray[np.int64]
    tokens: NDArray[np.int32]
    starts: NDArray[np.int32]
    length: int

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over each block at each offset without edits: from values of shape (kinds, n) to (blocks, n)."""
        n = values.shape[1]
        rows = (np.arange(n) + np.arange(self.length)[:, None]) % n
        found = [np.take_along_axis(values[self.tokens[s : s + self.length]], rows, 1).sum(axis=0) for s in self.starts]
        return np.array(found)


class AlignmentScheme(TextScheme):
    """What `llm.exp` and `llm.its` share.

    Tokens and rows without a partner cost gaps. What an alignment costs is the sum of (cost - 2 gap) over its pairs,
    and a constant: so the cheapest one is the heaviest chain of pairs with weights max(0, 2 gap - cost). Weights are
    rounded to integers, for the text's key and for random ones alike, which keeps the test exact. Random keys are drawn
    until ten of them fit as well as the text's (Besag and Clifford, Biometrika 1991), from a seed of key and text.

    A bound for texts without edits stands beside it; it gets 2^-10 of alpha, and the rest goes to the random keys.
    """

    samples = True
    parameters: Any

    @abstractmethod
    def _sample(self, tables: Any, rows: NDArray[np.int64], step: Step) -> None:
        """Lets a row of the key choose the next token of each text.

        Raises:
            MediaError: A row has no logits to choose from.
        """

    @abstractmethod
    def _cells(self, tables: Any, kinds: NDArray[np.int64]) -> NDArray[np.uint16]:
        """What each row of the key makes of tokens: uint16 of shape (kinds, key_length), C-contiguous."""

    @abstractmethod
    def _log_unedited(self, tables: Any, cells: NDArray[np.uint16], blocks: Blocks) -> float:
        """Bound on ln P that any block of the text fits as well at any offset without edits; no key row comes twice."""

    @staticmethod
    @abstractmethod
    def _costs() -> NDArray[np.float64]:
        """Costs of the values of a cell: float64 of shape (65536,)."""

    @property
    def _places(self) -> int:
        """Number of places of a vocabulary, if cells are distances from a place; else 0."""
        return 0

    def _mark(self, step: Step) -> None:
        n = self.parameters.key_length
        written = step.texts.end - step.texts.begin
        if len(written) and int(written.max()) >= n:
            raise BudgetError(f"a text can have {n} tokens under this key: a larger key_length allows more")
        streams = np.array([slot.stream for slot in step.slots], np.int64)[:, None]
        states = step.noise.states(_no_tokens(len(streams)), streams)
        for slot, state in zip(step.slots, states, strict=True):
            slot.private.setdefault("offset", int(state[0]) * n >> 32)
        offsets = np.array([slot.private["offset"] for slot in step.slots], np.int64)
        self._sample(self._tables[0], (offsets + written) % n, step)

    def _read(self, tables: Any, texts: Texts, starts: list[int], key_id: str) -> list[Detection]:
        if (longest := int((texts.end - texts.begin).max(initial=0))) > _MAX_TOKENS:
            raise MediaError(f"a text has up to {_MAX_TOKENS} tokens, not {longest}: test parts of it, and combine")
        return [self._verdict(tables, texts[i], key_id) for i in range(len(texts))]

    def _verdict(self, tables: Any, text: NDArray[np.int64], key_id: str) -> Detection:
        scores = np.full(len(text), np.nan, np.float32)
        if not len(text):
            return self._present(key_id, (0.0, 0.0, {}), 0, scores)
        p, blocks = self.parameters, self._blocks(text)
        weights, scale = _weights(type(self), p.gap, blocks.length)
        cells = self._cells(tables, blocks.kinds)
        heaviest = align(cells, *blocks[1:], weights)
        block, offset = np.unravel_index(int(heaviest.argmax()), heaviest.shape)
        least = int(heaviest[block, offset])

        details: dict[str, Any] = {"offset": int(offset), "draws": 0}
        log_edited, log_unedited = -math.log(p.draws + 1), math.inf  # the former at best
        if blocks.length <= p.key_length:
            log_unedited = self._log_unedited(tables, cells, blocks)
            details["unedited_log10_p"] = min(0.0, log_unedited / LN10)
            log_edited -= math.log1p(-math.exp(_LOG_UNEDITED_SHARE))
            log_unedited -= _LOG_UNEDITED_SHARE
        else:
            details["p_floor"] = math.exp(log_edited)
        if log_unedited > log_edited:  # else no draw can change the verdict
            random = tables.null.child(hashlib.sha256(text.astype("<i8").tobytes()).digest()).key_words
            about = (len(blocks.kinds), p.key_length, *blocks[1:], weights, least, self._places)
            log_p, details["draws"] = log_of_draws(lambda draws: random_keys_reach(random, draws, *about), p.draws)
            details["edited_log10_p"] = log_p / LN10
            log_edited += log_p + math.log(p.draws + 1)
        log_p = min(log_edited, log_unedited)

        first = int(blocks.starts[block])
        part = slice(first, first + blocks.length)
        rows = (int(offset) + np.arange(blocks.length)) % p.key_length
        scores[part] = heaviest_pairs(weights[cells[blocks.tokens[part]][:, rows]]) / scale
        score = least / scale / blocks.length
        return self._present(key_id, (log_p, score, {"start": first, **details}), len(text), scores)

    def _blocks(self, text: NDArray[np.int64]) -> Blocks:
        p, m = self.parameters, len(text)
        kinds, tokens = np.unique(text, return_inverse=True)
        if p.block is not None:
            length = min(p.block, m)
            starts = np.arange(m - length + 1)
        else:
            count = -(-m // min(p.key_length, _MAX_BLOCK))
            length = -(-m // count)
            starts = np.arange(count) * (m - length) // max(1, count - 1)
        return Blocks(kinds, tokens.astype(np.int32).reshape(-1), starts.astype(np.int32), length)


def _no_tokens(count: int) -> Texts:
    """Empty texts."""
    return Texts.of([np.empty(0, np.int64)] * count)


@lru_cache(maxsize=64)
def _weights(scheme: type[AlignmentScheme], gap: float, length: int) -> tuple[NDArray[np.uint16], float]:
    """Weights of the values of a cell, and how many of their units make one of the costs'."""
    weights = np.maximum(0.0, 2 * gap - scheme._costs())
    scale = MAX_CHAIN // length / float(weights.max())
    table = np.minimum(np.floor(weights * scale), MAX_CHAIN // length).astype(np.uint16)
    table.setflags(write=False)
    return table, scale


class ExpTables(NamedTuple):
    """The key of `llm.exp`.

    Attributes:
        function: Function of tokens.
        states: Its states of the rows, uint32 of shape (key_length, 8).
        null: Seed of random keys.
    """

    function: Function
    states: NDArray[np.uint32]
    null: Prf


class Exp(AlignmentScheme):
    """The mark `llm.exp`: exponential minimum sampling.

    A row of the key holds a uniform number u_v per token; the token that maximises u_v^(1 / p_v) is a sample of p. A
    pair of row and token costs ln(1 - u). Without edits the sum of m costs is a Gamma variable at each offset, whatever
    the text repeats: p <= n Q(m, -sum), which reaches far below what random keys can show.
    """

    info = SchemeInfo(
        name="llm.exp",
        modality="tokens",
        null="bound",
        fixed_key=FixedKey(6.0, 10.0, _CORPUS),
        distortion_free=True,
        payload="none",
        security_bits=256,
    )
    Parameters = ExpParameters

    def _bind(self, key: Key) -> ExpTables:
        n = self.parameters.key_length
        function = Function(PRFS.index(SECURE_PRF), key.derive("llm.exp/1/key").words(8), 0)
        states = function.states(_no_tokens(n), np.arange(n, dtype=np.int64)[:, None])
        return ExpTables(function, states, key.derive("llm.exp/1/null"))

    def _sample(self, tables: ExpTables, rows: NDArray[np.int64], step: Step) -> None:
        step.sample(tables.function, tables.states[rows], np.ones(len(rows), np.bool_))

    def _cells(self, tables: ExpTables, kinds: NDArray[np.int64]) -> NDArray[np.uint16]:
        words = tables.function.words(tables.states, len(kinds), kinds[None])
        return np.ascontiguousarray((words >> np.uint32(16)).astype(np.uint16).T)

    def _log_unedited(self, tables: ExpTables, cells: NDArray[np.uint16], blocks: Blocks) -> float:
        sums = blocks.sums(_NATS[cells])
        return log_gamma_tail(float(sums.max()), blocks.length) + math.log(sums.size)

    @staticmethod
    def _costs() -> NDArray[np.float64]:
        return -_NATS


class ItsTables(NamedTuple):
    """The key of `llm.its`.

    Attributes:
        numbers: A uniform number per row, float64 of shape (key_length,).
        order: Tokens in the key's order, int64 of shape (vocab_size,).
        places: Places of the tokens in it, int64 of shape (vocab_size,).
        null: Seed of random keys.
    """

    numbers: NDArray[np.float64]
    order: NDArray[np.int64]
    places: NDArray[np.int64]
    null: Prf


class Its(AlignmentScheme):
    """The mark `llm.its`: inverse transform sampling.

    The key has an order of the vocabulary, and a uniform number u per row; the token at which the probabilities, added
    in that order, pass u is a sample of p. A pair of row and token costs |y - u|, y the token's place as a share of the
    vocabulary. Without edits, given the order, the costs at an offset are independent with known laws, whatever the
    text repeats: Chernoff's bound on their sum, times the number of offsets, is a p-value.
    """

    info = SchemeInfo(
        name="llm.its",
        modality="tokens",
        null="bound",
        fixed_key=FixedKey(5.0, 8.0, _CORPUS),
        distortion_free=True,
        payload="none",
        security_bits=256,
    )
    Parameters = ItsParameters

    def _bind(self, key: Key) -> ItsTables:
        p = self.parameters
        order = key.derive("llm.its/1/order").permutation(p.vocab_size)
        places = np.empty_like(order)
        places[order] = np.arange(p.vocab_size)
        numbers = key.derive("llm.its/1/numbers").uniform(p.key_length)
        return ItsTables(numbers, order, places, key.derive("llm.its/1/null"))

    def _sample(self, tables: ItsTables, rows: NDArray[np.int64], step: Step) -> None:
        logits = np.asarray(step.logits.cpu() if is_cuda(step.logits) else step.logits)
        columns = np.empty(len(rows), np.int64)
        for line, u in enumerate(tables.numbers[rows]):
            order = tables.order
            if step.candidates is not ALL_COLUMNS:
                order = np.argsort(tables.places[step.candidates[line % len(step.candidates)]])
            ordered = logits[line, order].astype(np.float64)
            if not math.isfinite(top := float(ordered.max())):
                raise MediaError(f"logits of line {line} are not finite, or exclude every token")
            below = np.cumsum(np.exp(ordered - top))
            # Rounding may put u times the sum at the sum itself: the last token with a probability ends it.
            place = min(np.searchsorted(below, u * below[-1], "right"), np.searchsorted(below, below[-1]))
            columns[line] = order[place]
        step.logits[:] = -np.inf
        step.logits[np.arange(len(rows)), columns] = 0.0

    def _cells(self, tables: ItsTables, kinds: NDArray[np.int64]) -> NDArray[np.uint16]:
        numbers = (tables.numbers * CELLS).astype(np.int64)
        distances: NDArray[np.int64] = np.abs(self._fractions(tables, kinds)[:, None] - numbers)
        return distances.astype(np.uint16)

    def _fractions(self, tables: ItsTables, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
        return fractions_of_places(tables.places[kinds], self.parameters.vocab_size).astype(np.int64)

    def _log_unedited(self, tables: ItsTables, cells: NDArray[np.uint16], blocks: Blocks) -> float:
        # E exp(-slope * cost) is the mean of r^d over the distances d of all numbers from the place: two series.
        place = self._fractions(tables, blocks.kinds)[:, None]
        step = _SLOPES / CELLS
        below, above = np.expm1(-step * (place + 1)), np.exp(-step) * np.expm1(-step * (CELLS - 1 - place))
        log_means = np.log((below + above) / (CELLS * np.expm1(-step)))
        until = np.concatenate([np.zeros((1, _SLOPES.size)), np.cumsum(log_means[blocks.tokens], axis=0)])
        sums = blocks.sums(cells / CELLS)
        exponents = until[blocks.starts + blocks.length] - until[blocks.starts] + _SLOPES * sums.min(axis=1)[:, None]
        return float(exponents.min()) + math.log(sums.size)

    @staticmethod
    def _costs() -> NDArray[np.float64]:
        return np.arange(CELLS) / CELLS

    @property
    def _places(self) -> int:
        return int(self.parameters.vocab_size)
