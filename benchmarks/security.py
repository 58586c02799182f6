"""What do many marked pictures of one key give away? Attacks without the key that remove an image mark, or forge it.

For each key, an attacker collects marked pictures of one size: crops of photos, anywhere and at various scales, each
with a message of its own. What their averages tell is then tried on other photos. The attacker either holds the marked
pictures alone, and sees the mark through a high-pass, or holds the originals as well, hence the very changes.

- *Residual*: the changes are averaged and subtracted from marked pictures, as strong as the mark is or at a PSNR of
  40 dB, or added to unmarked ones.
- *Spectrum*: the power spectra of the changes are averaged, and the highest peaks over their surroundings are cut out
  of marked pictures. A better average flattens each spectrum first, so that busy pictures do not drown the others.

Everything depends on ``--seed`` only::

    python benchmarks/security.py --corpus DIR --seed 1

prints Markdown tables and writes ``benchmarks/results/security_images.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import _record
import numpy as np
import PIL.Image
from _intervals import clopper_pearson, percent
from numpy.typing import NDArray
from robustness import LEFT_TO_RIGHT, Picture, psnr, rotate

import watermark

SCHEME, PAYLOAD_BITS = "image.spectral", 64
SIDE = 512
PEAKS, CELL = 80, 16
"""How many peaks are cut, and the size in bins of the cells that tell their surroundings."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
DOWN, ACROSS = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
RADIUS = np.hypot(DOWN, ACROSS)
HIGH_PASS = (1 - np.exp(-2 * (np.pi * RADIUS * 2.0) ** 2)).astype(np.float32)
"""What a Gaussian low-pass with a standard deviation of 2 pixels leaves of a picture."""
SOUGHT = (np.abs(RADIUS - 0.15) < 0.11) & (np.minimum(np.abs(DOWN), ACROSS) * SIDE > 2.5)
"""Where peaks are sought: in the scheme's band, which is public, and off the axes, where any picture has lines."""

Plane = NDArray[np.floating[Any]]


class Subject(NamedTuple):
    """A picture that the attacks are tried on."""

    original: Picture
    marked: Picture
    message: bytes


class Averages(NamedTuple):
    """What an attacker learns from many marked pictures of one key.

    Attributes:
        spectra: Sums of the changes' Fourier transforms, by what is known beside the marked pictures.
        powers: Sums of their power spectra, by the row of the table.
    """

    spectra: dict[str, NDArray[np.complexfloating[Any]]]
    powers: dict[str, Plane]


class Attempt(NamedTuple):
    """A picture that an attacker made.

    Attributes:
        row: Which row of the table it belongs to.
        picture: The picture itself.
        message: What was embedded.
        psnr: Of the attacker's change in dB; None where there is no pixel to compare with.
        height: How far the peaks that were cut rise over their surroundings, as a factor; None without peaks.
    """

    row: str
    picture: Picture
    message: bytes
    psnr: float | None = None
    height: float | None = None


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        target: Least rate at which the mark is found, or largest in a forgery; None: reported only.
        level: Power of ten that p must not exceed for a mark to count as found.
        forgery: Whether the attacker wants it to be found.
    """

    target: float | None = None
    level: int = -6
    forgery: bool = False


def learn(mark: Any, pictures: Iterator[Picture], rng: np.random.Generator) -> Averages:
    """Marks pictures, each with a message of its own, and adds up what an attacker sees of the changes."""
    spectra: dict[str, Any] = defaultdict(float)
    powers: dict[str, Any] = defaultdict(float)
    for picture in pictures:
        marked = luma(mark.embed(picture, rng.bytes(PAYLOAD_BITS // 8)))
        seen, true = np.fft.rfft2(marked) * HIGH_PASS, np.fft.rfft2(marked - luma(picture))
        spectra[""] += seen
        spectra[", originals known"] += true
        powers["peaks cut"] += np.abs(seen) ** 2
        powers["peaks of flattened spectra cut"] += over_surroundings(np.abs(seen) ** 2)
        powers["peaks cut, originals known"] += np.abs(true) ** 2
    return Averages(spectra, powers)


def residual(averages: Averages, subjects: list[Subject], rng: np.random.Generator) -> Iterator[Attempt]:
    """The mean change is subtracted from marked pictures, or added to unmarked ones."""
    for original, marked, message in subjects:
        yield Attempt("nothing done", marked, message, psnr(original, marked))
    for known, total in averages.spectra.items():
        change = np.fft.irfft2(total)
        change /= np.sqrt(np.mean(change**2))
        for original, marked, message in subjects:
            for row, picture, sign, strength in (
                ("subtracted", marked, -1, psnr(original, marked)),
                ("subtracted at 40 dB", marked, -1, 40),
                ("added to unmarked pictures at 40 dB", original, 1, 40),
            ):
                after = changed(picture, sign * 255 / 10 ** (strength / 20) * change)
                yield Attempt(row + known, after, message, psnr(picture, after))


def spectrum(averages: Averages, subjects: list[Subject], rng: np.random.Generator) -> Iterator[Attempt]:
    """The highest peaks of the mean power spectrum are cut out; then the picture is rotated as well."""
    for _, marked, message in subjects:
        yield Attempt("rotated only", rotate(marked, rng.uniform(-180, 180)), message)
    for row, power in averages.powers.items():
        kept, height = notches(power)
        for _, marked, message in subjects:
            plane = luma(marked)
            cut = changed(marked, np.fft.irfft2(np.fft.rfft2(plane) * kept) - plane)
            yield Attempt(row, cut, message, psnr(marked, cut), height)
            yield Attempt(f"{row}, then rotated", rotate(cut, rng.uniform(-180, 180)), message, None, height)


Attack = Callable[[Averages, list[Subject], np.random.Generator], Iterator[Attempt]]
ATTACKS: dict[Attack, dict[str, Row]] = {
    residual: {
        "nothing done": Row(),
        "subtracted": Row(0.98),
        "subtracted at 40 dB": Row(),
        "added to unmarked pictures at 40 dB": Row(0.01, -3, forgery=True),
        "subtracted, originals known": Row(0.98),
        "subtracted at 40 dB, originals known": Row(),
        "added to unmarked pictures at 40 dB, originals known": Row(0.01, -3, forgery=True),
    },
    spectrum: {
        "rotated only": Row(),
        "peaks cut": Row(0.90),
        "peaks cut, then rotated": Row(0.70),
        "peaks of flattened spectra cut": Row(),
        "peaks of flattened spectra cut, then rotated": Row(),
        "peaks cut, originals known": Row(),
        "peaks cut, originals known, then rotated": Row(),
    },
}
"""Each attack, and the rows of its table."""


def main() -> None:
    """Runs the attacks."""
    options = parse()
    started = time.time()
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        trials = list(chain.from_iterable(pool.map(attacked, [(options, number) for number in range(options.keys)])))
    results = {
        "scheme": SCHEME,
        "payload_bits": PAYLOAD_BITS,
        "side": SIDE,
        **{name: getattr(options, name) for name in ("photos", "test_photos", "images", "keys", "tests", "seed")},
        "seconds": round(time.time() - started),
        "attacks": {attack.__name__: summary(attack, trials) for attack in ATTACKS},
    }
    markdown = tables(results)
    print("\n\n".join(markdown.values()))
    if not options.no_record:
        path = _record.save(options.name, results, markdown=markdown, out=options.out)
        print(f"\nwritten: {path.name}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("WATERMARK_DATA"), help="folder of photos ($WATERMARK_DATA)")
    parser.add_argument("--photos", default="images/photos/*.webp", help="glob in the corpus folder: to learn from")
    parser.add_argument("--test-photos", default="images/kodak/*.png", help="glob in the corpus folder: to attack")
    parser.add_argument("--images", type=int, default=1000, help="marked pictures to learn from, per key")
    parser.add_argument("--tests", type=int, default=50, help="marked pictures to attack, per key")
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1, help="chooses keys, messages, crops and angles")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--name", default="security_images", help="name of the record")
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    if not options.corpus:
        parser.error("pass --corpus DIR or set WATERMARK_DATA")
    learnt, tested = (set(Path(options.corpus).glob(pattern)) for pattern in (options.photos, options.test_photos))
    if not learnt or not tested or learnt & tested:
        parser.error(
            f"{len(learnt)} photos to learn from, {len(tested)} to attack, {len(learnt & tested)} of them both"
        )
    return options


def attacked(job: tuple[argparse.Namespace, int]) -> list[dict[str, Any]]:
    """Tries every attack on one key."""
    options, number = job
    watermark.set_threads(1)
    digest = hashlib.sha256(f"security/{options.seed}/{number}".encode()).digest()
    mark = watermark.load(SCHEME, watermark.Key.from_bytes(digest), payload_bits=PAYLOAD_BITS)
    rng = np.random.default_rng([*digest])
    averages = learn(mark, crops(options.corpus, options.photos, options.images, rng), rng)
    subjects = []
    for original in crops(options.corpus, options.test_photos, options.tests, rng):
        message = rng.bytes(PAYLOAD_BITS // 8)
        subjects.append(Subject(original, mark.embed(original, message), message))
    trials = []
    for attack in ATTACKS:
        # Attacks do not share random numbers, so that adding one changes no other.
        draws = np.random.default_rng([*digest, *attack.__name__.encode()])
        for row, picture, message, change, height in attack(averages, subjects, draws):
            found = mark.detect(picture)
            exact = bool(found.payload_ok and found.payload == message)
            verdict = {"log10_p": found.log10_p, "exact": exact, "psnr": change, "height": height}
            trials.append({"attack": attack.__name__, "row": row, "key": number, **verdict})
    return trials


def crops(corpus: str, pattern: str, count: int, rng: np.random.Generator) -> Iterator[Picture]:
    """Squares from anywhere in the photos, each scaled to SIDE pixels from as many or more, half of them mirrored."""
    paths = sorted(Path(corpus).glob(pattern))
    for number, path in enumerate(paths):
        with PIL.Image.open(path) as opened:
            photo = opened.convert("RGB")
        short = min(photo.size)
        for _ in range(count * (number + 1) // len(paths) - count * number // len(paths)):
            side = int(rng.integers(min(SIDE, short), short + 1))
            x, y = (int(rng.integers(0, size - side + 1)) for size in photo.size)
            crop = photo.resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC, (x, y, x + side, y + side))
            yield crop.transpose(LEFT_TO_RIGHT) if rng.integers(2) else crop


def luma(picture: Picture) -> Plane:
    """What the attacker works on, 0 to 255."""
    return np.asarray(picture, np.float32) @ LUMA


def changed(picture: Picture, change: Plane) -> Picture:
    """The same change to red, green and blue, rounded and clipped."""
    pixels = np.rint(np.asarray(picture, np.float32) + change[..., None])
    return PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def over_surroundings(power: Plane) -> Plane:
    """A power spectrum over its smooth course: the geometric means of cells, interpolated."""
    logs = np.log(power + np.float32(1e-9))
    course = PIL.Image.fromarray(logs)
    course = course.reduce(CELL).resize(course.size, PIL.Image.Resampling.BICUBIC)
    ratio: Plane = np.exp(logs - np.asarray(course))
    return ratio


def notches(power: Plane) -> tuple[Plane, float]:
    """What to keep of a spectrum: 0 around the highest peaks, 1 elsewhere; and the median height of the peaks."""
    kept, heights, peaks = np.ones_like(power), np.where(SOUGHT, over_surroundings(power), 0), []
    for _ in range(PEAKS):
        y, x = np.unravel_index(np.argmax(heights), heights.shape)
        peaks.append(float(heights[y, x]))
        kept[y - 1 : y + 2, x - 1 : x + 2] = 0  # the bins within a radius of 1.5
        heights[y - 2 : y + 3, x - 2 : x + 3] = 0  # the flanks of a peak are no peaks of their own
    return kept, statistics.median(peaks)


def summary(attack: Attack, trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per row."""
    entries = []
    for name, row in ATTACKS[attack].items():
        chosen = [t for t in trials if t["attack"] == attack.__name__ and t["row"] == name]
        by_key: dict[int, int] = defaultdict(int)
        for t in chosen:
            by_key[t["key"]] += t["log10_p"] <= row.level
        found = sum(by_key.values())
        rate = found / len(chosen)
        reached = None if row.target is None else rate <= row.target if row.forgery else rate >= row.target
        medians = {}
        for column in ("log10_p", "psnr", "height"):
            numbers = [t[column] for t in chosen if t[column] is not None]
            medians[f"median_{column}"] = statistics.median(numbers) if numbers else None
        entries.append(
            {
                "row": name,
                **row._asdict(),
                "reached": reached,
                "found": found,
                "trials": len(chosen),
                "rate": rate,
                "interval_95": clopper_pearson(found, len(chosen)),
                "found_by_key": list(by_key.values()),
                "exact": sum(t["exact"] for t in chosen),
                **medians,
            }
        )
    return entries


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The results in Markdown: what was run, and a table for each attack."""
    parts = {
        "setting": f"`{SCHEME}`, {PAYLOAD_BITS} bits: {results['keys']} keys; for each, {results['images']} marked "
        f"pictures of {SIDE} x {SIDE} pixels to learn from, and {results['tests']} others to attack. Seed "
        f"{results['seed']}."
    }
    for attack, entries in results["attacks"].items():
        lines = [
            f"| {attack.capitalize()} | mark found | 95 % interval | target | exact message | median log10 p "
            "| PSNR of the change | height of peaks |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for entry in entries:
            low, high = entry["interval_95"]
            found = f"{entry['found']} / {entry['trials']} = {percent(entry['rate'])} % at 1e{entry['level']}"
            height = "-" if entry["median_height"] is None else f"{entry['median_height']:.1f}"
            change = "-" if entry["median_psnr"] is None else f"{entry['median_psnr']:.1f}"
            lines.append(
                f"| {entry['row']} | {found} | {percent(low)} to {percent(high)} % | {_target(entry)} "
                f"| {entry['exact']} | {entry['median_log10_p']:.0f} | {change} | {height} |"
            )
        parts[attack] = "\n".join(lines)
    return parts


def _target(entry: dict[str, Any]) -> str:
    if entry["target"] is None:
        return "-"
    bound = f"{'at most ' if entry['forgery'] else ''}{100 * entry['target']:.0f} %"
    return f"{bound}, {'reached' if entry['reached'] else '**missed**'}"


if __name__ == "__main__":
    main()
