from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import stat
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark import InvalidKeyError, Key, KeyFileWarning, Keyring

SECRET = bytes(range(32))
secrets = st.binary(min_size=32, max_size=32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "studio.key"


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@given(secrets)
def test_bytes_go_in_and_out(secret):
    key = Key.from_bytes(bytearray(secret))
    assert key.to_bytes() == secret
    assert key == Key.from_bytes(memoryview(secret))
    assert hash(key) == hash(Key.from_bytes(secret))


def test_generated_keys_differ():
    assert len({Key.generate() for _ in range(100)}) == 100


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(33), "0" * 32, 32, None, [0] * 32])
def test_only_32_bytes_make_a_key(secret):
    with pytest.raises(InvalidKeyError):
        Key.from_bytes(secret)


def test_known_answers():
    # HKDF-SHA-256 with salt "watermark/1"; these values must never change, or old marks are lost.
    key = Key.from_bytes(SECRET)
    assert key.id == "wm-23badb471988fafb"
    assert key.child("user/7").to_bytes().hex() == "354bbe1f5e27978c458a59ee96d0f4ae257c708d66447218379cea9bd4a2bfb3"
    assert key.derive("image.spectral/1/sync").words(2).tolist() == [264183455, 1036730965]


def test_children_and_labels_are_separate():
    key = Key.from_bytes(SECRET)
    streams = [
        key.to_bytes(),
        key.child("a").to_bytes(),
        key.child("b").to_bytes(),
        key.child("a").child("b").to_bytes(),
        key.derive("a").key_words.tobytes(),
        key.child("a").derive("a").key_words.tobytes(),
        key.derive("child/a").key_words.tobytes(),
    ]
    assert len(set(streams)) == len(streams)


def test_a_key_cannot_be_changed():
    key = Key.from_bytes(SECRET)
    with pytest.raises(AttributeError):
        key.id = "wm-0"
    with pytest.raises(AttributeError):
        key._secret = bytes(32)
    with pytest.raises(AttributeError):
        del key._secret
    ring = Keyring([key])
    with pytest.raises(AttributeError):
        ring._keys = ()
    assert key.to_bytes() == SECRET


@pytest.mark.parametrize("name", [5, None, b"user", "\ud800"])
def test_children_and_labels_are_named_by_text(name):
    key = Key.from_bytes(SECRET)
    for derive in (key.child, key.derive):
        with pytest.raises(InvalidKeyError, match="text"):
            derive(name)


@given(secrets)
def test_the_secret_never_shows(secret):
    key = Key.from_bytes(secret)
    shown = f"{key!r} {key!s} {key} {Keyring([key])!r} {Keyring([key, key.child('x')])} {[key]}"
    assert key.id in shown
    for form in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1], str(list(secret))[1:-1]):
        assert form not in shown


def test_pickle_and_copy():
    key = Key.from_bytes(SECRET)
    assert pickle.loads(pickle.dumps(key)) == key  # noqa: S301 (our own bytes)
    assert copy.deepcopy(key) == key
    ring = Keyring([key, key.child("old")])
    assert pickle.loads(pickle.dumps(ring)) == ring  # noqa: S301
    assert copy.deepcopy(ring) == ring


@given(secrets)
def test_files_round_trip(secret):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.key"
        key = Key.from_bytes(secret)
        key.save(path)
        assert Key.load(path) == key
        assert Key.load(str(path)).id == key.id


def test_the_file_is_private_checksummed_json(path):
    Key.from_bytes(SECRET).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    fields = json.loads(path.read_text())
    assert fields["format"] == "watermark-key"
    assert fields["version"] == 1
    assert list(path.parent.iterdir()) == [path]


def test_files_of_version_1_stay_readable(path):
    path.write_text(
        """{
  "format": "watermark-key",
  "version": 1,
  "id": "wm-23badb471988fafb",
  "created": "2026-11-22T06:48:26Z",
  "secret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
  "checksum": "7fd488c92e5de4d73debbe1d475e09a3"
}
"""
    )
    path.chmod(0o600)
    assert Key.load(path) == Key.from_bytes(SECRET)


def test_nothing_is_overwritten_by_accident(path):
    Key.from_bytes(SECRET).save(path)
    with pytest.raises(FileExistsError):
        Key.generate().save(path)
    assert Key.load(path).to_bytes() == SECRET
    other = Key.generate()
    other.save(path, overwrite=True)
    assert Key.load(path) == other
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_save_that_fails_leaves_nothing_behind(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Key.generate().save(path)
    assert list(path.parent.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_key(path, monkeypatch):
    Key.from_bytes(SECRET).save(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Key.generate().save(path, overwrite=True)
    monkeypatch.undo()
    assert Key.load(path).to_bytes() == SECRET
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o601])
def test_a_wider_mode_is_warned_about(path, mode):
    Key.from_bytes(SECRET).save(path)
    path.chmod(mode)
    with pytest.warns(KeyFileWarning, match="chmod 600"):
        assert Key.load(path).to_bytes() == SECRET


def test_a_missing_file_stays_an_os_error(path):
    with pytest.raises(FileNotFoundError):
        Key.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 4000,
        b" " * 5000,
        b'{"format": "watermark-key"}',
        b'{"format": "watermark-key", "version": 1}',
        b'{"format": "watermark-key", "version": true, "checksum": null}',
        b'{"format": "watermark-key", "version": 1, "secret": NaN}',
        b'{"format": "watermark-key", "version": 1, "secret": {"a": "' + b"x" * 100 + b'"}}',
        b'{"format": "watermark-key", "version": 1, "id": ' + b"9" * 4000 + b"}",
        b'{"format": "watermark-key", "version": 1, "id": "\\ud800"}',
        b'{"format": "watermark-profile", "version": 1}',
    ],
)
def test_what_is_no_key_file(path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidKeyError):
        Key.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "another version"),
        ({"secret": base64.b64encode(bytes(32)).decode()}, "damaged"),
        ({"id": "wm-0000000000000000"}, "damaged"),
        ({"created": "2020-01-01T00:00:00Z"}, "damaged"),
        ({"extra": 1}, "damaged"),
        ({"checksum": None}, "damaged"),
        ({"checksum": 0}, "damaged"),
    ],
)
def test_a_changed_field_is_noticed(path, changes, message):
    Key.from_bytes(SECRET).save(path)
    rewrite(path, **changes)
    with pytest.raises(InvalidKeyError, match=message):
        Key.load(path)


@pytest.mark.parametrize("damage", [b"", b",", b"\xff"])
def test_an_error_does_not_carry_the_file(path, damage):
    """A parser's error holds the text that it read; as the context of ours it would go into logs and crash reports."""
    Key.from_bytes(SECRET).save(path)
    path.write_bytes(path.read_bytes().rstrip(b"}\n") + damage)
    with pytest.raises(InvalidKeyError) as caught:
        Key.load(path)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@given(data=st.data())
def test_any_damage_is_noticed(data):
    """A damaged file gives InvalidKeyError or, where the damage does not matter (white space), the same key."""
    key = Key.from_bytes(SECRET)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.key"
        key.save(path)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(content) - 1))
            match data.draw(st.sampled_from(["flip", "set", "insert", "delete", "truncate"])):
                case "flip":
                    content[at] ^= 1 << data.draw(st.integers(0, 7))
                case "set":
                    content[at] = data.draw(st.integers(0, 255))
                case "insert":
                    content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
                case "delete":
                    del content[at : at + data.draw(st.integers(1, 40))]
                case "truncate":
                    del content[at:]
            if not content:
                break
        path.write_bytes(content)
        try:
            found = Key.load(path)
        except InvalidKeyError:
            return
        assert found == key


@given(st.binary(max_size=300))
def test_random_files(content):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", KeyFileWarning)
        path = Path(folder) / "a.key"
        path.write_bytes(content)
        with pytest.raises(InvalidKeyError):
            Key.load(path)


def test_keyring_is_a_sequence_with_a_primary():
    a, b, c = (Key.from_bytes(bytes([i]) * 32) for i in range(3))
    ring = Keyring(iter([a, b, c]))
    assert (len(ring), list(ring), ring[1], ring.primary, c in ring) == (3, [a, b, c], b, a, True)
    assert isinstance(ring[1:], Keyring)
    assert list(ring[1:]) == [b, c]
    assert Keyring.of(ring) is ring
    assert list(Keyring.of(a)) == [a]
    assert ring == Keyring([a, b, c])
    assert hash(ring) == hash(Keyring([a, b, c]))
    assert ring != Keyring([a, c, b])
    assert ring[:2] != ring
    assert ring != [a, b, c]


@pytest.mark.parametrize("content", [[], [1], [b"\0" * 32], "ab", b"ab", None, 7])
def test_what_makes_no_keyring(content):
    with pytest.raises(InvalidKeyError):
        Keyring(content)


def test_a_key_counts_once():
    key = Key.from_bytes(SECRET)
    with pytest.raises(InvalidKeyError, match="once"):
        Keyring([key, Key.from_bytes(SECRET)])


@pytest.mark.parametrize("thing", [None, b"\0" * 32, "studio.key", object()])
def test_what_is_no_key(thing):
    with pytest.raises(InvalidKeyError):
        Keyring.of(thing)
