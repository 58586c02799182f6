"""Pseudorandom functions of tokens, and what marks do with them to rows of logits and to texts.

A function turns a key, a context of tokens and a candidate into a 32-bit word. It is named and versioned, and
bit-identical everywhere:

- ``philox4x32-10-v1``: vLLM's. Philox4x32-10 (Salmon et al., SC 2011) with a 64-bit key. Fast, but no cryptographic
function.
- ``chacha8-v1``: ours. ChaCha with 8 rounds and the whole 256-bit key; contexts are hashed by a cascade.
- ``sbw``: vLLM's for green lists. Philox seeded by a product of the 64-bit key (Ceppi and Sanchez, EMNLP 2026).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops._native import core

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

PRFS = ("philox4x32-10-v1", "chacha8-v1", "sbw")
ALL_COLUMNS = np.zeros((0, 0), np.int64)
"""What stands for candidates where column i is token i."""
NO_SALT = np.zeros((1, 0), np.int64)
SITE = 2**32 - 1
"""A token that no vocabulary has. Its word depends on the context alone."""
_NONE = np.empty(0, np.uint32)
_PAD = np.int64(-1)


class Seeding(IntEnum):
    """How the last tokens seed the function (Kirchenbauer et al., "On the Reliability of Watermarks", 2023).

    All of them in order; the oldest one; the one with the least state; or the least state of a pair that each makes
    with the candidate, which takes the place of the oldest one.
    """

    LEFT, SKIP, LEAST, SELF = range(4)


@dataclass(slots=True)
class Texts:
    """Texts that lie one after the other in one array: text i has tokens begin[i] to end[i].

    Attributes:
        tokens: int64 of shape (tokens,).
        begin: int64 of shape (texts,).
        end: int64 of shape (texts,).
    """

    tokens: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[NDArray[np.int64]]) -> Texts:
        """These texts."""
        rows = list(texts)
        ends = np.array([0, *accumulate(map(len, rows))], np.int64)
        return cls(rows[0] if len(rows) == 1 else np.concatenate([np.empty(0, np.int64), *rows]), ends[:-1], ends[1:])

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.tokens[self.begin[index] : self.end[index]]


@dataclass(frozen=True, slots=True)
class Colouring:
    """Texts whose contexts speak for sites and colour the vocabulary, in some ways.

    Attributes:
        texts: The texts.
        sites: Words of `SITE`, uint32 of shape (tokens,), whose upper bits are a site.
        words: Words of tokens under each seeding, whose upper bits are a colour: uint32 of shape (seedings, tokens).
        counts: Whether a token counts: bool of shape (tokens,).
    """

    texts: Texts
    sites: NDArray[np.uint32]
    words: NDArray[np.uint32]
    counts: NDArray[np.bool_]

    def __getitem__(self, texts: slice) -> Colouring:
        """Some of the texts."""
        all_ = self.texts
        return Colouring(Texts(all_.tokens, all_.begin[texts], all_.end[texts]), self.sites, self.words, self.counts)

    def table(self, sites: int, colours: int) -> NDArray[np.int64]:
        """How many tokens that count have which colour: int64 of shape (texts, sites, seedings, colours).

        Args:
            sites: Number of sites, a power of two up to 2^16.
            colours: Number of colours, a power of two up to 64.
        """
        table = np.empty((len(self.texts), sites, len(self.words), colours), np.int64)
        core.colour_table(*self._given(), table)
        return table

    def score(self, seeding: NDArray[np.int64], green: NDArray[np.bool_], out: NDArray[np.float32]) -> None:
        """Says of each token whether it is green: 1 or 0, and NaN where it does not count.

        Args:
            seeding: Of each text and site: int64 of shape (texts, sites).
            green: Whether a colour is green: bool of shape (texts, sites, colours).
            out: float32 of shape (tokens,).
        """
        core.score_colours(*self._given(), seeding, green.view(np.uint8), out)

    def _given(self) -> tuple[Any, Any, Any, Any, Any, Any]:
        texts = self.texts
        return texts.tokens, texts.begin, texts.end, self.sites, self.words, self.counts.view(np.uint8)


def tally(
    table: NDArray[np.int64], seeding: NDArray[np.int64], green: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What choices of green colours come to.

    Args:
        table: As of `Colouring.table`: int64 of shape (choices | 1, sites, seedings, colours).
        seeding: Of each site: int64 of shape (choices, sites).
        green: Whether a colour is green: bool of shape (choices, sites, colours).

    Returns:
        How many units are green, int64 of shape (choices,); and how many there are at sites with so many green colours,
        int64 of shape (choices, colours + 1).
    """
    hits, units = np.empty(len(green), np.int64), np.empty((len(green), green.shape[2] + 1), np.int64)
    core.tally_colours(table, seeding, green.view(np.uint8), hits, units)
    return hits, units


class Value(IntEnum):
    """What a word is worth to a mark, given a parameter of 32 bits.

    1 if the word is below the parameter, else 0; the number of ones among the bits that are set in the parameter; or
    -ln(1 - u), u = (w + 1) / (2^24 + 1) the uniform number of its upper 24 bits w (without parameter).
    """

    BELOW, ONES, EXPONENTIAL = range(3)


@dataclass(slots=True)
class Scores:
    """What the tokens of texts are worth to a mark.

    Attributes:
        tokens: float32 of shape (tokens,), NaN where a token does not count.
        units: How many tokens of each text count.
        totals: What they are worth together.
    """

    tokens: NDArray[np.float32]
    units: list[int]
    totals: list[float]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of tokens with its key.

    Attributes:
        prf: Index of its name in `PRFS`.
        key: uint32 of shape (8,); functions with a 64-bit key use the first two.
        width: Tokens of a context, 0 to 64. What is missing at the start of a text counts as -1.
        seeding: How the context enters.
        octets: Whether a word is a byte, four tokens to a word of the function: 0 to 255. Not with "sbw",
            nor with `Seeding.SELF`.
    """

    prf: int
    key: NDArray[np.uint32]
    width: int
    seeding: Seeding = Seeding.LEFT
    octets: bool = False

    @property
    def code(self) -> int:
        """Number that kernels know it by."""
        return self.prf + 3 * self.octets

    def states(self, texts: Texts, salt: NDArray[np.int64] = NO_SALT) -> NDArray[np.uint32]:
        """What the contexts at the ends of the texts come to (not for `Seeding.SELF`).

        Args:
            texts: What was written so far.
            salt: int64 of shape (1 | texts, salts), further numbers that follow the tokens of the context.

        Returns:
            uint32 of shape (texts, 8).
        """
        out = np.empty((len(texts), 8), np.uint32)
        core.token_states(
            texts.tokens, texts.begin, texts.end, self.code, self.seeding, self.width, salt, self.key, out
        )
        return out

    def words(self, states: NDArray[np.uint32], columns: int, candidates: NDArray[np.int64] = ALL_COLUMNS) -> Any:
        """Words of all columns.

        Args:
            states: uint32 of shape (rows, 8).
            columns: Number of columns.
            candidates: Tokens of the columns, int64 of shape (1 | rows, columns); `ALL_COLUMNS`: their numbers.

        Returns:
            uint32 of shape (rows, columns).
        """
        out = np.empty((len(states), columns), np.uint32)
        core.token_words(self.code, self.key, states, candidates, out)
        return out

    def read(
        self, texts: Texts, *, by_context: bool, salt: NDArray[np.int64] = NO_SALT
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """The word of every token of finished texts, and whether it counts.

        Args:
            texts: The texts.
            by_context: Whether a context (else a context and its token) counts only where it first occurs in a text.
            salt: As in `states`, of one row.

        Returns:
            uint32 and bool of shape (tokens,).
        """
        return self._read(texts, by_context, salt, _NONE)

    def score(self, texts: Texts, value: Value, parameter: int = 0, *, by_context: bool) -> Scores:
        """What the tokens of finished texts are worth.

        Args:
            texts: The texts.
            value: What a word is worth.
            parameter: Its parameter, of 32 bits.
            by_context: As in `read`.
        """
        scores = np.empty(len(texts.tokens), np.float32)
        units, totals = np.empty(len(texts), np.int64), np.empty(len(texts))
        core.score_texts(
            texts.tokens,
            texts.begin,
            texts.end,
            self.code,
            self.seeding,
            self.width,
            self.key,
            by_context,
            value,
            parameter,
            scores,
            units,
            totals,
        )
        return Scores(scores, units.tolist(), totals.tolist())

    def read_colours(self, texts: Texts, seedings: int = 1) -> Colouring:
        """What contexts and tokens of finished texts say to marks of sites and colours (not for `Seeding.SELF`).

        A unit of context and token counts where it first occurs in a text.

        Args:
            texts: The texts.
            seedings: Number of words per token: one for each salt from 0 on, or one without salt.
        """
        sites = np.empty(len(texts.tokens), np.uint32)
        words, counts = self._read(texts, False, NO_SALT, sites)
        if seedings == 1:
            return Colouring(texts, sites, words[None], counts)
        salts = np.arange(seedings, dtype=np.int64)[:, None, None]
        return Colouring(texts, sites, np.stack([self._read(texts, False, salt, _NONE)[0] for salt in salts]), counts)

    def _read(
        self, texts: Texts, by_context: bool, salt: NDArray[np.int64], sites: NDArray[np.uint32]
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        words, counts = np.empty(len(texts.tokens), np.uint32), np.empty(len(texts.tokens), np.bool_)
        core.read_texts(
            texts.tokens,
            texts.begin,
            texts.end,
            self.code,
            self.seeding,
            self.width,
            salt,
            self.key,
            by_context,
            words,
            counts.view(np.uint8),
            sites,
        )
        return words, counts


def upper(words: NDArray[np.uint32], count: int) -> NDArray[np.int64]:
    """Words as uniform numbers below `count`, a power of two: their upper bits."""
    return (words.astype(np.uint64) * np.uint64(count) >> np.uint64(32)).astype(np.int64)


def within(tokens: NDArray[np.int64], vocabulary: int) -> bool:
    """Whether all tokens, int64 of shape (tokens,), are from 0 to `vocabulary` - 1."""
    return bool(core.tokens_within(tokens, vocabulary))


def distinct(tokens: NDArray[np.int64], vocabulary: int) -> bool:
    """Whether each row of tokens, int64 of shape (rows, tokens), names tokens of the vocabulary once at most."""
    return bool(core.tokens_distinct(tokens, vocabulary))


def repeated(texts: Texts, width: int) -> NDArray[np.bool_]:
    """Whether the context at the end of each text stood before an earlier token of it: bool of shape (texts,)."""
    out = np.empty(len(texts), np.bool_)
    core.token_repeats(texts.tokens, texts.begin, texts.end, width, out.view(np.uint8))
    return out


def bias(
    function: Function,
    texts: Texts,
    logits: Any,
    threshold: int,
    delta: float,
    *,
    hard: bool = False,
    top: int | None = None,
    candidates: NDArray[np.int64] = ALL_COLUMNS,
) -> None:
    """Adds `delta` to the logits of green tokens, in place: those whose word is below the threshold.

    Args:
        function: The function of tokens.
        texts: What was written so far, one per row.
        logits: float32 of shape (rows, columns), columns contiguous; NumPy or a tensor on the CPU.
        threshold: Below 2^32.
        delta: What is added.
        hard: All other logits become minus infinity instead.
        top: With `Seeding.SELF`: only the columns with so many highest logits; None takes all.
        candidates: As in `Function.words`.
    """
    core.bias_logits(
        texts.tokens,
        texts.begin,
        texts.end,
        function.code,
        function.seeding,
        function.width,
        function.key,
        logits,
        candidates,
        threshold,
        delta,
        hard,
        2**62 if top is None else top,
    )


def bias_colours(
    function: Function,
    states: NDArray[np.uint32],
    logits: Any,
    masks: NDArray[np.uint64],
    colours: int,
    delta: float,
    candidates: NDArray[np.int64] = ALL_COLUMNS,
) -> None:
    """Adds `delta` to the logits of some colours, in place: a token is of colour word * colours / 2^32, rounded down.

    Args:
        function: The function of tokens, whose words are not bytes.
        states: uint32 of shape (rows, 8).
        logits: As in `bias`.
        masks: Bit c of a row's mask is set if colour c is raised: uint64 of shape (rows,).
        colours: Number of colours, 1 to 64.
        delta: What is added.
        candidates: As in `Function.words`.
    """
    core.bias_colours(function.code, function.key, states, logits, candidates, masks, colours, delta)


def gumbel_columns(
    function: Function,
    states: NDArray[np.uint32],
    logits: Any,
    candidates: NDArray[np.int64] = ALL_COLUMNS,
) -> NDArray[np.int64]:
    """Samples a column per row by the Gumbel trick, with the words as randomness.

    Args:
        function: The function of tokens.
        states: uint32 of shape (rows, 8).
        logits: As in `bias`; not changed.
        candidates: As in `Function.words`.

    Returns:
        int64 of shape (rows,); -1 where a logit is NaN or plus infinity, or all are minus infinity.
    """
    out = np.empty(len(states), np.int64)
    core.gumbel_columns(function.code, function.key, states, logits, candidates, out)
    return out


def choose(
    function: Function,
    states: NDArray[np.uint32],
    logits: NDArray[np.float32],
    candidates: NDArray[np.int64] = ALL_COLUMNS,
) -> NDArray[np.bool_]:
    """Samples as `gumbel_columns` does, and leaves 0 at that column and minus infinity elsewhere, in place.

    Returns:
        bool of shape (rows,): False where a row was left alone.
    """
    columns = gumbel_columns(function, states, logits, candidates)
    done = columns >= 0
    for row, column in enumerate(columns.tolist()):
        if column >= 0:
            logits[row].fill(-np.inf)
            logits[row, column] = 0.0
    return np.asarray(done)


def tournament(
    function: Function,
    states: NDArray[np.uint32],
    depth: int,
    logits: Any,
    candidates: NDArray[np.int64] = ALL_COLUMNS,
) -> NDArray[np.bool_]:
    """Replaces rows of logits by those of the two-candidate tournament (Dathathri et al., Nature 2024), in place.

    Args:
        function: The function of tokens: bit l of a word is g of layer l.
        states: uint32 of shape (rows, 8).
        depth: Number of layers, 1 to 32.
        logits: float32 of shape (rows, columns); rows keep the sum of their exponentials.
        candidates: As in `Function.words`.

    Returns:
        bool of shape (rows,): False where a row was left alone, as in `gumbel_columns`.
    """
    done = np.empty(len(states), np.bool_)
    core.tournament(function.code, function.key, states, logits, candidates, depth, done.view(np.uint8))
    return done


def tournament_of_words(words: NDArray[np.uint32], depth: int, logits: Any) -> NDArray[np.bool_]:
    """`tournament` with words that are given.

    Args:
        words: Bit l % 32 of word (row, l // 32, column) is g of layer l: uint32 of shape
            (rows, planes, columns or more).
        depth: Number of layers, 1 to 64.
        logits: As in `tournament`.

    Returns:
        As `tournament`.
    """
    return _reshaped(core.tournament_of_words, words, depth, logits)


def reweight(words: NDArray[np.uint32], alpha: float, logits: Any) -> NDArray[np.bool_]:
    """Reweights rows whose columns lie in the order of their words, in place (Wu et al., "DiPmark", 2024).

    Args:
        words: uint32 of shape (rows, 1, columns or more).
        alpha: 0 < alpha <= 1/2.
        logits: float32 of shape (rows, columns).

    Returns:
        As in `tournament`.
    """
    return _reshaped(core.reweight, words, alpha, logits)


def _reshaped(kernel: Any, words: NDArray[np.uint32], setting: float, logits: Any) -> NDArray[np.bool_]:
    padded = -(-logits.shape[1] // 8) * 8
    if words.shape[2] < padded:
        words = np.concatenate([words, np.zeros((*words.shape[:2], padded - words.shape[2]), np.uint32)], axis=2)
    done = np.empty(len(words), np.bool_)
    kernel(words, setting, logits, done.view(np.uint8))
    return done


# The same in NumPy.


def words_reference(
    function: Function, context: Sequence[int], candidates: NDArray[np.int64], salt: Sequence[int] = ()
) -> NDArray[np.uint32]:
    """Words of candidates after a context of any length: uint32 of their shape. Every seeding."""
    if function.octets:
        words = words_reference(replace(function, octets=False), context, candidates >> 2, salt)
        return words >> (8 * (candidates & 3)).astype(np.uint32) & np.uint32(255)
    window = [_PAD, *context][-function.width :] if function.width else []
    window = [_PAD] * (function.width - len(window)) + list(window)
    context_of, word_of = _REFERENCES[function.prf]
    state: NDArray[np.uint32]
    with np.errstate(over="ignore"):  # products of 64 bits wrap around
        if function.seeding == Seeding.SELF:
            return np.array([_self_word(function, window, int(v), salt) for v in candidates], np.uint32)
        if function.seeding == Seeding.LEFT:
            state = context_of(function.key, [*window, *salt])
        elif function.seeding == Seeding.SKIP:
            state = context_of(function.key, [window[0], *salt])
        else:
            state = min((context_of(function.key, [token, *salt]) for token in window), key=lambda s: int(s[0]))
        return np.asarray(word_of(function.key, state, candidates))


def _self_word(function: Function, window: list[Any], candidate: int, salt: Sequence[int]) -> np.uint32:
    context_of, word_of = _REFERENCES[function.prf]
    tokens = [*window[1:], candidate]
    if PRFS[function.prf] == "sbw":
        products = [np.int64(_sbw_number(function.key)) * _sbw_hash(t) * _sbw_hash(candidate) for t in tokens]
        state = np.array([min(products)], np.int64).view(np.uint32)
    else:
        states = [context_of(function.key, [token, candidate, *salt]) for token in tokens]
        state = min(states, key=lambda s: int(s[0]))
    word: np.uint32 = word_of(function.key, state, np.array([candidate]))[0]
    return word


def _philox(counter: list[Any], k0: Any, k1: Any) -> list[NDArray[np.uint32]]:
    c = [np.atleast_1d(np.asarray(word, np.uint32)) for word in counter]
    key = [np.atleast_1d(np.asarray(word, np.uint32)) for word in (k0, k1)]  # arrays wrap around
    for _ in range(10):
        wide = [c[0].astype(np.uint64) * np.uint64(0xD2511F53), c[2].astype(np.uint64) * np.uint64(0xCD9E8D57)]
        high, low = [(w >> np.uint64(32)).astype(np.uint32) for w in wide], [w.astype(np.uint32) for w in wide]
        c = [high[1] ^ c[1] ^ key[0], low[1], high[0] ^ c[3] ^ key[1], low[0]]
        key = [key[0] + np.uint32(0x9E3779B9), key[1] + np.uint32(0xBB67AE85)]
    return c


def _blocks(tokens: Sequence[int]) -> list[NDArray[np.uint32]]:
    """Tokens as 32-bit words, four at a time; missing word i of the last four is 2^32 - 1 - i."""
    words = np.array(tokens, np.int64).astype(np.uint32)
    missing = np.arange(4, dtype=np.uint32)[len(words) % 4 :] if len(words) % 4 else np.empty(0, np.uint32)
    return list(np.concatenate([words, np.uint32(0xFFFFFFFF) - missing]).reshape(-1, 4))


def _philox_context(key: NDArray[np.uint32], tokens: Sequence[int]) -> NDArray[np.uint32]:
    state = np.array([0x574D4358, len(tokens), 0, 0], np.uint32)
    for i, block in enumerate(_blocks(tokens)):
        state = np.concatenate(_philox(list(state ^ block), key[0] ^ np.uint32(4 * i), key[1]))
    return state


def _philox_word(
    key: NDArray[np.uint32], state: NDArray[np.uint32], candidates: NDArray[np.int64]
) -> NDArray[np.uint32]:
    token = candidates.astype(np.uint32)
    constant = [np.full(token.shape, word) for word in state[:3]]
    found = _philox([token >> np.uint32(2), *constant], key[0] ^ state[3], key[1] ^ np.uint32(0x574D544B))
    return np.asarray(np.choose(token & np.uint32(3), found))


def chacha8_reference(key: NDArray[np.uint32], counter: NDArray[np.uint32], nonce: Any) -> NDArray[np.uint32]:
    """Blocks of ChaCha with 8 rounds, one per counter: uint32 of shape (16, counters)."""
    start = np.empty((16, len(counter)), np.uint32)
    start[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    start[4:12], start[12], start[13:] = key[:, None], counter, np.array(nonce, np.uint32)[:, None]
    x = start.copy()
    for _ in range(4):
        for i in range(8):
            a, b, c, d = i % 4, 4 + (i + i // 4) % 4, 8 + (i + i // 4 * 2) % 4, 12 + (i + i // 4 * 3) % 4
            for first, second, target, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[first] += x[second]
                x[target] ^= x[first]
                x[target] = x[target] << np.uint32(turn) | x[target] >> np.uint32(32 - turn)
    return x + start


def _chacha8_context(key: NDArray[np.uint32], tokens: Sequence[int]) -> NDArray[np.uint32]:
    for block in _blocks(tokens):
        key = chacha8_reference(key, block[:1], block[1:])[:8, 0]
    return key


def _chacha8_word(
    key: NDArray[np.uint32], state: NDArray[np.uint32], candidates: NDArray[np.int64]
) -> NDArray[np.uint32]:
    token = candidates.astype(np.uint32)
    blocks = (token >> np.uint32(7)) * np.uint32(8) + (token & np.uint32(7))
    found = chacha8_reference(state, blocks, [0xC8746F6B, 0, 0])
    return np.asarray(found[(token >> np.uint32(3)) & np.uint32(15), np.arange(token.size)])


def _sbw_number(key: NDArray[np.uint32]) -> Any:
    return key[:2].astype("<u4").view("<i8")[0]


def _sbw_hash(token: int) -> np.int64:
    i = np.int64(token + 1).astype(np.int32)
    i = i - (i << 6)
    i = i ^ (i >> 17)
    i = i - (i << 9)
    i = i ^ (i << 4)
    i = i - (i << 3)
    i = i ^ (i << 10)
    return np.int64(i ^ (i >> 15))


def _sbw_context(key: NDArray[np.uint32], tokens: Sequence[int]) -> NDArray[np.uint32]:
    return np.array([_sbw_number(key) * np.array(tokens, np.int64).sum()], np.int64).view(np.uint32)


def _sbw_word(key: NDArray[np.uint32], state: NDArray[np.uint32], candidates: NDArray[np.int64]) -> NDArray[np.uint32]:
    token = candidates.astype(np.uint32)
    zero = np.zeros(token.shape, np.uint32)
    found = _philox([token >> np.uint32(2), zero, zero, zero], state[0], state[1])
    return np.asarray(np.choose(token & np.uint32(3), found) << np.uint32(1))


_REFERENCES: list[tuple[Any, Any]] = [
    (_philox_context, _philox_word),
    (_chacha8_context, _chacha8_word),
    (_sbw_context, _sbw_word),
]


def table_reference(coloured: Colouring, sites: int, colours: int) -> NDArray[np.int64]:
    """`Colouring.table` in NumPy."""
    texts, table = coloured.texts, np.zeros((len(coloured.texts), sites, len(coloured.words), colours), np.int64)
    site, colour = upper(coloured.sites, sites), upper(coloured.words, colours)
    for row, (first, last) in enumerate(zip(texts.begin, texts.end, strict=True)):
        own = first + np.flatnonzero(coloured.counts[first:last])
        for seeding in range(len(colour)):
            np.add.at(table, (row, site[own], seeding, colour[seeding, own]), 1)
    return table


def tally_reference(
    table: NDArray[np.int64], seeding: NDArray[np.int64], green: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`tally` in NumPy."""
    units = np.take_along_axis(table, seeding[:, :, None, None], axis=2)[:, :, 0]
    sizes = green.sum(axis=2, keepdims=True) == np.arange(green.shape[2] + 1)
    return (units * green).sum(axis=(1, 2)), (units.sum(axis=2, keepdims=True) * sizes).sum(axis=1)


def values_reference(words: NDArray[np.uint32], value: Value, parameter: int = 0) -> NDArray[np.float64]:
    """What words are worth: float64 of their shape."""
    if value == Value.BELOW:
        return (words < parameter).astype(np.float64)
    if value == Value.ONES:
        return np.asarray(np.bitwise_count(words & np.uint32(parameter)), np.float64)
    return np.asarray(-np.log((2**24 - (words >> np.uint32(8))) / (2**24 + 1)))


def gumbel_column_reference(words: NDArray[np.uint32], logits: NDArray[np.float32]) -> int:
    """`gumbel_columns` of one row whose words are given."""
    uniform = ((words >> np.uint32(8)).astype(np.float64) + 1) / (2**24 + 1)
    return int(np.argmin(np.log(-np.log(uniform)) - logits))


def tournament_reference(words: NDArray[np.uint32], depth: int, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logits that `tournament_of_words` gives: one row, words of shape (planes, columns)."""
    p = np.exp(logits.astype(np.float64) - logits.max())
    total = p.sum()
    p /= total
    for layer in range(depth):
        g = words[layer // 32] >> np.uint32(layer % 32) & np.uint32(1)
        p = p * (1 + g - (g * p).sum())
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p * total) + logits.max())


def reweight_reference(words: NDArray[np.uint32], alpha: float, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probabilities that `reweight` gives: one row."""
    p = np.exp(logits.astype(np.float64) - logits.max())
    p /= p.sum()
    order = np.argsort(words, kind="stable")
    reached = np.concatenate([[0.0], np.cumsum(p[order])])
    reached = np.maximum(reached - alpha, 0) + np.maximum(reached - (1 - alpha), 0)
    out = np.empty(p.shape)
    out[order] = np.diff(reached)
    return out
