"""Power of token marks: how long must a text be, and what do edits leave of it?

Texts are written by the synthetic language, each token of which has the entropy that is asked for. Then the first
tokens are cut off, so many are kept, and each is replaced by a uniform one with the given probability::

    python benchmarks/token_edits.py --scheme llm.prc --seed 1
    python benchmarks/token_edits.py --scheme llm.prc --seed 1 --parameters '{"payload_bits": 32}' --lengths 250 300 350

Texts are shared evenly among the keys; each has a message and fresh randomness of its own. Prints a Markdown table with
exact (Clopper-Pearson) 95 % intervals, and writes ``benchmarks/results/token_edits_<scheme>.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import _record
import numpy as np
from _intervals import clopper_pearson

import watermark
from watermark.payload import Frame
from watermark.reference import SyntheticLanguage

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> None:
    """Measures every combination of entropy, cut, length and share of replaced tokens."""
    options = parse()
    watermark.set_threads(1)
    first = watermark.load(options.scheme, key(options, 0), **options.parameters)
    rows = [row for entropy in options.entropies for row in measure(options, entropy)]
    markdown = table(rows)
    print(f"{first.name} {first.parameters}: {options.trials} texts over {options.keys} keys, seed {options.seed}\n")
    print(markdown)
    results = {"scheme": first.name, "profile": json.loads(first.profile())["parameters"], "seed": options.seed}
    results |= {"keys": options.keys, "fpr": options.fpr, "rows": rows}
    path = _record.save(f"token_edits_{first.name.replace('.', '_')}", results, markdown=markdown, out=options.out)
    print(f"\nwritten: {path}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheme", required=True, help="name of a token scheme")
    parser.add_argument("--parameters", type=json.loads, default={}, help='as JSON, such as {"payload_bits": 32}')
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--entropies", type=float, nargs="+", default=[4.0], help="nats per token")
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 150, 200, 250, 300, 400, 500])
    parser.add_argument("--substitutions", type=float, nargs="+", default=[0.0], help="share of tokens replaced")
    parser.add_argument("--lost", type=int, nargs="+", default=[0], help="tokens cut off at the beginning")
    parser.add_argument("--trials", type=int, default=200, help="for each row of the table")
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--fpr", type=float, default=1e-6)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", help="where to write the record")
    options = parser.parse_args()
    info = next((i for i in watermark.schemes() if i.name == options.scheme), None)
    if info is None or info.modality != "tokens":
        names = [i.name for i in watermark.schemes() if i.modality == "tokens"]
        parser.error(f"there is no token scheme {options.scheme}; there are {names}")
    if options.trials % options.keys:
        parser.error("--trials must be a multiple of --keys")
    options.parameters = {"vocab_size": options.vocabulary, **options.parameters}
    return options


def key(options: argparse.Namespace, number: int) -> watermark.Key:
    """Key of this number: as good as a random one, and the same whenever the command is repeated."""
    return watermark.Key.from_bytes(hashlib.sha256(f"tokens/{options.seed}/{number}".encode()).digest())


def measure(options: argparse.Namespace, entropy: float) -> list[dict[str, Any]]:
    """Rows of one entropy: the same texts, cut and edited in all ways."""
    language = SyntheticLanguage(options.vocabulary, entropy)
    longest, each = max(options.lost) + max(options.lengths), options.trials // options.keys
    cases = list(itertools.product(options.lost, options.lengths, options.substitutions))
    found: dict[tuple[int, int, float], list[tuple[watermark.Detection, bytes | None]]] = {case: [] for case in cases}
    frame = Frame(options.parameters.get("payload_bits", 0))
    for number in range(options.keys):
        scheme = watermark.load(options.scheme, key(options, number), **options.parameters)
        rng = np.random.default_rng([options.seed, number, round(1000 * entropy)])
        messages = [message(frame, rng) for _ in range(each)]
        texts = language.write(each, longest, scheme, messages, seed=int(rng.integers(2**31)))
        replaced, other = rng.random(texts.shape), rng.integers(0, options.vocabulary, texts.shape)
        for case in cases:
            lost, length, share = case
            edited = np.where(replaced < share, other, texts)[:, lost : lost + length]
            found[case] += zip(scheme.detect_batch(edited), messages, strict=True)
    return [{"entropy": entropy, **summary(options, case, found[case])} for case in cases]


def message(frame: Frame, rng: np.random.Generator) -> bytes | None:
    """A random message that fills the payload; None if the mark carries its presence only."""
    if frame.framed or not frame.payload_bits:
        return rng.bytes(frame.max_bytes) or None
    return int(rng.integers(1 << frame.payload_bits)).to_bytes(frame.max_bytes)


def summary(
    options: argparse.Namespace,
    case: tuple[int, int, float],
    found: Sequence[tuple[watermark.Detection, bytes | None]],
) -> dict[str, Any]:
    """One row: what was detected and read."""
    lost, length, share = case
    detected = sum(d.detected(options.fpr) for d, _ in found)
    row = {"lost": lost, "tokens": length, "replaced": share, "trials": len(found)}
    row |= {"detected": detected, "detected_interval": clopper_pearson(detected, len(found))}
    if options.parameters.get("payload_bits", 0):
        exact = sum(d.payload_ok and d.payload == sent for d, sent in found)
        row |= {"exact": exact, "exact_interval": clopper_pearson(exact, len(found))}
    return row | {"median_log10_p": float(np.median([d.log10_p for d, _ in found]))}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as Markdown; columns that never vary from 0 are left out."""
    shown = [name for name in ("lost", "replaced") if any(row[name] for row in rows)]
    titles = ["nats per token", "tokens", *({"lost": "cut off", "replaced": "replaced"}[name] for name in shown)]
    titles += ["detected", "95 %", *(["exact message", "95 %"] if "exact" in rows[0] else []), "median log10 p"]
    lines = [titles, ["---"] * len(titles)]
    for row in rows:
        cells = [f"{row['entropy']:g}", str(row["tokens"]), *(f"{row[name]:g}" for name in shown)]
        for what in ("detected", "exact"):
            if what in row:
                low, high = row[f"{what}_interval"]
                cells += [f"{row[what]} / {row['trials']}", f"{100 * low:.1f} to {100 * high:.1f} %"]
        lines.append([*cells, f"{row['median_log10_p']:.1f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
