"""Time of the CPU kernels on one thread, each beside the work that no implementation can avoid.

    python benchmarks/kernels/run.py

``floor`` in the extra information of each row counts that work: arithmetic operations or bytes of memory traffic, per
call. Divided by the time it gives a rate, to be compared with what the machine can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import watermark
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
