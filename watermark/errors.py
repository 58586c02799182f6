"""Every error and warning that the library raises on purpose.

::

    WatermarkError
    ├── MediaError            media of a wrong type, shape, dtype or content; a file that cannot be read  (ValueError)
    ├── InvalidKeyError       key bytes or a key file that is malformed, damaged or of a newer version    (ValueError)
    ├── PayloadError          a message that is too long, or of a wrong type                              (ValueError)
    ├── ParameterError        an unknown scheme, parameter or profile, or a value out of range            (ValueError)
    ├── ThresholdError        a false-positive rate that is no probability, or below the test's floor     (ValueError)
    ├── BudgetError           more than a key or a setting allows                                         (RuntimeError)
    ├── MissingExtraError     an optional package is not installed; the message names the `pip install`   (ImportError)
    ├── NativeCoreError       the compiled core is missing; the message says how to build it              (ImportError)
    └── CudaError             CUDA was asked for and cannot be used; the message says why                 (RuntimeError)

    WatermarkWarning
    └── KeyFileWarning        a key file that others can read                                             (UserWarning)

Each error also derives from the built-in that fits it, so that ``except ValueError`` keeps working.
"""

from __future__ import annotations


class WatermarkError(Exception):
    """Base of every error of this library."""


class MediaError(WatermarkError, ValueError):
    """Media of a wrong type, shape, dtype or content, or a file that cannot be read."""


class InvalidKeyError(WatermarkError, ValueError):
    """Key bytes or a key file that is malformed, damaged or of a newer version."""


class PayloadError(WatermarkError, ValueError):
    """A message that does not fit the scheme's payload."""


class ParameterError(WatermarkError, ValueError):
    """An unknown scheme, parameter or profile, or a parameter value out of range."""


class ThresholdError(WatermarkError, ValueError):
    """A false-positive rate that is not a probability, or that the test cannot resolve."""


class BudgetError(WatermarkError, RuntimeError):
    """More was asked than the key or a setting allows."""


class MissingExtraError(WatermarkError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"This needs the package '{package}': pip install 'watermarking[{extra}]'", name=package)
        self.extra = extra


class NativeCoreError(WatermarkError, ImportError):
    """The compiled core is missing."""


class CudaError(WatermarkError, RuntimeError):
    """CUDA was asked for and cannot be used."""


class WatermarkWarning(UserWarning):
    """Base of every warning of this library."""


class KeyFileWarning(WatermarkWarning):
    """A key file that other users of the machine can read."""
