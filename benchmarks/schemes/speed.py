"""CPU time of every scheme on one thread: embed or sample, and detect, at several sizes. Medians.

    python benchmarks/schemes/speed.py

Pictures are synthetic (smoothed noise), so that the command needs no data; ``--corpus DIR --photos GLOB`` takes one of
yours instead. Prints a Markdown table and writes ``benchmarks/results/speed.json``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageFilter
import PIL.ImageOps

import watermark

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _record

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURES = [(512, 512), (1920, 1080), (3840, 2160)]
LATENTS = [(4, 64, 64), (4, 128, 128), (16, 128, 128)]


def main() -> None:
    """Measures everything."""
    options = parse()
    watermark.set_threads(1)
    key = watermark.Key.from_bytes(bytes(range(32)))
    rows: list[dict[str, Any]] = []
    for scheme in watermark.schemes():
        if scheme.modality == "image":
            for size in PICTURES:
                rows += picture_rows(scheme.name, key, picture(size, options), options.seconds)
        elif scheme.modality == "latent":
            for shape in LATENTS:
                rows += latent_rows(scheme.name, key, shape, options.seconds)
    markdown = table(rows)
    print(markdown)
    if not options.no_record:
        print(f"\nwritten: {_record.save('speed', rows, markdown=markdown, out=options.out).name}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="folder of photos")
    parser.add_argument("--photos", default="images/kodak/*.png", help="glob in the corpus folder; the first is used")
    parser.add_argument("--seconds", type=float, default=1.0, help="time spent on each figure")
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    return parser.parse_args()


def picture(size: tuple[int, int], options: argparse.Namespace) -> PIL.Image.Image:
    """The user's photo, or smoothed noise, at that size."""
    if options.corpus:
        photos = sorted(Path(options.corpus).glob(options.photos))
        if not photos:
            raise SystemExit(f"no photo matches {options.photos!r} in the corpus folder")
        with PIL.Image.open(photos[0]) as opened:
            return PIL.ImageOps.fit(opened.convert("RGB"), size, PIL.Image.Resampling.LANCZOS)
    noise = np.random.default_rng(0).normal(128, 60, (size[1], size[0], 3)).clip(0, 255).astype(np.uint8)
    return PIL.Image.fromarray(noise).filter(PIL.ImageFilter.GaussianBlur(2))


def picture_rows(name: str, key: watermark.Key, image: PIL.Image.Image, seconds: float) -> list[dict[str, Any]]:
    """Embedding, and detection on marked and on unmarked pixels."""
    mark = watermark.load(name, key, payload_bits=64)
    pixels = np.asarray(image)
    marked = mark.embed(pixels, b"order-42")
    size = f"{image.width} x {image.height}"
    return [
        {"scheme": name, "size": size, "call": "embed", **timed(lambda: mark.embed(pixels, b"order-42"), seconds)},
        {"scheme": name, "size": size, "call": "detect, marked", **timed(lambda: mark.detect(marked), seconds)},
        {"scheme": name, "size": size, "call": "detect, unmarked", **timed(lambda: mark.detect(pixels), seconds)},
    ]


def latent_rows(name: str, key: watermark.Key, shape: tuple[int, ...], seconds: float) -> list[dict[str, Any]]:
    """Sampling and detection of one latent and per latent of a batch, marked and plain; and what a new key costs."""
    about = {"content": np.arange(1, 257)} if name == "latent.seal" else {}
    mark = watermark.load(name, key, shape=shape)
    latent, batch = mark.sample(rng=1, **about), mark.sample_batch(16, rng=1, **about)
    plain = np.random.default_rng(1).standard_normal((64, *shape)).astype(np.float32)
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "load, and first sample": (lambda: watermark.load(name, key, shape=shape).sample(rng=1, **about), 1),
        "sample": (lambda: mark.sample(rng=1, **about), 1),
        "sample, each of 16": (lambda: mark.sample_batch(16, rng=1, **about), 16),
        "detect": (lambda: mark.detect(latent, **about), 1),
        "detect, each of 16": (lambda: mark.detect_batch(batch, **about), 16),
        "detect noise, each of 64": (lambda: mark.detect_batch(plain, **about), 64),
    }
    size = " x ".join(map(str, shape))
    return [
        {"scheme": name, "size": size, "call": call, **timed(function, seconds, items)}
        for call, (function, items) in calls.items()
    ]


def timed(function: Callable[[], object], seconds: float, items: int = 1) -> dict[str, Any]:
    """CPU milliseconds per item: repeats for about `seconds`, at least 5 times, in blocks of at least 2 ms."""
    function()
    started = time.process_time()
    function()
    once = max(time.process_time() - started, 1e-7)
    block = max(1, math.ceil(2e-3 / once))
    runs: list[float] = []
    while len(runs) < 5 or sum(runs) * block < seconds:
        started = time.process_time()
        for _ in range(block):
            function()
        runs.append((time.process_time() - started) / block)
    per_item = [1000 * run / items for run in runs]
    return {"median_ms": statistics.median(per_item), "fastest_ms": min(per_item), "runs": len(runs)}


def table(rows: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = ["| scheme | size | call | CPU ms, one thread |", "| --- | --- | --- | --- |"]
    lines += [f"| {r['scheme']} | {r['size']} | {r['call']} | {r['median_ms']:.3g} |" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
