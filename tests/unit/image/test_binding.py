"""Marks that are tied to their picture: genuine ones pass, copies do not, and p means what it says."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import watermark
from watermark.image import binding, spectral
from watermark.stats import log_rademacher_sum

DATA = Path(__file__).parents[2] / "data"
KEY = watermark.Key.from_bytes(bytes(range(32)))
MESSAGE = b"order-42"
Edit = Callable[[np.ndarray], np.ndarray]


def load(name: str) -> np.ndarray:
    return np.array(PIL.Image.open(DATA / name).convert("RGB"))


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return np.array(PIL.Image.open(file))


def rotated(pixels: np.ndarray, degrees: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    turned = PIL.Image.fromarray(np.ascontiguousarray(pixels)).rotate(degrees, PIL.Image.Resampling.BICUBIC)
    half = int(min(height, width) / 2 / np.sqrt(2)) - 1
    return np.array(turned)[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half]


def copied(marked: np.ndarray, original: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The exact change to one picture, made to another."""
    return np.clip(other.astype(int) + marked - original, 0, 255).astype(np.uint8)


EDITS: dict[str, Edit] = {
    "untouched": lambda x: x,
    "jpeg 50": lambda x: jpeg(x, 50),
    "crop": lambda x: x[31 : 31 + int(x.shape[0] * 0.86), 53 : 53 + int(x.shape[1] * 0.86)],
    "rotated": lambda x: rotated(x, 37),
    "mirrored": lambda x: x[:, ::-1],
    "on its side": lambda x: np.rot90(x),
    "half size": lambda x: np.array(PIL.Image.fromarray(x).reduce(2)),
    "brighter": lambda x: np.clip(x * 1.3, 0, 255).astype(np.uint8),
    "darker": lambda x: (x * 0.7).astype(np.uint8),
    "contrast": lambda x: np.clip((x.astype(float) - 128) * 1.5 + 128, 0, 255).astype(np.uint8),
    "grey": lambda x: np.array(PIL.Image.fromarray(x).convert("L")),
}


@pytest.fixture(scope="module")
def bound() -> spectral.SpectralMark:
    loaded: spectral.SpectralMark = watermark.load("image.spectral", KEY, bind=True)
    return loaded


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return load("coffee.jpg")


@pytest.fixture(scope="module")
def marked(bound: spectral.SpectralMark, photo: np.ndarray) -> np.ndarray:
    result: np.ndarray = bound.embed(photo, MESSAGE)
    return result


@pytest.mark.parametrize("edit", EDITS)
def test_genuine_marks_pass(bound: spectral.SpectralMark, marked: np.ndarray, edit: str) -> None:
    found = bound.detect(EDITS[edit](marked))
    assert found.payload == MESSAGE
    assert found.payload_ok
    assert found.detected(1e-6)
    assert found.details["agreement"] > 0.5
    assert found.log10_p >= found.details["unbound_log10_p"]


@pytest.mark.parametrize("edit", ["untouched", "jpeg 50", "rotated"])
def test_copies_are_told(bound: spectral.SpectralMark, photo: np.ndarray, marked: np.ndarray, edit: str) -> None:
    height, width = photo.shape[:2]
    astronaut = np.array(PIL.Image.fromarray(load("astronaut.webp")).resize((width, height)))
    found = bound.detect(EDITS[edit](copied(marked, photo, astronaut)))
    assert found.payload == MESSAGE  # it is there, but
    assert found.details["unbound_log10_p"] < -6
    assert not found.payload_ok
    assert not found.detected(1e-2)
    assert abs(found.details["agreement"]) < binding.TOLERATED


def test_a_shifted_view_is_another_picture(bound: spectral.SpectralMark, photo: np.ndarray) -> None:
    here, there = photo[:, :-40], photo[:, 40:]
    found = bound.detect(copied(bound.embed(here, MESSAGE), here, there))
    assert found.details["unbound_log10_p"] < -6
    assert not found.detected(1e-3)


def test_bound_and_unbound_marks_read_each_other(
    bound: spectral.SpectralMark, photo: np.ndarray, marked: np.ndarray
) -> None:
    plain = watermark.load("image.spectral", KEY)
    found = plain.detect(marked)
    assert found.payload_ok
    assert "agreement" not in found.details
    found = bound.detect(plain.embed(photo, MESSAGE))
    assert found.payload == MESSAGE
    assert not found.detected(1e-2)


def test_unmarked_pictures_are_not_detected(bound: spectral.SpectralMark, photo: np.ndarray) -> None:
    found = bound.detect(photo)
    assert found.log10_p == 0
    assert not found.payload_ok


def test_binding_costs_no_quality(photo: np.ndarray, marked: np.ndarray) -> None:
    plain = watermark.load("image.spectral", KEY).embed(photo, MESSAGE).astype(float)
    energy = [np.mean((picture - photo) ** 2) for picture in (plain, marked)]
    assert energy[1] == pytest.approx(energy[0], rel=0.1)


def scene(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Blobs on the cell grid."""
    smooth = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(rows, columns))) * _low_pass(rows, columns), s=(rows, columns))
    return np.asarray(128 + 30 * smooth / smooth.std(), np.float32)


def _low_pass(rows: int, columns: int) -> np.ndarray:
    y, x = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)
    return np.asarray(np.exp(-50 * (x * x + y * y)))


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_the_field_turns_with_the_picture() -> None:
    luma = scene(np.random.default_rng(0), 90, 120)
    field = binding.field(luma, 1.0)
    np.testing.assert_allclose(binding.field(np.rot90(luma), 1.0), np.rot90(field), atol=2e-3)
    np.testing.assert_allclose(binding.field(luma[:, ::-1], 1.0), field[:, ::-1], atol=2e-3)
    assert similarity(binding.field(1.3 * luma + 10, 1.0), field) > 0.95
    assert np.abs(field).max() == 1
    assert abs(field.mean()) < 0.1


def test_the_field_scales_with_the_picture() -> None:
    luma = scene(np.random.default_rng(1), 160, 160)
    half = luma.reshape(80, 2, 80, 2).mean(axis=(1, 3))
    fine = binding.field(luma, 2.0).reshape(80, 2, 80, 2).mean(axis=(1, 3))
    assert similarity(binding.field(half, 1.0)[8:-8, 8:-8], fine[8:-8, 8:-8]) > 0.9


@pytest.mark.parametrize("angle", [0, 90, 45, 20])
def test_the_field_does_not_see_straight_edges(angle: float) -> None:
    y, x = np.mgrid[:100, :100] - 50.0
    across = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    edge = (128 + 80 * np.tanh(across / 2)).astype(np.float32)
    assert np.abs(binding.field(edge, 1.0)[12:-12, 12:-12]).mean() < 0.15


@pytest.mark.parametrize("luma", [np.zeros((2, 2)), np.full((16, 40), 255), np.zeros((16, 2))])
def test_blank_pictures_have_no_field(luma: np.ndarray) -> None:
    assert not binding.field(luma.astype(np.float32), 0.3).any()


def test_layers_keep_the_energy_and_probes_fit_each_other() -> None:
    field = np.linspace(-1, 1, 41, dtype=np.float32)
    layers, probes = binding.layers(field), binding.probes(field)
    np.testing.assert_allclose((layers**2).sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(layers[0] * probes[0], layers[1] * probes[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("noise", ["gauss", "heavy"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_the_verdict_is_honest_at_the_tolerated_agreement(strength: float, noise: str) -> None:
    """Over the keyed signs, p <= 0.05 at most so often, when exactly `TOLERATED` of the second pattern agrees."""
    rng = np.random.default_rng(3)
    fixed = rng.normal(size=(2, 1500)) if noise == "gauss" else np.clip(rng.standard_cauchy((2, 1500)), -2.5, 2.5)
    low = 0
    for _ in range(1000):
        signed = fixed * rng.choice([-1.0, 1.0], (2, 1500)) + strength * np.array([[1], [binding.TOLERATED]])
        low += binding.verdict(*signed.astype(np.float32)).log_p < np.log(0.05)
    assert low <= 73  # P(Bin(1000, .05) > 73) < 1e-3


def test_the_verdict_grows_with_agreement() -> None:
    chips = np.random.default_rng(4).normal(size=(2, 1500)).astype(np.float32)
    verdicts = [binding.verdict(chips[0] + 1, chips[1] + share) for share in (0, 0.3, 0.6, 1.0)]
    assert [v.log_p for v in verdicts] == sorted((v.log_p for v in verdicts), reverse=True)
    assert verdicts[0].log_p == 0
    assert verdicts[-1].log_p < np.log(1e-12)
    assert verdicts[-1].agreement == pytest.approx(1, abs=0.1)
    assert binding.verdict(chips[0] * 0, chips[1]) == binding.Binding(0.0, 0.0)


def test_rademacher_sum_is_bounded() -> None:
    """Exact tails of 24 equal steps, by counting."""
    steps = 24
    counts = np.cumprod([1.0, *((steps - k) / (k + 1) for k in range(steps))])
    for up in range(steps // 2 + 1, steps + 1):
        exact = counts[up:].sum() / 2.0**steps
        z = (2 * up - steps) / np.sqrt(steps)
        assert np.log(exact) <= log_rademacher_sum(z) <= 0


@pytest.mark.parametrize("value", [1, "yes", None])
def test_bind_is_validated(value: object) -> None:
    with pytest.raises(watermark.ParameterError, match="bind"):
        watermark.load("image.spectral", KEY, bind=value)


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 3000, 3), (5000, 65, 4)])
def test_odd_pictures(bound: spectral.SpectralMark, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    pixels = pixels // 8 + np.arange(shape[0], dtype=np.uint8)[:, None, None] % 100
    found = bound.detect(bound.embed(pixels, b"x"))
    assert found.log10_p <= 0
    assert not found.payload_ok or found.payload == b"x"
