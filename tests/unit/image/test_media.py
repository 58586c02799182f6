"""image.spectral on every type of picture, and on pictures of unusual shape."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

import watermark
from watermark import media
from watermark.errors import MediaError

if TYPE_CHECKING:
    from watermark.image.spectral import SpectralMark

DATA = Path(__file__).parents[2] / "data"
DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
MESSAGE = b"order-42"


@pytest.fixture(scope="module")
def scheme() -> SpectralMark:
    loaded: SpectralMark = watermark.load("image.spectral", watermark.Key.from_bytes(bytes(range(32))))
    return loaded


def levels_of(dtype: str) -> float:
    """Samples to a grey level."""
    return {"uint8": 1.0, "uint16": 257.0}.get(dtype, 1 / 255)


def photo(dtype: str, channels: int) -> np.ndarray:
    colours = PIL.Image.open(DATA / "coffee.jpg").convert("L" if channels < 3 else "RGB")
    array = np.asarray(colours).reshape(colours.height, colours.width, -1)
    if channels % 2 == 0:
        alpha = np.arange(array[..., 0].size, dtype=np.uint8).reshape(*array.shape[:2], 1)
        array = np.concatenate([array, alpha], axis=2)
    return (array * levels_of(dtype)).astype(dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays(scheme: SpectralMark, dtype: str, channels: int) -> None:
    picture = photo(dtype, channels)
    marked = scheme.embed(picture, MESSAGE)
    assert (marked.dtype, marked.shape) == (picture.dtype, picture.shape)
    if channels % 2 == 0:
        np.testing.assert_array_equal(marked[..., -1], picture[..., -1])
    found = scheme.detect(marked)
    assert (found.payload, found.payload_ok) == (MESSAGE, True)
    change = (marked[..., 0].astype(np.float64) - picture[..., 0]) / levels_of(dtype)
    assert 1 < change.std() < 4
    fine = float(np.abs(change - np.rint(change)).mean())
    assert fine == 0 if dtype == "uint8" else fine > 0.2  # a quarter on average where nothing is rounded


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors(scheme: SpectralMark, dtype: str, channels: int) -> None:
    torch = pytest.importorskip("torch")
    picture = photo(dtype, channels)
    tensor = torch.from_numpy(np.moveaxis(picture, 2, 0).copy())
    marked = scheme.embed(tensor, MESSAGE)
    assert (marked.dtype, marked.shape) == (tensor.dtype, tensor.shape)
    np.testing.assert_array_equal(np.moveaxis(marked.numpy(), 0, 2), scheme.embed(picture, MESSAGE))
    assert scheme.detect(marked).payload == MESSAGE


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pillow(scheme: SpectralMark, mode: str) -> None:
    array = photo("uint16", 1)[..., 0] if mode == "I;16" else photo("uint8", len(mode)).squeeze()
    picture = PIL.Image.fromarray(array)
    assert picture.mode == mode
    picture.info = {"dpi": (300, 300)}
    marked = scheme.embed(picture, MESSAGE)
    assert (marked.mode, marked.size, marked.info) == (mode, picture.size, picture.info)
    np.testing.assert_array_equal(np.asarray(marked), scheme.embed(array, MESSAGE))
    assert scheme.detect(marked).payload == MESSAGE


@pytest.mark.parametrize("dtype", ["uint16", "float16", "float32", "float64"])
def test_a_fine_mark_survives_rounding_to_bytes(scheme: SpectralMark, dtype: str) -> None:
    marked = scheme.embed(photo(dtype, 3), MESSAGE).astype(np.float64) / levels_of(dtype)
    assert scheme.detect(np.rint(marked).astype(np.uint8)).payload == MESSAGE


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_files_of_16_bits(scheme: SpectralMark, suffix: str, tmp_path: Path) -> None:
    media.write(photo("uint16", 1), tmp_path / f"a{suffix}")
    picture = media.read(tmp_path / f"a{suffix}")
    media.write(scheme.embed(picture, MESSAGE), tmp_path / f"b{suffix}", like=picture)
    marked = media.read(tmp_path / f"b{suffix}")
    assert scheme.detect(marked).payload == MESSAGE
    change = np.asarray(marked).astype(int) - np.asarray(picture)
    assert len(np.unique(change % 257)) == 257


@pytest.mark.parametrize("value", [-1.0, 1.5, np.nan, np.inf])
def test_floats_out_of_range(scheme: SpectralMark, value: float) -> None:
    picture = np.full((80, 80, 3), 0.5, np.float32)
    picture[40, 40, 1] = value
    for work in (scheme.embed, scheme.detect):
        with pytest.raises(MediaError, match="range 0 to 1"):
            work(picture)


@pytest.mark.parametrize("shape", [(64, 64), (65, 67), (64, 20_000), (20_000, 64), (70, 63_500), (511, 2047)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_sizes_and_strips(scheme: SpectralMark, shape: tuple[int, int], dtype: str) -> None:
    rng = np.random.default_rng(3)
    y, x = (np.arange(size, dtype=np.float32) for size in shape)
    grey = 120 + 50 * np.sin(x / 50) + 40 * np.cos(y / 30)[:, None] + rng.normal(0, 5, shape).astype(np.float32)
    picture = (np.rint(grey) * levels_of(dtype)).astype(dtype)
    assert scheme.detect(picture).log10_p > -4  # after the whole search
    found = scheme.detect(scheme.embed(picture, MESSAGE))
    assert found.payload == MESSAGE
    assert found.detected()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0, 1, 128, 255])
@pytest.mark.parametrize("shape", [(64, 64, 3), (65, 300, 1), (700, 530, 4)])
def test_one_colour(scheme: SpectralMark, dtype: str, value: int, shape: tuple[int, ...]) -> None:
    picture = np.full(shape, value * levels_of(dtype), dtype)
    assert scheme.detect(picture).log10_p > -4
    marked = scheme.embed(picture, MESSAGE)
    change = np.abs(marked.astype(np.float64) - picture) / levels_of(dtype)
    assert change.max() < 8
    assert scheme.detect(marked).payload == MESSAGE


def test_too_small_is_an_error(scheme: SpectralMark) -> None:
    for shape in [(63, 900), (900, 63), (1, 1)]:
        with pytest.raises(MediaError, match="at least 64"):
            scheme.embed(np.zeros(shape, np.float32))
    with pytest.raises(MediaError, match="at least 32"):
        scheme.detect(np.zeros((31, 500), np.uint16))


LARGE = """
import resource, sys, time
import numpy as np
import watermark

height, width = 6336, 9504
picture = np.empty((height, width, 3), np.uint8)
x = np.arange(width, dtype=np.float32)
rng = np.random.default_rng(0)
for top in range(0, height, 64):
    y = np.arange(top, top + 64, dtype=np.float32)[:, None]
    grey = 128 + 60 * np.sin(x / 371 + y / 290) + 30 * np.sin(x / 23) * np.cos(y / 31)
    picture[top : top + 64] = (grey + rng.normal(0, 6, (64, width)))[..., None]
scheme = watermark.load("image.spectral", watermark.Key.from_bytes(bytes(range(32))))
start = time.process_time()
marked = scheme.embed(picture, b"order-42")
embedded = time.process_time()
found = scheme.detect(marked)
clean = scheme.detect(picture)
print(embedded - start, time.process_time() - embedded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
assert found.payload == b"order-42" and clean.log10_p > -4
"""


def test_sixty_megapixels_take_little_time_and_memory() -> None:
    result: Any = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=False, cwd="/")
    assert result.returncode == 0, result.stderr
    embedding, detecting, peak = map(float, result.stdout.split())
    assert embedding < 3
    assert detecting < 3
    assert peak < 1.5e9
