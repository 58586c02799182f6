"""Picture kernels: equal to their NumPy references, and the same bits on every instruction set and thread count."""

from __future__ import annotations

import numpy as np
import pytest

import watermark
from watermark import _core
from watermark.ops import picture

SHAPES = [((512, 512, 3), 1.0), ((301, 517, 3), 1.37), ((7, 5, 3), 1.0), ((130, 99, 4), 1.9), ((64, 70, 1), 1.0),
          ((65, 211, 2), 3.3), ((540, 961, 3), 540 / 512)]  # fmt: skip


@pytest.fixture(params=SHAPES, ids=lambda p: f"{p[0]}/{p[1]:.2f}")
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, float]:
    shape, factor = request.param
    rng = np.random.default_rng(1)
    smooth = rng.integers(0, 256, (-(-shape[0] // 8), -(-shape[1] // 8), shape[2])).repeat(8, 0).repeat(8, 1)
    noise = rng.integers(-20, 21, shape)
    return np.clip(smooth[: shape[0], : shape[1]] + noise, 0, 255).astype(np.uint8), factor


SAMPLES = (np.uint16, np.float32, np.float64)


def converted(pixels: np.ndarray, dtype: type) -> np.ndarray:
    """The same picture in other samples, with detail between the grey levels."""
    fine = np.clip(pixels + np.random.default_rng(8).uniform(-0.5, 0.5, pixels.shape), 0, 255)
    return (fine * 257).astype(dtype) if dtype is np.uint16 else (fine / 255).astype(dtype)


def grid(pixels: np.ndarray, factor: float, low: float, high: float) -> np.ndarray:
    height, width = picture.reduced_shape(pixels.shape, factor)
    return np.random.default_rng(2).uniform(low, high, (-(-height // 4), -(-width // 4))).astype(np.float32)


def layers(pixels: np.ndarray, factor: float) -> tuple[np.ndarray, int, np.ndarray]:
    """Two patterns to add: cycles, step and amplitudes."""
    amplitudes = np.stack([grid(pixels, factor, 0.3, 3.0), grid(pixels, factor, -1.5, 1.5)])
    return np.random.default_rng(5).normal(size=(2, 9425)).astype(np.float32), 2353, amplitudes


def on_every_backend(name: str, *inputs: object, outputs: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Calls a kernel with every instruction set and 1 to 3 threads; outputs are copied after each call."""
    results = []
    for isa in _core.instruction_sets():
        for threads in (1, 2, 3):
            watermark.set_threads(threads)
            for out in outputs:
                out.fill(7)
            getattr(_core, name)(*inputs, *outputs, isa=isa)
            results.append([out.copy() for out in outputs])
    watermark.set_threads(0)
    return results


def assert_identical(results: list[list[np.ndarray]]) -> None:
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def same_statistics(pixels: np.ndarray, factor: float, tolerance: float) -> None:
    high, means = picture.limited_high_pass(pixels, factor, 3.0, 1.0)
    expected_high, expected_means = picture.limited_high_pass_reference(pixels, factor, 3.0, 1.0)
    np.testing.assert_allclose(high, expected_high, atol=tolerance)
    # The square root magnifies what is left of nothing.
    np.testing.assert_allclose(means[0], expected_means[0], atol=0.02)
    np.testing.assert_allclose(means[1:], expected_means[1:], rtol=1e-5, atol=tolerance)
    both = picture.statistics(pixels, factor, (12.0, 3.0), 1.0)
    np.testing.assert_array_equal(both[1], means)
    np.testing.assert_array_equal(both[0], picture.limited_high_pass(pixels, factor, 12.0, 1.0)[1])


def test_statistics_equal_the_reference(case: tuple[np.ndarray, float]) -> None:
    same_statistics(*case, 2e-4)


@pytest.mark.parametrize("dtype", SAMPLES)
def test_statistics_of_other_samples_equal_the_reference(case: tuple[np.ndarray, float], dtype: type) -> None:
    same_statistics(converted(case[0], dtype), case[1], 5e-4)


@pytest.mark.parametrize("shape", [(5, 300, 3), (300, 5, 1), (1, 1, 1)])
def test_statistics_of_a_strip_thinner_than_one_reduced_pixel(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(9).integers(0, 256, shape).astype(np.uint8)
    assert 1 in picture.reduced_shape(shape, 7.3)
    same_statistics(pixels, 7.3, 5e-4)


@pytest.mark.parametrize("dtype", [np.uint8, *SAMPLES])
def test_statistics_are_bit_identical_everywhere(case: tuple[np.ndarray, float], dtype: type) -> None:
    pixels, factor = case if dtype is np.uint8 else (converted(case[0], dtype), case[1])
    height, width = picture.reduced_shape(pixels.shape, factor)
    taps, cells = picture.gaussian_taps(2.0), (-(-height // 4), -(-width // 4))
    outputs = [np.empty((2, 3, *cells), np.float32), np.empty((height, width), np.float32)]
    assert_identical(
        on_every_backend("limited_high_pass", pixels, factor, (9.0, 3.0), taps, height, width, outputs=outputs)
    )


def test_reduction_keeps_the_mean_and_drops_uncovered_borders() -> None:
    assert picture.reduced_shape((1080, 1920), 1080 / 512) == (512, 910)
    flat = np.full((100, 150, 3), 77, np.uint8)
    [means] = picture.statistics(flat, 1.7, (3.0,), 1.0)
    np.testing.assert_allclose(means[1], 0, atol=1e-4)
    np.testing.assert_allclose(means[2], 77, rtol=1e-5)


def test_an_edge_counts_no_more_than_the_limit() -> None:
    rng = np.random.default_rng(10)
    faint = rng.integers(-1, 2, (80, 90)) + 100
    edge = faint + np.where(np.arange(90) < 40, 0, 100)
    pictures = [np.repeat(p[:, :, None], 3, axis=2).astype(np.uint8) for p in (faint, edge)]
    without, within = (picture.limited_high_pass(p, 1.0, 3.0, 1.0)[0] for p in pictures)
    assert np.abs(within).max() < 3
    np.testing.assert_allclose(within[:, :35], without[:, :35], atol=1e-5)
    np.testing.assert_allclose(within[:, 45:], without[:, 45:], atol=1e-5)


@pytest.mark.parametrize("sigma", [0.9, 2.0, 6.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (50, 7), (64, 64), (33, 41)])
def test_blur_equals_the_reference_also_on_pictures_smaller_than_its_reach(
    sigma: float, shape: tuple[int, int]
) -> None:
    image = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    expected = picture.blur_reference(image, sigma)
    np.testing.assert_allclose(picture.blur(image, sigma), expected, atol=2e-6)
    assert_identical(on_every_backend("blur", image, picture.gaussian_taps(sigma), outputs=[np.empty_like(image)]))


def test_whiten_equals_the_reference_and_is_bit_identical(case: tuple[np.ndarray, float]) -> None:
    high, _ = picture.limited_high_pass(*case, 3.0, 1.0)
    weight = grid(*case, 0.1, 1.0)
    windows = [picture.taper_window(size, 10) for size in high.shape]
    assert_identical(on_every_backend("whiten", high, weight, 3.0, *windows, outputs=[np.empty_like(high)]))
    expected = picture.whiten_reference(high, weight)
    whitened = picture.whiten(high.copy(), weight)
    np.testing.assert_allclose(whitened, expected, atol=2e-6)
    assert np.abs(whitened).max() <= 3


def test_whiten_of_a_flat_picture_is_zero() -> None:
    assert not picture.whiten(np.zeros((64, 80), np.float32), np.ones((16, 20), np.float32)).any()


@pytest.mark.parametrize("period", [97, 9425])
def test_fold_equals_the_reference(period: int) -> None:
    y = np.random.default_rng(4).normal(size=(205, 333)).astype(np.float32)
    steps = np.array([0, 1, 40, period - 1])
    folded = picture.fold(y, steps, period)
    np.testing.assert_allclose(folded, picture.fold_reference(y, steps, period), atol=1e-4)
    assert_identical(on_every_backend("fold", y, steps, outputs=[np.empty_like(folded)]))


@pytest.mark.parametrize("linear", [np.eye(2), [[0.0, -1.0], [1.0, 0.0]], [[1.31, 0.2], [-0.35, -0.8]]])
def test_correlation_equals_the_reference(linear: object) -> None:
    rng = np.random.default_rng(7)
    y, samples = rng.normal(size=(205, 333)).astype(np.float32), rng.normal(size=(128, 128)).astype(np.float32)
    g, offset = np.array(linear) / 96.01, np.array([-0.1234, 3.4567])
    found = picture.correlate_tile(y, samples, g, offset)
    for a, b in zip(found, picture.correlate_tile_reference(y, samples, g, offset), strict=True):
        assert (np.abs(a - b) > 1e-3).mean() < 0.02
    assert_identical(on_every_backend("correlate_tile", y, samples, g, offset, outputs=[np.stack(found)]))


@pytest.mark.parametrize("shape", [(205, 333), (64, 80), (3, 5)])
def test_demodulation_equals_the_reference(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(8)
    y, frequencies = rng.normal(size=shape).astype(np.float32), rng.uniform(-0.4, 0.4, (5, 2))
    sums = picture.demodulate(y, frequencies)
    np.testing.assert_allclose(sums, picture.demodulate_reference(y, frequencies), atol=2e-4)
    waves = [rng.normal(size=(5, 2, size)).astype(np.float32) for size in reversed(shape)]
    outputs = [np.empty((*sums.shape[:2], 2 * sums.shape[2]), np.float32)]
    assert_identical(on_every_backend("demodulate", y, *waves, outputs=outputs))


@pytest.mark.parametrize("shape", [(205, 333), (64, 80), (9, 5)])
def test_displacement_equals_the_reference(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(9)
    y, cells = rng.normal(size=shape).astype(np.float32), (-(-shape[0] // 16), -(-shape[1] // 16))
    moves, weight = rng.uniform(-9, 9, (2, *cells)).astype(np.float32), rng.uniform(0, 1, cells).astype(np.float32)
    moved = picture.displace(y, moves, weight)
    np.testing.assert_allclose(moved, picture.displace_reference(y, moves, weight), atol=2e-4)
    assert_identical(on_every_backend("displace", y, np.stack([*moves, weight]), outputs=[np.empty_like(y)]))
    whole = picture.displace(
        y, np.stack([np.full(cells, 2.0), np.full(cells, -1.0)]).astype(np.float32), weight * 0 + 1
    )
    if min(shape) > 20:
        np.testing.assert_allclose(whole[5:-5, 5:-5], y[6:-4, 3:-7], atol=1e-6)


def test_pattern_equals_the_reference_but_for_rare_single_levels(case: tuple[np.ndarray, float]) -> None:
    pixels, factor = case
    pattern = layers(pixels, factor)
    marked = picture.add_pattern(pixels, *pattern, factor)
    expected = picture.add_pattern_reference(pixels, *pattern, factor)
    difference = np.abs(marked.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-4
    assert (marked != pixels).any()
    if pixels.shape[2] % 2 == 0:
        np.testing.assert_array_equal(marked[..., -1], pixels[..., -1])
    assert_identical(on_every_backend("add_pattern", pixels, *pattern, factor, outputs=[np.empty_like(pixels)]))


@pytest.mark.parametrize("dtype", SAMPLES)
def test_pattern_in_other_samples_is_not_rounded_to_grey_levels(case: tuple[np.ndarray, float], dtype: type) -> None:
    pixels, factor = converted(case[0], dtype), case[1]
    pattern = layers(pixels, factor)
    marked = picture.add_pattern(pixels, *pattern, factor)
    expected = picture.add_pattern_reference(pixels, *pattern, factor)
    assert marked.dtype == dtype
    difference = np.abs(marked.astype(np.float64) - expected)
    if dtype is np.uint16:
        assert difference.max() <= 1
        assert (difference > 0).mean() <= 1e-2
    else:
        assert difference.max() <= 3e-7
    units = 257 if dtype is np.uint16 else 1 / 255
    levels = (marked.astype(np.float64) - pixels)[..., 0] / units
    assert np.abs(levels - np.rint(levels)).mean() > 0.1
    if pixels.shape[2] % 2 == 0:
        np.testing.assert_array_equal(marked[..., -1], pixels[..., -1])
    assert_identical(on_every_backend("add_pattern", pixels, *pattern, factor, outputs=[np.empty_like(pixels)]))


@pytest.mark.parametrize("dtype", [np.uint8, *SAMPLES])
def test_saturation(dtype: type) -> None:
    top = np.iinfo(dtype).max if dtype in (np.uint8, np.uint16) else 1
    pixels = np.tile(np.array([0, top], dtype), (40, 30)).reshape(40, 20, 3)
    cycle = np.random.default_rng(5).normal(size=(1, 9425)).astype(np.float32)
    marked = picture.add_pattern(pixels, cycle, 2353, np.full((1, 10, 5), 400, np.float32), 1.0)
    assert marked.min() == 0
    assert marked.max() == top


@pytest.mark.parametrize("dtype", [np.uint8, *SAMPLES])
def test_strides_do_not_matter(dtype: type) -> None:
    rng = np.random.default_rng(6)
    whole = rng.integers(0, 256, (150, 260, 3)).astype(np.uint8)
    whole = whole if dtype is np.uint8 else converted(whole, dtype)
    pattern = layers(whole, 1.0)
    views = [whole, whole[::-1, ::-1, ::-1], whole.transpose(2, 0, 1).copy().transpose(1, 2, 0)]
    wide = np.zeros((300, 520, 3), dtype)
    wide[::2, ::2] = whole
    views.append(wide[::2, ::2])
    for view in views:
        dense = np.ascontiguousarray(view)
        for a, b in zip(
            picture.limited_high_pass(view, 1.0, 3.0, 1.0),
            picture.limited_high_pass(dense, 1.0, 3.0, 1.0),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
        marked = picture.add_pattern(view, *pattern, 1.0)
        np.testing.assert_array_equal(marked, picture.add_pattern(dense, *pattern, 1.0))
    assert picture.add_pattern(views[2], *pattern, 1.0).transpose(2, 0, 1).flags.c_contiguous


def test_bounds_are_checked() -> None:
    pixels, small = np.zeros((40, 40, 3), np.uint8), np.zeros((8, 8), np.float32)
    taps, maps = picture.gaussian_taps(2.0), small[None]
    with pytest.raises(ValueError, match="fit"):
        _core.limited_high_pass(pixels, 1.0, [3.0], taps, 44, 40, np.empty((1, 3, 11, 10), np.float32), None)
    with pytest.raises(ValueError, match="factor"):
        _core.limited_high_pass(pixels, 0.5, [3.0], taps, 80, 80, np.empty((1, 3, 20, 20), np.float32), None)
    with pytest.raises(ValueError, match="shape"):
        _core.add_pattern(pixels, small[:1], 3, maps, 1.0, np.empty((40, 41, 3), np.uint8))
    with pytest.raises(ValueError, match="type"):
        _core.add_pattern(pixels, small[:1], 3, maps, 1.0, np.empty((40, 40, 3), np.uint16))
    with pytest.raises(ValueError, match="per cycle"):
        _core.add_pattern(pixels, small, 3, maps, 1.0, np.empty_like(pixels))
    for step in (-1, 8):
        with pytest.raises(ValueError, match="step"):
            _core.add_pattern(pixels, small[:1], step, maps, 1.0, np.empty_like(pixels))
        with pytest.raises(ValueError, match="steps"):
            _core.fold(small, np.array([step]), np.empty((1, 8), np.float32))
    with pytest.raises(ValueError, match="windows"):
        _core.whiten(small, small, 3.0, np.ones(7, np.float32), np.ones(8, np.float32), small.copy())
    samples, out = np.zeros((128, 128), np.float32), np.empty((2, 1, 1), np.float32)
    for g, offset in (
        (np.full((2, 2), np.nan), np.zeros(2)),
        (np.eye(2), np.full(2, np.inf)),
        (99 * np.eye(2), np.zeros(2)),
    ):
        with pytest.raises(ValueError, match="periods"):
            _core.correlate_tile(small, samples, g, offset, out)
    with pytest.raises(ValueError, match="empty"):
        _core.add_pattern(np.zeros((0, 4, 3), np.uint8), small[:1], 3, maps, 1.0, np.empty((0, 4, 3), np.uint8))
