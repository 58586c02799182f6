"""Random draws of other libraries, bit by bit: torch's generator on the CPU, and what transformers makes of it.

`hf-kgw` is the green list of transformers' ``WatermarkLogitsProcessor``: the start of a permutation that torch draws
from mt19937 (Matsumoto and Nishimura, 1998). `hf-synthid` are the g-values of its
``SynthIDTextWatermarkLogitsProcessor``: linear congruential hashes into a table of coins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.errors import ParameterError
from watermark.ops._native import core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CANDIDATES = 40
"""Tokens of the highest scores that transformers' selfhash considers at each step."""
TABLE_SIZE = 1_000_003
"""Entries of the table through which transformers' selfhash looks up tokens."""
_STATE, _SHIFT = 624, 397
_MULTIPLIER = 6364136223846793005
_LIMIT = 2**64 - 1  # seeds are taken modulo this


# ---- torch's generator


def twister_words(seed: int, count: int) -> NDArray[np.uint32]:
    """Words of mt19937 for a seed of 32 bits (torch ignores the rest): uint32 of shape (count,)."""
    out = np.empty(count, np.uint32)
    core.twister_stream(seed & 0xFFFFFFFF, out)
    return out


def twister_words_reference(seed: int, count: int) -> NDArray[np.uint32]:
    """The same in NumPy."""
    state = [seed & 0xFFFFFFFF]
    for i in range(1, _STATE):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) & 0xFFFFFFFF)
    x, blocks = np.array(state, np.uint32), [np.empty(0, np.uint32)]
    for _ in range(-(-count // _STATE)):
        x = np.concatenate([x, np.empty(_STATE, np.uint32)])
        for begin in range(0, _STATE, _STATE - _SHIFT):  # as far as the words that a word needs are known
            at = np.arange(begin, min(begin + _STATE - _SHIFT, _STATE))
            mixed = (x[at] & np.uint32(0x80000000)) | (x[at + 1] & np.uint32(0x7FFFFFFF))
            x[at + _STATE] = x[at + _SHIFT] ^ mixed >> np.uint32(1) ^ (mixed & np.uint32(1)) * np.uint32(0x9908B0DF)
        x = x[_STATE:]
        y = x ^ x >> np.uint32(11)
        y ^= y << np.uint32(7) & np.uint32(0x9D2C5680)
        y ^= y << np.uint32(15) & np.uint32(0xEFC60000)
        blocks.append(y ^ y >> np.uint32(18))
    return np.concatenate(blocks)[:count]


def permutation_start(seed: int, n: int, count: int) -> NDArray[np.uint32]:
    """The first entries of ``torch.randperm(n)`` on the CPU after ``manual_seed(seed)``.

    Args:
        seed: Of which 32 bits count.
        n: Length of the permutation, 1 to 2^27.
        count: Number of entries wanted, up to n.

    Returns:
        uint32 of shape (count,).
    """
    out = np.empty(n, np.uint32)
    core.permutation_start(seed & 0xFFFFFFFF, count, out)
    return out[:count]


def permutation_start_reference(seed: int, n: int, count: int) -> NDArray[np.uint32]:
    """The same in NumPy."""
    entries = np.arange(n, dtype=np.uint32)
    for i, word in enumerate(twister_words_reference(seed, min(count, n - 1)).tolist()):
        j = i + word % (n - i)
        entries[i], entries[j] = entries[j], entries[i]
    return entries[:count]


# ---- hf-kgw


def lefthash_seeds(key: int, tokens: NDArray[np.int64]) -> NDArray[np.uint32]:
    """What transformers' lefthash seeds the generator with: (key token) mod (2^64 - 1), of which 32 bits count.

    Args:
        key: Whole number of any size.
        tokens: The last token of each context, 0 to 2^32 - 1.

    Returns:
        uint32 of the shape of `tokens`.
    """
    high, low = (np.uint64(half) for half in divmod(key % _LIMIT, 2**32))
    token = tokens.astype(np.uint64)
    # key token = upper 2^32 + low token; 2^64 is 1 modulo the limit.
    upper, lower = high * token, low * token
    turned = (upper >> np.uint64(32)) | (upper << np.uint64(32))
    total = lower + turned
    total += total < turned  # carries around
    total[total == np.uint64(_LIMIT)] = 0
    return total.astype(np.uint32)


def selfhash_table(key: int) -> NDArray[np.int64]:
    """The table of transformers' selfhash: a permutation of 1 to 1,000,003, seeded by the key."""
    return permutation_start(key % 2**64, TABLE_SIZE, TABLE_SIZE).astype(np.int64) + 1


def selfhash_seeds(key: int, table: NDArray[np.int64], windows: NDArray[np.int64]) -> NDArray[np.uint32]:
    """What transformers' selfhash seeds the generator with: min_i key h(x_i) h(x_last), modulo 2^64 - 1.

    Args:
        key: -2^63 to 2^63 - 1.
        table: As `selfhash_table` returns it; h.
        windows: Contexts that end with the token itself, int64 of shape (..., width).

    Returns:
        uint32 of shape (...).
    """
    hashed = table[windows % TABLE_SIZE]
    least = np.min(np.int64(key) * hashed * hashed[..., -1:], axis=-1)  # wraps as int64 does
    return np.asarray(least - (least < 0)).astype(np.uint32)


def is_green(seeds: NDArray[np.uint32], tokens: NDArray[np.int64], vocab_size: int, size: int) -> NDArray[np.bool_]:
    """Which tokens are on the green lists of these seeds.

    Args:
        seeds: uint32 of shape (n,).
        tokens: int64 of shape (n,); those outside of the vocabulary are on no list.
        vocab_size: Number of tokens.
        size: Number of green ones.

    Returns:
        bool of shape (n,).
    """
    out = np.empty(len(seeds), np.bool_)
    core.in_permutation_start(seeds, vocab_size, size, tokens, out.view(np.uint8))
    return out


def is_green_reference(
    seeds: NDArray[np.uint32], tokens: NDArray[np.int64], vocab_size: int, size: int
) -> NDArray[np.bool_]:
    """The same in NumPy."""
    pairs = zip(seeds.tolist(), tokens.tolist(), strict=True)
    return np.array([token in permutation_start_reference(seed, vocab_size, size) for seed, token in pairs], np.bool_)


def add_to_green(logits: Any, seeds: NDArray[np.uint32], vocab_size: int, size: int, bias: float) -> None:
    """Adds `bias` to the green tokens of each row.

    Args:
        logits: float32 of shape (rows, at least vocab_size), columns contiguous; NumPy or a tensor on the CPU; changed
            in place.
        seeds: One per row, uint32.
        vocab_size: Number of tokens; columns beyond them stay as they are.
        size: Number of green ones.
        bias: What is added.
    """
    core.bias_permutation_start(seeds, vocab_size, size, bias, logits)


def add_to_green_reference(
    logits: NDArray[np.float32], seeds: NDArray[np.uint32], vocab_size: int, size: int, bias: float
) -> None:
    """The same in NumPy."""
    for row, seed in zip(logits, seeds.tolist(), strict=True):
        row[permutation_start_reference(seed, vocab_size, size)] += np.float32(bias)


def highest_columns(logits: Any, count: int) -> NDArray[np.int64]:
    """The columns of the highest logits of each row, in any order; of equal ones at the edge the first.

    Args:
        logits: float32 of shape (rows, columns), columns contiguous, without NaN.
        count: 1 to the number of columns.

    Returns:
        int64 of shape (rows, count).
    """
    out = np.empty((len(logits), count), np.int64)
    core.highest_columns(logits, out)
    return out


def highest_columns_reference(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The same in NumPy."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


# ---- hf-synthid


def context_hash(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The hash of contexts: h = 1, then h = (h + token) a + 1 for each of them, modulo 2^64.

    Args:
        tokens: int64 of shape (..., width).

    Returns:
        int64 of shape (...). The g-values of a token v in a context depend on ``context_hash + v`` alone.
    """
    hashed = np.ones(tokens.shape[:-1], np.int64)
    for i in range(tokens.shape[-1]):
        hashed = _congruential(hashed + tokens[..., i])
    return hashed


class SynthIdTable:
    """The g-values of transformers' SynthID: layer l of a token is ``coins[lcg(lcg(h + token) + keys[l]) mod size]``.

    A power-of-two modulus keeps the low bits only, and then all layers are one entry of a table of `size` words.

    Args:
        keys: 1 to 64 whole numbers of 64 bits, one per layer.
        size: Size of the table of coins, 1 to 2^24.
        seed: Seed of its coins.

    Raises:
        ParameterError: Too many keys, or a value out of range.

    Attributes:
        words: The table, uint32 of shape (1 or 2, size): bit l % 32 of word (l // 32, (h + token) mod size) is the
            g-value of layer l. None if the size is no power of two.
        rate: Share of ones among the coins: how often a g-value is 1, over the keys.
    """

    words: NDArray[np.uint32] | None
    rate: float

    def __init__(self, keys: Sequence[int], size: int, seed: int) -> None:
        if not 1 <= len(keys) <= 64:
            raise ParameterError(f"a SynthID mark has 1 to 64 keys, not {len(keys)}")
        if not 1 <= size <= 2**24:
            raise ParameterError(f"the table of coins has 1 to 2^24 entries, not {size}")
        self._keys = np.array([key % 2**64 for key in keys], np.uint64).view(np.int64)
        self._coins = twister_words(seed, size) & np.uint32(1)
        self.rate = float(self._coins.mean())
        self.words = None if size & size - 1 else self._words(np.arange(size))

    def g_values(self, hashes: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The g-values of tokens in contexts, one bit per layer.

        Args:
            hashes: As `context_hash` returns them.
            tokens: int64; both are broadcast.

        Returns:
            uint32 of shape (1 or 2, *their shape), bits as in `words`.
        """
        entries = self.entries(hashes, tokens)
        return self._words(entries) if self.words is None else self.words[:, entries]

    def vocabulary(self, hashed: int, columns: int) -> NDArray[np.uint32]:
        """The g-values of the tokens 0 to columns - 1 in one context: a cyclic part of the table, if there is one.

        Args:
            hashed: As `context_hash` returns it.
            columns: Number of tokens.

        Returns:
            uint32 of shape (1 or 2, columns).
        """
        if self.words is None:
            return self._words(np.int64(hashed) + np.arange(columns))
        start, turns = hashed % self.words.shape[1], -(-columns // self.words.shape[1])
        parts = [self.words[:, start:], *[self.words] * turns]
        return np.concatenate(parts, axis=1)[:, :columns]

    def entries(self, hashes: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the g-values of tokens in contexts depend on: int64, entries of `words` where there are such."""
        places: NDArray[np.int64] = hashes + tokens
        return places if self.words is None else places & (self.words.shape[1] - 1)

    def law(self, entries: NDArray[np.int64]) -> NDArray[np.float64]:
        """How many of these entries win in one layer, over its key: a key turns the table, to any place alike.

        Args:
            entries: As `entries` returns them, of a table whose size is a power of two.

        Returns:
            Probabilities of 0 to len(entries): float64 of shape (len(entries) + 1,).
        """
        size = self._coins.size
        asked = np.bincount(_congruential(_congruential(entries)) & (size - 1), minlength=size)
        wins = np.fft.irfft(np.fft.rfft(self._coins.astype(np.float64)) * np.conj(np.fft.rfft(asked)), size)
        return np.bincount(np.rint(wins).astype(np.int64), minlength=len(entries) + 1) / size

    def _words(self, places: NDArray[np.int64]) -> NDArray[np.uint32]:
        hashed = _congruential(places)
        words = np.zeros((-(-len(self._keys) // 32), *places.shape), np.uint32)
        for layer, key in enumerate(self._keys):
            words[layer // 32] |= self._coins[_congruential(hashed + key) % self._coins.size] << np.uint32(layer % 32)
        return words


def _congruential(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """A step of the generator of Knuth, modulo 2^64; arrays wrap silently."""
    return x * np.int64(_MULTIPLIER) + np.int64(1)
