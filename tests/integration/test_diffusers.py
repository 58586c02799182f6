"""The adapter to diffusers on small random pipelines: inversion, marking, detection."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import watermark
from watermark import MediaError, ParameterError, PayloadError, attacks

if TYPE_CHECKING:
    from pathlib import Path

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_pipelines as tiny  # noqa: E402

from watermark.integrations.diffusers import Inverter, MarkedPipeline  # noqa: E402
from watermark.latent.gaussian_shading import GaussianShading  # noqa: E402

# diffusers hands tensors to NumPy in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = 8
PIPELINES = {
    "StableDiffusion": tiny.stable_diffusion,
    "SDXL": tiny.stable_diffusion_xl,
    "SD3": tiny.stable_diffusion_3,
    "Flux": tiny.flux,
}


@pytest.fixture(scope="module", params=PIPELINES)
def pipeline(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    """A pipeline whose pictures give their latents back, and what its call needs."""
    pipe, call = PIPELINES[request.param]()
    return tiny.with_linear_vae(pipe), call


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Stable Diffusion with a text encoder."""
    return tiny.with_linear_vae(tiny.stable_diffusion(folder=tmp_path_factory.mktemp("tokenizer"))[0])


@pytest.fixture
def scheme(key: watermark.Key) -> GaussianShading:
    return watermark.load("latent.gaussian_shading", key, payload_bits=32)


@pytest.fixture
def marked(prompted: Any, scheme: GaussianShading) -> MarkedPipeline:
    return MarkedPipeline(prompted, scheme, inverter=Inverter.for_pipeline(prompted, steps=STEPS))


def finished(pipe: Any, call: dict[str, Any], steps: int, rows: int = 2) -> tuple[Any, Any]:
    """Noise, and the latents that the pipeline makes of it."""
    inverter = Inverter.for_pipeline(pipe, **call)
    height, width = inverter.space.size
    z = torch.randn(rows, *inverter.space.shape(height, width), generator=torch.Generator().manual_seed(1))
    latents = pipe(
        latents=inverter.space.pack(z),
        num_inference_steps=steps,
        num_images_per_prompt=rows,
        output_type="latent",
        height=height,
        width=width,
        **call,
    ).images
    return z, latents


def agreement(z: Any, recovered: Any) -> float:
    assert recovered.dtype == torch.float32
    assert recovered.shape == z.shape
    return float((z.sign() == recovered.sign()).float().mean())


@pytest.mark.parametrize("name", PIPELINES)
def test_the_noise_comes_back_at_28_steps(name):
    pipe, call = PIPELINES[name]()
    z, latents = finished(pipe, call, 28)
    assert agreement(z, Inverter.for_pipeline(pipe, steps=28, **call).invert_latents(latents)) >= 0.999


@pytest.mark.parametrize(
    ("sampler", "prediction"),
    [*((name, "epsilon") for name in tiny.SAMPLERS), ("DDIM", "v_prediction"), ("DPM-Solver++", "v_prediction")],
)
def test_every_sampler_is_inverted_exactly_in_the_end(sampler, prediction):
    pipe, call = tiny.stable_diffusion(tiny.SAMPLERS[sampler](prediction_type=prediction))
    z, latents = finished(pipe, call, 6, rows=1)
    errors = [
        float((Inverter.for_pipeline(pipe, steps=6, sweeps=sweeps, **call).invert_latents(latents) - z).abs().max())
        for sweeps in (1, 2, 12)
    ]
    assert errors[0] > errors[1] > 100 * errors[2]


def test_flow_prediction_by_dpm_solver():
    pipe, call = tiny.stable_diffusion_3()
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    z, latents = finished(pipe, call, STEPS)
    assert agreement(z, Inverter.for_pipeline(pipe, steps=STEPS, sweeps=4, **call).invert_latents(latents)) > 0.999


def test_the_first_noise_is_a_fixed_point(prompted):
    """What was recovered makes the same latents again."""
    call = {"guidance_scale": 1.0, "prompt": "a cat"}
    _, latents = finished(prompted, call, STEPS)
    inverter = Inverter.for_pipeline(prompted, steps=STEPS, sweeps=8, **call)
    again = prompted(
        latents=inverter.invert_latents(latents),
        num_inference_steps=STEPS,
        num_images_per_prompt=2,
        output_type="latent",
        **call,
    ).images
    assert (again - latents).abs().max() < 1e-3 * latents.abs().max()


def test_guidance_can_be_inverted_with_the_prompt(prompted):
    call = {"guidance_scale": 3.0, "prompt": "a cat"}
    z, latents = finished(prompted, call, STEPS)
    known = Inverter.for_pipeline(prompted, steps=STEPS, sweeps=6, **call).invert_latents(latents)
    assert agreement(z, known) > 0.995


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda: diffusers.EulerAncestralDiscreteScheduler(**tiny.DIFFUSION),
        lambda: diffusers.DDPMScheduler(clip_sample=False),
        lambda: diffusers.DPMSolverMultistepScheduler(**tiny.DIFFUSION, algorithm_type="sde-dpmsolver++"),
        lambda: diffusers.DDIMScheduler(**tiny.DIFFUSION, clip_sample=True),
        lambda: diffusers.DPMSolverMultistepScheduler(**tiny.DIFFUSION, thresholding=True),
        lambda: diffusers.DDIMScheduler(**tiny.DIFFUSION, clip_sample=False, prediction_type="sample"),
    ],
)
def test_samplers_without_an_inverse_are_refused(scheduler, prompted, scheme, monkeypatch):
    monkeypatch.setattr(prompted, "scheduler", scheduler())
    state = torch.random.get_rng_state()
    for make in (Inverter.for_pipeline, lambda pipe: MarkedPipeline(pipe, scheme)):
        with pytest.raises(ParameterError, match="no inverse"):
            make(prompted)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("method", "made_by"), [("ddim", "DDIM"), ("dpm", "DPM-Solver++")])
def test_a_stand_in_for_the_sampler(method, made_by):
    """The pipeline's scheduler has no inverse, or is not the one that made the picture."""
    pipe, call = tiny.stable_diffusion(tiny.SAMPLERS[made_by]())
    z, latents = finished(pipe, call, 20)
    pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler(**tiny.DIFFUSION)
    assert agreement(z, Inverter.for_pipeline(pipe, steps=20, method=method, **call).invert_latents(latents)) > 0.98


def test_a_stand_in_for_flow_matching():
    pipe, call = tiny.stable_diffusion_3()
    z, latents = finished(pipe, call, STEPS)
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    with pytest.raises(ParameterError, match="no inverse"):
        Inverter.for_pipeline(pipe, **call)
    assert agreement(z, Inverter.for_pipeline(pipe, STEPS, "flow", **call).invert_latents(latents)) > 0.99
    with pytest.raises(ParameterError, match="method must be 'auto' or, for this pipeline, 'flow'"):
        Inverter.for_pipeline(pipe, method="ddim", **call)


def test_pictures_of_every_pipeline_are_marked_and_found(pipeline, scheme, keys):
    pipe, call = pipeline
    marked = MarkedPipeline(pipe, scheme, inverter=Inverter.for_pipeline(pipe, steps=STEPS, **call))
    assert marked.scheme.shape == (pipe.vae.config.latent_channels, 16, 16)
    images = marked(
        payload=[b"a", b"bc", None], num_images_per_prompt=3, num_inference_steps=STEPS, generator=generator(), **call
    ).images
    found = marked.detect(images, batch_size=2)
    assert isinstance(found, watermark.Detections)
    assert found.payload == (b"a", b"bc", b"")
    assert found.payload_ok.all()
    assert (found.score > 0.97).all()
    other = MarkedPipeline(
        pipe, watermark.load("latent.gaussian_shading", keys(1), payload_bits=32), inverter=marked.inverter
    )
    assert not other.detect(images).detected(1e-3).any()
    plain = pipe(num_inference_steps=STEPS, height=images[0].height, width=images[0].width, **call).images
    assert not marked.detect(plain).detected(1e-3).any()


SMALL = {  # parameters for latents of 4 x 16 x 16
    "latent.gaussian_shading": {"payload_bits": 32},
    "latent.prc": {"payload_bits": 32},
    "latent.ring_id": {"radius": 6},
    "latent.seal": {"dimension": 4, "salt_bits": 2},
    "latent.tree_ring": {"radius": 6},
}


@pytest.mark.parametrize("name", [info.name for info in watermark.schemes() if info.modality == "latent"])
def test_every_latent_scheme(prompted, key, keys, name):
    content = {"a cat": [1.0, 2, 3, 4], "a dog": [4.0, -3, 2, -1]}
    embed = None if name != "latent.seal" else lambda item: content[item if isinstance(item, str) else "a dog"]
    inverter = Inverter.for_pipeline(prompted, steps=STEPS)
    marked, other = (
        MarkedPipeline(prompted, watermark.load(name, k, shape=(4, 16, 16), **SMALL[name]), embed, inverter=inverter)
        for k in (key, keys(1))
    )
    images = marked(["a cat", "a dog"], num_inference_steps=STEPS, guidance_scale=1.0, generator=generator()).images
    found = marked.detect(images).detected(1e-5)
    assert found.tolist() == [name != "latent.seal", True]  # the pictures are said to show a dog
    assert not other.detect(images).detected(1e-3).any()


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_every_output_type_is_read(marked, kind):
    images = marked(
        ["a", "b"], payload=b"x", num_inference_steps=STEPS, guidance_scale=1.0, generator=generator(), output_type=kind
    ).images
    assert marked.detect(images).payload == (b"x", b"x")
    assert marked.detect(list(images)) == marked.detect(images)


def test_latent_outputs_carry_the_mark(pipeline, scheme):
    pipe, call = pipeline
    inverter = Inverter.for_pipeline(pipe, steps=STEPS, **call)
    marked = MarkedPipeline(pipe, scheme, inverter=inverter)
    latents = marked(payload=b"x", num_inference_steps=STEPS, output_type="latent", **call).images
    assert marked.scheme.detect_batch(inverter.invert_latents(latents)).payload == (b"x",)


def test_prompts_and_copies_are_ordered_as_in_the_pipeline(marked):
    call = {"num_images_per_prompt": 2, "num_inference_steps": STEPS, "guidance_scale": 1.0}
    images = marked(["a", "b"], payload=[b"1", b"2", b"3", b"4"], generator=generator(), **call).images
    assert marked.detect(images).payload == (b"1", b"2", b"3", b"4")
    with pytest.raises(PayloadError, match="list of 4"):
        marked(["a", "b"], payload=[b"1", b"2"], **call)


def test_guidance_and_prompts_are_unknown_to_the_detector(marked):
    images = marked("a cat", payload=b"x", num_inference_steps=STEPS, generator=generator()).images
    assert marked.detect(images).detected(1e-6).all()


def test_generators_make_pictures_repeatable(marked):
    def make(rng: Any, **named: Any) -> Any:
        call = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "np", "payload": b"x", **named}
        return marked(["a", "a"], generator=rng, **call).images

    first = make(generator())
    assert np.array_equal(first, make(generator()))
    assert not np.array_equal(first, make(generator(2)))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(make(None), make(None))
    each = make([generator(1), generator(2)])
    assert np.allclose(each[::-1], make([generator(2), generator(1)]), atol=1e-3)
    with pytest.raises(ParameterError, match="1 generators for 2 pictures"):
        make([generator()])


def test_sizes_follow_the_call(marked):
    call = {"payload": b"x", "num_inference_steps": STEPS, "guidance_scale": 1.0, "generator": generator()}
    wide = marked("a", height=32, width=64, **call).images
    plain = marked("a", **call).images
    assert (wide[0].size, plain[0].size) == ((64, 32), (32, 32))
    found = marked.detect([*plain, *wide, *plain])
    assert found.payload == (b"x",) * 3
    larger = [wide[0].resize((128, 64))]
    assert not marked.detect(larger).detected(1e-3).any()
    assert marked.detect(larger, height=32, width=64).payload == (b"x",)
    odd = [wide[0].crop((0, 0, 51, 31)).convert("L")]
    assert not marked.detect(odd).detected(1e-3).any()
    with pytest.raises(ParameterError, match="multiples of 8, not 33 x 32"):
        marked("a", height=33, width=32)
    with pytest.raises(ParameterError, match="both"):
        marked.detect(plain, height=32)


def test_a_message_that_does_not_fit_the_latents(prompted, key):
    long = watermark.load("latent.gaussian_shading", key, shape=(4, 64, 64), payload_bits=512)
    with pytest.raises(ParameterError, match="512"):
        MarkedPipeline(prompted, long)


def test_the_seam_of_the_evaluation(prompted, scheme):
    """With all defaults, guidance included."""
    marked = MarkedPipeline(prompted, scheme)
    first, again = (marked.mark("a cat", b"x", np.random.default_rng(1)) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert marked.detect_batch([first.resize((64, 64))]).payload == (b"x",)


def test_pipelines_are_evaluated(marked, tmp_path: Path):
    evaluation = pytest.importorskip("watermark.evaluation")
    prompts = [f"a picture of {thing}" for thing in ("cats", "dogs", "hats", "fog", "tea", "rain", "sand", "snow")]
    grid = [attacks.load("image.gaussian_noise", sigma=0.01)]
    report = evaluation.run(marked, grid, prompts, tmp_path, workers=1, shares=(0.25, 0.25, 0.5))
    assert report.faults == []
    cells = {cell["attack"]: cell for cell in report.to_dict()["cells"]}
    assert cells["none"]["detected"]["1e-06"]["value"] == 1
    assert cells["none"]["exact"]["value"] == 1
    assert all(row["psnr"] is None for row in report.tables.cells.to_pylist() if row["attack"] == "none")


def test_saved_pipelines_find_their_marks(prompted, scheme, tmp_path: Path):
    pipe = type(prompted)(
        **{**prompted.components, "vae": tiny.stable_diffusion()[0].vae}, requires_safety_checker=False
    )
    call = {"payload": b"x", "num_inference_steps": STEPS, "output_type": "latent", "generator": generator()}
    latents = MarkedPipeline(pipe, scheme)("a cat", **call).images
    pipe.save_pretrained(tmp_path)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded) is type(pipe)
    inverter = Inverter.for_pipeline(loaded, steps=STEPS)
    marked = MarkedPipeline(loaded, scheme, inverter=inverter)
    assert marked.scheme.detect(inverter.invert_latents(latents)[0]).payload == b"x"


def test_the_pipeline_stays_as_it_was(marked, prompted):
    scheduler, config = prompted.scheduler, dict(prompted.config)
    images = marked("a", num_inference_steps=2).images
    marked.detect(images)
    assert prompted.scheduler is scheduler
    assert dict(prompted.config) == config


@pytest.mark.parametrize("name", ["StableDiffusion", "SD3"])
def test_pictures_are_encoded_with_scale_and_shift(name):
    pipe, call = PIPELINES[name]()
    space = Inverter.for_pipeline(pipe, **call).space
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    ours = space.encode([pixels], 32, 32)
    theirs = pipe.vae.encode(pipe.image_processor.preprocess(pixels[None] / 255).float()).latent_dist.mode()
    config = pipe.vae.config
    assert torch.allclose(ours, (theirs - (config.shift_factor or 0)) * config.scaling_factor, atol=1e-5)


def test_a_vae_may_state_means_and_deviations():
    pipe, call = tiny.stable_diffusion()
    pipe.vae.register_to_config(latents_mean=[1.0, 2.0, 3.0, 4.0], latents_std=[0.5, 1.0, 2.0, 4.0])
    space = Inverter.for_pipeline(pipe, **call).space
    grey = np.full((32, 32, 3), 128, np.uint8)
    z = pipe.vae.encode(torch.full((1, 3, 32, 32), 128 / 127.5 - 1)).latent_dist.mode()
    mean, deviation = (torch.tensor(v).view(1, 4, 1, 1) for v in ([1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 2.0, 4.0]))
    assert torch.allclose(space.encode([grey], 32, 32), (z - mean) * 0.18215 / deviation, atol=1e-5)


def test_a_vae_in_half_precision_encodes_in_full(prompted, marked, monkeypatch):
    """That of SDXL overflows in float16."""
    images = marked("a", payload=b"x", num_inference_steps=STEPS, guidance_scale=1.0, generator=generator()).images
    vae = tiny.LinearVae(4, prompted.vae.config.scaling_factor).half()
    monkeypatch.setattr(prompted, "vae", vae)
    seen = []
    vae.register_forward_pre_hook(lambda *_: None)
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda pixels: seen.append((pixels.dtype, vae.dtype)) or encode(pixels))
    assert marked.detect(images).payload == (b"x",)
    assert seen == [(torch.float32, torch.float32)]
    assert vae.dtype == torch.float16


def test_a_denoiser_in_bfloat16(scheme):
    pipe, call = tiny.stable_diffusion_3()
    pipe = tiny.with_linear_vae(pipe)
    pipe.transformer.to(torch.bfloat16)
    call = {n: v.bfloat16() if isinstance(v, torch.Tensor) else v for n, v in call.items()}
    marked = MarkedPipeline(pipe, scheme, inverter=Inverter.for_pipeline(pipe, steps=STEPS, **call))
    latents = marked(payload=b"x", num_inference_steps=STEPS, output_type="latent", **call).images
    assert latents.dtype == torch.bfloat16
    z = marked.inverter.invert_latents(latents)
    assert z.dtype == torch.float32
    assert marked.scheme.detect_batch(z).payload == (b"x",)


class ContentBound(GaussianShading):
    """Notes the content that it is given."""

    seen: list[Any] = []  # noqa: RUF012

    def sample_batch(self, *args: Any, content: Any = None, **named: Any) -> Any:
        self.seen.append(content)
        return super().sample_batch(*args, **named)

    def detect_batch(self, items: Any, content: Any = None) -> Any:
        self.seen.append(content)
        return super().detect_batch(items)


def test_content_goes_to_schemes_that_are_bound_to_it(prompted, key, marked):
    bound = ContentBound(key, GaussianShading.Parameters((4, 16, 16), 32))
    embed = lambda media: np.full(3, len(media) if isinstance(media, str) else 100.0)  # noqa: E731
    pipe = MarkedPipeline(prompted, bound, embed, inverter=marked.inverter)
    images = pipe(["a", "abc"], payload=b"x", num_images_per_prompt=2, num_inference_steps=STEPS).images
    pipe.detect(images)
    assert ContentBound.seen[0][:, 0].tolist() == [1, 1, 3, 3]
    assert ContentBound.seen[1].tolist() == [[100.0] * 3] * 4


def test_bad_arguments(prompted, marked, scheme, key):
    sd, _ = tiny.stable_diffusion()
    for bad, message in [
        (lambda: Inverter.for_pipeline("pipe"), "expected a pipeline"),
        (lambda: Inverter.for_pipeline(sd), "pass prompt_embeds"),
        (lambda: Inverter.for_pipeline(prompted, latents=None), "takes no argument 'latents'"),
        (lambda: Inverter.for_pipeline(prompted, nonsense=1), "takes no argument 'nonsense'"),
        (lambda: Inverter.for_pipeline(prompted, steps=0), "steps must be"),
        (lambda: Inverter.for_pipeline(prompted, sweeps=0), "sweeps must be"),
        (lambda: Inverter.for_pipeline(prompted, method="flow"), "'ddim' or 'dpm'"),
        (lambda: Inverter.for_pipeline(image_to_image(prompted)), "from noise alone"),
        (lambda: MarkedPipeline(prompted, watermark.load("image.spectral", key)), "latent scheme"),
        (lambda: marked("a", latents=torch.zeros(1, 4, 16, 16)), "a call takes none"),
        (lambda: marked("a", eta=0.5), "eta"),
    ]:
        with pytest.raises(ParameterError, match=re.escape(message)):
            bad()
    with pytest.raises(PayloadError):
        marked("a", payload=bytes(5))


def image_to_image(pipe: Any) -> Any:
    return diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)


def test_bad_media(marked):
    for images in ([np.zeros((8, 8, 3))[:0]], ["a.png"], [np.full((32, 32, 3), np.nan)], [torch.zeros(9, 32, 32)]):
        with pytest.raises(MediaError):
            marked.detect(images)
    with pytest.raises(MediaError, match="a batch is"):
        marked.detect(np.zeros((32, 32, 3)))
    assert len(marked.detect([])) == 0
    with pytest.raises(MediaError, match="no picture"):
        marked.inverter.invert([])
    for latents in (
        np.zeros((1, 4, 16, 16)),
        torch.zeros(1, 5, 16, 16),
        torch.zeros(4, 16, 16),
        torch.zeros(1, 4, 16, 16, dtype=torch.int64),
        torch.full((1, 4, 16, 16), torch.nan),
        torch.zeros(0, 4, 16, 16),
    ):
        with pytest.raises(MediaError):
            marked.inverter.invert_latents(latents)


@pytest.mark.parametrize("package", ["diffusers", "torch"])
def test_without_the_extra_the_error_names_the_command(package):
    code = f"import sys; sys.modules[{package!r}] = None; import watermark.integrations.diffusers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 1
    assert f"MissingExtraError: This needs the package '{package}'" in done.stderr
    assert "pip install 'watermarking[diffusion]'" in done.stderr


def generator(seed: int = 1) -> Any:
    return torch.Generator().manual_seed(seed)
