"""Our image mark beside other packages: CPU time, fidelity, and whether the message comes back.

All systems run in one process on one thread, on the same pictures, one after the other within each repetition, so that
a busy machine slows all alike. Times are CPU times, those of peers with what their adapter does: channels in OpenCV's
order and back. Peers that are not installed are left out; ``pip install 'watermarking[peers]'`` installs them::

    python benchmarks/peers/images.py --corpus DIR --photos 'images/kodak/*.png'

prints a Markdown table and writes ``benchmarks/results/peers_images.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageOps

import watermark
from watermark.integrations.blind_watermark import BlindWatermark
from watermark.integrations.invisible_watermark import InvisibleWatermark

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _record

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
OURS = "image.spectral"
SIZES = {"512 x 512": (512, 512), "1920 x 1080": (1920, 1080)}
MESSAGE_BYTES = 8
PEERS = ["dwtDct", "dwtDctSvd", "rivaGan", "blind-watermark"]
PACKAGES = ["invisible-watermark", "blind-watermark", "opencv-python", "opencv-python-headless", "PyWavelets"]
PACKAGES += ["onnxruntime", "torch"]


class Ours:
    """`image.spectral` through its public calls, with the methods of the adapters to the peers."""

    name = f"watermarking {OURS}"
    payload_bits = 8 * MESSAGE_BYTES

    def __init__(self, key: watermark.Key) -> None:
        self._scheme = watermark.load(OURS, key, payload_bits=self.payload_bits)

    def mark(self, item: NDArray[np.uint8], payload: bytes, rng: Any = None) -> NDArray[np.uint8]:
        """One call."""
        marked: NDArray[np.uint8] = self._scheme.embed(item, payload)
        return marked

    def detect_batch(self, media: list[NDArray[np.uint8]]) -> list[watermark.Detection]:
        """One call each: a batch would be faster."""
        return [self._scheme.detect(item) for item in media]


System = Ours | BlindWatermark | InvisibleWatermark


def read(system: System, picture: NDArray[np.uint8]) -> bytes | None:
    """The message, or None where the system says that there is none. Peers return bits of some kind for any picture."""
    found = system.detect_batch([picture])[0]
    return found.payload if found.payload_ok or not isinstance(system, Ours) else None


def verdict(system: System) -> str:
    """What tells marked from unmarked pictures."""
    return "p-value" if isinstance(system, Ours) else "none"


def main() -> None:
    """Measures everything."""
    options = parse()
    watermark.set_threads(1)
    for module in ("cv2", "torch"):
        with contextlib.suppress(ImportError):
            engine = __import__(module)
            (engine.setNumThreads if module == "cv2" else engine.set_num_threads)(1)
    corpus = Path(options.corpus)
    photos = sorted(p.relative_to(corpus).as_posix() for p in corpus.glob(options.photos) if p.is_file())[
        : options.limit
    ]
    if not photos:
        raise SystemExit(f"no photo matches {options.photos!r} in the corpus folder")
    seed = hashlib.sha256(f"peers/{options.seed}".encode()).digest()
    systems = available(watermark.Key.from_bytes(seed), options.systems)
    results: dict[str, Any] = {"photos": options.photos, "photos_used": len(photos), "repeats": options.repeats}
    results["sizes"] = {
        label: measure(systems, corpus, photos, size, options.repeats, np.random.default_rng([*seed]))
        for label, size in SIZES.items()
    }
    markdown = table(results)
    print(markdown)
    if not options.no_record:
        path = _record.save("peers_images", results, markdown=markdown, packages=PACKAGES, out=options.out)
        print(f"\nwritten: {path.name}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("WATERMARK_DATA"), help="folder of photos ($WATERMARK_DATA)")
    parser.add_argument("--photos", default="images/kodak/*.png", help="glob in the corpus folder")
    parser.add_argument("--limit", type=int, default=8, help="use the first so many photos only")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions per photo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--systems", nargs="*", default=PEERS, choices=PEERS, help="peers; the last two take seconds per picture"
    )
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    if not options.corpus:
        parser.error("pass --corpus DIR or set WATERMARK_DATA")
    return options


def available(key: watermark.Key, names: list[str]) -> list[System]:
    """Our mark and those of the named peers that are installed."""
    bits = 8 * MESSAGE_BYTES
    makers: dict[str, Callable[[], System]] = {
        "dwtDct": lambda: InvisibleWatermark("dwtDct", payload_bits=bits),
        "dwtDctSvd": lambda: InvisibleWatermark("dwtDctSvd", payload_bits=bits),
        "rivaGan": lambda: InvisibleWatermark("rivaGan"),  # which carries 32
        "blind-watermark": lambda: BlindWatermark(payload_bits=bits),
    }
    systems: list[System] = [Ours(key)]
    for name in names:
        try:
            systems.append(makers[name]())
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return systems


def measure(
    systems: list[System],
    corpus: Path,
    photos: list[str],
    size: tuple[int, int],
    repeats: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """All systems on all photos of one size."""
    rows: dict[str, dict[str, list[float]]] = {s.name: {} for s in systems}

    def note(system: System, **numbers: float) -> None:
        for name, number in numbers.items():
            rows[system.name].setdefault(name, []).append(number)

    for index, photo in enumerate(photos):
        with PIL.Image.open(corpus / photo) as opened:
            rgb = np.asarray(PIL.ImageOps.fit(opened.convert("RGB"), size, PIL.Image.Resampling.LANCZOS))
        if index == 0:  # the first call of each builds tables
            for system in systems:
                read(system, system.mark(rgb, bytes(system.payload_bits // 8)))
        for repeat in range(repeats):
            message, marked = rng.bytes(MESSAGE_BYTES), {}
            for system in systems:
                marked[system.name], ms = timed(system.mark, rgb, message[: system.payload_bits // 8])
                note(system, embed_ms=ms)
            found = {}
            for system in systems:
                found[system.name], ms = timed(read, system, marked[system.name])
                note(system, detect_ms=ms)
            for system in systems:
                _, ms = timed(read, system, rgb)
                note(system, detect_unmarked_ms=ms)
            for system in systems if repeat == 0 else []:
                sent = message[: system.payload_bits // 8]
                compressed = read(system, jpeg(marked[system.name], 50))
                note(system, psnr_db=psnr(rgb, marked[system.name]))
                note(system, exact=float(found[system.name] == sent), bits=agreement(found[system.name], sent))
                note(system, exact_jpeg_50=float(compressed == sent), bits_jpeg_50=agreement(compressed, sent))
    return {s.name: summary(rows[s.name], rows[systems[0].name]) | {"verdict": verdict(s)} for s in systems}


def summary(row: dict[str, list[float]], ours: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of times, means of the rest, and how many times our time each takes."""
    result: dict[str, Any] = {}
    for name, numbers in row.items():
        if name.endswith("_ms"):
            result[name] = {
                "median": statistics.median(numbers),
                "fastest": min(numbers),
                "runs": len(numbers),
                "ratio_of_medians": statistics.median(numbers) / statistics.median(ours[name]),
                "median_of_ratios": statistics.median(a / b for a, b in zip(numbers, ours[name], strict=True)),
            }
        else:
            result[name] = {"mean": statistics.fmean(numbers), "lowest": min(numbers), "pictures": len(numbers)}
    return result


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    header = "embed, ms | detect, ms | detect unmarked, ms | PSNR, dB | exact message | exact, JPEG 50 | verdict |"
    lines = [
        f"{results['photos_used']} photos, {results['repeats']} repetitions, one thread, medians of CPU time; "
        "in brackets: times as long as ours (median of the ratios within a repetition)."
    ]
    for label, systems in results["sizes"].items():
        lines += [
            "",
            f"| {label} | {header}",
            "| --- |" + " --- |" * header.count("|"),
        ]
        for name, row in systems.items():
            times = " | ".join(_time(row[t]) for t in ("embed_ms", "detect_ms", "detect_unmarked_ms"))
            exact = " | ".join(
                f"{round(row[e]['mean'] * row[e]['pictures'])} / {row[e]['pictures']}"
                for e in ("exact", "exact_jpeg_50")
            )
            lines.append(f"| {name} | {times} | {row['psnr_db']['mean']:.1f} | {exact} | {row['verdict']} |")
    return "\n".join(lines)


def _time(row: dict[str, float]) -> str:
    ratio = row["median_of_ratios"]
    return f"{row['median']:.1f}" + ("" if ratio == 1 else f" ({ratio:.1f}x)")


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result and its CPU time in milliseconds, over all threads of the process."""
    started = time.process_time()
    result = function(*arguments)
    return result, 1000 * (time.process_time() - started)


def agreement(found: bytes | None, message: bytes) -> float:
    """Share of equal bits; one half, as by chance, where nothing was read."""
    if found is None or len(found) != len(message):
        return 0.5
    return 1 - (int.from_bytes(found) ^ int.from_bytes(message)).bit_count() / (8 * len(message))


def jpeg(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Saved as JPEG (4:2:0) and read again."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    with PIL.Image.open(buffer) as opened:
        return np.asarray(opened.convert("RGB"))


def psnr(original: NDArray[np.uint8], marked: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio over all channels in dB."""
    error = float(np.mean((original.astype(np.float64) - marked) ** 2))
    return 10 * math.log10(255**2 / error) if error else 99.0


if __name__ == "__main__":
    if not ONE_THREAD.items() <= os.environ.items():  # NumPy reads these when it is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    main()
