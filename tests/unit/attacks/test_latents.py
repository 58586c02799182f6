"""What the attacks on latents do to samples."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.attacks import latents
from watermark.errors import MediaError

Z = np.random.default_rng(0).standard_normal((4, 128, 128)).astype(np.float32)


@pytest.mark.parametrize("attack", [latents.Noise.at(sigma=0.6), latents.CorrelatedNoise.at(sigma=0.6)])
def test_the_channel_keeps_the_variance(attack):
    result = attack(Z, 1)
    assert np.corrcoef(result.ravel(), Z.ravel())[0, 1] == pytest.approx(0.8, abs=0.02)
    assert result.std() == pytest.approx(1, abs=0.02)


def test_correlated_noise_is_correlated():
    for attack, low, high in ((latents.Noise(1.0), -0.05, 0.05), (latents.CorrelatedNoise(1.0), 0.9, 1.0)):
        noise = attack(np.zeros((4, 128, 128), np.float32), 1)
        neighbours = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
        assert low < neighbours < high


def test_signs_flip_with_their_probability():
    result = latents.SignFlip.at(probability=0.2)(Z, 1)
    assert (np.abs(result) == np.abs(Z)).all()
    assert (result != Z).mean() == pytest.approx(0.2, abs=0.01)


def test_a_window_stays_in_place():
    result = latents.Crop.at(area=0.25)(Z, 1)
    same = (result == Z).all(axis=0)
    assert same.sum() == 64 * 64
    assert np.ptp(np.nonzero(same.any(axis=1))) == 63
    assert result[:, ~same].std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("latent", [np.full((2, 2), np.inf), np.zeros((2, 2), int), np.zeros(5), [[0.0]]])
def test_other_arrays_are_refused(latent):
    with pytest.raises(MediaError, match="latent"):
        latents.Noise()(latent, 1)
