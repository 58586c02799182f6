"""Published test vectors: ChaCha20 (RFC 8439) and HKDF-SHA-256 (RFC 5869)."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.ops import _native
from watermark.ops.chacha import chacha20, chacha20_reference
from watermark.prf import Prf, hkdf

ZEROS = bytes(32)
# key, nonce, counter, first block: RFC 8439 section 2.3.2 and appendix A.1, vectors 1 to 5.
BLOCKS = [
    (
        bytes(range(32)),
        "000000090000004a00000000",
        1,
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    ),
    (
        ZEROS,
        "000000000000000000000000",
        0,
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        ZEROS,
        "000000000000000000000000",
        1,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        bytes(31) + b"\x01",
        "000000000000000000000000",
        1,
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
        "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    ),
    (
        b"\x00\xff" + bytes(30),
        "000000000000000000000000",
        2,
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
    (
        ZEROS,
        "000000000000000000000002",
        0,
        "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
        "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
    ),
]


def words(octets: bytes) -> np.ndarray:
    return np.frombuffer(octets, "<u4").astype(np.uint32)


@pytest.mark.parametrize(("key", "nonce", "counter", "block"), BLOCKS)
def test_chacha20(key, nonce, counter, block):
    key_words, nonce_words = words(key), words(bytes.fromhex(nonce))
    assert chacha20_reference(key_words, nonce_words, 16, counter).astype("<u4").tobytes().hex() == block
    assert chacha20(key_words, nonce_words, 16, counter).astype("<u4").tobytes().hex() == block
    for isa in _native.core.instruction_sets():
        out = np.zeros(16, np.uint32)
        _native.core.chacha20(key_words, nonce_words, counter, out, isa=isa)
        assert out.astype("<u4").tobytes().hex() == block


def test_the_prf_is_rfc_8439():
    # Stream number s puts s into the last two nonce words.
    expected = BLOCKS[5][3]
    assert Prf(ZEROS).words(16, stream=0x02000000 << 32).astype("<u4").tobytes().hex() == expected


# Input key material, salt, info, length, output: RFC 5869 appendix A.1 to A.3.
HKDF = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x00, 0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        82,
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    ("0b" * 22, "", "", 42, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
]


@pytest.mark.parametrize(("secret", "salt", "info", "length", "expected"), HKDF)
def test_hkdf(secret, salt, info, length, expected):
    found = hkdf(bytes.fromhex(secret), salt=bytes.fromhex(salt), info=bytes.fromhex(info), length=length)
    assert found.hex() == expected
