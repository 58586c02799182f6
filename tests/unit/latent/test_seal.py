from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

import watermark
from watermark import MediaError, ParameterError, PayloadError
from watermark.latent import noise, seal
from watermark.latent.seal import CODES, _least, _patch_law
from watermark.ops import _native, patch
from watermark.ops.normal import unpack_bits
from watermark.ops.patch import patch_noise_reference, patch_search_reference, projections_reference, simhash_reference
from watermark.stats import LN10, log_angular_tail, log_binomial_tail, log_fisher, log_sidak

SMALL = {"shape": (4, 16, 16), "dimension": 16}


@pytest.fixture
def scheme(key):
    return watermark.load("latent.seal", key)


@pytest.fixture
def content():
    return np.random.default_rng(7).standard_normal(256)


def at_angle(v, degrees, seed=0):
    """A vector at this angle from v, otherwise random."""
    other = np.random.default_rng([8, seed]).standard_normal(v.size)
    v = v / np.linalg.norm(v)
    other -= (other @ v) * v
    angle = math.radians(degrees)
    return math.cos(angle) * v + math.sin(angle) * other / np.linalg.norm(other)


def channel(z, s, seed=0):
    noise = np.random.default_rng([9, seed]).standard_normal(z.shape)
    return (math.sqrt(1 - s * s) * z + s * noise).astype(np.float32)


def as_patches(z):
    return np.array([z[:, y : y + 2, x : x + 2].ravel() for y in range(0, 64, 2) for x in range(0, 64, 2)])


def secrets(key):
    words = {name: key.derive(f"latent.seal/1/{name}") for name in ("simhash", "noise", "salts")}
    weights = projections_reference(words["simhash"].key_words, 1024 * 7 * 256).reshape(1024, 7, 256)
    masks = words["salts"].words(256 * 256).astype("<u4").view(np.uint8).reshape(256, 1024) % 128
    return weights, words["noise"].key_words, masks


def test_a_sample_by_hand(scheme, key, content):
    """From the reference kernels and the formulas, without the scheme's own code."""
    weights, noise, masks = secrets(key)
    v = np.rint(8192 * content / np.linalg.norm(content)).astype(np.int16)[None]
    salt = key.derive("latent.seal/1/randomness").child(watermark.prf.seed(3)).words(1)[0] % 256
    expected = np.empty((1, 1024, 16), np.float32)
    patch_noise_reference(noise, simhash_reference(weights, v) ^ masks[salt], 128, expected)
    assert np.array_equal(as_patches(scheme.sample(content=content, rng=3)), expected[0])


def test_a_verdict_by_hand(scheme, key, content):
    weights, noise, masks = secrets(key)
    shown = at_angle(content, 40)
    z = channel(scheme.sample(content=content, rng=3), 0.8)
    best, matches = patch_search_reference(noise, as_patches(z)[None], 128, _least(16))
    v = np.rint(8192 * shown).astype(np.int16)[None]
    codes = simhash_reference(weights, v)[0]
    bits = unpack_bits(matches[0], 128)
    counts = [int(bits[np.arange(1024), codes ^ mask].sum()) for mask in masks]
    same = (1 - 60 / 180 + 0.005) ** 7
    found = scheme.detect(z, content=shown)
    assert found.score == max(counts) / 1024
    assert found.details["salt"] == int(np.argmax(counts))
    assert found.log10_p == pytest.approx(
        (log_binomial_tail(max(counts), 1024, same + (1 - same) * 0.05) + math.log(256)) / LN10
    )
    # The table of a patch's p-values steps downwards in the cosine: never too small, and hardly too large.
    p = [math.exp(log_sidak(log_angular_tail(float(c), 16), 128)) for c in best[0]]
    assert (found.details["patch_p"].ravel() >= np.array(p) * (1 - 1e-9)).all()
    assert np.median(found.details["patch_p"].ravel() / p) < 1.02
    unbound = log_fisher(np.log(np.array(p)).tolist()) / LN10
    assert unbound <= found.details["unbound_log10_p"] < 0.98 * unbound


def test_known_answer(scheme):
    # Version 1 of the mark: what was sampled once must be read for ever.
    z = scheme.sample(content=np.arange(1, 257), rng=1).ravel()
    assert z[:4].tolist() == [-0.45606929063796997, -0.6632793545722961, -0.9560170769691467, -1.2051032781600952]
    assert scheme.detect(np.ones(scheme.shape, np.float32), content=np.arange(1, 257)).score == 0.0732421875


def test_a_mark_holds_for_its_content_only(scheme, content):
    z = scheme.sample(content=content, rng=1)
    for degrees in (0, 15, 30, 40):
        assert scheme.detect(z, content=at_angle(content, degrees)).detected(1e-6)
    for degrees in (60, 70, 90, 180):
        found = scheme.detect(z, content=at_angle(content, degrees))
        assert not found.detected(1e-3)
        assert found.details["unbound_log10_p"] < -1000  # present, but not bound


def test_it_survives_drift_and_an_imperfect_inversion(scheme, content):
    for seed in range(5):
        z = scheme.sample(content=content, rng=seed)
        for s in (0.5, 0.8, 0.9):
            assert scheme.detect(channel(z, s, seed), content=at_angle(content, 15, seed)).detected(1e-6)


def test_samples_are_standard_normal(keys, content):
    """Over keys: moments at 5 sigma."""
    z = np.concatenate(
        [watermark.load("latent.seal", keys(i)).sample(content=content, rng=i).ravel() for i in range(8)]
    ).astype(np.float64)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - mean) < 5 * math.sqrt(variance / z.size)


def test_salts_give_one_content_many_pictures(key, content):
    scheme = watermark.load("latent.seal", key, salt_bits=2)
    z = scheme.sample_batch(40, content=content, rng=1)
    assert len({row.tobytes() for row in z}) == 4
    assert {found.details["salt"] for found in scheme.detect_batch(z, content=content)} == set(range(4))
    one = watermark.load("latent.seal", key, salt_bits=0)
    assert np.array_equal(one.sample(content=content, rng=1), one.sample(content=content, rng=2))


def test_a_content_per_row(scheme):
    contents = np.random.default_rng(3).standard_normal((4, 256))
    z = scheme.sample_batch(4, content=contents, rng=5)
    found = scheme.detect_batch(z, content=contents)
    assert found.detected(1e-6).all()
    assert list(found) == [scheme.detect(row, content=v) for row, v in zip(z, contents, strict=True)]
    assert not scheme.detect_batch(z, content=contents[::-1]).detected(1e-3).any()
    assert not scheme.detect_batch(z[1:], content=contents[0]).detected(1e-3).any()
    assert np.array_equal(z[0], scheme.sample(content=contents[0], rng=5))


@pytest.mark.parametrize(
    "shape", [(16, 32, 32), (4, 33, 31), (1, 24, 24), (3, 2, 4, 64, 2), (5, 4, 16, 16), (2, 1024, 2)]
)
def test_shapes(key, shape, content):
    scheme = watermark.load("latent.seal", key, shape=shape)
    z = scheme.sample_batch(2, content=content, rng=1)
    assert z.shape == (2, *shape)
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    found = scheme.detect(z[1], content=content)
    assert found.score == 1
    assert found.n == math.prod(shape[:-3]) * (shape[-2] // 2) * (shape[-1] // 2)
    assert found.details["presence"].shape == (*shape[:-3], shape[-2] // 2, shape[-1] // 2)
    assert scheme.detect(z[0], content=-content).score < 0.5


def test_an_odd_edge_is_fresh_noise(key, content):
    scheme = watermark.load("latent.seal", key, shape=(4, 33, 33), salt_bits=0)
    first, second = scheme.sample_batch(2, content=content, rng=1)
    assert np.array_equal(first[:, :32, :32], second[:, :32, :32])
    assert (first[:, 32] != second[:, 32]).all()
    assert (first[:, :, 32] != second[:, :, 32]).all()


@pytest.mark.parametrize("shape", [(64, 64), (4096,), (4, 1, 64), (4, 64, 1), (1, 4096, 2048)])
def test_shapes_without_patches(key, shape):
    with pytest.raises(ParameterError):
        watermark.load("latent.seal", key, shape=shape)


@pytest.mark.parametrize(
    "bad",
    [
        {"dimension": 1},
        {"dimension": 5000},
        {"salt_bits": 13},
        {"salt_bits": -1},
        {"shape": (1, 1024, 1024), "dimension": 64},
        {"shape": (1, 512, 512), "salt_bits": 12, "dimension": 2},
    ],
)
def test_bad_parameters(key, bad):
    with pytest.raises(ParameterError):
        watermark.load("latent.seal", key, **bad)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "a cat",
        np.ones(255),
        np.ones((2, 2, 256)),
        np.zeros(256),
        np.r_[np.ones(255), np.nan],
        np.r_[np.ones(255), np.inf],
        np.ones(256, complex),
        np.ones(256, bool),
        [[1.0] * 256, [1.0]],
        np.ones((3, 256)),
        np.zeros((0, 256)),
    ],
)
def test_bad_contents(scheme, content):
    z = np.ones((2, *scheme.shape), np.float32)
    with pytest.raises(ParameterError, match="content"):
        scheme.sample_batch(2, content=content)
    with pytest.raises(ParameterError, match="content"):
        scheme.detect(z[0], content=content)
    with pytest.raises(ParameterError, match="content"):
        scheme.detect_batch(z, content=content)


def test_contents_may_be_of_any_length_and_type(scheme, content):
    z = scheme.sample(content=content, rng=1)
    for other in (1e200 * content, 1e-200 * content, content.astype(np.float16), content.tolist()):
        assert scheme.detect(z, content=other).score > 0.98


def test_messages_are_refused(scheme, content):
    for payload in (b"x", "text", [b"x"]):
        with pytest.raises(PayloadError):
            scheme.sample_batch(1, payload, content=content)


def test_blank_and_huge_latents(scheme, content):
    blank = scheme.detect(np.zeros(scheme.shape), content=content)
    assert (blank.score, blank.log10_p, blank.details["unbound_log10_p"]) == (0, 0, 0)
    z = scheme.sample(content=content, rng=1)
    assert scheme.detect(1e36 * z, content=content).score == 1
    assert scheme.detect(1e-30 * z, content=content).score == 1
    for bad in (np.nan, np.inf):
        z[0, 0, 0] = bad
        with pytest.raises(MediaError, match="finite"):
            scheme.detect(z, content=content)


def test_a_small_latent_says_how_low_its_p_can_go(key):
    scheme = watermark.load("latent.seal", key, shape=(4, 4, 4), dimension=8, salt_bits=0)
    found = scheme.detect(scheme.sample(content=np.ones(8)), content=np.ones(8))
    assert found.details["p_floor"] == pytest.approx(found.p_value)


def small_trials(keys, trials, z, content, shown):
    """p-values under fresh keys: of a latent, or of the mark for `content` where z is None."""
    p = []
    for i in range(trials):
        scheme = watermark.load("latent.seal", keys(i), **SMALL, salt_bits=0)
        found = scheme.detect(scheme.sample(content=content, rng=i) if z is None else z, content=shown)
        p.append((found.p_value, 10 ** found.details["unbound_log10_p"]))
    return np.array(p).T


@pytest.mark.parametrize("kind", ["normal", "constant", "heavy-tailed"])
def test_presence_is_exact_for_any_latent(keys, kind):
    rng = np.random.default_rng(3)
    z = {"normal": rng.standard_normal, "constant": np.ones, "heavy-tailed": rng.standard_cauchy}[kind](SMALL["shape"])
    bound, unbound = small_trials(keys, 1500, z, None, np.ones(16))
    for alpha in (0.3, 0.1, 0.01):
        spread = 3.3 * math.sqrt(alpha * (1 - alpha) / 1500)
        assert alpha * 0.95 - spread < (unbound <= alpha).mean() < alpha + spread
        assert (bound <= alpha).mean() < alpha + spread


def test_a_mark_for_content_at_the_angle_is_a_null(keys):
    """The boundary of the composite null: rates are near the nominal ones, and not above."""
    content = np.random.default_rng(1).standard_normal(16)
    bound, unbound = small_trials(keys, 1500, None, content, at_angle(content, 60))
    assert (unbound < 1e-6).all()
    for alpha in (0.3, 0.1, 0.01):
        assert (bound <= alpha).mean() < alpha + 3.3 * math.sqrt(alpha * (1 - alpha) / 1500)
    assert (bound <= 0.3).mean() > 0.05


def test_the_least_cosine_is_the_quantile():
    for width in (4, 16, 64, 256):
        assert log_angular_tail(_least(width), width) == pytest.approx(math.log(0.05), abs=1e-5)


def test_patch_law():
    log_p, scores = _patch_law(16)
    assert (np.diff(log_p) <= 0).all()
    assert (np.diff(scores) >= 0).all()
    assert log_p[0] == pytest.approx(0)
    middle = 1400
    expected = 1 - (1 - math.exp(log_angular_tail(middle / 2048, 16))) ** CODES
    assert math.exp(log_p[middle]) == pytest.approx(expected)


def test_foreign_noise_shows_in_the_map(scheme, content):
    """An object of a fifth of the side, filled with other noise."""
    z = channel(scheme.sample(content=content, rng=1), 0.5)
    z[:, 20:33, 30:43] = np.random.default_rng(2).standard_normal((4, 13, 13))
    found = scheme.detect(z, content=at_angle(content, 15))
    assert found.detected(1e-6)
    inside = np.zeros((32, 32), bool)
    inside[11:15, 16:20] = True  # cells whose neighbours are foreign too
    presence = found.details["presence"]
    assert presence.dtype == np.float32
    assert presence[inside].max() < 4 < presence[~inside].max()
    assert np.abs(presence[inside]).max() < 4
    assert np.median(found.details["patch_p"][10:16, 15:21]) > 0.1
    assert np.median(found.details["patch_p"]) < 1e-3


def test_presence_scores_are_standard_normal_without_a_mark(scheme, content):
    rng = np.random.default_rng(1)
    maps = scheme.detect_batch(rng.standard_normal((40, *scheme.shape)), content=content)
    scores = np.array([found.details["presence"] for found in maps])
    assert abs(scores.mean()) < 0.05
    assert abs(scores.std() - 1) < 0.05


def test_tensors(scheme, content):
    torch = pytest.importorskip("torch")
    z = scheme.sample_batch(2, content=torch.from_numpy(content), rng=1, like=torch.empty(0))
    assert isinstance(z, torch.Tensor)
    assert np.array_equal(z.numpy(), scheme.sample_batch(2, content=content, rng=1))
    assert list(scheme.detect_batch(z, content=content)) == list(scheme.detect_batch(z.numpy(), content=content))
    odd = scheme.with_shape((4, 9, 9))
    expected = odd.sample(content=content, rng=1)
    assert np.array_equal(odd.sample(content=content, rng=1, like=torch.empty(0)).numpy(), expected)


@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 17, 16)])
def test_the_way_over_a_device(key, shape, monkeypatch):
    """Tensors on the CPU stand for ones on CUDA, and the CPU's kernels, or those that it emulates, for the GPU's."""
    torch = pytest.importorskip("torch")
    scheme = watermark.load("latent.seal", key, shape=shape, dimension=16)
    contents = np.random.default_rng(1).standard_normal((5, 16))
    z = scheme.sample_batch(5, content=contents, rng=1)
    noisy = channel(z, 0.8)
    expected = [scheme.detect_batch(noisy, content=content) for content in (contents, contents[0])]

    def search(key, x, least, best, matches):
        _native.core.patch_search(key, x, least, best, matches.numpy().view(np.uint32))

    emulated = _native.core._emulated
    device = SimpleNamespace(
        batch_simhash=emulated.batch_simhash,
        batch_patch_counts=emulated.batch_patch_counts,
        patch_noise=_native.core.patch_noise,
        patch_search=search,
    )
    monkeypatch.setattr(_native, "cuda", lambda: device)
    for module in (_native, patch, noise, seal):
        monkeypatch.setattr(module, "is_cuda", torch.is_tensor)
    scheme = watermark.load("latent.seal", key, shape=shape, dimension=16)
    sampled = scheme.sample_batch(5, content=contents, rng=1, like=torch.zeros(1))
    assert np.array_equal(sampled.numpy(), z)
    for content, wanted in zip((contents, contents[0]), expected, strict=True):
        found = scheme.detect_batch(torch.from_numpy(noisy), content=content)
        assert found == wanted
        assert torch.is_tensor(found.log10_p)
        assert found[2].details["salt"] == wanted[2].details["salt"]
