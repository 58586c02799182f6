"""How many threads the kernels and the batch calls may use."""

from __future__ import annotations

from watermark._values import whole
from watermark.ops._native import core


def set_threads(count: int) -> None:
    """Sets the number of threads of this process; 0 restores one per core. Results do not depend on it.

    Raises:
        ParameterError: `count` is no whole number from 0 to 1024.
    """
    core.set_threads(whole(count, "the number of threads (0: one per core)", 0, 1024))


def threads() -> int:
    """The number of threads that kernels and batch calls may use."""
    return int(core.threads())
