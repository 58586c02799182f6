from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

import watermark
from watermark.errors import MediaError, ParameterError, PayloadError
from watermark.prc_code import Code, Reader, _too_close
from watermark.prf import Prf

SMALL = (4, 32, 32)


def noisy(z: np.ndarray, s: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(z.shape)
    return (math.sqrt(1 - s * s) * z + s * noise).astype(np.float32)


def code_words(code: Code, rows: int, seed: int = 0) -> np.ndarray:
    """Code words of random bits: what the signs are without flips and pad."""
    bits = np.random.default_rng(seed).integers(0, 2, (rows, code.information), dtype=np.uint8)
    signs = code.signs(bits, np.empty((rows, 0), np.uint32)) ^ code.pad
    return np.unpackbits(signs.view(np.uint8), axis=1, count=code.coordinates, bitorder="little")


@pytest.fixture(scope="module")
def prc():
    return watermark.load("latent.prc", watermark.Key.from_bytes(bytes(range(32))), shape=(4, 64, 64), payload_bits=512)


def test_a_long_message_through_strong_noise(prc):
    message = bytes(range(64))
    for s, wanted in (0.0, 8), (0.5, 8), (0.85, 8), (0.9, 8), (0.92, 7):
        found = prc.detect_batch(noisy(prc.sample_batch(8, message, rng=1), s))
        assert sum(payload == message for payload in found.payload) >= wanted, s
        assert (found.payload_ok == [payload is not None for payload in found.payload]).all()
        assert (found.log10_p[found.payload_ok] <= -16).all()


@pytest.mark.parametrize("payload_bits", [0, 1, 23, 24, 100, 256, 1000])
@pytest.mark.parametrize("t", [3, 4, 6, 8])
def test_messages_of_any_size(key, payload_bits, t):
    prc = watermark.load("latent.prc", key, shape=(4, 48, 48), payload_bits=payload_bits, t=t)
    longest = bytes([payload_bits and 1]) * prc._frame.max_bytes
    for message in {b"" if payload_bits >= 24 else bytes(prc._frame.max_bytes), longest}:
        found = prc.detect(noisy(prc.sample(message, rng=5), 0.3))
        assert (found.payload, found.payload_ok) == (message, True)
        assert found.detected(1e-9)
    with pytest.raises(PayloadError):
        prc.sample(bytes([255]) * (prc._frame.max_bytes + 1))


def test_samples_are_normal_and_never_repeat(prc):
    z = prc.sample_batch(40, b"same", rng=3).reshape(40, -1)
    assert z.mean() == pytest.approx(0, abs=5 / math.sqrt(z.size))
    assert z.var() == pytest.approx(1, abs=5 * math.sqrt(2 / z.size))
    agreement = np.sign(z) @ np.sign(z).T / z.shape[1]
    assert np.abs(agreement[np.triu_indices(40, 1)]).max() < 5 / math.sqrt(z.shape[1])
    assert np.abs(np.sign(z).mean(axis=0)).max() < 5.5 / math.sqrt(40)


def test_a_seed_that_was_published_tells_nothing_without_the_key(key, keys):
    mine, other = (watermark.load("latent.prc", k, shape=SMALL, payload_bits=64) for k in (key, keys(1)))
    z, same_seed = mine.sample(b"user 7", rng=5).ravel(), other.sample(b"user 7", rng=5).ravel()
    assert abs(np.corrcoef(np.abs(z), np.abs(same_seed))[0, 1]) < 0.1
    again = mine.sample(b"user 8", rng=5).ravel()  # the sizes are those of the seed, fresh bits and flips are not
    assert np.array_equal(np.abs(again), np.abs(z))
    assert 0.45 < np.mean(np.signbit(again) != np.signbit(z)) < 0.55


def test_the_operating_system_gives_fresh_noise(key):
    prc = watermark.load("latent.prc", key, shape=SMALL, payload_bits=24)
    assert not np.array_equal(prc.sample(b"a"), prc.sample(b"a"))


def test_code_words_fulfil_the_checks(prc):
    code = prc._tables[0][0].code
    words = code_words(code, 11)
    padded = np.concatenate([words, np.zeros((11, 1), np.uint8)], axis=1)
    assert not np.bitwise_xor.reduce(padded[:, code.outer], axis=2).any()
    assert not np.bitwise_xor.reduce(words[:, code.inner], axis=2).any()
    own = np.concatenate([code.outer[:, -1], code.inner[:, -1]])
    assert np.unique(own).size == own.size == code.coordinates - code.information


@pytest.mark.parametrize("t", [3, 4, 5, 6])
def test_checks_stay_apart_and_no_coordinate_repeats_another(t):
    code = Code(Prf(bytes([t] * 32)), 4096, 200, t)
    assert not _too_close(code.inner).size
    assert (np.sort(code.inner, axis=1)[:, 1:] > np.sort(code.inner, axis=1)[:, :-1]).all()
    seen: set[tuple[int, ...]] = set()
    for check in np.sort(code.inner, axis=1).tolist():
        parts = set(combinations(check, t // 2 + 1))
        assert not parts & seen
        seen |= parts
    columns = code_words(code, 64).T
    assert np.unique(columns, axis=0).shape[0] == code.coordinates
    assert columns.any(axis=1).all()


def test_checks_that_are_too_close():
    checks = np.array([[1, 2, 9], [3, 4, 10], [2, 9, 11], [5, 5, 12], [4, 6, 13]], np.int32)
    assert _too_close(checks).tolist() == [2, 3]
    four = np.array([[1, 2, 3, 9], [1, 2, 4, 10], [1, 2, 3, 11]], np.int32)
    assert _too_close(four).tolist() == [2]


def test_tables_are_the_same_everywhere(key):
    """Known answers: version 1 of the expansion, and of what is sampled."""
    prc = watermark.load("latent.prc", key, shape=SMALL, payload_bits=64)
    z = prc.sample(b"user 7", rng=1).ravel()
    assert z[:4].tolist() == [0.5097523927688599, 0.7205422520637512, 0.11051920801401138, -1.2172863483428955]
    assert prc.fingerprint == "6371e8b60793479f141532fcf6b72b2afd50ed3bf5f4c681546103652c9d674d"
    assert prc.with_shape((4, 32, 40)).fingerprint != prc.fingerprint
    assert watermark.load("latent.prc", key, shape=SMALL, payload_bits=64, t=4).fingerprint != prc.fingerprint


def test_detection_without_the_mark(prc, keys):
    z = np.random.default_rng(0).standard_normal((200, *prc.shape)).astype(np.float32)
    found = prc.detect_batch(z)
    assert not found.payload_ok.any()
    assert found.log10_p.min() > -4
    assert 0.3 < (found.p_value < 0.5).mean() < 0.7
    other = watermark.load("latent.prc", keys(1), shape=prc.shape, payload_bits=512)
    found = other.detect_batch(prc.sample_batch(20, b"x", rng=1))
    assert not found.payload_ok.any()
    assert found.log10_p.min() > -4


def test_p_values_over_keys_on_hostile_latents(keys):
    """Latents of one size, sparse ones, correlated ones: exact over keys, whatever the latent."""
    rng = np.random.default_rng(4)
    smooth = np.cumsum(rng.standard_normal(SMALL), axis=2)
    latents = [
        np.ones(SMALL),
        smooth,
        rng.standard_cauchy(SMALL),
        (rng.random(SMALL) < 0.05) * rng.standard_normal(SMALL),
    ]
    z = np.array(latents, np.float32)
    p = np.stack(
        [watermark.load("latent.prc", keys(i), shape=SMALL, payload_bits=0).detect_batch(z).p_value for i in range(300)]
    )
    for level in (0.5, 0.1, 0.02):
        limit = level * p.size + 3.3 * math.sqrt(4 * level * p.size)
        assert (p <= level).sum() <= limit


def test_zeros_and_huge_values_and_what_is_not_finite(prc):
    z = prc.sample_batch(3, b"abc", rng=9)
    z[1] *= np.float32(1e37)
    z[2] *= np.float32(1e-36)
    assert [d.payload for d in prc.detect_batch(z)] == [b"abc"] * 3
    assert prc.detect(np.zeros(prc.shape, np.float32)).log10_p > -4
    z[1, 0, 0, 0] = np.nan
    with pytest.raises(MediaError, match="finite"):
        prc.detect_batch(z)


def test_sub_keys_rotate(key):
    one = watermark.load("latent.prc", key, shape=SMALL, payload_bits=24)
    many = watermark.load("latent.prc", key, shape=SMALL, payload_bits=24, subkeys=5)
    z = many.sample_batch(60, b"abc", rng=1)
    assert all(d.payload == b"abc" and d.payload_ok for d in many.detect_batch(z))
    assert 2 <= one.detect_batch(z).payload_ok.sum() <= 30  # the first of five
    z = one.sample_batch(4, b"abc", rng=1)
    found, paid = one.detect_batch(noisy(z, 0.5)), many.detect_batch(noisy(z, 0.5))
    assert paid.log10_p == pytest.approx(found.log10_p + math.log10(5))


def test_one_row_equals_the_first_of_a_batch(prc):
    batch = prc.sample_batch(9, b"abc", rng=7)
    assert np.array_equal(prc.sample(b"abc", rng=7), batch[0])
    assert np.array_equal(prc.sample_batch(300, b"abc", rng=7)[:9], batch)
    assert [d.payload for d in prc.detect_batch(prc.sample_batch(3, [b"a", b"", b"c"], rng=1))] == [b"a", b"", b"c"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"preset": "strong"},
        {"t": 2},
        {"t": 9},
        {"t": 3.5},
        {"subkeys": 0},
        {"subkeys": 1025},
        {"shape": (4, 8, 8)},
        {"payload_bits": 4096, "shape": (4, 32, 32)},
    ],
)
def test_parameters_out_of_range(key, parameters):
    with pytest.raises(ParameterError):
        watermark.load("latent.prc", key, **parameters)


def test_security_is_stated_for_the_parameters(key):
    def load(**parameters):
        return watermark.load("latent.prc", key, **parameters)

    assert load().security_bits == load().info.security_bits
    assert [load(t=t).latents_per_subkey for t in (3, 4)] == [11, 23]
    bits = [load(t=t).security_bits for t in (3, 4, 5, 6, 7, 8)]
    assert bits == [12, 18, 24, 30, 35, 41]
    assert load(preset="hardened").security_bits == bits[-1]
    assert load(preset="hardened", shape=(4, 128, 128)).security_bits > bits[-1]
    pairs = math.comb(math.comb(181, 4), 2) / (math.comb(16_384, 8) / load(t=8)._checks)  # lists of 2^25 sums
    assert 2 ** (2 * (25 - bits[-1])) == pytest.approx(pairs, rel=3)
    assert [load(t=t).latents_in_pairs for t in (3, 4)] == [77, 4897]


@pytest.mark.parametrize(("checks", "degree"), [(15_000, 3), (15_000, 6), (800, 4), (250_000, 3)])
def test_tables_of_a_reader(checks, degree):
    reader = Reader(checks, degree)
    assert 0.4 < reader.noise < 1
    assert (np.diff(reader.odds) > 0).all()
    assert (np.diff(reader.weights.astype(int)) <= 0).all()
    assert (np.diff(reader.values) > 0).all()
    assert (np.diff(reader.levels.astype(int)) <= 0).all()
    assert reader.levels[0] == 63
    assert reader.levels[-1] == 0
