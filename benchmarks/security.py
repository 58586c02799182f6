"""What do marked pictures give away? Attacks without the key that remove an image mark, or forge it.

For three of the attacks, an attacker collects many marked pictures of one key and one size: crops of photos, anywhere
and at various scales, each with a message of its own. What their averages tell is then tried on other photos. The
attacker either holds the marked pictures alone, and sees the mark through a high-pass, or holds the originals as well,
hence the very changes.

- *Residual*: the changes are averaged and subtracted from marked pictures, as strong as the mark is or at a PSNR of
  40 dB, or added to unmarked ones.
- *Spectrum*: the power spectra of the changes are averaged, and the highest peaks over their surroundings are cut out
  of marked pictures. A better average flattens each spectrum first, so that busy pictures do not drown the others.
- *Aligned*: who knows the scheme folds each picture by its tilt, the one of eight in which the lattice stands out. By
  the strongest lines, which are the sync lines, folds are laid over each other and averaged. The sync lines are then
  subtracted from marked pictures, and all lines added to unmarked ones. Forgers also learn from pictures that carry one
  message, and both are tried with what a single picture shows.

The fourth is about marks that are bound to their picture (``bind=True``), and needs one marked photo and its original:

- *Copies*: the exact change to a photo is added to other pictures, among them views of the same scene. Genuine marks,
  edited, show what telling them apart costs.

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
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, cycle
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import _record
import numpy as np
import PIL.Image
from _attempts import PAYLOAD_BITS, SCHEME, Attempt, Row
from _intervals import clopper_pearson, percent
from copies import COPIES, copies
from numpy.typing import NDArray
from robustness import LEFT_TO_RIGHT, Picture, psnr, rotate

import watermark
from watermark.image.geometry import PERIOD, TILE, TILTS
from watermark.ops.picture import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
STEPS = np.array([tilt.step for tilt in TILTS])
LINES = np.stack([side.ravel() for side in np.meshgrid(np.arange(-26, 27), np.arange(1, 27))], axis=1)
LINES = LINES[(np.abs(np.hypot(*LINES.T) / TILE - 0.1475) <= 0.1025) & (LINES[:, 0] != 0)]
PLACES = np.array([tilt.places(LINES) for tilt in TILTS])
"""Where the lines of the scheme's band are in the spectrum of a folded picture, by tilt."""
SYNC_LINES = 32
"""How many lines are alike in all pictures, which is public."""
STRENGTHS = {"as strong as fits": None, "at 49 dB": 49, "at 46 dB": 46, "at 43 dB": 43}
MEDIANS = {"psnr": "PSNR of the change", "height": "height of peaks", "agreement": "agreement"}
"""Columns of medians, where a table has any."""
ADDED, ALIKE, ALONE = "added to unmarked pictures at 40 dB", ", one message in all", ", learnt from one picture"

Plane = NDArray[np.floating[Any]]
Lines = NDArray[np.complexfloating[Any]]
Fold = tuple[int, Lines]


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
        folds: Every picture's tilt and lines.
        alike: The same for pictures that all carry one message.
        message: That message.
    """

    spectra: dict[str, Lines]
    powers: dict[str, Plane]
    folds: list[Fold]
    alike: list[Fold]
    message: bytes


def learn(mark: Any, pictures: Iterator[Picture], rng: np.random.Generator) -> Averages:
    """Marks pictures with messages of their own, and with a single one, and gathers what an attacker sees of it."""
    spectra: dict[str, Any] = defaultdict(float)
    powers: dict[str, Any] = defaultdict(float)
    folds, alike, message = [], [], rng.bytes(PAYLOAD_BITS // 8)
    for picture in pictures:
        marked = luma(mark.embed(picture, rng.bytes(PAYLOAD_BITS // 8)))
        folds.append(folded(marked))
        alike.append(folded(luma(mark.embed(picture, message))))
        seen, true = np.fft.rfft2(marked) * HIGH_PASS, np.fft.rfft2(marked - luma(picture))
        spectra[""] += seen
        spectra[", originals known"] += true
        powers["peaks cut"] += np.abs(seen) ** 2
        powers["peaks of flattened spectra cut"] += over_surroundings(np.abs(seen) ** 2)
        powers["peaks cut, originals known"] += np.abs(true) ** 2
    return Averages(spectra, powers, folds, alike, message)


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
                (ADDED, original, 1, 40),
            ):
                after = changed(picture, sign * level(strength) * change)
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


def aligned(averages: Averages, subjects: list[Subject], rng: np.random.Generator) -> Iterator[Attempt]:
    """Sync lines are subtracted where they fit a marked picture best; all lines are added to unmarked pictures."""
    (sync, different), (_, same) = overlaid(averages.folds), overlaid(averages.alike)
    for (original, marked, message), single in zip(subjects, cycle(averages.alike)):
        tilt, lines = folded(luma(marked))
        for source, known in ("", sync), (ALONE, strongest(lines)):
            pattern, fitted = shaped(marked, laid(known, tilt, shift(lines, known, tilt)))
            for row, strength in STRENGTHS.items():
                after = changed(marked, -(level(strength) if strength else fitted) * pattern)
                yield Attempt(f"subtracted {row}{source}", after, message, psnr(marked, after))
        for source, (tilt, lines) in ("", different), (ALIKE, same), (ALONE, single):
            pattern, _ = shaped(original, laid(lines, tilt, int(rng.integers(PERIOD))))
            after = changed(original, level(40) * pattern)
            yield Attempt(ADDED + source, after, averages.message, psnr(original, after))


LEARNT: dict[str, Callable[[Averages, list[Subject], np.random.Generator], Iterator[Attempt]]] = {
    "residual": residual,
    "spectrum": spectrum,
    "aligned": aligned,
}
"""The attacks that learn from many marked pictures."""
ATTACKS = {
    "residual": {
        "nothing done": Row(),
        "subtracted": Row(0.98),
        "subtracted at 40 dB": Row(),
        ADDED: Row(0.01, -3, forgery=True),
        "subtracted, originals known": Row(0.98),
        "subtracted at 40 dB, originals known": Row(),
        f"{ADDED}, originals known": Row(0.01, -3, forgery=True),
    },
    "spectrum": {
        "rotated only": Row(),
        "peaks cut": Row(0.90),
        "peaks cut, then rotated": Row(0.70),
        "peaks of flattened spectra cut": Row(0.90),
        "peaks of flattened spectra cut, then rotated": Row(0.70),
        "peaks cut, originals known": Row(),
        "peaks cut, originals known, then rotated": Row(),
    },
    "aligned": {
        **{f"subtracted {row}{source}": Row() for source in ("", ALONE) for row in STRENGTHS},
        **{ADDED + source: Row(level=-3, forgery=True) for source in ("", ALIKE, ALONE)},
    },
    "copies": COPIES,
}
"""Each attack, and the rows of its table."""


def main() -> None:
    """Runs the attacks."""
    options = parse()
    started = time.time()
    trials: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        if learning := [name for name in options.attacks if name in LEARNT]:
            jobs: list[Any] = [(options, learning, number) for number in range(options.keys)]
            trials += chain.from_iterable(pool.map(attacked, jobs))
        if "copies" in options.attacks:
            photos = range(len(sorted(Path(options.corpus).glob(options.test_photos))))
            jobs = [(options, photo, number) for photo in photos for number in range(options.copies)]
            trials += chain.from_iterable(pool.map(copied, jobs))
    names = "photos", "test_photos", "images", "keys", "tests", "copies", "seed"
    quality = [t["psnr"] for t in trials if (t["attack"], t["row"]) == ("copies", "genuine")]
    results = {
        "scheme": SCHEME,
        "payload_bits": PAYLOAD_BITS,
        "side": SIDE,
        **{name: getattr(options, name) for name in names},
        **({"psnr_of_bound_marks_db": {"mean": statistics.fmean(quality), "lowest": min(quality)}} if quality else {}),
        "seconds": round(time.time() - started),
        "attacks": {attack: summary(attack, trials) for attack in options.attacks},
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
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="which of them, with commas between (all)")
    parser.add_argument("--photos", default="images/photos/*.webp", help="glob in the corpus folder: to learn from")
    parser.add_argument("--test-photos", default="images/kodak/*.png", help="glob in the corpus folder: to attack")
    parser.add_argument("--images", type=int, default=1000, help="marked pictures to learn from, per key")
    parser.add_argument("--tests", type=int, default=50, help="marked pictures to attack, per key")
    parser.add_argument("--keys", type=int, default=4, help="of which marked pictures are collected")
    parser.add_argument("--copies", type=int, default=9, help="keys for each photo that bound marks are copied from")
    parser.add_argument("--seed", type=int, default=1, help="chooses keys, messages, crops and angles")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--name", default="security_images", help="name of the record")
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    if not options.corpus:
        parser.error("pass --corpus DIR or set WATERMARK_DATA")
    options.attacks = options.attacks.split(",")
    if unknown := set(options.attacks) - set(ATTACKS):
        parser.error(f"no attack {', '.join(sorted(unknown))}, but {', '.join(ATTACKS)}")
    learnt, tested = (set(Path(options.corpus).glob(pattern)) for pattern in (options.photos, options.test_photos))
    if not tested:
        parser.error("no photos to attack")
    if any(attack in LEARNT for attack in options.attacks) and (not learnt or learnt & tested):
        parser.error(f"{len(learnt)} photos to learn from, {len(learnt & tested)} of them also attacked")
    return options


def attacked(job: tuple[argparse.Namespace, list[str], int]) -> list[dict[str, Any]]:
    """Tries the attacks that learn on one key."""
    options, attacks, number = job
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
    for name in attacks:
        # Attacks do not share random numbers, so that adding one changes no other.
        draws = np.random.default_rng([*digest, *name.encode()])
        trials += [trial(mark, name, f"key {number}", a) for a in LEARNT[name](averages, subjects, draws)]
    return trials


def copied(job: tuple[argparse.Namespace, int, int]) -> list[dict[str, Any]]:
    """Copies a bound mark from one photo, with a key of its own."""
    options, place, number = job
    watermark.set_threads(1)
    digest = hashlib.sha256(f"security/{options.seed}/copies/{place}/{number}".encode()).digest()
    mark = watermark.load(SCHEME, watermark.Key.from_bytes(digest), payload_bits=PAYLOAD_BITS, bind=True)
    paths = sorted(Path(options.corpus).glob(options.test_photos))
    photo, other = (opened(paths[i % len(paths)]) for i in (place, place + 1))
    attempts = copies(mark, photo, other, np.random.default_rng([*digest]))
    return [trial(mark, "copies", paths[place].name, attempt) for attempt in attempts]


def trial(mark: Any, attack: str, group: str, attempt: Attempt) -> dict[str, Any]:
    """What the detector says to an attempt, and which key or photo this was about."""
    found = mark.detect(attempt.picture)
    return {
        "attack": attack,
        "row": attempt.row,
        "group": group,
        "log10_p": found.log10_p,
        "exact": bool(found.payload_ok and found.payload == attempt.message),
        "psnr": attempt.psnr,
        "height": attempt.height,
        "present": found.details.get("unbound_log10_p"),
        "agreement": found.details.get("agreement"),
    }


def opened(path: Path) -> Picture:
    """A photo in RGB."""
    with PIL.Image.open(path) as picture:
        return picture.convert("RGB")


def crops(corpus: str, pattern: str, count: int, rng: np.random.Generator) -> Iterator[Picture]:
    """Squares from anywhere in the photos, each scaled to SIDE pixels from as many or more, half of them mirrored."""
    paths = sorted(Path(corpus).glob(pattern))
    for number, path in enumerate(paths):
        photo = opened(path)
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


def level(strength: float) -> float:
    """Root mean square of a change at a PSNR, in grey levels."""
    return float(255 / 10 ** (strength / 20))


def high_passed(plane: Plane) -> tuple[Plane, Plane]:
    """Where a mark shows, and how much happens around: about the mean of its size over 8 x 8 pixels."""
    high = np.fft.irfft2(np.fft.rfft2(plane) * HIGH_PASS).astype(np.float32)
    means = PIL.Image.fromarray(np.sqrt(np.abs(high))).reduce(8)
    return high, 1.4 * np.asarray(means.resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR)) ** 2


def folded(plane: Plane) -> Fold:
    """The tilt of a marked picture, in which its lines are strongest, and these lines: complex64 of shape (lines,)."""
    high, activity = high_passed(plane)
    spectrum = np.fft.rfft2(high / (1 + activity) ** 1.5)
    power = np.abs(spectrum).astype(np.float32) ** 2
    flat = np.fft.irfft2(spectrum * np.sqrt(over_surroundings(power) / (power + 1e-9))).astype(np.float32)
    lines = np.take_along_axis(np.fft.fft(fold(flat, STEPS, PERIOD)), PLACES, 1)
    tilt = int(np.abs(lines).sum(axis=1).argmax())
    lines = lines[tilt] / np.median(np.abs(lines[tilt]))
    return tilt, (lines * np.minimum(1, 6 / np.maximum(np.abs(lines), 1))).astype(np.complex64)


def shift(lines: Lines, known: Lines, tilt: int) -> int:
    """By how much lines lie further in the cycle than known ones, by cross-correlation."""
    products = np.zeros(PERIOD, np.complex64)
    products[PLACES[tilt]] = lines * known.conj()
    return int(np.fft.ifft(products).real.argmax())


def overlaid(folds: list[Fold]) -> tuple[Lines, Fold]:
    """Lays folded pictures over each other: the sync lines of them all; and the mean of those of one tilt."""
    tilts, lines = (np.array(part) for part in zip(*folds, strict=True))
    sync = strongest(lines[0])
    for _ in range(3):
        for n, tilt in enumerate(tilts):
            lines[n] *= np.exp(2j * np.pi / PERIOD * PLACES[tilt] * shift(lines[n], sync, tilt))
        sync = strongest(lines.mean(axis=0))
    return sync, (tilts[0], lines[tilts == tilts[0]].mean(axis=0))


def strongest(lines: Lines) -> Lines:
    """The strongest lines, as many as there are sync lines and all alike as these are; 0 elsewhere."""
    size = np.abs(lines)
    return np.where(size >= np.sort(size)[-SYNC_LINES], lines / np.maximum(size, 1e-9), 0).astype(np.complex64)


def laid(lines: Lines, tilt: int, start: int) -> Plane:
    """The pattern with these lines on a picture."""
    spectrum = np.zeros(PERIOD, np.complex64)
    spectrum[PLACES[tilt]] = lines * np.exp(-2j * np.pi / PERIOD * PLACES[tilt] * start)
    y, x = np.indices((SIDE, SIDE))
    pattern: Plane = np.fft.ifft(spectrum, norm="forward").real[(x + STEPS[tilt] * y) % PERIOD].astype(np.float32)
    return pattern


def shaped(picture: Picture, pattern: Plane) -> tuple[Plane, float]:
    """A pattern as it is hidden in a picture, of unit mean square; and how strong it is there, by least squares."""
    high, activity = high_passed(luma(picture))
    change = pattern * (0.5 + 0.35 * activity**0.75)
    change /= np.sqrt(np.mean(change**2))
    seen = high_passed(change)[0] / (1 + activity)
    return change, float(np.sum(high / (1 + activity) * seen) / np.sum(seen * seen))


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


def summary(attack: str, trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per row."""
    entries = []
    for name, row in ATTACKS[attack].items():
        chosen = [t for t in trials if t["attack"] == attack and t["row"] in (row.pooled or (name,))]
        by_group = Counter({t["group"]: 0 for t in chosen})
        by_group.update(t["group"] for t in chosen if t["log10_p"] <= row.level)
        found = by_group.total()
        rate = found / len(chosen)
        reached = None if row.target is None else rate <= row.target if row.forgery else rate >= row.target
        present = [t["present"] <= row.level for t in chosen if t["present"] is not None]
        columns = {name: [t[name] for t in chosen if t[name] is not None] for name in ("log10_p", *MEDIANS)}
        entries.append(
            {
                "row": name,
                **row._asdict(),
                "reached": reached,
                "found": found,
                "trials": len(chosen),
                "rate": rate,
                "interval_95": clopper_pearson(found, len(chosen)),
                "found_by_group": dict(by_group),
                "exact": sum(t["exact"] for t in chosen),
                "present": sum(present) if present else None,
                **{f"median_{name}": statistics.median(c) if c else None for name, c in columns.items()},
            }
        )
    return entries


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The results in Markdown: what was run, and a table for each attack."""
    setting = f"`{SCHEME}`, {PAYLOAD_BITS} bits, seed {results['seed']}."
    if any(attack in LEARNT for attack in results["attacks"]):
        setting += (
            f" Attacks that learn: {results['keys']} keys; for each, {results['images']} marked pictures of {SIDE} x "
            f"{SIDE} pixels to learn from, and {results['tests']} others to attack."
        )
    if "copies" in results["attacks"]:
        quality = results["psnr_of_bound_marks_db"]
        genuine = results["attacks"]["copies"][0]
        setting += (
            f" Copies of bound marks: {len(genuine['found_by_group'])} photos x {results['copies']} keys; PSNR of the "
            f"bound marks in dB: mean {quality['mean']:.2f}, lowest {quality['lowest']:.2f}."
        )
    return {"setting": setting, **{attack: table(attack, entries) for attack, entries in results["attacks"].items()}}


def table(attack: str, entries: list[dict[str, Any]]) -> str:
    """One attack in Markdown."""
    medians = {name: head for name, head in MEDIANS.items() if any(e[f"median_{name}"] is not None for e in entries)}
    bound = any(e["present"] is not None for e in entries)
    heads = [attack.capitalize(), "mark found", "95 % interval", "target", "exact message", "median log10 p"]
    heads += ["bound or not"] * bound + list(medians.values())
    rows = [heads, ["---"] * len(heads)]
    for entry in entries:
        low, high = entry["interval_95"]
        row = [
            entry["row"],
            f"{entry['found']} / {entry['trials']} = {percent(entry['rate'])} % at 1e{entry['level']}",
            f"{percent(low)} to {percent(high)} %",
            _target(entry),
            str(entry["exact"]),
            f"{entry['median_log10_p']:.0f}",
            *[str(entry["present"])] * bound,
        ]
        values = (entry[f"median_{name}"] for name in medians)
        rows.append(row + ["-" if v is None else f"{v:.1f}" if v > 2 else f"{v:z.2f}" for v in values])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _target(entry: dict[str, Any]) -> str:
    if entry["target"] is None:
        return "-"
    bound = f"{'at most ' if entry['forgery'] else ''}{100 * entry['target']:.0f} %"
    return f"{bound}, {'reached' if entry['reached'] else '**missed**'}"


if __name__ == "__main__":
    main()
