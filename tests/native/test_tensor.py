"""Arrays as the core sees them: what is taken, what is refused, and that nothing is copied or kept."""

from __future__ import annotations

import gc
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.ops._native import core

KEY, NONCE = np.arange(8, dtype=np.uint32), np.arange(3, dtype=np.uint32)


class Capsules:
    """An array that is known by `__dlpack__` only."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class NewCapsules(Capsules):
    """The same with capsules of DLPack 1.0, which say whether memory is read-only."""

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__(max_version=(1, 0))


def fill(out: object) -> None:
    core.chacha20(KEY, NONCE, 0, out)


def votes(z: object) -> list[int]:
    rows = 2
    bits, agreement = np.empty((rows, 1), np.uint8), np.empty(rows, np.int64)
    core.sign_votes(z, np.zeros(1, np.uint32), 5, bits, agreement)
    return [*bits.ravel().tolist(), *agreement.tolist()]


def expected_words(count: int) -> np.ndarray:
    out = np.empty(count, np.uint32)
    fill(out)
    return out


class TestNumPy:
    @pytest.mark.parametrize("dtype", ["u2", "u8", "i4", "i8", "f4", "f8", "?", "c8", "M8[s]", "S4", "V4"])
    def test_dtype(self, dtype):
        with pytest.raises(TypeError, match="out has the wrong dtype: expected uint32"):
            fill(np.zeros(4, dtype))

    def test_objects_are_no_numbers(self):
        with pytest.raises(TypeError):
            fill(np.zeros(4, object))

    def test_big_endian(self):
        with pytest.raises(TypeError, match="big endian"):
            fill(np.zeros(4, ">u4"))

    @pytest.mark.parametrize("shape", [(), (4, 4), (1, 4, 1), (1,) * 8])
    def test_rank(self, shape):
        with pytest.raises(ValueError, match=f"out has {len(shape)} dimensions instead of 1"):
            fill(np.zeros(shape, np.uint32))

    def test_too_many_dimensions(self):
        with pytest.raises(ValueError, match="too many"):
            fill(np.zeros((1,) * 9, np.uint32))

    def test_read_only_output(self):
        out = np.zeros(4, np.uint32)
        out.setflags(write=False)
        with pytest.raises(ValueError, match="out is read-only"):
            fill(out)
        assert out.tolist() == [0] * 4

    def test_read_only_input(self):
        z = np.ones((2, 10), np.float32)
        z.setflags(write=False)
        assert votes(z) == votes(z.copy())

    @pytest.mark.parametrize(
        "out", [np.zeros(8, np.uint32)[::2], np.zeros(8, np.uint32)[::-1], np.zeros((8, 2), np.uint32)[:, 0]]
    )
    def test_strided_output(self, out):
        with pytest.raises(ValueError, match="out is not C-contiguous"):
            fill(out)

    def test_strided_input(self):
        for z in (
            np.ones((4, 10), np.float32)[::2],
            np.ones((10, 2), np.float32).T,
            np.ones((2, 20), np.float32)[:, ::2],
        ):
            with pytest.raises(ValueError, match="z is not C-contiguous"):
                votes(z)

    def test_strides_of_axes_of_length_one_do_not_matter(self):
        out, agreement = np.empty((1, 1), np.uint8), np.empty(1, np.int64)
        core.sign_votes(np.ones((4, 10), np.float32)[::4], np.zeros(1, np.uint32), 5, out, agreement)
        assert agreement.tolist() == [10]

    def test_strides_that_split_elements(self):
        base = np.zeros(64, np.uint8)
        records = np.lib.stride_tricks.as_strided(base.view(np.uint32), (4,), (6,))
        with pytest.raises(ValueError, match=r"split|aligned"):
            fill(records)

    @pytest.mark.parametrize("offset", [1, 2, 3])
    def test_misaligned(self, offset):
        out = np.zeros(64, np.uint8)[offset : offset + 16].view(np.uint32)
        with pytest.raises(ValueError, match="out is not aligned"):
            fill(out)

    def test_zero_size(self):
        fill(np.zeros(0, np.uint32))
        fill(np.zeros(8, np.uint32)[3:3])
        core.signed_normal(KEY, 0, np.zeros((1, 0), np.uint32), np.zeros((3, 0), np.float32))
        core.signed_normal(KEY, 0, np.zeros((1, 1), np.uint32), np.zeros((0, 7), np.float32))

    def test_subclasses(self):
        out = np.zeros(20, np.uint32).view(np.ma.MaskedArray)
        fill(out)
        assert np.array_equal(np.asarray(out), expected_words(20))

    def test_it_writes_into_the_array_it_was_given(self):
        whole = np.full(40, 7, np.uint32)
        fill(whole[10:30])
        assert np.array_equal(whole[10:30], expected_words(20))
        assert set(whole[:10]) == set(whole[30:]) == {7}

    def test_nothing_is_kept(self):
        out = np.zeros(20, np.uint32)
        before = sys.getrefcount(out)
        for _ in range(100):
            fill(out)
            with pytest.raises(ValueError, match="dimensions"):
                fill(out.reshape(4, 5))
        gc.collect()
        assert sys.getrefcount(out) == before


@pytest.mark.parametrize(
    "thing", [None, 7, "text", b"bytes", [1, 2], (1,), {}, object(), np.uint32(7), memoryview(b"1234")]
)
def test_what_is_no_array(thing):
    with pytest.raises(TypeError):
        fill(thing)


class TestCapsules:
    @pytest.mark.parametrize("kind", [Capsules, NewCapsules])
    def test_output(self, kind):
        out = np.zeros(50, np.uint32)
        fill(kind(out))
        assert np.array_equal(out, expected_words(50))

    @pytest.mark.parametrize("kind", [Capsules, NewCapsules])
    def test_input(self, kind):
        z = np.random.default_rng(1).standard_normal((2, 10)).astype(np.float32)
        assert votes(kind(z)) == votes(z)
        with pytest.raises(ValueError, match="z is not C-contiguous"):
            votes(kind(np.ones((4, 10), np.float32)[::2]))
        with pytest.raises(TypeError, match="z has the wrong dtype"):
            votes(kind(z.astype(np.float64)))
        with pytest.raises(ValueError, match="z has 3 dimensions"):
            votes(kind(z[None]))

    def test_read_only(self):
        out = np.zeros(4, np.uint32)
        out.setflags(write=False)
        with pytest.raises(ValueError, match="out is read-only"):
            fill(NewCapsules(out))

    def test_the_memory_is_released(self):
        out = np.zeros(50, np.uint32)
        watched = weakref.ref(out)
        fill(Capsules(out))
        fill(NewCapsules(out))
        del out
        gc.collect()
        assert watched() is None

    @pytest.mark.parametrize("result", [None, 7, "capsule"])
    def test_what_is_no_capsule(self, result):
        class Broken(Capsules):
            def __dlpack__(self, **_: object) -> object:
                return result

        with pytest.raises((ValueError, TypeError)):
            fill(Broken(np.zeros(4, np.uint32)))

    def test_a_capsule_that_was_used_up(self):
        class Used(Capsules):
            def __dlpack__(self, **_: object) -> object:
                capsule = self.array.__dlpack__()
                np.from_dlpack(type("Once", (Capsules,), {"__dlpack__": lambda self, **_: capsule})(self.array))
                return capsule

        with pytest.raises((ValueError, TypeError)):
            fill(Used(np.zeros(4, np.uint32)))

    def test_errors_of_the_producer_come_through(self):
        class Failing(Capsules):
            def __dlpack__(self, **_: object) -> object:
                raise BufferError("exported already")

        with pytest.raises(BufferError, match="exported already"):
            fill(Failing(np.zeros(4, np.uint32)))


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")

    def test_output_and_input(self):
        out = self.torch.zeros(3, 10)
        signs = np.zeros((1, 1), np.uint32)
        core.signed_normal(KEY, 0, signs, out)
        expected = np.zeros((3, 10), np.float32)
        core.signed_normal(KEY, 0, signs, expected)
        assert np.array_equal(out.numpy(), expected)
        assert votes(out[:2]) == votes(expected[:2])

    def test_checks(self):
        with pytest.raises(TypeError, match="z has the wrong dtype"):
            votes(self.torch.zeros(2, 10, dtype=self.torch.float16))
        with pytest.raises(ValueError, match="z is not C-contiguous"):
            votes(self.torch.zeros(10, 2).T)
        with pytest.raises(ValueError, match="z has 1 dimensions"):
            votes(self.torch.zeros(10))

    def test_exchange_api_and_capsules_agree(self):
        class OnlyCapsules(Capsules):
            pass

        z = self.torch.randn(2, 10, generator=self.torch.Generator().manual_seed(1))
        assert votes(z) == votes(OnlyCapsules(z))

    def test_nothing_is_kept(self):
        z = self.torch.zeros(2, 10)
        before = sys.getrefcount(z)
        for _ in range(100):
            votes(z)
        assert sys.getrefcount(z) == before

    def test_meta_tensors(self):
        with pytest.raises((ValueError, RuntimeError, BufferError)):
            votes(self.torch.zeros(2, 10, device="meta"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": np.zeros(7, np.uint32)}, "8 words"),
        ({"key": np.zeros(9, np.uint32)}, "8 words"),
        ({"nonce": np.zeros(2, np.uint32)}, "3 words"),
    ],
)
def test_sizes_of_chacha20(arguments, message):
    with pytest.raises(ValueError, match=message):
        core.chacha20(**{"key": KEY, "nonce": NONCE, "counter": 0, "out": np.zeros(1, np.uint32)} | arguments)


@pytest.mark.parametrize(
    ("signs", "out"), [((2, 1), (3, 10)), ((0, 1), (3, 10)), ((1, 2), (3, 32)), ((1, 0), (3, 1)), ((1, 1), (3, 33))]
)
def test_sizes_of_signed_normal(signs, out):
    with pytest.raises(ValueError, match="signs must"):
        core.signed_normal(KEY, 0, np.zeros(signs, np.uint32), np.zeros(out, np.float32))


@pytest.mark.parametrize(
    ("pad", "symbols", "bits", "agreement"),
    [
        (2, 5, (3, 1), 3),
        (0, 5, (3, 1), 3),
        (1, 0, (3, 0), 3),
        (1, -1, (3, 0), 3),
        (1, 11, (3, 2), 3),
        (1, 2**62, (3, 1), 3),
        (1, 5, (2, 1), 3),
        (1, 5, (3, 1), 4),
        (1, 5, (3, 2), 3),
        (1, 9, (3, 1), 3),
    ],
)
def test_sizes_of_sign_votes(pad, symbols, bits, agreement):
    with pytest.raises(ValueError, match="must"):
        core.sign_votes(
            np.ones((3, 10), np.float32),
            np.zeros(pad, np.uint32),
            symbols,
            np.zeros(bits, np.uint8),
            np.zeros(agreement, np.int64),
        )


@pytest.mark.parametrize(
    ("soft", "information", "bits"),
    [
        (0, [], (1, 0)),
        (1, [0], (1, 1)),
        (3, [0], (1, 1)),
        (2**17, [0], (1, 1)),
        (8, [0], (0, 1)),
        (8, [0], (65, 1)),
        (8, [0, 1], (4, 1)),
        (8, [1, 0], (4, 2)),
        (8, [1, 1], (4, 2)),
        (8, [-1], (4, 1)),
        (8, [8], (4, 1)),
        (8, [-(2**31)], (4, 1)),
    ],
)
def test_sizes_of_polar_decode(soft, information, bits):
    with pytest.raises(ValueError, match="must"):
        core.polar_decode(
            np.zeros(soft, np.float32),
            np.array(information, np.int32),
            np.zeros(bits, np.uint8),
            np.zeros((bits[0], soft), np.uint8),
        )


@pytest.mark.parametrize("shape", [(3, 8), (4, 7), (4, 9)])
def test_sizes_of_the_words_of_polar_decode(shape):
    with pytest.raises(ValueError, match="words must"):
        core.polar_decode(
            np.zeros(8, np.float32), np.arange(2, dtype=np.int32), np.zeros((4, 2), np.uint8), np.zeros(shape, np.uint8)
        )


@pytest.mark.parametrize(
    ("count", "trials", "rate"), [(0, 5, 0.5), (6, 5, 0.5), (1, 5, 0.0), (1, 5, 1.0), (1, 5, np.nan)]
)
def test_ranges_of_a_binomial_tail(count, trials, rate):
    with pytest.raises(ValueError, match="must"):
        core.log_binomial_tail(count, trials, rate)


@pytest.mark.parametrize(("x", "count"), [(0.0, 5), (-1.0, 5), (np.inf, 5), (np.nan, 5), (1.0, 0)])
def test_ranges_of_a_gamma_tail(x, count):
    with pytest.raises(ValueError, match="must"):
        core.log_gamma_tail(x, count)


@pytest.mark.parametrize(
    ("likelihood", "symbols", "out"), [((3, 4), (5, 2), (3, 2)), ((3, 4), (4, 2), (3, 3)), ((3, 0), (0, 2), (3, 2))]
)
def test_sizes_of_word_ratios(likelihood, symbols, out):
    with pytest.raises(ValueError, match="must"):
        core.word_ratios(np.zeros(likelihood), np.zeros(symbols, np.uint8), np.zeros(out, np.float32))


def coloured(sites=6, words=(2, 6), counts=6):
    """Two texts of three tokens."""
    texts = np.zeros(6, np.int64), np.array([0, 3]), np.array([3, 6])
    return *texts, np.zeros(sites, np.uint32), np.zeros(words, np.uint32), np.zeros(counts, np.uint8)


@pytest.mark.parametrize(
    ("given", "table"),
    [
        ({"sites": 5}, (2, 16, 2, 4)),
        ({"words": (2, 5)}, (2, 16, 2, 4)),
        ({"counts": 7}, (2, 16, 2, 4)),
        ({}, (1, 16, 2, 4)),
        ({}, (2, 16, 1, 4)),
        ({}, (2, 12, 2, 4)),
        ({}, (2, 0, 2, 4)),
        ({}, (2, 1 << 17, 2, 1)),
        ({}, (2, 16, 2, 128)),
    ],
)
def test_sizes_of_colour_table(given, table):
    with pytest.raises(ValueError, match="must"):
        core.colour_table(*coloured(**given), np.zeros(table, np.int64))


@pytest.mark.parametrize(
    ("seeding", "green", "scores"),
    [((2, 8), (2, 16, 4), 6), ((1, 16), (2, 16, 4), 6), ((2, 16), (1, 16, 4), 6), ((2, 16), (2, 16, 4), 5)],
)
def test_sizes_of_score_colours(seeding, green, scores):
    with pytest.raises(ValueError, match="must"):
        core.score_colours(
            *coloured(), np.zeros(seeding, np.int64), np.zeros(green, np.uint8), np.zeros(scores, np.float32)
        )


@pytest.mark.parametrize(
    ("table", "seeding", "green", "hits", "units"),
    [
        ((3, 16, 2, 4), (2, 16), (2, 16, 4), 2, (2, 5)),
        ((2, 8, 2, 4), (2, 16), (2, 16, 4), 2, (2, 5)),
        ((2, 16, 2, 4), (2, 8), (2, 16, 4), 2, (2, 5)),
        ((2, 16, 2, 4), (1, 16), (2, 16, 4), 2, (2, 5)),
        ((2, 16, 2, 4), (2, 16), (2, 16, 3), 2, (2, 4)),
        ((2, 16, 2, 4), (2, 16), (2, 16, 4), 1, (2, 5)),
        ((2, 16, 2, 4), (2, 16), (2, 16, 4), 2, (2, 4)),
    ],
)
def test_sizes_of_tally_colours(table, seeding, green, hits, units):
    given = np.zeros(table, np.int64), np.zeros(seeding, np.int64), np.zeros(green, np.uint8)
    with pytest.raises(ValueError, match="must"):
        core.tally_colours(*given, np.zeros(hits, np.int64), np.zeros(units, np.int64))


@pytest.mark.parametrize("bad", [-1, 2])
def test_seedings_of_colours(bad):
    seeding, green = np.full((2, 16), bad), np.zeros((2, 16, 4), np.uint8)
    with pytest.raises(ValueError, match="seeding"):
        core.score_colours(*coloured(), seeding, green, np.zeros(6, np.float32))
    with pytest.raises(ValueError, match="seeding"):
        core.tally_colours(
            np.zeros((2, 16, 2, 4), np.int64), seeding, green, np.zeros(2, np.int64), np.zeros((2, 5), np.int64)
        )


@pytest.mark.parametrize(
    ("value", "scores", "units", "totals"), [(3, 6, 1, 1), (-1, 6, 1, 1), (0, 5, 1, 1), (0, 6, 2, 1), (0, 6, 1, 0)]
)
def test_sizes_of_score_texts(value, scores, units, totals):
    with pytest.raises(ValueError, match=r"value|must"):
        core.score_texts(
            np.zeros(6, np.int64),
            np.zeros(1, np.int64),
            np.full(1, 6),
            0,
            0,
            4,
            np.zeros(8, np.uint32),
            True,
            value,
            0,
            np.zeros(scores, np.float32),
            np.zeros(units, np.int64),
            np.zeros(totals),
        )


def test_polar_decode_survives_values_that_are_no_numbers():
    rng = np.random.default_rng(1)
    for special in (np.nan, np.inf, -np.inf):
        soft = rng.standard_normal(64).astype(np.float32)
        soft[rng.random(64) < 0.3] = special
        bits = np.zeros((32, 40), np.uint8)
        words = np.zeros((32, 64), np.uint8)
        assert core.polar_decode(soft, np.arange(24, 64, dtype=np.int32), bits, words) == 32
        assert max(bits.max(), words.max()) <= 1


@given(
    shape=st.lists(st.integers(0, 5), max_size=4).map(tuple),
    dtype=st.sampled_from(["<u4", ">u4", "<i4", "<f4", "<u8", "<u2"]),
    order=st.sampled_from("CF"),
    step=st.integers(1, 3),
    offset=st.integers(0, 3),
    writeable=st.booleans(),
)
def test_any_array_is_filled_or_refused(shape, dtype, order, step, offset, writeable):
    """An array is taken exactly if it is uint32, one-dimensional, contiguous, aligned and writeable."""
    itemsize = np.dtype(dtype).itemsize
    size = int(np.prod(shape))
    buffer = np.zeros(offset + itemsize * size * step + 8, np.uint8)
    array = buffer[offset : offset + itemsize * size * step].view(dtype)[::step].reshape(shape, order=order)
    array.setflags(write=writeable)
    good = (
        array.dtype == np.uint32
        and array.ndim == 1
        and writeable
        and (array.size <= 1 or array.flags.c_contiguous)
        and (array.size == 0 or array.flags.aligned)
    )
    try:
        fill(array)
    except (TypeError, ValueError):
        assert not good
        assert not buffer.any()
    else:
        assert good
        assert np.array_equal(array, expected_words(array.size))


def test_items_of_no_size_are_refused():
    with pytest.raises(TypeError):
        core.half_normal(np.empty(3, "V0"), np.empty(3, np.float32))


@pytest.mark.parametrize(("scales", "rows"), [(2**63 - 1, 3), (-1, 3), (5, 0)])
def test_searches_stay_in_their_table(scales, rows):
    table, lines = np.zeros((530, 448), np.uint8), np.full((2, 32), 7, np.int32)
    with pytest.raises(ValueError, match=r"table|row"):
        core.search(table, lines, lines, scales, np.zeros((rows, 4), np.int32))


@pytest.mark.parametrize("factor", [np.inf, np.nan, 0.0])
def test_reductions_are_finite(factor):
    taps, means = np.ones(3, np.float32), np.zeros((3, 1, 1), np.float32)
    with pytest.raises(ValueError, match="factor"):
        core.limited_high_pass(np.zeros((4, 4, 3), np.uint8), factor, [3.0], taps, 1, 1, means[None], None)
