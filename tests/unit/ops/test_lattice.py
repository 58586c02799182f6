"""Spectrum kernels: equal to their NumPy references, and the same bits on every instruction set and thread count."""

from __future__ import annotations

import numpy as np
import pytest

import watermark
from watermark import _core
from watermark.ops import lattice


@pytest.fixture(scope="module")
def lines() -> np.ndarray:
    rng = np.random.default_rng(1)
    angle, radius = np.pi * (np.arange(32) + rng.uniform(0, 0.5, 32)) / 32, rng.uniform(0.075, 0.22, 32)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.array([[1.13, 0.04], [-0.06, 1.09]])


@pytest.fixture(scope="module")
def spectrum(lines: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Noise with faint lines at truth @ f."""
    y, x = np.mgrid[-160:161, -250:250]
    picture = np.random.default_rng(2).normal(size=x.shape)
    for fx, fy in lines @ truth.T:
        picture += 0.04 * np.cos(2 * np.pi * (fx * x + fy * y) + fx)
    return lattice.spectrum(picture.astype(np.float32))


@pytest.fixture(scope="module")
def level(spectrum: np.ndarray) -> np.ndarray:
    return lattice.noise(spectrum)


@pytest.fixture(scope="module")
def ratio(spectrum: np.ndarray, level: np.ndarray) -> np.ndarray:
    return lattice.power_ratio(spectrum, level)


@pytest.mark.parametrize("shape", [(512, 700), (333, 701), (1, 1), (1024, 1024), (64, 1023)])
def test_spectrum_equals_numpy(shape: tuple[int, int]) -> None:
    y = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    expected = lattice.spectrum_reference(y)
    np.testing.assert_allclose(lattice.spectrum(y), expected, atol=3e-7 * np.abs(expected).max() * 10)


def test_spectrum_is_bit_identical_everywhere() -> None:
    y = np.random.default_rng(4).normal(size=(301, 411)).astype(np.float32)
    results = []
    for isa in _core.instruction_sets():
        for threads in (1, 2, 3):
            watermark.set_threads(threads)
            out = np.empty((1024, 2 * 513), np.float32)
            _core.spectrum(y, out, isa=isa)
            results.append(out)
    watermark.set_threads(0)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_noise_equals_the_reference_and_ignores_peaks(spectrum: np.ndarray, level: np.ndarray) -> None:
    np.testing.assert_allclose(level, lattice.noise_reference(spectrum), rtol=1e-5)
    peaked = spectrum.copy()
    peaked[200, 100] *= 1000
    np.testing.assert_allclose(lattice.noise(peaked), level, rtol=0.2)
    outs = [np.empty_like(level) for _ in _core.instruction_sets()]
    for out, isa in zip(outs, _core.instruction_sets(), strict=True):
        _core.noise(spectrum.view(np.float32), out, isa=isa)
        np.testing.assert_array_equal(out, outs[0])


def test_power_ratio_equals_the_reference(spectrum: np.ndarray, level: np.ndarray, ratio: np.ndarray) -> None:
    np.testing.assert_allclose(ratio, lattice.power_ratio_reference(spectrum, level), rtol=1e-6)


def test_log_polar_table_equals_the_reference(ratio: np.ndarray) -> None:
    table = lattice.log_polar(ratio)
    np.testing.assert_array_equal(table, lattice.log_polar_reference(ratio))
    assert table.max() == 7
    for isa in _core.instruction_sets():
        out = np.empty_like(table)
        _core.log_polar(ratio, lattice._places(), out, isa=isa)
        np.testing.assert_array_equal(out, table)


@pytest.fixture(scope="module")
def table(ratio: np.ndarray) -> np.ndarray:
    return lattice.log_polar(ratio)


def test_search_equals_the_reference(table: np.ndarray, lines: np.ndarray) -> None:
    maps = np.array([np.eye(2), np.diag([-1, 1]), np.diag([1.05, 1 / 1.05])])
    rows, columns = lattice.template(lines, maps, 0.3)
    found = lattice.search(table, rows, columns, 250, 20)
    expected = lattice.search_reference(table, rows, columns, 250, 20)
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    strict = found[:, 0] > found[-1, 0]  # among equals either may be kept
    np.testing.assert_array_equal(found[strict], expected[: strict.sum()])


def test_search_does_not_depend_on_instruction_set_or_threads(table: np.ndarray, lines: np.ndarray) -> None:
    maps = np.eye(2) + np.random.default_rng(9).normal(0, 0.05, (150, 2, 2))
    rows, columns = lattice.template(lines, maps, 0.3)
    results = []
    for isa in _core.instruction_sets():
        for threads in (1, 2, 3):
            watermark.set_threads(threads)
            out = np.zeros((48, 4), np.int32)
            assert _core.search(table, rows, columns, 250, out, isa=isa) == 48
            results.append(out)
    watermark.set_threads(0)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_search_finds_the_lines(table: np.ndarray, lines: np.ndarray, truth: np.ndarray) -> None:
    scale = np.sqrt(np.linalg.det(truth))
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # The second hypothesis has the right shape; what it leaves out are the scale and a turn by +0.7.
    maps = np.array([np.diag([-1.0, 1.0]), turn.T @ truth / scale])
    rows, columns = lattice.template(lines, maps, 0.3)
    _, hypothesis, step, turned = lattice.search(table, rows, columns, 250, 5)[0]
    assert hypothesis == 1
    assert 0.3 * np.exp(lattice.LOG_STEP * step) == pytest.approx(scale, rel=0.01)
    assert np.pi * turned / lattice.ANGLES == pytest.approx(angle, abs=0.01)


def test_lines_are_found_where_they_are(ratio: np.ndarray, lines: np.ndarray, truth: np.ndarray) -> None:
    starts = np.array([truth * 1.004, truth * 0.998])
    fitted, scores = lattice.refine(ratio, starts, lines)
    for start, found, score in zip(starts, fitted, scores, strict=True):
        assert score > 32 * 5
        assert np.abs(found - truth).max() < 0.3 / 500 / 0.2  # a third of a frequency step at the outer lines
        expected, expected_score = lattice.refine_reference(ratio, start, lines)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert score == pytest.approx(expected_score, rel=1e-4)
    for isa in _core.instruction_sets():
        again, seen = starts.copy(), np.empty(2)
        _core.refine(ratio, again, lines, 4, seen, isa=isa)
        np.testing.assert_array_equal(seen, scores)
        np.testing.assert_array_equal(again, fitted)


def test_phases_fit_finer_than_places(
    spectrum: np.ndarray, level: np.ndarray, lines: np.ndarray, truth: np.ndarray
) -> None:
    turns = np.exp(-1j * (lines @ truth.T)[:, 0]).astype(np.complex64)  # the phases of the picture's lines
    level = 40 * level  # below the limit of magnitudes
    for start, directions in (
        (truth + np.array([[3e-3, -2e-3], [2e-3, 3e-3]]), np.eye(4).reshape(4, 2, 2)),
        (1.004 * truth, truth[None]),
    ):
        fitted, score = lattice.polish(spectrum, level, start, directions, lines, turns)
        at_truth = lattice.polish(spectrum, level, truth, np.zeros((0, 2, 2)), lines, turns)[1]
        before = lattice.polish(spectrum, level, start, np.zeros((0, 2, 2)), lines, turns)[1]
        assert before < 0.95 * at_truth < score
        expected, expected_score = lattice.polish_reference(spectrum, level, start, directions, lines, turns)
        np.testing.assert_allclose(fitted, expected, atol=1e-4)
        assert score == pytest.approx(expected_score, rel=1e-3)
        for isa in _core.instruction_sets():
            again = start.copy()
            angles, sinc = turns.view(np.float32), lattice.kaiser_sinc()
            values = spectrum.view(np.float32)
            assert _core.polish(values, level, again, directions, lines, angles, sinc, isa=isa) == score
            np.testing.assert_array_equal(again, fitted)


def test_samples_equal_the_reference(spectrum: np.ndarray, level: np.ndarray, lines: np.ndarray) -> None:
    many = np.concatenate([lines, -lines, 2.2 * lines, 3 * lines])
    values = lattice.sample(spectrum, level, np.eye(2), many)
    np.testing.assert_allclose(values, lattice.sample_reference(spectrum, level, np.eye(2), many), atol=1e-5)
    np.testing.assert_allclose(values[32:64], values[:32].conj(), atol=1e-5)
    assert not values[np.abs(many).max(axis=1) > 0.485].any()


def test_samples_between_frequencies_equal_the_transform_there() -> None:
    y = np.random.default_rng(6).normal(size=(400, 560)).astype(np.float32)
    lines = np.random.default_rng(7).uniform(-0.3, 0.3, (50, 2))
    row, column = np.arange(400) - 200, np.arange(560) - 280
    exact = np.array([np.exp(-2j * np.pi * fy * row) @ y @ np.exp(-2j * np.pi * fx * column) for fx, fy in lines])
    values = lattice.spectrum(y)
    level = np.ones((128, 65), np.float32)
    error = np.abs(lattice.sample(values, level, np.eye(2), lines) - exact)
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(np.abs(exact) ** 2))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (13.3125, 77.625), (95.9, 0.1)])
def test_translation_is_found(lines: np.ndarray, shift: tuple[float, float]) -> None:
    n = np.rint(lines * 96).astype(np.int64)
    sync = np.exp(-2j * np.pi * (n @ np.array(shift)) / 96).astype(np.complex64)
    value, x, y = lattice.locate(sync, n, 96)
    assert value == pytest.approx(32, rel=1e-3)
    offset = (np.array([x, y]) - shift + 48) % 96 - 48
    assert np.abs(offset).max() <= 1 / 16
    np.testing.assert_allclose((value, x, y), lattice.locate_reference(sync, n, 96), rtol=1e-5)


def test_bounds_are_checked(spectrum: np.ndarray, level: np.ndarray, ratio: np.ndarray, lines: np.ndarray) -> None:
    values = spectrum.view(np.float32)
    with pytest.raises(ValueError, match="field"):
        _core.spectrum(np.zeros((1025, 4), np.float32), np.empty((1024, 1026), np.float32))
    with pytest.raises(ValueError, match="spectrum"):
        _core.noise(values[:-1].copy(), level.copy())
    with pytest.raises(ValueError, match="2 x 2"):
        _core.refine(ratio, np.zeros((1, 3, 3)), lines, 4, np.empty(1))
    with pytest.raises(ValueError, match="reach"):
        _core.refine(ratio, np.eye(2)[None], lines, 99, np.empty(1))
    with pytest.raises(ValueError, match="scores"):
        _core.refine(ratio, np.eye(2)[None], lines, 4, np.empty(2))
    table = np.zeros((530, 448), np.uint8)
    rows, columns = np.zeros((2, 32), np.int32), np.zeros((2, 32), np.int32)
    for bad in (
        {"scales": 531},
        {"rows": rows - 1},
        {"turns": columns + 448},
        {"table": table[:, :-2].copy()},
        {"table": table + 8},
    ):
        with pytest.raises(ValueError, match="table"):
            _core.search(
                **{"table": table, "rows": rows, "turns": columns, "scales": 5, "out": np.zeros((3, 4), np.int32)} | bad
            )
    with pytest.raises(ValueError, match="at most 64"):
        _core.locate(np.zeros(130, np.float32), np.zeros((65, 2), np.int64), 96, lattice._circle(1536))
