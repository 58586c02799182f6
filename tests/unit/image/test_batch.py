"""image.spectral on batches of tensors: the pictures and verdicts of the CPU, one by one.

Each test runs on the CPU, which plays all threads of a GPU, and on a GPU where there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

import watermark
from watermark import Detection, Key, Keyring, MediaError, PayloadError
from watermark.image import batch, spectral

if TYPE_CHECKING:
    from collections.abc import Callable

torch = pytest.importorskip("torch")

DATA = Path(__file__).parents[2] / "data"
KEY = Key.from_bytes(bytes(range(32)))
MESSAGES = [b"order-42", None, b"a", b"\0\0"]


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cuda":
        return "cuda"
    monkeypatch.setattr(batch, "on_device", lambda media: isinstance(media, torch.Tensor))
    return "cpu"


@pytest.fixture(scope="module")
def mark() -> spectral.SpectralMark:
    loaded: spectral.SpectralMark = watermark.load("image.spectral", KEY)
    return loaded


def photo(name: str, height: int, width: int) -> np.ndarray:
    with PIL.Image.open(DATA / name) as file:
        pixels = np.array(file.convert("RGB"))
    return pixels[:height, :width]


def planes(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels)


def on(device: str, pixels: np.ndarray) -> Any:
    return torch.from_numpy(planes(pixels)).to(device)


def off(picture: Any) -> np.ndarray:
    return picture.cpu().numpy()


def assert_same_pixels(found: np.ndarray, expected: np.ndarray) -> None:
    """One grey level on at most 1e-4 of the pixels, as DESIGN allows."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind == "u":
        step = 257 if found.dtype == np.uint16 else 1
        apart = np.abs(found.astype(int) - expected)
        # In 16 bits an amplitude's last bit shows: there a grey level has 257 steps.
        assert apart.max() <= (2 if step == 257 else 1)
        assert np.mean(apart >= step) <= 1e-4
    else:
        np.testing.assert_allclose(found, expected, atol=1e-3 if found.dtype == np.float16 else 2e-6)


def assert_same_verdict(found: Detection, expected: Detection) -> None:
    assert (found.payload, found.payload_ok) == (expected.payload, expected.payload_ok)
    assert (found.scheme, found.key_id, found.n) == (expected.scheme, expected.key_id, expected.n)
    assert found.log10_p == pytest.approx(expected.log10_p, rel=1e-3, abs=1e-3)
    assert found.score == pytest.approx(expected.score, rel=1e-3, abs=1e-3)
    assert found.details.keys() == expected.details.keys()
    assert found.details["looks"] == expected.details["looks"]
    for name in ("sync", "linear", "shift", "factor", "presence_cell"):
        if name in expected.details:
            np.testing.assert_allclose(found.details[name], expected.details[name], rtol=1e-3, atol=1e-3)
    if "presence" in expected.details:
        np.testing.assert_allclose(found.details["presence"], expected.details["presence"], atol=1e-2)


SIZES = [("astronaut.webp", 512, 512), ("coffee.jpg", 301, 384), ("chelsea.png", 128, 64), ("coffee.jpg", 301, 384)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_marked_as_on_the_cpu(mark: spectral.SpectralMark, device: str, dtype: str, channels: int) -> None:
    pictures = []
    for name, height, width in SIZES:
        rgb = photo(name, height, width)
        alpha = np.full((*rgb.shape[:2], 1), 200, np.uint8)
        kinds = [
            rgb[..., 1],
            rgb[..., 1:2],
            np.concatenate([rgb[..., 1:2], alpha], 2),
            rgb,
            np.concatenate([rgb, alpha], 2),
        ]
        levels = kinds[channels]
        scaled = {"uint8": levels, "uint16": levels.astype(int) * 257}
        pictures.append(scaled.get(dtype, levels / 255).astype(dtype))
    marked = mark.embed_batch([on(device, picture) for picture in pictures], MESSAGES)
    for picture, message, found in zip(pictures, MESSAGES, marked, strict=True):
        assert found.device.type == device
        assert found.is_contiguous()
        assert_same_pixels(off(found), planes(mark.embed(picture, message)))


def test_a_tensor_of_pictures_gives_one(mark: spectral.SpectralMark, device: str) -> None:
    pictures = np.stack([photo("astronaut.webp", 200, 160), photo("coffee.jpg", 200, 160)])
    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, 3, 1))).to(device)
    before = tensor.clone()
    marked = mark.embed_batch(tensor, b"x")
    assert torch.equal(tensor, before)
    assert tuple(marked.shape) == tuple(tensor.shape)
    for found, picture in zip(off(marked), pictures, strict=True):
        assert_same_pixels(found, planes(mark.embed(picture, b"x")))
    interleaved = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2)  # channels last in memory
    np.testing.assert_array_equal(off(mark.embed_batch(interleaved, b"x")), off(marked))
    one = mark.embed(tensor[1], b"x")
    np.testing.assert_array_equal(off(one), off(marked)[1])
    flipped = mark.embed_batch(list(tensor.flip(0)), b"x")
    np.testing.assert_array_equal(np.stack([off(f) for f in flipped]), off(marked)[::-1])


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.array(PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.BICUBIC))


def turned(pixels: np.ndarray, degrees: float) -> np.ndarray:
    return np.array(PIL.Image.fromarray(pixels).rotate(degrees, PIL.Image.Resampling.BICUBIC))


def warped(pixels: np.ndarray) -> np.ndarray:
    """Smoothly moved by up to three pixels, and compressed."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    u = np.clip(np.rint(x + 3 * np.sin(y / 60) * np.cos(x / 80)).astype(int), 0, width - 1)
    v = np.clip(np.rint(y + 3 * np.cos(y / 70) * np.sin(x / 50)).astype(int), 0, height - 1)
    return pixels[v, u]


EDITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "untouched": lambda x: x,
    "crop": lambda x: x[41:, 67:],
    "mirrored": lambda x: x[:, ::-1],
    "turned": lambda x: turned(x, 17),
    "stretched": lambda x: resized(x, x.shape[1] * 115 // 100, x.shape[0])[: x.shape[0], : x.shape[1]],
    "smaller": lambda x: resized(x, x.shape[1] * 6 // 10, x.shape[0] * 6 // 10),
    "warped": warped,
}


@pytest.fixture(scope="module")
def pictures(mark: spectral.SpectralMark) -> list[np.ndarray]:
    """Marked and edited, and unmarked: of three sizes."""
    clean = photo("astronaut.webp", 512, 512)
    marked = mark.embed(clean, b"order-42")
    return [clean, *(edit(marked) for edit in EDITS.values()), photo("coffee.jpg", 512, 512), np.zeros_like(clean)]


def test_detected_as_on_the_cpu(mark: spectral.SpectralMark, device: str, pictures: list[np.ndarray]) -> None:
    found = mark.detect_batch([on(device, picture) for picture in pictures])
    expected = mark.detect_batch(pictures)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_same_verdict(one, other)
    assert [one.payload for one in expected].count(b"order-42") >= len(EDITS) - 1


def test_second_looks_read_in_parts(mark: spectral.SpectralMark, device: str) -> None:
    marked = warped(warped(mark.embed(photo("coffee.jpg", 400, 512), b"x")))
    batched, one = batch.DeviceReadings(on(device, marked)[None]), spectral.Reading(marked)
    tables = mark._tables[0]
    secrets = tables.sync, tables.lines
    [candidates] = one.searched(*secrets, [0], spectral.STAGES[0])
    [expected] = one.in_parts(*secrets, [0], [candidates])
    batched.searched(*secrets, [0], spectral.STAGES[0])
    [found] = batched.in_parts(*secrets, [0], [candidates])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.linear, b.linear)
        # Where two moves fit a part almost alike, the last bit of a sum decides.
        np.testing.assert_allclose(a.lines, b.lines, atol=2e-2)
        assert a.sync == pytest.approx(b.sync, abs=1e-2)
        assert (a.shift, a.factor, a.origin, a.chance) == (b.shift, b.factor, b.origin, b.chance)
        assert a.parts is not None
        assert b.parts is not None
        for moved, other in zip(a.parts, b.parts, strict=True):
            assert np.mean(np.abs(off(moved) - other) > 2e-3) < 0.02
    assert batched.in_parts(*secrets, [0], [[]]) == [[]]


def test_bound_marks(device: str) -> None:
    mark = watermark.load("image.spectral", KEY, bind=True)
    photos = [photo("astronaut.webp", 320, 480), photo("coffee.jpg", 320, 480)]
    marked = mark.embed_batch([on(device, picture) for picture in photos], b"x")
    expected = [mark.embed(picture, b"x") for picture in photos]
    for found, picture in zip(marked, expected, strict=True):
        assert_same_pixels(off(found), planes(picture))
    copied = np.clip(photos[0].astype(int) + expected[1] - photos[1], 0, 255).astype(np.uint8)
    pictures = [*expected, copied, turned(expected[0], 9), warped(expected[1]), photos[0]]
    verdicts = mark.detect_batch([on(device, picture) for picture in pictures])
    for found, picture in zip(verdicts, pictures, strict=True):
        other = mark.detect(picture)
        assert_same_verdict(found, other)
        for name in ("unbound_log10_p", "agreement"):
            assert found.details[name] == pytest.approx(other.details[name], rel=1e-3, abs=1e-3)
    assert verdicts.payload_ok[0]
    assert not verdicts.payload_ok[2]


def test_one_picture_and_several_keys(device: str) -> None:
    other = Key.from_bytes(bytes(32))
    marked = watermark.load("image.spectral", other).embed(photo("coffee.jpg", 300, 300), b"hello")
    ring = watermark.load("image.spectral", Keyring([KEY, other]))
    assert_same_verdict(ring.detect(on(device, marked)), ring.detect(marked))
    batched = ring.detect_batch(on(device, marked)[None])
    assert batched[0] == ring.detect(on(device, marked))
    assert batched[0].key_id == other.id
    assert batched[0].details["keys_tried"] == 2


def test_long_batches_go_through_in_groups(
    mark: spectral.SpectralMark, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_MOST_AT_ONCE", 2)
    tensor = on(device, mark.embed(photo("astronaut.webp", 128, 128), b"x"))
    items = [tensor] * 5 + [tensor[:, :100]] + [tensor.flip(2)]
    assert [len(group.places) for group in batch.groups(items, 32)] == [2, 2, 2, 1]
    found = mark.detect_batch(items)
    assert list(found)[1:5] == [found[0]] * 4
    assert found[6] == mark.detect(tensor.flip(2))


def test_bad_batches(mark: spectral.SpectralMark, device: str) -> None:
    good = torch.zeros((3, 80, 90), dtype=torch.uint8, device=device)
    bad: list[tuple[Any, str]] = [
        (torch.zeros((3, 60, 90), dtype=torch.uint8, device=device), "90 x 60 pixels"),
        (torch.zeros((3, 80, 90), dtype=torch.int32, device=device), "dtype"),
        (torch.zeros((90, 80, 3), dtype=torch.uint8, device=device), "permute"),
        (torch.full((3, 80, 90), 255.0, device=device), "range 0 to 1"),
        (torch.full((3, 80, 90), float("nan"), device=device), "NaN"),
        (torch.zeros((1, 1, 3, 80, 90), dtype=torch.uint8, device=device)[0], "shape"),
        (np.zeros((80, 90, 3), np.uint8), "as a whole"),
    ]
    for item, message in bad:
        with pytest.raises(MediaError, match=message):
            mark.embed_batch([good, item])
    with pytest.raises(PayloadError):
        mark.embed_batch([good, good], [b"a"])
    with pytest.raises(PayloadError):
        mark.embed(good, bytes(99))
    with pytest.raises(MediaError, match="a batch is"):
        mark.embed_batch(good)
    with pytest.raises(MediaError, match="a batch is"):
        mark.detect_batch(good)
    with pytest.raises(MediaError, match="at least 32"):
        mark.detect(good[:, :20])


@pytest.mark.cuda
def test_work_is_queued_on_the_current_stream(mark: spectral.SpectralMark) -> None:
    picture = photo("coffee.jpg", 300, 300)
    expected = mark.embed(picture, b"x")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # whoever does not wait for it reads the pictures too early
        tensor = torch.from_numpy(planes(picture)).cuda(non_blocking=True)
        marked = mark.embed_batch([tensor] * 130, b"x")
        found = mark.detect_batch(marked)
    assert found.payload == (b"x",) * 130
    assert_same_pixels(off(marked[-1]), planes(expected))
