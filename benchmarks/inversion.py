"""How much of the initial noise comes back: signs that agree after inverting small diffusers pipelines.

    python benchmarks/inversion.py

The pipelines of the tests, with random weights: this checks the arithmetic of the inversion on every sampler, not how a
trained model behaves. Inversion starts from the finished latents, so that no VAE enters. The last column is what
diffusers offers, where it has an inverse scheduler. Prints a Markdown table and writes
``benchmarks/results/inversion.json``.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import _record
import diffusers
import torch
from _intervals import clopper_pearson

from watermark.integrations.diffusers import Inverter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "integration"))
import tiny_pipelines as tiny

SEED = 11
SAMPLERS = tiny.SAMPLERS
CASES = [
    *(("Stable Diffusion", sampler, lambda s=make: tiny.stable_diffusion(s())) for sampler, make in SAMPLERS.items()),
    ("Stable Diffusion", "DDIM, v", lambda: tiny.stable_diffusion(SAMPLERS["DDIM"](prediction_type="v_prediction"))),
    (
        "Stable Diffusion",
        "DPM-Solver++, v",
        lambda: tiny.stable_diffusion(SAMPLERS["DPM-Solver++"](prediction_type="v_prediction")),
    ),
    ("Stable Diffusion XL", "Euler", tiny.stable_diffusion_xl),
    ("Stable Diffusion 3", "flow, Euler", tiny.stable_diffusion_3),
    ("Flux", "flow, Euler", tiny.flux),
]
THEIRS = {
    "DDIM": diffusers.DDIMInverseScheduler,
    "DDIM, v": diffusers.DDIMInverseScheduler,
    "DPM-Solver++": diffusers.DPMSolverMultistepInverseScheduler,
    "DPM-Solver++, v": diffusers.DPMSolverMultistepInverseScheduler,
}


def main() -> None:
    """Measures everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8, help="latents of each case")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 28, 50])
    parser.add_argument("--out", help="where to write the record")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of diffusers with NumPy 2
    torch.set_num_threads(1)
    rows = []
    for pipeline, sampler, make in CASES:
        for steps in options.steps:
            rows.append(measure(pipeline, sampler, *make(), steps, options.rows))
            print(rows[-1], file=sys.stderr)
    markdown = table(rows)
    print(markdown)
    packages = ("torch", "diffusers", "transformers")
    print(f"\nwritten: {_record.save('inversion', rows, markdown=markdown, packages=packages, out=options.out).name}")


def measure(pipeline: str, sampler: str, pipe: Any, call: dict[str, Any], steps: int, rows: int) -> dict[str, Any]:
    """One pipeline, sampler and number of steps."""
    space = Inverter.for_pipeline(pipe, **call).space
    height, width = space.size
    z = torch.randn(rows, *space.shape(height, width), generator=torch.Generator().manual_seed(SEED))
    named = {**call, "num_inference_steps": steps, "num_images_per_prompt": rows, "output_type": "latent"}
    start = time.process_time()
    latents = pipe(latents=space.pack(z), height=height, width=width, **named).images
    result = {"pipeline": pipeline, "sampler": sampler, "steps": steps, "signs": z.numel()}
    result["generate_cpu_s"] = round((time.process_time() - start) / rows, 3)
    for sweeps in (1, 2, 3):
        start = time.process_time()
        recovered = Inverter.for_pipeline(pipe, steps, sweeps=sweeps, **call).invert_latents(latents)
        result[f"invert_{sweeps}_cpu_s"] = round((time.process_time() - start) / rows, 3)
        result[f"agree_{sweeps}"] = agree(z, recovered)
        result[f"rms_{sweeps}"] = float((z - recovered).square().mean().sqrt())
    if sampler in THEIRS:
        backwards = copy.copy(pipe)
        backwards.scheduler = THEIRS[sampler].from_config(pipe.scheduler.config)
        result["agree_diffusers"] = agree(z, backwards(latents=latents, height=height, width=width, **named).images)
    return result


def agree(z: Any, recovered: Any) -> int:
    """Number of equal signs."""
    return int((z.sign() == recovered.sign()).sum())


def table(rows: list[dict[str, Any]]) -> str:
    """Shares of equal signs, in per cent with intervals."""
    lines = [
        "| pipeline | sampler | steps | 1 sweep | 2 sweeps (default) | 3 sweeps | diffusers' inverse |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        shares = [share(row, name) for name in ("agree_1", "agree_2", "agree_3", "agree_diffusers")]
        lines.append(f"| {row['pipeline']} | {row['sampler']} | {row['steps']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def share(row: dict[str, Any], name: str) -> str:
    """In per cent, with the 95 % interval."""
    if name not in row:
        return "none"
    low, high = clopper_pearson(row[name], row["signs"])
    return f"{100 * row[name] / row['signs']:.2f} ({100 * low:.2f} to {100 * high:.2f})"


if __name__ == "__main__":
    main()
