"""The one place where image types are converted: NumPy, Pillow and PyTorch to ``(H, W, C)`` bytes and back."""

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
"""Pillow's modes by number of channels, 1 to 4."""

_ACCEPTED = (
    "an image is a uint8 NumPy array (H, W) or (H, W, channels), a PIL.Image of mode L, LA, RGB or RGBA, "
    "or a uint8 torch.Tensor (H, W) or (channels, H, W)"
)


@dataclass(frozen=True, slots=True)
class Pixels(Generic[Picture]):
    """The pixels of an image of any accepted type, and the way back to that type.

    Attributes:
        array: uint8, shape (H, W, C) with C from 1 to 4; with C = 2 or 4 the last channel is alpha. A view of the
            caller's memory for NumPy arrays and tensors (any strides, possibly read-only): never write to it.
        source: the image as it came.
    """

    array: NDArray[np.uint8]
    source: Picture

    @classmethod
    def of(cls, image: Picture) -> Pixels[Picture]:
        """Views an image as bytes.

        Args:
            image: NumPy uint8 (H, W) or (H, W, 1 to 4); PIL.Image of mode L, LA, RGB or RGBA; torch uint8 on the CPU,
                (H, W) or (1 to 4, H, W).

        Raises:
            MediaError: if it is anything else, or empty. The message says how to convert it.
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
        return cls(array, image)

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is transparency rather than colour."""
        return self.array.shape[2] in (2, 4)

    def restore(self, array: NDArray[np.uint8]) -> Picture:
        """Gives pixels the type that the image came in.

        Args:
            array: uint8 (H, W, C), with the channels of ``self.array``.

        Returns:
            A NumPy array of as many dimensions, a PIL.Image of the same mode with the same ``info`` (EXIF, ICC profile,
            ...), or a tensor with the same order of dimensions. Arrays may share the memory of ``array``.
        """
        source: Any = self.source
        restored: Any
        if isinstance(source, np.ndarray):
            restored = array if source.ndim == 3 else array[:, :, 0]
        elif isinstance(source, PIL.Image.Image):
            restored = to_pillow(array)
            restored.info = dict(source.info)
        else:
            planes = np.moveaxis(array, 2, 0) if source.ndim == 3 else array[:, :, 0]
            restored = sys.modules["torch"].from_numpy(np.ascontiguousarray(planes))
        return restored  # type: ignore[no-any-return]


def to_pillow(array: NDArray[np.uint8]) -> PIL.Image.Image:
    """Copies (H, W, C) bytes into a picture of mode L, LA, RGB or RGBA."""
    height, width, channels = array.shape
    return PIL.Image.frombytes(MODES[channels - 1], (width, height), np.ascontiguousarray(array).tobytes())


def _from_numpy(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8:
        raise MediaError(f"the image has dtype {image.dtype}, not uint8 (0 to 255): {_remedy(image.dtype.kind)}")
    if image.ndim == 2:
        return image[:, :, np.newaxis]
    if image.ndim != 3:
        raise MediaError(f"the array has shape {image.shape}, not (H, W) or (H, W, channels); pass images one by one")
    if not 1 <= image.shape[2] <= 4:
        hint = "; put the channels last with array.transpose(1, 2, 0)" if 1 <= image.shape[0] <= 4 else ""
        raise MediaError(f"the array has shape {image.shape}, which is no (H, W, 1 to 4 channels){hint}")
    return image


def _from_pillow(image: PIL.Image.Image) -> NDArray[np.uint8]:
    if image.mode not in MODES:
        target = "RGBA" if image.has_transparency_data else "RGB"
        raise MediaError(f'the picture has mode {image.mode}, not L, LA, RGB or RGBA: picture.convert("{target}")')
    try:
        array = np.asarray(image)
    except Exception as error:  # Pillow opens files lazily and decodes only here, with whatever its codecs raise
        raise MediaError(f"the picture cannot be decoded ({error}); open files with media.read()") from error
    return array if array.ndim == 3 else array[:, :, np.newaxis]


def _is_tensor(image: object) -> bool:
    # A tensor can only exist once torch has been imported, so there is no need to import it in order to ask.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def _from_tensor(image: Any) -> NDArray[np.uint8]:
    if str(image.dtype) != "torch.uint8":
        kind = "f" if image.dtype.is_floating_point else "i"
        raise MediaError(f"the tensor has dtype {image.dtype}, not torch.uint8 (0 to 255): {_remedy(kind)}")
    if image.device.type != "cpu":
        raise MediaError(f"the tensor is on {image.device}; move it to the CPU first: tensor.cpu()")
    if str(image.layout) != "torch.strided":
        raise MediaError(f"the tensor has layout {image.layout}; make it dense first: tensor.to_dense()")
    if image.ndim not in (2, 3):
        shape = tuple(image.shape)
        raise MediaError(f"the tensor has shape {shape}, not (H, W) or (channels, H, W); pass images one by one")
    array: NDArray[np.uint8] = image.numpy()
    if array.ndim == 2:
        return array[:, :, np.newaxis]
    if not 1 <= array.shape[0] <= 4:
        hint = "; put the channels first with tensor.permute(2, 0, 1)" if 1 <= array.shape[2] <= 4 else ""
        raise MediaError(f"the tensor has shape {array.shape}, which is no (1 to 4 channels, H, W){hint}")
    return np.moveaxis(array, 0, 2)


def _remedy(kind: str) -> str:
    if kind == "f":
        return "if the values lie in [0, 1], pass (255 * x).round().clip(0, 255) as uint8"
    if kind == "b":
        return "pass 255 * x.astype(numpy.uint8)"
    return "scale the values to 0..255 and convert them to uint8"
