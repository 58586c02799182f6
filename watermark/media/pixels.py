"""The one place where image types are converted: NumPy, Pillow and PyTorch to ``(H, W, C)`` samples and back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import PIL.Image

from watermark.errors import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Picture = TypeVar("Picture")

MODES = ("L", "LA", "RGB", "RGBA")
"""Pillow's modes of 8 bits per channel by number of channels, 1 to 4."""
DEEP_MODE = "I;16"
"""Pillow's mode of 16 bits, which has one channel only."""

_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
_ACCEPTED = (
    "an image is a NumPy array (H, W) or (H, W, channels) or a torch.Tensor (H, W) or (channels, H, W) of uint8, "
    "uint16 or floats in [0, 1], or a PIL.Image of mode L, LA, RGB, RGBA or I;16"
)


@dataclass(frozen=True, slots=True)
class Pixels(Generic[Picture]):
    """The pixels of an image of any accepted type, and the way back to that type.

    Attributes:
        array: Shape (H, W, C) with C from 1 to 4; with C = 2 or 4 the last channel is alpha. uint8, uint16 (0 to
            65535), or float32 or float64 in [0, 1], of the machine's byte order. A view of the caller's memory for
            NumPy arrays and tensors of these types (any strides, possibly read-only): never write to it.
        source: the image as it came.
    """

    array: NDArray[Any]
    source: Picture

    @classmethod
    def of(cls, image: Picture) -> Pixels[Picture]:
        """Views an image as an array.

        Args:
            image: NumPy (H, W) or (H, W, 1 to 4), or torch on the CPU, (H, W) or (1 to 4, H, W), of uint8, uint16,
                float16, float32 or float64, floats in [0, 1]; or PIL.Image of mode L, LA, RGB, RGBA or I;16.

        Raises:
            MediaError: if it is anything else, empty, or holds floats outside [0, 1] or NaN. The message says how to
                convert it.
        """
        if isinstance(image, np.ndarray):
            array = _from_numpy(image)
        elif isinstance(image, PIL.Image.Image):
            array = _from_pillow(image)
        elif _is_tensor(image):
            array = _from_tensor(image)
        else:
            raise MediaError(f"{type(image).__name__} is not an image: {_ACCEPTED}; media.read() opens files")
        if array.size == 0:
            raise MediaError(f"the image is empty: height {array.shape[0]}, width {array.shape[1]}")
        array = _plain(array)
        if array.dtype.kind == "f":
            check_range(float(array.min()), float(array.max()))
        return cls(array, image)

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is transparency rather than colour."""
        return self.array.shape[2] in (2, 4)

    def restore(self, array: NDArray[Any]) -> Picture:
        """Gives pixels the type that the image came in.

        Args:
            array: (H, W, C), with the dtype and the channels of ``self.array``.

        Returns:
            A NumPy array of the same dtype and as many dimensions, a PIL.Image of the same mode with the same ``info``
            (EXIF, ICC profile, ...), or a contiguous tensor of the same dtype and order of dimensions. Arrays may share
            the memory of ``array``.
        """
        source: Any = self.source
        restored: Any
        if isinstance(source, np.ndarray):
            restored = (array if source.ndim == 3 else array[:, :, 0]).astype(source.dtype, copy=False)
        elif isinstance(source, PIL.Image.Image):
            restored = to_pillow(array)
            restored.info = dict(source.info)
        else:
            planes = np.moveaxis(array, 2, 0) if source.ndim == 3 else array[:, :, 0]
            restored = sys.modules["torch"].from_numpy(np.ascontiguousarray(planes)).to(source.dtype)
        return restored  # type: ignore[no-any-return]


def to_pillow(array: NDArray[Any]) -> PIL.Image.Image:
    """Copies (H, W, C) pixels into a picture: uint8 of mode L, LA, RGB or RGBA, uint16 with one channel of mode I;16.

    Raises:
        MediaError: if Pillow has no mode for them.
    """
    height, width, channels = array.shape
    if array.dtype == np.uint8:
        mode = MODES[channels - 1]
    elif array.dtype == np.uint16 and channels == 1:
        mode = DEEP_MODE
    else:
        raise MediaError(
            f"{array.dtype} with {channels} channels: a picture of Pillow, and so a file, holds 8 bits per channel, or "
            "16 bits of grey without alpha: scale the values to 0..255 and convert them to uint8"
        )
    return PIL.Image.frombytes(mode, (width, height), np.ascontiguousarray(array).data)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, or a copy of it where kernels would not take the type or the place in memory."""
    split = not array.flags.aligned or any(stride % array.itemsize for stride in array.strides)
    return array.astype(np.float32 if array.dtype.name == "float16" else array.dtype.newbyteorder("="), copy=split)


def check_range(low: float, high: float) -> None:
    """Raises MediaError if floats that run from `low` to `high` are no samples."""
    if low >= 0 and high <= 1:
        return
    if np.isfinite([low, high]).all():
        remedy = "divide them by 255" if low >= 0 and 2 < high <= 255 else "scale or clip them first"
        raise MediaError(f"the values run from {low:g} to {high:g}; floats must lie in the range 0 to 1: {remedy}")
    raise MediaError("the image holds NaN or infinite values; floats must lie in the range 0 to 1")


def _from_numpy(image: NDArray[Any]) -> NDArray[Any]:
    if isinstance(image, np.ma.MaskedArray):
        raise MediaError("the array is masked: fill it first, as with array.filled(0)")
    image = image.view(np.ndarray)  # a matrix would keep its two dimensions
    if image.dtype.name not in _DTYPES:
        raise MediaError(f"the image has dtype {image.dtype}: {_remedy(image.dtype.kind)}")
    if image.ndim == 2:
        return image[:, :, np.newaxis]
    if image.ndim != 3:
        raise MediaError(f"the array has shape {image.shape}, not (H, W) or (H, W, channels); pass images one by one")
    if not 1 <= image.shape[2] <= 4:
        hint = "; put the channels last with array.transpose(1, 2, 0)" if 1 <= image.shape[0] <= 4 else ""
        raise MediaError(f"the array has shape {image.shape}, which is no (H, W, 1 to 4 channels){hint}")
    return image


def _from_pillow(image: PIL.Image.Image) -> NDArray[Any]:
    if image.mode not in (*MODES, DEEP_MODE):
        remedy = f'picture.convert("{"RGBA" if image.has_transparency_data else "RGB"}")'
        if image.mode.startswith(("I", "F")):
            remedy = "pass numpy.asarray(picture), as uint16 or as floats in [0, 1]"
        raise MediaError(f"the picture has mode {image.mode}, not L, LA, RGB, RGBA or I;16: {remedy}")
    try:
        array = np.asarray(image)
    except Exception as error:  # Pillow opens files lazily and decodes only here, with whatever its codecs raise
        raise MediaError(f"the picture cannot be decoded ({error}); open files with media.read()") from error
    return array if array.ndim == 3 else array[:, :, np.newaxis]


def _is_tensor(image: object) -> bool:
    # A tensor can only exist once torch has been imported, so there is no need to import it in order to ask.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def check_tensor(image: Any) -> None:
    """Raises MediaError if a tensor, wherever it lies, is no (H, W) or (1 to 4, H, W) of an accepted type."""
    if str(image.dtype).removeprefix("torch.") not in _DTYPES:
        kind = "f" if image.dtype.is_floating_point else "b" if str(image.dtype) == "torch.bool" else "i"
        raise MediaError(f"the tensor has dtype {image.dtype}: {_remedy(kind)}")
    if str(image.layout) != "torch.strided":
        raise MediaError(f"the tensor has layout {image.layout}; make it dense first: tensor.to_dense()")
    if image.ndim not in (2, 3):
        shape = tuple(image.shape)
        raise MediaError(f"the tensor has shape {shape}, not (H, W) or (channels, H, W); pass images one by one")
    if image.ndim == 3 and not 1 <= image.shape[0] <= 4:
        hint = "; put the channels first with tensor.permute(2, 0, 1)" if 1 <= image.shape[2] <= 4 else ""
        raise MediaError(f"the tensor has shape {tuple(image.shape)}, which is no (1 to 4 channels, H, W){hint}")


def _from_tensor(image: Any) -> NDArray[Any]:
    if image.device.type != "cpu":
        raise MediaError(f"the tensor is on {image.device}; move it to the CPU first: tensor.cpu()")
    check_tensor(image)
    array: NDArray[Any] = image.numpy(force=True)  # also of a tensor that requires a gradient
    return array[:, :, np.newaxis] if array.ndim == 2 else np.moveaxis(array, 0, 2)


def _remedy(kind: str) -> str:
    if kind == "f":
        return "convert it to float32, with values in [0, 1]"
    if kind == "b":
        return "multiply it by 255 and convert it to uint8"
    return "scale the values to 0..255 and convert them to uint8, or to 0..65535 and uint16"
