"""Token marks beside the installed transformers and plain torch: CPU time of one step and of detection, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/peers/tokens.py

Each row interleaves both in one process and gives the medians and the median of the ratios within a repetition. Ours
work in place on logits that are copied anew outside of the clock. Prints a Markdown table and writes
``benchmarks/results/peers_tokens.json``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from transformers import SynthIDTextWatermarkingConfig, WatermarkDetector, WatermarkingConfig

import watermark
from watermark.integrations.transformers import detector
from watermark.reference import SyntheticLanguage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VOCABULARY, SMALL = 128_256, 32_000
_AT_ONCE = 64
KEYS = [654, 400, 836, 123, 340, 443, 597, 160, 57, 29, 590, 639, 13, 715, 468, 990, 966, 226, 324, 585, 118, 504]
KEYS += [421, 521, 129, 669, 732, 225, 90, 960]


class Row(NamedTuple):
    """One comparison: what each does, and what is asked: a factor, or a time in ms."""

    what: str
    asked: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None = None


def step(scheme: Any, logits: torch.Tensor, contexts: torch.Tensor, **settings: Any) -> Callable[[], Any]:
    """One step of ours in the middle of a text. The clock runs for `apply` alone."""
    generation = scheme.start(rng=1)
    generation.apply(contexts[:, :10], logits.clone(), **settings)

    def run() -> float:
        row = logits.clone()
        start = time.process_time()
        generation.apply(contexts, row, **settings)
        return time.process_time() - start

    return run


def timed(function: Callable[[], Any]) -> Callable[[], float]:
    """The same, with a clock around it."""

    def run() -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    return run


def rows(key: watermark.Key) -> Iterator[Row]:
    """What is compared."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    for batch in (1, 32):
        contexts = torch.tensor(rng.integers(0, VOCABULARY, (batch, 60)))
        logits = 2 * torch.randn(batch, VOCABULARY)
        kgw = WatermarkingConfig().construct_processor(VOCABULARY, "cpu")
        peer = timed(lambda c=contexts, x=logits, p=kgw: p(c, x))
        ours = watermark.load("llm.greenlist", key, vocab_size=VOCABULARY)
        name = f"green list step, {VOCABULARY:,} tokens, batch {batch}"
        yield Row(name, "15x", step(ours, logits, contexts), peer)
        same = detector(WatermarkingConfig(), vocab_size=VOCABULARY)
        yield Row(f"{name}, transformers' own lists", "4x", step(same, logits, contexts), peer)
        gumbel = watermark.load("llm.gumbel", key, vocab_size=VOCABULARY)
        probabilities = logits.softmax(-1)
        name = f"Gumbel choice (torch.multinomial on given probabilities), {VOCABULARY:,} tokens, batch {batch}"
        yield Row(name, "8x", step(gumbel, logits, contexts), timed(lambda p=probabilities: torch.multinomial(p, 1)))
    contexts, logits = torch.tensor(rng.integers(0, SMALL, (1, 60))), 2 * torch.randn(1, SMALL)
    config: Any = WatermarkingConfig(seeding_scheme="selfhash", context_width=4)
    selfhash = config.construct_processor(SMALL, "cpu")
    peer = timed(lambda c=contexts, x=logits: selfhash(c, x))
    ours = watermark.load("llm.greenlist", key, vocab_size=SMALL, seeding="self", width=4)
    name = f"selfhash step, top 40, {SMALL:,} tokens, batch 1"
    yield Row(name, "500x", step(ours, logits, contexts), peer)
    same = detector(config, vocab_size=SMALL)
    yield Row(f"{name}, transformers' own lists", "8x", step(same, logits, contexts), peer)
    config = SynthIDTextWatermarkingConfig(ngram_len=5, keys=KEYS)
    contexts, logits = torch.tensor(rng.integers(0, VOCABULARY, (1, 60))), 2 * torch.randn(1, VOCABULARY)
    synthid = config.construct_processor(VOCABULARY, "cpu")
    ours = watermark.load("llm.synthid", key, vocab_size=VOCABULARY)
    peer = timed(lambda c=contexts, x=logits: synthid(c, x))
    yield Row(f"SynthID step, {VOCABULARY:,} tokens, batch 1", "200x", step(ours, logits, contexts), peer)
    top = torch.topk(logits, 1000)
    ours_top = step(ours, top.values, contexts, candidates=top.indices)
    yield Row("SynthID step, the top 1,000 (transformers: all)", "1000x", ours_top, peer)
    tokens = rng.integers(0, VOCABULARY, 200)
    ids = torch.tensor(tokens)[None]
    model = type("Config", (), {"bos_token_id": -1, "is_encoder_decoder": False, "vocab_size": VOCABULARY})()
    theirs_all = WatermarkDetector(model, "cpu", WatermarkingConfig())
    same = detector(WatermarkingConfig(), vocab_size=VOCABULARY)
    for scheme, asked, theirs in (
        ("llm.greenlist", ".05 ms", lambda: theirs_all(ids, return_dict=True)),
        ("llm.gumbel", ".05 ms", None),
        ("llm.synthid", ".05 ms", lambda: synthid.compute_g_values(ids).float().mean()),
    ):
        mark = watermark.load(scheme, key, vocab_size=VOCABULARY)
        what = f"{scheme}: detect 200 tokens"
        yield Row(what, asked, timed(lambda m=mark: m.detect(tokens)), timed(theirs) if theirs else None)
    what = "transformers' own lists: detect 200 tokens"
    yield Row(what, "15 ms", timed(lambda: same.detect(tokens)), timed(lambda: theirs_all(ids, return_dict=True)))
    language = SyntheticLanguage()
    bits = watermark.load("llm.mpac", key, vocab_size=language.vocab_size, payload_bits=32)
    marked = list(language.write(_AT_ONCE, 300, bits, [bytes([i, 2, 3, 4]) for i in range(_AT_ONCE)]))
    plain = list(language.write(_AT_ONCE, 300, seed=1))
    for kind, texts in (("marked", marked), ("other", plain)):
        what = f"llm.mpac: read 32 bits from 300 {kind} tokens"
        in_turns = itertools.cycle(texts)
        yield Row(what, ".1 ms", timed(lambda t=in_turns: bits.detect(next(t))))
        together = timed(lambda t=texts: bits.detect_batch(t))
        what = f"{what}, {_AT_ONCE} texts at once, each"
        yield Row(what, ".1 ms", lambda f=together: f() / _AT_ONCE)


def measure(row: Row, seconds: float) -> dict[str, Any]:
    """Medians of both, in turns; what has no peer is measured alone."""
    ours, theirs = [row.ours()], [row.theirs()] if row.theirs else []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(ours) < 8:
        repeats = (
            max(1, min(50, int(0.3 * statistics.median(theirs[-5:]) / statistics.median(ours[-5:])))) if theirs else 50
        )
        ours.append(statistics.median(row.ours() for _ in range(repeats)))
        if row.theirs:
            theirs.append(row.theirs())
    ours, theirs = ours[1:], theirs[1:]  # the first ones warm caches
    return {
        "what": row.what,
        "ours_ms": 1e3 * statistics.median(ours),
        "theirs_ms": 1e3 * statistics.median(theirs) if theirs else None,
        "ratio": statistics.median(b / a for a, b in zip(ours, theirs, strict=True)) if theirs else None,
        "asked": row.asked,
        "runs": len(ours),
    }


def table(found: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| what | ours, ms | theirs, ms | ratio | asked |", "| --- | --- | --- | --- | --- |"]
    for r in found:
        peer = f"{r['theirs_ms']:.3g} | {r['ratio']:,.0f}" if r["ratio"] else "- | -"
        lines.append(f"| {r['what']} | {r['ours_ms']:.3g} | {peer} | {r['asked']} |")
    return "\n".join(lines)


def main() -> None:
    """Measures everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="time spent on each row")
    parser.add_argument("--out", help="where to write the record")
    options = parser.parse_args()
    watermark.set_threads(1)
    torch.set_num_threads(1)
    key = watermark.Key.from_bytes(bytes(range(32)))
    found = [measure(row, options.seconds) for row in rows(key)]
    print(table(found))
    path = _record.save(
        "peers_tokens", found, markdown=table(found), packages=["torch", "transformers"], out=options.out
    )
    print(f"\nwritten: {path.name}")


if __name__ == "__main__":
    main()
