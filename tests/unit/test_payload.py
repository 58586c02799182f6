from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import ParameterError, PayloadError
from watermark.payload import FRAMED_FROM, Frame, SoftCode


def packed(bits: np.ndarray) -> bytes:
    return np.packbits(bits).tobytes()


framed_sizes = st.integers(FRAMED_FROM, 4096)


@st.composite
def framed_messages(draw: st.DrawFn) -> tuple[Frame, bytes]:
    frame = Frame(draw(framed_sizes))
    return frame, draw(st.binary(max_size=frame.max_bytes))


@given(framed_messages())
def test_every_message_round_trips(case):
    frame, message = case
    bits = frame.encode(message)
    assert bits.shape == (frame.size,)
    assert bits.dtype == np.uint8
    assert set(np.unique(bits)) <= {0, 1}
    assert frame.decode(packed(bits)) == message


def test_the_number_of_bits_may_come_from_numpy():
    frame = Frame(np.int64(64))
    assert frame == Frame(64)
    assert type(frame.payload_bits) is int


@pytest.mark.parametrize("payload_bits", [24, 31, 32, 64, 256, 4096])
def test_every_length_round_trips(payload_bits):
    frame = Frame(payload_bits)
    for length in range(frame.max_bytes + 1):
        for message in (bytes(length), b"\xff" * length):
            assert frame.decode(packed(frame.encode(message))) == message


@given(framed_messages(), st.data())
def test_up_to_three_flipped_bits_are_caught(case, data):
    # The generator of CRC-16/CCITT has even weight and a period of 32767: distance 4 on frames of this size.
    frame, message = case
    bits = frame.encode(message)
    flips = data.draw(st.lists(st.integers(0, frame.size - 1), min_size=1, max_size=3, unique=True))
    bits[flips] ^= 1
    assert frame.decode(packed(bits)) is None


def test_random_frames_pass_as_rarely_as_the_checksum_says():
    frame, rng = Frame(64), np.random.default_rng(1)
    trials = 200_000
    random = rng.integers(0, 2, (trials, frame.size), np.uint8)
    passed = sum(frame.decode(row.tobytes()) is not None for row in np.packbits(random, axis=1))
    # Each accepts 2^-17 of all words (a CRC-16, and half of the numbers are no message); Poisson 99.9 %.
    assert passed <= 7


def test_no_message_is_the_empty_one():
    frame = Frame(64)
    assert np.array_equal(frame.encode(None), frame.encode(b""))
    assert np.array_equal(frame.encode(bytearray(b"a")), frame.encode(memoryview(b"a")))


def test_the_overhead_is_17_bits():
    for payload_bits in (24, 64, 256, 4096):
        assert Frame(payload_bits).size == payload_bits + 17
    assert Frame(63).size == 56 + 17


def test_log_messages_counts_what_decode_accepts():
    assert Frame(24).log_messages == pytest.approx(math.log(1 + 256 + 256**2 + 256**3), rel=1e-12)
    assert Frame(10).log_messages == pytest.approx(math.log(1024), rel=1e-12)
    assert Frame(0).log_messages == 0


def test_wire_format_of_version_1():
    assert packed(Frame(64).encode(b"order-42")).hex() == "3839b2b339971a99e19800"


@pytest.mark.parametrize("payload_bits", [1, 5, 8, 9, 16, 23])
def test_an_index_round_trips_and_adds_nothing(payload_bits):
    frame = Frame(payload_bits)
    assert frame.size == payload_bits
    for number in {0, 1, (1 << payload_bits) // 3, (1 << payload_bits) - 1}:
        message = number.to_bytes(frame.max_bytes)
        assert frame.decode(packed(frame.encode(message))) == message
    assert np.array_equal(frame.encode(b""), np.zeros(payload_bits))


def test_short_forms_of_an_index_are_the_same_index():
    assert np.array_equal(Frame(16).encode(b"\x07"), Frame(16).encode(b"\x00\x07"))


def test_presence_only():
    frame = Frame(0)
    assert frame.encode(None).size == 0
    assert frame.decode(b"") == b""
    with pytest.raises(PayloadError):
        frame.encode(b"\x01")


@pytest.mark.parametrize(
    ("payload_bits", "message"),
    [(64, b"123456789"), (63, b"12345678"), (24, b"1234"), (5, b"\x20"), (8, b"\x01\x00"), (1, b"\x02")],
)
def test_what_does_not_fit(payload_bits, message):
    with pytest.raises(PayloadError):
        Frame(payload_bits).encode(message)


def test_the_error_says_what_would_fit():
    with pytest.raises(PayloadError, match=re.escape("payload_bits=72")):
        Frame(64).encode(b"123456789")


@pytest.mark.parametrize("message", ["text", 7, [1], 1.5])
def test_a_message_is_bytes(message):
    with pytest.raises(PayloadError, match="bytes"):
        Frame(64).encode(message)


@pytest.mark.parametrize("payload_bits", [-1, 4097, 2.0, "64", None, True])
def test_payload_bits_have_a_range(payload_bits):
    with pytest.raises(ParameterError):
        Frame(payload_bits)


@given(st.binary(max_size=600), st.integers(0, 4096))
def test_decode_takes_any_bytes(content, payload_bits):
    frame = Frame(payload_bits)
    padded = content[: -(-frame.size // 8)].ljust(-(-frame.size // 8), b"\0")
    found = frame.decode(padded)
    if frame.framed and found is not None:
        assert len(found) <= frame.max_bytes


class TestSoftCode:
    CODE = SoftCode(Frame(64), 1024)

    @given(st.binary(max_size=8))
    @settings(max_examples=20)
    def test_round_trip_without_noise(self, message):
        symbols = self.CODE.encode(message)
        found, word = self.CODE.decode((1 - 2.0 * symbols).astype(np.float32))
        assert found == message
        assert np.array_equal(word, symbols)

    def test_it_corrects(self):
        """At an SNR of -6 dB a symbol errs with probability .31; the code still reads 30 of 30."""
        rng = np.random.default_rng(3)
        symbols = self.CODE.encode(b"order-42")
        for _ in range(30):
            soft = (1 - 2.0 * symbols) + 2 * rng.standard_normal(1024)
            assert self.CODE.decode(soft.astype(np.float32))[0] == b"order-42"

    def test_noise_reads_as_nothing(self):
        rng = np.random.default_rng(4)
        for _ in range(30):
            message, word = self.CODE.decode(rng.standard_normal(1024).astype(np.float32))
            assert message is None
            assert word.shape == (1024,)

    def test_the_scale_does_not_matter(self):
        soft = (1 - 2.0 * self.CODE.encode(b"x")).astype(np.float32)
        assert self.CODE.decode(1e-6 * soft)[0] == self.CODE.decode(1e6 * soft)[0] == b"x"

    def test_an_index_is_always_read(self):
        code = SoftCode(Frame(10), 256)
        symbols = code.encode(b"\x02\x9a")
        assert code.decode((1 - 2.0 * symbols).astype(np.float32))[0] == b"\x02\x9a"

    def test_information_positions_are_the_reliable_ones(self):
        positions = self.CODE.information
        assert positions.size == 81
        assert (np.diff(positions) > 0).all()
        assert positions[-1] == 1023
        with pytest.raises(ValueError, match="read-only"):
            positions[0] = 0

    def test_a_frame_must_fit(self):
        with pytest.raises(ParameterError):
            SoftCode(Frame(64), 64)


@pytest.mark.parametrize(("bits", "symbols", "even"), [(16, 64, 8), (16, 64, 64), (32, 128, 8), (5, 32, 4)])
def test_codes_with_even_groups(bits, symbols, even):
    code, rng = SoftCode(Frame(bits), symbols, even=even), np.random.default_rng(1)
    for _ in range(20):
        message = int(rng.integers(1 << bits)).to_bytes(-(-bits // 8))
        word = code.encode(message)
        assert (word.reshape(-1, even).sum(axis=1) % 2 == 0).all()
        assert code.decode(1 - 2 * word.astype(np.float32))[0] == message
    with pytest.raises(ParameterError):
        SoftCode(Frame(bits), symbols, even=1)
