from __future__ import annotations

import numpy as np
import pytest

from watermark.ops import alignment
from watermark.ops._native import core

KEY = np.arange(1, 9, dtype=np.uint32) * 0x01234567


def a_text(m: int, kinds: int, seed: int) -> np.ndarray:
    """Numbers of kinds, each of which occurs."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.concatenate([np.arange(kinds), rng.integers(0, kinds, m - kinds)])).astype(np.int32)


def some_weights(length: int, seed: int = 3) -> np.ndarray:
    weights = np.random.default_rng(seed).exponential(size=alignment.CELLS)
    return np.floor(weights / weights.max() * (alignment.MAX_CHAIN // length)).astype(np.uint16)


def levenshtein(costs: np.ndarray, gap: float) -> float:
    """Cost of the cheapest alignment, by the recursion of the paper."""
    k, b = costs.shape
    table = np.add.outer(np.arange(k + 1), np.arange(b + 1)) * gap
    for i in range(1, k + 1):
        for j in range(1, b + 1):
            table[i, j] = min(table[i - 1, j] + gap, table[i, j - 1] + gap, table[i - 1, j - 1] + costs[i - 1, j - 1])
    return table[k, b]


@pytest.mark.parametrize(
    ("m", "kinds", "rows", "length"), [(1, 1, 1, 1), (5, 2, 3, 5), (23, 9, 40, 7), (30, 30, 16, 30)]
)
@pytest.mark.parametrize("isa", core.instruction_sets())
def test_alignment(isa, m, kinds, rows, length):
    cells = np.random.default_rng(m).integers(0, 65536, (kinds, rows), dtype=np.uint16)
    tokens, weights = a_text(m, kinds, 1), some_weights(length)
    starts = np.arange(m - length + 1, dtype=np.int32)
    found = np.empty((len(starts), rows), np.uint16)
    core.align_text(cells, tokens, starts, length, weights, found, isa=isa)
    assert np.array_equal(found, alignment.align_reference(cells, tokens, starts, length, weights))


@pytest.mark.parametrize("gap", [0.0, 0.4, 0.7, -0.3])
def test_the_heaviest_chain_is_the_cheapest_alignment(gap):
    rng = np.random.default_rng(5)
    costs = rng.random((12, 12)) if gap > 0 else np.log(rng.random((12, 12)))
    scale = 1000
    weights = np.maximum(0, np.round(scale * (2 * gap - costs))).astype(np.uint16)
    heaviest = alignment.chains(weights)[-1, -1]
    assert abs(gap * 24 - heaviest / scale - levenshtein(costs, gap)) < 12 / scale


def test_the_heaviest_chain_may_fill_its_number():
    length = 257
    weights = np.full(alignment.CELLS, alignment.MAX_CHAIN // length, np.uint16)
    found = alignment.align(
        np.zeros((1, 20), np.uint16), np.zeros(length, np.int32), np.zeros(1, np.int32), length, weights
    )
    assert (found == alignment.MAX_CHAIN).all()


@pytest.mark.parametrize("vocabulary", [0, 40, 50_257, 200_000])
@pytest.mark.parametrize(("m", "kinds", "rows", "length"), [(9, 4, 5, 9), (40, 33, 33, 11), (12, 12, 300, 12)])
@pytest.mark.parametrize("isa", core.instruction_sets())
def test_random_keys(isa, m, kinds, rows, length, vocabulary):
    tokens, weights = a_text(m, kinds, 2), some_weights(length)
    starts = np.arange(0, m - length + 1, 5, dtype=np.int32)
    draws = range(2**32 - 3, 2**32 + 3)
    text = (kinds, rows, tokens, starts, length, weights)
    all_reached = 0
    for least in (0, 20_000, 30_000, 40_000, alignment.MAX_CHAIN):
        found = np.empty(len(draws), np.uint8)
        core.random_keys_reach(
            KEY, draws.start, kinds, rows, vocabulary, tokens, starts, length, weights, least, found, isa=isa
        )
        expected = alignment.random_keys_reach_reference(KEY, draws, *text, least, vocabulary)
        assert np.array_equal(found, expected)
        assert np.array_equal(alignment.random_keys_reach(KEY, draws, *text, least, vocabulary), expected)
        all_reached += int(found.sum())
    assert len(draws) <= all_reached < 5 * len(draws)


def test_places_are_different_and_uniform():
    """With as many kinds as places, each key row sees every distance that it can."""
    tokens, starts = np.arange(8, dtype=np.int32), np.zeros(1, np.int32)
    weights = np.zeros(alignment.CELLS, np.uint16)
    weights[: 2**13 // 2 + 1] = 1  # a number is that near to one of eight places, and to two at most
    found = alignment.random_keys_reach(KEY, range(50), 8, 1, tokens, starts, 8, weights, 1, vocabulary=8)
    assert found.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": np.array([0, 2], np.int32)}, "kinds"),
        ({"tokens": np.array([0, -1], np.int32)}, "kinds"),
        ({"starts": np.array([1], np.int32)}, "past the end"),
        ({"starts": np.array([-1], np.int32)}, "past the end"),
        ({"length": 0}, "length"),
        ({"length": 3}, "length"),
        ({"weights": np.full(65536, 32768, np.uint16)}, "overflow"),
        ({"weights": np.zeros(65535, np.uint16)}, "65536"),
        ({"least": 65536}, "least"),
        ({"rows": 0}, "rows"),
        ({"rows": 65537}, "rows"),
        ({"kinds": 2**28}, "kinds"),
        ({"vocabulary": 1}, "vocabulary"),
    ],
)
def test_refuses(change, message):
    about = {
        "kinds": 2,
        "rows": 4,
        "vocabulary": 0,
        "tokens": np.array([0, 1], np.int32),
        "starts": np.array([0], np.int32),
        "length": 2,
        "weights": np.zeros(65536, np.uint16),
        "least": 1,
    }
    with pytest.raises(ValueError, match=message):
        core.random_keys_reach(KEY, 0, out=np.empty(3, np.uint8), **{**about, **change})
