"""Multi-bit token marks: how often the exact message comes back, and what it costs in Kullback-Leibler divergence.

Texts of the synthetic language of `watermark.reference` (4 nats per token, 4,096 tokens), unseen keys, random
messages::

    python benchmarks/multibit.py --seed 1

Prints two Markdown tables, one of the scheme's promises and one of exact rates against divergence, and the time of
decoding; writes ``benchmarks/results/multibit.json``. Intervals are Clopper-Pearson at 95 %.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from typing import Any

import _record
import numpy as np
from _intervals import clopper_pearson, percent

import watermark
from watermark.reference import SyntheticLanguage

SCHEMES = ("llm.mpac", "llm.majormark", "llm.majormark_plus")
PROMISES = [("llm.mpac", 32, 500), *((name, 16, 250) for name in SCHEMES), *((name, 32, 500) for name in SCHEMES[1:])]
DELTAS = (0.7, 0.9, 1.15, 1.5)
FPR = 1e-6
LANGUAGE = SyntheticLanguage(4096, 4.0)


class Metered:
    """A scheme whose generations add up the divergence of the marked next-token law from the model's."""

    def __init__(self, scheme: Any) -> None:
        self.scheme, self.divergence, self.steps = scheme, 0.0, 0

    def start(self, payload: Any, *, rng: Any) -> Any:
        """What `SyntheticLanguage.write` asks for."""
        generation = self.scheme.start(payload, rng=rng)
        apply = generation.apply

        def metered(contexts: Any, logits: Any) -> Any:
            before = logits.copy()
            apply(contexts, logits)
            if contexts.shape[1] % 5 == 0:  # every fifth token is enough for a mean
                weights = np.exp(logits)
                total = weights.sum(axis=1)
                gain = (weights * (logits - before)).sum(axis=1) / total - np.log(total)  # the model's own sum is 1
                self.divergence, self.steps = self.divergence + float(gain.sum()), self.steps + len(gain)
            return logits

        generation.apply = metered
        return generation


def main() -> None:
    """Measures all points."""
    options = parse()
    watermark.set_threads(1)
    promises = [row for name, bits, length in PROMISES for row in measure(options, name, bits, length, 2.0, (0.0, 0.1))]
    curves = [row for delta in DELTAS for name in SCHEMES for row in measure(options, name, 16, 250, delta, (0.0,))]
    speed = [timed(name) for name in SCHEMES]
    tables = {"promises": table(promises), "divergence": table(curves), "speed": speed_table(speed)}
    print("\n\n".join(tables.values()))
    results = {"seed": options.seed, "keys": options.keys, "texts": options.texts, "fpr": FPR}
    results |= {"promises": promises, "divergence": curves, "speed": speed}
    print(f"\nwritten: {_record.save('multibit', results, markdown=tables, out=options.out)}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200, help="of each point")
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", help="where to write the record")
    return parser.parse_args()


def measure(
    options: argparse.Namespace, name: str, bits: int, length: int, delta: float, substituted: tuple[float, ...]
) -> list[dict[str, Any]]:
    """One row for each share of tokens that are replaced by random ones; all rows read the same texts."""
    counts = {share: {"exact": 0, "vouched": 0, "misread": 0, "detected": 0} for share in substituted}
    divergence = steps = 0.0
    each = options.texts // options.keys
    for number in range(options.keys):
        label = f"multibit/{options.seed}/{name}/{bits}/{length}/{delta}/{number}"
        digest = hashlib.sha256(label.encode()).digest()
        rng = np.random.default_rng(list(digest))
        key = watermark.Key.from_bytes(hashlib.sha256(digest).digest())
        scheme = watermark.load(name, key, vocab_size=LANGUAGE.vocab_size, payload_bits=bits, delta=delta)
        meter = Metered(scheme)
        messages = [rng.bytes(bits // 8) for _ in range(each)]
        texts = LANGUAGE.write(each, length, meter, messages, seed=int(rng.integers(2**31)))
        divergence, steps = divergence + meter.divergence, steps + meter.steps
        for share, count in counts.items():
            edited = np.where(rng.random(texts.shape) < share, rng.integers(0, LANGUAGE.vocab_size, texts.shape), texts)
            for found, sent in zip(scheme.detect_batch(edited), messages, strict=True):
                count["exact"] += found.payload == sent
                count["vouched"] += found.payload_ok and found.payload == sent
                count["misread"] += found.payload_ok and found.payload != sent
                count["detected"] += found.detected(FPR)
    point = {"scheme": name, "payload_bits": bits, "tokens": length, "delta": delta, "divergence": divergence / steps}
    trials = each * options.keys
    return [
        point
        | {"substituted": share, "texts": trials, **count}
        | {f"{what}_interval": clopper_pearson(value, trials) for what, value in count.items()}
        for share, count in counts.items()
    ]


def timed(name: str) -> dict[str, Any]:
    """CPU time of one detection of 300 tokens with 32 bits, the median of many."""
    key = watermark.Key.from_bytes(hashlib.sha256(b"multibit/speed").digest())
    scheme = watermark.load(name, key, vocab_size=LANGUAGE.vocab_size, payload_bits=32)
    other = watermark.load("llm.greenlist", key, vocab_size=LANGUAGE.vocab_size)
    text = LANGUAGE.write(1, 300, scheme, b"name", seed=1)[0]
    clean = LANGUAGE.write(1, 300, seed=2)[0]
    cases = {"marked": (scheme, text), "clean": (scheme, clean), "greenlist": (other, text)}
    spent: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(300):  # in turn, so that a busy machine slows all alike
        for case, (reader, tokens) in cases.items():
            start = time.process_time_ns()
            reader.detect(tokens)
            spent[case].append((time.process_time_ns() - start) / 1e3)
    return {"scheme": name} | {f"{case}_us": float(np.median(values)) for case, values in spent.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows in Markdown."""
    heads = ["scheme", "bits", "tokens", "delta", "KL (nats per token)", "substituted", "exact", "95 %"]
    heads += ["vouched for", "vouched for, wrong", f"detected at {FPR:g}"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows:
        low, high = row["exact_interval"]
        cells = [
            f"`{row['scheme']}`",
            row["payload_bits"],
            row["tokens"],
            f"{row['delta']:g}",
            f"{row['divergence']:.3f}",
        ]
        cells += [f"{100 * row['substituted']:.0f} %", f"{row['exact']} / {row['texts']}"]
        cells += [f"{percent(low)} to {percent(high)} %", row["vouched"], row["misread"], row["detected"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def speed_table(rows: list[dict[str, Any]]) -> str:
    """Times in Markdown."""
    lines = ["| scheme | marked text | clean text | `llm.greenlist`, beside it |", "| --- | --- | --- | --- |"]
    for row in rows:
        times = " | ".join(f"{row[f'{case}_us'] / 1e3:.2f} ms" for case in ("marked", "clean", "greenlist"))
        lines.append(f"| `{row['scheme']}` | {times} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
