"""``watermark evaluate``."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from watermark.cli import app

CONFIG = """
corpus = 24
out = "run"
null_trials = 200
workers = 1
attacks = [{ name = "latent.noise", sigma = 0.5 }]

[[schemes]]
name = "latent.gaussian_shading"
shape = [4, 16, 16]
payload_bits = 16
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("WATERMARK_DATA", raising=False)

    def command(text, *arguments):
        (tmp_path / "evaluation.toml").write_text(text)
        return CliRunner().invoke(app, ["evaluate", str(tmp_path / "evaluation.toml"), *map(str, arguments)])

    return command


def test_a_file_is_evaluated(run, tmp_path):
    result = run(CONFIG)
    assert result.exit_code == 0, result.output
    assert "noise (sigma 0.5)" in result.stdout
    assert "66.4 to 100.0" in result.stdout
    assert "report.html" in result.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["protocol"]["split"]["positive"] == 9


def test_several_schemes_stand_side_by_side(run):
    result = run(CONFIG + CONFIG[CONFIG.index("[[schemes]]") :])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.strip().startswith("no attack")]
    assert line.split()[2:] == ["100.0", "100.0"]


def test_options_replace_what_the_file_says(run, tmp_path):
    result = run(CONFIG, "--out", tmp_path / "other", "--items", 16, "--workers", 2)
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "other" / "summary.json").read_text())
    assert sum(summary["protocol"]["split"].values()) == 16
    assert not (tmp_path / "run").exists()


def test_a_check_that_fails_sets_the_exit_code(run, tmp_path, monkeypatch):
    from watermark.evaluation import protocol

    monkeypatch.setattr(protocol, "thresholds", lambda log10_p, levels: {f"{level:g}": -0.001 for level in levels})
    result = run(CONFIG)
    assert result.exit_code == 1
    assert "check failed: thresholds" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schemes", "no TOML"),
        (CONFIG.replace("corpus = 24\n", ""), "has no corpus"),
        (CONFIG.replace('out = "run"\n', ""), "has no out"),
        (CONFIG.replace("latent.gaussian_shading", "latent.nothing"), "no scheme 'latent.nothing'"),
        (CONFIG.replace("latent.gaussian_shading", "peer.nothing"), "no scheme 'peer.nothing'"),
    ],
)
def test_mistakes_are_one_line(run, text, message):
    result = run(text)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_corpus_may_come_from_the_environment(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WATERMARK_DATA", str(tmp_path / "nowhere"))
    text = (
        CONFIG.replace("corpus = 24\n", "").replace("latent.noise", "image.flip").replace("sigma = 0.5", "strength = 1")
    )
    text = text.split("[[")[0] + '[[schemes]]\nname = "image.spectral"\n'
    result = run(text)
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
