"""How fast, how strong and how honest are the marks that are read by alignment, `llm.exp` and `llm.its`?

- Speed: CPU time of one core for the statistic and all of 5,000 random keys, at n = 256 and a block of the whole text;
  and of `detect` on unmarked prose, where random keys stop early. The published code (jthickstun/watermark) took
  91-115, 195-319 and 3,689-6,286 s for 5,000 keys at 35, 100 and 500 tokens on a machine of this class; it is no
  package, so it is not run beside ours.
- Power: texts of a synthetic language of stated entropy, a share of whose tokens is replaced, deleted or followed by a
  random one, in equal parts.
- Null, test (A) of docs/statistics.md: a fresh key for every text; random, repetitive, English and Chinese ones.
- One key on prose of two authors, test (C): how much the rates of keys differ.
- Distortion: chi-square of 10^6 first tokens over keys and rows against the model's law.

The corpus is a folder of texts as ``*.txt`` or ``*.txt.xz``, their names starting with "en" or "zh"; words (Chinese:
characters) become tokens by CRC-32. Limits are at 99.9 % for the seed given::

    python benchmarks/alignment.py --seed 1 --corpus DIR

prints Markdown tables and writes ``benchmarks/results/alignment.json``. It ends with exit code 1 if a limit is passed.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import math
import re
import sys
import time
import zlib
from pathlib import Path
from statistics import NormalDist
from typing import Any

import _record
import numpy as np
from _intervals import clopper_pearson, upper_tail

import watermark
from watermark.llm.alignment import _weights
from watermark.ops.alignment import align, random_keys_reach
from watermark.reference import SyntheticLanguage

SCHEMES = ("llm.exp", "llm.its")
VOCABULARY = 8192
WORDS = 35
PEER_SECONDS = {35: (91, 115), 100: (195, 319), 500: (3689, 6286)}
LEVELS = (0.1, 0.01, 0.001)


def load(name: str, label: str, **parameters: Any) -> Any:
    """The scheme with a numbered key, as good as a random one."""
    key = watermark.Key.from_bytes(hashlib.sha256(f"alignment/{label}".encode()).digest())
    return watermark.load(name, key, **{"vocab_size": VOCABULARY, **parameters})


def words_of(path: Path) -> np.ndarray:
    """A text as tokens, by keyless hashing."""
    octets = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    pattern = r"\S" if path.name.startswith("zh") else r"\w+|[^\w\s]"
    units = re.findall(pattern, octets.decode("utf-8", "replace").lower())
    return np.array([zlib.crc32(unit.encode()) % VOCABULARY for unit in units])


def windows(corpus: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Windows at random places of texts: int64 of shape (count, WORDS)."""
    chosen = [corpus[i] for i in rng.integers(0, len(corpus), count)]
    return np.array([text[at : at + WORDS] for text in chosen for at in [rng.integers(0, len(text) - WORDS)]])


def edited(text: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """This share of the tokens replaced, deleted, or followed by a random one."""
    out: list[int] = []
    chosen = set(rng.choice(len(text), round(share * len(text)), replace=False).tolist())
    for i, token in enumerate(text.tolist()):
        kind = rng.integers(3) if i in chosen else -1  # 0 replaces, 1 deletes, 2 inserts
        out += [] if kind in (0, 1) else [token]
        out += [int(rng.integers(VOCABULARY))] if kind in (0, 2) else []
    return np.array(out)


def speed(seed: int) -> list[dict[str, Any]]:
    """CPU seconds of the whole test, without an early stop."""
    rows = []
    for name in SCHEMES:
        for tokens, (fast, slow) in PEER_SECONDS.items():
            scheme = load(name, "speed", vocab_size=50_257, block=tokens)
            text = np.random.default_rng(seed).zipf(1.3, tokens) % 50_257
            blocks = scheme._blocks(text)
            draws = 5000 if tokens < 500 else 1000
            seconds = []
            for run in range(3):
                begin = time.process_time()
                weights, _ = _weights(type(scheme), scheme.parameters.gap, blocks.length)
                align(scheme._cells(scheme._tables[0], blocks.kinds), *blocks[1:], weights)
                observed = time.process_time()
                key = np.full(8, run, np.uint32)
                about = (len(blocks.kinds), 256, *blocks[1:], weights, 65_535, scheme._places)
                random_keys_reach(key, range(draws), *about)
                seconds.append(observed - begin + (time.process_time() - observed) * 5000 / draws)
            middle = float(np.median(seconds))
            rows.append(
                {
                    "scheme": name,
                    "tokens": tokens,
                    "kinds": len(blocks.kinds),
                    "seconds": middle,
                    "spread": [min(seconds), max(seconds)],
                    "times_faster": [fast / middle, slow / middle],
                }
            )
    return rows


def unmarked(texts: np.ndarray) -> list[dict[str, Any]]:
    """CPU milliseconds of `detect` on unmarked prose."""
    rows = []
    for name in SCHEMES:
        scheme = load(name, "unmarked")
        scheme.detect(texts[0])
        taken = []
        for text in texts:
            begin = time.process_time()
            scheme.detect(text)
            taken.append(1e3 * (time.process_time() - begin))
        half = 1.96 * np.std(taken) / math.sqrt(len(taken))
        rows.append(
            {
                "scheme": name,
                "texts": len(taken),
                "median": float(np.median(taken)),
                "mean": float(np.mean(taken)),
                "mean_interval": [float(np.mean(taken) - half), float(np.mean(taken) + half)],
                "p99": float(np.quantile(taken, 0.99)),
            }
        )
    return rows


def power(seed: int, texts: int) -> list[dict[str, Any]]:
    """How often edited texts are found at p <= 0.01, and unedited ones at 1e-6."""
    rows = []
    for name, entropy, tokens, share in (
        ("llm.exp", 4.0, 35, 0.0),
        ("llm.exp", 4.0, 35, 0.4),
        ("llm.exp", 4.0, 35, 0.5),
        ("llm.exp", 4.0, 70, 0.5),
        ("llm.exp", 2.0, 70, 0.4),
        ("llm.its", 4.0, 35, 0.0),
        ("llm.its", 4.0, 35, 0.2),
        ("llm.its", 4.0, 70, 0.4),
        ("llm.its", 4.0, 140, 0.4),
    ):
        language, rng = SyntheticLanguage(VOCABULARY, entropy, seed), np.random.default_rng(seed)
        p = []
        for number in range(texts // 10):
            scheme = load(name, f"power/{seed}/{number}", draws=999)
            written = language.write(10, tokens, scheme, seed=1000 * seed + number)
            p += scheme.detect_batch([edited(text, share, rng) for text in written]).p_value.tolist()
        found = {level: int((np.array(p) <= level).sum()) for level in (0.01, 1e-6)}
        rows.append(
            {
                "scheme": name,
                "entropy": entropy,
                "tokens": tokens,
                "edited": share,
                "texts": len(p),
                "rates": {str(level): hits / len(p) for level, hits in found.items()},
                "interval": clopper_pearson(found[0.01], len(p)),
            }
        )
    return rows


def null(seed: int, texts: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Rates of clean texts under fresh keys."""
    rows = []
    for name in SCHEMES:
        for kind, items in texts.items():
            found = [
                load(name, f"null/{seed}/{kind}/{i}").detect(text[: 5 + i % (WORDS - 4)]).p_value
                for i, text in enumerate(items)
            ]
            hits = [int((np.array(found) <= level).sum()) for level in LEVELS]
            good = all(upper_tail(k, len(found), a) > 0.001 for k, a in zip(hits, LEVELS, strict=True))
            rows.append({"scheme": name, "kind": kind, "texts": len(found), "hits": hits, "holds": good})
    return rows


def one_key(seed: int, texts: np.ndarray, keys: int) -> list[dict[str, Any]]:
    """How much the rates of keys differ on prose: the correlation of two texts' scores over the key."""
    rows = []
    normal = NormalDist()
    for name in SCHEMES:
        p = np.array([load(name, f"key/{seed}/{k}", draws=999).detect_batch(texts).p_value for k in range(keys)])
        level = 0.1
        rates = (p <= level).mean(axis=1)
        spread = rates.var(ddof=1) - (rates * (1 - rates)).mean() / (len(texts) - 1)
        # Var F = phi(z)^2 R to first order; its upper end at 95 % from the chi-square law of the variance.
        scale = normal.pdf(normal.inv_cdf(1 - level)) ** 2
        upper = rates.var(ddof=1) * (1 + 2.33 * math.sqrt(2 / (keys - 1))) - (rates * (1 - rates)).mean() / len(texts)
        r, r_upper = max(0.0, spread / scale), max(0.0, upper / scale)
        factor = {
            str(a): 1 - normal.cdf((normal.inv_cdf(1 - a) - 2.326 * math.sqrt(r_upper)) / math.sqrt(1 - r_upper))
            for a in (1e-3, 1e-6)
        }
        rows.append(
            {
                "scheme": name,
                "keys": keys,
                "texts": len(texts),
                "mean_rate": float(rates.mean()),
                "rates": [float((p <= a).mean()) for a in LEVELS],
                "highest": float(rates.max()),
                "r": r,
                "r_upper": r_upper,
                "factors": {a: value / float(a) for a, value in factor.items()},
            }
        )
    return rows


def distortion(seed: int, samples: int) -> list[dict[str, Any]]:
    """Chi-square of first tokens against the law that the logits have."""
    rows = []
    weights = 1 / np.arange(1, 61) ** 1.2
    p = weights / weights.sum()
    logits = np.log(p).astype(np.float32)
    for name in SCHEMES:
        counts = np.zeros(p.size, np.int64)
        for number in range(-(-samples // 4096)):
            scheme = load(name, f"law/{seed}/{number}", vocab_size=p.size, key_length=4096)
            generation = scheme.start()
            generation._grow(4096)
            for row, slot in enumerate(generation._slots):  # every row of the key once
                slot.private["offset"] = row
            table = generation.apply(np.zeros((4096, 0), np.int64), np.tile(logits, (4096, 1)))
            counts += np.bincount(table.argmax(axis=1), minlength=p.size)
        total = int(counts.sum())
        square = float(((counts - total * p) ** 2 / (total * p)).sum())
        freedom = p.size - 1
        # Wilson and Hilferty: the cube root of chi-square over its mean is nearly normal.
        z = ((square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
        rows.append(
            {
                "scheme": name,
                "samples": total,
                "chi_square": square,
                "freedom": freedom,
                "p": 1 - NormalDist().cdf(z),
            }
        )
    return rows


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=2000, help="texts per kind of the null")
    parser.add_argument("--power-texts", type=int, default=500)
    parser.add_argument("--keys", type=int, default=30)
    parser.add_argument("--samples", type=int, default=10**6)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    watermark.set_threads(1)
    rng = np.random.default_rng(given.seed)
    corpus = {path.name: words_of(path) for path in sorted(given.corpus.glob("*.txt*"))}
    english = [text for name, text in corpus.items() if name.startswith("en")]
    chinese = [text for name, text in corpus.items() if name.startswith("zh")]
    periods = rng.integers(1, 8, given.texts)
    clean = {
        "random": rng.integers(0, VOCABULARY, (given.texts, WORDS)),
        "repetitive": np.array([np.resize(rng.integers(0, VOCABULARY, period), WORDS) for period in periods]),
        "English": windows(english, given.texts, rng),
        "Chinese": windows(chinese, given.texts, rng),
    }
    results: dict[str, Any] = {"speed": speed(given.seed), "unmarked": unmarked(clean["English"][:500])}
    results["power"] = power(given.seed, given.power_texts)
    results["null"] = null(given.seed, clean)
    results["one_key"] = one_key(given.seed, windows(english, 1000, rng), given.keys)
    results["distortion"] = distortion(given.seed, given.samples)
    markdown = {
        "speed": table(
            ["scheme", "tokens", "5,000 keys", "published code", "times faster"],
            [
                [
                    r["scheme"],
                    str(r["tokens"]),
                    f"{r['seconds']:.2f} s ({r['spread'][0]:.2f}-{r['spread'][1]:.2f})",
                    "{}-{} s".format(*PEER_SECONDS[r["tokens"]]),
                    "{:.0f}-{:.0f}".format(*r["times_faster"]),
                ]
                for r in results["speed"]
            ],
        ),
        "unmarked": table(
            ["scheme", "texts", "median", "mean", "99 %"],
            [
                [
                    r["scheme"],
                    str(r["texts"]),
                    f"{r['median']:.2f} ms",
                    "{:.2f} ms ({:.2f}-{:.2f})".format(r["mean"], *r["mean_interval"]),
                    f"{r['p99']:.1f} ms",
                ]
                for r in results["unmarked"]
            ],
        ),
        "power": table(
            ["scheme", "nats", "tokens", "edited", "p <= 0.01", "p <= 1e-6"],
            [
                [
                    r["scheme"],
                    f"{r['entropy']:g}",
                    str(r["tokens"]),
                    f"{100 * r['edited']:.0f} %",
                    "{:.1f} % ({:.1f}-{:.1f})".format(100 * r["rates"]["0.01"], *(100 * x for x in r["interval"])),
                    f"{100 * r['rates']['1e-06']:.1f} %",
                ]
                for r in results["power"]
            ],
        ),
        "null": table(
            ["scheme", "texts", "number", *(f"at {a:g}" for a in LEVELS)],
            [
                [r["scheme"], r["kind"], str(r["texts"]), *(f"{k / r['texts']:.4f}" for k in r["hits"])]
                for r in results["null"]
            ],
        ),
        "one_key": table(
            ["scheme", "keys", "texts", *(f"mean at {a:g}" for a in LEVELS[:2]), "R", "factor at 1e-3", "at 1e-6"],
            [
                [
                    r["scheme"],
                    str(r["keys"]),
                    str(r["texts"]),
                    *(f"{rate:.4f}" for rate in r["rates"][:2]),  # 999 draws do not resolve more
                    f"{r['r']:.4f} (below {r['r_upper']:.4f})",
                    *(f"{factor:.2f}" for factor in r["factors"].values()),
                ]
                for r in results["one_key"]
            ],
        ),
        "distortion": table(
            ["scheme", "samples", "chi-square", "degrees of freedom", "p"],
            [
                [r["scheme"], str(r["samples"]), f"{r['chi_square']:.1f}", str(r["freedom"]), f"{r['p']:.3f}"]
                for r in results["distortion"]
            ],
        ),
    }
    sys.stdout.write("\n\n".join(f"### {name}\n\n{text}" for name, text in markdown.items()) + "\n")
    _record.save("alignment", results, markdown=markdown, out=given.out)
    good = all(r["holds"] for r in results["null"]) and all(r["p"] > 0.001 for r in results["distortion"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
