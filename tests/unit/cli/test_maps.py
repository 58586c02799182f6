"""``watermark detect --maps``: where it writes, and what the pictures show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import watermark
from watermark import media
from watermark.cli import app, heatmap

PHOTOS = Path(__file__).parents[2] / "data"
KEY = watermark.Key.from_bytes(bytes(range(32)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, a marked photo with a foreign right half, and an unmarked photo."""
    root = tmp_path_factory.mktemp("maps")
    KEY.save(root / "studio.key")
    (root / "in" / "deep").mkdir(parents=True)
    marked = watermark.load("image.spectral", KEY).embed(media.read(PHOTOS / "astronaut.webp"), b"order-42")
    marked.paste(media.read(PHOTOS / "camera.jpg").convert("RGB").crop((256, 0, 512, 512)), (256, 0))
    marked.save(root / "in" / "deep" / "pasted.png")
    shutil.copy(PHOTOS / "coffee.jpg", root / "in")
    return root


def detect(folder: Path, *arguments: object) -> tuple[int, str, str]:
    command = ["detect", *map(str, arguments), "-k", str(folder / "studio.key")]
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def redness(picture: PIL.Image.Image) -> np.ndarray:
    """How far red lies above green, per pixel."""
    pixels = np.asarray(picture.convert("RGB"), np.float64)
    return np.asarray(pixels[..., 0] - pixels[..., 1])


def test_maps_are_written_for_marked_pictures_only(folder: Path, tmp_path: Path) -> None:
    code, output, errors = detect(folder, folder / "in", "--maps", tmp_path / "maps")
    assert code == 0
    assert "Wrote 1 map in" in output
    assert not errors
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")]
    assert written == ["maps/deep/pasted.png.presence.png"]
    picture = media.read(tmp_path / written[0])
    assert picture.mode == "RGB"
    assert 512 < picture.width < 1200


def test_json_names_the_maps(folder: Path, tmp_path: Path) -> None:
    code, output, _ = detect(folder, folder / "in", "--maps", tmp_path, "--jsonl")
    rows = {Path(row["path"]).name: row for row in map(json.loads, output.splitlines())}
    assert code == 0
    assert rows["pasted.png"]["map"] == str(tmp_path / "deep" / "pasted.png.presence.png")
    assert rows["coffee.jpg"]["map"] is None
    assert "map" not in json.loads(detect(folder, folder / "in", "--json")[1])[0]


def test_maps_overwrite_nothing(folder: Path, tmp_path: Path) -> None:
    photo = folder / "in" / "deep" / "pasted.png"
    target = tmp_path / "pasted.png.presence.png"
    target.write_text("mine")
    code, _, errors = detect(folder, photo, "--maps", tmp_path)
    assert code == 2
    assert "--force" in errors
    assert target.read_text() == "mine"
    assert detect(folder, photo, "--maps", tmp_path, "--force")[0] == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_two_inputs_never_share_a_map(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pasted.png").write_bytes((folder / "in" / "deep" / "pasted.png").read_bytes())
    photos = folder / "in" / "deep" / "pasted.png", tmp_path / "pasted.png"
    code, _, errors = detect(folder, *photos, "--maps", tmp_path / "maps", "--force")
    assert code == 2
    assert errors.count("another input") == 2
    assert not (tmp_path / "maps").exists()


def test_a_mark_without_a_map_is_said_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = watermark.Detection("image.spectral", KEY.id, -7.0, 1.0, 1, None, False, {})
    monkeypatch.setattr("watermark.image.spectral.SpectralMark.detect", lambda *_: found)
    code, output, errors = detect(folder, PHOTOS / "coffee.jpg", "--maps", tmp_path / "maps")
    assert code == 0
    assert "marked" in output
    assert "no map" in errors
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_overlay_is_clear_where_marked_and_red_elsewhere(mode: str) -> None:
    level = {"L": 128, "RGB": (128, 128, 128), "RGBA": (128, 128, 128, 255), "I;16": 128 << 8}[mode]
    grey = PIL.Image.new(mode, (400, 200), level)
    presence = np.repeat(np.array([[9.0, 0.0]], np.float32), 25, axis=1).repeat(25, axis=0)
    drawn = heatmap.overlay(grey, presence, 8.0)
    assert drawn.size == grey.size
    assert (np.asarray(drawn)[:, :190] == 128).all()
    assert redness(drawn)[:, 210:].min() > 60


def test_overlay_follows_the_cells_of_a_reduced_picture() -> None:
    """Cells of 24.3 pixels, the last of which reach past the border, under a picture that is drawn at half its size."""
    presence = np.full((42, 83), 9, np.float32)
    presence[:, 40:43] = 0
    drawn = heatmap.overlay(PIL.Image.new("RGB", (2000, 1000), (90, 90, 90)), presence, 24.3)
    assert drawn.size == (1024, 512)
    column = redness(drawn).mean(axis=0)
    expected = 41.5 * 24.3 * 1024 / 2000
    assert column[0] == column[-1] == 0
    assert abs(np.average(np.arange(1024) + 0.5, weights=column) - expected) < 1


def test_the_pasted_half_shows(folder: Path) -> None:
    picture = media.read(folder / "in" / "deep" / "pasted.png")
    found = watermark.load("image.spectral", KEY).detect(picture)
    drawn = heatmap.overlay(picture, found.details["presence"], found.details["presence_cell"])
    change = np.abs(np.asarray(drawn, float) - np.asarray(picture, float)).mean(axis=2)
    assert np.median(change[:, 300:]) > 30
    assert np.median(change[:, :212]) < 3


@pytest.mark.parametrize("size", [(64, 64), (3000, 70), (40, 900)])
def test_any_shape_can_be_drawn(size: tuple[int, int]) -> None:
    presence = np.zeros((-(-size[1] // 8), -(-size[0] // 8)), np.float32)
    details = {"presence": presence, "presence_cell": 8.0}
    found = watermark.Detection("image.spectral", KEY.id, -9.0, 1.0, 1, b"x" * 300, True, details)
    drawn = heatmap.draw("a name that is far too long " * 9, PIL.Image.new("RGB", size), found)
    assert drawn.mode == "RGB"
    assert max(drawn.size) <= 1024 + 200
