from __future__ import annotations

import json
import pickle
import sys
import threading
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

import watermark
from watermark import MediaError, ParameterError, PayloadError, scheme
from watermark.scheme import MediaScheme, SchemeInfo, per_row


@dataclass(frozen=True, slots=True)
class ToyParameters:
    strength: int = 1
    sizes: tuple[int, ...] = (1, 2)

    def __post_init__(self):
        if self.strength < 1:
            raise ParameterError("strength must be positive")


class Toy(MediaScheme):
    """Appends a keyed byte to bytes."""

    info = SchemeInfo("toy.byte", "text", "exact", watermark.FixedKey(1, 1, "none"), False, "none", 8)
    Parameters = ToyParameters

    def _bind(self, key):
        return key.derive("toy").bits(1)[0]

    def _observe(self, media):
        return media

    def _test(self, tables, observation, key_id):
        return watermark.Detection(self.name, key_id, -1.0 * len(observation), 0.0, int(tables))

    def embed(self, media, payload=None):
        return media + (payload or b"")


@pytest.fixture
def plugin(monkeypatch):
    entry = EntryPoint("toy.byte", "toy_module:Toy", "watermark.schemes")
    monkeypatch.setattr(scheme, "entry_points", lambda group: [entry])
    monkeypatch.setitem(sys.modules, "toy_module", SimpleNamespace(Toy=Toy))


def test_schemes_are_listed_with_facts():
    found = {info.name: info for info in watermark.schemes()}
    assert list(found) == sorted(found)
    assert {"image.spectral", "latent.gaussian_shading"} <= set(found)
    for name, info in found.items():
        assert name.startswith({"tokens": "llm"}.get(info.modality, info.modality) + ".")
        assert info.null in ("exact", "bound", "calibrated")
        assert info.fixed_key.at_1e3 >= 1
        assert info.fixed_key.at_1e6 >= 1
        assert info.fixed_key.corpus
        assert info.payload
        assert 0 < info.security_bits <= 256


@pytest.mark.parametrize("name", ["", "image", "image.nothing", "watermark.key:Key", "{", "{}", "[]"])
def test_unknown_schemes(key, name):
    with pytest.raises(ParameterError):
        watermark.load(name, key)


@pytest.mark.parametrize("name", [None, 7, b"latent.gaussian_shading"])
def test_a_name_is_a_string(key, name):
    with pytest.raises(ParameterError, match="string"):
        watermark.load(name, key)


def test_an_unknown_scheme_is_answered_with_the_known_ones(key):
    with pytest.raises(ParameterError, match=r"latent\.gaussian_shading"):
        watermark.load("latent.gaussian", key)


@pytest.mark.parametrize("key", [None, b"\0" * 32, "key"])
def test_a_key_is_needed(key):
    with pytest.raises(watermark.InvalidKeyError):
        watermark.load("latent.gaussian_shading", key)


@pytest.mark.parametrize(
    "profile",
    [
        '{"format": "watermark-profile"}',
        '{"format": "watermark-profile", "version": 2, "scheme": "latent.gaussian_shading", "parameters": {}}',
        '{"format": "watermark-profile", "version": 1, "scheme": 7, "parameters": {}}',
        '{"format": "watermark-profile", "version": 1, "scheme": "latent.gaussian_shading"}',
        '{"format": "watermark-profile", "version": 1, "scheme": "latent.gaussian_shading", "parameters": []}',
        '{"format": "watermark-profile", "version": 1, "scheme": "latent.gaussian_shading", "parameters": {"a": 1}}',
        '{"format": "watermark-profile", "version": 1, "scheme": "no.such", "parameters": {}}',
        '{"format": "watermark-profile", "version": 1, "scheme": "latent.gaussian_shading", "parameters": '
        '{"shape": [4, {}]}}',
        '{"format": "watermark-key", "version": 1}',
        "{" * 5000,
        "{" + " " * 70_000 + "}",
    ],
)
def test_bad_profiles(key, profile):
    with pytest.raises(ParameterError):
        watermark.load(profile, key)


def test_parameters_override_a_profile(key):
    stored = watermark.load("latent.gaussian_shading", key, payload_bits=64).profile()
    changed = watermark.load(stored, key, payload_bits=128)
    assert changed.parameters.payload_bits == 128
    assert json.loads(stored)["key_id"] == key.id


def test_a_profile_names_its_key(key):
    stored = watermark.load("latent.gaussian_shading", key).profile()
    other = key.child("other")
    with pytest.raises(ParameterError, match=f"{key.id}.*{other.id}"):
        watermark.load(stored, other)
    assert watermark.load(stored, watermark.Keyring([other, key])).key == other
    nameless = json.dumps({k: v for k, v in json.loads(stored).items() if k != "key_id"})
    assert watermark.load(nameless, other).key == other
    with pytest.raises(ParameterError):
        watermark.load(json.dumps({**json.loads(stored), "key_id": [key.id]}), key)


def test_a_plugin_is_loaded_by_its_entry_point(plugin, key):
    assert "toy.byte" in [info.name for info in watermark.schemes()]
    toy = watermark.load("toy.byte", key, strength=3)
    assert isinstance(toy, Toy)
    assert watermark.load(toy.profile(), key).parameters == toy.parameters
    with pytest.raises(ParameterError, match="strength, sizes"):
        watermark.load("toy.byte", key, size=3)
    with pytest.raises(ParameterError, match="positive"):
        watermark.load("toy.byte", key, strength=0)


def test_a_plugin_cannot_replace_a_scheme_of_ours(monkeypatch):
    entry = EntryPoint("latent.gaussian_shading", "toy_module:Toy", "watermark.schemes")
    monkeypatch.setattr(scheme, "entry_points", lambda group: [entry])
    assert "latent.gaussian_shading" in [info.name for info in watermark.schemes()]


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_keep_their_order(key, set_threads, threads):
    set_threads(threads)
    toy = Toy(key)
    assert toy.embed_batch([b"a", b"b", b"c"], [b"1", None, b"3"]) == [b"a1", b"b", b"c3"]
    assert toy.embed_batch((x for x in (b"a", b"b")), b"!") == [b"a!", b"b!"]
    assert toy.detect_batch([b"a", b"", b"ccc"]).log10_p.tolist() == [-1, 0, -3]
    assert len(toy.detect_batch([])) == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_batch_comes_out(key, set_threads, threads):
    set_threads(threads)
    with pytest.raises(TypeError):
        Toy(key).embed_batch([b"a", None])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_generator_is_not_read_far_ahead(key, set_threads, threads):
    set_threads(threads)
    exhausted, taken, ahead = threading.Event(), [], []

    class Watching(Toy):
        def _observe(self, media):
            if not media:  # the first one: time enough to read on meanwhile
                exhausted.wait(0.3)
                ahead.append(len(taken))
            return media

    def items():
        for number in range(50):
            taken.append(number)
            yield bytes(number)
        exhausted.set()

    assert Watching(key).detect_batch(items()).log10_p.tolist() == [-n for n in range(50)]
    assert ahead[0] <= 2 * threads


@pytest.mark.parametrize(
    "items",
    [
        None,
        7,
        "text",
        b"bytes",
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.array(7),
        PIL.Image.new("RGB", (64, 64)),
    ],
)
def test_one_item_is_no_batch(key, items):
    for call in (Toy(key).detect_batch, Toy(key).embed_batch):
        with pytest.raises(MediaError, match="list or an iterator"):
            call(items)


def test_one_tensor_is_no_batch(key):
    torch = pytest.importorskip("torch")
    for shape in ((), (64, 64), (3, 64, 64)):
        with pytest.raises(MediaError, match="list or an iterator"):
            Toy(key).detect_batch(torch.zeros(shape))
    assert len(Toy(key).detect_batch(torch.zeros(2, 3, 8, 8))) == 2


def test_what_stacks_or_lists_items_is_a_batch(key):
    pair = [b"a", b"b"]
    for items in (pair, tuple(pair), iter(pair), {"x": b"a", "y": b"b"}.values(), np.array(pair, object)):
        assert len(Toy(key).detect_batch(items)) == 2
    assert len(Toy(key).detect_batch(np.zeros((2, 8, 8, 3)))) == 2


def test_a_scheme_cannot_be_changed(key):
    class Caching(Toy):
        @cached_property
        def cached(self):
            return 7

    toy = Caching(key)
    for name in ("keyring", "parameters", "info", "anything"):
        with pytest.raises(AttributeError, match="changed"):
            setattr(toy, name, None)
    with pytest.raises(AttributeError, match="changed"):
        del toy.parameters
    assert (toy.cached, toy.keyring) == (7, watermark.Keyring([key]))


def test_a_ring_shares_what_needs_no_key(key):
    seen = []

    class Watching(Toy):
        def _observe(self, media):
            seen.append(media)
            return media

    found = Watching(watermark.Keyring([key, key.child("old")])).detect(b"abc")
    assert seen == [b"abc"]
    assert found.details["keys_tried"] == 2


def test_schemes_pickle_with_their_key(key):
    toy = pickle.loads(pickle.dumps(Toy(key, ToyParameters(5))))  # noqa: S301 (our own bytes)
    assert (toy.key, toy.parameters) == (key, ToyParameters(5))


def test_per_row():
    assert per_row(None, 2) == [None, None]
    assert per_row(b"x", 2) == [b"x", b"x"]
    assert per_row(bytearray(b"x"), 1) == [b"x"]
    assert per_row([b"x", None], 2) == [b"x", None]
    for wrong in ("text", [b"x"], [b"x"] * 3):
        with pytest.raises(PayloadError):
            per_row(wrong, 2)
