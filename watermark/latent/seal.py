"""SEAL: noise that says what the picture shows (Arabi et al., ICCV 2025), redesigned around a key.

A vector that stands for the content is hashed to a few bits per patch of the latent, and these bits pick the patch's
noise among the keyed ones. A detector that is given the content of the picture it looks at knows which noise must be
there: a mark that was moved to other content is not accepted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.detection import MAX_LOG10_P_OF_PAYLOAD, Detection, Detections
from watermark.errors import MediaError, ParameterError
from watermark.latent.noise import LatentScheme, check_shape
from watermark.ops import patch as ops
from watermark.ops._native import is_cuda, to_device, to_host
from watermark.ops.chacha import chacha20
from watermark.payload import Frame
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import LN10, log_angular_tail, log_binomial_tail, log_fisher, log_sidak

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermark.key import Key
    from watermark.prf import Prf

BITS = 7
"""Bits of the hash per patch."""
CODES = 1 << BITS
ANGLE = 60.0
"""Degrees between two contents from which on a mark for the one is none for the other."""
_ROUNDING = 0.005  # above what rounding of projections and contents can add to the chance of an equal bit
_CHANCE = 0.05  # of foreign noise to match a patch
_STEPS = 2048  # of a cosine in the table of a patch's p-values
_REACH = 1  # patches on each side that a cell of the presence map looks at
_MAX_PATCHES, _MAX_DIMENSION, _MAX_TABLE = 1 << 20, 4096, 1 << 26
_MATCH_BYTES = 1 << 26  # held at a time
_FRAME = Frame(0)


@dataclass(frozen=True, slots=True)
class SealParameters:
    """Parameters of `latent.seal`.

    Attributes:
        shape: Shape of one latent: (channels, height, width), or (frames, channels, height, width).
        dimension: Length of a content vector, 2 to 4096.
        salt_bits: One content has 2^salt_bits different samples, of which each call draws one; 0 to 12.
    """

    shape: tuple[int, ...] = (4, 64, 64)
    dimension: int = 256
    salt_bits: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", check_shape(self.shape))
        object.__setattr__(self, "dimension", whole(self.dimension, "dimension", 2, _MAX_DIMENSION))
        object.__setattr__(self, "salt_bits", whole(self.salt_bits, "salt_bits", 0, 12))
        if len(self.shape) < 3 or min(self.shape[-2:]) < 2:
            raise ParameterError(f"a latent has channels and at least 2 x 2 places, and shape is {self.shape}")
        patches = math.prod(_grid(self.shape))
        table = patches * max(BITS * self.dimension, 1 << self.salt_bits)
        if patches > _MAX_PATCHES or table > _MAX_TABLE:
            raise ParameterError(
                f"{patches} patches, {self.dimension} dimensions and {self.salt_bits} salt bits need too large tables"
            )


def _grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the patches: a patch is 2 x 2 places with all their channels; an odd last row or column has none."""
    return (*shape[:-3], shape[-2] // 2, shape[-1] // 2)


class Seal(LatentScheme):
    """The mark `latent.seal`.

    `sample` and `detect` take `content`: a vector of the picture's meaning, such as those of
    `watermark.reference.embedders`. The mark has no message.

    The p-value tests that the latent carries *no mark for this content*: no mark of this key, or one that was made for
    content at `ANGLE` degrees or more. It is a bound, for any latent. ``details["unbound_log10_p"]`` tests that there
    is no mark at all, whatever its content.
    """

    info = SchemeInfo(
        name="latent.seal",
        modality="latent",
        null="bound",
        fixed_key=FixedKey(1.0, 1.0, "iid normal latents, on which every key has one law: benchmarks/null.py"),
        distortion_free=False,
        payload="none",
        security_bits=30,
    )
    Parameters = SealParameters
    parameters: SealParameters

    def sample(self, payload: bytes | None = None, *, rng: Any = None, like: Any = None, content: Any = None) -> Any:
        """Marked noise for one image.

        Args:
            payload: None, or an empty message: the mark carries none.
            rng: As in `LatentScheme.sample`.
            like: As in `LatentScheme.sample`.
            content: Vector of what the image will show: `dimension` finite numbers, not all zero.

        Returns:
            float32 of `shape`, distributed as N(0, 1).

        Raises:
            PayloadError: There is a message.
            ParameterError: `content` is missing, or no such vector.
        """
        return self.sample_batch(1, [payload], rng=rng, like=like, content=content)[0]

    def sample_batch(
        self,
        rows: int,
        payload: bytes | Sequence[bytes | None] | None = None,
        *,
        rng: Any = None,
        like: Any = None,
        content: Any = None,
    ) -> Any:
        r"""Marked noise for `rows` images, each with a salt of its own.

        Args:
            rows: Number of latents.
            payload: None, or an empty message: the mark carries none.
            rng: As in `LatentScheme.sample`.
            like: As in `LatentScheme.sample`.
            content: One vector for all, or one per row: shape (dimension,) or (rows, dimension).

        Returns:
            float32 of shape (rows, \*shape).

        Raises:
            PayloadError: There is a message.
            ParameterError: `content` is missing or no such vectors; otherwise as in `LatentScheme.sample_batch`.
        """
        return self._sampled(partial(self._fill, vectors=self._vectors(content)), rows, payload, rng, like)

    def detect(self, media: Any, *, content: Any = None) -> Detection:
        """The verdict on one latent that is said to show `content`.

        Args:
            media: Array or tensor of `shape`; any float dtype.
            content: Vector of what the image shows, made like that of `sample`.

        Raises:
            MediaError: Wrong shape or dtype, or values that are not finite.
            ParameterError: `content` is missing, or no such vector.
        """
        return self._verdicts(partial(self._read, vectors=self._vectors(content)), media, batch=False)[0]

    def detect_batch(self, items: Any, *, content: Any = None) -> Detections:
        r"""The verdicts on many latents.

        Args:
            items: Array or tensor of shape (rows, \*shape), or a list or an iterator of latents.
            content: One vector for all, or one per row.

        Returns:
            One verdict per latent; the columns lie where CUDA latents do.

        Raises:
            MediaError: Wrong shape or dtype, or values that are not finite.
            ParameterError: `content` is missing, no such vectors, or their number is not that of the latents.
        """
        return self._verdicts(partial(self._read, vectors=self._vectors(content)), items, batch=True)

    def _vectors(self, content: Any) -> NDArray[np.int16]:
        """Contents as int16 of shape (1 | rows, dimension), all of one length but for rounding."""
        dimension = self.parameters.dimension
        if content is None:
            raise ParameterError("latent.seal binds a mark to what the image shows: pass its vector as content=")
        if getattr(content, "is_cuda", False):
            content = content.cpu()
        try:
            given = np.asarray(content.detach() if hasattr(content, "detach") else content)
            v = given.astype(np.float64) if given.dtype.kind in "iuf" else None
        except (TypeError, ValueError, RuntimeError):
            v = None
        if v is None or v.ndim not in (1, 2) or v.shape[-1] != dimension:
            shape = "no array of numbers" if v is None else f"of shape {v.shape}"
            raise ParameterError(f"content is a vector of {dimension} numbers, or one per row, and this is {shape}")
        largest = np.abs(v).max(axis=-1, keepdims=True)
        if not np.isfinite(v).all() or not largest.all():
            raise ParameterError("content holds numbers that are not finite, or a vector of zeros")
        v = np.atleast_2d(v / largest)
        length = np.array([math.sqrt(math.fsum(row)) for row in v * v])  # rounds alike on every machine
        return np.asarray(np.rint(v * (ops.VECTOR_SCALE / length)[:, None]), np.int16)

    @property
    def _width(self) -> int:
        """Values of one patch."""
        return 4 * self.shape[-3]

    @property
    def _sides(self) -> tuple[int, int, int, int]:
        """Frames, channels, and rows and columns of patches."""
        *lead, down, across = _grid(self.shape)
        return math.prod(lead), self.shape[-3], down, across

    def _bind(self, key: Key) -> _Tables:
        return _Tables(key, self.parameters)

    def _fill(
        self,
        out: Any,
        payloads: Sequence[bytes | None],
        one_payload: bool,
        noise: NDArray[np.uint32],
        vectors: Any = None,
    ) -> None:
        for payload in payloads[:1] if one_payload else payloads:
            _FRAME.encode(payload)
        _check_rows(vectors, len(out))
        tables: _Tables = self._tables[0]
        rows, elements = len(out), math.prod(self.shape)
        beside = 0 if math.prod(_grid(self.shape)) * self._width == elements else elements
        fresh = np.empty((rows, 1 + beside), np.uint32)
        for row in range(rows):
            fresh[row] = chacha20(noise, np.array([0, row, 0], np.uint32), 1 + beside)
        if beside:  # an odd last row or column has no patches: plain noise
            plain = ops.normals(np.ascontiguousarray(fresh[:, 1:]).ravel()).reshape(out.shape)
            out[:] = plain if isinstance(out, np.ndarray) else out.new_tensor(plain)
        weights, masks = tables.on(out)
        codes = ops.simhash(weights, vectors) ^ masks[(fresh[:, 0] % len(masks)).astype(np.int64)]
        shape = rows, codes.shape[1], self._width
        patches = np.empty(shape, np.float32) if isinstance(out, np.ndarray) else out.new_empty(shape)
        ops.patch_noise(tables.noise, codes, CODES, patches)
        frames, channels, down, across = self._sides
        patches = patches.reshape(rows, frames, down, across, channels, 2, 2)
        whole_patches = out.reshape(rows, frames, *self.shape[-3:])[..., : 2 * down, : 2 * across]
        whole_patches[...] = _turned(patches, (0, 1, 4, 2, 5, 3, 6)).reshape(whole_patches.shape)

    def _read(self, tables: _Tables, z: Any, key_id: str, vectors: Any = None) -> Detections:
        _check_rows(vectors, len(z))
        if not bool((np.isfinite(z) if isinstance(z, np.ndarray) else z.isfinite()).all()):
            raise MediaError("the latent holds values that are not finite")
        frames, channels, down, across = self._sides
        latents = z.reshape(len(z), frames, *self.shape[-3:])[..., : 2 * down, : 2 * across]
        patches = _turned(latents.reshape(len(z), frames, channels, down, 2, across, 2), (0, 1, 3, 5, 2, 4, 6))
        patches = patches.reshape(len(z), frames * down * across, self._width)
        weights, masks = tables.on(z)
        codes = ops.simhash(weights, vectors)
        step = max(1, _MATCH_BYTES // (patches.shape[1] * CODES // 8))
        best, counts = np.empty(patches.shape[:2], np.float32), np.empty((len(z), len(masks)), np.int32)
        for first in range(0, len(z), step):
            part = slice(first, first + step)
            cosines, matches = ops.patch_search(tables.noise, patches[part], CODES, _least(self._width))
            best[part] = to_host(cosines)
            counts[part] = to_host(ops.patch_counts(matches, codes if len(codes) == 1 else codes[part], masks))
        return self._judged(best, counts, key_id)

    def _judged(self, best: NDArray[np.float32], counts: NDArray[np.int32], key_id: str) -> Detections:
        """Verdicts from the best cosine of each patch (rows, patches) and the matches with each salt (rows, salts)."""
        rows, patches = best.shape
        pays = math.log(counts.shape[1])
        # The chance of a match if this patch carries noise for content at ANGLE: the same noise, or by accident.
        same = (1 - ANGLE / 180 + _ROUNDING) ** BITS
        rate = same + (1 - same) * _CHANCE
        matched = counts.max(axis=1)
        log_p = np.array([log_binomial_tail(count, patches, rate) for count in matched.tolist()], np.float64)
        log10_p = np.minimum(log_p + pays, 0.0) / LN10
        log_patch, scores = _patch_law(self._width)
        step = np.clip(best * _STEPS, 0, _STEPS - 1).astype(np.int64)
        grid = rows, *_grid(self.shape)
        columns: dict[str, Sequence[Any] | NDArray[Any]] = {
            "unbound_log10_p": [log_fisher(row.tolist()) / LN10 for row in log_patch[step]],
            "patch_p": np.exp(log_patch)[step].reshape(grid),
            "presence": _smoothed(scores[step].reshape(grid)).astype(np.float32),
            "presence_cell": [2] * rows,
            "salt": counts.argmax(axis=1).tolist(),
        }
        if (floor := patches * math.log(rate) + pays) > -700:
            columns["p_floor"] = [min(1.0, math.exp(floor))] * rows
        details = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        n, vouched = [patches] * rows, log10_p <= MAX_LOG10_P_OF_PAYLOAD
        return Detections(self.name, [key_id] * rows, log10_p, matched / patches, n, [b""] * rows, vouched, details)


class _Tables:
    """What one key gives, made when it is first needed."""

    def __init__(self, key: Key, parameters: SealParameters) -> None:
        self._salts: Prf = key.derive("latent.seal/1/salts")
        self._simhash: Prf = key.derive("latent.seal/1/simhash")
        self.noise: NDArray[np.uint32] = key.derive("latent.seal/1/noise").key_words
        self._patches, self._parameters = math.prod(_grid(parameters.shape)), parameters
        self._on_devices: dict[Any, tuple[Any, Any]] = {}

    def on(self, z: Any) -> tuple[Any, Any]:
        """`weights` and `masks` where z lies; copies on devices are kept."""
        if not is_cuda(z):
            return self.weights, self.masks
        found = self._on_devices.get(z.device)
        if found is None:
            found = to_device(self.weights, z), to_device(self.masks, z)
        return self._on_devices.setdefault(z.device, found)

    @cached_property
    def weights(self) -> NDArray[np.int16]:
        """Projections: int16 of shape (patches, BITS, dimension)."""
        shape = self._patches, BITS, self._parameters.dimension
        return ops.projections(self._simhash.key_words, math.prod(shape)).reshape(shape)

    @cached_property
    def masks(self) -> NDArray[np.uint8]:
        """What each salt turns in the codes: uint8 of shape (salts, patches)."""
        shape = 1 << self._parameters.salt_bits, self._patches
        octets = self._salts.words(-(-math.prod(shape) // 4)).astype("<u4", copy=False).view(np.uint8)
        return octets[: math.prod(shape)].reshape(shape) & np.uint8(CODES - 1)


def _check_rows(vectors: NDArray[np.int16], rows: int) -> None:
    if len(vectors) not in (1, rows):
        raise ParameterError(f"content must be one vector, or one per latent: {len(vectors)} came for {rows}")


@lru_cache(maxsize=32)
def _least(width: int) -> float:
    """The cosine from which on noise matches: foreign noise gets there with probability `_CHANCE`."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if log_angular_tail(middle, width) > math.log(_CHANCE) else (low, middle)
    return float(np.float32(high))


@lru_cache(maxsize=32)
def _patch_law(width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the best cosine among all of a patch's noises: ln p and standard score, by its step from 0 to 1.

    A cosine counts as the lower end of its step: p is never too small.
    """
    log_p = np.array([log_sidak(log_angular_tail(step / _STEPS, width), CODES) for step in range(_STEPS)])
    normal = NormalDist()
    return log_p, np.array([-normal.inv_cdf(min(max(math.exp(p), 1e-300), 1 - 1e-12)) for p in log_p])


def _smoothed(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard scores of the squares around each patch: sums over the square by the root of their number."""
    sums, counts = scores, np.ones(scores.shape)
    for axis in (-2, -1):
        sums, counts = _box(sums, axis), _box(counts, axis)
    return sums / np.sqrt(counts)


def _box(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Sums over up to 2 `_REACH` + 1 neighbours along an axis."""
    padding = [(0, 0)] * values.ndim
    padding[axis] = (_REACH, _REACH)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, padding), 2 * _REACH + 1, axis=axis)
    return np.asarray(windows.sum(axis=-1))


def _turned(array: Any, axes: tuple[int, ...]) -> Any:
    """An array or a tensor with its axes in this order, C-contiguous."""
    return (
        np.ascontiguousarray(array.transpose(axes))
        if isinstance(array, np.ndarray)
        else array.permute(axes).contiguous()
    )
