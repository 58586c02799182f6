"""What an attacker finds who has exact latents of `latent.prc` and no key: `Prc.security_bits` must say the same.

A sparse check adds up to a constant (the pad's) on every latent that no flip hit. Signs of 64 latents, each added to
those of the first, are one 64-bit word per coordinate; a check of t coordinates is t words that add up to zero, found
by joining sums of few words.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

import watermark

SHAPE = (4, 16, 16)
ELEMENTS = 1024


def words_of(prc: watermark.latent.prc.Prc, latents: int = 64, seed: int = 1) -> np.ndarray:
    """Signs of latents relative to those of the first: uint64 of shape (n,)."""
    signs = np.signbit(prc.sample_batch(latents + 1, rng=seed).reshape(latents + 1, -1))
    packed = np.packbits(signs[1:] ^ signs[0], axis=0).T.copy()
    return packed.view(np.uint64)[:, 0]


def sums(words: np.ndarray, terms: int) -> tuple[np.ndarray, np.ndarray]:
    """All sums of so many words, and the coordinates of each."""
    chosen = np.array(list(combinations(range(words.size), terms)))
    return np.bitwise_xor.reduce(words[chosen], axis=1), chosen


def join(words: np.ndarray, terms: int) -> set[tuple[int, ...]]:
    """Sets of up to `terms` coordinates whose words add up to zero: sums of half as many that agree."""
    left, left_chosen = sums(words, -(-terms // 2))
    right, right_chosen = sums(words, terms // 2)
    order = np.argsort(left, kind="stable")
    begin, end = (np.searchsorted(left[order], right, side) for side in ("left", "right"))
    found = set()
    for i in np.flatnonzero(end > begin):
        for j in order[begin[i] : end[i]]:
            either = set(left_chosen[j]) ^ set(right_chosen[i])
            if either:
                found.add(tuple(sorted(int(c) for c in either)))
    return found


def checks_of(prc: watermark.latent.prc.Prc) -> set[tuple[int, ...]]:
    return {tuple(sorted(check)) for check in prc._tables[0][0].code.inner.tolist()}


@pytest.mark.parametrize("t", [3, 4])
def test_joins_find_the_checks_of_three_and_four(key, t):
    """64 exact latents and all pairs of coordinates give most of the key away: these keys are not undetectable."""
    prc = watermark.load("latent.prc", key, shape=SHAPE, payload_bits=0, t=t)
    planted = checks_of(prc)
    found = {check for check in join(words_of(prc), t) if len(check) == t}
    assert len(found & planted) > 0.5 * len(planted)


@pytest.mark.parametrize("t", [3, 4])
def test_one_check_costs_what_security_bits_says(keys, t):
    """Two random lists of sums, each of as many as the figure counts, agree in about one true check."""
    hits = 0
    for number in range(20):
        prc = watermark.load("latent.prc", keys(number), shape=SHAPE, payload_bits=0, t=t)
        size = round(math.sqrt(math.comb(ELEMENTS, t) / prc._checks))
        assert prc.security_bits == int(math.log2(size))
        words, checks, rng = words_of(prc), checks_of(prc), np.random.default_rng(number)
        lists = [rng.random((size, ELEMENTS), np.float32).argpartition(n, axis=1)[:, :n] for n in (-(-t // 2), t // 2)]
        left, right = (np.bitwise_xor.reduce(words[chosen], axis=1) for chosen in lists)
        for i in np.flatnonzero(np.isin(left, right)):
            for j in np.flatnonzero(right == left[i]):
                hits += tuple(sorted({*lists[0][i].tolist(), *lists[1][j].tolist()})) in checks
    assert 0.4 < hits / 20 < 2.5


def test_all_pairs_of_latents_tell_checks_of_three_from_noise(key):
    """No check is found, but their sum shows: with `latents_in_pairs` latents one standard deviation, then linearly."""
    scores, expected = {}, {}
    for t in (3, 4):
        prc = watermark.load("latent.prc", key, shape=(4, 32, 32), payload_bits=0, t=t)
        x = np.sign(prc.sample_batch(600, rng=1).reshape(600, -1)).astype(np.float64)
        n = x.shape[1]
        products = (x @ x.T)[np.triu_indices(600, 1)]
        triples = (products**3 - (3 * n - 2) * products) / 6
        scores[t] = triples.sum() / math.sqrt(products.size * math.comb(n, 3))
        expected[t] = 600 / prc.latents_in_pairs
    assert scores[3] == pytest.approx(expected[3], rel=0.5)
    assert abs(scores[4]) < 4


def test_hardened_keys_have_nothing_that_joins_of_four_find(key):
    prc = watermark.load("latent.prc", key, shape=SHAPE, payload_bits=0, preset="hardened")
    assert not join(words_of(prc), 4)
    assert not join(words_of(prc), 3)


@pytest.mark.parametrize("preset", ["robust", "hardened"])
def test_no_two_coordinates_go_together(key, preset):
    """The scan that betrays the published code: signs of pairs, over many latents."""
    prc = watermark.load("latent.prc", key, shape=SHAPE, payload_bits=0, preset=preset)
    signs = np.sign(prc.sample_batch(400, rng=2).reshape(400, -1))
    scores = (signs.T @ signs)[np.triu_indices(ELEMENTS, 1)] / math.sqrt(400)
    assert np.abs(scores).max() < 6.0  # of 523,776 normal ones, one in a thousand runs has one above
    assert np.abs(signs.sum(axis=0)).max() / math.sqrt(400) < 5.0
