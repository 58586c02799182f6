"""Functions of tokens of other libraries that are none of `watermark.ops.token`: those of transformers.

They stand where a `Function` stands: made from a key, they say what contexts come to, and what tokens get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.errors import InvalidKeyError, ParameterError
from watermark.llm.keys import EngineKey
from watermark.ops import foreign
from watermark.ops.token import Scores, Texts, repeated
from watermark.stats import log_repeated_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermark.key import Key


def numbers_of(key: Key, label: str, count: int) -> Sequence[int]:
    """The numbers of an `EngineKey`, or as many that a `Key` is expanded to, 63 bits each.

    Raises:
        InvalidKeyError: An `EngineKey` has another count of them.
    """
    if not isinstance(key, EngineKey):
        return [int(word) >> 1 for word in key.derive(label).wide(count)]
    if len(key.numbers) != count:
        raise InvalidKeyError(f"this scheme has a key of {count} numbers, and the engine's has {len(key.numbers)}")
    return key.numbers


class KgwFunction:
    """`hf-kgw`: the green lists of transformers' ``WatermarkLogitsProcessor`` on the CPU.

    A context comes to a seed, of which torch's generator uses 32 bits; the green list is the start of a permutation.

    Args:
        key: Number that tokens are multiplied with.
        width: Tokens of a context; with `by_candidate` the candidate is one of them. Lists of the last token alone do
            not depend on it, but as in transformers nothing is marked or scored before so many tokens.
        by_candidate: Whether each candidate has a list of its own ("selfhash").
        vocab_size: Number of tokens.
        size: Number of green ones.

    Raises:
        InvalidKeyError: The key is too large for lists by candidate, or too small.
    """

    def __init__(self, key: int, width: int, by_candidate: bool, vocab_size: int, size: int) -> None:
        if by_candidate and not -(2**63) <= key < 2**63:
            raise InvalidKeyError("with seeding self, transformers has keys from -2^63 to 2^63 - 1")
        self._key, self._width, self._vocab_size, self._size = key, width, vocab_size, size
        self._table = foreign.selfhash_table(key) if by_candidate else None

    def mark(self, texts: Texts, logits: Any, candidates: NDArray[np.int64], delta: float, top: int | None) -> None:
        """Raises the logits of green tokens, in place.

        Args:
            texts: What was written so far, with the prompts.
            logits: float32 of shape (texts, columns), columns contiguous; NumPy or a tensor on the CPU.
            candidates: Tokens of the columns, or `ALL_COLUMNS`.
            delta: What is added.
            top: With lists by candidate: so many columns with the highest logits are tested, None for all.
        """
        rows = logits if isinstance(logits, np.ndarray) else logits.numpy()
        known = np.flatnonzero(texts.end - texts.begin >= self._width)
        contexts = [texts[i] for i in known.tolist()]
        if self._table is not None:
            for i, context in zip(known.tolist(), contexts, strict=True):
                self._mark_by_candidate(context, rows[i], _row(candidates, i), delta, top)
            return
        seeds = foreign.lefthash_seeds(self._key, np.array([context[-1] for context in contexts], np.int64))
        if not candidates.size and len(known) == len(rows):
            foreign.add_to_green(rows, seeds, self._vocab_size, self._size, delta)
            return
        for i, seed in zip(known.tolist(), seeds, strict=True):
            tokens = _row(candidates, i)
            if tokens is None:
                foreign.add_to_green(rows[i : i + 1], seed[None], self._vocab_size, self._size, delta)
            else:
                green = np.zeros(self._vocab_size, np.bool_)
                green[foreign.permutation_start(int(seed), self._vocab_size, self._size)] = True
                rows[i] += green[tokens] * np.float32(delta)

    def _mark_by_candidate(
        self, context: NDArray[np.int64], row: Any, tokens: NDArray[np.int64] | None, delta: float, top: int | None
    ) -> None:
        count = len(row) if top is None else min(top, len(row))
        columns = foreign.highest_columns(row[None], count)[0]
        chosen = columns if tokens is None else tokens[columns]
        windows = np.empty((count, self._width), np.int64)
        windows[:, :-1], windows[:, -1] = context[len(context) - self._width + 1 :], chosen
        green = foreign.is_green(self._seeds(windows), chosen, self._vocab_size, self._size)
        row[columns[green]] += np.float32(delta)

    def _seeds(self, windows: NDArray[np.int64]) -> NDArray[np.uint32]:
        return foreign.selfhash_seeds(self._key, self._table, windows)  # type: ignore[arg-type]

    def score(self, texts: Texts, starts: list[int]) -> Scores:
        """Which tokens of finished texts are green: each seed and token counts where it last occurs.

        So what a prompt held before still counts in the text. What does not depend on the key never counts.

        Args:
            texts: The texts, behind their prompts.
            starts: Where each text starts behind its prompt.
        """
        tokens, place = texts.tokens, _places(texts)
        scores = np.full(len(tokens), np.nan, np.float32)
        if self._table is None:
            before = np.concatenate([[0], tokens[:-1]])  # after token 0, lists are the same for all keys
            scored = np.flatnonzero((place >= self._width) & (before != 0))
            seeds = foreign.lefthash_seeds(self._key, tokens[scored - 1])
        else:
            scored = np.flatnonzero(place >= self._width - 1)
            seeds = self._seeds(tokens[scored[:, None] + np.arange(1 - self._width, 1)])
        owner = np.searchsorted(texts.end, scored, side="right")
        units = np.stack([owner, seeds, tokens[scored]], axis=1)
        last = len(scored) - 1 - _first_of(units[::-1])
        kept = scored[last]
        scores[kept] = foreign.is_green(seeds[last], tokens[kept], self._vocab_size, self._size)
        own = [scores[start:end] for start, end in zip(starts, texts.end.tolist(), strict=True)]
        counted = [int(np.count_nonzero(~np.isnan(part))) for part in own]
        return Scores(scores, counted, [float(np.nansum(part)) for part in own])


class SynthIdFunction:
    """`hf-synthid`: the g-values of transformers' ``SynthIDTextWatermarkLogitsProcessor``.

    Args:
        keys: One number per layer.
        width: Tokens of a context; what is missing at the start of a text counts as 0.
        table_size: Number of coins.
        table_seed: Their seed.

    Raises:
        ParameterError: Too many keys, or a table of another size than 1 to 2^24.

    Attributes:
        width: Tokens of a context.
        rate: Share of ones among the coins: how often a g-value is 1 over the keys.
    """

    def __init__(self, keys: Sequence[int], width: int, table_size: int, table_seed: int) -> None:
        self.width = width
        self._table = foreign.SynthIdTable(keys, table_size, table_seed)
        self.rate = self._table.rate
        if not 0 < self.rate < 1:
            raise ParameterError(f"all {table_size} coins of this seed fall on one side: take a larger table")

    def is_new(self, texts: Texts) -> NDArray[np.bool_]:
        """Whether the context of each text is new to it; what is missing at its start counts as 0."""
        nothing = np.zeros(self.width, np.int64)
        return ~repeated(Texts.of([np.concatenate([nothing, texts[i]]) for i in range(len(texts))]), self.width)

    def log_tail(self, entries: NDArray[np.int64], won: int, layers: int) -> float:
        """How probable it is over the keys that a text wins so often: ln P, exact for any text.

        Args:
            entries: Entries of the table that its tokens come to, each once.
            won: Coins that fell on 1, over all layers.
            layers: Number of layers.
        """
        return log_repeated_tail(self._table.law(entries), layers, won) if len(entries) else 0.0

    def states(self, texts: Texts) -> NDArray[np.int64]:
        """What the contexts at the ends of the texts come to: int64 of shape (texts,)."""
        windows = np.zeros((len(texts), self.width), np.int64)
        for i, window in enumerate(windows):
            context = texts[i][-self.width :]
            window[self.width - len(context) :] = context
        return foreign.context_hash(windows)

    def words(self, states: NDArray[np.int64], columns: int, candidates: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The g-values of all columns, one bit per layer.

        Args:
            states: As `states` returns them.
            columns: Number of columns.
            candidates: Tokens of the columns, or `ALL_COLUMNS`.

        Returns:
            uint32 of shape (rows, 1 or 2, columns).
        """
        if not candidates.size:
            return np.stack([self._table.vocabulary(state, columns) for state in states.tolist()])
        return np.ascontiguousarray(self._table.g_values(states[:, None], candidates).transpose(1, 0, 2))

    def read(self, texts: Texts) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """How many layers each token of finished texts won, and whether it counts: where its context first occurs.

        Tokens that come to one entry of the table share all g-values, and the first counts.

        Args:
            texts: The texts.

        Returns:
            int64, bool and int64 of shape (tokens,); the last are their entries.
        """
        tokens, place = texts.tokens, _places(texts)
        windows = np.zeros((len(tokens), self.width), np.int64)
        for back in range(1, self.width + 1):
            known = np.flatnonzero(place >= back)
            windows[known, -back] = tokens[known - back]
        hashes = foreign.context_hash(windows)
        owner = np.searchsorted(texts.end, np.arange(len(tokens)), side="right")
        new = np.sort(_first_of(np.stack([owner, hashes], axis=1)))
        entries = self._table.entries(hashes, tokens)
        counts = np.zeros(len(tokens), np.bool_)
        counts[new[_first_of(np.stack([owner[new], entries[new]], axis=1))]] = True
        won = np.bitwise_count(self._table.g_values(hashes, tokens)).sum(axis=0, dtype=np.int64)
        return won, counts, entries


def _row(candidates: NDArray[np.int64], row: int) -> NDArray[np.int64] | None:
    return candidates[row if len(candidates) > 1 else 0] if candidates.size else None


def _places(texts: Texts) -> NDArray[np.int64]:
    """Place of each token in its text."""
    return np.arange(len(texts.tokens)) - np.repeat(texts.begin, texts.end - texts.begin)


def _first_of(units: NDArray[np.int64]) -> NDArray[np.intp]:
    """Indices of the rows that are the first of their kind, in any order."""
    order = np.lexsort(units.T)
    changes = (np.diff(units[order], axis=0) != 0).any(axis=1)
    first: NDArray[np.intp] = order[np.concatenate([np.ones(min(1, len(order)), np.bool_), changes])]
    return first
