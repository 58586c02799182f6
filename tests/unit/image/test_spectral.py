"""image.spectral beyond the contract: what survives which edit, and what the verdict rests on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import watermark
from watermark.image import spectral
from watermark.image.geometry import ALIGNED_TESTED, PERIOD, STAGES, TESTED, TILTS
from watermark.stats import log_rademacher_energy

DATA = Path(__file__).parents[2] / "data"
KEY = watermark.Key.from_bytes(bytes(range(32)))
MESSAGE = b"order-42"


@pytest.fixture(scope="module")
def scheme() -> spectral.SpectralMark:
    loaded: spectral.SpectralMark = watermark.load("image.spectral", KEY)
    return loaded


@pytest.fixture(scope="module", params=["astronaut.webp", "coffee.jpg"])
def photo(request: pytest.FixtureRequest) -> np.ndarray:
    return np.array(PIL.Image.open(DATA / request.param).convert("RGB"))


@pytest.fixture(scope="module")
def marked(scheme: spectral.SpectralMark, photo: np.ndarray) -> np.ndarray:
    result: np.ndarray = scheme.embed(photo, MESSAGE)
    return result


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(PIL.Image.open(file))


def resized(pixels: np.ndarray, factor: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    size = round(width * factor), round(height * factor)
    return np.array(PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BICUBIC))


def rotated(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Turned, and cropped to a square without corners."""
    height, width = pixels.shape[:2]
    turned = PIL.Image.fromarray(np.ascontiguousarray(pixels)).rotate(degrees, PIL.Image.Resampling.BICUBIC)
    half = int(min(height, width) / 2 / np.sqrt(2)) - 1
    return np.array(turned)[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half]


EDITS = {
    "untouched": lambda x: x,
    "jpeg 50": lambda x: jpeg(x, 50),
    "half size": lambda x: resized(x, 0.5),
    "scaled by 1.7": lambda x: resized(x, 1.7),
    "unaligned crop": lambda x: x[41 : 41 + int(x.shape[0] * 0.7), 67 : 67 + int(x.shape[1] * 0.72)],
    "crop then scale": lambda x: resized(x[13 : 13 + int(x.shape[0] * 0.8), 29:], 0.83),
    "brightness": lambda x: np.clip(x * 1.3, 0, 255).astype(np.uint8),
    "contrast": lambda x: np.clip((x.astype(float) - 128) * 1.5 + 128, 0, 255).astype(np.uint8),
    "mirrored": lambda x: x[:, ::-1],
    "upside down": lambda x: x[::-1, ::-1],
    "turned by 90 degrees": lambda x: np.rot90(x),
    "rotated": lambda x: rotated(x, 17),
    "rotated far, mirrored, JPEG 70": lambda x: jpeg(rotated(x[::-1], 131), 70),
    "aspect 1.15": lambda x: np.array(PIL.Image.fromarray(x).resize((round(x.shape[1] * 1.15), x.shape[0]))),
    "grey": lambda x: np.array(PIL.Image.fromarray(x).convert("L")),
}


@pytest.mark.parametrize("edit", EDITS)
def test_message_survives(scheme: spectral.SpectralMark, marked: np.ndarray, edit: str) -> None:
    found = scheme.detect(EDITS[edit](marked))
    assert found.payload == MESSAGE
    assert found.payload_ok
    assert found.detected(1e-9)


def test_quality(photo: np.ndarray, marked: np.ndarray) -> None:
    mse = np.mean((photo.astype(float) - marked) ** 2)
    assert 38 < 10 * np.log10(255**2 / mse) < 47


@pytest.mark.parametrize("turn", [0, 25])
def test_presence_map_shows_what_was_replaced(scheme: spectral.SpectralMark, marked: np.ndarray, turn: float) -> None:
    height, width = marked.shape[:2]
    pasted = marked.copy()
    foreign = np.random.default_rng(1).integers(0, 256, (height, width // 2 // 8 + 1, 3)).repeat(8, 1)
    pasted[:, width // 2 :] = foreign[:, : width - width // 2]
    edited = np.array(PIL.Image.fromarray(pasted).rotate(turn, PIL.Image.Resampling.BICUBIC))
    found = scheme.detect(edited)
    assert found.payload == MESSAGE
    presence, cell = found.details["presence"], found.details["presence_cell"]
    assert presence.shape == tuple(int(np.ceil(size / cell)) for size in edited.shape[:2])
    middle, reach = presence.shape[1] // 2, presence.shape[1] // 5
    rows = slice(presence.shape[0] // 2 - reach, presence.shape[0] // 2 + reach)
    assert np.median(presence[rows, middle - reach : middle - reach // 2]) > 3
    assert np.abs(np.median(presence[rows, middle + reach // 2 : middle + reach])) < 2


def test_right_angles_exit_early_and_tell_the_orientation(scheme: spectral.SpectralMark, marked: np.ndarray) -> None:
    found = scheme.detect(np.rot90(marked))
    assert found.details["looks"] <= ALIGNED_TESTED
    np.testing.assert_allclose(found.details["linear"], [[0, 1], [-1, 0]], atol=1e-12)


def test_scale_is_told(scheme: spectral.SpectralMark, marked: np.ndarray) -> None:
    found = scheme.detect(resized(marked, 0.5))
    assert found.details["looks"] > ALIGNED_TESTED
    expected = 512 / min(resized(marked, 0.5).shape[:2]) if min(marked.shape[:2]) >= 512 else 2
    np.testing.assert_allclose(found.details["linear"], expected * np.eye(2), atol=0.02)


@pytest.mark.parametrize("bits", [0, 1, 16, 24, 32, 128])
def test_payload_sizes(photo: np.ndarray, bits: int) -> None:
    scheme = watermark.load("image.spectral", KEY, payload_bits=bits)
    message = b"\x01" * ((bits + 7) // 8) if bits < 24 else b"\xa5" * (bits // 8)
    found = scheme.detect(jpeg(scheme.embed(photo, message), 70))
    assert found.detected(1e-6)
    assert found.payload == (message if bits else b"")


def test_other_key_and_unmarked_are_not_detected(photo: np.ndarray, marked: np.ndarray) -> None:
    other = watermark.load("image.spectral", watermark.Key.from_bytes(bytes(32)))
    for found in (other.detect(marked), other.detect(photo)):
        assert not found.detected(1e-2)
        assert not found.payload_ok


def test_the_pattern_is_placed_by_key_and_picture(scheme: spectral.SpectralMark, photo: np.ndarray) -> None:
    prf = scheme._tables[0].placement
    placements = [spectral._placement(prf, np.roll(photo, i, 1)) for i in range(40)]
    assert len({start for _, start in placements}) >= 38
    assert {tilt for tilt, _ in placements} == set(range(len(TILTS)))


def test_a_tilted_pattern_is_periodic_and_turned(scheme: spectral.SpectralMark) -> None:
    tables, symbols = scheme._tables[0], scheme._code.encode(MESSAGE)
    lines = scheme._pattern(tables, symbols)
    square = spectral._square(lines)
    for tilt in TILTS:
        cycle = spectral._place(lines, tilt)
        assert np.mean(cycle**2) == pytest.approx(1, rel=1e-4)
        y, x = np.mgrid[-300:300, -300:300]
        pattern = cycle[(x + tilt.step * y) % PERIOD]
        for dx, dy in ((tilt.a, tilt.b), (-tilt.b, tilt.a)):
            np.testing.assert_array_equal(pattern[200:400, 200:400], pattern[200 + dy : 400 + dy, 200 + dx : 400 + dx])
        # Pixels that lie on samples of the square: where both of its coordinates are whole in 128ths of a period.
        turns = np.stack([x, y], -1) @ tilt.turn / np.sqrt(PERIOD) * 128
        whole = np.abs(turns - np.rint(turns)).max(axis=-1) < 0.02
        u, v = np.moveaxis(np.rint(turns[whole]).astype(int) % 128, -1, 0)
        assert whole.sum() > 20
        np.testing.assert_allclose(pattern[whole], square[v, u], atol=0.05)


@pytest.mark.parametrize("turn", [0, 33, -118])
def test_the_turn_is_told_whatever_the_tilt(turn: float) -> None:
    photo = np.random.default_rng(turn % 7).normal(128, 20, (600, 640)).clip(0, 255).astype(np.uint8)
    for seed in range(6):
        scheme = watermark.load("image.spectral", watermark.Key.from_bytes(bytes([seed]) * 32))
        edited = np.array(PIL.Image.fromarray(scheme.embed(photo, MESSAGE)).rotate(turn, PIL.Image.Resampling.BICUBIC))
        linear = scheme.detect(edited).details["linear"]
        scale = np.sqrt(np.linalg.det(linear))
        # A turn to the left, with y downwards.
        cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        np.testing.assert_allclose(linear / scale, [[cosine, sine], [-sine, cosine]], atol=0.01)


def test_strength_scales_the_pattern(photo: np.ndarray) -> None:
    def distance(strength: float) -> float:
        marked = watermark.load("image.spectral", KEY, strength=strength).embed(photo, MESSAGE)
        return float(np.sqrt(np.mean((marked.astype(float) - photo) ** 2)))

    assert distance(0.5) < distance(1) < distance(2)
    assert distance(2) == pytest.approx(2 * distance(1), rel=0.1)


def test_sync_lines_are_one_to_a_sector_and_apart() -> None:
    for i in range(50):
        lines = spectral._band_lines()
        chosen = spectral._choose_sync(lines, KEY.derive(f"test/{i}"))
        assert len(set(chosen.tolist())) == 32
        sync = lines[chosen]
        gap = np.abs(sync[:, None] - sync).max(axis=2)
        assert gap[~np.eye(32, dtype=bool)].min() >= 2
        sector = np.sort(np.arctan2(sync[:, 1], sync[:, 0]) / np.pi * 32)
        assert np.diff(sector).max() < 4


def test_weights_of_all_looks_sum_to_one() -> None:
    searched = len(STAGES) * TESTED * spectral._SEARCHED
    second = spectral._SECOND_LOOKS * spectral._SECOND
    assert ALIGNED_TESTED * spectral._ALIGNED + searched + second == pytest.approx(1)


def test_energy_bound_holds_for_any_fixed_chips() -> None:
    """The proof's statement: for fixed x and random signs, the energy test is super-uniform, whatever the x."""
    rng = np.random.default_rng(5)
    symbol = rng.permutation(np.arange(1588) % 512)
    for x in (rng.normal(size=1588), rng.standard_cauchy(1588), np.ones(1588), np.eye(1588)[3]):
        low = 0
        for _ in range(400):
            signed = x * rng.choice([-1.0, 1.0], 1588)
            sums, squares = (np.bincount(symbol, v, 512) for v in (signed, signed**2))
            used = squares > 0
            energy = float(np.sum(sums[used] ** 2 / squares[used]))
            low += log_rademacher_energy(energy, int(used.sum())) < np.log(0.05)
        assert low <= 37  # P(Bin(400, .05) > 37) < 1e-3


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((64, 64, 3), np.uint8),
        np.full((200, 300), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (64, 3000, 3)).astype(np.uint8),
        np.random.default_rng(0).integers(0, 256, (5000, 65, 4)).astype(np.uint8),
        np.indices((300, 400)).sum(0).astype(np.uint8),
    ],
    ids=["black", "white grey", "strip", "tall with alpha", "ramp"],
)
def test_odd_pictures_are_marked_and_read_without_a_crash(scheme: spectral.SpectralMark, pixels: np.ndarray) -> None:
    assert not scheme.detect(pixels).detected(1e-2)
    marked = scheme.embed(pixels, b"x")
    assert marked.shape == pixels.shape
    found = scheme.detect(marked)
    assert found.log10_p <= 0
    assert not found.payload_ok or found.payload == b"x"


@pytest.mark.parametrize("shape", [(31, 100, 3), (100, 31), (1, 1, 3)])
def test_too_small_pictures_are_refused(scheme: spectral.SpectralMark, shape: tuple[int, ...]) -> None:
    with pytest.raises(watermark.MediaError, match="at least 32"):
        scheme.detect(np.zeros(shape, np.uint8))
    with pytest.raises(watermark.MediaError, match="at least 64"):
        scheme.embed(np.zeros([2 * side for side in shape[:2]], np.uint8))


def test_small_pictures_are_read(scheme: spectral.SpectralMark) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (32, 63, 3)).astype(np.uint8)
    assert not scheme.detect(noise).detected(1e-2)


@pytest.mark.parametrize("side", [192, 256])
def test_thumbnails_carry_a_message(scheme: spectral.SpectralMark, photo: np.ndarray, side: int) -> None:
    small = resized(photo, side / min(photo.shape[:2]))
    assert scheme.detect(scheme.embed(small, MESSAGE)).payload == MESSAGE


@pytest.mark.parametrize("value", [{"payload_bits": 129}, {"payload_bits": -1}, {"payload_bits": 8.0}, {"strength": 0},
                                   {"strength": "1"}, {"strength": True}, {"strength": float("nan")}])  # fmt: skip
def test_parameters_are_validated(value: dict[str, object]) -> None:
    with pytest.raises(watermark.ParameterError):
        watermark.load("image.spectral", KEY, **value)


def test_types_come_back_as_they_went_in(scheme: spectral.SpectralMark, photo: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    as_array = scheme.embed(photo, MESSAGE)
    as_image = scheme.embed(PIL.Image.fromarray(photo), MESSAGE)
    as_tensor = scheme.embed(torch.from_numpy(photo).permute(2, 0, 1), MESSAGE)
    assert isinstance(as_image, PIL.Image.Image)
    np.testing.assert_array_equal(np.array(as_image), as_array)
    np.testing.assert_array_equal(as_tensor.permute(1, 2, 0).numpy(), as_array)
