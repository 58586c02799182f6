"""What the marks in the Fourier plane share: coordinates, exactness of p, hostile latents, small and odd planes."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

import watermark
from watermark import MediaError, ParameterError
from watermark.latent.fourier import frequency, hartley

SMALL = {
    "latent.tree_ring": {"shape": (2, 16, 16), "radius": 3},
    "latent.ring_id": {"shape": (2, 16, 16), "radius": 4, "payload_bits": 3},
}
DEFAULT = {"latent.tree_ring": {}, "latent.ring_id": {}}


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


@pytest.mark.parametrize("shape", [(64, 64), (7, 8), (8, 7), (3, 5), (1, 1), (2, 1)])
def test_hartley_is_orthonormal_and_its_own_inverse(shape):
    planes = np.random.default_rng(1).standard_normal((3, *shape))
    spectrum = hartley(planes)
    assert np.allclose(hartley(spectrum), planes)
    assert np.allclose((spectrum**2).sum(), (planes**2).sum())
    y, x = np.indices(shape)
    angle = 2 * np.pi * (y / shape[0] + x / shape[1])  # of the frequency (1, 1)
    by_hand = (planes * (np.cos(angle) + np.sin(angle))).sum(axis=(1, 2)) / math.sqrt(math.prod(shape))
    assert np.allclose(spectrum[:, 1 % shape[0], 1 % shape[1]], by_hand)


def test_frequencies_are_round_in_the_picture():
    """A circle is as many cycles per element in either direction."""
    size = frequency(32, 64)
    assert size[0, 0] == 0
    assert size[3, 0] == size[-3, 0] == size[0, 6] == size[0, -6] == 3


def test_p_is_exact_for_any_latent(keys, name):
    """Constant, one element, a wave, heavy tails, correlated: under fresh keys p is uniform for each of them."""
    rng = np.random.default_rng(4)
    shape = SMALL[name]["shape"]
    smooth = np.cumsum(np.cumsum(rng.standard_normal(shape), axis=1), axis=2)
    latents = np.stack(
        [
            np.indices(shape).sum(axis=0) % 5 - 2.0,
            np.eye(1, math.prod(shape), 37).reshape(shape),
            np.sin(np.arange(16) / 2) + np.zeros(shape),
            rng.standard_cauchy(shape),
            np.sinh(smooth / smooth.std()),
            rng.standard_normal(shape),
        ]
    )
    trials = 1500
    p = np.array([watermark.load(name, keys(i), **SMALL[name]).detect_batch(latents).p_value for i in range(trials)])
    for alpha in (0.5, 0.1, 0.01):
        spread = 4 * math.sqrt(alpha * (1 - alpha) / trials)
        assert np.abs((p <= alpha).mean(axis=0) - alpha).max() < spread, alpha


@pytest.mark.parametrize("parameters", [SMALL, DEFAULT])
def test_nothing_looks_like_nothing(key, name, parameters):
    scheme = watermark.load(name, key, **parameters[name])
    found = scheme.detect(np.zeros(scheme.shape, np.float32))
    assert (found.log10_p, found.score, found.payload_ok) == (0.0, 0.0, False)
    assert scheme.detect(np.ones(scheme.shape, np.float32)).log10_p > -4


def test_size_does_not_matter(key, name):
    """Up to the largest numbers of float32, and down to its smallest."""
    scheme = watermark.load(name, key)
    z = scheme.sample(rng=1)
    expected = scheme.detect(z)
    for factor in (1e-30, 1e37):
        found = scheme.detect(z * np.float32(factor))
        assert found.log10_p == pytest.approx(expected.log10_p, rel=1e-3)
        assert found.payload_ok
    assert math.isfinite(scheme.detect(np.full(scheme.shape, 3.4e38, np.float32)).log10_p)
    assert math.isfinite(scheme.detect(np.full(scheme.shape, 1e-45, np.float32)).log10_p)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5000, 16383])
def test_one_value_that_is_not_finite(key, name, value, at):
    """In any channel, also one that is not looked at."""
    scheme = watermark.load(name, key)
    z = scheme.sample(rng=1)
    z.flat[at] = value
    with pytest.raises(MediaError, match="finite"):
        scheme.detect(z)
    with pytest.raises(MediaError, match="finite"):
        scheme.detect_batch([scheme.sample(rng=1), z])


@pytest.mark.parametrize(
    ("shape", "radius"), [((3, 8, 8), 3), ((3, 9, 20), 4), ((4, 20, 9), 4), ((16, 5, 5), 2), ((3, 13, 16), 6)]
)
def test_small_odd_and_long_planes(key, name, shape, radius):
    few = {"payload_bits": 2} if name == "latent.ring_id" else {}
    scheme = watermark.load(name, key, shape=shape, radius=radius, **few)
    found = scheme.detect(scheme.sample(rng=1))
    assert found.detected(1e-6)
    assert found.payload_ok
    assert not scheme.detect(np.random.default_rng(1).standard_normal(shape)).detected(1e-3)


@pytest.mark.parametrize(
    "parameters",
    [
        {"shape": (4, 64)},
        {"shape": (4, 8, 64, 64)},
        {"shape": (1, 1, 64)},
        {"shape": (1, 2, 2)},
        {"shape": (1, 4096, 4096)},
        {"shape": (4, 64, 64), "radius": 33},
        {"shape": (4, 8, 8)},
        {"radius": 0},
        {"radius": 8.0},
    ],
)
def test_parameters_that_cannot_be(key, name, parameters):
    with pytest.raises(ParameterError):
        watermark.load(name, key, **parameters)


def test_a_video_is_told_what_to_do(key, name):
    with pytest.raises(ParameterError, match="one by one"):
        watermark.load(name, key, shape=(4, 8, 64, 64))


def test_samples_are_standard_normal_over_keys(keys, name):
    """Moments at 5 sigma, and a Kolmogorov-Smirnov test at 99.9 %; also of each Fourier coefficient alone."""
    exact = {"energy": 1} if name == "latent.ring_id" else {}
    z = np.stack([watermark.load(name, keys(i), **SMALL[name], **exact).sample(rng=i) for i in range(1500)]).astype(
        float
    )
    for values in (z, hartley(z)):
        flat = values.ravel()
        n = flat.size
        assert abs(flat.mean()) < 5 / math.sqrt(n)
        assert abs(flat.var() - 1) < 5 * math.sqrt(2 / n)
        assert abs((flat**4).mean() - 3) < 5 * math.sqrt(96 / n)
        cdf = np.array([NormalDist().cdf(x) for x in np.sort(flat)[::64]])
        assert np.abs(cdf - np.arange(0, n, 64) / n).max() < 1.95 / math.sqrt(n) + 1 / n
        assert np.abs(values.mean(axis=0)).max() < 5 / math.sqrt(len(z))
        assert np.abs(values.var(axis=0) - 1).max() < 5.5 * math.sqrt(2 / len(z))
    covariance = np.cov(z.reshape(len(z), -1), rowvar=False) - np.eye(z[0].size)
    np.fill_diagonal(covariance, 0)
    assert np.abs(covariance).max() < 6 / math.sqrt(len(z))


def test_frameworks_agree(key, name):
    torch = pytest.importorskip("torch")
    scheme = watermark.load(name, key)
    z = scheme.sample(rng=7)
    tensor = scheme.sample(rng=7, like=torch.zeros(1))
    assert np.array_equal(tensor.numpy(), z)
    assert scheme.detect(tensor) == scheme.detect(z)
    assert scheme.detect_batch(torch.stack([tensor, tensor]))[1] == scheme.detect(z)


def test_large_batches_are_read_in_parts(key, name):
    scheme = watermark.load(name, key)
    z = scheme.sample_batch(11, rng=3)
    assert list(scheme.detect_batch(z)) == [scheme.detect(row) for row in z]
    assert len({row.tobytes() for row in z}) == 11
    assert np.array_equal(z[:2], scheme.sample_batch(2, rng=3))
    assert scheme.sample_batch(0).shape == (0, 4, 64, 64)


@pytest.mark.cuda
def test_cuda_agrees(key, name):
    import torch

    scheme = watermark.load(name, key)
    z = scheme.sample_batch(9, rng=3)
    on_device = scheme.sample_batch(9, rng=3, like=torch.zeros(1, device="cuda"))
    assert on_device.is_cuda
    assert np.abs(on_device.cpu().numpy() - z).max() < 1e-5
    mixed = (0.3 * z + np.random.default_rng(1).standard_normal(z.shape)).astype(np.float32)
    found, expected = scheme.detect_batch(torch.from_numpy(mixed).cuda()), scheme.detect_batch(mixed)
    assert found.payload == expected.payload
    assert np.allclose(found.log10_p.cpu(), expected.log10_p, atol=1e-3)
    with pytest.raises(MediaError, match="finite"):
        scheme.detect_batch(torch.full((2, 4, 64, 64), torch.inf, device="cuda"))
