"""Pictures on which a mark has little to hide in: does the message survive on them?

Six classes of hosts are drawn by seed from the text, the graphics and the photos of a data folder: printed text, pages,
screenshots, flat illustrations, strips, thumbnails. Each class has three kinds, and each host its own layout, key and
message. Every host is marked once, and goes through edits of values and of geometry as `robustness.py` defines them::

    python benchmarks/hosts.py --corpus DIR --hosts 6 --seed 2

prints Markdown tables and writes ``benchmarks/results/hosts.json``. Seed 1 is for development: report others.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import lzma
import os
import statistics
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _record
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter
import PIL.ImageFont
import PIL.ImageOps
from _intervals import clopper_pearson, percent
from robustness import EXTRA, FPR, GEOMETRY, REQUIRED, jpeg, noise, psnr, scale, ssim

import watermark

Picture = PIL.Image.Image
Rng = np.random.Generator
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
TEXTS, GRAPHICS, PHOTOS = "text/en_*.txt.xz", "images/graphics64_webp.npz", "images/photos/*.webp"
EDITS = {**REQUIRED, **EXTRA, **GEOMETRY}
SORTS = {
    "values": (
        "untouched",
        "JPEG 70",
        "JPEG 50",
        "WebP 50",
        "AVIF 50",
        "brightness 1.3",
        "contrast 1.5",
        "gamma 0.7",
        "gamma 1.4",
        "noise 10",
        "blur 1",
        "median 3",
    ),
    "geometry": (
        "mirrored",
        "flipped top to bottom",
        "scaled 0.5, left so",
        "scaled 0.75",
        "scaled 2",
        "scaled 0.5 to 2 at random",
        "unaligned crop to half the area",
        "rotated by 5 degrees",
        "rotated at random",
        "aspect 0.85",
        "aspect 1.18",
        "sheared by 5 degrees",
    ),
}
TARGETS = {"values": 0.95, "geometry": 0.80}
"""Least rate of exact messages over all edits of a sort."""
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


class Stock:
    """Words, small graphics and photos of a data folder, drawn at random."""

    def __init__(self, corpus: Path, rng: Rng) -> None:
        self._corpus, self._rng = corpus, rng

    def words(self, count: int) -> list[str]:
        """That many words in a row from some book."""
        books = _books(self._corpus)
        book = books[int(self._rng.integers(len(books)))]
        start = int(self._rng.integers(len(book) - count))
        return book[start : start + count]

    def graphic(self) -> Picture:
        """A graphic of 64 x 64 pixels on a flat ground."""
        data, offsets = _graphics(self._corpus)
        index = int(self._rng.integers(len(offsets) - 1))
        with PIL.Image.open(io.BytesIO(data[offsets[index] : offsets[index + 1]])) as opened:
            return opened.convert("RGB")

    def photo(self) -> Picture:
        """A photo of about a thousand pixels a side."""
        photos = sorted(self._corpus.glob(PHOTOS))
        with PIL.Image.open(photos[int(self._rng.integers(len(photos)))]) as opened:
            return opened.convert("RGB")

    def fitted(self, width: int, height: int) -> Picture:
        """A photo cut and scaled to this size."""
        return PIL.ImageOps.fit(self.photo(), (width, height), PIL.Image.Resampling.BICUBIC)


@lru_cache(maxsize=1)
def _books(corpus: Path) -> list[list[str]]:
    return [lzma.open(path, "rt", encoding="utf-8").read().split() for path in sorted(corpus.glob(TEXTS))]


@lru_cache(maxsize=1)
def _graphics(corpus: Path) -> tuple[bytes, Any]:
    with np.load(corpus / GRAPHICS) as packed:
        return packed["data"].tobytes(), packed["offsets"]


@lru_cache(maxsize=64)
def font(size: int) -> Any:
    """Pillow's own scalable font."""
    return PIL.ImageFont.load_default(size)


def paragraphs(pen: PIL.ImageDraw.ImageDraw, stock: Stock, box: Box, size: int, ink: Colour, share: float = 1) -> None:
    """Fills a box with paragraphs of running text, down to that share of its height."""
    left, top, right, bottom = box
    columns = max(4, int((right - left) / (0.53 * size)))
    leading = round(1.35 * size)
    last = top + share * (bottom - top) - leading
    y = top
    while y <= last:
        for line in textwrap.wrap("    " + " ".join(stock.words(int(90 + y % 40))), columns):
            if y > last:
                return
            pen.text((left, y), line, ink, font(size))
            y += leading
        y += leading // 3


def code(pen: PIL.ImageDraw.ImageDraw, stock: Stock, rng: Rng, box: Box, size: int, inks: list[Colour]) -> None:
    """Fills a box with what looks like source code: one pitch, indents, colours, line numbers, empty lines."""
    left, top, right, bottom = box
    pitch, leading = 0.6 * size, round(1.4 * size)
    for number, y in enumerate(range(top, bottom - leading, leading)):
        pen.text((left, y), f"{number + 1:3d}", inks[0], font(size))
        x = left + pitch * (5 + 4 * int(rng.integers(0, 4)))
        for word in stock.words(int(rng.integers(0, 9))):
            ink = inks[int(rng.integers(1, len(inks)))]
            for letter in word:
                if x < right - pitch:
                    pen.text((x, y), letter, ink, font(size))
                x += pitch
            x += pitch


def tint(rng: Rng, low: int, high: int) -> Colour:
    """A colour, each part from low to high."""
    red, green, blue = (int(part) for part in rng.integers(low, high + 1, 3))
    return red, green, blue


def canvas(width: int, height: int, ground: Colour) -> tuple[Picture, PIL.ImageDraw.ImageDraw]:
    """A blank picture and a pen."""
    picture = PIL.Image.new("RGB", (width, height), ground)
    return picture, PIL.ImageDraw.Draw(picture)


def book(stock: Stock, rng: Rng) -> Picture:
    """A page of a book: black on pure white, wide margins."""
    width = int(rng.integers(600, 1100))
    height = round(1.41 * width)
    page, pen = canvas(width, height, WHITE)
    margin, size = width // 10, int(rng.integers(width // 60, width // 36))
    paragraphs(pen, stock, (margin, margin, width - margin, height - margin), size, BLACK)
    pen.text((width // 2, height - margin // 2), str(int(rng.integers(1, 400))), BLACK, font(size))
    return page


def letter(stock: Stock, rng: Rng) -> Picture:
    """A letter: a heading and little text on a blank sheet."""
    width = int(rng.integers(600, 1100))
    height = round(1.29 * width)
    page, pen = canvas(width, height, WHITE)
    margin, size = width // 8, width // 45
    pen.text((margin, margin // 2), " ".join(stock.words(3)), tint(rng, 0, 120), font(2 * size))
    box = (margin, 2 * margin, width - margin, height - margin)
    paragraphs(pen, stock, box, size, BLACK, rng.uniform(0.3, 0.7))
    return page


def scan(stock: Stock, rng: Rng) -> Picture:
    """A scanned page: dark grey on uneven paper, a little turned, soft and noisy, saved as JPEG."""
    page = book(stock, rng).point(lambda value: 45 + value * 0.76)
    page = page.rotate(rng.uniform(-1.5, 1.5), PIL.Image.Resampling.BICUBIC, fillcolor=(239, 239, 239))
    shade = PIL.Image.linear_gradient("L").rotate(90 * int(rng.integers(4))).resize(page.size)
    shade = shade.point(lambda value: 235 + value * 20 // 255)
    pixels = np.asarray(page, np.float64) * np.asarray(shade, np.float64)[..., None] / 255 * [1, 0.985, 0.95]
    soft = PIL.Image.fromarray(pixels.astype(np.uint8)).filter(PIL.ImageFilter.GaussianBlur(0.7))
    return jpeg(noise(soft, rng, 2.5), 85)


def magazine(stock: Stock, rng: Rng) -> Picture:
    """A page of a magazine: a heading, photos, two or three columns, a coloured box."""
    width = int(rng.integers(720, 1200))
    height = round(1.32 * width)
    page, pen = canvas(width, height, WHITE)
    margin, gap, count = width // 16, width // 36, int(rng.integers(2, 4))
    size, wide = width // 62, (width - 2 * margin - (count - 1) * gap) // count
    pen.text((margin, margin), " ".join(stock.words(3)), tint(rng, 0, 160), font(4 * size))
    top = margin + 6 * size
    tall = int(rng.uniform(0.2, 0.4) * height)
    page.paste(stock.fitted(width - 2 * margin, tall), (margin, top))
    top += tall + size
    for column in range(count):
        left = margin + column * (wide + gap)
        paragraphs(pen, stock, (left, top, left + wide, height - margin), size, (20, 20, 20))
    left, low = margin + (count - 1) * (wide + gap), height - margin - 12 * size
    pen.rectangle((left - gap // 2, low, left + wide, height - margin), tint(rng, 190, 245))
    paragraphs(pen, stock, (left, low + size, left + wide - gap // 2, height - margin - size), size, (20, 20, 20))
    return page


def newspaper(stock: Stock, rng: Rng) -> Picture:
    """A page of a newspaper: greyish paper, four or five narrow columns, rules, grey photos."""
    width = int(rng.integers(800, 1300))
    height = round(1.45 * width)
    page, pen = canvas(width, height, (236, 232, 222))
    margin, gap, count = width // 24, width // 60, int(rng.integers(4, 6))
    size, wide = width // 85, (width - 2 * margin - (count - 1) * gap) // count
    pen.text((margin, margin // 2), " ".join(stock.words(2)), (30, 30, 30), font(7 * size))
    top = margin + 8 * size
    pen.line((margin, top - size, width - margin, top - size), (30, 30, 30), 2)
    for column in range(count):
        left = margin + column * (wide + gap)
        paragraphs(pen, stock, (left, top, left + wide, height - margin), size, (35, 35, 35))
        if column:
            pen.line((left - gap // 2, top, left - gap // 2, height - margin), (120, 120, 120))
    for _ in range(int(rng.integers(1, 4))):
        column, tall = int(rng.integers(0, count - 1)), int(rng.uniform(0.12, 0.25) * height)
        left, y = margin + column * (wide + gap), int(rng.integers(top, height - margin - tall))
        photo = stock.fitted(2 * wide + gap, tall).convert("L").point(lambda value: 35 + value * 0.76)
        page.paste(photo.convert("RGB"), (left, y))
    return page


def slide(stock: Stock, rng: Rng) -> Picture:
    """A slide: a title, a few points, a photo, on white or on a plain colour."""
    width = int(rng.integers(960, 1400))
    height = width * 9 // 16
    ground = [WHITE, tint(rng, 10, 60), tint(rng, 200, 250)][int(rng.integers(3))]
    ink = WHITE if sum(ground) < 300 else (40, 40, 40)
    page, pen = canvas(width, height, ground)
    size = width // 45
    pen.text((2 * size, size), " ".join(stock.words(4)), ink, font(2 * size))
    for point in range(int(rng.integers(3, 7))):
        text = "-  " + " ".join(stock.words(int(rng.integers(4, 8))))[: width // size - 4]
        pen.text((2 * size, (5 + 2 * point) * size), text, ink, font(size))
    page.paste(stock.fitted(width // 3, height // 2), (width * 6 // 10, height // 3))
    return page


def _theme(rng: Rng) -> tuple[Colour, Colour, Colour, list[Colour]]:
    """Ground, panels, lines, and inks of an application, light or dark."""
    if rng.integers(2):
        shift = int(rng.integers(0, 16))
        inks = [(100, 105, 115), (212, 212, 212), (86, 156, 214), (206, 145, 120), (106, 153, 85)]
        return (25 + shift, 26 + shift, 30 + shift), (45 + shift, 46 + shift, 51 + shift), (75, 76, 82), inks
    inks = [(150, 150, 150), (30, 30, 30), (0, 0, 180), (163, 21, 21), (0, 120, 0)]
    return WHITE, tint(rng, 232, 243), (200, 200, 205), inks


def _chrome(pen: PIL.ImageDraw.ImageDraw, stock: Stock, rng: Rng, box: Box, panel: Colour, ink: Colour) -> int:
    """Draws the title bar and the toolbar of a window, and returns where its content starts."""
    left, top, right, _ = box
    pen.rectangle((left, top, right, top + 64), panel)
    pen.text((left + 12, top + 6), " ".join(stock.words(3)), ink, font(14))
    for button in range(3):
        pen.rectangle((right - 24 * (button + 1), top + 8, right - 24 * button - 10, top + 22), outline=ink)
    for x in range(left + 12, min(right - 40, left + 12 + 34 * int(rng.integers(6, 16))), 34):
        pen.rounded_rectangle((x, top + 34, x + 22, top + 56), 4, tint(rng, 60, 200))
        pen.line((x + 5, top + 45, x + 17, top + 45), panel, 2)
    return top + 65


def editor(stock: Stock, rng: Rng) -> Picture:
    """An editor: a tree of files, code in colours, a status bar; light or dark."""
    width, height = ((1280, 720), (1366, 768), (1024, 640), (1600, 900))[int(rng.integers(4))]
    ground, panel, line, inks = _theme(rng)
    screen, pen = canvas(width, height, ground)
    top, side = _chrome(pen, stock, rng, (0, 0, width, height), panel, inks[1]), int(rng.integers(180, 280))
    pen.rectangle((0, top, side, height), panel)
    for index, word in enumerate(stock.words((height - top) // 22 - 3)):
        pen.text((14 + 14 * (index % 3), top + 10 + 22 * index), word[:18], inks[1], font(13))
    code(pen, stock, rng, (side + 10, top + 8, width - 30, height - 24), int(rng.integers(12, 16)), inks)
    pen.line((side, top, side, height), line)
    pen.rectangle((0, height - 22, width, height), (0, 100, 180))
    pen.text((10, height - 20), " ".join(stock.words(5)), WHITE, font(13))
    return screen


def table(stock: Stock, rng: Rng) -> Picture:
    """A spreadsheet: ruled cells with numbers and words, headings, a few filled cells; light or dark."""
    width, height = ((1280, 800), (1366, 768), (1440, 900), (900, 700))[int(rng.integers(4))]
    ground, panel, line, inks = _theme(rng)
    screen, pen = canvas(width, height, ground)
    top = _chrome(pen, stock, rng, (0, 0, width, height), panel, inks[1])
    wide, tall = int(rng.integers(80, 130)), int(rng.integers(20, 27))
    pen.rectangle((0, top, width, top + tall), panel)
    pen.rectangle((0, top, 44, height), panel)
    filled = rng.uniform(0.3, 0.9)
    for row, y in enumerate(range(top, height, tall)):
        pen.line((0, y, width, y), line)
        pen.text((10, y + 4), str(row), inks[0], font(12))
        for column, x in enumerate(range(44, width, wide)):
            pen.line((x, top, x, height), line)
            if rng.random() < 0.03:
                pen.rectangle((x + 1, y + 1, x + wide - 1, y + tall - 1), tint(rng, 90, 220))
            if row == 0 or column == 0 or rng.random() < filled:
                cell = f"{rng.normal(0, 900):.2f}" if row and column else " ".join(stock.words(2))[: wide // 8]
                pen.text((x + 6, y + 4), cell, inks[1], font(13))
    return screen


def desktop(stock: Stock, rng: Rng) -> Picture:
    """A desktop: a photo behind windows with text, dialogs and icons, and a task bar."""
    width, height = ((1280, 800), (1366, 768), (1920, 1080))[int(rng.integers(3))]
    ground, panel, line, inks = _theme(rng)
    screen, pen = canvas(width, height, tint(rng, 20, 160))
    if rng.integers(2):
        screen.paste(stock.fitted(width, height))
    for y in range(20, height - 160, 100):
        screen.paste(stock.graphic().resize((48, 48)), (20, y))
        pen.text((20, y + 52), " ".join(stock.words(1))[:10], WHITE, font(13))
    for _ in range(int(rng.integers(1, 4))):
        wide, tall = int(rng.uniform(0.4, 0.75) * width), int(rng.uniform(0.4, 0.75) * height)
        left, top = int(rng.integers(90, width - wide)), int(rng.integers(10, height - tall - 40))
        pen.rectangle((left, top, left + wide, top + tall), ground, line)
        y = _chrome(pen, stock, rng, (left, top, left + wide, top + tall), panel, inks[1])
        paragraphs(pen, stock, (left + 20, y + 16, left + wide - 20, top + tall - 10), 14, inks[1], rng.uniform(0.3, 1))
    pen.rectangle((0, height - 38, width, height), panel)
    for x in range(10, 10 + 44 * int(rng.integers(4, 10)), 44):
        screen.paste(stock.graphic().resize((28, 28)), (x, height - 33))
    return screen


def clip_art(stock: Stock, rng: Rng) -> Picture:
    """A small graphic enlarged to a poster of few flat colours, on a flat ground."""
    side = int(rng.integers(400, 900))
    large = stock.graphic().resize((side, side), PIL.Image.Resampling.BICUBIC).filter(PIL.ImageFilter.GaussianBlur(2))
    flat = large.quantize(int(rng.integers(6, 14))).convert("RGB")
    poster = PIL.Image.new("RGB", (int(side * rng.uniform(1, 1.8)), side), flat.getpixel((2, 2)))
    poster.paste(flat, ((poster.width - side) // 2, 0))
    return poster.filter(PIL.ImageFilter.GaussianBlur(0.6))


def polygons(stock: Stock, rng: Rng) -> Picture:
    """Flat shapes with smooth edges: triangles, discs, bands, a gradient sky in some."""
    width, height = int(rng.integers(600, 1100)), int(rng.integers(500, 900))
    picture, pen = canvas(2 * width, 2 * height, tint(rng, 30, 255))
    for _ in range(int(rng.integers(4, 16))):
        x, y, size = rng.uniform(0, 2 * width), rng.uniform(0, 2 * height), rng.uniform(60, 700)
        if rng.integers(2):
            pen.ellipse((x - size, y - size, x + size, y + size), tint(rng, 0, 255))
        else:
            corners = rng.uniform(-size, size, (int(rng.integers(3, 7)), 2)) + np.array([x, y])
            pen.polygon([tuple(corner) for corner in corners.tolist()], tint(rng, 0, 255))
    return picture.resize((width, height), PIL.Image.Resampling.LANCZOS)


def chart(stock: Stock, rng: Rng) -> Picture:
    """A chart: bars, a line, a pie and labels on white."""
    width = int(rng.integers(640, 1100))
    height = width * 3 // 4
    picture, pen = canvas(width, height, WHITE)
    size, bars = width // 50, int(rng.integers(4, 12))
    left, bottom, step = width // 10, height * 8 // 10, (width * 8 // 10) // bars
    pen.text((width // 4, size), " ".join(stock.words(4)), BLACK, font(2 * size))
    for y in range(bottom, height // 8, -height // 10):
        pen.line((left, y, width - left, y), (220, 220, 220))
        pen.text((left // 3, y - size), str(bottom - y), (60, 60, 60), font(size))
    tops = [(left + step * i + step // 2, int(rng.uniform(height * 0.2, bottom - 5))) for i in range(bars)]
    colour = tint(rng, 20, 210)
    for x, y in tops:
        pen.rectangle((x - step // 3, y, x + step // 3, bottom), colour)
        pen.text((x - step // 3, bottom + 5), stock.words(1)[0][:6], (60, 60, 60), font(size))
    pen.line([(x, (y + height // 3) // 2) for x, y in tops], tint(rng, 20, 210), 3)
    if rng.integers(2):
        turn = 0.0
        for share in rng.dirichlet(np.ones(5)):
            pie = (width * 7 // 10, height // 10, width * 9 // 10, height // 10 + width // 5)
            pen.pieslice(pie, turn, turn + 360 * float(share), tint(rng, 20, 230))
            turn += 360 * float(share)
    return picture


def banner(stock: Stock, rng: Rng) -> Picture:
    """A strip cut lengthwise from a photo: 1200 to 2000 x 172 pixels."""
    return stock.fitted(int(rng.integers(1200, 2001)), 172)


def skyscraper(stock: Stock, rng: Rng) -> Picture:
    """A strip cut upright from a photo: 172 x 800 to 1200 pixels."""
    return stock.fitted(172, int(rng.integers(800, 1201)))


def advertisement(stock: Stock, rng: Rng) -> Picture:
    """A strip with a photo, a plain ground and a line of text."""
    strip, pen = canvas(int(rng.integers(900, 2001)), int(rng.integers(160, 220)), tint(rng, 20, 240))
    share = strip.width // 3
    strip.paste(stock.fitted(share, strip.height), (0, 0))
    pen.text((share + 30, strip.height // 3), " ".join(stock.words(5)), WHITE, font(strip.height // 4))
    return strip


def square(stock: Stock, rng: Rng) -> Picture:
    """A photo cut to 128 x 128 pixels."""
    return stock.fitted(128, 128)


def preview(stock: Stock, rng: Rng) -> Picture:
    """A whole photo with a short side of 128 pixels."""
    photo = stock.photo()
    return scale(photo, 128 / min(photo.size))


def contained(stock: Stock, rng: Rng) -> Picture:
    """A whole photo with a long side of 128 pixels, or more where the other would fall below 64."""
    photo = stock.photo()
    return scale(photo, max(128 / max(photo.size), 64 / min(photo.size)))


Draw = Callable[[Stock, Rng], Picture]
CLASSES: dict[str, tuple[Draw, ...]] = {
    "printed text": (book, letter, scan),
    "pages": (magazine, newspaper, slide),
    "screenshots": (editor, table, desktop),
    "illustrations": (clip_art, polygons, chart),
    "strips": (banner, skyscraper, advertisement),
    "thumbnails": (square, preview, contained),
}


def main() -> None:
    """Runs the trials."""
    options = parse()
    jobs = [
        (name, kind, number, options.seed, options.corpus, options.strength)
        for name in options.classes
        for kind in range(len(CLASSES[name]))
        for number in range(options.hosts)
    ]
    started = time.time()
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        trials = list(pool.map(trial, jobs))
    results = {
        "scheme": "image.spectral",
        "parameters": {"payload_bits": 64, "strength": options.strength},
        "hosts_per_kind": options.hosts,
        "seed": options.seed,
        "seconds": round(time.time() - started),
        "classes": [summary(name, [t for t in trials if t["class"] == name]) for name in options.classes],
    }
    markdown = tables(results)
    print("\n\n".join(markdown.values()))
    if not options.no_record:
        path = _record.save("hosts", results, markdown=markdown, packages=["scikit-image"], out=options.out)
        print(f"\nwritten: {path.name}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("WATERMARK_DATA"), help="data folder ($WATERMARK_DATA)")
    parser.add_argument("--classes", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--hosts", type=int, default=6, help="hosts of each kind; a class has three kinds")
    parser.add_argument("--seed", type=int, default=1, help="chooses hosts, keys, messages and random edits")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    if not options.corpus:
        parser.error("pass --corpus DIR or set WATERMARK_DATA")
    return options


def host(name: str, kind: int, number: int, seed: int, corpus: str) -> tuple[Picture, Rng]:
    """One host of a class, and the generator that goes on from there."""
    digest = hashlib.sha256(f"hosts/{seed}/{name}/{kind}/{number}".encode()).digest()
    rng = np.random.default_rng([*digest])
    return CLASSES[name][kind](Stock(Path(corpus), rng), rng), rng


def trial(job: tuple[str, int, int, int, str, float]) -> dict[str, Any]:
    """Marks one host and tries every edit."""
    name, kind, number, seed, corpus, strength = job
    watermark.set_threads(1)
    picture, rng = host(name, kind, number, seed, corpus)
    mark = watermark.load("image.spectral", watermark.Key.from_bytes(rng.bytes(32)), payload_bits=64, strength=strength)
    message = rng.bytes(8)
    marked = mark.embed(picture, message)
    outcomes = {}
    for edit in (edit for edits in SORTS.values() for edit in edits):
        # Edits do not share random numbers, so that adding one changes no other.
        found = mark.detect(EDITS[edit].edit(marked, np.random.default_rng([seed, kind, number, *edit.encode()])))
        outcomes[edit] = {
            "exact": bool(found.payload_ok and found.payload == message),
            "false": bool(found.payload_ok and found.payload != message),
            "detected": bool(found.detected(FPR)),
            "log10_p": round(found.log10_p, 2),
        }
    return {
        "class": name,
        "kind": CLASSES[name][kind].__name__,
        "psnr": psnr(picture, marked),
        "ssim": ssim(picture, marked),
        "outcomes": outcomes,
    }


def summary(name: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """What became of one class: each sort of edits, each edit, each kind of host."""
    kinds = sorted({t["kind"] for t in trials})
    sorts: dict[str, Any] = {}
    for sort, edits in SORTS.items():
        rates = {edit: statistics.fmean(t["outcomes"][edit]["exact"] for t in trials) for edit in edits}
        by_kind = {
            kind: statistics.fmean(t["outcomes"][edit]["exact"] for t in trials if t["kind"] == kind for edit in edits)
            for kind in kinds
        }
        exact, count = (sum(t["outcomes"][edit]["exact"] for t in trials for edit in edits), len(trials) * len(edits))
        sorts[sort] = {
            "exact": exact,
            "trials": count,
            "rate": exact / count,
            "interval_95": clopper_pearson(exact, count),
            "target": TARGETS[sort],
            "reached": exact / count >= TARGETS[sort],
            "false_payloads": sum(t["outcomes"][edit]["false"] for t in trials for edit in edits),
            "detected_at_1e-6": sum(t["outcomes"][edit]["detected"] for t in trials for edit in edits),
            "by_edit": rates,
            "by_kind": by_kind,
        }
    similar = [t["ssim"] for t in trials if t["ssim"] is not None]
    return {
        "class": name,
        "hosts": len(trials),
        "psnr_db": {"mean": statistics.fmean(t["psnr"] for t in trials), "lowest": min(t["psnr"] for t in trials)},
        **({"ssim": {"mean": statistics.fmean(similar), "lowest": min(similar)}} if similar else {}),
        "edits": sorts,
    }


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The results in Markdown: each class, and each edit."""
    lines = [
        "| Hosts | PSNR, dB: mean, lowest | edits | exact message | 95 % interval | target | found at 1e-6 | by kind "
        "| edits below the target |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in results["classes"]:
        for sort, part in entry["edits"].items():
            low, high = map(percent, part["interval_95"])
            kinds = ", ".join(f"{kind} {percent(rate)} %" for kind, rate in part["by_kind"].items())
            weak = ", ".join(f"{e} {percent(r)} %" for e, r in part["by_edit"].items() if r < part["target"])
            lines.append(
                f"| {entry['class']} | {entry['psnr_db']['mean']:.1f}, {entry['psnr_db']['lowest']:.1f} | {sort} "
                f"| {part['exact']} / {part['trials']} = {percent(part['rate'])} % | {low} to {high} % "
                f"| {100 * part['target']:.0f} %, {'reached' if part['reached'] else '**missed**'} "
                f"| {part['detected_at_1e-6']} | {kinds} | {weak or '-'} |"
            )
    wrong = sum(part["false_payloads"] for entry in results["classes"] for part in entry["edits"].values())
    count = results["classes"][0]["hosts"]
    setting = (
        f"`{results['scheme']}`, 64 bits, strength {results['parameters']['strength']:g}: {count} hosts of each class, "
        f"each with a key of its own, seed {results['seed']}. Wrong messages vouched for: {wrong}."
    )
    return {"setting": setting, "classes": "\n".join(lines)}


if __name__ == "__main__":
    main()
