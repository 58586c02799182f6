from __future__ import annotations

import re

import pytest

from watermark import errors

BUILT_IN = {
    "MediaError": ValueError,
    "InvalidKeyError": ValueError,
    "PayloadError": ValueError,
    "ParameterError": ValueError,
    "ThresholdError": ValueError,
    "BudgetError": RuntimeError,
    "MissingExtraError": ImportError,
    "NativeCoreError": ImportError,
    "CudaError": RuntimeError,
}


@pytest.mark.parametrize(("name", "built_in"), BUILT_IN.items())
def test_every_error_is_ours_and_a_built_in(name, built_in):
    assert issubclass(getattr(errors, name), errors.WatermarkError)
    assert issubclass(getattr(errors, name), built_in)


def test_the_docstring_draws_the_whole_tree():
    drawn = re.findall(r"── (\w+) .*\((\w+)\)$", errors.__doc__, flags=re.MULTILINE)
    assert {name: built_in for name, built_in in drawn if name != "KeyFileWarning"} == {
        name: built_in.__name__ for name, built_in in BUILT_IN.items()
    }
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes == {name for name, _ in drawn} | {"WatermarkError", "WatermarkWarning"}


def test_a_missing_extra_names_the_command():
    error = errors.MissingExtraError("torch", "torch")
    assert "pip install 'watermarking[torch]'" in str(error)
    assert (error.name, error.extra) == ("torch", "torch")
