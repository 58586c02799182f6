from __future__ import annotations

import itertools

import numpy as np
import pytest

from watermark.ops import token
from watermark.ops._native import core
from watermark.ops.token import ALL_COLUMNS, PRFS, SITE, Function, Seeding, Texts, Value

ISAS = core.instruction_sets()
KEY = np.random.default_rng(1).integers(0, 2**32, 8, dtype=np.uint32)
LEFT_WIDTHS = (0, 1, 3, 4, 5, 9)


def texts(*lengths: int, vocabulary: int = 1000) -> Texts:
    rng = np.random.default_rng(lengths)
    return Texts.of([rng.integers(0, vocabulary, length) for length in lengths])


def functions() -> list[Function]:
    found = [Function(prf, KEY, width) for prf in range(len(PRFS)) for width in LEFT_WIDTHS]
    found += [Function(prf, KEY, 4, octets=True) for prf in range(2)]
    others = itertools.product(range(len(PRFS)), (1, 4), (Seeding.SKIP, Seeding.LEAST, Seeding.SELF))
    return found + [Function(prf, KEY, width, seeding) for prf, width, seeding in others]


def named(function: Function) -> str:
    return f"{PRFS[function.prf]}-{function.width}-{function.seeding.name}" + "-octets" * function.octets


def test_the_published_vector_of_philox4x32_10_v1():
    key = np.array([42, 0, 0, 0, 0, 0, 0, 0], np.uint32)
    function = Function(PRFS.index("philox4x32-10-v1"), key, 4)
    states = function.states(Texts.of([np.array([1, 2, 3, 4]), np.array([4, 5, 6, 7])]))
    expected = [[425429266, 2706218805], [2494036831, 3424185538]]
    assert function.words(states, 2, np.array([[7, 8]])).tolist() == expected
    assert function.words(states, 9)[:, 7:].tolist() == expected


def test_philox_known_answers():
    """Random123's kat_vectors: counter and key of all zeros, and of all ones."""
    assert [int(w[0]) for w in token._philox([0, 0, 0, 0], 0, 0)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert [int(w[0]) for w in token._philox([ones] * 4, ones, ones)] == [
        0x408F276D,
        0x41C83B0E,
        0xA20BC7C6,
        0x6D5451FD,
    ]


def test_known_answers():
    """Marks of earlier versions must stay readable."""
    found = []
    for prf in range(len(PRFS)):
        function = Function(prf, np.arange(8, dtype=np.uint32), 4)
        found.append(function.words(function.states(Texts.of([np.arange(5)])), 2).tolist())
    assert found == [[[575703208, 3856801926]], [[2702093779, 2385575821]], [[612933278, 2501825596]]]


@pytest.mark.parametrize("function", functions(), ids=named)
def test_words_agree_with_the_reference(function):
    some = texts(0, 2, 12)
    salt = np.array([[7, -3]]) if function.seeding != Seeding.SELF else np.zeros((1, 0), np.int64)
    candidates = np.array([[0, 1, 5, 127, 128, 999, 131071, 3, 77]])
    for i in range(len(some)):
        expected = token.words_reference(function, some[i].tolist(), candidates[0], salt[0].tolist())
        finished = Texts.of([np.append(some[i], v) for v in candidates[0]])
        words, _ = function.read(finished, by_context=False, salt=salt)
        assert words[finished.end - 1].tolist() == expected.tolist()
        if function.seeding != Seeding.SELF:
            states = function.states(Texts.of([some[i]]), salt)
            assert function.words(states, 9, candidates)[0].tolist() == expected.tolist()


@pytest.mark.parametrize("prf", range(len(PRFS)), ids=PRFS)
@pytest.mark.parametrize("octets", [False, True])
@pytest.mark.parametrize("columns", [1, 7, 8, 33, 127, 128, 129, 1000])
def test_rows_are_what_their_columns_are(prf, octets, columns):
    function = Function(prf, KEY, 2, octets=octets and PRFS[prf] != "sbw")
    states = function.states(texts(5, 6))
    rows = function.words(states, columns)
    listed = function.words(states, columns, np.arange(columns)[None])
    assert np.array_equal(rows, listed)
    assert np.array_equal(rows[0], token.words_reference(function, texts(5, 6)[0].tolist(), np.arange(columns)))


@pytest.mark.parametrize("function", functions(), ids=named)
def test_a_text_is_read_token_by_token(function):
    text = texts(21)[0]
    words, counts = function.read(Texts.of([text[:0], text, text[:3]]), by_context=False)
    for t in range(len(text)):
        assert words[t] == token.words_reference(function, text[:t].tolist(), text[t : t + 1])[0]
    assert words[len(text) :].tolist() == words[:3].tolist()
    assert counts.all() or PRFS[function.prf] == "sbw"  # which has sums of nothing


def test_units_and_contexts_count_once():
    text = np.array([1, 2, 3, 1, 2, 4, 1, 2, 3])
    function = Function(0, KEY, 2)
    both = [function.read(Texts.of([text, text]), by_context=by_context)[1] for by_context in (False, True)]
    # Contexts: (-,-) (-,1) (1,2) (2,3) (3,1) (1,2) (2,4) (4,1) (1,2).
    assert both[0].tolist() == 2 * [1, 1, 1, 1, 1, 1, 1, 1, 0]
    assert both[1].tolist() == 2 * [1, 1, 1, 1, 1, 0, 1, 1, 0]


def test_least_seeding_counts_its_input_and_not_its_context():
    """Contexts with the same least token are one input: pairs of context and token would count twice."""
    function = Function(0, KEY, 3, Seeding.LEAST)
    rng = np.random.default_rng(1)
    text = rng.integers(0, 5, 400)
    words, counts = function.read(Texts.of([text]), by_context=False)
    assert len({(int(w), int(t)) for w, t in zip(words, text, strict=True)}) == counts.sum()


def test_what_is_the_same_for_all_keys_does_not_count():
    """SBW multiplies the key with the sum of the context: whoever puts token 0 before another knows its list."""
    words, counts = Function(PRFS.index("sbw"), KEY, 1).read(Texts.of([np.array([0, 5, 0, 6, 7])]), by_context=False)
    assert counts.tolist() == [True, False, True, False, True]
    other = Function(PRFS.index("sbw"), KEY + np.uint32(2), 1).read(
        Texts.of([np.array([0, 5, 0, 6, 7])]), by_context=False
    )
    assert (other[0] == words).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("function", [f for f in functions() if f.seeding != Seeding.SELF], ids=named)
def test_sites_depend_on_the_context_alone(function):
    text = texts(21)[0]
    found = function.read_colours(Texts.of([text[:0], text]))
    plain = function.read(Texts.of([text]), by_context=False)
    assert np.array_equal(found.words, plain[:1])
    assert np.array_equal(found.counts, plain[1])
    for t in range(len(text)):
        assert found.sites[t] == token.words_reference(function, text[:t].tolist(), np.array([SITE]))[0]
    states = function.states(Texts.of([text]))
    expected = token.words_reference(function, text.tolist(), np.array([SITE]))
    assert np.array_equal(function.words(states, 1, np.array([[SITE]]))[0], expected)


VALUES = [
    (Value.BELOW, 2**31),
    (Value.BELOW, 0),
    (Value.ONES, 2**32 - 1),
    (Value.ONES, 0x80000401),
    (Value.EXPONENTIAL, 0),
]


@pytest.mark.parametrize("function", functions(), ids=named)
@pytest.mark.parametrize("by_context", [False, True])
def test_scores_are_the_values_of_words_that_count(function, by_context):
    text = texts(13)[0]
    some = Texts.of([text[:0], np.tile(text, 3), text[:1], text])
    words, counts = function.read(some, by_context=by_context)
    assert counts.any() or named(function).startswith("sbw-0")  # which has no context
    assert not counts.all()
    for value, parameter in VALUES:
        scores = function.score(some, value, parameter, by_context=by_context)
        expected = np.where(counts, token.values_reference(words, value, parameter), np.nan)
        np.testing.assert_array_max_ulp(scores.tokens[counts], expected[counts].astype(np.float32), 1)
        assert np.array_equal(np.isnan(scores.tokens), ~counts)
        parts = [expected[begin:end] for begin, end in zip(some.begin, some.end, strict=True)]
        assert scores.units == [np.count_nonzero(~np.isnan(part)) for part in parts]
        np.testing.assert_allclose(scores.totals, [np.nansum(part) for part in parts], rtol=1e-12)


def test_values_of_words():
    """The uniform number of a word is above 0 and below 1, also at the ends."""
    words = np.array([0, 255, 256, 2**31, 2**32 - 1], np.uint32)
    uniform = (np.array([0, 0, 1, 2**23, 2**24 - 1]) + 1) / (2**24 + 1)
    found = token.values_reference(words, Value.EXPONENTIAL)
    np.testing.assert_allclose(found, -np.log1p(-uniform), rtol=1e-8)
    assert token.values_reference(words, Value.ONES, 0x80000001).tolist() == [0, 1, 0, 1, 2]
    assert token.values_reference(words, Value.BELOW, 256).tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("seedings", [1, 4])
@pytest.mark.parametrize(("sites", "colours"), [(1, 64), (64, 4), (2**14, 8), (2, 1)])
def test_tables_and_tallies_of_colours(seedings, sites, colours):
    rng = np.random.default_rng(seedings)
    words = rng.integers(0, 2**32, (seedings + 1, 50), dtype=np.uint32)
    words[:, :2] = 0, 2**32 - 1
    counts = rng.random(50) < 0.7
    counts[:2] = True
    rows = Texts.of([np.zeros(length, np.int64) for length in (20, 0, 29, 1)])
    coloured = token.Colouring(rows, words[0], words[1:], counts)
    table = coloured.table(sites, colours)
    assert np.array_equal(table, token.table_reference(coloured, sites, colours))
    assert np.array_equal(coloured[2:3].table(sites, colours), table[2:3])
    assert table[0, 0, 0, 0] > 0
    assert table[0, -1, -1, -1] > 0

    seeding, green = rng.integers(0, seedings, (4, sites)), rng.random((4, sites, colours)) < 0.5
    hits, units = token.tally(table, seeding, green)
    expected = token.tally_reference(table, seeding, green)
    assert np.array_equal(hits, expected[0])
    assert np.array_equal(units, expected[1])
    assert np.array_equal(token.tally(table[2:3], seeding, green)[0][2], hits[2])

    scores = np.empty(50, np.float32)
    coloured.score(seeding, green, scores)
    assert np.array_equal(np.isnan(scores), ~counts)
    parts = [scores[first:last] for first, last in zip(rows.begin, rows.end, strict=True)]
    assert [np.nansum(part) for part in parts] == hits.tolist()
    assert scores[0] == green[0, 0, 0]


def test_salts_follow_the_context():
    text, function = texts(21)[0], Function(1, KEY, 2)
    words, _ = function.read(Texts.of([text]), by_context=False, salt=np.array([[5, 9]]))
    for t in range(len(text)):
        assert words[t] == token.words_reference(function, text[:t].tolist(), text[t : t + 1], [5, 9])[0]


def test_tokens_of_a_vocabulary():
    for tokens, within in (([], True), ([0, 9], True), ([0, 10], False), ([3, -1], False), ([2**63 - 1], False)):
        assert token.within(np.array(tokens, np.int64), 10) == within
    assert token.within(np.array([2**63 - 2]), 2**63 - 1)
    for rows, distinct in (
        ([[0, 64, 127], [0, 64, 127]], True),
        ([[1, 2, 3], [64, 0, 64]], False),
        ([[1, 2, 3], [4, 5, 128]], False),
        ([[1, 2, -3]], False),
    ):
        assert token.distinct(np.array(rows), 128) == distinct


def test_repeated_contexts():
    text = np.array([1, 2, 3, 1, 2])
    prefixes = Texts.of([text[:n] for n in range(6)])
    assert token.repeated(prefixes, 2).tolist() == [False, False, False, False, False, True]
    assert token.repeated(prefixes, 1).tolist() == [False, False, False, False, True, True]
    assert token.repeated(prefixes, 0).tolist() == [False, True, True, True, True, True]


@pytest.mark.parametrize("function", [f for f in functions() if f.width == 4 and f.seeding == Seeding.LEFT], ids=named)
@pytest.mark.parametrize("columns", [1, 9, 300, 1030])
@pytest.mark.parametrize("hard", [False, True])
def test_bias(function, columns, hard):
    rng, below, some = np.random.default_rng(columns), 64 if function.octets else 2**30, texts(3, 4)
    states = function.states(some)
    wide = rng.standard_normal((2, columns + 5)).astype(np.float32)
    logits = wide[:, :columns]  # rows with a gap between them
    green = function.words(states, columns) < below
    expected = np.where(green, logits, -np.inf) if hard else logits + np.float32(2) * green
    rest = wide[:, columns:].copy()
    token.bias(function, some, logits, below, 2.0, hard=hard)
    assert np.array_equal(logits, expected)
    assert np.array_equal(wide[:, columns:], rest)


@pytest.mark.parametrize("prf", range(len(PRFS)), ids=PRFS)
@pytest.mark.parametrize("columns", [1, 9, 300])
@pytest.mark.parametrize("colours", [1, 4, 33, 64])
def test_bias_of_colours(prf, columns, colours):
    function, rng = Function(prf, KEY, 1), np.random.default_rng(columns)
    states = function.states(texts(3, 4))
    wide = rng.standard_normal((2, columns + 5)).astype(np.float32)
    logits, rest = wide[:, :columns], wide[:, columns:].copy()  # rows with a gap between them
    masks = rng.integers(0, 2**64, 2, dtype=np.uint64)
    colour = function.words(states, columns).astype(np.uint64) * np.uint64(colours) >> np.uint64(32)
    green = (masks[:, None] >> colour & np.uint64(1)).astype(bool)
    expected = logits + np.float32(2) * green
    listed = logits.copy()
    token.bias_colours(function, states, logits, masks, colours, 2.0)
    token.bias_colours(function, states, listed, masks, colours, 2.0, np.arange(columns)[None])
    assert np.array_equal(logits, expected)
    assert np.array_equal(listed, expected)
    assert np.array_equal(wide[:, columns:], rest)


@pytest.mark.parametrize("prf", range(len(PRFS)), ids=PRFS)
@pytest.mark.parametrize("top", [None, 1, 10, 40])
@pytest.mark.parametrize("columns", [40, 203])
def test_bias_of_seeding_self(prf, top, columns):
    function, rng = Function(prf, KEY, 4, Seeding.SELF), np.random.default_rng(3)
    some = texts(3, 8)
    logits = np.round(rng.standard_normal((2, columns)), 1).astype(np.float32)  # with ties
    expected = logits.copy()
    for i, row in enumerate(expected):
        chosen = np.argsort(-row, kind="stable")[:top]
        words = token.words_reference(function, some[i].tolist(), np.arange(columns))
        row[chosen] += np.where(words[chosen] < 2**31, np.float32(1.5), np.float32(0))
    token.bias(function, some, logits, 2**31, 1.5, top=top)
    assert np.array_equal(logits, expected)


@pytest.mark.parametrize("columns", [1, 5, 8, 200, 4096])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_gumbel_columns(columns, spread):
    rng = np.random.default_rng(columns)
    for prf in range(len(PRFS)):
        function = Function(prf, KEY, 1)
        states = function.states(texts(*range(1, 30)))
        logits = (spread * rng.standard_normal((29, columns))).astype(np.float32)
        logits[:, : columns // 3] = -np.inf
        words = function.words(states, columns)
        expected = [token.gumbel_column_reference(w, row) for w, row in zip(words, logits, strict=True)]
        assert token.gumbel_columns(function, states, logits).tolist() == expected


def test_gumbel_columns_of_bad_rows():
    function = Function(0, KEY, 1)
    states = function.states(texts(1, 1, 1, 1))
    logits = np.zeros((4, 20), np.float32)
    logits[0, 3], logits[1, 19], logits[2] = np.nan, np.inf, -np.inf
    found = token.gumbel_columns(function, states, logits)
    assert found[:3].tolist() == [-1, -1, -1]
    assert found[3] >= 0


@pytest.mark.parametrize("columns", [1, 5, 8, 1000, 3000])
@pytest.mark.parametrize("depth", [1, 2, 3, 30, 32, 33, 64])
def test_tournament(columns, depth):
    rng = np.random.default_rng(depth)
    logits = (2 * rng.standard_normal((2, columns))).astype(np.float32)
    logits[1, columns // 2 + 1 :] = -np.inf
    words = rng.integers(0, 2**32, (2, 2 if depth > 32 else 1, columns), dtype=np.uint32)
    before = np.exp(logits.astype(float))
    expected = [token.tournament_reference(w, depth, row) for w, row in zip(words, logits, strict=True)]
    assert token.tournament_of_words(words, depth, logits).all()
    total = before.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(logits.astype(float)) / total, np.exp(expected) / total, rtol=3e-5, atol=1e-9)
    np.testing.assert_allclose(np.exp(logits.astype(float)).sum(axis=1), total[:, 0], rtol=1e-4)


@pytest.mark.parametrize("columns", [1, 8, 511, 512, 1029])
@pytest.mark.parametrize("prf", range(len(PRFS)), ids=PRFS)
def test_a_tournament_has_the_words_of_its_function(columns, prf):
    rng, function = np.random.default_rng(columns), Function(prf, KEY, 2)
    states, candidates = function.states(texts(5, 6, 7)), rng.permutation(5000)[None, :columns]
    for listed in (ALL_COLUMNS, candidates):
        logits = rng.standard_normal((3, columns + 4)).astype(np.float32)[:, :columns]  # rows with a gap between them
        logits[1, 0] = np.nan
        expected = logits.copy()
        done = token.tournament_of_words(function.words(states, columns, listed)[:, None], 30, expected)
        assert token.tournament(function, states, 30, logits, listed).tolist() == done.tolist() == [True, False, True]
        assert np.array_equal(logits, expected, equal_nan=True)


@pytest.mark.parametrize("columns", [1, 5, 8, 1000, 3000])
@pytest.mark.parametrize("alpha", [0.1, 0.45, 0.5])
def test_reweight(columns, alpha):
    rng = np.random.default_rng(columns)
    logits = (2 * rng.standard_normal((3, columns))).astype(np.float32)
    logits[1, columns // 2 + 1 :] = -np.inf
    logits[2, 0] += 20
    words = rng.integers(0, 2**32, (3, 1, columns), dtype=np.uint32)
    expected = [token.reweight_reference(w[0], alpha, row) for w, row in zip(words, logits, strict=True)]
    total = np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True)
    assert token.reweight(words, alpha, logits).all()
    np.testing.assert_allclose(np.exp(logits.astype(np.float64)) / total, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", [token.tournament_of_words, token.reweight])
def test_bad_rows_stay(kernel):
    logits = np.zeros((3, 8), np.float32)
    logits[0, 1], logits[1] = np.nan, -np.inf
    before = logits.copy()
    assert kernel(np.zeros((3, 1, 8), np.uint32), 0.5 if kernel is token.reweight else 4, logits).tolist() == [0, 0, 1]
    assert np.array_equal(logits[:2], before[:2], equal_nan=True)


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_gives_the_same_bits(isa):
    rng = np.random.default_rng(9)
    logits = (3 * rng.standard_normal((1, 1003))).astype(np.float32)
    some = texts(30)
    for prf in range(len(PRFS)):
        function = Function(prf, KEY, 4)
        states, words = function.states(some), function.words(function.states(some), 1003)
        mine = np.empty_like(states)
        core.token_states(some.tokens, some.begin, some.end, prf, 0, 4, token.NO_SALT, KEY, mine, isa)
        assert np.array_equal(mine, states)
        mine = np.empty_like(words)
        core.token_words(prf, KEY, states, ALL_COLUMNS, mine, isa)
        assert np.array_equal(mine, words)
        padded = np.pad(words, ((0, 0), (0, 5)))[:, None]
        done = np.empty(1, np.uint8)
        for name, setting in (("tournament_of_words", 30), ("reweight", 0.4)):
            first, second = logits.copy(), logits.copy()
            getattr(token, name)(padded, setting, first)
            getattr(core, name)(padded, setting, second, done, isa)
            assert np.array_equal(first, second)
        first, second = logits.copy(), logits.copy()
        token.tournament(function, states, 32, first)
        core.tournament(prf, KEY, states, second, ALL_COLUMNS, 32, done, isa)
        assert np.array_equal(first, second)
        for seeding in (Seeding.LEFT, Seeding.SELF):
            first, second = logits.copy(), logits.copy()
            token.bias(Function(prf, KEY, 4, seeding), some, first, 2**31, 1.5, top=45)
            where = some.tokens, some.begin, some.end, prf, seeding, 4, KEY
            core.bias_logits(*where, second, ALL_COLUMNS, 2**31, 1.5, False, 45, isa)
            assert np.array_equal(first, second)
        masks, first, second = np.array([0x0123456789ABCDEF], np.uint64), logits.copy(), logits.copy()
        token.bias_colours(function, states, first, masks, 64, 1.5)
        core.bias_colours(prf, KEY, states, second, ALL_COLUMNS, masks, 64, 1.5, isa)
        assert np.array_equal(first, second)
        read, counted = function.read(some, by_context=False)
        sites = function.read_colours(some).sites
        mine, flags, places = np.empty_like(read), np.empty(30, np.uint8), np.empty_like(sites)
        core.read_texts(
            some.tokens, some.begin, some.end, prf, 0, 4, token.NO_SALT, KEY, False, mine, flags, places, isa
        )
        assert np.array_equal([mine, places], [read, sites])
        assert np.array_equal(flags, counted)
        for value, parameter in VALUES:
            expected = function.score(some, value, parameter, by_context=True)
            mine, units, totals = np.empty_like(expected.tokens), np.empty(1, np.int64), np.empty(1)
            where = some.tokens, some.begin, some.end, prf, 0, 4, KEY
            core.score_texts(*where, True, value, parameter, mine, units, totals, isa)
            assert np.array_equal(mine, expected.tokens, equal_nan=True)
            assert (units.tolist(), totals.tolist()) == (expected.units, expected.totals)
        chosen = np.empty(1, np.int64)
        core.gumbel_columns(prf, KEY, states, logits, ALL_COLUMNS, chosen, isa)
        assert chosen == token.gumbel_columns(function, states, logits)
