"""Attacks on `latent.prc` by those who hold exact latents and no key.

What they find, and how long that takes::

    python benchmarks/undetectability.py --seed 1

- *pairs*: the correlation of every two signs over many latents (what betrays the published code);
- *join*: two lists of random sums of half a check's coordinates, so long that one true check is expected among the
  pairs that agree on 64 latents. `Prc.security_bits` is the logarithm of that length; where it is too long, the time
  is extrapolated;
- *together*: the sum of all checks' traces in the products of every two latents, without finding one;
- *network*: a perceptron, trained on marked latents and noise, as area under its ROC curve on others, with a bootstrap
  interval. Gaussian Shading with one nonce stands beside it: it must be found.

Needs torch for the network. Prints Markdown tables, and writes ``benchmarks/results/undetectability.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from statistics import NormalDist
from typing import Any

import _record
import numpy as np
import torch

import watermark

PRESETS: dict[str, dict[str, Any]] = {"robust": {}, "t = 4": {"t": 4}, "hardened": {"preset": "hardened"}}
MOST_SUMS = 1 << 21


def main() -> None:
    """Runs the attackers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--latents", type=int, default=1000, help="per class of the network's training and of its test")
    parser.add_argument("--joins", type=int, default=40, help="pairs of random lists that are joined")
    parser.add_argument("--out", help="where to write the record")
    options = parser.parse_args()
    watermark.set_threads(1)
    torch.set_num_threads(1)
    joined = [join(name, options) for name in PRESETS]
    summed = [together(name, options) for name in PRESETS]
    scanned = [pairs(name, options) for name in PRESETS]
    schemes = {name: scheme(name, options.seed) for name in PRESETS}
    schemes["gaussian_shading"] = watermark.load("latent.gaussian_shading", key(options.seed, 0))
    trained = [network(name, mark, options) for name, mark in schemes.items()]
    markdown = {"join": table(joined), "together": table(summed), "pairs": table(scanned), "network": table(trained)}
    print("\n\n".join(markdown.values()))
    results = {"seed": options.seed, "join": joined, "together": summed, "pairs": scanned, "network": trained}
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
    """Joins of random lists: true checks found, and the CPU time of one."""
    mark = scheme(name, options.seed)
    t, n = mark.parameters.degree, math.prod(mark.shape)
    length = math.sqrt(math.comb(n, t) / mark._checks)
    size = min(round(length), MOST_SUMS)
    relative = signs(mark, 65, options.seed)
    words = np.packbits(relative[1:] ^ relative[0], axis=0).T.copy().view(np.uint64)[:, 0]
    rng = np.random.default_rng(options.seed)
    checks = {tuple(sorted(check)) for check in mark._tables[0][0].code.inner.tolist()}
    joins = options.joins if size == round(length) else 1
    found, start = 0, time.process_time()
    for _ in range(joins):
        chosen = [rng.integers(n, size=(size, terms)) for terms in (-(-t // 2), t // 2)]
        left, right = (np.bitwise_xor.reduce(words[c], axis=1) for c in chosen)
        order = np.argsort(right)
        begin, end = (np.searchsorted(right[order], left, side) for side in ("left", "right"))
        for i in np.flatnonzero(end > begin):
            for j in order[begin[i] : end[i]]:
                found += tuple(sorted({*chosen[0][i].tolist(), *chosen[1][j].tolist()})) in checks
    seconds = (time.process_time() - start) / joins * length / size
    return {
        "preset": name,
        "t": t,
        "security_bits": mark.security_bits,
        "joins": joins if size == round(length) else 0,
        "true checks found": found if size == round(length) else "-",
        "CPU s per join": float(f"{seconds:.2g}"),
    }


def together(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The elementary symmetric polynomial of degree 3 in the products of all pairs of latents."""
    mark = scheme(name, options.seed)
    x = 1 - 2.0 * signs(mark, options.latents, options.seed)
    n = x.shape[1]
    product = (x @ x.T)[np.triu_indices(len(x), 1)]
    triples = (product**3 - (3 * n - 2) * product) / 6
    score = triples.sum() / math.sqrt(product.size * math.comb(n, 3))
    row = {"preset": name, "latents": options.latents, "sum of triples, sigma": round(float(score), 1)}
    return row | {"latents_in_pairs (one sigma of its own t)": mark.latents_in_pairs}


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
