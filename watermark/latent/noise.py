"""The engine of latent marks: shapes, batches and frameworks. A scheme says what the signs are and how to read them."""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from watermark.detection import Detection, Detections, over_keys
from watermark.errors import CudaError, MediaError, ParameterError
from watermark.prf import seed
from watermark.scheme import Scheme, per_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MAX_ELEMENTS = 1 << 28


class LatentScheme(Scheme):
    """A mark in initial noise.

    `sample` gives float32 noise that a diffusion model takes as it is, `detect` reads an inverted latent. Every sample
    has the law N(0, 1)^n; what differs is who can tell.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one latent, such as (4, 64, 64)."""
        shape: tuple[int, ...] = self.parameters.shape
        return shape

    def with_shape(self, shape: Sequence[int]) -> Self:
        """The same scheme and keys for latents of another shape."""
        return type(self)(self.keyring, replace(self.parameters, shape=tuple(shape)))

    @abstractmethod
    def _fill(self, out: Any, payloads: Sequence[bytes | None], one_payload: bool, noise: NDArray[np.uint32]) -> None:
        """Writes samples.

        Args:
            out: float32 of shape (rows, n), C-contiguous; NumPy or a tensor.
            payloads: One message per row.
            one_payload: Whether all of them are the same.
            noise: ChaCha20 key of the fresh randomness; row i uses its stream i.
        """

    @abstractmethod
    def _read(self, tables: Any, z: Any, key_id: str) -> list[Detection]:
        """One key's verdicts on float32 of shape (rows, n), C-contiguous; NumPy or a tensor.

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
            ParameterError: `rows` is negative, or `rng` or `like` is of an unknown type.
        """
        if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or rows < 0:
            raise ParameterError(f"rows is the number of latents to sample, not {rows!r}")
        payloads = per_row(payload, int(rows))
        one_payload = not isinstance(payload, (list, tuple))
        out = _empty_like(like, (int(rows), math.prod(self.shape)))
        self._fill(out, payloads, one_payload, seed(rng).key_words)
        return out.reshape(int(rows), *self.shape)

    def detect_batch(self, items: Any) -> Detections:
        r"""The verdicts on many latents.

        Args:
            items: Array or tensor of shape (rows, \*shape), or a list of latents.

        Raises:
            MediaError: Wrong shape or dtype, or values that are not finite.
        """
        return Detections.of(self._verdicts(_rows(items, self.shape, batch=True)), self.name)

    def detect(self, media: Any) -> Detection:
        """The verdict on one latent.

        Args:
            media: Array or tensor of `shape`; any float dtype.

        Raises:
            MediaError: Wrong shape or dtype, or values that are not finite.
        """
        return self._verdicts(_rows(media, self.shape, batch=False))[0]

    def _verdicts(self, z: Any) -> list[Detection]:
        by_key = [self._read(tables, z, key.id) for tables, key in zip(self._tables, self.keyring, strict=True)]
        return [over_keys(row) for row in zip(*by_key, strict=True)]


def check_shape(shape: Any) -> None:
    """Raises ParameterError unless `shape` is a tuple of positive whole numbers of a sensible size."""
    whole = isinstance(shape, tuple) and all(isinstance(s, int) and not isinstance(s, bool) for s in shape)
    if not whole or not shape or min(shape) < 1 or math.prod(shape) > _MAX_ELEMENTS:
        raise ParameterError(f"shape must be the shape of one latent, such as (4, 64, 64), not {shape!r}")


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
    if batch and isinstance(latents, (list, tuple)):
        if not latents:
            return np.empty((0, math.prod(shape)), np.float32)
        stack = torch.stack if torch is not None and isinstance(latents[0], torch.Tensor) else np.stack
        try:
            latents = stack(list(latents))
        except (TypeError, ValueError, RuntimeError):
            raise MediaError(f"the latents of a batch must all be arrays of shape {shape}") from None
    tensor = torch is not None and isinstance(latents, torch.Tensor)
    if not tensor and not isinstance(latents, np.ndarray):
        raise MediaError(f"a latent is a NumPy array or a torch tensor of shape {shape}, not {type(latents).__name__}")
    if tuple(latents.shape[1:] if batch else latents.shape) != shape:
        wanted = ("rows", *shape) if batch else shape
        raise MediaError(f"expected latents of shape {wanted}, not {tuple(latents.shape)}; see with_shape()")
    if not (latents.is_floating_point() if tensor else latents.dtype.kind == "f"):
        raise MediaError(f"a latent holds floating-point numbers, not {latents.dtype}")
    rows = latents.shape[0] if batch else 1
    if tensor:
        return latents.detach().float().reshape(rows, -1).contiguous()
    flat = latents.reshape(rows, math.prod(shape))
    if flat.dtype == np.float32 and flat.flags.c_contiguous and flat.flags.aligned:
        return flat
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite and is refused as such
        return flat.astype(np.float32, order="C")
