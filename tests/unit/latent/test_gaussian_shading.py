from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

import watermark
from watermark import ParameterError
from watermark.ops.normal import pack_bits, unpack_bits
from watermark.ops.sign_pad import sign_votes_reference
from watermark.payload import Frame
from watermark.stats import log_majority_tail, log_sidak


@pytest.fixture
def scheme(key):
    return watermark.load("latent.gaussian_shading", key)


def test_detection_by_hand(scheme, key):
    """The verdict from the reference kernels and the formulas of the scheme, without its own code."""
    rng = np.random.default_rng(1)
    z = (0.3 * scheme.sample(b"user 7", rng=1) + rng.standard_normal(scheme.shape)).astype(np.float32)
    symbols = Frame(256).size
    pad = pack_bits(key.derive("latent.gaussian_shading/1/signs").bits(z.size))
    bits, agreement = sign_votes_reference(z.reshape(1, -1), pad, symbols)
    found = scheme.detect(z)
    assert found.log10_p == log_majority_tail(z.size, symbols)[agreement[0]] / math.log(10)
    assert found.score == agreement[0] / z.size
    assert found.n == z.size
    assert found.payload == Frame(256).decode(bits.tobytes())


def test_signs_are_message_plus_keystream(scheme, key):
    z = scheme.sample(b"user 7", rng=1).ravel()
    message = Frame(256).encode(b"user 7")
    pad = key.derive("latent.gaussian_shading/1/signs").bits(z.size)
    assert np.array_equal(np.signbit(z), np.resize(message, z.size) ^ pad)


def test_known_answer(scheme):
    # Version 1 of the mark: what was sampled once must be read for ever.
    z = scheme.sample(b"user 7", rng=1).ravel()
    assert z[:4].tolist() == [-1.0560389757156372, 0.06265334784984589, -0.35614287853240967, 0.42394155263900757]
    assert scheme.detect(np.ones(scheme.shape, np.float32)).score == 0.55511474609375


@pytest.mark.parametrize("payload", [None, b"\x00" * 32, b"\xff" * 32])
def test_samples_are_standard_normal(keys, payload):
    """Over keys: moments at 5 sigma, and a Kolmogorov-Smirnov test at 99.9 %."""
    z = np.concatenate(
        [watermark.load("latent.gaussian_shading", keys(i)).sample(payload, rng=i).ravel() for i in range(12)]
    ).astype(np.float64)
    n = z.size
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n)
    cdf = np.array([NormalDist().cdf(x) for x in np.sort(z)[::16]])
    assert np.abs(cdf - np.arange(0, n, 16) / n).max() < 1.95 / math.sqrt(n) + 1 / n


def test_neighbours_are_uncorrelated(scheme):
    z = scheme.sample_batch(8, b"x", rng=2).reshape(8, -1).astype(np.float64)
    for lag in (1, 64, Frame(256).size, 4096):
        product = (z[:, lag:] * z[:, :-lag]).mean()
        assert abs(product) < 5 / math.sqrt(z[:, lag:].size)


def test_it_survives_an_imperfect_inversion(scheme):
    rng = np.random.default_rng(1)
    for noise in (0.5, 0.8, 0.9):
        z = math.sqrt(1 - noise**2) * scheme.sample(b"user 7", rng=3) + noise * rng.standard_normal(scheme.shape)
        found = scheme.detect(z)
        assert found.detected(1e-6)
        assert (found.payload, found.payload_ok) == (b"user 7", True)


def test_the_payload_is_vouched_for_only_with_a_p_value(key):
    """Below 24 bits every latent reads as some index; only p tells which one was written."""
    scheme = watermark.load("latent.gaussian_shading", key, payload_bits=10)
    blank = np.random.default_rng(1).standard_normal(scheme.shape)
    assert (scheme.detect(blank).payload is not None, scheme.detect(blank).payload_ok) == (True, False)
    marked = scheme.detect(scheme.sample(b"\x02\x9a"))
    assert (marked.payload, marked.payload_ok) == (b"\x02\x9a", True)


@pytest.mark.parametrize("payload_bits", [1, 7, 23, 24, 100, 1024, 2024])
def test_payload_sizes(key, payload_bits):
    scheme = watermark.load("latent.gaussian_shading", key, payload_bits=payload_bits)
    message = b"\x01" if payload_bits < 24 else bytes(range(payload_bits // 8 % 256))
    found = scheme.detect(scheme.sample(message, rng=1))
    assert found.payload_ok
    assert int.from_bytes(found.payload) == int.from_bytes(message)
    assert found.log10_p < -900


@pytest.mark.parametrize("payload_bits", [0, 2033, 4096, -1, 1.0])
def test_sizes_that_cannot_be(key, payload_bits):
    with pytest.raises(ParameterError):
        watermark.load("latent.gaussian_shading", key, payload_bits=payload_bits)


def test_p_is_exact_for_any_latent(keys):
    """A constant latent, a lattice, one element large: under fresh keys all have the law of the table."""
    rng = np.random.default_rng(4)
    shape = (1, 16, 32)
    latents = [
        np.ones(shape),
        np.indices(shape).sum(axis=0) % 3 - 1.0,
        np.eye(1, 512).reshape(shape),
        rng.random(shape),
    ]
    trials = 4000
    p = np.array(
        [
            [
                watermark.load("latent.gaussian_shading", keys(i), shape=shape, payload_bits=8).detect(z).p_value
                for z in latents
            ]
            for i in range(trials)
        ]
    )
    levels = np.exp(log_majority_tail(512, 8))
    for alpha in (0.3, 0.1, 0.01):
        level = levels[levels <= alpha].max()
        spread = 3.5 * math.sqrt(level * (1 - level) / trials)
        assert np.abs((p <= alpha).mean(axis=0) - level).max() < spread


def test_unpack_inverts_pack():
    bits = np.random.default_rng(1).integers(0, 2, (3, 77), np.uint8)
    assert np.array_equal(unpack_bits(pack_bits(bits), 77), bits)


def numbered_key(i):
    return watermark.Key.from_bytes(bytes([i]) * 32)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_message_without_checksum_is_vouched_for_bit_by_bit(bits):
    """A mark that is certainly there, but with some bits lost in noise."""
    wrong = vouched = clear = 0
    for i in range(60):
        scheme = watermark.load("latent.gaussian_shading", numbered_key(i), payload_bits=bits)
        message = bytes([i] * (bits // 8))
        z = scheme.sample(message, rng=i)
        noise = np.random.default_rng(i).standard_normal(z.shape, np.float32)
        for s in (0.9, 0.9985):
            found = scheme.detect(np.sqrt(1 - s * s, dtype=np.float32) * z + np.float32(s) * noise)
            clear += found.payload_ok and s == 0.9
            vouched += found.payload_ok
            wrong += found.payload_ok and found.payload != message
    assert wrong == 0
    assert clear == 60


def test_huge_finite_latents_are_read_and_infinite_ones_refused():
    for i in range(5):
        scheme = watermark.load("latent.gaussian_shading", numbered_key(i))
        assert not scheme.detect(np.full((4, 64, 64), 1.4e37, np.float32)).detected(1e-3)
    with pytest.raises(watermark.MediaError, match="finite"):
        scheme.detect(np.full((4, 64, 64), np.inf, np.float32))


def test_a_short_latent_says_how_low_its_p_can_go():
    scheme = watermark.load("latent.gaussian_shading", numbered_key(1), shape=(8,), payload_bits=1)
    found = scheme.detect(scheme.sample(b"\x01", rng=1))
    assert found.details["p_floor"] == found.p_value == pytest.approx(2.0**-7)
    with pytest.raises(watermark.ThresholdError, match="cannot go below"):
        found.detected(1e-6)


class TestNonces:
    def test_a_sample_takes_one_of_them(self, key):
        scheme = watermark.load("latent.gaussian_shading", key, nonces=5)
        z = scheme.sample_batch(200, b"user 7", rng=1)
        signs = {row.tobytes() for row in np.signbit(z)}
        message = np.resize(Frame(256).encode(b"user 7"), z[0].size)
        prf = key.derive("latent.gaussian_shading/1/signs")
        assert signs == {(message ^ prf.bits(z[0].size, stream=i)).astype(bool).tobytes() for i in range(5)}
        found = scheme.detect_batch(z)
        assert set(found.payload) == {b"user 7"}
        assert found.payload_ok.all()
        assert np.array_equal(z[:3], scheme.sample_batch(3, b"user 7", rng=1))
        assert np.array_equal(z[0], scheme.sample(b"user 7", rng=1))

    def test_the_choice_is_even(self, key):
        scheme = watermark.load("latent.gaussian_shading", key, shape=(64,), payload_bits=1, nonces=4)
        signs = np.signbit(scheme.sample_batch(4000, rng=1))
        counts = np.unique(signs, axis=0, return_counts=True)[1]
        assert len(counts) == 4
        assert np.abs(counts - 1000).max() < 4 * math.sqrt(750)

    def test_messages_and_nonces_of_a_batch(self, key):
        scheme = watermark.load("latent.gaussian_shading", key, nonces=3)
        messages = [f"user {i}".encode() for i in range(20)]
        assert scheme.detect_batch(scheme.sample_batch(20, messages, rng=1)).payload == tuple(messages)

    def test_p_pays_for_all(self, key):
        one, many = (watermark.load("latent.gaussian_shading", key, nonces=n) for n in (1, 8))
        z = one.sample(b"user 7", rng=1)  # the first nonce of both
        noisy = 0.05 * z + np.random.default_rng(1).standard_normal(z.shape)
        alone, found = one.detect(noisy), many.detect(noisy)
        assert found.score == alone.score
        assert found.log10_p == log_sidak(alone.log10_p * math.log(10), 8) / math.log(10)

    def test_p_is_exact_for_any_latent(self, keys):
        rng = np.random.default_rng(4)
        latents = np.stack([np.ones(512), np.indices((512,))[0] % 7 - 3.0, rng.standard_cauchy(512)])
        parameters = {"shape": (512,), "payload_bits": 8, "nonces": 6}
        trials = 1500
        p = np.array(
            [
                watermark.load("latent.gaussian_shading", keys(i), **parameters).detect_batch(latents).p_value
                for i in range(trials)
            ]
        )
        levels = -np.expm1(6 * np.log1p(-np.exp(log_majority_tail(512, 8)[257:])))
        for alpha in (0.3, 0.1, 0.01):
            level = levels[levels <= alpha].max()
            spread = 3.5 * math.sqrt(level * (1 - level) / trials)
            assert np.abs((p <= alpha).mean(axis=0) - level).max() < spread

    def test_the_floor_pays_too(self):
        scheme = watermark.load("latent.gaussian_shading", numbered_key(1), shape=(16,), payload_bits=1, nonces=4)
        found = scheme.detect(scheme.sample(b"\x01", rng=1))
        assert found.details["p_floor"] == found.p_value == pytest.approx(-math.expm1(4 * math.log1p(-(2.0**-15))))

    def test_huge_latents_and_infinite_ones(self, key):
        scheme = watermark.load("latent.gaussian_shading", key, nonces=3)
        assert not scheme.detect(np.full((4, 64, 64), 1.4e37, np.float32)).detected(1e-3)
        with pytest.raises(watermark.MediaError, match="finite"):
            scheme.detect(np.full((4, 64, 64), np.inf, np.float32))
        assert len(scheme.detect_batch([])) == 0
        assert scheme.sample_batch(0).shape == (0, 4, 64, 64)

    @pytest.mark.parametrize("nonces", [0, -1, 4097, 2.0, "2", None, True])
    def test_numbers_that_cannot_be(self, key, nonces):
        with pytest.raises(ParameterError):
            watermark.load("latent.gaussian_shading", key, nonces=nonces)
