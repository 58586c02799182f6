"""PRC for text: its law, what it survives, and a slow reading of the same evidence."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import watermark
from watermark import MediaError, ParameterError, PayloadError
from watermark.llm.prc import reweighted
from watermark.ops.token import Texts
from watermark.prc_code import base_size
from watermark.reference import SyntheticLanguage

LANGUAGE = SyntheticLanguage(1024, 4.0)


@pytest.fixture(scope="module")
def prc():
    key = watermark.Key.from_bytes(bytes(range(32)))
    return watermark.load("llm.prc", key, vocab_size=1024, block=256)


@pytest.fixture(scope="module")
def texts(prc):
    return LANGUAGE.write(4, 600, prc, seed=1)


def test_over_code_words_labels_keep_their_law():
    rng = np.random.default_rng(1)
    masses = rng.exponential(size=(5, 8)) ** 3
    masses[1, :4], masses[2, 1:] = 0, 0
    law = masses / masses.sum(axis=1, keepdims=True)
    code = np.array(list(itertools.product([0, 1], repeat=3)), np.uint8)
    found = np.stack([reweighted(masses, np.tile(bits, (5, 1))) for bits in code])
    assert found.sum(axis=2) == pytest.approx(np.ones((8, 5)))
    assert found.mean(axis=0) == pytest.approx(law)
    even = reweighted(np.ones((8, 8)), code)  # fair labels follow the code
    assert np.array_equal(even, np.eye(8))


def test_over_texts_of_one_key_tokens_have_the_models_law(prc):
    """Chi-square over 4,000 texts on the pair of labelled tokens at one position, at 99.99 %."""
    p = np.array([0.35, 0.2, 0.1, 0.08, 0.07, 0.06, 0.05, 0.04, 0.02, 0.015, 0.01, 0.005])
    rng, texts = np.random.default_rng(1), 4000
    scheme = watermark.load("llm.prc", prc.key, vocab_size=12, block=256)
    generation = scheme.start(rng=1)
    logits = np.tile(np.log(p).astype(np.float32), (texts, 1))
    generation.apply(np.zeros((texts, 3), np.int64), logits)
    law = np.exp(logits.astype(np.float64))
    assert law.sum(axis=1) == pytest.approx(np.ones(texts), abs=1e-5)
    counts = sum(rng.multinomial(1, row / row.sum()) for row in law)
    assert ((counts - texts * p) ** 2 / (texts * p)).sum() < 37.4  # 11 degrees of freedom
    assert (law > 2 * p).any()


def test_the_score_is_that_of_a_slow_reading(prc, texts):
    text, tables, parameters = texts[0], prc._tables[0], prc.parameters
    bits, block = parameters.bits, parameters.block
    place = np.arange(text.size)
    states = tables.labels.states(Texts(text, place * 0, place * 0), place[:, None])
    words = tables.labels.words(states, 1, text[:, None])[:, 0]
    total, variance, checks = 0, 0, 0
    for first in range(0, text.size, block):
        labels = [int(word) >> 31 - bit & 1 for word in words[first : first + block] for bit in range(bits)]
        for check in tables.code.inner.tolist():
            if max(check) < len(labels):
                value = int(prc._values[sum(c % bits for c in check)])
                odd = sum(labels[c] ^ int(tables.pad[c]) for c in check) % 2
                total, variance, checks = total + value * (1 - 2 * odd), variance + value**2, checks + 1
    found = prc.detect(text)
    assert found.score == pytest.approx(total / math.sqrt(variance))
    assert found.n == checks
    assert found.details["start"] == 0
    assert np.nansum(found.details["token_scores"]) == pytest.approx(total, rel=1e-4)


def test_every_check_owns_a_bit_and_the_first_ones_make_a_shorter_code(prc):
    code = prc._tables[0].code
    base = base_size(prc.parameters.information)
    assert np.array_equal(code.inner[:, -1], np.arange(base, prc.parameters.coordinates))
    assert (code.inner[:, :-1] < code.inner[:, -1:]).all()
    assert (code.outer[:, :-1] < code.outer[:, -1:]).sum() == (code.outer[:, :-1] < code.coordinates).sum()


def test_marks_of_earlier_versions_stay_readable(prc):
    states = prc._tables[0].labels.states(Texts(np.zeros(1, np.int64), *np.zeros((2, 1), np.int64)), np.array([[5]]))
    words = prc._tables[0].labels.words(states, 3)
    assert (words[0].tolist(), prc._tables[0].code.fingerprint[:16]) == (
        [3874932230, 2413074902, 172588853],
        "44d908186c563a17",
    )


@pytest.mark.parametrize("shift", [-8, -3, 1, 8])
def test_lost_and_gained_tokens_are_searched(prc, texts, shift):
    text = texts[0][:300]
    moved = text[shift:] if shift > 0 else np.concatenate([texts[1][:-shift], text])
    found = prc.detect(moved)
    assert found.details["start"] == shift
    assert found.detected(1e-6)
    narrow = watermark.load("llm.prc", prc.key, vocab_size=1024, block=256, shift=abs(shift) - 1)
    assert not narrow.detect(moved).detected(1e-3)


def test_further_code_words_are_read_by_themselves(key):
    prc = watermark.load("llm.prc", key, vocab_size=1024, block=400, shift=420)
    text = LANGUAGE.write(1, 800, prc, seed=1)[0]
    found = prc.detect(text[410:])
    assert found.details["start"] == 410
    assert found.detected(1e-6)
    assert found.payload_ok


def test_texts_that_repeat_themselves_count_no_position_twice(keys):
    """(A) of the statistics on a text whose period is a block: 600 keys, 99.9 % limits."""
    text = np.tile(np.random.default_rng(1).integers(0, 1024, 128), 3)
    load = lambda n: watermark.load("llm.prc", keys(n), vocab_size=1024, block=128, shift=1)  # noqa: E731
    p = np.array([load(number).detect(text).p_value for number in range(600)])
    for alpha, limit in ((0.1, 84), (0.01, 15)):  # 99.9 % quantiles of the binomial
        assert (p <= alpha).sum() <= limit


@pytest.mark.parametrize("payload_bits", [1, 10, 32, 100])
def test_messages_come_back(key, payload_bits):
    prc = watermark.load("llm.prc", key, vocab_size=1024, payload_bits=payload_bits)
    message = bytes([1]) * prc.frame.max_bytes
    text = LANGUAGE.write(1, 450, prc, message, seed=2)[0]
    text[::20] = 7
    found = prc.detect(text)
    assert (found.payload, found.payload_ok) == (message, True)
    assert prc.detect(text[:60]).payload is None
    with pytest.raises(PayloadError):
        prc.start(bytes([255]) * (prc.frame.max_bytes + 1))


def test_without_a_message_presence_is_enough(prc, texts):
    found = prc.detect(texts[3][:250])
    assert (found.payload, found.payload_ok) == (b"", True)
    assert prc.detect(texts[3][:40]).payload is None
    assert (prc.detect([]).p_value, prc.detect([]).n) == (1.0, 0)
    assert (prc.detect(texts[3][:10]).p_value, prc.detect(texts[3][:10]).n) == (1.0, 0)


def code_word(scheme, payload=None, rng=1, tokens=3):
    """The code word behind the next token of a text."""
    generation = scheme.start(payload, rng=rng)
    generation.apply(np.zeros((2, 3), np.int64), np.zeros((2, 1024), np.float32))
    if tokens > 3:
        generation.apply(np.zeros((2, tokens), np.int64), np.zeros((2, 1024), np.float32))
    return list(generation._slots[1].private.values())[-1]


def test_code_words_never_repeat(key):
    prc = watermark.load("llm.prc", key, vocab_size=1024, payload_bits=32)
    words = [
        code_word(prc, b"a"),
        code_word(prc, b"a", rng=2),
        code_word(prc, b"b"),  # the same seed
        code_word(prc, b"a", tokens=3 + prc.parameters.block),  # the next block
    ]
    for one, other in itertools.combinations(words, 2):
        assert 0.45 < (one ^ other).mean() < 0.55
    assert np.array_equal(code_word(prc, b"a"), words[0])


def test_beams_and_drafts_keep_their_code_word(prc):
    generation = prc.start(rng=4)
    rng = np.random.default_rng(4)
    text = np.zeros((2, 2), np.int64)
    for step in range(300):
        if step == 150:
            generation.reorder([0, 0])
            text = text[[0, 0]]
        logits = LANGUAGE.logits(text)
        generation.apply(text, logits)
        if step % 50 == 0:  # a draft, taken back
            draft = np.concatenate([text, text[:, :1]], axis=1)
            generation.apply(draft, LANGUAGE.logits(draft))
        text = np.concatenate([text, np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)[:, None]], axis=1)
    found = prc.detect_batch(text[:, 2:])
    assert found.detected(1e-6).all()


def test_candidates_and_tensors_are_marked_alike(prc):
    torch = pytest.importorskip("torch")
    logits = LANGUAGE.logits(np.array([[3, 4]]))
    whole, listed, tensor = logits.copy(), logits.copy(), torch.from_numpy(logits.copy())
    prc.start(rng=1).apply([[3, 4]], whole)
    order = np.random.default_rng(1).permutation(1024)
    columns = np.ascontiguousarray(listed[:, order])
    prc.start(rng=1).apply([[3, 4]], columns, candidates=order)
    prc.start(rng=1).apply([[3, 4]], tensor)
    assert np.allclose(columns, whole[:, order], atol=1e-4)
    assert np.array_equal(tensor.numpy(), whole)
    assert not np.array_equal(whole, logits)


def test_excluded_tokens_stay_excluded_and_bad_rows_are_refused(prc):
    logits = np.full((1, 1024), -np.inf, np.float32)
    logits[0, 17] = 3
    prc.start().apply([[1]], logits)
    assert np.flatnonzero(np.isfinite(logits)).tolist() == [17]
    for bad in (np.nan, np.inf):
        row = np.zeros((1, 1024), np.float32)
        row[0, 5] = bad
        with pytest.raises(MediaError, match="not finite"):
            prc.start().apply([[1]], row)
    with pytest.raises(MediaError, match="exclude every token"):
        prc.start().apply([[1]], np.full((1, 1024), -np.inf, np.float32))


def test_security_is_stated_for_the_parameters(key):
    strength = [watermark.load("llm.prc", key, vocab_size=9, t=t).security_bits for t in (3, 4, 8)]
    assert strength[0] == watermark.load("llm.prc", key, vocab_size=9).info.security_bits == 9
    assert strength == sorted(strength)


@pytest.mark.parametrize(
    "parameters",
    [{"block": 63}, {"bits": 0}, {"bits": 9}, {"shift": -1}, {"t": 2}, {"t": 9}, {"payload_bits": 680}, {"block": 64}],
)
def test_bad_parameters(key, parameters):
    with pytest.raises(ParameterError):
        watermark.load("llm.prc", key, vocab_size=1024, **parameters)
