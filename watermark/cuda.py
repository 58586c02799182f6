"""What this installation can do on a GPU. Asking never loads torch and never fails."""

from __future__ import annotations

from importlib.util import find_spec


def is_built() -> bool:
    """Whether the CUDA module was compiled."""
    return find_spec("watermark._cuda") is not None


def is_available() -> bool:
    """Whether a CUDA device can be used."""
    return not why_not()


def why_not() -> str:
    """The reason why CUDA cannot be used; empty if it can."""
    if not is_built():
        return "this build has no CUDA module"
    from watermark.ops._native import cuda

    return str(cuda().why_not())
