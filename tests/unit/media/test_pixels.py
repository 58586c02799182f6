"""Every accepted image type becomes (H, W, C) samples and comes back as what it was."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark.errors import MediaError
from watermark.media import Pixels

DTYPES = ("uint8", "uint16", "float16", "float32", "float64")


def image_of(dtype: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    kind = np.dtype(dtype)
    top = np.iinfo(kind).max + 1 if kind.kind == "u" else 1
    return (top * rng.random(shape)).astype(kind)


def image_bytes(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 1), (6, 9, 3), (6, 9, 4), (1, 1, 3)])
def test_numpy_round_trip_shares_memory(shape: tuple[int, ...]) -> None:
    image = image_bytes(*shape)
    pixels = Pixels.of(image)
    assert pixels.array.shape == (*shape, 1)[:3]
    assert np.shares_memory(pixels.array, image)
    restored = pixels.restore(pixels.array.copy())
    assert restored.shape == shape
    np.testing.assert_array_equal(restored, image)


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 4)])
@pytest.mark.parametrize("dtype", [*DTYPES, ">u2", ">f4", ">f2"])
def test_numpy_round_trip_keeps_the_dtype(dtype: str, shape: tuple[int, ...]) -> None:
    image = image_of(dtype, *shape)
    pixels = Pixels.of(image)
    assert pixels.array.dtype == (np.float32 if image.dtype.name == "float16" else image.dtype.newbyteorder("="))
    assert np.shares_memory(pixels.array, image) == (dtype in DTYPES and dtype != "float16")
    restored = pixels.restore(pixels.array.copy())
    assert restored.dtype == image.dtype
    assert restored.shape == shape
    np.testing.assert_array_equal(restored, image)


def test_samples_that_lie_between_words_are_copied() -> None:
    image = image_of("uint16", 6, 9)
    shifted = np.frombuffer(b"\0" + image.tobytes(), np.uint16, offset=1).reshape(6, 9)
    records = np.zeros((6, 9), [("flag", "u1"), ("value", "u2")])
    records["value"] = image
    for view in (shifted, records["value"]):
        array = Pixels.of(view).array
        assert array.flags.aligned
        assert array.strides[0] % 2 == array.strides[1] % 2 == 0
        np.testing.assert_array_equal(array[:, :, 0], image)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.01, "range 0 to 1: scale or clip"),
        (1.01, "range 0 to 1: scale or clip"),
        (200.0, "range 0 to 1: divide them by 255"),
        (3000.0, "run from 0 to 3000"),
        (np.nan, "NaN"),
        (np.inf, "infinite"),
        (-np.inf, "infinite"),
    ],
)
def test_floats_outside_the_range(dtype: str, value: float, message: str) -> None:
    image = np.zeros((6, 9, 4), dtype)
    image[3, 4, 3] = value
    with pytest.raises(MediaError, match=message):
        Pixels.of(image)


@given(
    st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4)),
    st.tuples(*[st.sampled_from([1, 2, -1, -2])] * 2, st.sampled_from([1, -1])),
    st.permutations([0, 1]),
)
@settings(max_examples=40, deadline=None)
def test_strided_views_are_not_copied(
    shape: tuple[int, int, int], steps: tuple[int, ...], order: tuple[int, int]
) -> None:
    view = image_bytes(*shape)[tuple(slice(None, None, step) for step in steps)].transpose(*order, 2)
    pixels = Pixels.of(view)
    assert np.shares_memory(pixels.array, view)
    np.testing.assert_array_equal(pixels.array, view)


def test_read_only_array() -> None:
    image = image_bytes(4, 4, 3)
    image.flags.writeable = False
    assert not Pixels.of(image).array.flags.writeable


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pillow_round_trip_keeps_mode_and_info(mode: str) -> None:
    channels = len(mode)
    picture = PIL.Image.frombytes(mode, (9, 6), image_bytes(6, 9, channels).tobytes())
    picture.info = {"exif": b"Exif\0\0", "icc_profile": b"profile"}
    pixels = Pixels.of(picture)
    assert pixels.array.shape == (6, 9, channels)
    assert pixels.has_alpha == mode.endswith("A")
    restored = pixels.restore(pixels.array)
    assert restored.mode == mode
    assert restored.info == picture.info
    assert restored.tobytes() == picture.tobytes()


def test_pillow_of_16_bits() -> None:
    picture = PIL.Image.fromarray(image_of("uint16", 6, 9))
    assert picture.mode == "I;16"
    picture.info = {"dpi": (300, 300)}
    pixels = Pixels.of(picture)
    assert (pixels.array.dtype, pixels.array.shape, pixels.has_alpha) == (np.uint16, (6, 9, 1), False)
    restored = pixels.restore(pixels.array)
    assert (restored.mode, restored.info, restored.tobytes()) == ("I;16", picture.info, picture.tobytes())


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "HSV", "LAB"])
def test_other_pillow_modes_name_the_conversion(mode: str) -> None:
    with pytest.raises(MediaError, match=r'picture\.convert\("RGB'):
        Pixels.of(PIL.Image.new(mode, (4, 4)))


@pytest.mark.parametrize("mode", ["I", "F", "I;16B"])
def test_deep_pillow_modes_name_the_array(mode: str) -> None:
    with pytest.raises(MediaError, match=r"numpy\.asarray\(picture\), as uint16 or as floats"):
        Pixels.of(PIL.Image.new(mode, (4, 4)))


def test_lazily_opened_damaged_picture() -> None:
    file = io.BytesIO()
    PIL.Image.frombytes("RGB", (64, 64), image_bytes(64, 64, 3).tobytes()).save(file, "PNG")
    with pytest.raises(MediaError, match="cannot be decoded"):
        Pixels.of(PIL.Image.open(io.BytesIO(file.getvalue()[:3000])))


@pytest.mark.parametrize("shape", [(6, 9), (1, 6, 9), (3, 6, 9), (4, 6, 9)])
def test_tensor_round_trip_shares_memory(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(image_bytes(*shape))
    pixels = Pixels.of(tensor)
    assert pixels.array.shape == (6, 9, shape[0] if len(shape) == 3 else 1)
    assert np.shares_memory(pixels.array, tensor.numpy())
    restored = pixels.restore(np.ascontiguousarray(pixels.array))
    assert restored.dtype == torch.uint8
    assert restored.is_contiguous()
    assert torch.equal(restored, tensor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 9), (2, 6, 9), (3, 6, 9)])
def test_tensor_round_trip_keeps_the_dtype(dtype: str, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(image_of(dtype, *shape))
    pixels = Pixels.of(tensor)
    assert np.shares_memory(pixels.array, tensor.numpy()) == (dtype != "float16")
    restored = pixels.restore(pixels.array.copy())
    assert restored.dtype == tensor.dtype
    assert restored.is_contiguous()
    assert torch.equal(restored, tensor)


def test_tensor_in_a_graph() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.full((3, 4, 4), 0.5, requires_grad=True)
    pixels = Pixels.of(tensor)
    restored = pixels.restore(pixels.array)
    assert not restored.requires_grad
    assert torch.equal(restored, tensor.detach())


def test_unusual_tensors() -> None:
    torch = pytest.importorskip("torch")
    channels_last = torch.zeros(6, 9, 3, dtype=torch.uint8).permute(2, 0, 1)
    assert Pixels.of(channels_last).array.flags.c_contiguous
    for tensor, message in [
        (torch.full((3, 4, 4), 2.0), "range 0 to 1"),
        (torch.full((3, 4, 4), float("nan"), dtype=torch.float16), "NaN"),
        (torch.zeros(3, 4, 4, dtype=torch.bfloat16), r"torch\.bfloat16.*float32"),
        (torch.zeros(3, 4, 4, dtype=torch.complex64), "scale the values"),
        (torch.zeros(3, 4, 4, dtype=torch.bool), "255"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "scale the values"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "one by one"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), "permute"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8, device="meta"), r"tensor\.cpu"),
        (torch.zeros(4, 4, dtype=torch.uint8).to_sparse(), "to_dense"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), "empty"),
    ]:
        with pytest.raises(MediaError, match=message):
            Pixels.of(tensor)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "NoneType is not an image"),
        ("photo.jpg", r"media\.read"),
        ([[1, 2], [3, 4]], "list is not an image"),
        (np.zeros((4, 4, 3), np.longdouble), "float32"),
        (np.zeros((4, 4, 3), bool), "255"),
        (np.zeros((4, 4, 3), np.uint32), "scale the values"),
        (np.zeros((4, 4, 3), np.int8), "scale the values"),
        (np.zeros((4, 4), object), "object"),
        (np.zeros((2, 4, 4, 3), np.uint8), "one by one"),
        (np.zeros(4, np.uint8), "shape"),
        (np.uint8(3), "uint8 is not an image"),
        (np.zeros((3, 8, 8), np.uint8), "transpose"),
        (np.zeros((8, 8, 5), np.uint8), "channels"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (np.zeros((8, 0), np.uint8), "empty"),
        (np.zeros((8, 8, 0), np.uint8), "channels"),
    ],
)
def test_wrong_input_is_explained(image: object, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        Pixels.of(image)


def test_masked_arrays_are_refused() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with pytest.raises(MediaError, match="masked"):
        Pixels.of(np.ma.masked_equal(grey, 3))
