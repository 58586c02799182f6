"""The engine of latent marks, by way of Gaussian Shading: shapes, batches, frameworks, randomness, bad input."""

from __future__ import annotations

import numpy as np
import pytest

import watermark
from watermark import CudaError, Detections, MediaError, ParameterError, PayloadError
from watermark.latent import noise


@pytest.fixture
def scheme(key):
    return watermark.load("latent.gaussian_shading", key, shape=(2, 16, 16), payload_bits=24)


class TestSample:
    def test_shape_dtype_and_freshness(self, scheme):
        z = scheme.sample(b"abc")
        assert (z.shape, z.dtype) == ((2, 16, 16), np.float32)
        assert not np.array_equal(z, scheme.sample(b"abc"))

    def test_a_seed_repeats_and_row_0_is_the_single_sample(self, scheme):
        batch = scheme.sample_batch(3, b"abc", rng=7)
        assert batch.shape == (3, 2, 16, 16)
        assert np.array_equal(batch, scheme.sample_batch(3, b"abc", rng=7))
        assert np.array_equal(batch[0], scheme.sample(b"abc", rng=7))
        assert np.array_equal(batch[:2], scheme.sample_batch(2, b"abc", rng=7))
        assert len({row.tobytes() for row in batch}) == 3

    def test_schemes_of_one_key_and_seed_share_no_sizes(self, key):
        """Two latents with the same magnitudes would tell which signs the marks differ in."""
        names = "gaussian_shading", "prc"
        a, b = (np.abs(watermark.load(f"latent.{name}", key).sample(rng=7)) for name in names)
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)

    def test_a_payload_per_row(self, scheme):
        payloads = [b"a", None, b"ccc"]
        batch = scheme.sample_batch(3, payloads, rng=7)
        assert scheme.detect_batch(batch).payload == (b"a", b"", b"ccc")
        alone = [scheme.sample_batch(3, p, rng=7)[i] for i, p in enumerate(payloads)]
        assert np.array_equal(batch, np.stack(alone))

    def test_no_rows(self, scheme):
        assert scheme.sample_batch(0).shape == (0, 2, 16, 16)
        assert scheme.sample_batch(0, []).shape == (0, 2, 16, 16)

    @pytest.mark.parametrize("rows", [-1, 1.0, "2", None, True])
    def test_rows_is_a_number(self, scheme, rows):
        with pytest.raises(ParameterError):
            scheme.sample_batch(rows)

    def test_the_number_of_payloads_is_the_number_of_rows(self, scheme):
        with pytest.raises(PayloadError):
            scheme.sample_batch(3, [b"a", b"b"])
        with pytest.raises(PayloadError):
            scheme.sample_batch(2, ["a", "b"])
        with pytest.raises(PayloadError):
            scheme.sample("abc")

    @pytest.mark.parametrize("like", ["torch", [0.0], 3, object()])
    def test_like_is_an_array(self, scheme, like):
        with pytest.raises(ParameterError):
            scheme.sample(like=like)

    def test_like_numpy_is_float32_whatever_it_holds(self, scheme):
        assert scheme.sample(like=np.zeros(1, np.float64)).dtype == np.float32

    def test_like_torch(self, scheme):
        torch = pytest.importorskip("torch")
        z = scheme.sample(b"abc", rng=7, like=torch.zeros(1, dtype=torch.float16))
        assert (z.dtype, z.device.type, tuple(z.shape)) == (torch.float32, "cpu", (2, 16, 16))
        assert np.array_equal(z.numpy(), scheme.sample(b"abc", rng=7))

    def test_like_an_unknown_device(self, scheme):
        torch = pytest.importorskip("torch")
        with pytest.raises(CudaError, match="meta"):
            scheme.sample(like=torch.zeros(1, device="meta"))


class TestDetect:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4", ">f8"])
    def test_any_float(self, scheme, dtype):
        z = scheme.sample(b"abc", rng=7)
        assert scheme.detect(z.astype(dtype)) == scheme.detect(z)

    def test_any_memory_layout(self, scheme):
        z = scheme.sample(b"abc", rng=7)
        expected = scheme.detect(z)
        read_only = z.copy()
        read_only.setflags(write=False)
        unaligned = np.frombuffer(b"\0" + z.tobytes(), np.uint8)[1:].view(np.float32).reshape(z.shape)
        for same in (np.asfortranarray(z), z[::-1][::-1], np.repeat(z, 2, axis=2)[:, :, ::2], read_only, unaligned):
            assert scheme.detect(same) == expected

    def test_batches(self, scheme):
        batch = scheme.sample_batch(4, [b"a", b"b", b"c", None], rng=3)
        expected = Detections.of([scheme.detect(z) for z in batch])
        for same in (batch, list(batch), tuple(batch)):
            found = scheme.detect_batch(same)
            assert found == expected
            assert found.scheme == scheme.name

    def test_a_batch_may_be_an_iterator_of_any_floats(self, scheme):
        a, b = scheme.sample_batch(2, [b"a", b"b"], rng=3)
        found = scheme.detect_batch(z for z in (a.astype(np.float64), b))
        assert found == scheme.detect_batch([a, b])

    def test_tensors_without_the_values_that_kernels_read(self, scheme):
        torch = pytest.importorskip("torch")
        z = torch.from_numpy(scheme.sample(b"abc", rng=7))
        nested = torch.nested.nested_tensor([z], layout=torch.jagged)
        for media in (torch.empty((2, 16, 16), device="meta"), z.to_sparse(), nested):
            with pytest.raises(MediaError, match="dense"):
                scheme.detect(media)
            with pytest.raises(MediaError, match="dense"):
                scheme.detect_batch([media])
        expected = scheme.detect(-z.numpy())
        assert scheme.detect(torch._neg_view(z)) == expected
        assert scheme.detect_batch([torch._neg_view(z)])[0] == expected
        assert len(scheme.detect_batch(torch.zeros((0, 2, 16, 16)))) == 0

    def test_a_batch_has_one_framework(self, scheme):
        torch = pytest.importorskip("torch")
        z = scheme.sample(rng=7)
        for items in ([z, torch.from_numpy(z)], [torch.from_numpy(z), z]):
            with pytest.raises(MediaError, match="one device"):
                scheme.detect_batch(items)

    @pytest.mark.parametrize("items", [[], (), iter(()), np.empty((0, 2, 16, 16), np.float32)])
    def test_an_empty_batch(self, scheme, items):
        found = scheme.detect_batch(items)
        assert (len(found), found.scheme) == (0, "latent.gaussian_shading")

    def test_torch(self, scheme):
        torch = pytest.importorskip("torch")
        z = scheme.sample(b"abc", rng=7)
        expected = scheme.detect(z)
        tensor = torch.from_numpy(z)
        half = scheme.detect(tensor.to(torch.bfloat16))
        assert scheme.detect(tensor) == expected
        assert scheme.detect(tensor.double().requires_grad_()) == expected
        assert scheme.detect(tensor.transpose(1, 2).contiguous().transpose(1, 2)) == expected
        assert half.payload == b"abc"
        assert scheme.detect_batch([tensor, tensor])[1] == expected
        assert scheme.detect_batch(torch.stack([tensor, tensor]))[0] == expected

    @pytest.mark.parametrize("name", ["gaussian_shading", "prc", "ring_id", "seal", "tree_ring"])
    def test_columns_lie_where_the_latents_do(self, keys, name, monkeypatch):
        """Tensors on the CPU, taken for ones on CUDA when the columns are placed: the kernels read either."""
        torch = pytest.importorskip("torch")
        about = {"content": np.arange(1, 257)} if name == "seal" else {}
        ring = watermark.Keyring([keys(1), keys(2)])
        schemes = [watermark.load(f"latent.{name}", key) for key in (ring, keys(2))]
        z = schemes[1].sample_batch(3, rng=1, **about)
        z[1] = np.random.default_rng(1).standard_normal(z[1].shape)
        expected = [scheme.detect_batch(z, **about) for scheme in schemes]
        assert expected[0][0].details["keys_tried"] == 2
        assert expected[0].key_id[0] == expected[0].key_id[2] == keys(2).id
        monkeypatch.setattr(noise, "is_cuda", torch.is_tensor)
        for scheme, wanted in zip(schemes, expected, strict=True):
            found = scheme.detect_batch(torch.from_numpy(z), **about)
            for column in ("log10_p", "p_value", "score", "n", "payload_ok"):
                assert torch.is_tensor(getattr(found, column))
                assert np.array_equal(getattr(found, column).numpy(), getattr(wanted, column))
            assert found == wanted
            assert found[:2] == wanted[:2]
            assert found.detected(1e-6).tolist() == [True, False, True]
            assert torch.is_tensor(scheme.detect_batch(torch.from_numpy(z[:0]), **about).score)

    @pytest.mark.parametrize(
        "media",
        [
            None,
            "latent",
            [[0.0]],
            np.zeros((2, 16, 15), np.float32),
            np.zeros((1, 2, 16, 16), np.float32),
            np.zeros(512, np.float32),
            np.zeros((2, 16, 16), np.int32),
            np.zeros((2, 16, 16), np.complex64),
            np.zeros((2, 16, 16), bool),
            np.zeros((2, 16, 16), object),
            np.full((2, 16, 16), np.nan, np.float32),
            np.full((2, 16, 16), 1e300),
            np.ma.masked_array(np.zeros((2, 16, 16)), mask=True),
        ],
    )
    def test_what_is_no_latent(self, scheme, media):
        with pytest.raises(MediaError):
            scheme.detect(media)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("at", [0, 255, 511])
    def test_one_value_that_is_not_finite(self, scheme, value, at):
        z = scheme.sample(rng=1)
        z.flat[at] = value
        with pytest.raises(MediaError, match="finite"):
            scheme.detect(z)
        with pytest.raises(MediaError, match="finite"):
            scheme.detect_batch([scheme.sample(rng=1), z])

    @pytest.mark.parametrize(
        "items",
        [
            None,
            7,
            "latents",
            [np.ma.masked_array(np.zeros((2, 16, 16)), mask=True)],
            [np.zeros((2, 16, 16)).tolist()],
            [np.zeros((2, 16, 16)), np.zeros((2, 16, 15))],
            [None],
            ["a"],
            [[]],
            np.zeros((2, 16, 16)),
        ],
    )
    def test_what_is_no_batch(self, scheme, items):
        with pytest.raises(MediaError):
            scheme.detect_batch(items)

    def test_the_media_stays_as_it_was(self, scheme):
        z = scheme.sample(rng=1)
        before = z.copy()
        scheme.detect(z)
        assert np.array_equal(z, before)


class TestShapes:
    @pytest.mark.parametrize("shape", [(512,), (4, 64, 64), (16, 3, 20, 11), (1, 1, 1, 328)])
    def test_with_shape(self, scheme, shape):
        other = scheme.with_shape(shape)
        assert (other.shape, other.key, other.parameters.payload_bits) == (shape, scheme.key, 24)
        assert other.detect(other.sample(b"abc")).payload == b"abc"
        assert scheme.shape == (2, 16, 16)

    @pytest.mark.parametrize("shape", [5, None, "abc", (), (4.0, 64), (0, 512)])
    def test_with_what_is_no_shape(self, scheme, shape):
        with pytest.raises(ParameterError):
            scheme.with_shape(shape)

    def test_numbers_of_numpy(self, scheme):
        shape = tuple(np.array([4, 16, 16]))
        assert scheme.with_shape(shape).shape == (4, 16, 16)
        assert scheme.with_shape(list(shape)).profile() == scheme.with_shape((4, 16, 16)).profile()
        assert scheme.sample_batch(np.int64(2)).shape == (2, 2, 16, 16)

    @pytest.mark.parametrize(
        "shape", [(), (0, 4), (-4, 64), (4.0, 64), ("4", 64), 64, None, (2**20, 2**20), (True, 512), (4, 4)]
    )
    def test_shapes_that_cannot_be(self, key, shape):
        with pytest.raises(ParameterError):
            watermark.load("latent.gaussian_shading", key, shape=shape)

    def test_lists_are_taken_for_tuples(self, key):
        assert watermark.load("latent.gaussian_shading", key, shape=[4, 64, 64]).shape == (4, 64, 64)
