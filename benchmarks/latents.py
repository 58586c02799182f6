"""Power of latent marks under noise and rotation: what is still found at which noise level?

An inverted latent is modelled by the Gaussian channel z' = sqrt(1 - s^2) z + s eps; with ``--rotations`` it is then
turned about its centre (bilinear, the corners lost)::

    python benchmarks/latents.py --scheme latent.ring_id --seed 1
    python benchmarks/latents.py --scheme latent.prc --parameters '{"payload_bits": 256}' --levels 0.8 0.85 0.9 --seed 1

Trials are shared evenly among the keys; each draws a message and noise of its own. Prints a Markdown table with Wilson
95 % intervals, and writes ``benchmarks/results/latents_<scheme>.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from typing import Any

import _record
import numpy as np
import PIL.Image
from _intervals import wilson

import watermark
from watermark.payload import Frame

FPR = 1e-6


def main() -> None:
    """Measures every level at every angle."""
    options = parse()
    watermark.set_threads(1)
    first = watermark.load(options.scheme, key(options, 0), **options.parameters)
    rows = [measure(options, degrees, level) for degrees in options.rotations for level in options.levels]
    markdown = table(rows)
    print(f"{first.name} {first.parameters}: {options.trials} trials over {options.keys} keys, seed {options.seed}\n")
    print(markdown)
    results = {"scheme": first.name, "profile": json.loads(first.profile())["parameters"], "seed": options.seed}
    results |= {"keys": options.keys, "fpr": FPR, "rows": rows}
    path = _record.save(f"latents_{first.name.replace('.', '_')}", results, markdown=markdown, out=options.out)
    print(f"\nwritten: {path}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheme", required=True, help="name of a latent scheme")
    parser.add_argument("--parameters", type=json.loads, default={}, help='as JSON, such as {"payload_bits": 64}')
    parser.add_argument("--levels", type=float, nargs="+", default=[0.5, 0.7, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97])
    parser.add_argument("--rotations", type=float, nargs="+", default=[0.0], help="degrees")
    parser.add_argument("--trials", type=int, default=200, help="for each row of the table")
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", help="where to write the record")
    options = parser.parse_args()
    info = next((i for i in watermark.schemes() if i.name == options.scheme), None)
    if info is None or info.modality != "latent":
        parser.error(f"there is no latent scheme {options.scheme}")
    if options.trials < options.keys or not all(0 <= level <= 1 for level in options.levels):
        parser.error("levels lie between 0 and 1, and every key needs a trial")
    return options


def key(options: argparse.Namespace, number: int) -> watermark.Key:
    """Key of this number: the same whenever the command is repeated."""
    return watermark.Key.from_bytes(hashlib.sha256(f"latents/{options.seed}/{number}".encode()).digest())


def measure(options: argparse.Namespace, degrees: float, level: float) -> dict[str, Any]:
    """One row: all keys at one noise level and angle."""
    log10_p: list[float] = []
    alone: list[float] = []  # the syndrome test of latent.prc, without decoding
    exact = 0
    for number in range(options.keys):
        scheme = watermark.load(options.scheme, key(options, number), **options.parameters)
        trials = (number + 1) * options.trials // options.keys - number * options.trials // options.keys
        rng = np.random.default_rng([options.seed, number, round(1000 * degrees) % 360_000, round(10_000 * level)])
        messages = [message(scheme, rng) for _ in range(trials)]
        z = scheme.sample_batch(trials, messages, rng=rng)
        noisy = (math.sqrt(1 - level**2) * z + level * rng.standard_normal(z.shape)).astype(np.float32)
        found = scheme.detect_batch(turned(noisy, degrees))
        log10_p += found.log10_p.tolist()
        alone += [item.details["syndrome_log10_p"] for item in found if "syndrome_log10_p" in item.details]
        read = zip(found.payload, found.payload_ok, messages, strict=True)
        exact += sum(bool(ok) and payload == sent for payload, ok, sent in read)
    counts = {"detected": sum(p <= math.log10(FPR) for p in log10_p), "exact": exact}
    if alone:
        counts["syndrome"] = sum(p <= math.log10(FPR) for p in alone)
    intervals = {f"{what}_interval": wilson(count, options.trials) for what, count in counts.items()}
    row = {"degrees": degrees, "s": level, "trials": options.trials, **counts, **intervals}
    return row | {"median_log10_p": float(np.median(log10_p))}


def message(scheme: Any, rng: np.random.Generator) -> bytes:
    """A random message of full length; empty where the scheme carries none."""
    frame = Frame(getattr(scheme.parameters, "payload_bits", 0))
    if frame.framed:
        return rng.bytes(frame.max_bytes)
    return int(rng.integers(1 << frame.payload_bits)).to_bytes(frame.max_bytes)


def turned(latents: np.ndarray, degrees: float) -> np.ndarray:
    """Every plane turned about its centre."""
    if not degrees:
        return latents
    planes = latents.reshape(-1, *latents.shape[-2:])
    bilinear = PIL.Image.Resampling.BILINEAR
    return np.stack([np.asarray(PIL.Image.fromarray(p).rotate(degrees, bilinear)) for p in planes]).reshape(
        latents.shape
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    titles = {"detected": f"detected at {FPR:g}", "exact": "exact message", "syndrome": "by the syndrome test alone"}
    titles = {what: title for what, title in titles.items() if what in rows[0]}
    heads = ["rotation", "s", *(head for title in titles.values() for head in (title, "95 %")), "median log10 p"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows:
        rates = " | ".join(
            f"{row[what]} / {row['trials']} | {100 * low:.1f} to {100 * high:.1f} %"
            for what, (low, high) in ((what, row[f"{what}_interval"]) for what in titles)
        )
        lines.append(f"| {row['degrees']:g} | {row['s']:g} | {rates} | {row['median_log10_p']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
