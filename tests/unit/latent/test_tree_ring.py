from __future__ import annotations

import math

import numpy as np
import pytest

import watermark
from watermark import ParameterError, PayloadError
from watermark.ops.normal import standard_normal
from watermark.stats import log_angular_tail


@pytest.fixture
def scheme(key):
    return watermark.load("latent.tree_ring", key)


def keyed_disc(key, dimension):
    """The pattern from its definition."""
    pattern = np.empty((1, dimension), np.float32)
    standard_normal(key.derive("latent.tree_ring/1/patterns").key_words, pattern)
    return pattern[0].astype(np.float64)


def test_the_disc_has_317_degrees_of_freedom(scheme):
    assert scheme.detect(scheme.sample(rng=1)).n == 317
    for radius, count in ((2, 13), (3, 29), (5, 81)):
        small = watermark.load("latent.tree_ring", scheme.key, radius=radius)
        assert small.detect(small.sample(rng=1)).n == count


def test_the_plane_by_hand(scheme, key):
    """The Fourier plane of a sample, from NumPy's transform: Hermitian, as keyed inside the disc, fresh outside."""
    z = scheme.sample(rng=1).astype(np.float64)
    spectrum = np.fft.fft2(z[0], norm="ortho")
    k = np.fft.fftfreq(64, 1 / 64)
    disc = np.hypot(k[:, None], k) <= 10
    expected = keyed_disc(key, 317)
    assert np.allclose((spectrum.real - spectrum.imag)[disc], expected, atol=1e-5)
    assert spectrum[0, 0] == pytest.approx(expected[0], abs=1e-5)  # the constant is real and N(0, 1)
    other = np.fft.fft2(scheme.sample(rng=2)[0].astype(np.float64), norm="ortho")
    assert np.allclose(other[disc], spectrum[disc], atol=1e-5)
    assert not np.isclose(other[~disc], spectrum[~disc], atol=1e-5).any()
    assert not np.isclose(z[1:], scheme.sample(rng=2)[1:]).all()


def test_detection_by_hand(scheme, key):
    rng = np.random.default_rng(1)
    z = (0.3 * scheme.sample(rng=1) + rng.standard_normal(scheme.shape)).astype(np.float32)
    spectrum = np.fft.fft2(z[0].astype(np.float64), norm="ortho")
    k = np.fft.fftfreq(64, 1 / 64)
    x, g = (spectrum.real - spectrum.imag)[np.hypot(k[:, None], k) <= 10], keyed_disc(key, 317)
    cosine = float(g @ x / np.linalg.norm(g) / np.linalg.norm(x))
    found = scheme.detect(z)
    assert found.score == pytest.approx(cosine)
    assert found.log10_p == pytest.approx(log_angular_tail(cosine, 317) / math.log(10))


def test_known_answer(scheme):
    # Version 1 of the mark: what was sampled once must be read for ever.
    z = scheme.sample(rng=1).ravel()
    assert z[:3] == pytest.approx([-0.6839168072, -0.5793315172, -0.2324391305], abs=1e-6)
    assert scheme.detect(np.indices(scheme.shape).sum(axis=0) % 7.0).score == pytest.approx(-0.1154156641)


def test_the_channel_can_be_chosen(key):
    third = watermark.load("latent.tree_ring", key, channel=2)
    z = third.sample(rng=1)
    assert third.detect(z).detected(1e-100)
    assert not watermark.load("latent.tree_ring", key, channel=1).detect(z).detected(1e-3)


def test_a_disc_that_reaches_nyquist(keys):
    """The frequencies that are their own opposites carry what noise has there."""
    spectra = np.stack(
        [
            np.fft.fft2(
                watermark.load("latent.tree_ring", keys(i), shape=(1, 8, 8), radius=4).sample(rng=i)[0].astype(float),
                norm="ortho",
            )
            for i in range(1500)
        ]
    )
    power = (np.abs(spectra) ** 2).mean(axis=0)
    assert np.abs(power - 1).max() < 5 * math.sqrt(2 / 1500)
    assert np.allclose(spectra[:, [0, 0, 4, 4], [0, 4, 0, 4]].imag, 0, atol=1e-6)


def test_it_survives_an_imperfect_inversion(scheme):
    rng = np.random.default_rng(1)
    for noise in (0.5, 0.8, 0.9):
        z = math.sqrt(1 - noise**2) * scheme.sample(rng=3) + noise * rng.standard_normal(scheme.shape)
        assert scheme.detect(z).detected(1e-6)


def test_it_carries_no_message(scheme):
    assert scheme.detect(scheme.sample(b"")).payload == b""
    for message in (b"\x01", b"user 7"):
        with pytest.raises(PayloadError):
            scheme.sample(message)
    blank = scheme.detect(np.random.default_rng(1).standard_normal(scheme.shape))
    assert not blank.payload_ok


@pytest.mark.parametrize("parameters", [{"channel": 4}, {"channel": -1}, {"channel": 1.0}, {"radius": 1}])
def test_parameters_that_cannot_be(key, parameters):
    with pytest.raises(ParameterError):
        watermark.load("latent.tree_ring", key, **parameters)
