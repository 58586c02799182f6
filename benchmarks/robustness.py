"""Does the message survive? Photos x keys trials of an image mark per edit, with exact intervals.

Each trial marks one photo with a fresh key and a fresh random message, edits it, and asks whether `detect` returns
exactly that message with its checksum intact. Where part of the photo is replaced by another, it also asks whether the
presence map tells the two apart. Trial (photo, number) depends on ``--seed`` only::

    python benchmarks/robustness.py --corpus DIR --photos 'images/kodak/*.png' --keys 9 --seed 1

prints a Markdown table and writes ``benchmarks/results/robustness_images.json``.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _record
import numpy as np
import PIL.Image
import PIL.ImageFilter
import PIL.ImageOps
from _intervals import clopper_pearson, percent

import watermark

try:
    from skimage.metrics import structural_similarity
except ImportError:
    structural_similarity = None

FPR = 1e-6
PRESENCE_TARGET = 0.95
"""Least median AUC of the presence map."""
TOP_TO_BOTTOM, LEFT_TO_RIGHT = PIL.Image.Transpose.FLIP_TOP_BOTTOM, PIL.Image.Transpose.FLIP_LEFT_RIGHT
Picture = PIL.Image.Image
Edit = Callable[[Picture, np.random.Generator], Picture]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        target: Least rate of exact messages; None: reported only.
        edit: What is done to the marked photo.
        replaced: Share of the area that another photo covers afterwards.
    """

    target: float | None
    edit: Edit = lambda picture, rng: picture
    replaced: float = 0.0


def jpeg(picture: Picture, quality: int) -> Picture:
    """Saved as JPEG (4:2:0) and read again."""
    return _through(picture, "JPEG", quality)


def webp(picture: Picture, quality: int) -> Picture:
    """Saved as WebP and read again."""
    return _through(picture, "WEBP", quality)


def avif(picture: Picture, quality: int) -> Picture:
    """Saved as AVIF and read again."""
    return _through(picture, "AVIF", quality)


def scale(picture: Picture, factor: float) -> Picture:
    """Resampled (antialiased bicubic) and left at that size."""
    width, height = picture.size
    return picture.resize((round(width * factor), round(height * factor)), PIL.Image.Resampling.BICUBIC)


def crop(picture: Picture, rng: np.random.Generator, area: float) -> Picture:
    """A rectangle of that share of the area: aspect within +-20 %, anywhere but on the 8-pixel grid of JPEG."""
    width, height = picture.size
    aspect = math.exp(rng.uniform(math.log(1 / 1.2), math.log(1.2)))
    wide, high = round(width * math.sqrt(area * aspect)), round(height * math.sqrt(area / aspect))
    wide, high = min(wide, width), min(high, height)
    while True:
        x, y = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        if x % 8 and y % 8:
            return picture.crop((x, y, x + wide, y + high))


def rotate(picture: Picture, degrees: float) -> Picture:
    """Rotated, and cropped to the largest upright rectangle without empty corners."""
    long, short = max(picture.size), min(picture.size)
    turn = math.radians(degrees % 180)
    sine, cosine = math.sin(turn), abs(math.cos(turn))
    if short <= 2 * sine * cosine * long or abs(sine - cosine) < 1e-9:  # two corners touch the long sides
        wide, high = short / 2 / sine, short / 2 / cosine
        if picture.width < picture.height:
            wide, high = high, wide
    else:
        spread = cosine**2 - sine**2
        wide = (picture.width * cosine - picture.height * sine) / spread
        high = (picture.height * cosine - picture.width * sine) / spread
    turned = picture.rotate(degrees, PIL.Image.Resampling.BICUBIC, expand=True)
    wide, high = math.floor(wide) - 2, math.floor(high) - 2
    x, y = (turned.width - wide) // 2, (turned.height - high) // 2
    return turned.crop((x, y, x + wide, y + high))


def stretch(picture: Picture, aspect: float) -> Picture:
    """Resampled on the horizontal axis only."""
    width, height = picture.size
    return picture.resize((round(width * aspect), height), PIL.Image.Resampling.BICUBIC)


def shear(picture: Picture, degrees: float) -> Picture:
    """Sheared along the horizontal axis, and cropped to what stays covered."""
    slope = math.tan(math.radians(degrees))
    width, height = picture.size
    margin = math.ceil(abs(slope) * height / 2)
    matrix = (1, slope, -slope * height / 2, 0, 1, 0)
    sheared = picture.transform(picture.size, PIL.Image.Transform.AFFINE, matrix, PIL.Image.Resampling.BICUBIC)
    return sheared.crop((margin, 0, width - margin, height))


def perspective(picture: Picture, rng: np.random.Generator, share: float) -> Picture:
    """Seen at a slant: each corner moves by up to that share of the short side. What comes into view is black."""
    width, height = picture.size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    moved = corners + rng.uniform(-share, share, (4, 2)) * min(picture.size)
    rows, right = [], []
    for (x, y), (u, v) in zip(corners, moved, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    matrix = np.linalg.solve(np.array(rows), np.array(right)).tolist()
    return picture.transform(picture.size, PIL.Image.Transform.PERSPECTIVE, matrix, PIL.Image.Resampling.BICUBIC)


def warp(picture: Picture, rng: np.random.Generator, amplitude: float) -> Picture:
    """Shifted by up to that many pixels on either axis, differently at each node of a 6 x 5 grid, smoothly between."""
    width, height = picture.size
    nodes = rng.uniform(-amplitude, amplitude, (2, 5, 6)).astype(np.float32)
    across, down = (
        np.asarray(PIL.Image.fromarray(n).resize(picture.size, PIL.Image.Resampling.BICUBIC)) for n in nodes
    )
    y, x = np.mgrid[:height, :width]
    x, y = np.clip(x + across, 0, width - 1.001), np.clip(y + down, 0, height - 1.001)
    left, top = x.astype(int), y.astype(int)
    right, lower = (x - left)[..., None], (y - top)[..., None]
    pixels = np.asarray(picture, np.float64)
    above = pixels[top, left] * (1 - right) + pixels[top, left + 1] * right
    below = pixels[top + 1, left] * (1 - right) + pixels[top + 1, left + 1] * right
    return PIL.Image.fromarray(np.rint(above * (1 - lower) + below * lower).astype(np.uint8))


def replace(picture: Picture, rng: np.random.Generator, area: float, other: Picture) -> tuple[Picture, Box]:
    """Another photo over a rectangle of that share of the area, anywhere; and the rectangle."""
    width, height = (round(size * math.sqrt(area)) for size in picture.size)
    x, y = int(rng.integers(0, picture.width - width + 1)), int(rng.integers(0, picture.height - height + 1))
    edited = picture.copy()
    edited.paste(PIL.ImageOps.fit(other, (width, height), PIL.Image.Resampling.BICUBIC), (x, y))
    return edited, (x, y, x + width, y + height)


def values(picture: Picture, change: Callable[[np.ndarray], np.ndarray]) -> Picture:
    """Grey levels changed, rounded and clipped to 0..255."""
    levels = change(np.arange(256, dtype=np.float64))
    return picture.point(np.clip(np.rint(levels), 0, 255).astype(int).tolist() * len(picture.getbands()))


def noise(picture: Picture, rng: np.random.Generator, deviation: float) -> Picture:
    """Independent normal noise on every channel."""
    pixels = np.asarray(picture)
    noisy = np.rint(pixels + rng.normal(0, deviation, pixels.shape))
    return PIL.Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def social(picture: Picture) -> Picture:
    """What an upload does: longest side to 1080 pixels, then JPEG 71."""
    return jpeg(scale(picture, 1080 / max(picture.size)), 71)


def screenshot(picture: Picture) -> Picture:
    """What a screenshot does: another scale, a colour cast, then JPEG 75."""
    luma, blue, red = scale(picture, 1.25).convert("YCbCr").split()
    cast = (luma, blue.point(lambda value: value + 3), red.point(lambda value: value - 3))
    return jpeg(PIL.Image.merge("YCbCr", cast).convert("RGB"), 75)


REQUIRED: dict[str, Row] = {
    "untouched": Row(1.0),
    "JPEG 50": Row(0.98, lambda picture, rng: jpeg(picture, 50)),
    "scaled 0.5, left so": Row(0.98, lambda picture, rng: scale(picture, 0.5)),
    "unaligned crop to half the area": Row(0.98, lambda picture, rng: crop(picture, rng, 0.5)),
    "brightness 1.3": Row(0.98, lambda picture, rng: values(picture, lambda x: 1.3 * x)),
    "contrast 1.5": Row(0.98, lambda picture, rng: values(picture, lambda x: 1.5 * (x - 127.5) + 127.5)),
}
"""The edits that every version must stand."""

EXTRA: dict[str, Row] = {
    "JPEG 70": Row(None, lambda picture, rng: jpeg(picture, 70)),
    "JPEG 30": Row(0.98, lambda picture, rng: jpeg(picture, 30)),
    "JPEG 20": Row(0.95, lambda picture, rng: jpeg(picture, 20)),
    "WebP 50": Row(0.95, lambda picture, rng: webp(picture, 50)),
    "AVIF 50": Row(0.98, lambda picture, rng: avif(picture, 50)),
    "noise 10": Row(0.98, lambda picture, rng: noise(picture, rng, 10)),
    "blur 1": Row(0.98, lambda picture, rng: picture.filter(PIL.ImageFilter.GaussianBlur(1))),
    "median 3": Row(0.98, lambda picture, rng: picture.filter(PIL.ImageFilter.MedianFilter(3))),
    "gamma 0.7": Row(0.98, lambda picture, rng: values(picture, lambda x: 255 * (x / 255) ** 0.7)),
    "gamma 1.4": Row(0.98, lambda picture, rng: values(picture, lambda x: 255 * (x / 255) ** 1.4)),
    "scaled 0.4": Row(0.98, lambda picture, rng: scale(picture, 0.4)),
    "scaled 0.75": Row(0.98, lambda picture, rng: scale(picture, 0.75)),
    "scaled 2": Row(0.98, lambda picture, rng: scale(picture, 2.0)),
    "scaled 0.5, JPEG 70": Row(0.98, lambda picture, rng: jpeg(scale(picture, 0.5), 70)),
    "scaled 0.5 to 2 at random": Row(0.99, lambda picture, rng: scale(picture, 2 ** rng.uniform(-1, 1))),
    "scaled 0.5 to 2 at random, JPEG 70": Row(
        0.98, lambda picture, rng: jpeg(scale(picture, 2 ** rng.uniform(-1, 1)), 70)
    ),
    "crop to half, JPEG 70": Row(None, lambda picture, rng: jpeg(crop(picture, rng, 0.5), 70)),
    "crop to half, scaled 0.7, JPEG 75": Row(None, lambda picture, rng: jpeg(scale(crop(picture, rng, 0.5), 0.7), 75)),
    "longest side to 1080, JPEG 71": Row(0.97, lambda picture, rng: social(picture)),
}
"""Further edits of values and of size."""

GEOMETRY: dict[str, Row] = {
    "mirrored": Row(0.99, lambda picture, rng: picture.transpose(LEFT_TO_RIGHT)),
    "mirrored, JPEG 70": Row(0.98, lambda picture, rng: jpeg(picture.transpose(LEFT_TO_RIGHT), 70)),
    "flipped top to bottom": Row(0.99, lambda picture, rng: picture.transpose(TOP_TO_BOTTOM)),
    "flipped top to bottom, JPEG 70": Row(0.98, lambda picture, rng: jpeg(picture.transpose(TOP_TO_BOTTOM), 70)),
    "rotated by 5 degrees": Row(0.99, lambda picture, rng: rotate(picture, 5)),
    "rotated at random": Row(0.99, lambda picture, rng: rotate(picture, rng.uniform(-180, 180))),
    "rotated at random, JPEG 70": Row(0.98, lambda picture, rng: jpeg(rotate(picture, rng.uniform(-180, 180)), 70)),
    "mirrored, rotated by up to 30 degrees, JPEG 70": Row(
        0.98, lambda picture, rng: jpeg(rotate(picture.transpose(LEFT_TO_RIGHT), rng.uniform(-30, 30)), 70)
    ),
    "aspect 0.85": Row(0.98, lambda picture, rng: stretch(picture, 0.85)),
    "aspect 1.1": Row(0.98, lambda picture, rng: stretch(picture, 1.1)),
    "aspect 1.18": Row(0.98, lambda picture, rng: stretch(picture, 1.18)),
    "aspect 0.85 to 1.18 and rotated, both at random": Row(
        0.98, lambda picture, rng: rotate(stretch(picture, rng.uniform(0.85, 1.18)), rng.uniform(-180, 180))
    ),
    "sheared by 5 degrees": Row(0.98, lambda picture, rng: shear(picture, 5)),
    "sheared by -5 degrees": Row(0.98, lambda picture, rng: shear(picture, -5)),
    "sheared by up to 5 degrees and rotated, both at random": Row(
        0.98, lambda picture, rng: rotate(shear(picture, rng.uniform(-5, 5)), rng.uniform(-180, 180))
    ),
    "crop to a quarter": Row(0.98, lambda picture, rng: crop(picture, rng, 1 / 4)),
    "crop to an eighth": Row(0.90, lambda picture, rng: crop(picture, rng, 1 / 8)),
    "crop to a sixteenth": Row(0.75, lambda picture, rng: crop(picture, rng, 1 / 16)),
    "rotated by 7 degrees, scaled 0.6, crop to 60 %, JPEG 75": Row(
        0.97, lambda picture, rng: jpeg(crop(scale(rotate(picture, 7), 0.6), rng, 0.6), 75)
    ),
    "warped smoothly by up to 2 pixels": Row(0.97, lambda picture, rng: warp(picture, rng, 2)),
    "warped smoothly by up to 4 pixels": Row(0.80, lambda picture, rng: warp(picture, rng, 4)),
    "perspective, corners moved by up to 3 %": Row(0.95, lambda picture, rng: perspective(picture, rng, 0.03)),
    "screenshot: scaled 1.25, colour cast, JPEG 75": Row(0.97, lambda picture, rng: screenshot(picture)),
    "40 % of the area replaced by another photo": Row(0.98, replaced=0.4),
    "70 % of the area replaced by another photo": Row(0.90, replaced=0.7),
}
"""Edits of geometry, and photos of which a part is left."""

GROUPS = {"required": REQUIRED, "extra": EXTRA, "geometry": GEOMETRY}


def main() -> None:
    """Runs the trials."""
    options = parse()
    corpus = Path(options.corpus)
    photos = sorted(p.relative_to(corpus).as_posix() for p in corpus.glob(options.photos) if p.is_file())
    photos = photos[: options.limit]
    if not photos:
        raise SystemExit(f"no photo matches {options.photos!r} in the corpus folder")
    parameters = {"payload_bits": options.payload_bits, **dict(map(setting, options.set))}
    settings = (options.scheme, parameters, options.seed, options.rows, options.corpus, options.short_side)
    jobs = [
        (photo, other, number, *settings)
        for photo, other in zip(photos, photos[1:] + photos[:1], strict=True)
        for number in range(options.keys)
    ]
    started = time.time()
    context = get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        trials = list(pool.map(trial, jobs, chunksize=max(1, len(jobs) // (8 * options.processes))))
    results = summary(trials, options.rows)
    results = {
        "scheme": options.scheme,
        "parameters": parameters,
        "photos": options.photos,
        "photos_used": len(photos),
        "keys_per_photo": options.keys,
        "seed": options.seed,
        "short_side": options.short_side,
        "seconds": round(time.time() - started),
        **results,
    }
    markdown = tables(results)
    print("\n\n".join(markdown.values()))
    if not options.no_record:
        path = _record.save(options.name, results, markdown=markdown, packages=["scikit-image"], out=options.out)
        print(f"\nwritten: {path.name}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("WATERMARK_DATA"), help="folder of photos ($WATERMARK_DATA)")
    parser.add_argument("--photos", default="images/kodak/*.png", help="glob in the corpus folder")
    parser.add_argument("--limit", type=int, help="use the first so many photos only")
    parser.add_argument("--keys", type=int, default=9, help="keys, hence trials, per photo and edit")
    parser.add_argument("--seed", type=int, default=1, help="chooses keys, messages and random edits")
    parser.add_argument("--scheme", default="image.spectral")
    parser.add_argument("--payload-bits", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="scheme parameter")
    parser.add_argument("--rows", choices=[*GROUPS, "all"], default="all")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--short-side", type=int, help="scale photos to this short side before they are marked")
    parser.add_argument("--name", default="robustness_images", help="name of the record")
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    if not options.corpus:
        parser.error("pass --corpus DIR or set WATERMARK_DATA")
    return options


def setting(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`, the value as a Python literal or as it is."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def rows_of(choice: str) -> dict[str, Row]:
    """The rows of one group or of all."""
    return {name: row for group, rows in GROUPS.items() if choice in (group, "all") for name, row in rows.items()}


def trial(job: tuple[str, str, int, str, dict[str, Any], int, str, str, int | None]) -> dict[str, Any]:
    """Marks one photo with one key, and tries every edit."""
    photo, other, number, scheme, parameters, seed, rows, corpus, short_side = job
    watermark.set_threads(1)
    digest = hashlib.sha256(f"robustness/{seed}/{photo}/{number}".encode())
    key = watermark.Key.from_bytes(digest.digest())
    rng = np.random.default_rng([*digest.digest()])
    message = rng.bytes(parameters["payload_bits"] // 8)
    mark = watermark.load(scheme, key, **parameters)
    picture, foreign = (_open(Path(corpus, name), short_side) for name in (photo, other))

    started = time.process_time()
    marked = mark.embed(picture, message)
    embed_ms = 1000 * (time.process_time() - started)
    outcomes = {}
    for name, row in rows_of(rows).items():
        # Rows do not share random numbers, so that adding one changes no other.
        draws = np.random.default_rng([*digest.digest(), *name.encode()])
        if row.replaced:
            edited, box = replace(marked, draws, row.replaced, foreign)
        else:
            edited, box = row.edit(marked, draws), None
        started = time.process_time()
        found = mark.detect(edited)
        outcomes[name] = {
            "exact": bool(found.payload_ok and found.payload == message),
            "false": bool(found.payload_ok and found.payload != message),
            "detected": bool(found.detected(FPR)),
            "log10_p": round(found.log10_p, 2),
            "ms": round(1000 * (time.process_time() - started), 2),
        }
        if box:
            outcomes[name]["presence_auc"] = presence_auc(found.details, box)
    return {
        "photo": photo,
        "number": number,
        "psnr": psnr(picture, marked),
        "ssim": ssim(picture, marked),
        "embed_ms": round(embed_ms, 2),
        "outcomes": outcomes,
    }


def _open(path: Path, short_side: int | None) -> Picture:
    with PIL.Image.open(path) as opened:
        picture = opened.convert("RGB")
    return scale(picture, short_side / min(picture.size)) if short_side else picture


def presence_auc(details: Mapping[str, Any], foreign: Box) -> float:
    """How well a presence map tells the photo from a foreign rectangle in it: the area under the ROC curve.

    That is the chance that a cell of the photo scores above a foreign cell. A cell belongs where its centre lies. One
    half, as of guessing, if the detector gives no map.
    """
    if "presence" not in details:
        return 0.5
    scores, cell = np.asarray(details["presence"]), details["presence_cell"]
    y, x = ((np.arange(count) + 0.5) * cell for count in scores.shape)
    left, top, right, bottom = foreign
    inside = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
    absent, present = np.sort(scores[inside]), scores[~inside]
    if not absent.size or not present.size:
        return 0.5
    below = np.searchsorted(absent, present, "left") + np.searchsorted(absent, present, "right")
    return float(np.mean(below) / 2 / absent.size)


def summary(trials: list[dict[str, Any]], rows: str) -> dict[str, Any]:
    """One entry per edit, and the quality of the marked photos."""
    entries = []
    for name, row in rows_of(rows).items():
        outcomes = [t["outcomes"][name] for t in trials]
        exact = sum(o["exact"] for o in outcomes)
        missed = defaultdict(int)
        for t in trials:
            missed[t["photo"]] += not t["outcomes"][name]["exact"]
        low, high = clopper_pearson(exact, len(outcomes))
        logs = [o["log10_p"] for o in outcomes]
        rate = exact / len(outcomes)
        entries.append(
            {
                "edit": name,
                "group": next(group for group, members in GROUPS.items() if name in members),
                "exact": exact,
                "trials": len(outcomes),
                "rate": rate,
                "target": row.target,
                "reached": None if row.target is None else rate >= row.target,
                "interval_95": [low, high],
                "false_payloads": sum(o["false"] for o in outcomes),
                "detected_at_1e-6": sum(o["detected"] for o in outcomes),
                "median_log10_p": statistics.median(logs),
                "largest_log10_p": max(logs),
                "median_detect_cpu_ms": statistics.median(o["ms"] for o in outcomes),
                "missed_by_photo": {photo: count for photo, count in sorted(missed.items()) if count},
            }
        )
        if row.replaced:
            entries[-1]["presence_auc"] = spread([o["presence_auc"] for o in outcomes], min)
    quality = {"psnr_db": spread([t["psnr"] for t in trials], min)}
    if all(t["ssim"] is not None for t in trials):
        quality["ssim"] = spread([t["ssim"] for t in trials], min)
    quality["median_embed_cpu_ms"] = statistics.median(t["embed_ms"] for t in trials)
    return {"quality": quality, "edits": entries}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The results in Markdown: what was run, each group of edits, and how well the presence map tells."""
    quality = results["quality"]
    fidelity = "; ".join(
        f"{name} mean {quality[key]['mean']:.{digits}f}, lowest {quality[key]['lowest']:.{digits}f}"
        for name, key, digits in (("PSNR in dB:", "psnr_db", 2), ("SSIM of RGB:", "ssim", 4))
        if key in quality
    )
    wrong = sum(entry["false_payloads"] for entry in results["edits"])
    side = f" with a short side of {results['short_side']} pixels" if results["short_side"] else ""
    parts = {
        "setting": f"`{results['scheme']}`, {results['parameters']['payload_bits']} bits: "
        f"{results['photos_used']} photos{side} x {results['keys_per_photo']} keys, seed {results['seed']}. "
        f"{fidelity}. Wrong messages vouched for: {wrong}."
    }
    for group, title in (("required", "Edit"), ("extra", "Further edit"), ("geometry", "Geometry, and parts")):
        chosen = [entry for entry in results["edits"] if entry["group"] == group]
        if chosen:
            parts[group] = _table(title, chosen)
    mapped = [entry for entry in results["edits"] if "presence_auc" in entry]
    if mapped:
        parts["presence"] = _presence_table(mapped)
    return parts


def _table(title: str, entries: list[dict[str, Any]]) -> str:
    lines = [
        f"| {title} | exact message | 95 % interval | target | found at 1e-6 | median log10 p | detect, CPU ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in entries:
        low, high = entry["interval_95"]
        lines.append(
            f"| {entry['edit']} | {entry['exact']} / {entry['trials']} = {percent(entry['rate'])} % "
            f"| {percent(low)} to {percent(high)} % | {_verdict(entry['target'], entry['rate'])} "
            f"| {entry['detected_at_1e-6']} | {entry['median_log10_p']:.0f} | {entry['median_detect_cpu_ms']:.1f} |"
        )
    return "\n".join(lines)


def _verdict(target: float | None, rate: float) -> str:
    if target is None:
        return "-"
    return f"{100 * target:.0f} %, {'reached' if rate >= target else '**missed**'}"


def _presence_table(entries: list[dict[str, Any]]) -> str:
    lines = ["| Presence map | AUC, median | AUC, lowest | target of the median |", "| --- | --- | --- | --- |"]
    for entry in entries:
        auc = entry["presence_auc"]
        reached = "reached" if auc["median"] >= PRESENCE_TARGET else "**missed**"
        lines.append(
            f"| {entry['edit']} | {auc['median']:.3f} | {auc['lowest']:.3f} | {PRESENCE_TARGET:.2f}, {reached} |"
        )
    return "\n".join(lines)


def psnr(original: Picture, marked: Picture) -> float:
    """Peak signal-to-noise ratio over all channels in dB (peak 255); 99 for equal pictures."""
    difference = np.asarray(original, np.float64) - np.asarray(marked, np.float64)
    error = float(np.mean(difference**2))
    return 10 * math.log10(255**2 / error) if error else 99.0


def ssim(original: Picture, marked: Picture) -> float | None:
    """Structural similarity of RGB, its mean over channels, as Wang et al. (2004) set it; None without scikit-image."""
    if structural_similarity is None:
        return None
    both = [np.asarray(picture.convert("RGB")) for picture in (original, marked)]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(*both, channel_axis=2, **settings))


def spread(numbers: list[float], worst: Callable[[list[float]], float]) -> dict[str, float]:
    """Mean, median and worst."""
    return {"mean": statistics.fmean(numbers), "median": statistics.median(numbers), "lowest": worst(numbers)}


def _through(picture: Picture, file_format: str, quality: int) -> Picture:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, quality=quality)
    with PIL.Image.open(buffer) as opened:
        return opened.convert("RGB")


if __name__ == "__main__":
    main()
