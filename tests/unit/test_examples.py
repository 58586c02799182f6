"""The worked example, and every Python snippet of the README and the docs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import watermark

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "signal_mark"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: Path) -> list[tuple[int, str]]:
    """Line number and source of each fenced Python block."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)), found[1]) for found in FENCE.finditer(text)]


@pytest.fixture
def signal_mark() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("signal_mark", EXAMPLE / "signal_mark.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["signal_mark"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["signal_mark"]


def as_installed_plugin(folder: Path) -> Path:
    """What ``pip install examples/signal_mark`` leaves behind, made without pip."""
    metadata = folder / "signal_mark-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: signal-mark\nVersion: 0.1.0\n")
    declared = re.search(r'"watermark\.schemes"\]\n"([\w.]+)" = "([\w:]+)"', (EXAMPLE / "pyproject.toml").read_text())
    assert declared is not None
    (metadata / "entry_points.txt").write_text(f"[watermark.schemes]\n{declared[1]} = {declared[2]}\n")
    shutil.copy(EXAMPLE / "signal_mark.py", folder)
    return folder


@pytest.mark.parametrize("page", [pytest.param(p, id=p.relative_to(ROOT).as_posix()) for p in PAGES if snippets(p)])
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal_mark: ModuleType) -> None:
    """The blocks of a page run in order, in one namespace, in a folder that holds a photo and some more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(as_installed_plugin(tmp_path / "site"))
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("coffee.jpg", "astronaut.webp"):
        shutil.copy(ROOT / "tests" / "data" / name, photos)
    shutil.copy(ROOT / "tests" / "data" / "coffee.jpg", tmp_path / "photo.jpg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line, source in snippets(page):
        code = compile("\n" * line + source, str(page), "exec")
        exec(code, namespace)


def test_the_signal_mark_is_found_and_a_wrong_key_sees_nothing(signal_mark: ModuleType) -> None:
    rng = np.random.default_rng(1)
    signal = np.cumsum(rng.normal(size=4096))
    key = watermark.Key.from_bytes(bytes(range(32)))
    mark = signal_mark.SignalMark(key)
    marked = mark.embed(signal)
    assert mark.detect(marked).detected(1e-6)
    assert mark.detect(3 * marked + rng.normal(0, 0.2, marked.size)).detected(1e-6)
    assert mark.detect(signal).p_value > 1e-3
    assert signal_mark.SignalMark(key.child("other")).detect(marked).p_value > 1e-3


def test_the_null_of_the_signal_mark_is_exact(signal_mark: ModuleType) -> None:
    """Fresh keys on one hostile signal: the exact binomial law, within 99.9 % limits."""
    signal = np.tile([0.0, 1.0], 64)  # every pair difference is 1
    observation = signal_mark.SignalMark(watermark.Key.from_bytes(bytes(32)))._observe(signal)
    keys, limit = 2000, 38
    nominal = 10 ** signal_mark.log10_binomial_tail(limit, 64)
    root = watermark.Key.from_bytes(bytes(range(32)))
    p = [10 ** signal_mark.SignalMark(root.child(str(i))).detect(signal).log10_p for i in range(keys)]
    below = sum(value <= nominal * (1 + 1e-9) for value in p)
    deviation = 3.3 * (keys * nominal * (1 - nominal)) ** 0.5
    assert observation.size == 64
    assert abs(below - keys * nominal) < deviation


def test_the_signal_mark_refuses_bad_input(signal_mark: ModuleType) -> None:
    mark = signal_mark.SignalMark(watermark.Key.generate())
    for bad in ([1.0, 2.0], np.zeros((2, 64)), np.zeros(64, np.int32), np.full(64, np.nan), np.zeros(10)):
        with pytest.raises(watermark.MediaError):
            mark.detect(bad)
    with pytest.raises(watermark.PayloadError):
        mark.embed(np.ones(64), b"x")
    with pytest.raises(watermark.ParameterError):
        signal_mark.SignalParameters(strength=0)
    with pytest.raises(watermark.ThresholdError):
        mark.detect(np.zeros(64)).detected(1e-6)


def test_the_signal_mark_loads_as_a_plugin(tmp_path: Path) -> None:
    """Through its entry point, in a process that has never seen the file."""
    site = as_installed_plugin(tmp_path / "site")
    source = (
        "import numpy as np, watermark\n"
        "mark = watermark.load('signal.pairs', watermark.Key.from_bytes(bytes(32)), strength=0.5)\n"
        "signal = np.sin(np.arange(4096) / 9) + np.random.default_rng(1).normal(size=4096)\n"
        "again = watermark.load(mark.profile(), mark.key)\n"
        "print(again.detect(mark.embed(signal)).detected(), 'signal.pairs' in {s.name for s in watermark.schemes()})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1].split() == ["True", "True"]
