"""What each token mark promises: power, and that those without distortion have none."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

import watermark
from watermark import Key
from watermark.llm.greenlist import window_tail
from watermark.ops.token import PRFS
from watermark.reference import SyntheticLanguage

LANGUAGE = SyntheticLanguage(1024, 4.0)
DISTORTION_FREE = ["llm.gumbel", "llm.synthid", "llm.unbiased", "llm.dipmark", "llm.exp", "llm.its"]


def test_the_language_has_its_entropy():
    logits = LANGUAGE.logits(np.array([[1, 2], [5, 9]]))
    p = np.exp(logits.astype(np.float64))
    assert p.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert -(p * np.log(p)).sum(axis=1) == pytest.approx([4, 4], abs=1e-3)
    assert not np.array_equal(*logits)
    assert np.array_equal(LANGUAGE.write(2, 5, seed=3), LANGUAGE.write(2, 5, seed=3))


@pytest.mark.parametrize(
    ("name", "parameters", "at_most"),
    [
        ("llm.greenlist", {}, -8),
        ("llm.greenlist", {"gamma": 0.25, "width": 4}, -8),
        ("llm.greenlist", {"hard": True}, -30),
        ("llm.greenlist", {"seeding": "skip", "width": 3}, -8),
        ("llm.greenlist", {"seeding": "least", "width": 3}, -8),
        ("llm.greenlist", {"seeding": "self", "width": 4, "top": None}, -8),
        ("llm.greenlist", {"seeding": "self", "width": 4, "prf": "sbw", "top": None}, -8),
        ("llm.unigram", {}, -6),
        ("llm.gumbel", {}, -30),
        ("llm.synthid", {}, -30),
        ("llm.unbiased", {}, -8),
        ("llm.dipmark", {"alpha": 0.3}, -2),
    ],
)
@pytest.mark.parametrize("prf", [None, *PRFS])
def test_marked_texts_are_found(keys, name, parameters, at_most, prf):
    if prf and "prf" not in parameters:
        parameters = {**parameters, "prf": prf}
    if prf == "sbw" and name != "llm.greenlist":
        with pytest.raises(watermark.ParameterError, match="prf is one of"):
            watermark.load(name, keys(1), vocab_size=1024, **parameters)
        return
    scheme = watermark.load(name, keys(1), vocab_size=1024, **parameters)
    texts = LANGUAGE.write(8, 200, scheme, seed=1)
    assert np.median(scheme.detect_batch(texts).log10_p) < at_most
    other = watermark.load(name, keys(2), vocab_size=1024, **parameters)
    assert other.detect_batch(texts).log10_p.min() > -5


def test_edits_cost_their_contexts_only(keys):
    scheme = watermark.load("llm.gumbel", keys(1), vocab_size=1024)
    text = LANGUAGE.write(1, 400, scheme, seed=1)[0]
    clean = LANGUAGE.write(1, 100, seed=2)[0]
    mixed = np.concatenate([clean, text[50:350], clean[::-1]])
    assert scheme.detect(mixed).log10_p < -30


def test_windows_find_a_marked_part(keys):
    plain = watermark.load("llm.greenlist", keys(1), vocab_size=1024)
    windowed = watermark.load("llm.greenlist", keys(1), vocab_size=1024, window=32)
    marked = LANGUAGE.write(1, 100, plain, seed=1)[0]
    text = np.concatenate([LANGUAGE.write(1, 900, seed=2)[0], marked, LANGUAGE.write(1, 1000, seed=3)[0]])
    found = windowed.detect(text)
    assert found.log10_p < -6 < plain.detect(text).log10_p
    assert 850 <= found.details["first_unit"] <= found.details["last_unit"] <= 1050


def test_windows_are_paid_for():
    """(A) of the statistics for the maximum over windows: 4,000 texts of fair units, 99.9 % limits."""
    rng = np.random.default_rng(1)
    p = np.exp([window_tail(units, 0.5, 8)[0] for units in rng.integers(0, 2, (4000, 100)).astype(float)])
    for alpha, limit in ((0.1, 461), (0.01, 61)):  # 99.9 % quantiles of the binomial
        assert (p <= alpha).sum() <= limit


@pytest.mark.parametrize("name", DISTORTION_FREE)
def test_over_keys_the_next_token_has_the_models_law(name):
    """Chi-square over 6,000 keys on one distribution of 12 tokens, at 99.99 %. The benchmark takes 10^6."""
    p = np.array([0.35, 0.2, 0.1, 0.08, 0.07, 0.06, 0.05, 0.04, 0.02, 0.015, 0.01, 0.005])
    rng = np.random.default_rng(1)
    counts = np.zeros(12)
    keys = 6000
    for number in range(keys):
        key = Key.from_bytes(hashlib.sha256(f"{name}/{number}".encode()).digest())
        row = np.log(p).astype(np.float32)
        watermark.load(name, key, vocab_size=12).start(rng=number).apply([3], row)
        weights = np.exp(row.astype(np.float64))
        counts += rng.multinomial(1, weights / weights.sum())
    assert ((counts - keys * p) ** 2 / (keys * p)).sum() < 37.4  # 11 degrees of freedom


def test_a_greenlist_moves_what_it_should(keys):
    """The odds of green against red tokens grow by exp(delta)."""
    scheme = watermark.load("llm.greenlist", keys(1), vocab_size=1024, delta=1.5)
    row = LANGUAGE.logits(np.array([[1, 2]]))
    before = row.copy()
    scheme.start().apply([[1, 2]], row)
    assert set(np.unique(np.round(row - before, 4)).tolist()) == {0.0, 1.5}
    assert math.isclose((row > before).mean(), 0.5, abs_tol=0.1)
