"""What the library says about CUDA, with and without it. What CUDA computes: tests/native/test_cuda.py."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from watermark import CudaError, cuda
from watermark.ops import _native


def test_the_three_answers_agree():
    assert cuda.is_available() == (cuda.why_not() == "")
    assert cuda.is_built() or not cuda.is_available()
    assert isinstance(cuda.why_not(), str)


def test_asking_loads_no_torch():
    code = "import sys, watermark; watermark.cuda.why_not(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


@pytest.mark.skipif(cuda.is_built(), reason="this build has a CUDA module")
def test_a_build_without_cuda_says_so():
    assert "no CUDA module" in cuda.why_not()
    with pytest.raises(CudaError, match="WATERMARK_CUDA=ON"):
        _native.on_cuda("sign_votes")


def test_a_runtime_failure_is_a_cuda_error(monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA could not start the kernel that reads latents: out of memory")

    monkeypatch.setattr(_native, "cuda", lambda: SimpleNamespace(sign_votes=fail))
    with pytest.raises(CudaError, match="out of memory"):
        _native.on_cuda("sign_votes", np.zeros(1))
