"""Token marks: how long a text must be, what the mark costs, and whether distortion-free ones distort.

Texts come from `watermark.reference.SyntheticLanguage`, whose next token always has the same entropy::

    python benchmarks/tokens.py --seed 1                  # power at 25 to 400 tokens, 1 to 4 nats, and divergence
    python benchmarks/tokens.py --seed 1 --distortion     # next-token frequencies over 10^6 keys

Every text has a key of its own group (`--keys` groups). Power is the share of texts with p <= 1e-5, with its
Clopper-Pearson 95 % interval; divergence the mean Kullback-Leibler divergence of the marked next-token law from the
model's, in nats. Prints Markdown tables, draws ``docs/images/tokens.webp`` and writes
``benchmarks/results/tokens.json`` (``tokens_distortion.json``).
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from typing import Any

import _plot
import _record
import numpy as np
from _intervals import clopper_pearson, percent

import watermark
from watermark.reference import SyntheticLanguage

FPR = 1e-5
LENGTHS = (25, 50, 100, 200, 400)
ENTROPIES = (1.0, 2.0, 4.0)
SCHEMES: dict[str, dict[str, Any]] = {
    "llm.greenlist": {},
    "llm.greenlist, gamma 1/4": {"gamma": 0.25},
    "llm.greenlist, self": {"seeding": "self", "width": 4, "top": None},
    "llm.unigram": {},
    "llm.gumbel": {},
    "llm.synthid": {},
    "llm.unbiased": {},
    "llm.dipmark": {},
}
COLOURS = ("#0072b2", "#56b4e9", "#7f3b08", "#e69f00", "#d55e00", "#009e73", "#aa4499", "#999999")
VOCABULARY = 4096
PICTURE = _record.RESULTS.parent.parent / "docs" / "images" / "tokens.webp"


def key(seed: int, label: str) -> watermark.Key:
    """As good as a random key, and the same whenever the command is repeated."""
    return watermark.Key.from_bytes(hashlib.sha256(f"tokens/{seed}/{label}".encode()).digest())


def load(title: str, secret: watermark.Key, vocabulary: int = VOCABULARY) -> Any:
    """The scheme of a row."""
    return watermark.load(title.split(",")[0], secret, vocab_size=vocabulary, **SCHEMES[title])


def power(seed: int, keys: int, texts: int) -> list[dict[str, Any]]:
    """Share of texts found, by scheme, entropy and length. Prefixes of the same texts serve all lengths."""
    rows = []
    for entropy in ENTROPIES:
        language = SyntheticLanguage(VOCABULARY, entropy, seed)
        for title in SCHEMES:
            counts, bits = dict.fromkeys(LENGTHS, 0), []
            for group in range(keys):
                scheme = load(title, key(seed, f"{title}/{entropy}/{group}"))
                written = language.write(texts // keys, max(LENGTHS), scheme, seed=seed * 1000 + group)
                for length in LENGTHS:
                    found = scheme.detect_batch(written[:, :length])
                    counts[length] += int((found.log10_p <= np.log10(FPR)).sum())
                    if length == 200:
                        bits += (-found.log10_p / length).tolist()
            total = texts // keys * keys
            rows.append(
                {
                    "scheme": title,
                    "entropy": entropy,
                    "texts": total,
                    "divergence": divergence(title, language, seed),
                    "decades_per_token": float(np.median(bits)),
                    "found": {str(n): [c, *clopper_pearson(c, total)] for n, c in counts.items()},
                }
            )
            say(rows[-1])
    return rows


def divergence(title: str, language: SyntheticLanguage, seed: int, contexts: int = 200) -> float | None:
    """Mean divergence of the marked law from the model's in nats; None for samplers, which leave no law."""
    scheme = load(title, key(seed, f"{title}/divergence"))
    if scheme.samples:
        return None
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (contexts, 6))
    logits = language.logits(tokens)
    log_p = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    generation = scheme.start(rng=seed)
    generation.apply(tokens[:, :1], logits.copy())
    generation.apply(tokens, logits)
    wide = logits.astype(np.float64)
    log_q = wide - wide.max(axis=1, keepdims=True)
    log_q -= np.log(np.exp(log_q).sum(axis=1, keepdims=True))
    q = np.exp(log_q)
    return float(np.where(q > 0, q * (np.where(q > 0, log_q, 0) - log_p), 0).sum(axis=1).mean())


def distortion(seed: int, draws: int) -> list[dict[str, Any]]:
    """Chi-square of next-token frequencies over fresh keys against the model's law, on 64 tokens at 2.5 nats.

    One key is drawn for every 1000 contexts, whose states are independent; p is that of the chi-square law.
    """
    language = SyntheticLanguage(64, 2.5, seed)
    law = np.exp(language.logits(np.array([[1, 2]]))[0].astype(np.float64))
    law /= law.sum()
    rows = []
    for title in SCHEMES:
        rng = np.random.default_rng([seed, len(title)])
        counts = np.zeros(64)
        lines = 1000
        for block in range(draws // lines):
            scheme = load(title, key(seed, f"distortion/{title}/{block}"), 64)
            logits = np.log(np.tile(law, (lines, 1))).astype(np.float32)
            generation = scheme.start(rng=block)
            generation.apply(np.zeros((lines, 1), np.int64), logits.copy())
            # Contexts of four tokens, all different: number of the line in base 64, after a block's own token.
            line = np.arange(lines)
            contexts = np.stack(
                [np.zeros(lines, np.int64), line // 64, line % 64, np.full(lines, 1), line // 8 % 64], axis=1
            )
            generation.apply(contexts, logits)
            q = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
            cumulated = np.cumsum(q / q.sum(axis=1, keepdims=True), axis=1)
            chosen = (cumulated < rng.random((lines, 1))).sum(axis=1).clip(max=63)
            counts += np.bincount(chosen, minlength=64)
        total = counts.sum()
        statistic = float(((counts - total * law) ** 2 / (total * law)).sum())
        rows.append(
            {"scheme": title, "draws": int(total), "chi_square": statistic, "p": chi_square_tail(statistic, 63)}
            | {"distortion_free": load(title, key(seed, "facts"), 64).info.distortion_free}
        )
        say(rows[-1])
    return rows


def chi_square_tail(statistic: float, freedom: int) -> float:
    """P(chi-square >= statistic), by the Wilson-Hilferty approximation."""
    from statistics import NormalDist

    spread = 2 / (9 * freedom)
    return 1 - NormalDist().cdf(((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5)


def say(row: dict[str, Any]) -> None:
    """Shows progress if someone watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{row}\n")


def power_tables(rows: list[dict[str, Any]]) -> dict[str, str]:
    """One table per entropy."""
    tables = {}
    for entropy in ENTROPIES:
        head = ["scheme", "divergence, nats", "decades per token", *[f"{n} tokens" for n in LENGTHS]]
        lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        for row in (r for r in rows if r["entropy"] == entropy):
            cost = "samples" if row["divergence"] is None else f"{row['divergence']:.3f}"
            cells = [
                f"{percent(c / row['texts'])} ({percent(low)} to {percent(high)})"
                for c, low, high in row["found"].values()
            ]
            lines.append(f"| `{row['scheme']}` | {cost} | {row['decades_per_token']:.3f} | {' | '.join(cells)} |")
        tables[f"power_{entropy:g}"] = "\n".join(lines)
    return tables


def facts() -> str:
    """What the schemes state of themselves, in Markdown."""
    heads = ["scheme", "message", "distortion-free", "null", "fixed_key at 1e-3, 1e-6", "security_bits"]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for info in watermark.schemes():
        if info.modality == "tokens":
            factors = f"{info.fixed_key.at_1e3:g}, {info.fixed_key.at_1e6:g}"
            free = "yes" if info.distortion_free else "no"
            lines.append(
                f"| `{info.name}` | {info.payload} | {free} | {info.null} | {factors} | {info.security_bits} |"
            )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]]) -> None:
    """Power against length, a panel per entropy."""
    panels: dict[str, dict[str, tuple[str, list[_plot.Point]]]] = {}
    for row in rows:
        title = f"found at {FPR:g}, next token of {row['entropy']:g} nats"
        counts = {int(length): found for length, found in row["found"].items()}
        points = [_plot.Point(n, c / row["texts"], low, high) for n, (c, low, high) in counts.items()]
        panels.setdefault(title, {})[row["scheme"]] = COLOURS[list(SCHEMES).index(row["scheme"])], points
    _plot.draw(PICTURE, panels, "tokens", LENGTHS, math.log)


def distortion_table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| scheme | said to be distortion-free | draws | chi-square, 63 degrees | p |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        claim = "yes" if row["distortion_free"] else "no"
        lines.append(f"| `{row['scheme']}` | {claim} | {row['draws']:,} | {row['chi_square']:.1f} | {row['p']:.2g} |")
    return "\n".join(lines)


def main() -> int:
    """Measures; 1 if a distortion-free scheme distorts (p below 1e-4)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--texts", type=int, default=200, help="texts per point")
    parser.add_argument("--distortion", action="store_true")
    parser.add_argument("--draws", type=int, default=1_000_000, help="next tokens, with --distortion")
    parser.add_argument("--out", help="where to write the record")
    options = parser.parse_args()
    watermark.set_threads(1)
    if options.distortion:
        rows = distortion(options.seed, options.draws)
        markdown: Any = distortion_table(rows)
        print(markdown)
        path = _record.save("tokens_distortion", rows, markdown=markdown, out=options.out)
    else:
        rows = power(options.seed, options.keys, options.texts)
        markdown = {"schemes": facts(), **power_tables(rows)}
        draw(rows)
        print("\n\n".join(f"### {name}\n\n{text}" for name, text in markdown.items()))
        path = _record.save("tokens", rows, markdown=markdown, out=options.out)
    print(f"\nwritten: {path.name}")
    return int(any(row.get("distortion_free") and row["p"] < 1e-4 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
