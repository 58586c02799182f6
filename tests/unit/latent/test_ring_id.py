from __future__ import annotations

import math

import numpy as np
import pytest

import watermark
from watermark import Keyring, ParameterError, PayloadError
from watermark.latent.fourier import hartley
from watermark.ops.normal import standard_normal
from watermark.stats import log_angular_tail, log_sidak


@pytest.fixture
def scheme(key):
    return watermark.load("latent.ring_id", key)


def ring_sums(planes, radius):
    """Sums of Fourier coefficients over rings about the centre, from NumPy's transform."""
    side = planes.shape[-1]
    k = np.fft.fftfreq(side, 1 / side)
    size = np.hypot(k[:, None], k)
    centred = np.fft.fft2(planes.astype(float), norm="ortho") * np.exp(
        2j * np.pi * (k[:, None] + k) * (side - 1) / 2 / side
    )
    rings = [(size >= r - 0.5) & (size < r + 0.5) for r in range(1, radius + 1)]
    return np.stack([centred[:, ring].real.sum(axis=1) / math.sqrt(ring.sum()) for ring in rings], axis=1)


def channel(z, noise, rng):
    return (math.sqrt(1 - noise**2) * z + noise * rng.standard_normal(z.shape)).astype(np.float32)


def test_detection_by_hand(scheme, key):
    """All patterns, from their definition, held against the ring sums."""
    bank = np.empty((2048, 80), np.float32)
    standard_normal(key.derive("latent.ring_id/1/patterns").key_words, bank)
    z = channel(scheme.sample(b"\x05\x07", rng=1), 0.9, np.random.default_rng(1))
    x = ring_sums(z, 20).ravel()
    cosines = bank @ x / np.linalg.norm(bank, axis=1) / np.linalg.norm(x)
    found = scheme.detect(z)
    assert np.argmax(cosines) == 0x507
    assert found.payload == b"\x05\x07"
    assert found.score == pytest.approx(cosines.max(), rel=1e-5)
    log_p = log_sidak(log_angular_tail(found.score, 80), 2048)
    assert found.log10_p == pytest.approx(log_p / math.log(10))


def test_known_answer(scheme):
    # Version 1 of the mark: what was sampled once must be read for ever.
    z = scheme.sample(b"\x05\x07", rng=1).ravel()
    assert z[:3] == pytest.approx([1.1282763481, 2.0713737011, 0.8921194077], abs=1e-6)
    found = scheme.detect(np.indices(scheme.shape).sum(axis=0) % 7.0)
    assert (found.score, found.payload) == (pytest.approx(0.3509450755), b"\x05\x94")


@pytest.mark.parametrize("payload_bits", [0, 1, 5, 16])
def test_every_index_comes_back(key, payload_bits):
    scheme = watermark.load("latent.ring_id", key, payload_bits=payload_bits, radius=10)
    last = (1 << payload_bits) - 1
    for number in {0, last // 3, last}:
        message = number.to_bytes(-(-payload_bits // 8))
        found = scheme.detect(channel(scheme.sample(message, rng=number), 0.7, np.random.default_rng(number)))
        assert (found.payload, found.payload_ok) == (message, True)
    with pytest.raises(PayloadError):
        scheme.sample((last + 1).to_bytes(3))


def test_a_message_per_row(scheme):
    messages = [b"\x00\x01", b"\x07\xff", None, b"\x01\x00"]
    found = scheme.detect_batch(scheme.sample_batch(4, messages, rng=1))
    assert found.payload == (b"\x00\x01", b"\x07\xff", b"\x00\x00", b"\x01\x00")
    assert found.payload_ok.all()


def test_a_ring_of_keys_tells_which_one(keys):
    """The bank of patterns may also be a ring of keys, with one pattern each."""
    ring = [keys(i) for i in range(20)]
    detector = watermark.load("latent.ring_id", Keyring(ring), payload_bits=0)
    for i in (0, 7, 19):
        z = watermark.load("latent.ring_id", ring[i], payload_bits=0).sample(rng=i)
        found = detector.detect(channel(z, 0.8, np.random.default_rng(i)))
        assert found.key_id == ring[i].id
        assert found.detected(1e-6)
        assert found.details["keys_tried"] == 20


def test_a_false_index_is_not_vouched_for(keys):
    """Marked latents in so much noise that many are read wrong."""
    wrong = vouched = right = 0
    for i in range(40):
        scheme = watermark.load("latent.ring_id", keys(i))
        rng = np.random.default_rng(i)
        for noise in (0.9, 0.95, 0.98, 0.99):
            found = scheme.detect(channel(scheme.sample(b"\x03\x33", rng=i), noise, rng))
            right += found.payload == b"\x03\x33"
            vouched += found.payload_ok
            wrong += found.payload_ok and found.payload != b"\x03\x33"
    assert wrong == 0
    assert 60 < right < 150
    assert vouched > 40


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_changes_nothing(scheme, turns):
    z = scheme.sample(b"\x05\x07", rng=1)
    turned = scheme.detect(np.rot90(z, turns, axes=(1, 2)))
    assert turned.score == pytest.approx(scheme.detect(z).score)
    assert turned.payload == b"\x05\x07"
    assert scheme.detect(z[:, ::-1]).payload == b"\x05\x07"


@pytest.mark.parametrize("degrees", [5, 17, 45, 75])
def test_it_survives_a_rotation(key, degrees):
    """Turned about the centre by bilinear interpolation, the corners lost."""
    import PIL.Image

    scheme = watermark.load("latent.ring_id", key)
    noisy = channel(scheme.sample(b"\x05\x07", rng=1), 0.7, np.random.default_rng(1))
    turned = np.stack(
        [np.asarray(PIL.Image.fromarray(plane).rotate(degrees, PIL.Image.Resampling.BILINEAR)) for plane in noisy]
    )
    found = scheme.detect(turned)
    assert (found.payload, found.payload_ok) == (b"\x05\x07", True)
    assert found.detected(1e-6)


def test_the_power_of_each_ring_stays(keys):
    """The energy that the key gets is taken from the rest of its ring."""
    z = np.concatenate([watermark.load("latent.ring_id", keys(i)).sample_batch(5, rng=i) for i in range(120)])
    power = (hartley(z.astype(float)) ** 2).mean(axis=(0, 1))
    k = np.fft.fftfreq(64, 1 / 64)
    ring = np.floor(np.hypot(k[:, None], k) + 0.5).astype(int)
    count = np.bincount(ring.ravel())
    error = np.abs(np.bincount(ring.ravel(), power.ravel()) / count - 1)
    assert error[1:21].max() < 0.12  # 120 keys
    samples = 4 * len(z) * count
    assert (error < 5 * np.sqrt(2 / samples))[np.r_[0, 21:46]].all()
    energy = (ring_sums(z.reshape(-1, 64, 64), 20) ** 2).mean(axis=0)
    assert energy[5:] == pytest.approx(8, rel=0.25)
    assert energy[0] == pytest.approx(4, rel=0.25)  # half of the ring's 8 coefficients


@pytest.mark.parametrize(
    "parameters",
    [
        {"payload_bits": 24},
        {"payload_bits": 21},
        {"radius": 32},
        {"shape": (1, 64, 64), "radius": 7},
        {"energy": 0.5},
        {"energy": 101},
        {"energy": float("nan")},
        {"energy": "8"},
        {"energy": True},
    ],
)
def test_parameters_that_cannot_be(key, parameters):
    with pytest.raises(ParameterError):
        watermark.load("latent.ring_id", key, **parameters)
