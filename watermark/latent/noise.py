"""The engine of latent marks: shapes, batches and frameworks. A scheme says what the signs are and how to read them."""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.detection import Detection, Detections, over_keys
from watermark.errors import CudaError, MediaError, ParameterError
from watermark.ops._native import is_cuda
from watermark.prf import Prf, seed
from watermark.scheme import Scheme, each, per_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_MAX_ELEMENTS, _MAX_ROWS = 1 << 28, 1 << 24


class LatentScheme(Scheme):
    """A mark in initial noise.

    `sample` gives float32 noise that a diffusion model takes as it is, `detect` reads an inverted latent. Over the key
    a sample has the law N(0, 1)^n, unless the scheme says otherwise; what differs is who can tell.
    """

    @cached_property
    def _randomness(self) -> Prf:
        return self.key.derive(f"{self.name}/1/randomness")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one latent, such as (4, 64, 64)."""
        shape: tuple[int, ...] = self.parameters.shape
        return shape

    def with_shape(self, shape: Sequence[int]) -> Self:
        """The same scheme and keys for latents of another shape.

        Raises:
            ParameterError: The shape is none, or too small for the payload.
        """
        return type(self)(self.keyring, replace(self.parameters, shape=check_shape(shape)))

    @abstractmethod
    def _fill(self, out: Any, payloads: Sequence[bytes | None], one_payload: bool, noise: NDArray[np.uint32]) -> None:
        """Writes samples.

        Args:
            out: float32 of shape (rows, n), C-contiguous; NumPy or a tensor.
            payloads: One message per row.
            one_payload: Whether all of them are the same.
            noise: ChaCha20 key of the fresh randomness; row i uses its stream i.
        """

    def _observe(self, z: Any) -> Any:
        """What the detector needs of the latents, whatever the key: by default all of them.

        Args:
            z: float32 of shape (rows, n), C-contiguous; NumPy or a tensor.

        Raises:
            MediaError: A value is not finite.
        """
        return z

    @abstractmethod
    def _read(self, tables: Any, seen: Any, key_id: str) -> Detections:
        """One key's verdicts on what `_observe` returned, one per row.

        Raises:
            MediaError: A value is not finite.
        """

    def sample(self, payload: bytes | None = None, *, rng: Any = None, like: Any = None) -> Any:
        """Marked noise for one image.

        Args:
            payload: The message; None leaves it empty.
            rng: Source of the fresh randomness: None asks the operating system; an int, a NumPy Generator or a
                torch.Generator is read once.
            like: An array or tensor whose framework and device the result takes. Default: NumPy.

        Returns:
            float32 of `shape`, distributed as N(0, 1). Equals row 0 of `sample_batch` with the same `rng`.

        Raises:
            PayloadError: The message does not fit.
        """
        return self.sample_batch(1, [payload], rng=rng, like=like)[0]

    def sample_batch(
        self,
        rows: int,
        payload: bytes | Sequence[bytes | None] | None = None,
        *,
        rng: Any = None,
        like: Any = None,
    ) -> Any:
        r"""Marked noise for `rows` images, each with randomness of its own.

        Args:
            rows: Number of latents.
            payload: One message for all, or one per row.
            rng: As in `sample`.
            like: As in `sample`.

        Returns:
            float32 of shape (rows, \*shape).

        Raises:
            PayloadError: A message does not fit, or their number is not `rows`.
            ParameterError: `rows` is not 0 to 2^24, or `rng` or `like` is of an unknown type.
        """
        return self._sampled(self._fill, rows, payload, rng, like)

    def _sampled(self, fill: Callable[..., None], rows: int, payload: Any, rng: Any, like: Any) -> Any:
        """What `sample_batch` returns, written by `fill`, which takes what `_fill` takes."""
        rows = whole(rows, "the number of latents", 0, _MAX_ROWS)
        payloads = per_row(payload, rows)
        one_payload = not isinstance(payload, (list, tuple))
        out = _empty_like(like, (rows, math.prod(self.shape)))
        # Keyed, too: whoever knows a seed that was published with its picture must not know the sizes of the noise.
        fill(out, payloads, one_payload, self._randomness.child(seed(rng)).key_words)
        return out.reshape(rows, *self.shape)

    def detect_batch(self, items: Any) -> Detections:
        r"""The verdicts on many latents.

        Args:
            items: Array or tensor of shape (rows, \*shape), or a list or an iterator of latents.

        Returns:
            One verdict per latent; the columns lie where CUDA latents do.

        Raises:
            MediaError: Wrong shape or dtype, or values that are not finite.
        """
        return self._verdicts(self._read, items, batch=True)

    def detect(self, media: Any) -> Detection:
        """The verdict on one latent.

        Args:
            media: Array or tensor of `shape`; any float dtype.

        Raises:
            MediaError: Wrong shape or dtype, or values that are not finite.
        """
        return self._verdicts(self._read, media, batch=False)[0]

    def _verdicts(self, read: Callable[..., Detections], latents: Any, *, batch: bool) -> Detections:
        """Verdicts by `read`, which takes what `_read` takes, on one latent or a batch of them."""
        z = _rows(latents, self.shape, batch=batch)
        seen = self._observe(z)
        found = over_keys([read(tables, seen, key.id) for tables, key in zip(self._tables, self.keyring, strict=True)])
        return found.to(z.device) if batch and is_cuda(z) else found


def check_shape(shape: Any) -> tuple[int, ...]:
    """The shape of one latent as plain numbers.

    Raises:
        ParameterError: It is no list or tuple of positive whole numbers, or has too many elements.
    """
    if not isinstance(shape, (list, tuple)) or not shape:
        raise ParameterError(f"shape must be the shape of one latent, such as (4, 64, 64), not {shape!r}")
    sides = tuple(whole(side, "each side of a latent", 1, _MAX_ELEMENTS) for side in shape)
    if math.prod(sides) > _MAX_ELEMENTS:
        raise ParameterError(f"a latent of shape {sides} has more than {_MAX_ELEMENTS} elements")
    return sides


def _empty_like(like: Any, shape: tuple[int, int]) -> Any:
    """Uninitialised float32 in the framework and on the device of `like`."""
    if like is None or isinstance(like, np.ndarray):
        return np.empty(shape, np.float32)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        if like.device.type not in ("cpu", "cuda"):
            raise CudaError(f"latents are sampled on the CPU or on CUDA, not on {like.device}")
        return torch.empty(shape, dtype=torch.float32, device=like.device)
    raise ParameterError(f"like must be a NumPy array or a torch tensor, not {type(like).__name__}")


def _rows(latents: Any, shape: tuple[int, ...], *, batch: bool) -> Any:
    """Latents as float32 of shape (rows, n), C-contiguous, in the framework and on the device that they came in."""
    torch = sys.modules.get("torch")
    tensor = torch is not None and isinstance(latents, torch.Tensor)
    if not tensor and not isinstance(latents, np.ndarray):
        if batch:
            return _joined([_rows(latent, shape, batch=False) for latent in each(latents)], math.prod(shape))
        raise MediaError(f"a latent is a NumPy array or a torch tensor of shape {shape}, not {type(latents).__name__}")
    if isinstance(latents, np.ma.MaskedArray):
        raise MediaError("a latent has all its values, and this array is masked: fill it first")
    strided = not tensor or (str(latents.layout) == "torch.strided" and not latents.is_nested)
    if not strided or (tensor and latents.device.type not in ("cpu", "cuda")):
        raise MediaError(f"a latent is a dense tensor on the CPU or on CUDA, not {latents.layout} on {latents.device}")
    if tuple(latents.shape[1:] if batch else latents.shape) != shape:
        wanted = ("rows", *shape) if batch else shape
        raise MediaError(f"expected latents of shape {wanted}, not {tuple(latents.shape)}; see with_shape()")
    if not (latents.is_floating_point() if tensor else latents.dtype.kind == "f"):
        raise MediaError(f"a latent holds floating-point numbers, not {latents.dtype}")
    flat = latents.reshape(latents.shape[0] if batch else 1, math.prod(shape))
    if tensor:
        return flat.detach().float().resolve_neg().contiguous()  # torch negates lazily; kernels read the memory
    if flat.dtype == np.float32 and flat.flags.c_contiguous and flat.flags.aligned:
        return flat
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite and is refused as such
        return flat.astype(np.float32, order="C")


def _joined(rows: list[Any], elements: int) -> Any:
    """Arrays or tensors of shape (1, elements) as one."""
    if all(isinstance(row, np.ndarray) for row in rows):
        return np.concatenate([np.empty((0, elements), np.float32), *rows])
    try:
        return sys.modules["torch"].cat(rows)
    except (TypeError, RuntimeError):
        raise MediaError("the latents of a batch must all be NumPy arrays, or tensors on one device") from None
