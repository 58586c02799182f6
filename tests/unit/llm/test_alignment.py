from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

import watermark
from watermark import BudgetError, Key, MediaError, ParameterError, ThresholdError
from watermark.llm.alignment import Blocks
from watermark.ops.alignment import CELLS
from watermark.reference import SyntheticLanguage

LANGUAGE = SyntheticLanguage(1024, 4.0)
NAMES = ["llm.exp", "llm.its"]


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def a_key(number: int) -> Key:
    return Key.from_bytes(hashlib.sha256(f"alignment/{number}".encode()).digest())


def load(name: str, number: int = 1, **parameters):
    return watermark.load(name, a_key(number), **{"vocab_size": 1024, **parameters})


def edited(text: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """This share of the tokens replaced, deleted, or joined by a random one, at random."""
    out = []
    chosen = set(rng.choice(len(text), round(share * len(text)), replace=False).tolist())
    for i, token in enumerate(text):
        kind = rng.integers(3) if i in chosen else -1
        out += [] if kind in (0, 1) else [token]
        out += [rng.integers(1024)] if kind in (0, 2) else []
    return np.array(out)


@pytest.mark.parametrize(
    ("name", "tokens", "at_most"),
    [("llm.exp", 60, -40), ("llm.exp", 256, -200), ("llm.its", 60, -9), ("llm.its", 256, -60)],
)
def test_marked_texts_are_found(name, tokens, at_most):
    scheme = load(name)
    for found in scheme.detect_batch(LANGUAGE.write(4, tokens, scheme, seed=1)):
        assert found.log10_p < at_most
        assert found.details["draws"] == 0  # they could not change the verdict
        assert np.isfinite(found.details["token_scores"]).all()
        assert found.details["token_scores"].mean() == pytest.approx(found.score, rel=1e-5)


@pytest.mark.parametrize(("name", "tokens"), [("llm.exp", 35), ("llm.its", 120)])
def test_edits_are_survived(name, tokens):
    scheme, rng = load(name, draws=499), np.random.default_rng(1)
    texts = [edited(text, 0.4, rng) for text in LANGUAGE.write(20, tokens, scheme, seed=1)]
    assert (scheme.detect_batch(texts).p_value <= 0.01).sum() >= 16
    assert (load(name, 2).detect_batch(texts).p_value > 0.01).sum() >= 16


def test_an_insertion_does_not_cut_the_alignment():
    scheme = load("llm.exp")
    text = LANGUAGE.write(1, 40, scheme, seed=1)[0]
    whole, grown = scheme.detect(text), scheme.detect(np.insert(text, 20, [1, 2, 3]))
    assert 0 <= whole.details["offset"] - grown.details["offset"] <= 3
    assert whole.log10_p < grown.log10_p < -3
    assert whole.details["unedited_log10_p"] < 0.7 * grown.details["unedited_log10_p"]
    kept = np.delete(grown.details["token_scores"], [20, 21, 22])
    assert (np.abs(kept - whole.details["token_scores"]) < 0.02).mean() > 0.8


def test_over_keys_a_text_has_the_models_law(name):
    """Chi-square of two successive tokens over 6,000 keys, at 99.99 %. The benchmark takes 10^6."""
    first, second = np.array([0.5, 0.3, 0.15, 0.05]), np.array([[0.7, 0.1, 0.1, 0.1], [0.25] * 4] * 2)
    counts, keys = np.zeros((4, 4)), 6000
    for number in range(keys):
        generation = load(name, number, vocab_size=4, key_length=3).start(rng=number)
        a = int(np.argmax(generation.apply([], np.log(first).astype(np.float32))))
        b = int(np.argmax(generation.apply([a], np.log(second[a]).astype(np.float32))))
        counts[a, b] += 1
    expected = keys * first[:, None] * second
    assert ((counts - expected) ** 2 / expected).sum() < 44.3  # 15 degrees of freedom


def test_offsets_are_uniform(name):
    """Chi-square of the offsets of 2,000 texts, at 99.99 %."""
    scheme = load(name, key_length=8)
    generation = scheme.start(rng=1)
    generation.apply(np.zeros((2000, 1), np.int64), np.zeros((2000, 1024), np.float32))
    counts = np.bincount([slot.private["offset"] for slot in generation._slots], minlength=8)
    assert ((counts - 250) ** 2 / 250).sum() < 29.9


def test_the_key_chooses_and_the_prompt_does_not_enter(name):
    scheme = load(name, key_length=1)  # one row: the offset does not matter
    rows = [scheme.start().apply(prompt, LANGUAGE.logits(np.array([[1, 2]]))[0]) for prompt in ([], [5], [7, 8, 9])]
    assert len({int(row.argmax()) for row in rows}) == 1
    assert all((row.max(), np.isneginf(row).sum()) == (0, 1023) for row in rows)


def test_candidates_are_columns_of_the_same_choice(name):
    scheme = load(name, key_length=1)
    row = LANGUAGE.logits(np.array([[1, 2]]))[0]
    chosen = int(scheme.start().apply([], row.copy()).argmax())
    order = np.random.default_rng(1).permutation(1024)
    assert order[scheme.start().apply([], row[order], candidates=order).argmax()] == chosen
    lines = scheme.start().apply([[], []], np.stack([row, row[order]]), candidates=np.stack([np.arange(1024), order]))
    assert [int(lines[0].argmax()), int(order[lines[1].argmax()])] == [chosen, chosen]


def test_its_inverts_the_distribution():
    scheme = load("llm.its", vocab_size=6, key_length=1)
    tables, p = scheme._tables[0], np.array([0.3, 0.0, 0.2, 0.1, 0.25, 0.15])
    with np.errstate(divide="ignore"):
        row = np.log(p).astype(np.float32)
    for u in (0.0, 0.2, 0.5, 0.77, 1 - 2**-53):
        tables.numbers[0] = u
        chosen = int(scheme.start().apply([], row.copy()).argmax())
        until = np.cumsum(p[tables.order])
        place = tables.places[chosen]
        assert p[chosen] > 0
        assert until[place] - p[chosen] <= u + 1e-6 <= until[place] + 2e-6


def test_a_text_ends_with_the_key(name):
    scheme = load(name, key_length=5)
    generation = scheme.start()
    context = [9, 9]
    for _ in range(5):
        context.append(int(generation.apply(context, np.zeros(1024, np.float32)).argmax()))
    assert scheme.detect(context[2:]).n == 5
    row = np.zeros(1024, np.float32)
    with pytest.raises(BudgetError, match="5 tokens"):
        generation.apply(context, row)
    assert not row.any()
    generation.reset(0)
    generation.apply(context, row)


def test_a_beam_keeps_its_offset(name):
    generation = load(name).start(rng=1)
    generation.apply([[], []], np.zeros((2, 1024), np.float32))
    offsets = [slot.private["offset"] for slot in generation._slots]
    generation.reorder([1, 1])
    assert [slot.private["offset"] for slot in generation._slots] == [offsets[1], offsets[1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_allow_no_choice(name, bad):
    row = np.full(1024, -np.inf, np.float32)
    row[:3] = bad
    with pytest.raises(MediaError, match="not finite"):
        load(name).start().apply([], row)


@pytest.mark.parametrize("text", [np.arange(20), np.zeros(20, np.int64), np.tile([3, 3, 7], 7)])
def test_bounds_for_unedited_texts(name, text):
    """(A) of the statistics: at most the 99.9 % limit of 3,000 keys, whatever the text repeats."""
    found = []
    for number in range(3000):
        scheme = load(name, number, vocab_size=64, key_length=32)
        tables, blocks = scheme._tables[0], scheme._blocks(text)
        found.append(scheme._log_unedited(tables, scheme._cells(tables, blocks.kinds), blocks))
    for alpha, limit in ((0.1, 352), (0.01, 48), (0.001, 9)):
        assert (np.array(found) <= math.log(alpha)).sum() <= limit


def test_the_bound_of_its_is_chernoffs():
    scheme = load("llm.its", vocab_size=4, key_length=3)
    tables = scheme._tables[0]
    blocks = scheme._blocks(np.array([0, 2, 2]))
    cells = scheme._cells(tables, blocks.kinds)
    shares = cells / CELLS
    distances = np.abs(scheme._fractions(tables, blocks.kinds)[:, None] - np.arange(CELLS)) / CELLS
    least = min(sum(shares[k, (j + t) % 3] for t, k in enumerate(blocks.tokens)) for j in range(3))
    slopes = np.geomspace(0.5, 2048, 73)
    logs = np.array([np.log(np.exp(-slope * distances).mean(axis=1))[blocks.tokens].sum() for slope in slopes])
    expected = float((logs + slopes * least).min()) + math.log(3)
    assert scheme._log_unedited(tables, cells, blocks) == pytest.approx(expected)


def test_sums_without_edits():
    blocks = Blocks(np.array([4, 9]), np.array([1, 0, 1], np.int32), np.array([0, 1], np.int32), 2)
    values = np.arange(10.0).reshape(2, 5) ** 2
    expected = [[values[a, j] + values[b, (j + 1) % 5] for j in range(5)] for a, b in ((1, 0), (0, 1))]
    assert np.array_equal(blocks.sums(values), expected)


def test_random_keys_stop_early_and_come_back(name):
    scheme = load(name)
    text = LANGUAGE.write(1, 35, seed=1)[0]
    found = scheme.detect(text)
    assert found.p_value == pytest.approx(10 / found.details["draws"] / (1 - 2**-10))
    assert found.details["edited_log10_p"] == pytest.approx(math.log10(10 / found.details["draws"]))
    assert scheme.detect(text) == found
    other = scheme.detect(text[::-1].copy())
    assert other.details["draws"] != found.details["draws"]


def test_blocks(name):
    scheme, text = load(name, key_length=64), LANGUAGE.write(1, 200, seed=1)[0]
    assert scheme._blocks(text).starts.tolist() == [0, 50, 100, 150]
    assert scheme._blocks(text[:64]).starts.tolist() == [0]
    assert scheme._blocks(text[:65]).starts.tolist() == [0, 32]
    assert scheme._blocks(text[:65]).length == 33
    for length in (5, 250):
        own = load(name, key_length=64, block=length)._blocks(text)
        assert (own.length, len(own.starts)) == ((5, 196) if length == 5 else (200, 1))


def test_a_marked_part_of_a_longer_text(name):
    scheme = load(name, key_length=64)
    marked = LANGUAGE.write(1, 64, scheme, seed=1)[0]
    clean = LANGUAGE.write(1, 300, seed=2)[0]
    found = scheme.detect(np.concatenate([clean[:128], marked, clean[128:]]))
    assert found.p_value < 1e-3
    assert 100 <= found.details["start"] <= 192
    assert np.isnan(found.details["token_scores"][:100]).all()


def test_a_block_beyond_the_key_has_no_bound(name):
    scheme = load(name, key_length=16, block=40, draws=99)
    found = scheme.detect(LANGUAGE.write(1, 50, seed=1)[0])
    assert found.details["p_floor"] == pytest.approx(0.01)
    assert "unedited_log10_p" not in found.details
    with pytest.raises(ThresholdError):
        found.detected(1e-6)


def test_texts_of_no_and_few_tokens(name):
    scheme = load(name)
    nothing = scheme.detect([])
    assert (nothing.p_value, nothing.n, nothing.score) == (1.0, 0, 0.0)
    assert scheme.detect([5]).n == 1


def test_texts_that_take_too_long(name):
    with pytest.raises(MediaError, match="32768"):
        load(name).detect(np.zeros(32769, np.int64))


@pytest.mark.parametrize(
    "change",
    [
        {"key_length": 0},
        {"key_length": 4097},
        {"gap": -0.1},
        {"gap": 8},
        {"gap": np.nan},
        {"block": 0},
        {"block": 1025},
        {"draws": 98},
        {"draws": 10**7 + 1},
        {"vocab_size": 1},
    ],
)
def test_bad_parameters(name, change):
    with pytest.raises(ParameterError):
        load(name, **change)


def test_gaps(name):
    assert load(name, gap=1).parameters.gap == 1.0
    if name == "llm.its":
        with pytest.raises(ParameterError, match="gap"):
            load(name, gap=0)
