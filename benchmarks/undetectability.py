"""Attacks on `latent.prc` by those who hold exact latents and no key.

What they find, and how long that takes::

    python benchmarks/undetectability.py --seed 1

- *pairs*: the correlation of every two signs over many latents (what betrays the published code);
- *join*: sums of half a check's coordinates that agree on all latents, over the random part of the coordinates in which
  one check lies on average. `Prc.security_bits` counts these sums; where they are too many, the time is extrapolated;
- *network*: a perceptron, trained on marked latents and noise, as area under its ROC curve on others, with a bootstrap
  interval. Gaussian Shading with one nonce stands beside it: it must be found.

Needs torch for the network. Prints Markdown tables, and writes ``benchmarks/results/undetectability.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import time
from statistics import NormalDist
from typing import Any

import _record
import numpy as np
import torch

import watermark

PRESETS: dict[str, dict[str, Any]] = {"robust": {}, "t = 4": {"t": 4}, "hardened": {"preset": "hardened"}}
MOST_SUMS = 1 << 26


def main() -> None:
    """Runs the attackers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--latents", type=int, default=1000, help="per class of the network's training and of its test")
    parser.add_argument("--parts", type=int, default=40, help="random parts of the coordinates that are joined")
    parser.add_argument("--out", help="where to write the record")
    options = parser.parse_args()
    watermark.set_threads(1)
    torch.set_num_threads(1)
    joined = [join(name, options) for name in PRESETS]
    scanned = [pairs(name, options) for name in PRESETS]
    schemes = {name: scheme(name, options.seed) for name in PRESETS}
    schemes["gaussian_shading"] = watermark.load("latent.gaussian_shading", key(options.seed, 0))
    trained = [network(name, mark, options) for name, mark in schemes.items()]
    markdown = {"join": table(joined), "pairs": table(scanned), "network": table(trained)}
    print("\n\n".join(markdown.values()))
    results = {"seed": options.seed, "join": joined, "pairs": scanned, "network": trained}
    path = _record.save("undetectability", results, markdown=markdown, packages=["torch"], out=options.out)
    print(f"\nwritten: {path}")


def key(seed: int, number: int) -> watermark.Key:
    """Key of this number."""
    return watermark.Key.from_bytes(hashlib.sha256(f"undetectability/{seed}/{number}".encode()).digest())


def scheme(name: str, seed: int, number: int = 0) -> Any:
    """PRC with 256 bits and these parameters."""
    return watermark.load("latent.prc", key(seed, number), **PRESETS[name])


def signs(mark: Any, rows: int, seed: int) -> np.ndarray:
    """Signs of marked latents: bool of shape (rows, n)."""
    return np.signbit(mark.sample_batch(rows, rng=seed).reshape(rows, -1))


def join(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Joins over random parts of the coordinates: checks found, and the CPU time of one part."""
    mark = scheme(name, options.seed)
    t, n = mark.parameters.degree, math.prod(mark.shape)
    left, right = -(-t // 2), t // 2
    size = round(n * mark._checks ** (-1 / t))
    relative = signs(mark, 65, options.seed)
    words = np.packbits(relative[1:] ^ relative[0], axis=0).T.copy().view(np.uint64)[:, 0]
    rng = np.random.default_rng(options.seed)
    checks = {tuple(sorted(check)) for check in mark._tables[0][0].code.inner.tolist()}
    total = math.comb(size, left)
    smaller = size
    while math.comb(smaller, left) > MOST_SUMS:
        smaller -= 1
    found, held, start = 0, 0, time.process_time()
    for _ in range(options.parts if smaller == size else 1):
        part = rng.choice(n, smaller, replace=False)
        hits = agreeing(words[part], left, right)
        found += sum(tuple(sorted(part[list(hit)].tolist())) in checks for hit in hits)
        held += 1
    seconds = (time.process_time() - start) / held * total / math.comb(smaller, left)
    return {
        "preset": name,
        "t": t,
        "security_bits": mark.security_bits,
        "log2 of the sums of a part": round(math.log2(total), 1),
        "parts joined": held if smaller == size else 0,
        "checks found": found if smaller == size else "-",
        "CPU s per part": float(f"{seconds:.2g}"),
    }


def agreeing(words: np.ndarray, left: int, right: int) -> list[tuple[int, ...]]:
    """Coordinates whose words add up to zero: sums of `left` and of `right` words that agree."""
    one, other = sums(words, left), sums(words, right)
    order = np.argsort(one[0], kind="stable")
    begin = np.searchsorted(one[0][order], other[0], "left")
    end = np.searchsorted(one[0][order], other[0], "right")
    hits = set()
    for i in np.flatnonzero(end > begin):
        for j in order[begin[i] : end[i]]:
            hits.add(tuple(sorted(set(one[1][j].tolist()) ^ set(other[1][i].tolist()))))
    return [hit for hit in hits if len(hit) == left + right]


def sums(words: np.ndarray, terms: int) -> tuple[np.ndarray, np.ndarray]:
    """All sums of so many words, and their coordinates."""
    if terms == 1:
        return words, np.arange(words.size)[:, None]
    if terms == 2:
        chosen = np.stack(np.triu_indices(words.size, 1), axis=1)
    else:
        count = math.comb(words.size, terms)
        flat = itertools.chain.from_iterable(itertools.combinations(range(words.size), terms))
        chosen = np.fromiter(flat, np.int32, count * terms).reshape(count, terms)
    return np.bitwise_xor.reduce(words[chosen], axis=1), chosen


def pairs(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The strongest correlation of two signs over 400 latents, beside what noise shows."""
    mark, rows = scheme(name, options.seed), 400
    centred = 1 - 2 * signs(mark, rows, options.seed).astype(np.float32)
    n = centred.shape[1]
    strongest = 0.0
    for first in range(0, n, 1024):
        product = np.abs(centred[:, first : first + 1024].T @ centred)
        product[np.arange(product.shape[0]), first + np.arange(product.shape[0])] = 0
        strongest = max(strongest, float(product.max()))
    expected = NormalDist().inv_cdf(1 - 1 / (n * (n - 1)))
    return {
        "preset": name,
        "latents": rows,
        "strongest pair, sigma": round(strongest / math.sqrt(rows), 2),
        "expected of noise, sigma": round(expected, 2),
    }


def network(name: str, mark: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Area under the ROC curve of a perceptron on latents that it has not seen."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    half, n = options.latents, math.prod(mark.shape)
    x = np.concatenate([mark.sample_batch(2 * half, rng=options.seed), rng.standard_normal((2 * half, *mark.shape))])
    x, y = torch.from_numpy(x.reshape(4 * half, n).astype(np.float32)), torch.arange(4 * half) < 2 * half
    train = torch.arange(4 * half) % 2 == 0
    model = torch.nn.Sequential(torch.nn.Linear(n, 128), torch.nn.ReLU(), torch.nn.Linear(128, 1))
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
    rows = torch.nonzero(train)[:, 0]
    for _ in range(4):
        for batch in rows[torch.randperm(len(rows))].split(64):
            optimiser.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x[batch])[:, 0], y[batch].float())
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        scores = model(x[~train])[:, 0].numpy()
    labels = y[~train].numpy()
    areas = []
    for _ in range(1000):
        chosen = rng.integers(labels.size, size=labels.size)
        areas.append(area(scores[chosen], labels[chosen]))
    low, high = np.quantile(areas, [0.025, 0.975])
    return {
        "mark": name,
        "trained on": 2 * half,
        "tested on": int(labels.size),
        "AUC": round(area(scores, labels), 3),
        "95 % interval": f"{low:.3f} to {high:.3f}",
    }


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve."""
    rank = np.argsort(np.argsort(scores)) + 1
    positive = int(labels.sum())
    return float((rank[labels].sum() - positive * (positive + 1) / 2) / (positive * (labels.size - positive)))


def table(rows: list[dict[str, Any]]) -> str:
    """Rows in Markdown."""
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    lines += [" | ".join(str(value) for value in row.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    main()
