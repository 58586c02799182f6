"""Evaluations as files."""

from __future__ import annotations

import pytest

import watermark
from watermark import ParameterError, attacks
from watermark.evaluation.config import read

GOOD = """
corpus = "photos"
out = "runs/1"
seed = 3
size = 512
metrics = ["psnr"]
attacks = ["image.standard", "image.flip", { name = "image.jpeg", quality = 30 }, { name = "image.crop", strength = 1 }]

[[schemes]]
name = "image.spectral"
key = "studio.key"
payload_bits = 32

[[schemes]]
name = "image.spectral"
"""


@pytest.fixture
def write(tmp_path, key):
    key.save(tmp_path / "studio.key")

    def to(text):
        (tmp_path / "evaluation.toml").write_text(text, encoding="utf-8")
        return tmp_path / "evaluation.toml"

    return to


def test_a_file_gives_the_arguments(write, tmp_path, key):
    found = read(write(GOOD.replace('"image.standard", ', "")))
    assert found["attacks"] == [
        attacks.load("image.flip"), attacks.load("image.jpeg", quality=30), attacks.load("image.crop", strength=1)
    ]  # fmt: skip
    assert (found["corpus"], found["out"]) == (tmp_path / "photos", tmp_path / "runs/1")
    assert (found["seed"], found["size"], found["metrics"]) == (3, 512, ["psnr"])
    first, second = found["schemes"]
    assert first.key == key
    assert first.parameters.payload_bits == 32
    assert second.key != key
    assert second.key == read(write(GOOD))["schemes"][1].key, "a made-up key is the same every time"


def test_suites_are_taken_whole(write):
    assert read(write(GOOD))["attacks"][:20] == list(attacks.suite("image.standard"))


def test_other_loaders_get_what_the_table_says(write):
    asked = []
    read(write(GOOD), lambda *a, **k: asked.append((a[0], k)))
    assert asked == [("image.spectral", {"payload_bits": 32}), ("image.spectral", {})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus = ", "no TOML"),
        ("corpse = 1\n" + GOOD, "no entry 'corpse'"),
        ("models = 1\n" + GOOD, "no entry 'models'"),
        ('attacks = ["image.flip"]', "misses the entry 'schemes'"),
        ("[[schemes]]\nname = 'image.spectral'", "misses the entry 'attacks'"),
        ("attacks = 'image.flip'\nschemes = []", "attacks is a list"),
        ("attacks = [3]\nschemes = []", "name of a suite"),
        ("attacks = ['image.nothing']\nschemes = []", "no attack 'image.nothing'"),
        ("attacks = []\nschemes = ['image.spectral']", "are tables"),
        ("attacks = []\n[[schemes]]\nkey = 'studio.key'", "needs a name"),
        ("attacks = []\n[[schemes]]\nname = 'image.spectral'\nkey = 3", "path of a key file"),
        ("attacks = []\n[[schemes]]\nname = 'image.spectral'\nbits = 3", "no parameter 'bits'"),
        ("x = 1\n" * 300_000, "misses the entry"),
    ],
)
def test_mistakes_are_named(write, text, message):
    with pytest.raises(ParameterError, match=message):
        read(write(text))


def test_the_secret_is_not_in_what_is_shown(write, key):
    assert key.to_bytes().hex() not in repr(read(write(GOOD)))


def test_a_made_up_key_is_for_one_scheme(write):
    schemes = "".join(f"[[schemes]]\nname = '{name}'\n" for name in ("latent.tree_ring", "latent.gaussian_shading"))
    first, second = read(write("attacks = []\n" + schemes))["schemes"]
    assert first.key != second.key
    assert isinstance(first.key, watermark.Key)
