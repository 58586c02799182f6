"""How many threads the kernels and the batch calls may use."""

from __future__ import annotations

from watermark.errors import ParameterError
from watermark.ops._native import core


def set_threads(count: int) -> None:
    """Sets the number of threads of this process; 0 restores one per core. Results do not depend on it.

    Raises:
        ParameterError: `count` is negative or no whole number.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 1024:
        raise ParameterError(f"the number of threads is 0 (one per core) to 1024, not {count!r}")
    core.set_threads(count)


def threads() -> int:
    """The number of threads that kernels and batch calls may use."""
    return int(core.threads())
