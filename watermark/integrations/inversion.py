"""From a finished picture back to the noise that a diffusers pipeline started from.

Every deterministic sampler (DDIM, DPM-Solver, UniPC, PNDM, Heun, Euler, flow matching, ...) is linear in the first
noise x_0 and in the model's outputs e_0, e_1, ... So one run of the scheduler on unit vectors tells where each point of
the path lies, x_i = a_i x_0 + sum_j b_ij e_j, whatever the model predicts (noise, velocity, flow). The finished latents
are x_n; solving for x_0 gives each point as a combination of x_n and the outputs. What is unknown are the outputs, and
they are found by fixed-point iteration (as in Pan et al., AIDI, ICCV 2023): evaluate the model where the path is
believed to be, from the last step to the first, and move the path.

The pipeline itself does the evaluating, with a scheduler that leads it backwards: so conditioning, time steps, shifts
and offloading are the pipeline's own, and no pipeline is rewritten here.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from watermark._values import whole
from watermark.errors import MediaError, MissingExtraError, ParameterError
from watermark.media.pixels import Pixels

try:
    import diffusers
    import torch
    from diffusers.schedulers.scheduling_utils import SchedulerOutput
except ImportError as error:
    raise MissingExtraError(error.name or "diffusers", "diffusion") from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OWN = ("latents", "num_inference_steps", "num_images_per_prompt", "output_type", "height", "width", "return_dict")


class LatentSpace:
    """The latents of one pipeline: their shape, their layout, and how a picture becomes one.

    Args:
        pipe: A text-to-image pipeline of diffusers with a VAE and a U-Net or a transformer.

    Raises:
        ParameterError: It is something else, or takes no ``latents=``.
    """

    def __init__(self, pipe: Any) -> None:
        if not isinstance(pipe, diffusers.DiffusionPipeline):
            raise ParameterError(f"expected a pipeline of diffusers, not {type(pipe).__name__}")
        self.pipe, name = pipe, type(pipe).__name__
        self.denoiser: Any = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
        parameters = inspect.signature(pipe.__call__).parameters
        if not {"latents", "height", "width"} <= parameters.keys() or "strength" in parameters:
            raise ParameterError(f"{name} does not make pictures from noise alone: it cannot take marked `latents`")
        config: Any = getattr(getattr(pipe, "vae", None), "config", {})
        self._packed = hasattr(pipe, "_unpack_latents")
        if self.denoiser is None or "latent_channels" not in config or hasattr(pipe, "_pack_latents") != self._packed:
            raise ParameterError(f"the latents of {name} have a layout that is not supported: see the docs' table")
        self.channels: int = config.latent_channels
        self.factor: int = pipe.vae_scale_factor
        patch = 2 if self._packed else self.denoiser.config.get("patch_size") or 1
        self._multiple = math.lcm(self.factor * patch, 8)  # pipelines ask for 8 whatever their VAE

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the pictures that the pipeline makes if it is told nothing."""
        sample = getattr(self.pipe, "default_sample_size", None) or self.denoiser.config.sample_size
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return height * self.factor, width * self.factor

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape of one latent, (channels, height, width).

        Raises:
            ParameterError: The pipeline makes no pictures of that size.
        """
        sides = [whole(side, "a side of a picture", 1, 1 << 16) for side in (height, width)]
        if any(side % self._multiple for side in sides):
            raise ParameterError(
                f"{type(self.pipe).__name__} makes pictures whose sides are multiples of {self._multiple}, "
                f"not {height} x {width}"
            )
        return self.channels, sides[0] // self.factor, sides[1] // self.factor

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The size closest to this one that the pipeline makes."""
        closest = [max(1, round(side / self._multiple)) * self._multiple for side in (height, width)]
        return closest[0], closest[1]

    def pack(self, z: Any) -> Any:
        """(rows, channels, height, width) in the layout of the pipeline's ``latents``."""
        return self.pipe._pack_latents(z, *z.shape) if self._packed else z

    def unpack(self, z: Any, height: int, width: int) -> Any:
        """The inverse of `pack`, for pictures of that size in pixels."""
        return self.pipe._unpack_latents(z, height, width, self.factor) if self._packed else z

    def encode(self, images: Sequence[Any], height: int, width: int) -> Any:
        """Pictures as finished latents: float32 of shape (rows, channels, height / factor, width / factor).

        The VAE computes in float32 whatever its dtype, since that of SDXL overflows in float16.

        Raises:
            MediaError: An item is no picture.
        """
        vae, config = self.pipe.vae, self.pipe.vae.config
        pixels = torch.cat([_pixels(image, height, width) for image in images]).to(self.pipe._execution_device)
        with _in_float32(vae):
            encoded = vae.encode(pixels)[0]
        z = encoded if isinstance(encoded, torch.Tensor) else encoded.mode()
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is None or deviation is None:
            mean, deviation = [config.get("shift_factor") or 0.0], [1.0]
        mean, deviation = (torch.tensor(row, device=z.device).view(1, -1, 1, 1) for row in (mean, deviation))
        return (z - mean) * config.scaling_factor / deviation


class Inverter:
    """Finds the noise that a pipeline started from.

    `for_pipeline` makes one. The latents that it returns are float32 tensors on the pipeline's device, distributed as
    N(0, 1), of shape (rows, channels, height, width): what the ``detect_batch`` of a latent scheme takes.
    """

    def __init__(self, pipe: Any, scheduler: Any, steps: int, sweeps: int, call: dict[str, Any]) -> None:
        self.pipe, self.space = pipe, LatentSpace(pipe)
        self._scheduler, self._steps, self._sweeps, self._call = scheduler, steps, sweeps, call

    @classmethod
    def for_pipeline(
        cls, pipe: Any, steps: int | None = None, method: str = "auto", *, sweeps: int = 2, **call: Any
    ) -> Self:
        """An inverter that runs the pipeline backwards.

        Args:
            pipe: A text-to-image pipeline of diffusers.
            steps: Number of steps; best that of the generation. Default: the pipeline's own.
            method: The sampler to invert. "auto" is the pipeline's own, as it is when a picture is inverted; "ddim" or
                "dpm" (DPM-Solver++, second order) for diffusion models, and "flow" (Euler) for flow matching stand in
                where the sampler has no inverse, or is not known.
            sweeps: Passes of the fixed-point iteration over all steps, 1 to 100; each costs `steps` evaluations of the
                model.
            **call: Further arguments of the pipeline. Default: the empty prompt, without classifier-free guidance,
                which is what a detector knows. A pipeline without text encoders needs ``prompt_embeds`` and the like,
                of one row.

        Raises:
            ParameterError: A value is out of range, an argument is none of the pipeline's, or the sampler has no
                inverse: it adds noise, or clips.
        """
        parameters = inspect.signature(pipe.__call__).parameters if callable(pipe) else {}
        space = LatentSpace(pipe)
        for name in call:
            if name in _OWN or name not in parameters:
                raise ParameterError(f"an inverter of {type(pipe).__name__} takes no argument '{name}'")
        if "prompt_embeds" not in call and "prompt" in parameters:
            if not any(part for name, part in pipe.components.items() if name.startswith("text_encoder")):
                raise ParameterError("this pipeline has no text encoder: pass prompt_embeds= and what goes with it")
            call = {"prompt": "", **call}
        if "guidance_scale" in parameters and not space.denoiser.config.get("guidance_embeds"):
            call = {"guidance_scale": 1.0, **call}
        steps = parameters["num_inference_steps"].default if steps is None else steps
        scheduler = _stand_in(pipe.scheduler, method)
        made = cls(pipe, scheduler, whole(steps, "steps", 1, 1000), whole(sweeps, "the number of sweeps", 1, 100), call)
        rehearsal = copy.deepcopy(scheduler or pipe.scheduler)
        rehearsal.set_timesteps(4, **({"mu": 1.0} if rehearsal.config.get("use_dynamic_shifting") else {}))
        _path(rehearsal)
        return made

    def invert(self, images: Sequence[Any], *, height: int | None = None, width: int | None = None) -> Any:
        r"""The noise that pictures were made from.

        Args:
            images: Pictures of any type that `watermark.image` takes, which go through the model together.
            height: Height in pixels at which they were generated, to which they are scaled. Default: that of the first
                picture, or the closest that the pipeline makes.
            width: The same for the width.

        Returns:
            float32 tensor of shape (rows, \*shape).

        Raises:
            MediaError: An item is no picture, or there is none.
            ParameterError: The pipeline makes no pictures of that size.
        """
        images = list(images)
        if not images:
            raise MediaError("there is no picture to invert")
        height, width = self.size_of(images[0], height, width)
        with torch.no_grad():
            return self.invert_latents(self.space.pack(self.space.encode(images, height, width)), height, width)

    def invert_latents(self, latents: Any, height: int | None = None, width: int | None = None) -> Any:
        r"""The noise behind finished latents, as a pipeline gives them with ``output_type="latent"``.

        Args:
            latents: Tensor in the layout of the pipeline.
            height: Height in pixels of the picture. Default: what the latents say, or for a pipeline that packs them
                its own default.
            width: The same for the width.

        Returns:
            float32 tensor of shape (rows, \*shape).

        Raises:
            MediaError: It is no tensor of such latents, or holds values that are not finite.
        """
        if not isinstance(latents, torch.Tensor) or not latents.is_floating_point() or latents.ndim not in (3, 4):
            raise MediaError("finished latents are a tensor of floats, as a pipeline gives with output_type='latent'")
        default = self.space.size
        if latents.ndim == 4:
            default = (latents.shape[2] * self.space.factor, latents.shape[3] * self.space.factor)
        height, width = height or default[0], width or default[1]
        shape = (len(latents), *self.space.shape(height, width))
        like = torch.empty(shape, device="meta")
        if latents.shape != self.space.pack(like).shape or not len(latents):
            raise MediaError(f"latents of shape {tuple(latents.shape)} are none of {height} x {width} pixels")
        if not torch.isfinite(latents).all():
            raise MediaError("the latents hold values that are not finite")
        device = self.pipe._execution_device
        backwards = _Backwards(self._scheduler or self.pipe.scheduler, latents.to(device).float(), self._sweeps)
        pipe = copy.copy(self.pipe)
        vars(pipe).update(scheduler=backwards, _progress_bar_config={"disable": True})  # not in the pipeline's config
        pipe(
            **self._call,
            latents=latents.to(device, self.space.denoiser.dtype),
            num_inference_steps=self._steps,
            num_images_per_prompt=len(latents),
            height=height,
            width=width,
            output_type="latent",
        )
        return self.space.unpack(backwards.noise(), height, width)

    def size_of(self, image: Any, height: int | None = None, width: int | None = None) -> tuple[int, int]:
        """Height and width at which a picture is inverted: the given ones, or the closest to its own.

        Raises:
            MediaError: It is no picture.
            ParameterError: One of both is missing, or the pipeline makes no pictures of that size.
        """
        if (height is None) != (width is None):
            raise ParameterError("pass both height= and width=, or none of them")
        if height is None or width is None:
            return self.space.nearest(*_of(image).array.shape[:2])
        self.space.shape(height, width)
        return height, width


class _Backwards:
    """A scheduler that leads a pipeline from finished latents to the noise, in several sweeps over all steps.

    A pipeline asks it for time steps, and between two evaluations of the model for the point of the next one.
    """

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, forward: Any, finished: Any, sweeps: int) -> None:
        self.config = forward.config
        self._forward, self._finished, self._sweeps = copy.deepcopy(forward), finished, sweeps
        # Pipelines look at the signature to learn whether a scheduler takes `sigmas`.
        self.set_timesteps = functools.update_wrapper(functools.partial(self._set_timesteps), forward.set_timesteps)

    def _set_timesteps(self, *arguments: Any, **named: Any) -> None:
        self._forward.set_timesteps(*arguments, **named)
        points, self._input_scales = _path(self._forward)
        self._steps = len(points) - 1
        from_finished = points[:, 0] / points[-1, 0]
        from_outputs = points[:, 1:] - np.outer(from_finished, points[-1, 1:])
        self._from_finished = from_finished.tolist()
        self._from_outputs = torch.from_numpy(from_outputs).float().to(self._finished.device)
        self._outputs = self._finished.new_zeros(self._steps, *self._finished.shape)
        self._evaluations = 0
        self.timesteps = self._forward.timesteps.flip(0).repeat(self._sweeps)

    @property
    def _index(self) -> int:
        """The step, counted from the noise, whose model output comes next."""
        return self._steps - 1 - self._evaluations % self._steps

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Pipelines call it before the first step."""

    def scale_model_input(self, sample: Any, timestep: Any = None) -> Any:
        """The sample as the model wants it at the next step."""
        return sample * self._input_scales[self._index]

    def step(self, model_output: Any, timestep: Any, sample: Any, **_: Any) -> SchedulerOutput:
        """Takes the output of a step, and gives the point at which to evaluate the step before it."""
        index, output = self._index, model_output.float()
        if self._evaluations < self._steps:  # the earlier outputs are still unknown: this one is the best guess
            self._outputs[: index + 1] = output
        else:
            self._outputs[index] = output
        self._evaluations += 1
        return SchedulerOutput(prev_sample=self._point(self._index).to(sample.dtype))

    def noise(self) -> Any:
        """The start of the path: float32, in the layout of the pipeline, distributed as N(0, 1)."""
        return self._point(0) / getattr(self._forward, "init_noise_sigma", 1.0)

    def _point(self, index: int) -> Any:
        moved = torch.tensordot(self._from_outputs[index], self._outputs, 1)
        return self._from_finished[index] * self._finished + moved


def _path(scheduler: Any) -> tuple[Any, list[float]]:
    """Where a sampler goes, by the unit vectors of its start and of the model's outputs.

    Args:
        scheduler: A scheduler whose time steps are set; it stays as it is.

    Returns:
        float64 of shape (steps + 1, steps + 1): row i is the i-th point of the path as coefficients of the start and of
        the outputs; and the factors by which the model's input is scaled at each step.

    Raises:
        ParameterError: The sampler is not deterministic and linear, or forgets its start.
    """
    size = len(scheduler.timesteps) + 1
    device = scheduler.timesteps.device

    def run(length: float) -> tuple[Any, list[float]]:
        probe = copy.deepcopy(scheduler)
        scale_input = getattr(probe, "scale_model_input", lambda sample, timestep: sample)
        units = length * torch.eye(size, device=device).view(size, 1, 1, 1, size)
        point, points, scales = units[0], [units[0]], []
        for unit, timestep in zip(units[1:], probe.timesteps, strict=True):
            scales.append(float(scale_input(torch.ones(1, 1, 1, 1, device=device), timestep)))
            point = probe.step(unit, timestep, point, return_dict=False)[0]
            points.append(point)
        return torch.cat(points).view(size, size).double().cpu().numpy() / length, scales

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # a random sampler draws from it
        (points, scales), (again, _) = run(1.0), run(64.0)
    largest = float(np.abs(points).max())
    if not math.isfinite(largest) or np.abs(points - again).max() > 1e-3 * largest or abs(points[-1, 0]) < 1e-3:
        raise ParameterError(
            f"{type(scheduler).__name__} as it is configured has no inverse: it adds noise, clips, or predicts the "
            "picture itself. Use a deterministic scheduler, such as DDIM, DPM-Solver++ or Euler; pictures that were "
            "made without one may still be tried with method='ddim' (for flow matching 'flow')"
        )
    return points, scales


def _stand_in(scheduler: Any, method: str) -> Any:
    """The scheduler that `method` names, on the noise schedule of the pipeline's; None for the pipeline's own."""
    config = scheduler.config
    flow = config.get("prediction_type") == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch")
    if method == "auto":
        return None
    if method == "flow" and flow:
        return diffusers.FlowMatchEulerDiscreteScheduler.from_config(config, stochastic_sampling=False)
    if method == "ddim" and not flow:
        return diffusers.DDIMScheduler.from_config(config, clip_sample=False, thresholding=False)
    if method == "dpm" and not flow:
        return diffusers.DPMSolverMultistepScheduler.from_config(
            config, algorithm_type="dpmsolver++", solver_order=2, thresholding=False
        )
    known = "'flow'" if flow else "'ddim' or 'dpm'"
    raise ParameterError(f"method must be 'auto' or, for this pipeline, {known}, not {method!r}")


@contextmanager
def _in_float32(model: Any) -> Iterator[None]:
    dtype = model.dtype
    if dtype == torch.float32:
        yield
        return
    model.float()
    try:
        yield
    finally:
        model.to(dtype)


def _of(image: Any) -> Pixels[Any]:
    """The pixels of a picture, also of a tensor in GPU memory or of bfloat16."""
    if isinstance(image, torch.Tensor):
        image = (image.float() if image.is_floating_point() else image).cpu()
    return Pixels.of(image)


def _pixels(image: Any, height: int, width: int) -> Any:
    """A picture as a VAE takes it: float32 of shape (1, 3, height, width) in [-1, 1]. Transparency is left out."""
    array = _of(image).array
    colour = array[:, :, : 1 if array.shape[2] < 3 else 3].astype(np.float32)
    largest = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    pixels = torch.from_numpy(colour / largest).permute(2, 0, 1).expand(3, -1, -1)[None]
    if pixels.shape[2:] != (height, width):
        pixels = torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
    return 2 * pixels - 1
