"""The commands, from the outside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import watermark
from watermark import media
from watermark.cli import app
from watermark.cli.common import explain, to_message, to_payload, to_power

if TYPE_CHECKING:
    from click.testing import Result

PHOTOS = Path(__file__).parents[2] / "data"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "studio.key"
    watermark.Key.from_bytes(bytes(range(32))).save(path)
    return path


@pytest.fixture(scope="module")
def marked(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("marked") / "coffee.png"
    assert run("embed", PHOTOS / "coffee.jpg", "-k", key, "-p", "order-42", "-o", path).exit_code == 0
    return path


def test_keygen(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    result = run("keygen", path)
    secret = json.loads(path.read_text())["secret"]
    assert result.exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert watermark.Key.load(path).id in result.output
    assert secret not in result.output

    refused = run("keygen", path)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert json.loads(path.read_text())["secret"] == secret
    assert run("keygen", path, "--force").exit_code == 0
    assert json.loads(path.read_text())["secret"] != secret


def test_detect_prints_verdict_and_message(key: Path, marked: Path) -> None:
    result = run("detect", marked, "-k", key)
    assert result.exit_code == 0
    assert "marked" in result.stdout
    assert "order-42" in result.stdout
    result = run("detect", PHOTOS / "coffee.jpg", "-k", key)
    assert result.exit_code == 1
    assert "no mark" in result.stdout


def test_detect_reports_errors_below_the_table(key: Path, marked: Path) -> None:
    result = run("detect", marked, "none.png", "-k", key)
    assert result.exit_code == 2
    assert "order-42" in result.stdout
    assert "none.png" not in result.stdout
    assert result.stderr == "error: none.png: no such file, or no pictures in it\n"


def test_detect_with_a_ring_of_keys(key: Path, marked: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.key"
    watermark.Key.generate().save(newer)
    assert run("detect", marked, "-k", newer).exit_code == 1
    assert run("detect", marked, "-k", newer, "-k", key).exit_code == 0


def test_detect_writes_json(key: Path, marked: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    result = run("detect", marked, PHOTOS / "coffee.jpg", tmp_path, "none.png", "-k", key, "--json")
    rows = {Path(row["path"]).name: row for row in json.loads(result.stdout)}
    assert result.exit_code == 2
    assert rows["coffee.png"]["detected"]
    assert bytes.fromhex(rows["coffee.png"]["payload"]) == b"order-42"
    assert rows["coffee.png"]["payload_ok"]
    assert not rows["coffee.jpg"]["detected"]
    assert "broken.png" in rows["broken.png"]["error"]
    assert "none.png" in rows["none.png"]["error"]

    result = run("detect", marked, PHOTOS / "coffee.jpg", "-k", key, "--jsonl")
    assert result.exit_code == 0
    assert {json.loads(line)["path"]: json.loads(line)["detected"] for line in result.stdout.splitlines()} == {
        str(marked): True,
        str(PHOTOS / "coffee.jpg"): False,
    }


@pytest.mark.parametrize("options", [["--fpr", "0"], ["--fpr", "1"], ["--fpr", "nan"], ["--json", "--jsonl"]])
def test_detect_refuses_wrong_options(key: Path, marked: Path, options: list[str]) -> None:
    assert run("detect", marked, "-k", key, *options).exit_code == 2


def test_embed_keeps_metadata_and_refuses_to_overwrite(key: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    exif = PIL.Image.Exif()
    exif[0x013B] = "A. Photographer"
    with PIL.Image.open(PHOTOS / "coffee.jpg") as picture:
        picture.save(source, exif=exif, quality=90)
    assert run("embed", source, "-k", key, "-p", "hex:00ff", "-o", target).exit_code == 0
    before, after = media.read(source), media.read(target)
    assert after.getexif()[0x013B] == "A. Photographer"
    assert after.info["jpeg"] == before.info["jpeg"]
    content = target.read_bytes()
    refused = run("embed", source, "-k", key, "-p", "x", "-o", target)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert target.read_bytes() == content
    assert run("embed", source, "-k", key, "-p", "x", "-o", target, "--force").exit_code == 0
    assert target.read_bytes() != content


def test_embed_many_keeps_folders_and_reports_the_bad_file(key: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    shutil.copy(PHOTOS / "coffee.jpg", source / "a.jpg")
    shutil.copy(PHOTOS / "camera.jpg", source / "deep" / "b.jpg")
    (source / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    (source / "notes.txt").write_text("not a picture")

    result = run("embed", source, "missing.jpg", "-k", key, "-p", "order-42", "-o", output)
    assert result.exit_code == 2
    assert "2 files" in result.stdout
    errors = result.stderr.strip().splitlines()
    assert len(errors) == 2
    assert any("bad.png" in line for line in errors)
    assert any("missing.jpg" in line for line in errors)
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*.*")) == ["a.jpg", "deep/b.jpg"]
    assert run("detect", output, "-k", key).exit_code == 0


def test_embed_never_writes_two_inputs_to_one_file(key: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        shutil.copy(PHOTOS / "coffee.jpg", tmp_path / name / "a.jpg")
    sources = tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg"
    result = run("embed", *sources, "-k", key, "-p", "m", "-o", tmp_path / "out", "--force")
    assert result.exit_code == 2
    assert result.stderr.count("another input") == 2
    assert not (tmp_path / "out").exists()


def test_a_file_into_a_folder(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PHOTOS)
    assert run("embed", "./coffee.jpg", "-k", key, "-p", "m", "-o", tmp_path / "b.jpg").exit_code == 0
    assert (tmp_path / "b.jpg").is_file()
    missing = run("embed", "./coffee.jpg", "-k", key, "-p", "m", "-o", tmp_path / "none" / "b.jpg")
    assert missing.exit_code == 2
    assert str(tmp_path / "none:") in missing.stderr
    assert run("embed", PHOTOS / "coffee.jpg", "-k", key, "-p", "m", "-o", tmp_path).exit_code == 0
    assert (tmp_path / "coffee.jpg").exists()


@pytest.mark.parametrize("message", ["hex:0", "hex:xy", "far too long for sixty-four bits"])
def test_messages_that_cannot_be_embedded(key: Path, message: str, tmp_path: Path) -> None:
    result = run("embed", PHOTOS / "coffee.jpg", "-k", key, "-p", message, "-o", tmp_path / "a.png")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_errors_are_one_line_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    secret = "c2VjcmV0" * 5
    path.write_text(json.dumps({"format": "watermark-key", "version": 1, "secret": secret}))
    path.chmod(0o600)
    for arguments in (["detect", "a.png", "-k", path], ["detect", "a.png", "-k", tmp_path / "none.key"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.strip().splitlines()) == 1
        assert secret not in result.output + result.stderr


def test_warnings_are_one_line(key: Path, marked: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared.key"
    shutil.copy(key, shared)
    shared.chmod(0o644)
    result = run("detect", marked, "-k", shared)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert len(result.stderr.strip().splitlines()) == 1


def test_info() -> None:
    facts = json.loads(run("info", "--json").stdout)
    assert facts["watermark"] == watermark.__version__
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["instruction_sets"]
    assert facts["threads"] == watermark.threads()
    assert facts["cuda"]["available"] == (facts["cuda"]["why_not"] == "")
    assert {scheme["name"] for scheme in facts["schemes"]} == {scheme.name for scheme in watermark.schemes()}
    text = run("info").stdout
    assert "CUDA" in text
    assert "image.spectral" in text


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["image", "-p", "again"]):
        result = run("demo", *arguments)
        assert result.exit_code == 0
        assert "wrong key" in result.stdout
        assert "watermark-demo.png" in result.stdout
    assert media.read("watermark-demo.png").width > 1000
    shutil.copy("watermark-demo.png", "mine.png")
    assert run("demo", "-o", "mine.png").exit_code == 2
    assert run("demo", "--photo", PHOTOS / "camera.jpg", "-o", "mine.png", "--force").exit_code == 0
    assert "too small" in run("demo", "--photo", PHOTOS / "chelsea.png").stderr
    refused = run("demo", "generate")
    assert refused.exit_code == 2
    assert "image" in refused.stderr


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        ("order-42", b"order-42"),
        ("hex:00ff", b"\0\xff"),
        ("", b""),
        ("grüße", "grüße".encode()),
        ("hex:6865783a", b"hex:"),
    ],
)
def test_messages_round_trip(message: str, payload: bytes) -> None:
    assert to_payload(message) == payload
    assert to_message(payload) == message


def test_small_probabilities_are_powers() -> None:
    assert [to_power(value) for value in (0.0, -0.4, -38.21, -400)] == ["1", "0.4", "10^-38.2", "10^-400.0"]


def test_errors_name_the_file_once() -> None:
    assert explain(FileNotFoundError(2, "No such file", "a.png"), Path("a.png")) == "a.png: No such file"
    assert explain(OSError(28, "No space left"), Path("a.png")) == "a.png: No space left"
    assert explain(watermark.MediaError("a.png: damaged"), Path("a.png")) == "a.png: damaged"
    assert explain(watermark.MediaError("damaged"), Path("a.png")) == "a.png: damaged"
    assert explain(watermark.MediaError("damaged")) == "damaged"


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    script = """
import sys
sys.argv = ["watermark", "--help"]
try:
    from watermark.cli import main
    main()
finally:
    heavy = {"PIL", "torch", "rich.console", "rich.progress", "watermark.media"} & set(sys.modules)
    assert not heavy, heavy
"""
    command = [sys.executable, "-c", script]
    assert "detect" in subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout


def test_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "watermark", "--help"]
    help_text = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert help_text.startswith("Usage: watermark")


def test_profile_replaces_scheme_and_payload_bits(tmp_path: Path, key: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(watermark.load("image.spectral", watermark.Key.load(key), payload_bits=32).profile())
    marked = tmp_path / "marked.png"
    arguments = ["-k", str(key), "--profile", str(profile)]
    assert run("embed", PHOTOS / "coffee.jpg", *arguments, "-p", "abcd", "-o", str(marked)).exit_code == 0
    assert "abcd" in run("detect", str(marked), *arguments).stdout
    profile.write_text("no profile")
    assert run("detect", str(marked), *arguments).exit_code == 2


def test_a_scheme_for_latents_is_refused(key: Path) -> None:
    result = run("detect", PHOTOS / "coffee.jpg", "-k", str(key), "--scheme", "latent.gaussian_shading")
    assert result.exit_code == 2
    assert "not pictures" in result.stderr


def test_a_defect_does_not_read_as_unmarked(monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("watermark.image.spectral.SpectralMark.detect", fail)
    result = run("detect", PHOTOS / "coffee.jpg", "-k", str(key))
    assert result.exit_code == 2
    assert "boom" in result.stderr


def test_demo_of_a_deep_grey_photo_is_not_clipped(tmp_path: Path) -> None:
    grey = np.asarray(PIL.Image.open(PHOTOS / "coffee.jpg").convert("L")).astype(np.uint16) * 257
    PIL.Image.fromarray(grey).save(tmp_path / "deep.png")
    sheet = tmp_path / "sheet.png"
    assert run("demo", "--photo", tmp_path / "deep.png", "-o", sheet).exit_code == 0
    shown = np.asarray(PIL.Image.open(sheet).convert("L"))
    assert (shown[: shown.shape[0] // 2] < 100).mean() > 0.1  # the dark cup is there, not a white card
