"""What imports load. Each runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import watermark


def modules_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after `code`, and the library's own modules."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    # The editable install adds a finder with imports of its own: only what comes after it counts.
    before = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd="/")
    after = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True, cwd="/"
    )
    loaded = set(json.loads(after.stdout.splitlines()[-1])) - set(json.loads(before.stdout.splitlines()[-1]))
    return {name if name.startswith("watermark") else name.partition(".")[0] for name in loaded}


def foreign(modules: set[str]) -> set[str]:
    """Those that are neither ours nor of the standard library."""
    return {m for m in modules if not m.startswith("watermark") and m not in sys.stdlib_module_names}


def test_import_loads_numpy_and_the_core_only():
    modules = modules_after("import watermark")
    # NumPy leaves traces of its C extensions under names of their own.
    assert {m for m in foreign(modules) if not m.startswith(("numpy", "_numpy", "cython"))} == set()
    assert "watermark._core" in modules
    assert not modules & {"watermark._cuda", "watermark.media", "watermark.cli", "watermark.latent", "watermark.image"}


def test_the_latent_mark_needs_no_more():
    code = """
import watermark
watermark.set_threads(1)
scheme = watermark.load("latent.gaussian_shading", watermark.Key.generate())
scheme.detect(scheme.sample(b"x"))
"""
    assert {m for m in foreign(modules_after(code)) if not m.startswith(("numpy", "_numpy", "cython"))} == set()


def test_no_extra_comes_along():
    extras = {"torch", "nltk", "typer", "rich", "transformers", "diffusers", "scipy", "skimage", "av"}
    assert (
        not modules_after(
            "import watermark; watermark.schemes(); watermark.media; watermark.attacks; watermark.cuda.why_not()"
        )
        & extras
    )


def test_modules_come_when_asked_for():
    assert "watermark.media" in modules_after("import watermark; watermark.media")
    assert watermark.cuda.__name__ == "watermark.cuda"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = watermark.nonsense
    assert dir(watermark) == sorted(watermark.__all__)
