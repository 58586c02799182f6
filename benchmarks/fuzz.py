"""Throws damaged picture files and key files at the readers: only typed errors may come out.

Run by hand: ``python benchmarks/fuzz.py --cases 100000 --what all``. Case ``i`` depends on ``--seed`` and ``i`` only,
so a failure is repeated with ``--first i --cases 1``. Exits 1 if any exception is not a WatermarkError.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

import watermark

MAX_PIXELS = 1_000_000
Case = Callable[[np.random.Generator], bytes]


def main() -> int:
    """Runs the cases and prints how many ended in which way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="cases of each kind")
    parser.add_argument("--what", choices=["image", "key", "all"], default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow warns about what it repairs
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes its complaints straight to standard error

    console = Console()
    outcomes: Counter[tuple[str, str]] = Counter()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder, "fuzz.key")
        kinds: dict[str, tuple[Case, Callable[[bytes], object]]] = {
            "image": (image_case(), lambda data: watermark.media.read(data, max_pixels=MAX_PIXELS)),
            "key": (key_case(key_file), lambda data: load_key(key_file, data)),
        }
        for what in kinds if options.what == "all" else [options.what]:
            make, read = kinds[what]
            for index in track(range(options.first, options.first + options.cases), what, console=console):
                data = make(np.random.default_rng([options.seed, index]))
                try:
                    read(data)
                    outcome = "read"
                except watermark.WatermarkError as error:
                    outcome = type(error).__name__
                except Exception as error:
                    outcome = f"NOT TYPED: {type(error).__name__}"
                    failures += 1
                    if failures <= 10:
                        console.print(f"{what} case {index}:", traceback.format_exc(limit=-4), markup=False)
                outcomes[what, outcome] += 1

    table = Table("what", "outcome", "cases")
    for (what, outcome), count in sorted(outcomes.items()):
        table.add_row(what, outcome, f"{count:,}")
    console.print(table)
    return 1 if failures else 0


def image_case() -> Case:
    """Damaged files of every format, and bytes that never were a picture."""
    originals = picture_files()

    def make(rng: np.random.Generator) -> bytes:
        if rng.random() < 0.02:
            return rng.bytes(int(rng.integers(0, 200)))
        data = originals[rng.integers(len(originals))]
        other = originals[rng.integers(len(originals))]
        return damage(rng, data, other)

    return make


def picture_files() -> list[bytes]:
    """Small files of every format and mode, with and without metadata."""
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    colour = PIL.Image.fromarray(np.repeat(np.repeat(values, 2, 0), 2, 1), "RGBA")
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "fuzz"
    kept: dict[str, Any] = {"exif": exif.tobytes(), "icc_profile": bytes(16) + b"RGB " + bytes(108)}
    files: list[tuple[str, str, dict[str, Any]]] = [
        ("RGB", "JPEG", kept | {"xmp": b"<x/>", "dpi": (72, 72)}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 2}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "MPO", {"save_all": True, "append_images": [colour.convert("RGB")]}),
        ("RGBA", "PNG", kept),
        ("LA", "PNG", {}),
        ("1", "PNG", {}),
        ("P", "PNG", {"transparency": 0}),
        ("RGB", "PNG", {"transparency": (1, 2, 3)}),
        ("I;16", "PNG", {}),
        ("RGBA", "PNG", {"save_all": True, "append_images": [colour.rotate(90)]}),
        ("RGB", "WEBP", kept),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGB", "WEBP", {"save_all": True, "append_images": [colour.rotate(90)]}),
        ("RGB", "TIFF", kept),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "TIFF", {"compression": "jpeg"}),
        ("CMYK", "TIFF", {"compression": "tiff_deflate"}),
        ("F", "TIFF", {}),
        ("1", "TIFF", {"compression": "group4"}),
        ("L", "TIFF", {"big_tiff": True}),
        ("RGB", "AVIF", kept),
        ("RGBA", "AVIF", {}),
        ("RGB", "BMP", {}),
        ("P", "BMP", {}),
        ("RGBA", "BMP", {}),
        ("P", "GIF", {"transparency": 0}),
        ("P", "GIF", {"save_all": True, "append_images": [colour.rotate(90).convert("P")]}),
    ]
    encoded = []
    for mode, file_format, options in files:
        buffer = io.BytesIO()
        picture = colour.convert("L").convert(mode) if mode.startswith(("I", "F")) else colour.convert(mode)
        picture.save(buffer, file_format, **options)
        encoded.append(buffer.getvalue())
    return encoded


def key_case(key_file: Path) -> Case:
    """Damaged key files: bytes, JSON values, encodings, depth and size."""
    key = watermark.Key.from_bytes(bytes(range(32)))
    key.save(key_file)
    original = key_file.read_bytes()
    fields = json.loads(original)
    values: list[Any] = [
        None, True, False, 0, 1, 2, -1, 1.0, 1e308, float("inf"), float("nan"), 10**400, "", "1", "watermark-key",
        "\ud800", "é", "A" * 43 + "=", "A" * 44, "====", "\0", [], {}, [[]], {"a": {}}, "x" * 5000,
        fields["secret"][:-4],
    ]  # fmt: skip

    def make(rng: np.random.Generator) -> bytes:
        kind = rng.integers(6)
        if kind == 0:
            return damage(rng, original, original)
        if kind == 1:
            depth = int(rng.integers(1, 4000))
            return [b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth][rng.integers(3)]
        if kind == 2:
            return str(10 ** int(rng.integers(0, 4200))).encode()
        changed = dict(fields)
        names = [*fields, "extra", "\ud800"]
        for _ in range(rng.integers(1, 4)):
            name = names[rng.integers(len(names))]
            if rng.random() < 0.2:
                changed.pop(name, None)
            else:
                changed[name] = values[rng.integers(len(values))]
        text = json.dumps(changed)
        if kind == 3:
            encoding = ["utf-16", "utf-32", "utf-8-sig", "utf-16-le", "cp037"][rng.integers(5)]
            return text.encode(encoding)
        if kind == 4:
            text = text.replace('": ', f'": {"[" * int(rng.integers(2))}', 1)
        return text.encode()

    return make


def load_key(path: Path, data: bytes) -> watermark.Key:
    """Loads a key from these bytes, through a file as users do."""
    with open(os.open(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(data)
    return watermark.Key.load(path)


def damage(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """One to three of: cut, flipped bits, overwritten, inserted, removed or spliced bytes, a changed header."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        size = len(damaged)
        if size < 2:
            break
        at = int(rng.integers(size))
        match rng.integers(8):
            case 0:
                del damaged[at:]
            case 1:
                for place in rng.integers(0, size, rng.integers(1, 9)):
                    damaged[place] ^= 1 << int(rng.integers(8))
            case 2:
                damaged[at : at + 4] = rng.bytes(4)
            case 3:
                damaged[at:at] = rng.bytes(int(rng.integers(1, 64)))
            case 4:
                del damaged[at : at + int(rng.integers(1, 64))]
            case 5:
                damaged[at:] = other[int(rng.integers(len(other))) :]
            case 6:
                place = int(rng.integers(min(size, 64)))
                damaged[place] = [0, 1, 0x7F, 0x80, 0xFF][rng.integers(5)]
            case _:
                place = int(rng.integers(min(size, 64)))
                damaged[place : place + 4] = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"][rng.integers(3)]
    return bytes(damaged)


if __name__ == "__main__":
    sys.exit(main())
