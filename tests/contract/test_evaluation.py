"""Every registered scheme goes through the evaluation, and its p-values pass the calibration there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import watermark
from watermark import attacks, evaluation

PHOTOS = Path(__file__).parents[1] / "data"
INFO = {info.name: info for info in watermark.schemes()}
PARAMETERS: dict[str, dict[str, Any]] = {
    "image": {"payload_bits": 32},
    "latent": {"shape": (4, 64, 64)},
    "tokens": {"vocab_size": 512},
}
GRIDS = {
    "image": [attacks.load("image.jpeg", quality=50)],
    "latent": [attacks.load("latent.noise", sigma=0.3)],
    "tokens": [attacks.load("text.delete", share=0.1)],
}
TRIALS = {"image.spectral": 60, "latent.prc": 60, "latent.seal": 100, "llm.prc": 60, "llm.exp": 60, "llm.its": 60}


@pytest.mark.parametrize("name", INFO)
def test_every_scheme_is_calibrated(name, key, tmp_path):
    modality = INFO[name].modality
    scheme = watermark.load(name, key, **PARAMETERS[modality])
    corpus = PHOTOS if modality == "image" else 8
    trials = TRIALS.get(name, 400)
    report = evaluation.run(scheme, GRIDS[modality], corpus, tmp_path, size=None, workers=1, null_trials=trials)
    assert report.faults == []
    summary = report.to_dict()
    assert summary["calibration"][0]["trials"] == trials
    found = {cell["attack"]: cell for cell in summary["cells"]}
    if name != "llm.prc":  # which needs longer texts
        assert found["none"]["detected"]["0.001"]["value"] == 1
    assert len(found) == 1 + len(GRIDS[modality])
