from __future__ import annotations

import numpy as np
import pytest

from watermark.errors import ParameterError
from watermark.ops import foreign
from watermark.ops._native import core

SIZES = [1, 2, 3, 7, 9, 100, 623, 624, 625, 1249, 5000]
ISAS = core.instruction_sets()
RNG = np.random.default_rng(1)


def counts_of(n: int) -> list[int]:
    return sorted({0, 1, n // 4, n // 2, n - 1, n})


def bits(words: np.ndarray) -> np.ndarray:
    """Words of shape (planes, ...) as bits of shape (..., 32 planes)."""
    shifted = words[..., None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
    return np.concatenate(list(shifted), axis=-1)


def synthid(**changes):
    logits_process = pytest.importorskip("transformers.generation.logits_process")
    given = {
        "ngram_len": 5,
        "keys": [654, 400, 836, 123, -340, 2**62, 597, 160, 57],
        "sampling_table_size": 2**16,
        "sampling_table_seed": 0,
        "context_history_size": 1024,
        "device": "cpu",
    } | changes
    return logits_process.SynthIDTextWatermarkLogitsProcessor(**given)


def test_mt19937_knows_its_published_value():
    """The 10000th word of the default seed, as ISO C++ states it."""
    assert foreign.twister_words(5489, 10_000)[-1] == 4123659995


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("count", [0, 1, 623, 625, 3000])
def test_words_against_numpy(count, isa):
    out = np.empty(count, np.uint32)
    core.twister_stream(77, out, isa=isa)
    assert np.array_equal(out, foreign.twister_words_reference(77, count))
    assert np.array_equal(foreign.twister_words(2**32 + 77, count), out)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", SIZES)
def test_starts_of_permutations_against_numpy(n, isa, set_threads):
    set_threads(2)
    seeds = RNG.integers(0, 2**32, 20, dtype=np.uint32)
    for count in counts_of(n):
        tokens = RNG.integers(0, n, 20)
        expected = [foreign.permutation_start_reference(int(seed), n, count) for seed in seeds[:3]]
        for seed, entries in zip(seeds.tolist(), expected, strict=False):
            out = np.empty(n, np.uint32)
            core.permutation_start(seed, count, out, isa=isa)
            assert np.array_equal(out[:count], entries)
        placed = np.empty(20, np.uint8)
        core.in_permutation_start(seeds, n, count, tokens, placed, isa=isa)
        assert np.array_equal(placed.astype(bool), foreign.is_green_reference(seeds, tokens, n, count))
        rows = RNG.standard_normal((3, n + 5)).astype(np.float32)
        other = rows.copy()
        core.bias_permutation_start(seeds[:3].copy(), n, count, 2.5, rows, isa=isa)
        foreign.add_to_green_reference(other, seeds[:3], n, count, 2.5)
        assert np.array_equal(rows, other)


def test_tokens_outside_of_the_vocabulary_are_on_no_list():
    seeds = np.arange(40, dtype=np.uint32)
    for token in (-1, 10, 2**40):
        assert not foreign.is_green(seeds, np.full(40, token), 10, 10).any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("n", "count"), [(1, 1), (40, 40), (41, 40), (1003, 40), (1003, 1), (1003, 65)])
def test_highest_columns_against_numpy(n, count, isa):
    values = RNG.integers(0, 50, (4, n)).astype(np.float32)
    values[1] = np.arange(n)
    values[2] = -np.inf
    values[2, :: max(1, n // 7)] = 0
    values[3] = np.where(np.arange(n) % 2, 0.0, -0.0)
    out = np.empty((4, count), np.int64)
    core.highest_columns(values, out, isa=isa)
    assert np.array_equal(np.sort(out), np.sort(foreign.highest_columns_reference(values, count)))


@pytest.mark.parametrize("isa", ISAS)
def test_highest_columns_are_columns_whatever_the_numbers(isa):
    values = RNG.standard_normal((3, 500)).astype(np.float32)
    values[0, 40:] = np.nan
    values[1] = np.nan
    values[2, ::3] = np.nan
    out = np.full((3, 60), -1)
    core.highest_columns(values, out, isa=isa)
    assert all(len(set(row)) == 60 and 0 <= min(row) <= max(row) < 500 for row in out.tolist())


@pytest.mark.parametrize("n", [1, 2, 1000, 32_000, 128_256, 300_000])
def test_permutations_are_those_of_torch(n):
    torch = pytest.importorskip("torch")
    generator = torch.Generator()
    for seed in [0, 1, 2**32 - 1, 2**32, 2**64 - 2, *RNG.integers(0, 2**63, 20).tolist()]:
        expected = torch.randperm(n, generator=generator.manual_seed(seed)).numpy()
        assert np.array_equal(foreign.permutation_start(seed, n, n), expected)
        tokens = RNG.integers(0, n, 10)
        found = foreign.is_green(np.full(10, seed % 2**32, np.uint32), tokens, n, n // 4)
        assert np.array_equal(found, np.isin(tokens, expected[: n // 4]))


@pytest.mark.parametrize("key", [15485863, 0, 1, 2**63 + 12345, 2**64 - 2, 2**64 - 1, -7, -(2**63), 2**200 + 99])
def test_lefthash_seeds_against_whole_numbers(key):
    tokens = np.array([0, 1, 2, 50256, 128255, 2**31, 2**32 - 1])
    expected = [(key * token) % (2**64 - 1) % 2**32 for token in tokens.tolist()]
    assert foreign.lefthash_seeds(key, tokens).tolist() == expected


def test_lefthash_seeds_of_products_that_are_multiples_of_the_limit():
    limit = 2**64 - 1
    for token in (3, 5, 17, 257, 641, 65537, 6700417):
        assert foreign.lefthash_seeds(limit // token, np.array([token])).tolist() == [0]


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
@pytest.mark.parametrize(
    ("vocab", "ratio", "width", "key"),
    [(32_000, 0.25, 1, 15485863), (1000, 0.5, 4, 2**61 + 3), (128_256, 0.1, 3, -99), (41, 0.9, 2, 0)],
)
def test_green_lists_are_those_of_transformers(scheme, vocab, ratio, width, key):
    logits_process = pytest.importorskip("transformers.generation.logits_process")
    torch = pytest.importorskip("torch")
    peer = logits_process.WatermarkLogitsProcessor(
        vocab, "cpu", greenlist_ratio=ratio, hashing_key=key, seeding_scheme=scheme, context_width=width
    )
    table, size = foreign.selfhash_table(key), int(vocab * ratio)
    texts = RNG.integers(0, vocab, (6, 12))
    logits = RNG.permutation(vocab * 6).reshape(6, vocab).astype(np.float32)
    expected = peer(torch.from_numpy(texts), torch.from_numpy(logits)).numpy()
    if scheme == "lefthash":
        seeds = foreign.lefthash_seeds(key, texts[:, -1])
        foreign.add_to_green(logits, seeds, vocab, size, 2.0)
    else:
        assert np.array_equal(table - 1, peer.fixed_table.numpy())
        candidates = foreign.highest_columns(logits, foreign.CANDIDATES)
        for row, text, chosen in zip(logits, texts, candidates, strict=True):
            context = np.broadcast_to(text[len(text) - width + 1 :], (len(chosen), width - 1))
            seeds = foreign.selfhash_seeds(key, table, np.concatenate([context, chosen[:, None]], axis=1))
            row[chosen[foreign.is_green(seeds, chosen, vocab, size)]] += np.float32(2)
    assert np.array_equal(logits, expected)


@pytest.mark.parametrize("size", [2**16, 2**10, 1, 1000, 65_521])
@pytest.mark.parametrize("keys", [9, 30, 33, 64])
def test_g_values_are_those_of_transformers(size, keys):
    torch = pytest.importorskip("torch")
    keys = RNG.integers(-(2**63), 2**63 - 1, keys).tolist()
    peer = synthid(keys=keys, sampling_table_size=size, sampling_table_seed=3)
    text = RNG.integers(0, 300_000, (3, 40))
    expected = peer.compute_g_values(torch.from_numpy(text)).numpy()
    table = foreign.SynthIdTable(keys, size, 3)
    windows = np.lib.stride_tricks.sliding_window_view(text, 5, axis=1)
    words = table.g_values(foreign.context_hash(windows[..., :4]), windows[..., 4])
    assert np.array_equal(bits(words)[..., : len(keys)], expected)
    assert (table.words is None) == bool(size & size - 1)


@pytest.mark.parametrize("size", [2**16, 2**10, 1, 50_021])
def test_the_g_values_of_a_whole_vocabulary_are_those_of_transformers(size):
    torch = pytest.importorskip("torch")
    peer = synthid(sampling_table_size=size)
    context = RNG.integers(0, 1000, (1, 4))
    keys, hashed = peer._compute_keys(torch.from_numpy(context), torch.arange(70_000)[None])
    expected = peer.sample_g_values(keys)[0].numpy()
    assert foreign.context_hash(context).tolist() == hashed.tolist()
    table = foreign.SynthIdTable(peer.keys.tolist(), size, 0)
    assert np.array_equal(bits(table.vocabulary(int(hashed[0]), 70_000))[:, :9], expected)


def test_bad_arguments_are_refused():
    with pytest.raises(ParameterError, match="1 to 64 keys"):
        foreign.SynthIdTable([], 2**16, 0)
    with pytest.raises(ParameterError, match="1 to 64 keys"):
        foreign.SynthIdTable([1] * 65, 2**16, 0)
    with pytest.raises(ParameterError, match="entries"):
        foreign.SynthIdTable([1], 2**25, 0)
    seeds, tokens = np.zeros(2, np.uint32), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="count"):
        foreign.is_green(seeds, tokens, 10, 11)
    with pytest.raises(ValueError, match="2\\^27"):
        foreign.is_green(seeds, tokens, 2**28, 11)
    with pytest.raises(ValueError, match="one length"):
        foreign.is_green(seeds, tokens[:1], 10, 5)
    with pytest.raises(ValueError, match="column"):
        foreign.add_to_green(np.zeros((2, 9), np.float32), seeds, 10, 5, 1.0)
    with pytest.raises(ValueError, match="row"):
        foreign.add_to_green(np.zeros((3, 10), np.float32), seeds, 10, 5, 1.0)
    with pytest.raises(ValueError, match="columns"):
        foreign.highest_columns(np.zeros((2, 9), np.float32), 10)
