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

__all__ = ["core", "cuda", "is_cuda", "on_cuda", "to_device", "to_host"]


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


def to_device(table: NDArray[Any], like: Any) -> Any:
    """A table where a CUDA tensor lies; 16- and 32-bit words become signed ones, as torch wants them."""
    import torch

    signed = {2: np.int16, 4: np.int32}.get(table.itemsize) if table.dtype.kind == "u" else None
    return torch.from_numpy(table.view(signed) if signed else table).to(like.device)


def to_host(array: Any) -> NDArray[Any]:
    """The numbers of an array, or of a tensor on CUDA."""
    return np.asarray(array.cpu() if is_cuda(array) else array)
