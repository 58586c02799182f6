"""Marks AI-generated media and proves it later.

    >>> import watermark
    >>> key = watermark.Key.generate()
    >>> image = watermark.load("image.spectral", key, payload_bits=64)

Importing loads NumPy and the compiled core only; everything else comes when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from watermark._threads import set_threads, threads
from watermark.detection import Detection, Detections, combine
from watermark.errors import (
    BudgetError,
    CudaError,
    InvalidKeyError,
    KeyFileWarning,
    MediaError,
    MissingExtraError,
    NativeCoreError,
    ParameterError,
    PayloadError,
    ThresholdError,
    WatermarkError,
    WatermarkWarning,
)
from watermark.key import Key, Keyring
from watermark.scheme import FixedKey, Scheme, SchemeInfo, load, schemes

if TYPE_CHECKING:
    from watermark import attacks, cuda, media, reference

__version__ = "0.1.0"
__all__ = [
    "BudgetError",
    "CudaError",
    "Detection",
    "Detections",
    "FixedKey",
    "InvalidKeyError",
    "Key",
    "KeyFileWarning",
    "Keyring",
    "MediaError",
    "MissingExtraError",
    "NativeCoreError",
    "ParameterError",
    "PayloadError",
    "Scheme",
    "SchemeInfo",
    "ThresholdError",
    "WatermarkError",
    "WatermarkWarning",
    "attacks",
    "combine",
    "cuda",
    "load",
    "media",
    "reference",
    "schemes",
    "set_threads",
    "threads",
]


def __getattr__(name: str) -> Any:
    if name in ("attacks", "cuda", "media", "reference"):
        return import_module(f"watermark.{name}")
    raise AttributeError(f"module 'watermark' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
