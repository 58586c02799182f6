"""Crops of marked photos, enlarged two-fold, for a person to judge; and a presence map.

Each row shows the original, the marked photo and their difference, 16-fold around mid-grey. Pixels are shown as they
are: neither the enlargement nor the file changes them::

    python benchmarks/quality.py                    # the pictures of the tests: docs/images/quality.webp
    python benchmarks/quality.py --corpus DIR --photos 'images/*/*' --out mine.webp
    python benchmarks/quality.py --presence         # docs/images/presence.webp

With a corpus, places are chosen by what is hardest on a mark: flat and dark, flat and bright, a gradient, fine texture,
lone edges. ``--presence`` marks the photo of the demo, lays a picture on it, saves it as JPEG, and shows what
``watermark detect --maps`` draws.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter

import watermark
from watermark import media
from watermark.cli.sheet import CARD, INK, MUTED, PAPER, amplified_difference, psnr, write

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
DATA, DEMO = ROOT / "tests" / "data", ROOT / "watermark" / "cli" / "demo.jpg"
KEY = watermark.Key.from_bytes(bytes(range(32)))
MESSAGE = b"order-42"
WIDTH, HEIGHT, ENLARGED = 104, 88, 2
MARGIN, GAP, HEADER, CAPTION = 16, 8, 40, 46
LIMIT = 2_000_000
Picture = PIL.Image.Image


class Place(NamedTuple):
    """A crop worth a look: what it shows, from which photo, and its upper left corner."""

    what: str
    source: Path | None  # None: a page of text, drawn here
    x: int
    y: int


OURS = [
    Place("dark sky", DATA / "rocket.webp", 96, 4),
    Place("gradient", DATA / "astronaut.webp", 305, 20),
    Place("skin", DATA / "astronaut.webp", 173, 70),
    Place("fur", DATA / "chelsea.png", 50, 30),
    Place("wood", DEMO, 630, 330),
    Place("text", None, 60, 60),
]


def main() -> None:
    """Draws one of the two pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="folder of photos; default: the pictures of the tests")
    parser.add_argument("--photos", default="images/kodak/*.png", help="glob in the corpus folder")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--presence", action="store_true", help="draw a presence map instead")
    parser.add_argument("--out", type=Path, help="default: docs/images/quality.webp or presence.webp")
    options = parser.parse_args()
    out = options.out or ROOT / "docs" / "images" / ("presence.webp" if options.presence else "quality.webp")
    if options.presence:
        presence().save(out, quality=82, method=6)
    else:
        places = OURS
        if options.corpus:
            places = choose([*media.find([Path(options.corpus, options.photos)]).files])
            if not places:
                raise SystemExit(f"no photo of {WIDTH} x {HEIGHT} pixels or more matches {options.photos!r}")
        crops(places, options.strength).save(out, lossless=True, quality=100, method=6)
    print(f"written: {out.name}, {out.stat().st_size / 1000:.0f} kB")


def crops(places: list[Place], strength: float) -> Picture:
    """One row per place: original, marked, difference."""
    width, height = WIDTH * ENLARGED, HEIGHT * ENLARGED
    row = height + CAPTION
    page = PIL.Image.new("RGB", (2 * MARGIN + 3 * width + 2 * GAP, HEADER + len(places) * row + MARGIN), PAPER)
    pen = PIL.ImageDraw.Draw(page)
    for column, title in enumerate(("Original", "Marked", "Difference x 16")):
        write(pen, (MARGIN + column * (width + GAP), 12), title, 18, INK, width)
    mark = watermark.load("image.spectral", KEY, payload_bits=64, strength=strength)
    for index, (what, source, x, y) in enumerate(places):
        original = read(source)
        marked = mark.embed(original, MESSAGE)
        top = HEADER + index * row
        pen.rectangle((MARGIN, top, page.width - MARGIN - 1, top + height + CAPTION - GAP - 1), CARD)
        for column, picture in enumerate((original, marked, amplified_difference(original, marked))):
            part = picture.crop((x, y, x + WIDTH, y + HEIGHT)).resize((width, height), PIL.Image.Resampling.NEAREST)
            page.paste(part, (MARGIN + column * (width + GAP), top))
        name = "drawn here" if source is None else source.name
        facts = f"PSNR {psnr(original, marked):.1f} dB   ·   {original.width} x {original.height}   ·   {name}"
        write(pen, (MARGIN + 10, top + height + 9), what, 17, INK, width)
        write(pen, (page.width - MARGIN - 10, top + height + 10), facts, 15, MUTED, 2 * width, "ra")
    return page


def read(source: Path | None) -> Picture:
    """The photo in RGB, or the page of text."""
    if source is not None:
        return media.read(source).convert("RGB")
    page = PIL.Image.new("RGB", (512, 512), "white")
    pen = PIL.ImageDraw.Draw(page)
    words = (ROOT / "LICENSE").read_text(encoding="utf-8").split()
    for line in range(24):
        write(pen, (40, 36 + 19 * line), " ".join(words[8 * line : 8 * line + 9]), 14, (24, 24, 24), 440)
    return page


def choose(photos: list[Path]) -> list[Place]:
    """The hardest place of each kind, each in another photo."""
    found = [entry for photo in photos for entry in measured(photo)]
    kinds = {
        "flat and dark": lambda level, spread, busy, edge: busy if 8 < level < 60 else np.inf,
        "flat and bright": lambda level, spread, busy, edge: busy if 120 < level < 215 else np.inf,
        "gradient": lambda level, spread, busy, edge: -spread if 40 < level < 215 and edge < 6 else np.inf,
        "fine texture": lambda level, spread, busy, edge: -busy,
        "lone edges": lambda level, spread, busy, edge: -edge / (1 + busy),
    }
    places: list[Place] = []
    for what, cost in kinds.items():
        left = [entry for entry in found if entry[0] not in {place.source for place in places}]
        best = min(left, key=lambda entry: cost(*entry[3]), default=None)
        if best is not None and cost(*best[3]) < np.inf:
            places.append(Place(what, *best[:3]))
    return places


def measured(photo: Path) -> Iterator[tuple[Path, int, int, tuple[float, float, float, float]]]:
    """Mean luma, range of its low-pass, median and top of the high-pass of each place in a photo."""
    luma = media.read(photo).convert("L")
    if luma.width * luma.height > LIMIT:
        return
    low = np.asarray(luma.filter(PIL.ImageFilter.GaussianBlur(4)), np.float32)
    high = np.abs(np.asarray(luma, np.float32) - np.asarray(luma.filter(PIL.ImageFilter.GaussianBlur(2)), np.float32))
    for y in range(0, luma.height - HEIGHT + 1, HEIGHT // 2):
        for x in range(0, luma.width - WIDTH + 1, WIDTH // 2):
            smooth, busy = (part[y : y + HEIGHT, x : x + WIDTH] for part in (low, high))
            facts = smooth.mean(), np.ptp(smooth), np.median(busy), np.percentile(busy, 99.5)
            yield photo, x, y, (float(facts[0]), float(facts[1]), float(facts[2]), float(facts[3]))


def presence() -> Picture:
    """What the command draws of the demo's photo on which another picture was laid."""
    marked = watermark.load("image.spectral", KEY, payload_bits=64).embed(media.read(DEMO), MESSAGE)
    card = media.read(DATA / "astronaut.webp").convert("RGBA").resize((200, 200), PIL.Image.Resampling.LANCZOS)
    marked.paste(turned := card.rotate(-12, PIL.Image.Resampling.BICUBIC, expand=True), (528, 266), turned)
    with tempfile.TemporaryDirectory() as folder:
        key, photo, maps = (Path(folder, name) for name in ("studio.key", "edited.jpg", "maps"))
        KEY.save(key)
        marked.save(photo, quality=85)
        command = [sys.executable, "-m", "watermark", "detect", photo, "--key", key, "--maps", maps]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        (path,) = maps.iterdir()
        return PIL.Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


if __name__ == "__main__":
    main()
