"""The functions of transformers in the engine. Against transformers itself: tests/integration/test_transformers.py."""

from __future__ import annotations

import numpy as np
import pytest

import watermark
from watermark.errors import InvalidKeyError, ParameterError
from watermark.llm.keys import EngineKey
from watermark.ops import foreign
from watermark.reference import SyntheticLanguage
from watermark.stats import log_binomial_tail, log_repeated_tail

VOCAB = 512
LANGUAGE = SyntheticLanguage(VOCAB, 4.0)
RNG = np.random.default_rng(1)


def green(key: int = 15485863, **parameters):
    given = {"vocab_size": VOCAB, "gamma": 0.25, "delta": 2.0, "prf": "hf-kgw"} | parameters
    return watermark.load("llm.greenlist", EngineKey([key]), **given)


def synthid(keys=range(1, 31), **parameters):
    given = {"vocab_size": VOCAB, "prf": "hf-synthid", "depth": len(keys)} | parameters
    return watermark.load("llm.synthid", EngineKey(keys), **given)


@pytest.mark.parametrize("make", [green, lambda: green(seeding="self", width=4), lambda: synthid()])
def test_marked_texts_are_found(make):
    scheme = make()
    texts = LANGUAGE.write(6, 200, scheme, seed=1)
    assert np.median(scheme.detect_batch(texts).log10_p) < -8
    other = type(scheme)(EngineKey([7919 * n + 13 for n in scheme.key.numbers]), scheme.parameters)
    assert other.detect_batch(texts).log10_p.min() > -5


@pytest.mark.parametrize("make", [green, lambda: green(seeding="self", width=3), lambda: synthid()])
def test_candidates_are_columns_of_the_vocabulary(make):
    scheme = make()
    contexts, logits = RNG.integers(1, VOCAB, (4, 9)), RNG.standard_normal((4, VOCAB)).astype(np.float32)
    logits[:, 100:] = -np.inf
    listed = np.stack([RNG.permutation(100) for _ in range(4)])
    some = np.take_along_axis(logits, listed, axis=1)
    scheme.start().apply(contexts, logits)
    scheme.start().apply(contexts, some, candidates=listed)
    assert some == pytest.approx(np.take_along_axis(logits, listed, axis=1), abs=1e-5)


@pytest.mark.parametrize("seeding", ["left", "self"])
def test_short_contexts_are_left_alone(seeding):
    scheme = green(seeding=seeding, width=3)
    logits = RNG.standard_normal((3, VOCAB + 5)).astype(np.float32)
    before = logits.copy()
    scheme.start().apply([np.array([1]), np.array([1, 2, 3]), np.array([4, 5])], logits)
    assert np.array_equal(logits != before, (logits != before) & (np.arange(3) == 1)[:, None])
    assert (logits != before).any()
    assert np.array_equal(logits[:, VOCAB:], before[:, VOCAB:])


def test_tensors_are_marked_in_place():
    torch = pytest.importorskip("torch")
    for scheme in (green(), green(seeding="self", width=3), synthid()):
        contexts, logits = RNG.integers(1, VOCAB, (2, 9)), torch.randn(2, VOCAB + 8)
        expected = logits.numpy().copy()
        assert scheme.start().apply(contexts, logits) is logits
        scheme.start().apply(contexts, expected)
        assert np.array_equal(logits.numpy(), expected)


def test_lists_reach_into_the_prompt():
    scheme = green(width=2)
    text, prompt = RNG.integers(1, VOCAB, 50), RNG.integers(1, VOCAB, 10)
    with_prompt, without = scheme.detect(text, prompt), scheme.detect(text)
    assert with_prompt.n == 50
    assert without.n == 48
    assert len(with_prompt.details["token_scores"]) == 50
    assert np.array_equal(with_prompt.details["token_scores"][2:], without.details["token_scores"][2:])


def test_what_the_prompt_held_still_counts():
    scheme = green()
    text = RNG.permutation(np.arange(1, VOCAB))[:60]
    assert scheme.detect(text, text).n == 60
    assert scheme.detect(np.concatenate([text, text])).n == 60


def test_what_no_key_decides_never_counts():
    scores = green().detect([3, 0, 5, 0, 6, 7]).details["token_scores"]
    assert np.isnan(scores).tolist() == [True, False, True, False, True, False]


def test_lists_pay_for_being_drawn_without_replacement():
    scheme = green()
    tokens = np.concatenate([[1], np.repeat(1, 1)])
    found = scheme.detect(tokens)
    assert found.n == 1
    for text in LANGUAGE.write(4, 60, seed=2):
        found = scheme.detect(text)
        hits, mean = found.details["green"], found.n * 0.25
        expected = log_binomial_tail(hits, found.n, 0.25) / np.log(10) if hits >= mean + 1 else 0.0
        assert found.log10_p == pytest.approx(expected)


def test_each_entry_of_the_table_counts_once():
    scheme = synthid(table_size=64)
    text = RNG.integers(0, VOCAB, 300)
    found = scheme.detect(text)
    assert 32 < found.n <= 64
    repeated = scheme.detect(np.tile(text[:30], 5))
    assert repeated.n <= 34  # those of the first round, and of contexts that reach over its end


def test_the_rate_is_that_of_the_coins():
    scheme = synthid(table_size=8, table_seed=3, keys=[3])
    coins = foreign.twister_words(3, 8) & 1
    assert scheme._tables[0].rate == coins.mean()
    assert scheme._tables[0].rate != 0.5


def test_the_law_of_a_shared_table():
    """A text whose entries follow the coins' strongest wave has a wider law than independent coins: 400 fresh keys."""
    size = 256
    coins = (foreign.twister_words(0, size) & 1).astype(float)
    wave = int(np.argmax(np.abs(np.fft.rfft(coins - coins.mean()))[1:])) + 1
    places = np.argsort(-np.cos(2 * np.pi * wave * np.arange(size) / size))[:100]  # what x -> a^2 x turns entries into
    back = pow(pow(6364136223846793005, 2, size), -1, size)
    entries = places * back % size
    rng, trials = np.random.default_rng(5), 400
    won, tails = [], []
    for _ in range(trials):
        table = foreign.SynthIdTable(rng.integers(0, 2**63, 4).tolist(), size, 0)
        won.append(int(np.bitwise_count(table.words[0, entries]).sum()))
        tails.append(np.exp(log_repeated_tail(table.law(entries), 4, won[-1])))
    spread = 4 * 100 * coins.mean() * (1 - coins.mean())
    assert np.var(won) > 2 * spread
    for rate, limit in ((0.5, 231), (0.1, 60), (0.01, 11)):  # 99.9 % quantiles of the binomial
        assert (np.array(tails) <= rate).sum() <= limit


@pytest.mark.slow
@pytest.mark.parametrize("text", ["zipf", "repetitive", "uniform"])
@pytest.mark.parametrize("name", ["hf-kgw", "hf-synthid"])
def test_null_over_fresh_keys(name, text):
    rng, trials = np.random.default_rng(20261122), 2000 if name == "hf-kgw" else 500
    weights = 1 / np.arange(1, VOCAB + 1)
    laws = {
        "zipf": lambda: rng.choice(VOCAB, 150, p=weights / weights.sum()),
        "repetitive": lambda: np.tile(rng.choice(VOCAB, 17, p=weights / weights.sum()), 9),
        "uniform": lambda: rng.integers(0, VOCAB, 150),
    }
    found = np.empty(trials)
    for i in range(trials):
        keys = rng.integers(0, 2**63, 30).tolist()
        scheme = green(keys[0]) if name == "hf-kgw" else synthid(keys)
        found[i] = scheme.detect(laws[text]()).log10_p
    for rate in (0.1, 1e-2, 1e-3):
        hits = int((found <= np.log10(rate)).sum())
        assert log_binomial_tail(hits, trials, rate) > np.log(1e-3), (rate, hits)


def test_our_own_keys_are_expanded(key):
    for scheme in (
        watermark.load("llm.greenlist", key, vocab_size=VOCAB, prf="hf-kgw"),
        watermark.load("llm.greenlist", key, vocab_size=VOCAB, prf="hf-kgw", seeding="self"),
        watermark.load("llm.synthid", key, vocab_size=VOCAB, prf="hf-synthid", depth=64),
    ):
        texts = LANGUAGE.write(2, 200, scheme, seed=1)
        assert np.median(scheme.detect_batch(texts).log10_p) < -6
        assert watermark.load(scheme.profile(), key).detect(texts[0]) == scheme.detect(texts[0])


def test_security_is_that_of_the_engine(key):
    assert green().security_bits == 32
    assert green(seeding="self").security_bits == 64
    assert synthid().security_bits == 21  # thirty keys, each modulo 65536, found one by one


def test_bad_settings_are_refused(key):
    for wrong in ({"hard": True}, {"seeding": "skip"}, {"seeding": "least"}, {"gamma": 1e-6}):
        with pytest.raises(ParameterError):
            green(**wrong)
    with pytest.raises(ParameterError, match="prf is one of"):
        watermark.load("llm.unigram", key, vocab_size=VOCAB, prf="hf-kgw")
    with pytest.raises(ParameterError, match="depth"):
        watermark.load("llm.synthid", key, vocab_size=VOCAB, depth=33)
    for wrong in ({"table_size": 0}, {"table_size": 2**25}, {"table_size": 1000}, {"table_seed": 2**64}):
        with pytest.raises(ParameterError, match="table_"):
            synthid(**wrong)
    with pytest.raises(InvalidKeyError, match="30 numbers"):
        synthid(depth=30, keys=[1, 2]).detect([1, 2, 3])
    with pytest.raises(InvalidKeyError, match="1 numbers"):
        watermark.load("llm.greenlist", EngineKey([1, 2]), vocab_size=VOCAB, prf="hf-kgw").detect([1, 2])
    with pytest.raises(InvalidKeyError, match="2\\^63"):
        green(2**63, seeding="self").detect([1, 2, 3, 4, 5])
