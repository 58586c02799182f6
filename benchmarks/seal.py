"""What `latent.seal` binds, and how well: content drift, noise of the inversion, moved marks, objects, and an attack.

Latents go through the channel z' = sqrt(1 - s^2) z + s eps; the detector is told content at an angle from that of the
mark. Every point has `--rows` latents under each of `--keys` keys, with intervals at 95 % (Clopper and Pearson)::

    python benchmarks/seal.py --seed 1

prints Markdown tables and writes ``benchmarks/results/seal.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from typing import Any

import _intervals
import _record
import numpy as np

import watermark
from watermark.latent.seal import BITS, CODES

FIDELITY = (0.0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96)
ANGLES = (0, 15, 30, 40, 45, 50, 55, 60, 70, 90)
OBJECTS = (0.1, 0.2, 0.4)
RATES = (1e-3, 1e-6)


class Trials:
    """Marked latents under many keys."""

    def __init__(self, seed: int, keys: int, rows: int, shape: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng([seed, len(shape), shape[0]])
        self.schemes = [
            watermark.load("latent.seal", watermark.Key.from_bytes(hashlib.sha256(f"{seed}/{i}".encode()).digest()))
            for i in range(keys)
        ]
        self.schemes = [scheme.with_shape(shape) for scheme in self.schemes]
        self.contents = [self.rng.standard_normal((rows, 256)) for _ in self.schemes]
        self.latents = [
            scheme.sample_batch(rows, content=v, rng=i)
            for i, (scheme, v) in enumerate(zip(self.schemes, self.contents, strict=True))
        ]

    def received(self, z: np.ndarray, s: float) -> np.ndarray:
        """The latents behind the channel."""
        noise = self.rng.standard_normal(z.shape, np.float32)
        return np.asarray(np.float32(math.sqrt(1 - s * s)) * z + np.float32(s) * noise)

    def turned(self, v: np.ndarray, degrees: float) -> np.ndarray:
        """Each content turned by this angle in a random direction."""
        v = v / np.linalg.norm(v, axis=1, keepdims=True)
        other = self.rng.standard_normal(v.shape)
        other -= (other * v).sum(axis=1, keepdims=True) * v
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        return np.asarray(math.cos(math.radians(degrees)) * v + math.sin(math.radians(degrees)) * other)

    def point(self, degrees: float, s: float) -> dict[str, Any]:
        """Shares that are accepted at each rate."""
        bound, unbound = [], []
        for scheme, v, z in zip(self.schemes, self.contents, self.latents, strict=True):
            found = scheme.detect_batch(self.received(z, s), content=self.turned(v, degrees))
            bound.append(found.log10_p)
            unbound += [item.details["unbound_log10_p"] for item in found]
        log10_p = np.concatenate(bound)
        row: dict[str, Any] = {"angle": degrees, "s": s, "trials": log10_p.size}
        for rate in RATES:
            row[f"accepted at {rate:g}"] = share(log10_p <= math.log10(rate))
        row[f"present at {RATES[1]:g}"] = share(np.array(unbound) <= math.log10(RATES[1]))
        return row

    def objects(self, side: float, s: float) -> dict[str, Any]:
        """How well the maps part an object of foreign noise, a square of this share of the side, from the rest."""
        smooth, raw, accepted = [], [], []
        height, width = self.latents[0].shape[-2:]
        for scheme, v, z in zip(self.schemes, self.contents, self.latents, strict=True):
            z = self.received(z, s)
            truth = np.zeros((len(z), height, width))
            size = round(side * height)
            for row in range(len(z)):
                top, left = self.rng.integers(0, height - size + 1), self.rng.integers(0, width - size + 1)
                z[row, :, top : top + size, left : left + size] = self.rng.standard_normal((z.shape[1], size, size))
                truth[row, top : top + size, left : left + size] = 1
            covered = truth.reshape(len(z), height // 2, 2, width // 2, 2).mean(axis=(2, 4)) > 0.5
            for found, inside in zip(scheme.detect_batch(z, content=self.turned(v, 15)), covered, strict=True):
                smooth.append(area(-found.details["presence"], inside))
                raw.append(area(found.details["patch_p"], inside))
                accepted.append(found.detected(1e-6))
        return {
            "side of the object": side,
            "s": s,
            "trials": len(smooth),
            "AUC of `presence`": float(np.mean(smooth)),
            "AUC of `patch_p`": float(np.mean(raw)),
            "accepted at 1e-06": share(np.array(accepted)),
        }


def area(score: np.ndarray, inside: np.ndarray) -> float:
    """Chance that a cell inside has a higher score than one outside."""
    first, second = score[inside], np.sort(score[~inside])
    below = np.searchsorted(second, first, "left") + np.searchsorted(second, first, "right")
    return float(below.mean() / 2 / second.size)


def harvest(seed: int, count: int, patches: int = 64, dimension: int = 256) -> dict[str, Any]:
    """Learns the noises of a key without salts from marked latents whose contents are known.

    Every patch's latents fall into groups with equal noise. A new content gets the noise of the group whose mean
    content, shrunk as its size demands, lies nearest (linear discriminant analysis).
    """
    rng = np.random.default_rng([seed, count])
    known, wanted = (rng.standard_normal((rows, dimension)).astype(np.float32) for rows in (count, 200))
    hits = []
    for _ in range(patches):
        projections = rng.standard_normal((BITS, dimension)).astype(np.float32)
        codes, answers = (((v @ projections.T > 0) << np.arange(BITS)).sum(axis=1) for v in (known, wanted))
        sums, sizes = np.zeros((CODES, dimension), np.float32), np.bincount(codes, minlength=CODES)
        np.add.at(sums, codes, known)
        score = wanted @ (sums / (sizes[:, None] + dimension / (BITS * 2 / math.pi))).T
        score[:, sizes == 0] = -np.inf
        hits.append((score.argmax(axis=1) == answers).mean())
    return {"latents collected": count, "patches with the right noise": float(np.mean(hits))}


def share(hits: np.ndarray) -> str:
    """A share with its interval, in per cent."""
    low, high = _intervals.clopper_pearson(int(hits.sum()), hits.size)
    return f"{hits.mean():.2%} ({low:.2%} to {high:.2%})"


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    return "\n".join([f"### {title}", "", *(f"| {' | '.join(line)} |" for line in lines)])


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--rows", type=int, default=20, help="latents per key and point")
    parser.add_argument("--forgeries", type=int, default=250, help="latents per key of moved marks")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    for shape in ((4, 64, 64), (16, 64, 64)):
        trials = Trials(arguments.seed, arguments.keys, arguments.rows, shape)
        results[f"Content drift of 15 degrees, shape {shape}"] = [trials.point(15, s) for s in FIDELITY]
        results[f"Exact latents, shape {shape}"] = [trials.point(degrees, 0) for degrees in ANGLES]
        results[f"Latents at s = 0.8, shape {shape}"] = [trials.point(degrees, 0.8) for degrees in ANGLES]
        results[f"Inserted objects, shape {shape}"] = [
            trials.objects(side, s) for side in OBJECTS for s in (0.5, 0.7, 0.8, 0.9)
        ]
    moved = Trials(arguments.seed + 1, arguments.keys, arguments.forgeries, (4, 64, 64))
    results["Marks moved to other content"] = [moved.point(degrees, s) for degrees in (60, 70, 90) for s in (0, 0.5)]
    results["Learning a key without salts"] = [harvest(arguments.seed, 1 << e) for e in range(9, 15)]
    tables = {title: table(title, rows) for title, rows in results.items()}
    print("\n\n".join(tables.values()))
    path = _record.save("seal", {"seed": arguments.seed, "tables": results}, markdown="\n\n".join(tables.values()))
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
