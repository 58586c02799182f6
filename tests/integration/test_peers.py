"""Marks of other packages as subjects of an evaluation."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from watermark import attacks
from watermark.errors import MediaError, MissingExtraError, ParameterError, PayloadError
from watermark.integrations.blind_watermark import BlindWatermark
from watermark.integrations.invisible_watermark import InvisibleWatermark

MESSAGE = b"\x5a\x17\xc0\x3e"
NAMES = {
    "dwtDct": "invisible-watermark dwtDct",
    "dwtDctSvd": "invisible-watermark dwtDctSvd",
    "rivaGan": "invisible-watermark rivaGan",
    "blind": "blind-watermark",
}
EACH = pytest.mark.parametrize("name", NAMES)
QUICK = pytest.mark.parametrize("name", ["dwtDctSvd", "blind"])


def build(name, **arguments):
    """The peer, or a skipped test where its package is missing."""
    try:
        return BlindWatermark(**arguments) if name == "blind" else InvisibleWatermark(name, **arguments)
    except MissingExtraError as error:
        pytest.skip(str(error))


def picture(height=256, width=263, seed=0):
    """Colours that change smoothly, with some grain, off the ends of the range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [50 * np.sin(0.02 * (n + 1) * x + n) * np.cos(0.03 * y + n) for n in range(3)]
    return np.clip(np.stack(waves, -1) + 128 + rng.normal(0, 4, (height, width, 1)), 30, 225).astype(np.uint8)


def bits_right(found, message=MESSAGE):
    return 8 * len(message) - (int.from_bytes(found) ^ int.from_bytes(message)).bit_count()


@EACH
def test_messages_come_back(name):
    peer, original = build(name), picture()
    if name == "dwtDct":  # which loses bits of smooth pictures without any attack
        original = np.random.default_rng(1).integers(98, 158, original.shape, np.uint8)
    before = original.copy()
    marked = peer.mark(original, MESSAGE, 1)
    assert (original == before).all()
    assert marked.shape == original.shape
    assert marked.dtype == np.uint8
    assert 20 < 10 * np.log10(255**2 / np.mean((marked.astype(float) - original) ** 2)) < 60
    (found, clean) = peer.detect_batch([marked, original])
    assert found.payload == MESSAGE
    assert bits_right(clean.payload) < 28
    for verdict in (found, clean):
        assert (verdict.scheme, verdict.key_id, verdict.n) == (NAMES[name], "", peer.payload_bits)
        assert (verdict.p_value, verdict.score, verdict.payload_ok) == (1.0, 0.0, False)
    assert (peer.name, peer.modality, peer.known_message) == (NAMES[name], "image", True)


@QUICK
def test_what_comes_back_is_what_the_package_reads(name):
    """The packages' own calls, in OpenCV's order of channels, read what the adapter marks."""
    marked = np.ascontiguousarray(build(name).mark(picture(), MESSAGE)[:, :, ::-1])
    if name == "blind":
        engine = sys.modules["blind_watermark"].WaterMark(password_img=1, password_wm=1)
        bits = engine.extract(embed_img=marked, wm_shape=32, mode="bit")
    else:
        bits = sys.modules["imwatermark"].WatermarkDecoder("bits", 32).decode(marked, name)
    assert np.packbits(np.asarray(bits, bool)).tobytes() == MESSAGE


@QUICK
def test_pictures_of_every_type_come_back_in_it(name):
    torch = pytest.importorskip("torch")
    peer, array = build(name, payload_bits=64), picture(257, 258)
    message = MESSAGE + b"\x93\x0f\x66\xd1"
    expected = peer.mark(array, message)
    pillow = PIL.Image.fromarray(array)
    pillow.info["dpi"] = (72, 72)
    marked = peer.mark(pillow, message)
    assert (marked.mode, marked.info) == ("RGB", {"dpi": (72, 72)})
    assert (np.asarray(marked) == expected).all()
    tensor = peer.mark(torch.from_numpy(array).permute(2, 0, 1), message)
    assert (tensor.permute(1, 2, 0).numpy() == expected).all()
    assert (peer.mark(array[::-1, :, :][::-1], message) == expected).all()
    assert {found.payload for found in peer.detect_batch([expected, marked, tensor])} == {message}
    assert len(peer.detect_batch(iter([]))) == 0


@EACH
def test_bad_input_is_refused(name):
    peer = build(name)
    for message in (b"abc", b"abcde", "abcd", None, 3, bytearray(b"abcd")):
        with pytest.raises(PayloadError, match="4 bytes"):
            peer.mark(picture(), message)
    for item in (picture()[:, :, 0], picture() / 255, picture().astype(np.uint16), np.zeros((300, 300, 4), np.uint8)):
        with pytest.raises(MediaError, match="RGB of uint8"):
            peer.mark(item, MESSAGE)
        with pytest.raises(MediaError, match="RGB of uint8"):
            peer.detect_batch([item])
    with pytest.raises(MediaError, match="is not an image"):
        peer.mark("picture.png", MESSAGE)
    for bits in (0, -8, 12, 2**17, 32.0, "32", None, True):
        with pytest.raises(ParameterError):
            build(name, payload_bits=bits)
    if name == "rivaGan":
        with pytest.raises(ParameterError, match="32 bits"):
            build(name, payload_bits=64)
    with pytest.raises(ParameterError, match="dwtDctSvd"):
        InvisibleWatermark("wavelet")


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in NAMES for size in ((16, 16), (1, 1), (44, 47))]
    + [(name, (70_000, 1)) for name in ("dwtDct", "dwtDctSvd", "blind")],  # the network takes any shape
)
def test_small_pictures_are_refused_and_attacked_ones_count_as_unread(name, size):
    peer, small = build(name), np.full((*size, 3), 100, np.uint8)
    with pytest.raises(MediaError, match=f"{size[1]} x {size[0]} pixels"):
        peer.mark(small, MESSAGE)
    (found,) = peer.detect_batch([small])
    assert found.payload is None
    assert (found.p_value, found.payload_ok) == (1.0, False)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("blind", (48, 47)),  # 6 x 6 blocks for 32 bits
        ("dwtDct", (256, 256)),
        ("dwtDct", (8, 8192)),
        ("dwtDctSvd", (8, 8192)),
    ],
)
def test_the_smallest_pictures_work(name, size):
    peer = build(name)
    (found,) = peer.detect_batch([peer.mark(np.full((*size, 3), 120, np.uint8), MESSAGE)])
    assert found.payload == MESSAGE


@QUICK
def test_attacked_pictures_are_read_or_unread_but_never_fail(name):
    """Whatever size and content an attack leaves, also one colour alone."""
    peer = build(name)
    marked = peer.mark(picture(), MESSAGE)
    attacked = [a(marked, 1) for a in attacks.suite("image.standard") if not a.needs]
    attacked += [attacks.load("image.crop", area=area)(marked, 1) for area in (0.05, 0.3, 0.6)]
    attacked += [attacks.load("image.rescale", scale=0.25)(marked, 1), np.zeros_like(marked), np.full_like(marked, 255)]
    found = peer.detect_batch(attacked)
    assert all(payload is None or len(payload) == 4 for payload in found.payload)
    assert (found.p_value == 1).all()
    assert found.payload[-1] is not None


def read(peer, item):
    return peer.detect_batch([item])[0].payload


@EACH
def test_peers_go_to_other_processes(name):
    peer = build(name)
    assert pickle.loads(pickle.dumps(peer)) == peer  # noqa: S301
    assert len(pickle.dumps(peer)) < 400
    assert hash(peer) == hash(build(name))
    assert eval(repr(peer)) == peer
    if name in ("dwtDctSvd", "blind"):
        marked = peer.mark(picture(), MESSAGE)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(read, (peer, marked)) == MESSAGE


CHECK = """
import multiprocessing
{before}
from watermark.integrations.blind_watermark import BlindWatermark
BlindWatermark()
assert multiprocessing.get_start_method(allow_none=True) == {method!r}
"""


@pytest.mark.parametrize("method", [None, "spawn", "fork"])
def test_the_start_method_of_processes_stays_as_it_was(method):
    """On import blind-watermark sets it to fork, and fails if it is set."""
    build("blind")
    code = CHECK.format(before=f"multiprocessing.set_start_method({method!r})" if method else "", method=method)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "Welcome" not in done.stdout


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("imwatermark", InvisibleWatermark),
        ("onnxruntime", lambda: InvisibleWatermark("rivaGan")),
        ("blind_watermark", BlindWatermark),
    ],
)
def test_missing_packages_are_named(monkeypatch, module, make):
    if module == "onnxruntime":
        build("dwtDct")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'watermarking\[peers\]'"):
        make()
