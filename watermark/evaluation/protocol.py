"""The protocol: split, calibrate, freeze thresholds, attack, test with fresh keys, report."""

from __future__ import annotations

import json
import platform
import sys
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

import watermark
from watermark._values import whole
from watermark.attacks import Attack
from watermark.errors import ParameterError, WatermarkError
from watermark.evaluation import quality, tables
from watermark.evaluation.audit import thresholds
from watermark.evaluation.corpus import Corpus, eight_bits
from watermark.evaluation.grid import NONE, Plan, Worker, attack_id, code_digest
from watermark.evaluation.results import Report
from watermark.evaluation.runner import Results, Workers
from watermark.evaluation.subjects import labelled
from watermark.media import write
from watermark.scheme import Scheme

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LEVELS = (1e-2, 1e-3, 1e-6)
SHARES = (0.25, 0.25, 0.5)
_ATTACKERS = 16
_THUMBNAIL = 256
_Row = dict[str, Any]


def run(
    schemes: Any,
    attacks: Iterable[Attack],
    corpus: Any,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    items: int | None = None,
    size: int | None = None,
    levels: Sequence[float] = LEVELS,
    metrics: Sequence[str] = ("psnr", "ssim"),
    shares: Sequence[float] = SHARES,
    null_trials: int = 2000,
    models: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Report:
    """Evaluates schemes under attacks, and writes a report.

    Items are split into calibration negatives, test negatives, positives and what the attacker holds; no item serves
    two ends. Thresholds are frozen on the calibration negatives before any attack. Positives are marked with a random
    message each; attacks are applied to them and to the test negatives alike. In the end the same detectors are run
    with fresh keys on media without a mark, which tests their p-values.

    Finished cells are kept in `out`: the same call goes on where a killed one stopped, and its tables are the same to
    the bit. More attacks, items or schemes compute only what is new.

    Args:
        schemes: One or more: schemes of one modality, or objects with ``mark(item, payload, rng)`` and
            ``detect_batch(media)``, such as `MarkedPipeline` and `MarkedModel` (docs/evaluation.md).
        attacks: The grid, such as ``attacks.suite("image.standard")``.
        corpus: A folder or a list of files; of pipelines a file with one prompt per line; media or prompts in memory;
            how many latents or texts, for bare latent and token schemes.
        out: Folder of the results; made if needed.
        seed: Of the split, messages, marks, attacks and fresh keys.
        items: At most so many of the corpus.
        size: Pictures are cropped and scaled to squares of so many pixels a side; None leaves them.
        levels: False-positive rates that are reported, in (0, 1).
        metrics: Names in `quality.METRICS`; of images only.
        shares: Of calibration negatives, test negatives and positives.
        null_trials: Trials with fresh keys, per scheme; 0 leaves the p-values untested.
        models: What attacks that need models get, by name.
        workers: Number of processes; default: `watermark.threads()`. 1 stays in this one, as models in memory need it.
        progress: Whether a bar with the time left is shown on standard error; default: if that is a terminal.

    Returns:
        The report; `out` holds it as ``report.html``, ``report.md``, ``leaderboard.csv`` and ``summary.json``, and the
        cells as ``results.parquet`` and ``null.parquet``.

    Raises:
        ParameterError: A value out of range, unknown names, too few items, or attacks for another modality.
        MissingExtraError: A package of the extra ``evaluation`` is missing.
        OSError: A file cannot be read or written.

    Example:
        >>> report = evaluation.run([image], attacks.suite("image.standard"), "photos/", "runs/1")  # doctest: +SKIP
    """
    subjects = labelled(schemes)
    modality, source = subjects[0].modality, subjects[0].source
    grid = _grid(attacks, modality)
    chosen = Corpus.of(corpus, modality, source, size=size, most=items)
    levels = _levels(levels)
    named = _metrics(metrics) if modality == "image" else ()
    trials = whole(null_trials, "null_trials", 0, 10**12)
    processes = whole(watermark.threads() if workers is None else workers, "workers", 1, 4096)
    splits = chosen.split(shares, _ATTACKERS, whole(seed, "seed", 0, 2**63 - 1))
    plan = Plan(tuple(subjects), chosen, splits, grid, seed, named, dict(models or {}))
    null = plan.null(trials)
    tasks = {split: plan.cells(split) for split in ("calibration", "positive", "negative")}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)

    total = len(null) + sum(len(task) for listed in tasks.values() for task in listed)
    with Results(folder / "cells.sqlite") as store, Workers(plan, processes) as pool, _bar(total, progress) as done:
        rows = _rows(plan, tasks["calibration"], store.all(tasks["calibration"], pool, done))
        frozen = {
            s.label: thresholds(
                np.array([r["log10_p"] for r in rows if r["scheme"] == s.label and "log10_p" in r]), levels
            )
            for s in subjects
        }
        _freeze(frozen, folder)
        for split in ("positive", "negative"):
            rows += _rows(plan, tasks[split], store.all(tasks[split], pool, done))
        trials_rows = [
            {
                "scheme": subjects[task.subject].label,
                "digest": task.item(plan).digest,
                "first_key": task.keys.start,
                **row,
            }
            for task, row in zip(null, store.all(null, pool, done), strict=True)
        ]
    facts = {
        "version": tables.VERSION,
        "modality": modality,
        "code": code_digest(),
        "protocol": {
            "seed": seed,
            "split": {split: len(listed) for split, listed in splits.items()},
            "corpus": chosen.digest,
            "repeated": chosen.repeated,
            "size": size,
            "levels": list(levels),
            "metrics": list(named),
            "quantiles": quality.QUANTILES_VERSION,
        },
        "schemes": [_about(subject) for subject in subjects],
        "attacks": [_described(attack) for attack in (None, *grid)],
        "thresholds": frozen,
    }
    tables.Tables(facts, tables.cells_table(rows, named), tables.null_table(trials_rows)).write(folder)
    record = {"environment": _environment(), **_costs(rows)}
    (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if modality == "image":
        _thumbnails(plan, folder / "thumbnails")
    report = Report.load(folder)
    report.write(folder)
    return report


def _freeze(thresholds: Mapping[str, Any], folder: Path) -> None:
    """Writes them before any attack; the report checks that they are still those. Tables of others have to go."""
    path, text = folder / "thresholds.json", json.dumps(thresholds, indent=1) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        (folder / tables.CELLS).unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")


def _rows(plan: Plan, tasks: Iterable[Any], measured: list[_Row]) -> list[_Row]:
    """Rows of cells, with what they are about."""
    about = [
        {
            "scheme": plan.subjects[task.subject].label,
            "split": task.split,
            "item": task.item(plan).name,
            "digest": task.item(plan).digest,
            "attack": attack_id(plan.grid[number]),
        }
        for task in tasks
        for number in task.attacks
    ]
    return [{**row, **found} for row, found in zip(about, measured, strict=True)]


def _grid(attacks: Iterable[Attack], modality: str) -> tuple[Attack, ...]:
    grid = tuple(attacks)
    if not all(isinstance(attack, Attack) for attack in grid):
        raise ParameterError("attacks are Attack objects: attacks.suite(name) or attacks.load(name) gives them")
    kind = "text" if modality == "tokens" else modality
    for attack in grid:
        if attack.name.partition(".")[0] != kind:
            raise ParameterError(f"{attack.name} is no attack on {modality}")
    names = [attack_id(attack) for attack in grid]
    if len(set(names)) != len(names):
        raise ParameterError("the grid names an attack twice at one strength")
    return grid


def _levels(levels: Sequence[float]) -> tuple[float, ...]:
    found = tuple(sorted({float(level) for level in levels}, reverse=True))
    if not found or not all(0 < level < 1 for level in found):
        raise ParameterError(f"levels are false-positive rates between 0 and 1, not {levels!r}")
    return found


def _metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    for name in metrics:
        if name not in quality.METRICS:
            raise ParameterError(f"there is no metric '{name}': one of {', '.join(quality.METRICS)}")
    return tuple(name for name in quality.METRICS if name in metrics)


def _about(subject: Any) -> dict[str, Any]:
    held = getattr(subject, "scheme", None)
    scheme = held if isinstance(held, Scheme) else None
    return {
        "label": subject.label,
        "name": scheme.name if scheme else subject.label,
        "modality": subject.modality,
        "null": subject.null,
        "fixed_key": scheme.info.fixed_key.at_1e3 if scheme else 1.0,
        "payload_bits": subject.payload_bits,
        "key_id": subject.key_id,
        "profile": scheme.profile() if scheme else None,
    }


def _described(attack: Attack | None) -> dict[str, Any]:
    if attack is None:
        return {
            "id": NONE, "name": NONE, "strength": 0.0, "parameters": {}, "goal": "removal", "knowledge": "blind",
            "source": "",
        }  # fmt: skip
    return {
        "id": attack_id(attack),
        "name": attack.name,
        "strength": attack.strength,
        "parameters": attack.parameters,
        "goal": attack.goal,
        "knowledge": attack.knowledge,
        "source": attack.source,
    }


def _costs(rows: Iterable[_Row]) -> dict[str, Any]:
    """Medians of CPU time in ms; they differ from run to run, and are no part of the tables."""
    by_scheme: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    by_attack: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        cost = row.get("cost", {})
        if "mark" in cost and row["split"] == "positive":
            by_scheme[row["scheme"]]["mark_ms"].append(1e3 * cost["mark"])
        if "detect" in cost:
            by_scheme[row["scheme"]]["detect_ms"].append(1e3 * cost["detect"])
        if "attack" in cost:
            by_attack[row["attack"]].append(1e3 * cost["attack"])
    return {
        "costs": [{"scheme": s, **{name: median(each) for name, each in c.items()}} for s, c in by_scheme.items()],
        "attack_costs": [{"attack": attack, "ms": median(each)} for attack, each in by_attack.items()],
    }


def _environment() -> dict[str, Any]:
    packages = {}
    for name in ("numpy", "pillow", "scipy", "pyarrow", "torch"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "watermarking": watermark.__version__,
        "python": platform.python_version(),
        **packages,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": watermark.threads(),
    }


def _thumbnails(plan: Plan, folder: Path) -> None:
    """One picture before and after the mark, and after each attack."""
    subject, worker = plan.subjects[0], Worker(plan)
    folder.mkdir(exist_ok=True)
    for item in plan.splits["positive"]:
        try:
            given = {"original": plan.clean(subject, item), "marked": plan.marked(subject, item)}
            looks = {name: eight_bits(look) for name, look in given.items()}
            break
        except (WatermarkError, OSError):
            continue
    else:
        return
    content, message = plan.corpus.read(item), plan.message(subject, item)

    def detect(media: Any) -> Any:
        return subject.detect(media, content, message)

    for attack in plan.attacks:
        cover = given["original" if attack.goal == "forgery" else "marked"]
        try:
            looks[attack_id(attack)] = eight_bits(worker.attack(0, attack, item, cover, detect))
        except WatermarkError:
            continue
    for name, look in looks.items():
        picture = PIL.Image.fromarray(look)
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL), PIL.Image.Resampling.LANCZOS)
        write(picture, folder / f"{name}.webp", overwrite=True)


@contextmanager
def _bar(total: int, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """Tells a progress bar how many cells are finished."""
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda cells: bar.advance(task, cells)
