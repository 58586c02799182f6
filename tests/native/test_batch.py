"""The GPU's kernels for many pictures give the same bits as the CPU's for one.

Each test runs twice: on the CPU, which plays all threads of a GPU, and on a GPU where there is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from watermark.image import geometry
from watermark.ops import batch, lattice, picture

torch = pytest.importorskip("torch")

SHAPES = [
    ((2, 3, 301, 517), 1.37),
    ((3, 1, 70, 64), 1.0),
    ((1, 4, 130, 99), 1.9),
    ((2, 2, 65, 211), 3.3),
    ((1, 3, 7, 5), 1.0),
    ((1, 3, 540, 961), 540 / 512),
]


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    return "cpu" if request.param == "emulated" else "cuda"


@pytest.fixture(params=SHAPES, ids=lambda p: f"{p[0]}/{p[1]:.2f}")
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, float]:
    shape, factor = request.param
    rng = np.random.default_rng(1)
    smooth = rng.integers(0, 256, (*shape[:2], -(-shape[2] // 8), -(-shape[3] // 8))).repeat(8, 2).repeat(8, 3)
    noise = rng.integers(-20, 21, shape)
    return np.clip(smooth[:, :, : shape[2], : shape[3]] + noise, 0, 255).astype(np.uint8), factor


def converted(pixels: np.ndarray, dtype: str) -> np.ndarray:
    fine = np.clip(pixels + np.random.default_rng(8).uniform(-0.5, 0.5, pixels.shape), 0, 255)
    return {"uint8": pixels, "uint16": (fine * 257)}.get(dtype, fine / 255).astype(dtype)


def on(device: str, array: np.ndarray) -> Any:
    return torch.from_numpy(array).to(device)


def host(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.cpu())


def hwc(planes: np.ndarray) -> np.ndarray:
    return np.moveaxis(planes, 0, 2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_limited_high_pass(device: str, case: tuple[np.ndarray, float], dtype: str) -> None:
    pixels, factor = converted(case[0], dtype), case[1]
    luma = batch.luma(on(device, pixels), factor)
    high, means = batch.limited_high_pass(luma, 3.0, 1.0)
    for i, planes in enumerate(pixels):
        expected_high, expected_means = picture.limited_high_pass(hwc(planes), factor, 3.0, 1.0)
        np.testing.assert_array_equal(host(high)[i], expected_high)
        np.testing.assert_array_equal(host(means)[i], expected_means)
    np.testing.assert_array_equal(host(batch.statistics(luma, 3.0, 1.0)), host(means))


def test_luma_of_views(device: str, case: tuple[np.ndarray, float]) -> None:
    pixels, factor = case
    interleaved = np.ascontiguousarray(np.moveaxis(pixels, 1, 3))
    tensor = on(device, interleaved).permute(0, 3, 1, 2).flip(0)
    expected = host(batch.luma(on(device, pixels), factor))
    np.testing.assert_array_equal(host(batch.luma(tensor, factor)), expected[::-1])


@pytest.mark.parametrize("sigma", [0.9, 1.5, 2.5, 9.0])
def test_blur(device: str, sigma: float) -> None:
    images = np.random.default_rng(3).uniform(0, 99, (3, 75, 41)).astype(np.float32)
    found = host(batch.blur(on(device, images), sigma))
    np.testing.assert_array_equal(found, [picture.blur(image, sigma) for image in images])


@pytest.mark.parametrize("shape", [(3, 301, 211), (2, 8, 9), (1, 3, 2), (1, 64, 910)])
def test_whiten(device: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(4)
    high = rng.normal(0, 3, shape).astype(np.float32)
    weight = rng.uniform(0.01, 2, (shape[0], -(-shape[1] // 4), -(-shape[2] // 4))).astype(np.float32)
    found = host(batch.whiten(on(device, high.copy()), on(device, weight)))
    np.testing.assert_array_equal(found, [picture.whiten(h.copy(), w) for h, w in zip(high, weight, strict=True)])


@pytest.mark.parametrize(("shape", "period"), [((2, 151, 300), 9425), ((1, 40, 700), 97)])
def test_fold(device: str, shape: tuple[int, int, int], period: int) -> None:
    y = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    steps = geometry.STEPS % period
    found = host(batch.fold(on(device, y), steps, period))
    np.testing.assert_array_equal(found, [picture.fold(image, steps, period) for image in y])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_add_pattern(device: str, case: tuple[np.ndarray, float], dtype: str, layers: int) -> None:
    pixels, factor = converted(case[0], dtype), case[1]
    rng = np.random.default_rng(6)
    count = len(pixels)
    rows, columns = (-(-size // 4) for size in picture.reduced_shape(pixels.shape[2:], factor))
    cycles = rng.normal(size=(count, layers, 9425)).astype(np.float32)
    amplitudes = rng.uniform(-3, 3, (count, layers, rows, columns)).astype(np.float32)
    steps = rng.integers(0, 9425, count)
    found = host(batch.add_pattern(on(device, pixels), cycles, steps, on(device, amplitudes), factor))
    for i, planes in enumerate(pixels):
        expected = picture.add_pattern(hwc(planes), cycles[i], int(steps[i]), amplitudes[i], factor)
        np.testing.assert_array_equal(hwc(found[i]), expected)


def test_correlate_tile(device: str) -> None:
    rng = np.random.default_rng(7)
    y = rng.normal(size=(2, 75, 61)).astype(np.float32)
    items = np.array([1, 0, 1])
    samples = rng.normal(size=(3, 128, 128)).astype(np.float32)
    linear, offset = rng.uniform(-0.02, 0.02, (3, 2, 2)), rng.uniform(-40, 40, (3, 2))
    found = batch.correlate_tile(on(device, y), items, samples, linear, offset)
    for i, item in enumerate(items):
        expected = picture.correlate_tile(y[item], samples[i], linear[i], offset[i])
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(host(a)[i], b)


def test_demodulate_and_displace(device: str) -> None:
    rng = np.random.default_rng(14)
    y = rng.normal(size=(2, 75, 98)).astype(np.float32)
    items = np.array([1, 0, 1])
    frequencies = rng.uniform(-0.25, 0.25, (3, 4, 2))
    sums = host(batch.demodulate(on(device, y), items, frequencies))
    maps = np.concatenate([rng.uniform(-5, 5, (3, 2, 5, 7)), rng.uniform(0, 1, (3, 1, 5, 7))], axis=1).astype(
        np.float32
    )
    moved = host(batch.displace(on(device, y), items, on(device, maps)))
    for i, item in enumerate(items):
        # The waves are made by torch's exponential function here, and by NumPy's there.
        np.testing.assert_allclose(sums[i], picture.demodulate(y[item], frequencies[i]), atol=1e-5)
        np.testing.assert_array_equal(moved[i], picture.displace(y[item], maps[i, :2], maps[i, 2]))


def textures(count: int, height: int, width: int) -> np.ndarray:
    """Noise with strong periodic lines."""
    rng = np.random.default_rng(9)
    y, x = np.mgrid[:height, :width]
    waves = sum(np.cos(2 * np.pi * (fx * x + fy * y)) for fx, fy in rng.uniform(-0.24, 0.24, (24, 2)))
    return (rng.normal(size=(count, height, width)) + 0.2 * waves).astype(np.float32)


@pytest.fixture(scope="module")
def spectra() -> np.ndarray:
    return np.stack([lattice.spectrum(y) for y in textures(2, 511, 700)])


@pytest.mark.parametrize("shape", [(511, 700), (37, 896), (64, 65)])
def test_spectrum(device: str, shape: tuple[int, int]) -> None:
    y = textures(2, *shape)
    found = host(batch.spectrum(on(device, y)))
    for i, image in enumerate(y):
        expected = lattice.spectrum(image)
        np.testing.assert_allclose(found[i], expected, atol=1e-6 * np.abs(expected).max())


def test_noise_ratio_and_table(device: str, spectra: np.ndarray) -> None:
    values = on(device, spectra)
    level = batch.noise(values)
    ratio = batch.power_ratio(values, level)
    table = host(batch.log_polar(ratio))
    for i, one in enumerate(spectra):
        expected_level = lattice.noise(one)
        np.testing.assert_array_equal(host(level)[i], expected_level)
        expected = lattice.power_ratio(one, expected_level)
        np.testing.assert_array_equal(host(ratio)[i], expected)
        np.testing.assert_array_equal(table[i], lattice.log_polar(expected))


def sync_lines() -> np.ndarray:
    angle = np.pi * (np.arange(32) + 0.3) / 32
    radius = np.random.default_rng(11).uniform(0.08, 0.21, 32)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize(("stretches", "scales", "most"), [(20, 326, 48), (3, 5, 7), (1, 1, 64)])
def test_search(device: str, spectra: np.ndarray, stretches: int, scales: int, most: int) -> None:
    tables = np.stack([lattice.log_polar(lattice.power_ratio(one, lattice.noise(one))) for one in spectra])
    rows, columns = lattice.template(sync_lines(), geometry._stretches()[:stretches], 0.235)
    found = batch.search(on(device, tables), rows, columns, scales, most)
    for peaks, table in zip(found, tables, strict=True):
        np.testing.assert_array_equal(peaks, lattice.search(table, rows, columns, scales, most))


def test_search_checks_its_table(device: str) -> None:
    table = on(device, np.zeros((1, lattice.ROWS, lattice.ANGLES), np.uint8))
    rows, columns = lattice.template(sync_lines(), np.eye(2)[None], 0.235)
    assert batch.search(table, rows, columns, 3, 5)[0].shape == (0, 4)
    with pytest.raises(ValueError, match="stay in the table"):
        batch.search(table, rows + lattice.ROWS, columns, 3, 5)


def test_fits_and_samples(device: str, spectra: np.ndarray) -> None:
    rng = np.random.default_rng(12)
    lines = sync_lines()
    items = np.array([0, 1, 1, 0])
    maps = np.eye(2) * 1.02 + rng.normal(0, 0.02, (4, 2, 2))
    level = np.stack([lattice.noise(one) for one in spectra])
    ratio = np.stack([lattice.power_ratio(*pair) for pair in zip(spectra, level, strict=True)])
    fitted, scores = batch.refine(on(device, ratio), items, maps, lines)
    values = batch.sample(on(device, spectra), on(device, level), items, maps, lines)
    turns = np.exp(2j * np.pi * rng.uniform(size=(4, 32))).astype(np.complex64)
    directions = [geometry._FREE, geometry._FREE[:1], geometry._FREE[1:3], geometry._FREE]
    polished = batch.polish(on(device, spectra), on(device, level), items, maps, directions, lines, turns)
    for i, item in enumerate(items):
        expected, score = lattice.refine(ratio[item], maps[i : i + 1], lines)
        np.testing.assert_array_equal(fitted[i], expected[0])
        assert scores[i] == score[0]
        np.testing.assert_array_equal(host(values)[i], lattice.sample(spectra[item], level[item], maps[i], lines))
        best, _ = lattice.polish(spectra[item], level[item], maps[i], directions[i], lines, turns[i])
        np.testing.assert_array_equal(polished[i], best)


@pytest.mark.parametrize("period", [64, 16])
def test_locate(device: str, period: int) -> None:
    rng = np.random.default_rng(13)
    lines = rng.integers(-24, 25, (32, 2))
    sync = (rng.normal(size=(5, 32)) + 1j * rng.normal(size=(5, 32))).astype(np.complex64)
    sync[1] = np.exp(-2j * np.pi * (lines @ [0.31, 0.87])).astype(np.complex64)
    sync[2] = 0
    found = batch.locate(on(device, sync), lines, period)
    np.testing.assert_array_equal(found, [lattice.locate(row, lines, period) for row in sync])


def test_tensors_are_checked(device: str) -> None:
    pixels = on(device, np.zeros((2, 3, 64, 64), np.uint8))
    cycles, amplitudes = np.zeros((2, 1, 9425), np.float32), on(device, np.ones((2, 1, 16, 16), np.float32))
    with pytest.raises(ValueError, match="cycles must hold one or two"):
        batch.add_pattern(pixels, cycles[:1], np.zeros(2, np.int64), amplitudes, 1.0)
    with pytest.raises(ValueError, match="steps must hold"):
        batch.add_pattern(pixels, cycles, np.zeros(1, np.int64), amplitudes, 1.0)
    with pytest.raises(ValueError, match="factor"):
        batch.luma(pixels, 0.5)
    with pytest.raises(TypeError, match="wrong dtype"):
        batch.blur(pixels[:, 0].double(), 1.0)
    with pytest.raises(ValueError, match="taps"):
        batch.blur(pixels[:, 0].float(), 10.0)
