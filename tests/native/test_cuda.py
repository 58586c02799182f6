"""CUDA against the CPU: keyed randomness and noise are the same bits, and so are the verdicts of latent marks."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import watermark
from watermark import CudaError, MediaError
from watermark.ops import _native
from watermark.ops.chacha import chacha20
from watermark.ops.normal import pack_bits, signed_normal
from watermark.ops.patch import patch_counts, patch_noise, patch_search, simhash
from watermark.ops.sign_pad import sign_votes

KEY, NONCE = np.arange(1, 9, dtype=np.uint32) * 0x01234567, np.array([1, 2, 3], np.uint32)

cuda = pytest.mark.cuda


def on_device(array: np.ndarray):
    import torch

    return torch.from_numpy(array).cuda()


@cuda
def test_the_device_has_a_name():
    assert watermark.cuda.is_available()
    assert _native.cuda().device_name()
    with pytest.raises(RuntimeError, match="CUDA could not"):
        _native.cuda().device_name(99)


@cuda
@pytest.mark.parametrize("count", [0, 1, 15, 17, 2047, 2048, 2049, 1_000_003])
@pytest.mark.parametrize("counter", [0, 5])
def test_chacha20(count, counter):
    out = on_device(np.full(count, 7, np.int32))
    _native.cuda().chacha20(KEY, NONCE, counter, out)
    assert np.array_equal(out.cpu().numpy().view(np.uint32), chacha20(KEY, NONCE, count, counter))


@cuda
@pytest.mark.parametrize(("rows", "count"), [(0, 5), (3, 0), (1, 1), (1, 31), (5, 2049), (40, 16384)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("first_row", [0, 2**32 - 2, 2**64 - 100])
def test_signed_normal(rows, count, shared, first_row):
    signs = np.random.default_rng(2).integers(0, 2**32, (1 if shared else rows, -(-count // 32)), np.uint32)
    expected = np.empty((rows, count), np.float32)
    out = on_device(np.full((rows, count), 9, np.float32))
    signed_normal(KEY, first_row, signs, expected)
    signed_normal(KEY, first_row, signs, out)
    assert np.array_equal(out.cpu().numpy().view(np.uint32), expected.view(np.uint32))


@cuda
@pytest.mark.parametrize("symbols", [1, 7, 8, 31, 32, 33, 128, 129, 273, 1500])
@pytest.mark.parametrize("rows", [0, 1, 9])
def test_sign_votes(symbols, rows):
    rng = np.random.default_rng(symbols)
    count = 1537
    # Sizes far apart make the sign of a sum depend on the order of its additions.
    z = (rng.standard_normal((rows, count)) * 10.0 ** rng.integers(-8, 8, (rows, count))).astype(np.float32)
    z[rng.random(z.shape) < 0.1] *= -0.0
    if rows > 1:
        z[1, 777] = np.inf
    pad = pack_bits(rng.integers(0, 2, count, np.uint8))
    for found, expected in zip(sign_votes(on_device(z), pad, symbols), sign_votes(z, pad, symbols), strict=True):
        assert np.array_equal(found, expected)


@cuda
def test_tensors_are_checked():
    z, bits, agreement = np.ones((2, 10), np.float32), np.zeros((2, 1), np.uint8), np.zeros(2, np.int64)
    pad = np.zeros(1, np.int32)
    call = _native.cuda().sign_votes
    with pytest.raises(ValueError, match="z is not on a CUDA device"):
        call(z, on_device(pad), 5, on_device(bits), on_device(agreement))
    with pytest.raises(ValueError, match="bits is not on a CUDA device"):
        call(on_device(z), on_device(pad), 5, bits, on_device(agreement))
    with pytest.raises(TypeError, match="z has the wrong dtype"):
        call(on_device(z.astype(np.float64)), on_device(pad), 5, on_device(bits), on_device(agreement))
    with pytest.raises(ValueError, match="not C-contiguous"):
        call(on_device(np.ones((10, 2), np.float32)).T, on_device(pad), 5, on_device(bits), on_device(agreement))
    with pytest.raises(ValueError, match="one bit per symbol"):
        call(on_device(z), on_device(pad), 9, on_device(bits), on_device(agreement))


@cuda
@pytest.mark.parametrize("shape", [(4, 64, 64), (16, 3, 20, 11)])
def test_gaussian_shading(key, shape):
    scheme = watermark.load("latent.gaussian_shading", key, shape=shape)
    like = on_device(np.zeros(1, np.float32))
    payloads = [b"a", None, b"user 7"]
    expected, z = scheme.sample_batch(3, payloads, rng=5), scheme.sample_batch(3, payloads, rng=5, like=like)
    assert z.device == like.device
    assert np.array_equal(z.cpu().numpy().view(np.uint32), expected.view(np.uint32))
    found = scheme.detect_batch(z)
    assert found == scheme.detect_batch(expected)
    assert {found.log10_p.device, found.score.device, found.n.device, found.payload_ok.device} == {like.device}
    assert found.detected(1e-6).all()
    assert found[::2].score.device == like.device
    assert scheme.detect(z[2]).payload == b"user 7"
    noisy = (0.5 * z + 0.8 * on_device(np.random.default_rng(1).standard_normal(z.shape).astype(np.float32))).half()
    assert scheme.detect_batch(noisy) == scheme.detect_batch(noisy.cpu())


@cuda
@pytest.mark.parametrize(("rows", "patches", "width"), [(0, 3, 16), (1, 1, 4), (2, 9, 16), (19, 33, 20), (3, 8, 64)])
@pytest.mark.parametrize("codes", [32, 128, 256])
def test_patches(rows, patches, width, codes):
    rng = np.random.default_rng(width)
    code = rng.integers(0, codes, (rows, patches), np.uint8)
    x = rng.standard_normal((rows, patches, width)).astype(np.float32)
    expected = np.empty_like(x)
    out = on_device(np.full_like(x, 9))
    patch_noise(KEY, code, codes, expected)
    patch_noise(KEY, on_device(code), codes, out)
    assert np.array_equal(out.cpu().numpy().view(np.uint32), expected.view(np.uint32))
    x[..., 0, :] *= 1e37
    best, matches = patch_search(KEY, on_device(x), codes, 0.3)
    expected_best, expected_matches = patch_search(KEY, x, codes, 0.3)
    assert np.array_equal(best.cpu().numpy(), expected_best)
    assert np.array_equal(matches.cpu().numpy().view(np.uint32), expected_matches)
    masks = rng.integers(0, codes, (5, patches), np.uint8)
    for named in (code, code[:1]) if rows else (code,):
        counts = patch_counts(matches, on_device(named), on_device(masks))
        assert np.array_equal(counts.cpu().numpy(), patch_counts(expected_matches, named, masks))


@cuda
def test_simhash():
    rng = np.random.default_rng(1)
    weights, v = (rng.integers(-9000, 9000, shape, np.int16) for shape in ((33, 7, 300), (41, 300)))
    found = simhash(on_device(weights), v)
    assert found.is_cuda
    assert np.array_equal(found.cpu().numpy(), simhash(weights, v))


@cuda
@pytest.mark.parametrize("shape", [(4, 64, 64), (16, 33, 20)])
def test_seal(key, shape):
    scheme = watermark.load("latent.seal", key, shape=shape)
    content = np.random.default_rng(1).standard_normal((3, 256))
    expected = scheme.sample_batch(3, content=content, rng=5)
    z = scheme.sample_batch(3, content=on_device(content), rng=5, like=on_device(np.zeros(1, np.float32)))
    assert np.array_equal(z.cpu().numpy().view(np.uint32), expected.view(np.uint32))
    noisy = 0.5 * z + 0.8 * on_device(np.random.default_rng(1).standard_normal(z.shape).astype(np.float32))
    assert scheme.detect_batch(noisy, content=content) == scheme.detect_batch(noisy.cpu(), content=content)


@cuda
def test_values_that_are_not_finite(key):
    scheme = watermark.load("latent.gaussian_shading", key)
    z = scheme.sample(like=on_device(np.zeros(1, np.float32)))
    z[3, 5, 7] = float("nan")
    with pytest.raises(MediaError, match="finite"):
        scheme.detect(z)


@cuda
def test_work_is_queued_on_the_current_stream(key):
    import torch

    scheme = watermark.load("latent.gaussian_shading", key)
    like = on_device(np.zeros(1, np.float32))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # whoever does not wait for it reads the marks too early
        z = scheme.sample_batch(4, b"x", rng=1, like=like)
        doubled = z * 2
        found = scheme.detect_batch(doubled)
    assert found.payload == (b"x",) * 4
    assert np.array_equal(z.cpu().numpy(), scheme.sample_batch(4, b"x", rng=1))


@pytest.mark.skipif(not watermark.cuda.why_not(), reason="CUDA can be used here")
def test_without_a_device_calls_fail_with_a_sentence():
    with pytest.raises(CudaError, match="CUDA"):
        _native.on_cuda("device_name")


@pytest.mark.skipif(not watermark.cuda.why_not(), reason="CUDA can be used here")
def test_a_machine_that_must_have_cuda_fails_without():
    """A job meant for a GPU never passes by skipping: one test of this file, run as such a job runs it."""
    test = f"{__file__}::test_the_device_has_a_name"
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    environment = {**os.environ, "WATERMARK_REQUIRE_CUDA": "1"}
    result = subprocess.run(run, env=environment, cwd="/", capture_output=True, text=True)
    assert result.returncode == 1
    assert "WATERMARK_REQUIRE_CUDA=1, but CUDA cannot be used" in result.stdout
