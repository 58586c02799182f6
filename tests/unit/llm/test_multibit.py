"""Multi-bit token marks: codes, green lists, exact laws, messages that come back and messages that do not."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

import watermark
from watermark import ParameterError
from watermark.ops.token import SITE, Texts, words_reference
from watermark.reference import SyntheticLanguage

LANGUAGE = SyntheticLanguage(1024, 4.0)
SCHEMES = ["llm.mpac", "llm.majormark", "llm.majormark_plus"]


def load(name, key, **parameters):
    return watermark.load(name, key, vocab_size=1024, **parameters)


@pytest.mark.parametrize("name", SCHEMES)
def test_marking_follows_the_definition(keys, name):
    """Site, seeding, colour and green list of every token, from the reference function of tokens."""
    scheme = load(name, keys(1), width=2)
    function, pad = scheme._tables[0]
    word = (scheme.code.encode(b"ab") ^ pad).tolist()
    generation = scheme.start(b"ab")
    context = [7, 8, 9, 10, 11]
    for _ in range(5):
        generation.reset(0)
        logits = generation.apply([3], np.zeros(1024, np.float32))  # a prompt is not seen
        logits = generation.apply([3, *context], np.zeros(1024, np.float32))
        site = int(words_reference(function, context, np.array([SITE]))[0]) * scheme.sites >> 32
        if name == "llm.mpac":
            digit, salt = 2 * word[site] + word[scheme.sites + site], ()
            green = [digit]
        else:
            symbols = word[site * scheme.colours : (site + 1) * scheme.colours]
            majority = int(2 * sum(symbols) > scheme.colours)
            green = [shard for shard, bit in enumerate(symbols) if bit == majority]
            assert scheme.colours // 2 < len(green) < scheme.colours
            salt = (majority,) if name == "llm.majormark" else (sum(symbols) // 2,)
        words = words_reference(function, context, np.arange(1024), salt)
        colours = words.astype(np.uint64) * np.uint64(scheme.colours) >> np.uint64(32)
        assert np.array_equal(logits, 2 * np.isin(colours, green).astype(np.float32))
        context = [context[-1] + 1, *context]


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize(("bits", "length"), [(1, 150), (10, 220), (23, 500), (24, 500), (32, 500)])
def test_messages_come_back(keys, name, bits, length):
    scheme = load(name, keys(2), payload_bits=bits)
    frame = scheme.frame
    last = b"\xff" * frame.max_bytes if frame.framed else (2**bits - 1).to_bytes(frame.max_bytes)
    sent = [bytes(frame.max_bytes), last]
    for found, message in zip(scheme.detect_batch(LANGUAGE.write(2, length, scheme, sent, seed=1)), sent, strict=True):
        assert (found.payload, found.payload_ok) == (message, True)
        assert found.detected(1e-6)
        assert found.details["bit_confidence"].shape == (frame.size,)
        assert found.details["bit_confidence"].min() > 0.9


@pytest.mark.parametrize("name", SCHEMES)
def test_edited_texts_keep_their_message(keys, name):
    scheme, rng = load(name, keys(3)), np.random.default_rng(1)
    texts = LANGUAGE.write(8, 400, scheme, b"no", seed=2)
    edited = np.where(rng.random(texts.shape) < 0.1, rng.integers(0, 1024, texts.shape), texts)
    found = scheme.detect_batch(edited)
    assert sum(payload == b"no" for payload in found.payload) >= 7
    assert not any(ok and payload != b"no" for ok, payload in zip(found.payload_ok, found.payload, strict=True))


@pytest.mark.parametrize("name", SCHEMES)
def test_the_p_value_is_that_of_the_best_message(keys, name):
    """M P(green >= observed), with the binomials of the message's green lists: enumerated here."""
    scheme = load(name, keys(4), payload_bits=4, delta=1.0)
    text = LANGUAGE.write(1, 60, scheme, b"\x05", seed=1)[0]
    found = scheme.detect(text)
    function, pad = scheme._tables[0]
    coloured = function.read_colours(Texts.of([text]))
    _, green = scheme._green((scheme.code.encode(found.payload) ^ pad)[None])
    sites = (coloured.sites.astype(np.uint64) * np.uint64(scheme.sites) >> np.uint64(32)).astype(int)
    rates = green[0].sum(axis=1)[sites]
    law = np.ones(1)
    for size in rates[coloured.counts]:
        law = np.convolve(law, [1 - size / scheme.colours, size / scheme.colours])
    expected = min(1.0, 16 * law[found.details["green"] :].sum())
    assert found.n == coloured.counts.sum()
    assert found.p_value == pytest.approx(expected, rel=1e-6)
    assert np.nansum(found.details["token_scores"]) == found.details["green"]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_message_that_is_in_doubt_is_not_vouched_for(keys, name):
    scheme = load(name, keys(5))
    lengths = [*range(10, 130, 10)]
    text = LANGUAGE.write(1, 250, scheme, b"hi", seed=3)[0]
    found = scheme.detect_batch([text[:length] for length in lengths])
    assert not found.payload_ok[0]
    assert all(payload == b"hi" for ok, payload in zip(found.payload_ok, found.payload, strict=True) if ok)
    assert scheme.detect(text).payload_ok


@pytest.mark.parametrize("name", ["llm.mpac", "llm.majormark_plus"])
def test_a_mark_is_seen_without_its_message(keys, name):
    """Where no checksum holds, p pays for all words of the code instead of the messages."""
    scheme = load(name, keys(6), payload_bits=32)
    text = LANGUAGE.write(1, 500, scheme, b"name", seed=1)[0]
    other = load(name, keys(6), payload_bits=32)
    broken = scheme.frame.encode(b"name")
    broken[-1] ^= 1
    inputs = np.zeros(scheme.code.symbols, np.uint8)
    inputs[scheme.code.information] = broken
    word = watermark.ops.polar.transform(inputs)
    other.code.encode = lambda payload: word
    text = LANGUAGE.write(1, 500, other, b"name", seed=1)[0]
    found = scheme.detect(text)
    assert found.detected(1e-6)
    assert (found.payload, found.payload_ok) == (None, False)


def test_words_of_majormark_have_a_majority(keys):
    rng = np.random.default_rng(1)
    for name, bits in (("llm.majormark", 16), ("llm.majormark", 32), ("llm.majormark_plus", 64)):
        scheme = load(name, keys(7), payload_bits=bits)
        words = np.stack([scheme.code.encode(rng.bytes(bits // 8)) ^ scheme._tables[0][1] for _ in range(200)])
        ones = words.reshape(200, -1, scheme.colours).sum(axis=2)
        assert (ones % 2 == 1).all()
        seeding, green = scheme._green(words)
        assert (2 * green.sum(axis=2) > scheme.colours).all()
        if name == "llm.majormark_plus":  # the seeding is the majority bit and its number
            pairs = {
                (int(s), int(n), int(o))
                for s, n, o in zip(seeding.flat, green.sum(axis=2).flat, ones.flat, strict=True)
            }
            assert pairs == {(0, 7, 1), (1, 5, 3), (2, 5, 5), (3, 7, 7)}


def test_sites_and_colours_are_even(keys):
    scheme = load("llm.majormark_plus", keys(8), width=4)
    text = np.random.default_rng(1).integers(0, 1024, 20_000)
    coloured = scheme._tables[0][0].read_colours(Texts.of([text]))
    words = zip((coloured.sites >> np.uint32(29)).tolist(), (coloured.words[0] >> np.uint32(29)).tolist(), strict=True)
    cells = Counter(words)
    chi = sum((count - 20_000 / 64) ** 2 / (20_000 / 64) for count in cells.values())
    assert len(cells) == 64
    assert abs(chi - 63) < 4 * math.sqrt(126)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("bad", [{"payload_bits": 0}, {"delta": 0}, {"width": 0}, {"width": 65}, {"prf": "sbw"}])
def test_bad_parameters(keys, name, bad):
    with pytest.raises(ParameterError):
        load(name, keys(1), **bad)


def test_majormark_has_a_shard_for_each_symbol(keys):
    assert load("llm.majormark", keys(1), payload_bits=32).colours == 64
    with pytest.raises(ParameterError, match="payload_bits"):
        load("llm.majormark", keys(1), payload_bits=33)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("payload_bits", [8, 32])
def test_texts_do_not_depend_on_those_beside_them(keys, name, payload_bits, monkeypatch):
    scheme = load(name, keys(10), payload_bits=payload_bits)
    marked = LANGUAGE.write(2, 250, scheme, b"\x07", seed=2)
    texts = [marked[0], [], LANGUAGE.write(1, 90, seed=3)[0], marked[1][:100], [5] * 40, marked[1]]
    alone = [scheme.detect(text) for text in texts]
    for cells in (1, 3 * scheme.sites * scheme.seedings * scheme.colours, 1 << 20):
        monkeypatch.setattr("watermark.llm.multibit._AT_ONCE", cells)
        together = scheme.detect_batch(texts)
        assert list(together) == alone
        for one, other in zip(together, alone, strict=True):
            for detail in ("token_scores", "bit_confidence"):
                assert np.array_equal(one.details[detail], other.details[detail], equal_nan=True)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("delta", [0.01, 900.0])
def test_evidence_stays_finite(keys, name, delta):
    """Hard marks, and texts so long that every doubt underflows."""
    scheme, rng = load(name, keys(9), delta=delta), np.random.default_rng(1)
    table = rng.integers(0, 100_000, (scheme.sites, scheme.seedings, scheme.colours))
    table[:, :, 0] = 0
    table[:, :, 1:] *= 2 * rng.integers(0, 2, table[:, :, 1:].shape)
    table[:, :, 0] = table.sum(axis=2).max() - table.sum(axis=2)  # as many units under each seeding
    soft = scheme._soft(table[None], 3.0)[0]
    assert np.isfinite(soft).all()
    decoded = scheme._decode(table, soft, scheme._tables[0][1], 3.0)
    assert 0 < decoded.weight <= 1
    if delta > 1:
        text = LANGUAGE.write(1, 200, scheme, b"ok", seed=1)[0]
        assert scheme.detect(text).payload == b"ok"
        assert np.mean(scheme.detect(text).details["token_scores"]) > 0.99 or scheme.detect(text).n < 200


@pytest.mark.parametrize("name", SCHEMES)
def test_no_text(keys, name):
    found = load(name, keys(10)).detect([])
    assert (found.p_value, found.n, found.payload_ok, found.score) == (1.0, 0, False, 0.0)
