"""How long an evaluation takes, what it adds to the work itself, and whether a killed one goes on to the same bytes.

    python benchmarks/evaluation.py --corpus DIR --seed 1

Marks 200 pictures of 512 pixels a side, cut from photos, attacks them and as many unmarked ones as the shares ask for
with ``image.standard``, and measures PSNR and SSIM. Overhead is CPU time of all processes that is neither reading,
marking, attacking, detecting nor measuring, as a share of all of it; starting processes counts. Then the evaluation
runs again, is killed (SIGKILL) at random moments until it is done, and the tables are compared. Prints a Markdown table
and writes ``benchmarks/results/evaluation.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _record
import numpy as np
import PIL.Image

import watermark
from watermark import attacks, evaluation, media

SIDE = 512


def main() -> None:
    """Measures everything, or is the process that is killed."""
    options = parse()
    if options.run:
        run(Path(options.run), Path(options.out), options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiles(folder / "pictures", options)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(command(folder, "whole", options), check=True)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        work = costs(folder / "whole")
        kills = killed(folder, options)
        same = all(
            (folder / "whole" / name).read_bytes() == (folder / "cut" / name).read_bytes()
            for name in ("results.parquet", "null.parquet", "thresholds.json")
        )
        summary = json.loads((folder / "whole" / "summary.json").read_text())
    split, grid = summary["protocol"]["split"], len(summary["attacks"]) - 1
    rows = [
        {"what": f"{grid} attacks, {split['positive']} marked pictures", "value": wall / 60, "unit": "min"},
        {"what": "CPU time of all processes", "value": total / 60, "unit": "min"},
        {"what": "of which overhead", "value": 100 * (total - work) / total, "unit": "%"},
        {"what": f"the same tables after {kills} kills", "value": float(same), "unit": "yes" if same else "no"},
    ]
    shown = [f"{row['value']:.1f} {row['unit']}" if row["unit"] not in ("yes", "no") else row["unit"] for row in rows]
    table = ["| what | found |", "| --- | --- |", *(f"| {r['what']} | {s} |" for r, s in zip(rows, shown, strict=True))]
    table += [
        "",
        f"Also {split['negative']} attacked pictures without a mark, and {options.null} trials with fresh keys.",
    ]
    markdown = "\n".join(table)
    print(markdown)
    results = {"rows": rows, "split": split, "cpu_seconds": total, "work_seconds": work, "wall_seconds": wall}
    print(f"\nwritten: {_record.save('evaluation', results, markdown=markdown, packages=['pyarrow', 'loky']).name}")
    sys.exit(not same)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("WATERMARK_DATA"), help="folder of photos")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--positives", type=int, default=200, help="pictures that are marked")
    parser.add_argument("--null", type=int, default=1000, help="trials with fresh keys")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.corpus is None:
        parser.error("pass --corpus, a folder of photos, or set WATERMARK_DATA")
    return options


def tiles(folder: Path, options: argparse.Namespace) -> None:
    """Writes pictures: squares from random places of the photos, of half the shorter side and more."""
    folder.mkdir()
    rng = np.random.default_rng(options.seed)
    photos = list(media.find(options.corpus).files)
    for number in range(2 * options.positives + 16):
        picture = media.read(photos[number % len(photos)]).convert("RGB")
        side = int(min(picture.size) * rng.uniform(0.5, 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        cut = picture.resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS, (left, top, left + side, top + side))
        media.write(cut, folder / f"{number}.png")


def command(folder: Path, out: str, options: argparse.Namespace) -> list[str]:
    """This script, as the process that runs an evaluation."""
    own = ["--corpus", options.corpus, "--seed", str(options.seed), "--null", str(options.null)]
    own += ["--workers", str(options.workers), "--run", str(folder / "pictures"), "--out", str(folder / out)]
    return [sys.executable, __file__, *own]


def run(pictures: Path, out: Path, options: argparse.Namespace) -> None:
    """An evaluation."""
    key = watermark.Key.from_bytes(options.seed.to_bytes(32))
    mark = watermark.load("image.spectral", key, payload_bits=64)
    settings: dict[str, Any] = {"seed": options.seed, "workers": options.workers, "null_trials": options.null}
    evaluation.run(mark, attacks.suite("image.standard"), pictures, out, **settings)


def costs(folder: Path) -> float:
    """Seconds of the work itself, over all cells, as each cell measured its own."""
    with sqlite3.connect(folder / "cells.sqlite") as store:
        rows = [json.loads(row) for (row,) in store.execute("SELECT row FROM cells")]
    return sum(sum(row.get("cost", {}).values()) for row in rows)


def killed(folder: Path, options: argparse.Namespace) -> int:
    """Runs the evaluation again, kills it at random moments, and lets the last run end. How often it was killed."""
    rng = np.random.default_rng(options.seed)
    for kills in range(4):
        process = subprocess.Popen(command(folder, "cut", options), start_new_session=True)
        try:
            process.wait(timeout=rng.uniform(10, 60) if kills < 3 else None)
            return kills
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    return 3


if __name__ == "__main__":
    main()
