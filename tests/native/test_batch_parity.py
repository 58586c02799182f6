"""The GPU's kernels for parity checks give the bits of the CPU's, whether the CPU plays them or a GPU runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import watermark
from watermark.ops import parity
from watermark.ops._native import core, cuda, to_device

torch = pytest.importorskip("torch")


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    return "cpu" if request.param == "emulated" else "cuda"


def call(device: str, name: str, *arguments: Any) -> None:
    getattr(cuda() if device == "cuda" else core._emulated, f"batch_{name}")(*arguments)


def empty(device: str, shape: tuple[int, ...], dtype: Any) -> Any:
    return torch.full(shape, 77, dtype=dtype, device=device)


@pytest.fixture(params=[(3, 0), (4, 64), (6, 24)])
def case(request: pytest.FixtureRequest) -> tuple[Any, np.ndarray]:
    """Tables of a code, and latents: marked ones, noise, zeros, and what is not finite."""
    t, payload_bits = request.param
    prc = watermark.load(
        "latent.prc", watermark.Key.from_bytes(bytes([t] * 32)), shape=(1, 40, 41), payload_bits=payload_bits, t=t
    )
    rng = np.random.default_rng(t)
    z = prc.sample_batch(5, rng=1).reshape(5, -1)
    z[1] = 0.8 * z[1] + 0.6 * rng.standard_normal(z[1].size).astype(np.float32)
    z[2], z[3], z[4, 9] = rng.standard_normal(z[2].size), 0, np.inf
    return prc._tables[0][0].code._host_tables, z


def test_syndrome_and_its_tail(device: str, case: tuple[Any, np.ndarray]) -> None:
    tables, z = case
    like = torch.zeros(1, device=device)
    on = type(tables)(*(to_device(table, like) for table in tables))
    rows = torch.from_numpy(z).to(device)
    scales, counts = empty(device, (5,), torch.float32), empty(device, (5, 128), torch.int32)
    codes = empty(device, z.shape, torch.int16)
    call(device, "syndrome", rows, on.pad, on.checks, on.weights, on.levels, codes, scales, counts)
    expected = parity.syndrome(z, tables.pad, tables.checks, tables.weights, tables.levels)
    assert np.array_equal(scales.cpu().numpy(), expected[0], equal_nan=True)
    assert np.array_equal(counts.cpu().numpy(), expected[1])
    scores, log_p = empty(device, (5,), torch.float64), empty(device, (5,), torch.float64)
    call(device, "rademacher_tail", counts, on.values, scores, log_p)
    expected = parity.rademacher_tail(expected[1], tables.values)
    assert scores.cpu().numpy() == pytest.approx(expected[0], rel=1e-12)
    assert log_p.cpu().numpy() == pytest.approx(expected[1], rel=1e-9, abs=1e-12)


def test_beliefs(device: str, case: tuple[Any, np.ndarray]) -> None:
    tables, z = case
    z = z[:4]
    like = torch.zeros(1, device=device)
    on = type(tables)(*(to_device(table, like) for table in tables))
    scales, _ = parity.syndrome(z, tables.pad, tables.checks, tables.weights, tables.levels)
    totals, unsatisfied = empty(device, (4, z.shape[1] + 1), torch.float32), empty(device, (4,), torch.int64)
    messages = empty(device, (4, tables.outer.size + tables.inner.size), torch.float32)
    rows, steps = torch.from_numpy(z).to(device), torch.from_numpy(scales).to(device)
    call(device, "beliefs", rows, on.pad, steps, on.odds, on.outer, on.inner, 9, 3, messages, totals, unsatisfied)
    expected = parity.beliefs(z, tables.pad, scales, tables.odds, tables.outer, tables.inner, 9, 3)
    assert np.array_equal(totals.cpu().numpy()[:, :-1], expected[0])
    assert np.array_equal(unsatisfied.cpu().numpy(), expected[1])
    assert unsatisfied[0] == 0


@pytest.mark.cuda
def test_latents_on_a_device_get_the_same_verdicts() -> None:
    prc = watermark.load("latent.prc", watermark.Key.from_bytes(bytes(32)), payload_bits=512, subkeys=2)
    z = prc.sample_batch(40, b"order-42", rng=3, like=torch.zeros(1, device="cuda"))
    host = prc.sample_batch(40, b"order-42", rng=3)
    assert np.array_equal(z.cpu().numpy().view(np.uint32), host.view(np.uint32))
    noise = np.random.default_rng(1).standard_normal(host.shape).astype(np.float32)
    noisy = np.float32(0.42) * host + np.float32(0.9) * noise
    found, expected = prc.detect_batch(torch.from_numpy(noisy).cuda()), prc.detect_batch(noisy)
    assert found.payload == expected.payload
    assert found.log10_p.cpu().numpy() == pytest.approx(expected.log10_p, rel=1e-3)


def test_tables_are_checked(case: tuple[Any, np.ndarray]) -> None:
    tables, z = case
    like = torch.zeros(1)
    on = type(tables)(*(to_device(table, like) for table in tables))
    rows, scales, counts = torch.from_numpy(z), torch.zeros(5), torch.zeros((5, 128), dtype=torch.int32)
    codes = torch.zeros(z.shape, dtype=torch.int16)
    with pytest.raises(ValueError, match="weights"):
        core._emulated.batch_syndrome(rows, on.pad, on.checks, on.weights[:9], on.levels, codes, scales, counts)
    with pytest.raises(ValueError, match="pad"):
        core._emulated.batch_syndrome(rows, on.pad[:9], on.checks, on.weights, on.levels, codes, scales, counts)
    with pytest.raises(ValueError, match="codes"):
        core._emulated.batch_syndrome(rows, on.pad, on.checks, on.weights, on.levels, codes[:2], scales, counts)
