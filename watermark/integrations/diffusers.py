"""Pipelines of diffusers whose pictures carry a mark, and the detector of such pictures.

pipe = StableDiffusionXLPipeline.from_pretrained(...)
marked = MarkedPipeline(pipe, watermark.load("latent.gaussian_shading", key))
images = marked("a lighthouse at dusk", payload=b"user 7").images
found = marked.detect(images)
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._values import whole
from watermark.detection import Detection, Detections
from watermark.errors import MissingExtraError, ParameterError
from watermark.integrations.inversion import Inverter
from watermark.latent.noise import LatentScheme
from watermark.scheme import each, per_row

try:
    import torch
except ImportError as error:
    raise MissingExtraError("torch", "diffusion") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Inverter", "MarkedPipeline"]


class MarkedPipeline:
    """A text-to-image pipeline that starts from marked noise.

    Sizes follow the pipeline: a call makes pictures of the size that it would have without a mark, and the scheme is
    adapted to their latents (`LatentScheme.with_shape`).

    Args:
        pipe: A pipeline of diffusers with a deterministic sampler.
        scheme: A latent scheme, of any shape.
        embed: For schemes that are bound to content: a function that gives a vector for a prompt (when a picture is
            made) and for a picture (when it is tested).
        inverter: What leads back to the noise. Default: ``Inverter.for_pipeline(pipe)``.

    Raises:
        ParameterError: The pipeline, its sampler or the scheme is not of that kind.
        ParameterError: The message does not fit into the latents of the pipeline.
    """

    modality, source = "image", "prompts"
    """What `watermark.evaluation` marks with it, and from what."""

    def __init__(
        self,
        pipe: Any,
        scheme: LatentScheme,
        embed: Callable[[Any], Any] | None = None,
        *,
        inverter: Inverter | None = None,
    ) -> None:
        if not isinstance(scheme, LatentScheme):
            raise ParameterError(f"a pipeline is marked by a latent scheme, such as latent.gaussian_shading: {scheme}")
        takes_content = "content" in inspect.signature(scheme.sample_batch).parameters
        if takes_content != (embed is not None):
            needs = "is bound to content: pass embed=" if takes_content else "is not bound to content: leave embed out"
            raise ParameterError(f"{scheme.name} {needs}")
        self.pipe = pipe
        self.embed = embed
        self.inverter = Inverter.for_pipeline(pipe) if inverter is None else inverter
        self._schemes = {scheme.shape: scheme}
        self.scheme = self._scheme(*self.inverter.space.size)

    def __call__(self, *args: Any, payload: bytes | Sequence[bytes | None] | None = None, **kwargs: Any) -> Any:
        """Makes marked pictures.

        Args:
            *args: The pipeline's own arguments, such as the prompt.
            payload: The message; bytes for all pictures, or one for each in the pipeline's order, which is all
                pictures of the first prompt, then of the second. None leaves it empty.
            **kwargs: The pipeline's own arguments. ``generator=`` also makes the noise reproducible. ``latents=`` is
                what the mark fills in.

        Returns:
            What the pipeline returns.

        Raises:
            PayloadError: A message does not fit, or their number is not that of the pictures.
            ParameterError: An argument that the mark rules out: ``latents``, or ``eta`` above 0, which adds noise.
        """
        return self._generate(args, kwargs, payload, kwargs.get("generator"))

    def mark(self, item: Any, payload: bytes | None = None, rng: Any = None) -> Any:
        """One marked picture for a prompt: the seam of the evaluation.

        Args:
            item: The prompt.
            payload: The message.
            rng: Source of the fresh randomness, as in `LatentScheme.sample`.

        Returns:
            The picture, a `PIL.Image`.
        """
        return self._generate((item,), {}, payload, rng)[0][0]

    def clean(self, item: Any, rng: int) -> Any:
        """One picture for a prompt without a mark: what `mark` is compared with.

        Args:
            item: The prompt.
            rng: Seed of the noise.
        """
        return self.pipe(item, generator=torch.Generator().manual_seed(rng % 2**63))[0][0]

    def detect(
        self, images: Iterable[Any], *, height: int | None = None, width: int | None = None, batch_size: int = 8
    ) -> Detections:
        """The verdicts on pictures, in their order.

        Args:
            images: Pictures of any type and size: arrays, tensors, `PIL.Image`.
            height: Height in pixels at which they were generated; they are scaled to it. Default: each picture's own,
                or the closest that the pipeline makes.
            width: The same for the width.
            batch_size: Number of pictures that go through the model together.

        Raises:
            MediaError: `images` is one picture instead of many, or an item is no picture.
            ParameterError: The pipeline makes no pictures of that size.
        """
        batch_size = whole(batch_size, "batch_size", 1, 1 << 16)
        items = list(each(images))
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(items):
            by_size.setdefault(self.inverter.size_of(image, height, width), []).append(index)
        found: dict[int, Detection] = {}
        with self.pipe.progress_bar(total=len(items)) as bar:
            for size, indices in by_size.items():
                for start in range(0, len(indices), batch_size):
                    batch = indices[start : start + batch_size]
                    found |= zip(batch, self._detect(size, [items[i] for i in batch]), strict=True)
                    bar.update(len(batch))
        return Detections.of((found[i] for i in range(len(items))), self.scheme.name)

    def detect_batch(self, media: Iterable[Any]) -> Detections:
        """The verdicts on pictures that `mark` made and that were edited since: the seam of the evaluation.

        They are scaled to the size that `mark` makes; everything else is as in `detect`.
        """
        height, width = self.inverter.space.size
        return self.detect(media, height=height, width=width)

    def _generate(self, args: tuple[Any, ...], kwargs: dict[str, Any], payload: Any, rng: Any) -> Any:
        call = inspect.signature(self.pipe.__call__).bind(*args, **kwargs)
        given = call.arguments
        if given.get("latents") is not None:
            raise ParameterError("the mark is in the latents: a call takes none")
        if given.get("eta"):
            raise ParameterError(
                "eta above 0 adds noise at every step, from which the marked noise cannot be recovered"
            )
        space = self.inverter.space
        height, width = (given.get(n) or side for n, side in zip(("height", "width"), space.size, strict=True))
        prompts = _prompts(given)
        copies = given.get("num_images_per_prompt") or 1
        rows = len(prompts) * copies
        scheme = self._scheme(height, width)
        bound = {}
        if self.embed is not None:
            bound["content"] = np.repeat(_vectors(self.embed, prompts), copies, axis=0)
        device = self.pipe._execution_device
        like = torch.empty(0, device=device if device.type == "cuda" else "cpu")
        if isinstance(rng, list):
            if len(rng) != rows:
                raise ParameterError(f"{len(rng)} generators for {rows} pictures")
            z = torch.cat(
                [
                    scheme.sample_batch(1, [message], rng=one, like=like, **{n: v[i : i + 1] for n, v in bound.items()})
                    for i, (message, one) in enumerate(zip(per_row(payload, rows), rng, strict=True))
                ]
            )
        else:
            z = scheme.sample_batch(rows, payload, rng=rng, like=like, **bound)
        given.update(height=height, width=width, latents=space.pack(z).to(device, space.denoiser.dtype))
        return self.pipe(*call.args, **call.kwargs)

    def _detect(self, size: tuple[int, int], images: list[Any]) -> Detections:
        z = self.inverter.invert(images, height=size[0], width=size[1])
        bound = {} if self.embed is None else {"content": _vectors(self.embed, images)}
        return self._scheme(*size).detect_batch(z if z.is_cuda else z.cpu(), **bound)

    def _scheme(self, height: int, width: int) -> LatentScheme:
        """The scheme for pictures of that size; its tables are made once."""
        shape = self.inverter.space.shape(height, width)
        if shape not in self._schemes:
            self._schemes[shape] = next(iter(self._schemes.values())).with_shape(shape)
        return self._schemes[shape]


def _vectors(embed: Callable[[Any], Any], items: list[Any]) -> np.ndarray[Any, Any]:
    """Content vectors, one per row, from an embedder that gives arrays, tensors or lists."""
    return np.stack([torch.as_tensor(embed(item)).detach().double().cpu().numpy().ravel() for item in items])


def _prompts(given: dict[str, Any]) -> list[Any]:
    """The prompts of a call, one per group of pictures; rows of embeddings stand for those that are not text."""
    prompt = given.get("prompt")
    if prompt is None and given.get("prompt_embeds") is not None:
        return list(given["prompt_embeds"])
    return prompt if isinstance(prompt, list) else [prompt]
