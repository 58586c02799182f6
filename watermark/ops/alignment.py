"""Alignment of a text with a keyed sequence: heaviest chains, and how often a random key reaches one.

A key has n rows. A cell, a number below 65536, says what a row of the key makes of a token, and a table what such a
cell weighs. A chain pairs tokens of a block with key rows, ascending in both; its weight is the sum of its pairs'
weights. Row numbers are taken modulo n; a block of k tokens at offset j sees the rows j to j + k - 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from watermark.ops._native import core
from watermark.ops.token import chacha8_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELLS = 65_536
"""Values of a cell."""
MAX_CHAIN = 65_535
"""Heaviest chain: k times the heaviest weight may not exceed it."""


def align(
    cells: NDArray[np.uint16],
    tokens: NDArray[np.int32],
    starts: NDArray[np.int32],
    length: int,
    weights: NDArray[np.uint16],
) -> NDArray[np.uint16]:
    """The heaviest chain of every block at every offset.

    Args:
        cells: uint16 of shape (kinds, n), C-contiguous.
        tokens: The text as rows of `cells`: int32 of shape (m,).
        starts: First tokens of the blocks: int32 of shape (blocks,).
        length: Tokens of a block, k.
        weights: Weight of a cell: uint16 of shape (65536,), at most ``MAX_CHAIN // length``.

    Returns:
        uint16 of shape (blocks, n).
    """
    heaviest = np.empty((len(starts), cells.shape[1]), np.uint16)
    core.align_text(cells, tokens, starts, length, weights, heaviest)
    return heaviest


def align_reference(
    cells: NDArray[np.uint16],
    tokens: NDArray[np.int32],
    starts: NDArray[np.int32],
    length: int,
    weights: NDArray[np.uint16],
) -> NDArray[np.uint16]:
    """The same in NumPy."""
    rows = (np.arange(cells.shape[1])[:, None] + np.arange(length)) % cells.shape[1]
    found = [chains(weights[cells[tokens[s : s + length]]][:, rows])[-1, :, -1] for s in starts]
    return np.array(found, np.uint16).reshape(len(starts), cells.shape[1])


def chains(weights: NDArray[np.uint16]) -> NDArray[np.int64]:
    """The heaviest chains of the first i tokens with the first b key rows.

    Args:
        weights: Weights of pairs, uint16 of shape (k, ..., k): token, offsets, key row.

    Returns:
        int64 of shape (k + 1, ..., k + 1).
    """
    tokens, rows = weights.shape[0], weights.shape[-1]
    best = np.zeros((tokens + 1, *weights.shape[1:-1], rows + 1), np.int64)
    for i, row in enumerate(weights):
        paired = np.maximum(best[i, ..., 1:], best[i, ..., :-1] + row)
        best[i + 1, ..., 1:] = np.maximum.accumulate(paired, axis=-1)
    return best


def heaviest_pairs(weights: NDArray[np.uint16]) -> NDArray[np.int64]:
    """What each token brings to the heaviest chain of a block at one offset; 0 if the chain leaves it out.

    Args:
        weights: uint16 of shape (k, k): token, key row.

    Returns:
        int64 of shape (k,).
    """
    best, brought = chains(weights), np.zeros(len(weights), np.int64)
    i = b = len(weights)
    while i and b:
        if best[i, b] == best[i - 1, b]:
            i -= 1
        elif best[i, b] == best[i, b - 1]:
            b -= 1
        else:
            i, b = i - 1, b - 1
            brought[i] = weights[i, b]
    return brought


def random_keys_reach(
    key: NDArray[np.uint32],
    draws: range,
    kinds: int,
    rows: int,
    tokens: NDArray[np.int32],
    starts: NDArray[np.int32],
    length: int,
    weights: NDArray[np.uint16],
    least: int,
    vocabulary: int = 0,
) -> NDArray[np.bool_]:
    """Whether the text has a chain of at least this weight under random keys.

    Args:
        key: 8 words, little endian: the seed of the random keys.
        draws: Numbers of the random keys, consecutive.
        kinds: Number of different tokens.
        rows: Number of key rows n.
        tokens: As `align` takes them, and so are `starts`, `length` and `weights`.
        starts: See there.
        length: See there.
        weights: See there.
        least: Weight of a chain, 0 to 65535.
        vocabulary: 0 for uniform cells. Else the number of places: the kinds get different ones at random, each key row
            a uniform number, and cells are distances of fractions in units of 2^-16.

    Returns:
        bool of shape (len(draws),).
    """
    reached = np.empty(len(draws), np.uint8)
    core.random_keys_reach(key, draws.start, kinds, rows, vocabulary, tokens, starts, length, weights, least, reached)
    return reached.astype(np.bool_)


def random_keys_reach_reference(
    key: NDArray[np.uint32],
    draws: range,
    kinds: int,
    rows: int,
    tokens: NDArray[np.int32],
    starts: NDArray[np.int32],
    length: int,
    weights: NDArray[np.uint16],
    least: int,
    vocabulary: int = 0,
) -> NDArray[np.bool_]:
    """The same in NumPy."""
    reached = []
    for draw in draws:
        numbers, order = ([use, draw & 0xFFFFFFFF, draw >> 32] for use in range(2))
        batches = -(-rows // 256)
        halves = _draw_words(key, numbers, batches * (1 if vocabulary else kinds)).astype("<u4").view("<u2")
        cells = halves.reshape(-1, 256 * batches)[:, :rows]
        if vocabulary:
            places: dict[int, None] = {}  # in the order of their draws
            scaled = _draw_words(key, order, kinds // 4 + 8).astype(np.uint64) * np.uint64(vocabulary)
            for product in scaled.tolist():
                if product % 2**32 >= 2**32 % vocabulary and len(places) < kinds:
                    places.setdefault(product >> 32)
            fractions = fractions_of_places(np.array(list(places)), vocabulary)
            cells = np.abs(fractions[:, None].astype(np.int32) - cells).astype(np.uint16)
        reached.append(align_reference(cells, tokens, starts, length, weights).max(initial=0) >= least)
    return np.array(reached, np.bool_)


def _draw_words(key: NDArray[np.uint32], nonce: list[int], batches: int) -> NDArray[np.uint32]:
    """Batches of 128 words of ChaCha with 8 rounds: word 8 j + l of a batch is word j of its block l."""
    blocks = chacha8_reference(key, np.arange(8 * batches, dtype=np.uint32), nonce)
    return np.ascontiguousarray(blocks.reshape(16, batches, 8).transpose(1, 0, 2)).ravel()


def fractions_of_places(places: NDArray[np.int64], vocabulary: int) -> NDArray[np.uint16]:
    """The middle of place i of a vocabulary as a fraction of it, (2 i + 1) / (2 V), in units of 2^-16, rounded down."""
    return ((2 * places + 1) * 2**15 // vocabulary).astype(np.uint16)
