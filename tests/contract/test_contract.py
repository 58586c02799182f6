"""What every registered scheme must do. A new modality needs a row in `MODALITIES`, a new scheme nothing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

import watermark
from watermark import Detection, Detections, Key, Keyring, MediaError, ParameterError, PayloadError
from watermark.payload import Frame
from watermark.reference import SyntheticLanguage
from watermark.stats import LN10, log_sidak

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[1] / "data"
LATENT = (4, 64, 64)


@dataclass(frozen=True)
class Modality:
    """How the contract makes media of a kind.

    Attributes:
        clean: Item of this number, without a mark.
        mark: Item of this number with a message.
        bad: What is no such medium.
        null_keys: Fresh keys of the null test, each on every one of `null_items`.
        parameters: What the scheme is loaded with.
        about: What marking and detecting take beside the media.
    """

    clean: Callable[[int], Any]
    mark: Callable[[Any, bytes | None, int], Any]
    bad: list[Any]
    null_keys: int
    null_items: int
    parameters: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def clean_latent(number: int) -> np.ndarray:
    """Normal noise; every fourth one is hostile instead: constant, periodic, or heavy-tailed."""
    rng = np.random.default_rng([1, number])
    kinds = {
        3: lambda: np.ones(LATENT),
        7: lambda: np.indices(LATENT).sum(axis=0) % 7 - 3.0,
        11: lambda: rng.standard_cauchy(LATENT),
    }
    return np.asarray(kinds.get(number % 12, lambda: rng.standard_normal(LATENT))(), np.float32)


@cache
def clean_picture(number: int) -> np.ndarray:
    """A photo of tests/data for the first numbers, then coloured 1/f noise: read-only uint8, about 384 pixels wide."""
    files = sorted(p for p in DATA.iterdir() if p.suffix in (".jpg", ".png", ".webp"))
    if number < len(files):
        with PIL.Image.open(files[number]) as file:
            picture = np.array(file.convert("RGB"))[:384, :400]
    else:
        rng = np.random.default_rng([2, number])
        height, width = 352, 384
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
        frequency[0, 0] = np.inf
        octaves = np.fft.rfft2(rng.standard_normal((3, height, width))) / frequency
        surface = np.fft.irfft2(octaves, (height, width)).transpose(1, 2, 0)
        picture = np.clip(128 + 45 * surface / surface.std(), 0, 255).astype(np.uint8)
    picture = np.ascontiguousarray(picture)
    picture.setflags(write=False)
    return picture


LANGUAGE = SyntheticLanguage(512, 4.0)


def clean_tokens(number: int) -> np.ndarray:
    """A text of the synthetic language; every other one is hostile: uniform, periodic, constant, or in order."""
    rng = np.random.default_rng([3, number])
    kinds = {
        1: lambda: rng.integers(0, 512, 150),
        3: lambda: np.tile(rng.integers(0, 512, 7), 30),
        5: lambda: np.full(200, number),
        7: lambda: np.arange(200),
    }
    return np.asarray(kinds.get(number % 8, lambda: LANGUAGE.write(1, 120, seed=number)[0])(), np.int64)


MODALITIES = {
    "tokens": Modality(
        clean=cache(clean_tokens),
        mark=lambda scheme, payload, number: LANGUAGE.write(1, 200, scheme, [payload], seed=number)[0],
        bad=[
            None,
            "a text",
            b"tokens",
            {1: 2},
            [-1, 2, 3],
            [1, 512],
            [1.5, 2.0],
            [True, False],
            [[1, 2], [3]],
            np.zeros((2, 3), np.int64),
            np.full(5, np.nan),
        ],
        null_keys=400,
        null_items=12,
        parameters={"vocab_size": 512},
    ),
    "latent": Modality(
        clean=clean_latent,
        mark=lambda scheme, payload, number: scheme.sample(payload, rng=number),
        bad=[
            None,
            "latent",
            np.zeros((4, 64, 63), np.float32),
            np.zeros(LATENT, np.int64),
            np.full(LATENT, np.nan, np.float32),
            np.full(LATENT, np.inf),
        ],
        null_keys=1500,
        null_items=12,
    ),
    "image": Modality(
        clean=clean_picture,
        mark=lambda scheme, payload, number: scheme.embed(clean_picture(number), payload),
        bad=[
            None,
            "picture.png",
            b"\x89PNG",
            np.full((256, 256, 3), 255, np.float32),
            np.zeros((256, 256, 3), np.int32),
            np.zeros((256, 256, 5), np.uint8),
            np.zeros((256,), np.uint8),
            np.zeros((0, 256, 3), np.uint8),
            np.zeros((8, 8, 3), np.uint8),
        ],
        null_keys=16,
        null_items=8,
    ),
}
CONTENT = np.random.default_rng(3).standard_normal(32)
OWN_ROWS = {  # schemes whose keys take time to expand, that draw random keys, or that take more than media
    "llm.exp": replace(MODALITIES["tokens"], null_keys=40),
    "llm.its": replace(MODALITIES["tokens"], null_keys=40),
    "latent.prc": replace(MODALITIES["latent"], null_keys=60),
    "llm.prc": replace(
        MODALITIES["tokens"],
        mark=lambda scheme, payload, number: LANGUAGE.write(1, 400, scheme, [payload], seed=number)[0],
        null_keys=60,
    ),
    "latent.ring_id": replace(MODALITIES["latent"], null_keys=300),
    "latent.seal": replace(
        MODALITIES["latent"],
        mark=lambda scheme, payload, number: scheme.sample(payload, rng=number, content=CONTENT),
        null_keys=60,
        parameters={"dimension": 32},
        about={"content": CONTENT},
    ),
}
INFO = {info.name: info for info in watermark.schemes()}


@pytest.fixture(params=INFO)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def modality(name: str) -> Modality:
    return OWN_ROWS.get(name) or MODALITIES[INFO[name].modality]


@pytest.fixture
def scheme(name: str, modality: Modality, key: Key) -> Any:
    return watermark.load(name, key, **modality.parameters)


@pytest.fixture
def message(scheme: Any) -> bytes | None:
    return messages(scheme)[-1]


@pytest.fixture
def marked(modality: Modality, scheme: Any, message: bytes | None) -> Any:
    return modality.mark(scheme, message, 0)


def messages(scheme: Any) -> list[bytes | None]:
    """What the scheme carries: text, an index, or nothing but its presence."""
    frame = frame_of(scheme)
    if frame.framed:
        return [None, b"", b"\x00", b"\xff", bytes(8), b"order-42"]
    return [None, b"", ((1 << frame.payload_bits) - 1).to_bytes(frame.max_bytes)]


def read_back(scheme: Any, payload: bytes | None) -> bytes | None:
    """What a detector makes of a message: an index comes back with all its bytes."""
    frame = frame_of(scheme)
    return frame.decode(np.packbits(frame.encode(payload)).tobytes())


def frame_of(scheme: Any) -> Frame:
    return Frame(getattr(scheme.parameters, "payload_bits", 0))


def binomial_limit(trials: int, rate: float) -> int:
    """The 99.9 % quantile of Bin(trials, rate)."""
    total, count, log_ratio = 0.0, -1, math.log(rate) - math.log1p(-rate)
    while total < 0.999:
        count += 1
        ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        total += math.exp(ways + count * log_ratio + trials * math.log1p(-rate))
    return count


def digest(media: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(media)).hexdigest()


def test_every_modality_has_a_row():
    assert {info.modality for info in watermark.schemes()} <= set(MODALITIES)


def test_clean_media_look_clean_under_fresh_keys(name, modality, keys):
    """Test (A) of DESIGN: a fresh key per item; at most the upper 99.9 % limit at each level."""
    media = [modality.clean(number) for number in range(modality.null_items)]
    p = np.array(
        [
            watermark.load(name, keys(row * len(media) + column), **modality.parameters)
            .detect(item, **modality.about)
            .p_value
            for row in range(modality.null_keys)
            for column, item in enumerate(media)
        ]
    )
    assert ((p >= 0) & (p <= 1)).all()
    for alpha in (0.1, 0.01, 0.001):
        assert (p <= alpha).sum() <= binomial_limit(p.size, alpha), f"at {alpha}"


def test_the_message_comes_back(modality, scheme):
    for payload in messages(scheme):
        found = scheme.detect(modality.mark(scheme, payload, 1), **modality.about)
        assert isinstance(found, Detection)
        assert found.detected(1e-6)
        assert (found.payload, found.payload_ok) == (read_back(scheme, payload), True)
        assert (found.scheme, found.key_id) == (scheme.name, scheme.key.id)
        assert found.n > 0


def test_more_evidence_gives_a_higher_score(modality, scheme, marked):
    clean, found = scheme.detect(modality.clean(0), **modality.about), scheme.detect(marked, **modality.about)
    assert found.score > clean.score
    assert found.log10_p < clean.log10_p <= 0
    assert math.isfinite(found.log10_p)


def test_a_wrong_key_sees_nothing(name, modality, marked, keys):
    for number in range(10):
        found = watermark.load(name, keys(number), **modality.parameters).detect(marked, **modality.about)
        assert not found.detected(1e-3)
        assert not found.payload_ok


def test_every_key_of_a_ring_detects_and_p_pays(name, modality, keys, scheme, marked, message):
    ring = Keyring([keys(1), scheme.key, keys(2)])
    rotated = watermark.load(name, ring, **modality.parameters)
    found, alone = rotated.detect(marked, **modality.about), scheme.detect(marked, **modality.about)
    assert (found.key_id, found.payload, found.payload_ok) == (scheme.key.id, message, True)
    assert found.log10_p == pytest.approx(log_sidak(alone.log10_p * LN10, 3) / LN10)
    assert rotated.key == keys(1)
    first = watermark.load(name, keys(1), **modality.parameters)
    assert digest(modality.mark(rotated, message, 2)) == digest(modality.mark(first, message, 2))
    assert rotated.detect_batch([marked], **modality.about)[0] == found


def test_marking_and_detecting_are_deterministic(name, modality, key, scheme, marked, message):
    again = watermark.load(name, key, **modality.parameters)
    assert digest(modality.mark(again, message, 0)) == digest(marked)
    assert (
        again.detect(marked, **modality.about)
        == scheme.detect(marked, **modality.about)
        == scheme.detect(marked, **modality.about)
    )


def test_other_processes_agree(name, modality, scheme, marked, message, tmp_path):
    """No set order, hash seed or address may enter a mark."""
    np.save(tmp_path / "clean.npy", modality.clean(0))
    np.save(tmp_path / "marked.npy", marked)
    about = {name: value.tolist() for name, value in modality.about.items()}
    code = f"""
import hashlib, sys
import numpy as np
import watermark
scheme = watermark.load({name!r}, watermark.Key.from_bytes(bytes(range(32))), **{modality.parameters!r})
clean, about = np.load("clean.npy"), {{name: np.array(value) for name, value in {about!r}.items()}}
if hasattr(scheme, "embed"):
    mark = scheme.embed(clean, {message!r})
elif hasattr(scheme, "sample"):
    mark = scheme.sample({message!r}, rng=0, **about)
else:
    mark = watermark.reference.SyntheticLanguage(512, 4.0).write(1, {len(marked)}, scheme, [{message!r}], seed=0)[0]
found = scheme.detect(np.load("marked.npy"), **about)
print(hashlib.sha256(np.ascontiguousarray(mark)).hexdigest(), repr(found.log10_p))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == f"{digest(marked)} {scheme.detect(marked, **modality.about).log10_p!r}"


def test_any_number_of_threads_gives_the_same(modality, scheme, marked, message, set_threads):
    found = set()
    for count in (1, 2, 3):
        set_threads(count)
        detection = scheme.detect(marked, **modality.about)
        found.add((digest(modality.mark(scheme, message, 0)), detection.log10_p, detection.score))
    assert len(found) == 1


def test_pickling(scheme, marked, modality):
    scheme.detect(marked, **modality.about)  # with its caches filled
    copy = pickle.loads(pickle.dumps(scheme))  # noqa: S301 (our own bytes)
    assert type(copy) is type(scheme)
    assert copy.parameters == scheme.parameters
    assert copy.detect(marked, **modality.about) == scheme.detect(marked, **modality.about)


def test_a_batch_is_a_loop(modality, scheme, marked, message):
    items = [marked, modality.clean(0), modality.mark(scheme, None, 3)]
    found = scheme.detect_batch(items, **modality.about)
    assert isinstance(found, Detections)
    assert list(found) == [scheme.detect(item, **modality.about) for item in items]
    assert list(scheme.detect_batch(iter(items), **modality.about)) == list(found)
    assert len(scheme.detect_batch([], **modality.about)) == 0
    if hasattr(scheme, "embed"):
        clean = [modality.clean(0), modality.clean(7)]
        for payloads in (message, [message, None]):
            each = payloads if isinstance(payloads, list) else [message, message]
            together = scheme.embed_batch(clean, payloads)
            assert list(map(digest, together)) == [digest(scheme.embed(c, p)) for c, p in zip(clean, each, strict=True)]
    elif hasattr(scheme, "sample"):
        together = scheme.sample_batch(3, message, rng=4, **modality.about)
        assert digest(together[0]) == digest(scheme.sample(message, rng=4, **modality.about))


def test_media_stay_as_they_were(modality, scheme, marked, message):
    before = digest(marked)
    scheme.detect(marked, **modality.about)
    scheme.detect_batch([marked], **modality.about)
    assert digest(marked) == before
    clean = np.array(modality.clean(7))
    before = digest(clean)
    if hasattr(scheme, "embed"):
        scheme.embed(clean, message)
    assert digest(clean) == before


def test_profiles_round_trip(name, scheme, key, marked, modality):
    profile = scheme.profile()
    copy = watermark.load(profile, key)
    assert copy.parameters == scheme.parameters
    assert copy.profile() == profile
    assert copy.detect(marked, **modality.about) == scheme.detect(marked, **modality.about)
    fields = json.loads(profile)
    assert (fields["scheme"], fields["version"], fields["key_id"]) == (name, 1, key.id)


def test_many_threads_share_a_scheme(name, modality, key, marked, message):
    """From the first use on, when its tables are made."""
    expected = watermark.load(name, key, **modality.parameters).detect(marked, **modality.about)
    expected_mark = digest(modality.mark(watermark.load(name, key, **modality.parameters), message, 1))
    shared = watermark.load(name, key, **modality.parameters)

    def use(number: int) -> bool:
        if number % 2:
            return shared.detect(marked, **modality.about) == expected
        return digest(modality.mark(shared, message, 1)) == expected_mark

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(24)))


def test_a_forked_child_detects(scheme, marked, message, modality, in_child, set_threads):
    set_threads(2)
    expected = scheme.detect(marked, **modality.about)

    def work() -> list[Any]:
        return [scheme.detect(marked, **modality.about).log10_p, digest(modality.mark(scheme, message, 0))]

    assert in_child(work) == [expected.log10_p, digest(marked)]


def test_bad_media(modality, scheme, message):
    for media in modality.bad:
        with pytest.raises(MediaError):
            scheme.detect(media, **modality.about)
        with pytest.raises(MediaError):
            scheme.detect_batch([media], **modality.about)
        with pytest.raises(MediaError):
            scheme.detect_batch(iter([media]), **modality.about)
        if hasattr(scheme, "embed"):
            with pytest.raises(MediaError):
                scheme.embed(media, message)


@pytest.mark.parametrize("payload", [b"x" * 1000, "text", 42, [b"x"]])
def test_bad_messages(modality, scheme, payload):
    with pytest.raises(PayloadError):
        modality.mark(scheme, payload, 0)


def test_unknown_parameters(name, modality, key):
    with pytest.raises(ParameterError, match="no_such_parameter"):
        watermark.load(name, key, no_such_parameter=1)
    with pytest.raises(ParameterError):
        watermark.load(name, key, **{**modality.parameters, "payload_bits": -1})


def test_numbers_of_numpy_are_numbers(name, modality, key):
    plain = watermark.load(name, key, **modality.parameters)
    fields = dataclasses.asdict(plain.parameters).items()
    numbers = {field: np.int64(value) for field, value in fields if type(value) is int}
    numpy = watermark.load(name, key, **numbers)
    assert numbers
    assert numpy.parameters == plain.parameters
    assert numpy.profile() == plain.profile()
    found = [scheme.detect(modality.mark(scheme, None, 1), **modality.about) for scheme in (plain, numpy)]
    assert found[0] == found[1]


def test_a_scheme_cannot_be_changed(scheme, key):
    for attribute in ("keyring", "parameters"):
        with pytest.raises(AttributeError):
            setattr(scheme, attribute, None)
        with pytest.raises(AttributeError):
            delattr(scheme, attribute)
    assert scheme.key == key


def test_parameters_are_frozen(scheme):
    with pytest.raises(AttributeError):
        setattr(scheme.parameters, dataclasses.fields(scheme.parameters)[0].name, 8)
    assert hash(scheme.parameters) == hash(scheme.parameters)


def test_the_secret_never_shows(name, modality, marked):
    secret = bytes(range(100, 132))
    ring = Keyring([Key.from_bytes(secret), Key.from_bytes(secret[::-1])])
    scheme = watermark.load(name, ring, **modality.parameters)
    found = scheme.detect(marked, **modality.about)
    shown = [repr(scheme), str(scheme), scheme.profile(), repr(found), json.dumps(found.to_dict()), str(found.details)]
    for value in (secret, secret[::-1]):
        for form in (value.hex(), base64.b64encode(value).decode(), repr(value)[2:-1], str(list(value))[1:-1]):
            assert not any(form in text for text in shown)


def test_detections_go_into_json(scheme, marked, message, modality):
    found = json.loads(json.dumps(scheme.detect(marked, **modality.about).to_dict()))
    assert found["payload"] == message.hex()
    assert found["payload_ok"] is True
