"""CPU time of the kernels on one thread, each beside the work that no implementation can avoid.

    python benchmarks/kernels/run.py

``floor`` in the extra information of each row counts that work: arithmetic operations or bytes of memory traffic, per
call. Divided by the time it gives a rate, to be compared with what the machine can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import watermark
from watermark.latent.seal import BITS, CODES
from watermark.ops import patch
from watermark.ops.chacha import chacha20
from watermark.ops.normal import half_normal, pack_bits, signed_normal
from watermark.ops.sign_pad import sign_votes
from watermark.payload import Frame, SoftCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

LATENT = 4 * 64 * 64
KEY = np.arange(8, dtype=np.uint32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Kernels run on one thread."""
    before = watermark.threads()
    watermark.set_threads(1)
    yield
    watermark.set_threads(before)


def measure(benchmark: BenchmarkFixture, floor: str, call: Callable[[], object]) -> None:
    """Times one call and notes its floor."""
    benchmark.extra_info["floor"] = floor
    benchmark(call)


@pytest.mark.parametrize("words", [LATENT, 1 << 20])
def test_chacha20(benchmark: BenchmarkFixture, words: int) -> None:
    """Keystream: 10 double rounds of 8 quarter rounds of 12 operations make 16 words."""
    nonce = np.zeros(3, np.uint32)
    measure(benchmark, f"{words // 16 * (10 * 8 * 12 + 16)} 32-bit operations", lambda: chacha20(KEY, nonce, words))


def test_half_normal(benchmark: BenchmarkFixture) -> None:
    """Words to half-normal variates: a table look-up and a cubic each."""
    words = chacha20(KEY, np.zeros(3, np.uint32), 1 << 20)
    measure(benchmark, f"{8 * words.size} bytes", lambda: half_normal(words))


@pytest.mark.parametrize("rows", [1, 64])
def test_signed_normal(benchmark: BenchmarkFixture, rows: int) -> None:
    """A latent of 4 x 64 x 64: one keystream word and one cubic per element."""
    signs = pack_bits(np.random.default_rng(1).integers(0, 2, (1, LATENT), dtype=np.uint8))
    out = np.empty((rows, LATENT), np.float32)
    operations = rows * LATENT * (976 // 16 + 6)
    measure(benchmark, f"{operations} operations", lambda: signed_normal(KEY, 0, signs, out))


@pytest.mark.parametrize("rows", [1, 64])
def test_sign_votes(benchmark: BenchmarkFixture, rows: int) -> None:
    """Folding a latent onto its symbols: every element is read once."""
    z = np.random.default_rng(2).standard_normal((rows, LATENT), np.float32)
    pad = pack_bits(np.random.default_rng(3).integers(0, 2, LATENT, dtype=np.uint8))
    symbols = Frame(256).size
    measure(benchmark, f"{z.nbytes} bytes", lambda: sign_votes(z, pad, symbols))


@pytest.mark.parametrize("paths", [1, 32])
@pytest.mark.parametrize("symbols", [512, 2048])
def test_polar_decode(benchmark: BenchmarkFixture, symbols: int, paths: int) -> None:
    """List decoding of 64 message bits from noisy symbols: n log2 n node updates per path."""
    from watermark.ops import polar

    code = SoftCode(Frame(64), symbols)
    noise = np.random.default_rng(4).normal(0, 2, symbols)
    soft = (1 - 2 * code.encode(b"order-42").astype(np.float64) + noise).astype(np.float32)
    updates = paths * symbols * (symbols.bit_length() - 1)
    measure(benchmark, f"{updates} node updates", lambda: polar.decode(soft, code.information, paths))


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("t", [3, 8])
def test_syndrome_test(benchmark: BenchmarkFixture, t: int, rows: int) -> None:
    """`latent.prc`, syndrome test alone: t coordinates for each check, one check for almost every element."""
    prc = watermark.load("latent.prc", watermark.Key.from_bytes(bytes(32)), t=t)
    code = prc._tables[0][0].code
    z = np.random.default_rng(5).standard_normal((rows, LATENT), np.float32)
    measure(benchmark, f"{rows * t * len(code.inner)} coordinates", lambda: code.test(z))


PATCHES, WIDTH, DIMENSION, SALTS = 32 * 32, 4 * 2 * 2, 256, 256


@pytest.mark.parametrize("rows", [1, 16])
def test_seal_hash(benchmark: BenchmarkFixture, rows: int) -> None:
    """`latent.seal`, the codes of all patches of a 4 x 64 x 64 latent: one inner product for each bit."""
    rng = np.random.default_rng(6)
    weights = rng.integers(-6000, 6000, (PATCHES, BITS, DIMENSION), np.int16)
    v = rng.integers(-500, 500, (rows, DIMENSION), np.int16)
    measure(benchmark, f"{rows * weights.size} multiplications", lambda: patch.simhash(weights, v))


@pytest.mark.parametrize("rows", [1, 16])
def test_seal_noise(benchmark: BenchmarkFixture, rows: int) -> None:
    """`latent.seal`, the noise that the codes name: as much as a latent has, in blocks of one patch."""
    code = np.random.default_rng(7).integers(0, CODES, (rows, PATCHES), np.uint8)
    out = np.empty((rows, PATCHES, WIDTH), np.float32)
    operations = out.size * (976 // 16 + 6)
    measure(benchmark, f"{operations} operations", lambda: patch.patch_noise(KEY, code, CODES, out))


@pytest.mark.parametrize("rows", [1, 16])
def test_seal_search(benchmark: BenchmarkFixture, rows: int) -> None:
    """`latent.seal`, all codes of all patches, and the matches with every salt: all noises are made once."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((rows, PATCHES, WIDTH), np.float32)
    code = rng.integers(0, CODES, (1, PATCHES), np.uint8)
    masks = rng.integers(0, CODES, (SALTS, PATCHES), np.uint8)
    noises = PATCHES * CODES * WIDTH
    operations = noises * (976 // 16 + 6 + 2 * rows)
    measure(
        benchmark,
        f"{operations} operations",
        lambda: patch.patch_counts(patch.patch_search(KEY, x, CODES, 0.42)[1], code, masks),
    )
