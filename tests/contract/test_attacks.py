"""What every registered attack promises."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from watermark import attacks
from watermark.attacks import Given
from watermark.attacks.latents import LatentAttack
from watermark.attacks.texts import WordAttack
from watermark.errors import MediaError, ParameterError

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ALL = pytest.mark.parametrize("name", attacks.TABLE)
SIZES = [(16, 16), (17, 16), (16, 131), (67, 45)]

# Attacks of images that keep the size, and whose squared error grows with the strength.
WITH_ERROR = [
    "jpeg", "webp", "avif", "jpeg2000", "double_jpeg", "resize", "warp", "blur", "median", "sharpen",
    "gaussian_noise", "salt_and_pepper", "speckle", "total_variation", "brightness", "darken", "contrast",
    "saturation", "hue", "gamma", "posterise", "erase", "cutout", "overlay_text", "overlay_logo", "subtract_average",
    "add_average",
]  # fmt: skip
# Attacks that leave fewer pixels, the harsher the fewer.
WITH_LOSS = ["rescale", "stretch", "crop", "centre_crop"]


def reverse(text):
    return text[::-1]


def build(name, strength=0.5):
    model = {"model": reverse} if name in ("text.translate", "text.paraphrase") else {}
    return attacks.load(name, strength=strength, **model)


def photo(height=67, width=45, channels=3, seed=0):
    """Smooth colours with some texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [90 * np.sin(0.07 * (n + 1) * x + n) * np.cos(0.05 * y + n) for n in range(channels)]
    return np.clip(np.stack(waves, -1) + 128 + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8)


TEXT = "The cat sat on the mat. It was warm there! Why would it move? 猫は動かない。\n" * 6
IDS = np.arange(200, 320, dtype=np.int64)


def media(name):
    """Examples that an attack takes."""
    modality = name.partition(".")[0]
    if modality == "image":
        return [photo(*size) for size in SIZES] + [photo(channels=1), photo(channels=1)[:, :, 0]]
    if modality == "latent":
        rng = np.random.default_rng(1)
        return [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 64, 64), (3, 5), (1, 1), (2, 4, 7, 9))]
    return [TEXT, "", " \n", "word", *([IDS, IDS[:0]] if issubclass(attacks.TABLE[name], WordAttack) else [])]


def given(item):
    if isinstance(item, str):
        return Given(clean=["Some other words entirely, from a person's own hand.", "And more of them."])
    if item.ndim == 1:
        return Given(clean=[np.arange(50)])
    marked = [photo(70, 40, item.shape[2] if item.ndim == 3 else 1, seed) for seed in (1, 2)]
    return Given(marked=marked, clean=[photo(seed=3)])


def ready(name):
    if name == "text.synonyms":
        wordnet = pytest.importorskip("nltk.corpus").wordnet
        try:
            wordnet.synsets("cat")
        except LookupError:
            pytest.skip("no WordNet corpus")


def same(a, b):
    return a == b if isinstance(a, str) else a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all())


@ALL
def test_equal_seeds_give_equal_results_and_leave_the_media_alone(name):
    ready(name)
    for item in media(name):
        before = item if isinstance(item, str) else item.copy()
        first = build(name)(item, 5, given(item))
        assert same(first, build(name)(item, np.random.default_rng(5), given(item)))
        assert same(first, pickle.loads(pickle.dumps(build(name)))(item, 5, given(item)))  # noqa: S301
        assert same(item, before)


@ALL
@pytest.mark.parametrize("strength", STRENGTHS)
def test_results_have_the_type_of_the_media(name, strength):
    ready(name)
    for item in media(name):
        result = build(name, strength)(item, 1, given(item))
        assert type(result) is type(item)
        if isinstance(item, str):
            continue
        assert result.dtype == item.dtype
        assert result.ndim == item.ndim
        if name.startswith("latent"):
            assert result.shape == item.shape
            assert np.isfinite(result).all()
        elif name.startswith("image"):
            assert result.shape[2:] == item.shape[2:]
            assert min(result.shape[:2]) >= 1


@ALL
def test_the_type_says_what_it_is(name):
    cls = attacks.TABLE[name]
    assert cls.name == name
    assert cls.__doc__
    assert cls.__doc__.split("\n")[0].endswith((".", ":"))
    assert cls.needs <= {"model", "references", "oracle", "gpu"}
    assert cls.knowledge in ("blind", "references", "surrogate", "scheme", "key")
    assert cls.goal in ("removal", "forgery")
    attack = build(name, 0.25)
    assert attack == build(name, 0.25)
    assert attack != build(name, 0.5)
    assert hash(attack) == hash(build(name, 0.25))
    with pytest.raises(FrozenInstanceError):
        attack.strength = 1.0
    for parameter, value in attack.parameters.items():
        span = cls.spans()[parameter]
        assert min(span.mild, span.harsh) <= value <= max(span.mild, span.harsh)
        assert (build(name, 0.0).parameters[parameter], build(name, 1.0).parameters[parameter]) == pytest.approx(
            (span.mild, span.harsh)
        )
        if "model" not in cls.needs:
            assert attacks.load(name, **{parameter: value}).parameters[parameter] == pytest.approx(value)


@ALL
@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), "1", None, True])
def test_strengths_are_checked(name, strength):
    with pytest.raises(ParameterError, match="strength"):
        build(name, strength)


@ALL
@pytest.mark.parametrize("rng", [-1, 1.5, None, "seed", True])
def test_seeds_are_checked(name, rng):
    with pytest.raises(ParameterError, match="rng"):
        build(name)(media(name)[0], rng, given(media(name)[0]))


@ALL
def test_foreign_media_are_refused(name):
    wrong = [None, 3, b"bytes", ["list"], np.zeros((2, 2), complex), np.zeros(4), np.zeros((0, 0)), {}]
    wrong += [np.full((32, 32), np.nan)] if not name.startswith("text") else []
    if name.startswith("image"):
        wrong += [photo(15, 16), photo(channels=4), photo().astype(np.uint16), photo() / 255, TEXT]
    for item in wrong:
        with pytest.raises(MediaError):
            build(name)(item, 1, Given(marked=[photo()], clean=["words"]))


@ALL
def test_missing_references_are_named(name):
    if "references" in attacks.TABLE[name].needs:
        with pytest.raises(ParameterError, match=r"marked|clean"):
            build(name)(media(name)[0], 1)


@pytest.mark.parametrize("name", WITH_ERROR)
def test_images_suffer_more_from_more_strength(name):
    picture = photo(192, 160)
    given = Given(marked=[photo(192, 160, seed=1)], clean=[photo(192, 160, seed=2)])
    attacked = [build(f"image.{name}", strength)(picture, 3, given).astype(float) for strength in STRENGTHS]
    errors = [((result - picture) ** 2).mean() for result in attacked]
    assert errors == sorted(errors)
    assert errors[-1] > errors[0]


@pytest.mark.parametrize("name", WITH_LOSS)
def test_images_lose_more_from_more_strength(name):
    sizes = [build(f"image.{name}", strength)(photo(192, 160), 3).size for strength in STRENGTHS]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == photo(192, 160).size
    assert sizes[-1] < sizes[0]


@pytest.mark.parametrize("name", [name for name in attacks.TABLE if issubclass(attacks.TABLE[name], LatentAttack)])
def test_latents_keep_their_distribution_and_lose_their_content(name):
    z = np.random.default_rng(1).standard_normal((16, 64, 64)).astype(np.float32)
    attacked = [build(name, strength)(z, 3) for strength in STRENGTHS]
    agreement = [float((result * z).mean()) for result in attacked]
    assert same(attacked[0], z)
    assert agreement == sorted(agreement, reverse=True)
    assert agreement[-1] < 0.4
    for result in attacked:
        # 65,536 samples, of noise correlated over two samples as good as some 1,000
        assert result.mean() == pytest.approx(0, abs=0.1)
        assert result.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", attacks.SUITES)
def test_suites_run(name):
    item = {"image": photo(64, 48), "text": TEXT, "token": IDS, "latent": np.zeros((4, 8, 8), np.float32)}
    item = item[name.partition(".")[0]]
    found = attacks.suite(name)
    assert len(set(found)) == len(found) > 0
    for attack in found:
        assert attack.goal == "removal"
        assert type(attack(item, 1, given(item))) is type(item)
