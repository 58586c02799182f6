"""Pictures per second of image.spectral on a GPU, whole calls and single kernels, and how far from the memory floor.

    python benchmarks/schemes/cuda.py

The floor is the time that the card takes to copy as many bytes as a step must read and write, measured here as well.
Times are those of CUDA events, medians. Pictures are synthetic (smoothed noise). ``--emulate`` runs everything on the
CPU, on a few tiny pictures, to try the script out. Prints Markdown tables and writes
``benchmarks/results/speed_cuda.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import watermark
from watermark.image import batch, geometry
from watermark.image.perceptual import DETECTED, SMOOTHING, detector_weight
from watermark.ops import batch as ops

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _record

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = watermark.Key.from_bytes(bytes(range(32)))
MESSAGE = b"order-42"


class Clock:
    """Times calls on a device.

    Args:
        device: "cuda" or "cpu".
        seconds: Spent on each figure.
    """

    def __init__(self, device: str, seconds: float) -> None:
        self._cuda, self._seconds = device == "cuda", seconds

    def __call__(self, function: Callable[[], object]) -> float:
        """Median seconds of a call."""
        for _ in range(2):
            function()
        runs: list[float] = []
        while len(runs) < 3 or sum(runs) < self._seconds:
            runs.append(self._once(function))
        return statistics.median(runs)

    def _once(self, function: Callable[[], object]) -> float:
        if not self._cuda:
            started = time.perf_counter()
            function()
            return time.perf_counter() - started
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000


def main() -> None:
    """Measures everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="pictures per call")
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each figure")
    parser.add_argument("--emulate", action="store_true", help="run on the CPU instead, to try the script out")
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    device = "cpu" if options.emulate else "cuda"
    if options.emulate:
        batch.on_device = lambda media: isinstance(media, torch.Tensor)
    clock = Clock(device, options.seconds)
    block = torch.zeros(1 << (20 if options.emulate else 30), dtype=torch.uint8, device=device)
    bandwidth = 2 * block.numel() / clock(block.clone)
    del block
    name = "CPU, emulating" if options.emulate else torch.cuda.get_device_name()
    sizes = [(96, 128)] if options.emulate else [(512, 512), (1080, 1920), (2160, 3840)]
    count = 2 if options.emulate else options.batch
    rows = [row for size in sizes for row in calls(size, count, device, clock, bandwidth)]
    kernels = steps(sizes[-2 if len(sizes) > 1 else 0], count, device, clock, bandwidth)
    tables = {"calls": table(rows), "kernels": table(kernels)}
    print(f"{name}, batches of {count}, copies run at {bandwidth / 1e9:.0f} GB/s")
    print("", tables["calls"], "", tables["kernels"], sep="\n")
    if not options.no_record:
        results = {"device": name, "batch": count, "bytes_per_second": bandwidth, "calls": rows, "kernels": kernels}
        path = _record.save("speed_cuda", results, markdown=tables, packages=["torch"], out=options.out)
        print(f"\nwritten: {path.name}")


def pictures(size: tuple[int, int], count: int, device: str) -> torch.Tensor:
    """Smoothed noise: uint8 of shape (count, 3, H, W), no two alike."""
    height, width = size
    noise = np.random.default_rng(0).normal(0, 1, (height + count, width, 3))
    for axis in (0, 1):
        noise = sum(np.roll(noise, step, axis) for step in range(-3, 4))
    levels = np.clip(128 + 8 * noise, 0, 255).astype(np.uint8)
    stacked = np.stack([np.moveaxis(levels[i : i + height], 2, 0) for i in range(count)])
    return torch.from_numpy(stacked).to(device)


def calls(size: tuple[int, int], count: int, device: str, clock: Clock, bandwidth: float) -> list[dict[str, Any]]:
    """Whole calls: embedding reads a picture twice and writes it once, detection reads it once."""
    mark = watermark.load("image.spectral", KEY, payload_bits=64)
    clean = pictures(size, count, device)
    marked = mark.embed_batch(clean, MESSAGE)
    turned = marked.flip(2).transpose(2, 3)[:, :, : size[0] * 7 // 8]
    turned = torch.nn.functional.interpolate(turned.float(), scale_factor=0.83, mode="bilinear").round().byte()
    many = [i.to_bytes(2) for i in range(count)]
    cases: dict[str, tuple[Callable[[], object], int]] = {
        "embed, one message": (lambda: mark.embed_batch(clean, MESSAGE), 3),
        "embed, a message each": (lambda: mark.embed_batch(clean, many), 3),
        "detect, marked": (lambda: mark.detect_batch(marked), 1),
        "detect, marked and resized": (lambda: mark.detect_batch(turned), 1),
        "detect, unmarked": (lambda: mark.detect_batch(clean), 1),
    }
    what = f"{size[1]} x {size[0]}"
    nbytes = clean[0].numel()
    return [
        {"what": f"{what}, {case}", **rate(clock(function), count, passes * nbytes, bandwidth)}
        for case, (function, passes) in cases.items()
    ]


def steps(size: tuple[int, int], count: int, device: str, clock: Clock, bandwidth: float) -> list[dict[str, Any]]:
    """Single steps of a batch, and the bytes that each must move per picture."""
    mark = watermark.load("image.spectral", KEY, payload_bits=64)
    sync = mark._tables[0].sync
    pixels = pictures(size, count, device)
    factor = geometry.reduction(*size)
    canvas = batch.Canvas(pixels)
    grey = ops.luma(pixels, factor)
    high, means = ops.limited_high_pass(grey, DETECTED, SMOOTHING)
    weight = detector_weight(means[:, 1])
    y = ops.whiten(high.clone(), weight)
    readings = batch.DeviceReadings(pixels)
    field, _ = readings._field(range(count))
    values, level = field.spectra
    rows = np.repeat(np.arange(count), geometry.PEAKS)
    starts = np.broadcast_to(np.eye(2), (len(rows), 2, 2))
    frequencies = sync.lines / geometry.TILE
    cycles, strides = np.ones((count, 1, geometry.PERIOD), np.float32), np.full(count, 2353)
    few = np.arange(count).repeat(9)
    matrices = np.broadcast_to(np.eye(2), (len(few), 2, 2))
    turns = np.broadcast_to(sync.phases.conj(), (len(few), len(frequencies)))
    picture, luma, spectrum = pixels[0].numel(), 4 * y[0].numel(), 8 * values[0].numel()
    cases: dict[str, tuple[Callable[[], object], int]] = {
        "luma": (lambda: ops.luma(pixels, factor), picture + luma),
        "statistics": (lambda: ops.statistics(grey, DETECTED, SMOOTHING), luma),
        "amplitudes": (lambda: batch.Canvas(pixels), picture),
        "add_pattern": (lambda: canvas.marked(cycles, strides, [1.0] * count), 2 * picture),
        "limited_high_pass": (lambda: ops.limited_high_pass(grey, DETECTED, SMOOTHING), 2 * luma),
        "whiten": (lambda: ops.whiten(high, weight), 2 * luma),
        "fold": (lambda: ops.fold(y, geometry.STEPS, geometry.PERIOD), luma),
        "aligned looks": (lambda: batch.DeviceReadings(pixels)._tiles, picture),
        "spectrum": (lambda: ops.spectrum(field.y), luma + spectrum),
        "noise": (lambda: ops.noise(values), spectrum),
        "power_ratio": (lambda: ops.power_ratio(values, level), spectrum * 3 // 2),
        "log_polar": (lambda: ops.log_polar(field.ratio), spectrum // 2),
        **{
            f"search, {name} stretches": (
                lambda stretches=stretches: ops.search(
                    field.table, *sync.template(stretches), geometry.SCALES, geometry.PEAKS
                ),
                field.table[0].numel(),
            )
            for name, stretches in zip(("mild", "other"), geometry.STAGES, strict=True)
        },
        "refine": (lambda: ops.refine(field.ratio, rows, starts, frequencies), spectrum // 2),
        "polish": (
            lambda: ops.polish(values, level, few, matrices, [geometry._FREE] * len(few), frequencies, turns),
            spectrum,
        ),
        "sample": (lambda: ops.sample(values, level, few, matrices, mark._tables[0].lines / geometry.TILE), spectrum),
        "locate": (lambda: ops.locate(ops.to_device(turns, values), sync.lines, geometry.GRID), 0),
    }
    what = f"{size[1]} x {size[0]}"
    return [
        {"what": f"{what}, {case}", **rate(clock(function), count, nbytes, bandwidth)}
        for case, (function, nbytes) in cases.items()
    ]


def rate(seconds: float, count: int, nbytes: int, bandwidth: float) -> dict[str, Any]:
    """Figures of a call on `count` pictures, of each of which `nbytes` must move."""
    floor = nbytes * count / bandwidth
    return {
        "pictures_per_second": count / seconds,
        "microseconds": 1e6 * seconds / count,
        "floor_microseconds": 1e6 * floor / count,
        "times_floor": seconds / floor if floor else None,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = [
        "| what | pictures / s | us per picture | floor, us | times the floor |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        times = "-" if row["times_floor"] is None else f"{row['times_floor']:.1f}"
        figures = f"{row['pictures_per_second']:,.0f} | {row['microseconds']:.1f} | {row['floor_microseconds']:.2f}"
        lines.append(f"| {row['what']} | {figures} | {times} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
