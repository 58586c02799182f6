"""Small pipelines of diffusers with random weights, built offline: 16 x 16 latents, a fraction of a second per picture.

A random network is mild: these show that an inversion is right, not how it fares on a trained model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SAMPLERS: dict[str, Callable[..., Any]] = {
    "DDIM": lambda **named: diffusers.DDIMScheduler(**DIFFUSION, clip_sample=False, **named),
    "DPM-Solver++": lambda **named: diffusers.DPMSolverMultistepScheduler(**DIFFUSION, **named),
    "UniPC": lambda **named: diffusers.UniPCMultistepScheduler(**DIFFUSION, **named),
    "PNDM": lambda **named: diffusers.PNDMScheduler(**DIFFUSION, skip_prk_steps=True, **named),
    "Heun": lambda **named: diffusers.HeunDiscreteScheduler(**DIFFUSION, **named),
    "Euler": lambda **named: diffusers.EulerDiscreteScheduler(**DIFFUSION, **named),
}
BLOCKS = {
    "block_out_channels": (16, 32),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "sample_size": 16,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


class LinearVae(ModelMixin, ConfigMixin):
    """Stands for a trained VAE, since a random one does not give its latents back: each pixel block is an isometry.

    Latents within about 3 / `scaling_factor` fit into the range of pixels.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        scaling_factor: float = 1.0,
        shift_factor: float | None = None,
        block_out_channels: tuple[int, ...] = (1, 1),
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        self.factor = 2 ** (len(block_out_channels) - 1)
        random = torch.randn(3 * self.factor**2, latent_channels, generator=torch.Generator().manual_seed(1))
        self.basis = torch.nn.Parameter(torch.linalg.qr(random).Q)

    def encode(self, pixels: Any) -> AutoencoderKLOutput:
        blocks = torch.nn.functional.pixel_unshuffle(pixels, self.factor)
        z = torch.einsum("pc,bphw->bchw", self.basis, blocks)
        return AutoencoderKLOutput(latent_dist=Sharp(z))

    def decode(self, z: Any, return_dict: bool = True, generator: Any = None) -> Any:
        blocks = torch.einsum("pc,bchw->bphw", self.basis, z)
        pixels = torch.nn.functional.pixel_shuffle(blocks, self.factor)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)


class Sharp:
    """A posterior without a spread."""

    def __init__(self, z: Any) -> None:
        self._z = z

    def mode(self) -> Any:
        return self._z


def stable_diffusion(scheduler: Any = None, folder: Path | None = None) -> tuple[Any, dict[str, Any]]:
    """Stable Diffusion, and what its call needs; with a `folder`, to which a tokenizer is written, it takes prompts."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**BLOCKS, cross_attention_dim=32)
    pipe = diffusers.StableDiffusionPipeline(
        vae=_vae(4),
        unet=unet,
        scheduler=scheduler or SAMPLERS["DDIM"](set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **(_text(folder) if folder else {"text_encoder": None, "tokenizer": None}),
    )
    return _quiet(pipe), {"guidance_scale": 1.0} | ({} if folder else {"prompt_embeds": torch.randn(1, 7, 32)})


def stable_diffusion_xl(scheduler: Any = None) -> tuple[Any, dict[str, Any]]:
    """Stable Diffusion XL without text encoders, and what its call needs."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        **BLOCKS,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
        cross_attention_dim=64,
    )
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=_vae(4),
        unet=unet,
        scheduler=scheduler or SAMPLERS["Euler"](timestep_spacing="leading"),
        **dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")),
        add_watermarker=False,
    )
    return _quiet(pipe), _embeds(64, 32)


def stable_diffusion_3() -> tuple[Any, dict[str, Any]]:
    """Stable Diffusion 3 without text encoders, and what its call needs."""
    torch.manual_seed(0)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=32,
    )
    texts = [f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")]
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16, scaling_factor=1.5305, shift_factor=0.0609),
        **dict.fromkeys(texts),
    )
    return _quiet(pipe), _embeds(32, 64)


def flux() -> tuple[Any, dict[str, Any]]:
    """Flux without text encoders, and what its call needs."""
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    pipe = diffusers.FluxPipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(16, scaling_factor=0.3611, shift_factor=0.1159),
        **dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")),
    )
    pipe.default_sample_size = 16  # that of Flux is no part of its configuration
    return _quiet(pipe), _embeds(32, 32)


def with_linear_vae(pipe: Any, **config: Any) -> Any:
    """The pipeline with a VAE that gives its latents back."""
    channels = pipe.vae.config.latent_channels
    # The latents of a random U-Net come out large; those of a flow stay near 1.
    scaling, shift, blocks = (48.0, None, (1, 1)) if channels == 4 else (6.0, 0.05, (1, 1, 1))
    pipe.vae = LinearVae(channels, scaling, shift, blocks, **config)
    pipe.vae_scale_factor = pipe.vae.factor
    pipe.image_processor = diffusers.image_processor.VaeImageProcessor(pipe.vae.factor)
    return pipe


def _embeds(width: int, pooled: int) -> dict[str, Any]:
    return {
        "guidance_scale": 1.0,
        "prompt_embeds": torch.randn(1, 7, width),
        "pooled_prompt_embeds": torch.randn(1, pooled),
    }


def _vae(channels: int, **config: Any) -> Any:
    old = channels == 4
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        use_quant_conv=old,
        use_post_quant_conv=old,
        **config,
    )


def _text(folder: Path) -> dict[str, Any]:
    """A text encoder and a tokenizer that knows single letters."""
    letters = [chr(code) for code in range(97, 123)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return {"text_encoder": CLIPTextModel(config).eval(), "tokenizer": tokenizer}


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe
