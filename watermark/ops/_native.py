"""The compiled modules, and sentences instead of tracebacks where one is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.errors import CudaError, NativeCoreError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

try:
    import watermark._core as core
except ImportError as error:
    raise NativeCoreError(
        "The compiled core watermark._core is missing. Run `pip install .` and start Python outside the source folder, "
        "or, to work in it, `pip install --no-build-isolation -e . -C editable.rebuild=true`."
    ) from error

__all__ = ["core", "cuda", "is_cuda", "on_cuda", "to_device"]


def cuda() -> ModuleType:
    """The compiled CUDA module.

    Raises:
        CudaError: This installation was built without CUDA.
    """
    try:
        import watermark._cuda as module
    except ImportError as error:
        raise CudaError("This build has no CUDA module: rebuild with `-C cmake.define.WATERMARK_CUDA=ON`.") from error
    return module


def on_cuda(function: str, *arguments: Any) -> None:
    """Calls a function of the CUDA module.

    Raises:
        CudaError: This installation was built without CUDA, or a call of the CUDA runtime failed.
    """
    call = getattr(cuda(), function)
    try:
        call(*arguments)
    except RuntimeError as error:
        raise CudaError(str(error)) from error


def is_cuda(array: Any) -> bool:
    """Whether `array` is a tensor in GPU memory (torch and everything else with ``is_cuda``)."""
    return bool(getattr(array, "is_cuda", False))


def to_device(words: NDArray[np.uint32], like: Any) -> Any:
    """32-bit words as an int32 torch tensor on the device of `like`."""
    import torch

    return torch.from_numpy(words.view(np.int32)).to(like.device)
