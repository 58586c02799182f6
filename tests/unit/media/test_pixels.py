"""Every accepted image type becomes (H, W, C) bytes and comes back as what it was."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark.errors import MediaError
from watermark.media import Pixels


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


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "I", "I;16", "F", "YCbCr", "HSV", "LAB"])
def test_other_pillow_modes_name_the_conversion(mode: str) -> None:
    with pytest.raises(MediaError, match=r'picture\.convert\("RGB'):
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


def test_unusual_tensors() -> None:
    torch = pytest.importorskip("torch")
    channels_last = torch.zeros(6, 9, 3, dtype=torch.uint8).permute(2, 0, 1)
    assert Pixels.of(channels_last).array.flags.c_contiguous
    for tensor, message in [
        (torch.zeros(3, 4, 4), r"torch\.float32.*clip"),
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
        (np.zeros((4, 4, 3)), r"float64.*clip"),
        (np.zeros((4, 4, 3), bool), "255"),
        (np.zeros((4, 4, 3), np.uint16), "scale the values"),
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
