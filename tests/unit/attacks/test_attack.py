"""Names, strengths and native parameters."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import watermark
from watermark import attacks
from watermark.attacks.attack import Span, WholeSpan
from watermark.attacks.images import Everything, Jpeg
from watermark.errors import MediaError, ParameterError


def test_strength_is_read_linearly_or_by_factors():
    assert [Span(0, 45).value(s) for s in (0, 0.5, 1)] == [0, 22.5, 45]
    assert [Span(1, 100, log=True).value(s) for s in (0, 0.5, 1)] == pytest.approx([1, 10, 100])
    assert [WholeSpan(90, 10).value(s) for s in (0, 0.5, 1)] == [90, 50, 10]
    assert Span(1, 100, log=True).strength(10) == pytest.approx(0.5)
    assert Span(1, 0.1).value(1.0) == 0.1


def test_native_parameters_set_the_strength():
    assert Jpeg.at(quality=50) == Jpeg(0.5)
    assert attacks.load("image.jpeg", quality=30) == attacks.load("image.jpeg", strength=0.75)
    assert repr(Jpeg(0.5)) == "Jpeg(strength=0.5, quality=50)"
    assert Everything(1.0).parameters["rotate.degrees"] == 45


@pytest.mark.parametrize(
    "arguments",
    [{"quality": 91}, {"quality": 9}, {"quality": "50"}, {"quality": float("nan")}, {"quality": True}, {"radius": 1},
     {"quality": 50, "strength": 0.5}],
)  # fmt: skip
def test_native_parameters_are_checked(arguments):
    with pytest.raises(ParameterError, match="jpeg"):
        attacks.load("image.jpeg", **arguments)


def test_unknown_names_list_the_known():
    with pytest.raises(ParameterError, match=r"image\.jpeg"):
        attacks.load("image.nonsense")
    with pytest.raises(ParameterError, match=r"image\.standard"):
        attacks.suite("nonsense")
    with pytest.raises(ParameterError, match="takes no native parameter"):
        attacks.TABLE["image.flip"].at(degrees=3)


def test_the_standard_suite_has_twenty_attacks():
    assert len(attacks.suite("image.standard")) == 20
    assert {type(attack) for attack in attacks.suite("image.full")} == {
        cls for name, cls in attacks.TABLE.items() if name.startswith("image") and cls.goal == "removal"
    }


def test_what_is_given_stays_secret():
    given = attacks.Given(marked=["secret"], clean=["a", "b"], detect=print, models={"vae": "secret"})
    assert repr(given) == "Given(marked: 1, clean: 2, detect: yes, models: ['vae'])"
    assert pickle.loads(pickle.dumps(given)).models == {"vae": "secret"}  # noqa: S301


def test_a_mark_is_attacked_and_detected(key):
    scheme = watermark.load("image.spectral", key, payload_bits=64)
    rng = np.random.default_rng(3)
    smooth = np.kron(rng.integers(60, 196, (16, 16, 3)), np.ones((32, 32, 1)))
    picture = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    attacked = attacks.load("image.jpeg", quality=50)(scheme.embed(picture, b"order-42"), rng=1)
    assert scheme.detect(attacked).detected(fpr=1e-6)


def test_a_missing_codec_is_named(monkeypatch):
    monkeypatch.setattr("watermark.attacks.images.is_supported", lambda feature: feature != "avif")
    picture = np.zeros((16, 16, 3), np.uint8)
    attacks.load("image.webp")(picture, 1)
    with pytest.raises(MediaError, match="AVIF"):
        attacks.load("image.avif")(picture, 1)


def test_near_misses_are_named():
    with pytest.raises(ParameterError, match=r"did you mean image\.jpeg"):
        attacks.load("image.jpg")
    with pytest.raises(ParameterError, match="has no parameter 'q': it takes strength, quality"):
        attacks.load("image.jpeg", q=50)
    with pytest.raises(ParameterError, match="takes one of quality alone, not quality and strength"):
        attacks.load("image.jpeg", quality=50, strength=1)
    with pytest.raises(ParameterError, match="from 10 to 90"):
        attacks.load("image.jpeg", quality=95)
