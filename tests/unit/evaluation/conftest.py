from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import watermark
from watermark import attacks, evaluation

if TYPE_CHECKING:
    from pathlib import Path

NOISE = (attacks.load("latent.noise", sigma=0.5), attacks.load("latent.sign_flip", probability=0.25))


def _photos(count: int, side: int = 96) -> list[np.ndarray]:
    """Coloured 1/f noise: uint8 of shape (side, side, 3)."""
    rng = np.random.default_rng(5)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    spectra = np.fft.rfft2(rng.standard_normal((count, 3, side, side))) / frequency
    planes = np.fft.irfft2(spectra, (side, side))
    planes = 128 + 45 * planes / planes.std(axis=(2, 3), keepdims=True)
    return list(np.clip(planes, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


@pytest.fixture
def photos() -> Any:
    """Makes pictures: photos(count, side=96)."""
    return _photos


@pytest.fixture
def shading(key: Any) -> Any:
    return watermark.load("latent.gaussian_shading", key, shape=(4, 16, 16), payload_bits=16)


@pytest.fixture
def evaluate(shading: Any, tmp_path: Path) -> Any:
    """Runs a small evaluation, by default of latents, in this process."""

    def run(schemes: Any = shading, grid: Any = None, corpus: Any = 40, **named: Any) -> Any:
        grid = NOISE if grid is None else grid
        settings = {"out": tmp_path / "run", "workers": 1, "null_trials": 400, "progress": False, **named}
        return evaluation.run(schemes, grid, corpus, **settings)

    return run
