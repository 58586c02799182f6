"""Is the p-value valid? Measures how often clean media pass for marked ones, at every level that the trials resolve.

(A) A fresh key for every trial: P(p <= a) <= a must hold for any media. Latents: iid normal ones, or with ``--latents
    correlated`` heavy-tailed ones that are correlated over space and share a mean. Images: the corpus. Tokens: uniform
    ones, texts that repeat themselves, English and Chinese prose.
(B) One key, media whose law makes the score exact given the key (latents: iid normal; tokens: iid uniform).
(C) Some keys on all natural media (images, prose): the mean over keys must not lie above the nominal rate, and 99 % of
    the keys must stay under the factor that the scheme declares as `fixed_key`. For prose also the factor that follows
    from the correlation R of the scores of two texts under one key, which suffers less from counting rare events.

Prose is ``text/{en,zh}_*.txt.xz`` of the corpus. An English word, a punctuation mark and a Chinese character are a
token each, whose number is a hash without a key. Factors are declared by ``--half 1`` of every file and another seed,
and tested on the other half.

A mark that is bound to content is asked about random content in every trial, and its presence, whatever the content, is
tested beside it. Limits are one-sided at 99.9 %, for a seed given on the command line; trying a second seed after a
failure is tuning::

    python benchmarks/null.py --scheme latent.gaussian_shading --items 1000000 --seed 1
    python benchmarks/null.py --scheme latent.seal --items 100000 --seed 1 --parameters '{"shape": [4, 32, 32]}'
    python benchmarks/null.py --scheme image.spectral --items 20000 --keys 100 --seed 1 --corpus DIR
    python benchmarks/null.py --scheme llm.gumbel --items 100000 --seed 1 --corpus DIR

prints Markdown tables, writes ``benchmarks/results/null_<scheme>.json``, and ends with exit code 1 if a limit is
passed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import math
import os
import re
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import _record
import numpy as np

import watermark
from watermark.scheme import MediaScheme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CONFIDENCE = 0.999
KEYS_PER_LATENT = 500
LATENTS_PER_TASK = 512
TEXTS_PER_TASK = 2048
VOCABULARY, TOKENS = 1 << 17, 200
LANGUAGES = {"en": "English", "zh": "Chinese"}
IMAGES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class Run:
    """What is tested, with which randomness."""

    name: str
    parameters: dict[str, Any]
    seed: int
    corpus: tuple[Path, ...] = ()
    correlated: bool = False
    half: int = 2
    most: int | None = None

    @cached_property
    def scheme(self) -> Any:
        """The scheme with some key: what needs none is asked of it."""
        return self.bound(self.key("any", 0))

    def bound(self, key: watermark.Key) -> Any:
        """The scheme with this key."""
        return watermark.load(self.name, key, **self.parameters)

    def key(self, test: str, number: int) -> watermark.Key:
        """Key of this number: as good as a random one, and the same whenever the command is repeated."""
        return watermark.Key.from_bytes(hashlib.sha256(f"null/{self.seed}/{test}/{number}".encode()).digest())

    def latents(self, test: str, task: int, rows: int) -> np.ndarray:
        """Normal or correlated latents: float32 of shape (rows, *shape)."""
        letters = int.from_bytes(test.encode())
        rng = np.random.default_rng([self.seed, letters, task])
        normal = rng.standard_normal((rows, *self.scheme.shape), np.float32)
        if not self.correlated:
            return normal
        height, width = self.scheme.shape[-2:]
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
        smooth = np.fft.irfft2(np.fft.rfft2(normal) / (frequency + 1 / width), (height, width))
        mean = np.sin(np.arange(width) / 5) + np.linspace(-1, 2, height)[:, None]
        return (np.sinh(2 * smooth / smooth.std()) + mean).astype(np.float32)

    def text(self, number: int) -> np.ndarray:
        """Text of this number: uniform, repetitive, English, Chinese, in turn."""
        rng = np.random.default_rng([self.seed, int.from_bytes(b"text"), number])
        vocabulary = self.scheme.parameters.vocab_size
        kind = number % 4
        if kind == 0:
            return rng.integers(0, vocabulary, TOKENS)
        if kind == 1:  # a loop of up to 40 tokens, of which some are exchanged
            loop = np.resize(rng.integers(0, vocabulary, rng.integers(1, 41)), TOKENS)
            return np.where(rng.random(TOKENS) < rng.choice([0, 0.05]), rng.integers(0, vocabulary, TOKENS), loop)
        windows = self.windows(list(LANGUAGES)[kind - 2])
        return windows[rng.integers(len(windows))]

    def windows(self, language: str) -> np.ndarray:
        """Windows of prose: int64 of shape (windows, `TOKENS`)."""
        found = prose(self.corpus, language, self.scheme.parameters.vocab_size, self.half)
        wanted = min(self.most or len(found), len(found))
        return found[np.arange(wanted) * len(found) // wanted]

    def about(self, test: str, number: int, rows: int) -> dict[str, Any]:
        """What detection is told beside the media: random content, one per row, for a mark that is bound to it."""
        if not hasattr(self.scheme.parameters, "dimension"):
            return {}
        rng = np.random.default_rng([self.seed, int.from_bytes(b"content" + test.encode()), number])
        return {"content": rng.standard_normal((rows, self.scheme.parameters.dimension))}

    def log10_ps(self, medium: Any, keys: Iterable[watermark.Key], number: int = 0) -> np.ndarray:
        """log10 p of one medium under each key: shape (keys, tests). What needs no key is done once."""
        if isinstance(self.scheme, MediaScheme):
            seen = self.scheme._observe(medium)
            found = [self.scheme._test(self.scheme._bind(key), seen, key.id) for key in keys]
        else:
            about = self.about("A", number, 1)
            found = [self.bound(key).detect(medium, **about) for key in keys]
        return log10_ps_of(found)


def log10_ps_of(detections: Iterable[watermark.Detection]) -> np.ndarray:
    """log10 p of what is detected, and of mere presence where a mark is bound: shape (detections, 1 | 2)."""
    return np.array(
        [[d.log10_p, *([d.details["unbound_log10_p"]] if "unbound_log10_p" in d.details else [])] for d in detections]
    )


@cache
def prose(files: tuple[Path, ...], language: str, vocabulary: int, half: int) -> np.ndarray:
    """Windows of one half of each file in a language: int64 of shape (windows, `TOKENS`)."""
    found = []
    for file in files:
        if file.name.startswith(f"{language}_"):
            text = lzma.decompress(file.read_bytes()).decode()
            tokens = re.findall(r"\S" if language == "zh" else r"\w+|[^\w\s]", text)
            ids = np.array([zlib.crc32(token.encode()) % vocabulary for token in tokens])
            ids = np.array_split(ids, 2)[half - 1]
            found.append(ids[: len(ids) // TOKENS * TOKENS].reshape(-1, TOKENS))
    return np.concatenate(found)


def fresh_keys(run: Run, trials: int, task: int) -> np.ndarray:
    """(A) One medium under `trials` keys that nothing else uses."""
    if run.scheme.info.modality == "tokens":
        medium: Any = run.text(task)
    else:
        medium = watermark.media.read(run.corpus[task]) if run.corpus else run.latents("A", task, 1)[0]
    return run.log10_ps(medium, (run.key("A", task * trials + i) for i in range(trials)), task)


def one_key(run: Run, task: int) -> np.ndarray:
    """(B) The same key on a batch of media."""
    latents, about = run.latents("B", task, LATENTS_PER_TASK), run.about("B", task, LATENTS_PER_TASK)
    return log10_ps_of(run.bound(run.key("B", 0)).detect_batch(latents, **about))


def one_key_of_texts(run: Run, task: int) -> np.ndarray:
    """(B) The same key on a batch of texts of iid uniform tokens."""
    rng = np.random.default_rng([run.seed, int.from_bytes(b"B"), task])
    texts = rng.integers(0, run.scheme.parameters.vocab_size, (TEXTS_PER_TASK, TOKENS))
    return log10_ps_of(run.bound(run.key("B", 0)).detect_batch(texts))


def same_texts(run: Run, language: str, number: int) -> np.ndarray:
    """(C) All prose of a language under one of the keys."""
    return log10_ps_of(run.bound(run.key("C", number)).detect_batch(run.windows(language)))


def same_keys(run: Run, keys: int, task: int) -> np.ndarray:
    """(C) One medium under the keys that all media meet."""
    return run.log10_ps(watermark.media.read(run.corpus[task]), (run.key("C", i) for i in range(keys)))


def levels(trials: int) -> list[float]:
    """Nominal rates at which at least one false alarm is expected."""
    return [10.0**-e for e in range(1, 10) if trials * 10.0**-e >= 1]


def binomial_limit(trials: int, rate: float, confidence: float = CONFIDENCE) -> int:
    """Smallest count that Bin(trials, rate) stays at or below with this probability."""
    log_ways, total = trials * math.log1p(-rate), 0.0
    for count in range(trials + 1):
        total += math.exp(log_ways)
        if total >= confidence:
            return count
        log_ways += math.log((trials - count) / (count + 1)) + math.log(rate) - math.log1p(-rate)
    return trials


def pooled(log10_p: np.ndarray) -> list[dict[str, Any]]:
    """Independent trials (A and B): counts against the binomial limit."""
    rows = []
    for alpha in levels(log10_p.size):
        count, limit = int((log10_p <= math.log10(alpha)).sum()), binomial_limit(log10_p.size, alpha)
        rows.append(
            {
                "nominal": alpha,
                "attained": count / log10_p.size,
                "ratio": count / log10_p.size / alpha,
                "count": count,
                "limit": limit,
                "ok": count <= limit,
            }
        )
    return rows


def by_key(log10_p: np.ndarray, fixed_key: watermark.FixedKey) -> list[dict[str, Any]]:
    """Keys x media (C): the mean over keys, and how many keys lie above the declared factor.

    A key whose true rate is `factor` times nominal has counts up to a binomial quantile; of all keys at most 1 % may
    have more (again up to a binomial limit, since the keys are a sample).
    """
    media, keys = log10_p.shape
    rows = []
    for alpha in levels(media * keys):
        counts = (log10_p <= math.log10(alpha)).sum(axis=0)
        rates = counts / media
        spread = NormalDist().inv_cdf(CONFIDENCE) * rates.std(ddof=1) / math.sqrt(keys)
        factor = fixed_key.at_1e3 if alpha >= 1e-3 else fixed_key.at_1e6
        most = binomial_limit(media, min(alpha * factor, 0.5), 0.99)
        above = int((counts > most).sum())
        rows.append(
            {
                "nominal": alpha,
                "attained": float(rates.mean()),
                "ratio": float(rates.mean() / alpha),
                "key-clustered low": float(rates.mean() - spread),
                "99 % key": float(np.quantile(rates, 0.99, method="higher")),
                "declared factor": factor,
                "keys above it": above,
                "ok": bool(rates.mean() - spread <= alpha) and above <= binomial_limit(keys, 0.01),
            }
        )
    return rows


def by_correlation(log10_p: np.ndarray) -> list[dict[str, Any]]:
    """Factor of the 99 % key by R, the mean correlation of the scores of two media under one key.

    Scores are normal deviates of p. R is the variance of the keys' means, less what a finite number of media adds, over
    the variance of scores; a key in the upper 1 % then sees normal scores whose mean is 2.33 R^(1/2).
    """
    normal = NormalDist()
    scores = -np.vectorize(normal.inv_cdf)(np.clip(10.0**log10_p, 1e-15, 1 - 1e-3))
    within = scores.var(axis=0, ddof=1).mean()
    shared = max(0.0, float((scores.mean(axis=0).var(ddof=1) - within / len(scores)) / within))
    rows = []
    for alpha in (1e-3, 1e-6):
        limit = (-normal.inv_cdf(alpha) - normal.inv_cdf(0.99) * math.sqrt(shared)) / math.sqrt(1 - shared)
        rows.append({"nominal": alpha, "R": shared, "factor by R": normal.cdf(-limit) / alpha, "ok": True})
    return rows


def tables(
    title: str, log10_p: np.ndarray, judge: Callable[[np.ndarray], list[dict[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """What `judge` says of each test: the p-value, and mere presence where a mark is bound."""
    titles = [title, f"{title}: presence, unbound"]
    return {titles[i]: judge(log10_p[..., i]) for i in range(log10_p.shape[-1])}


def table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    if not rows:
        return f"### {title}\n\ntoo few trials"
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    for row in rows:
        lines.append(" | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    return "\n".join([f"### {title}", "", *(f"| {line} |" for line in lines)])


def progress(what: str, tasks: int, results: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Collects results, and says how far it is if someone watches."""
    found, start = [], time.monotonic()
    for result in results:
        found.append(result)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{what}: {len(found)} of {tasks}, {time.monotonic() - start:.0f} s ")
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    return found


def main() -> int:
    """Runs the tests that apply; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scheme", required=True, help="name of a scheme")
    parser.add_argument("--parameters", type=json.loads, default={}, help='as JSON, such as {"payload_bits": 64}')
    parser.add_argument("--items", type=int, default=20_000, help="trials of (A) and of (B)")
    parser.add_argument("--keys", type=int, default=100, help="keys of (C)")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--corpus", default=os.environ.get("WATERMARK_DATA"), help="folder of images, or with text/")
    parser.add_argument("--media", type=int, help="so many files, or windows of each language, evenly chosen")
    parser.add_argument("--latents", choices=("normal", "correlated"), default="normal", help="media of latent schemes")
    parser.add_argument("--half", type=int, choices=(1, 2), default=2, help="which half of each text of the corpus")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", help="where to write the record")
    arguments = parser.parse_args()

    info = next((i for i in watermark.schemes() if i.name == arguments.scheme), None)
    if info is None:
        parser.error(f"there is no scheme {arguments.scheme}; there are {[i.name for i in watermark.schemes()]}")
    corpus: tuple[Path, ...] = ()
    if info.modality == "image":
        if not arguments.corpus:
            parser.error("images need --corpus DIR or $WATERMARK_DATA")
        files = sorted(p for p in Path(arguments.corpus).rglob("*") if p.suffix.lower() in IMAGES)
        wanted = min(arguments.media or len(files), len(files))
        corpus = tuple(files[i * len(files) // wanted] for i in range(wanted))
        if not corpus:
            parser.error(f"there are no images below {arguments.corpus}")
    elif info.modality == "tokens":
        if not arguments.corpus:
            parser.error("tokens need --corpus DIR or $WATERMARK_DATA")
        corpus = tuple(sorted((Path(arguments.corpus) / "text").glob("*.txt.xz")))
        if not all(any(p.name.startswith(f"{language}_") for p in corpus) for language in LANGUAGES):
            parser.error(f"there is no English or no Chinese prose in {arguments.corpus}/text")
        arguments.parameters = {"vocab_size": VOCABULARY, **arguments.parameters}
    elif info.modality != "latent":
        parser.error(f"there are no clean media of the modality {info.modality} here")

    correlated = arguments.latents == "correlated"
    run = Run(info.name, arguments.parameters, arguments.seed, corpus, correlated, arguments.half, arguments.media)
    if info.modality == "tokens":  # read before workers fork
        for language in LANGUAGES:
            run.windows(language)
    # Workers are forked, which the library's pool survives: a spawned one would rebuild an editable install.
    with ProcessPoolExecutor(
        arguments.workers, get_context("fork"), initializer=watermark.set_threads, initargs=(1,)
    ) as pool:

        def collect(what: str, function: Callable[[int], np.ndarray], tasks: int) -> list[np.ndarray]:
            return progress(what, tasks, pool.map(function, range(tasks)))

        one_per_file = info.modality == "image"
        media = len(corpus) if one_per_file else -(-arguments.items // KEYS_PER_LATENT)
        trials = -(-arguments.items // media)
        found = collect("(A)", partial(fresh_keys, run, trials), media)
        tests = tables(f"(A) a fresh key per trial: {media} media x {trials} keys", np.concatenate(found), pooled)
        if info.modality == "tokens":
            found = collect("(B)", partial(one_key_of_texts, run), -(-arguments.items // TEXTS_PER_TASK))
            log10_p = np.concatenate(found)
            tests |= tables(f"(B) one key, {len(log10_p)} texts of iid uniform tokens", log10_p, pooled)
            for language, title in LANGUAGES.items():
                matrix = np.stack(collect("(C)", partial(same_texts, run, language), arguments.keys), axis=1)
                title = f"(C) {arguments.keys} keys x {len(matrix)} windows of {title} prose"
                tests |= tables(title, matrix, partial(by_key, fixed_key=info.fixed_key))
                tests |= tables(f"{title}, by correlation", matrix, by_correlation)
        elif one_per_file:
            matrix = np.stack(collect("(C)", partial(same_keys, run, arguments.keys), len(corpus)))
            judge = partial(by_key, fixed_key=info.fixed_key)
            tests |= tables(f"(C) {arguments.keys} keys x {len(corpus)} media", matrix, judge)
        elif not run.correlated:
            found = collect("(B)", partial(one_key, run), -(-arguments.items // LATENTS_PER_TASK))
            log10_p = np.concatenate(found)
            tests |= tables(f"(B) one key, {len(log10_p)} iid normal latents", log10_p, pooled)

    markdown = "\n\n".join(table(title, rows) for title, rows in tests.items())
    print(f"{info.name} {run.scheme.parameters}: null is {info.null}, limits at {CONFIDENCE:.1%}, seed {run.seed}\n")
    print(markdown)
    results = {"scheme": info.name, "profile": json.loads(run.scheme.profile())["parameters"], "null": info.null}
    results |= {"seed": run.seed, "latents": arguments.latents, "confidence": CONFIDENCE, "tests": tests}
    path = _record.save(f"null_{info.name.replace('.', '_')}", results, markdown=markdown, out=arguments.out)
    print(f"\nwritten: {path}")
    return 0 if all(row["ok"] for rows in tests.values() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
