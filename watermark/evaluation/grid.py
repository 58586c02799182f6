"""The grid: what is marked, attacked and detected, as tasks, and what each result depends on."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import PIL.features

import watermark
from watermark import Key
from watermark._cache import cached_property
from watermark.attacks import Attack, Given
from watermark.errors import MediaError, WatermarkError
from watermark.evaluation import quality
from watermark.evaluation.subjects import KNOWN_MESSAGE, identity
from watermark.ops._native import core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from watermark.evaluation.corpus import Corpus, Item
    from watermark.evaluation.subjects import Subject

NONE = "none"
"""Id of the media before any attack."""
NULL_LEVELS = tuple(float(f"{digit}e-{power}") for power in range(1, 8) for digit in (5, 2, 1))
"""Nominal rates at which false positives with fresh keys are counted."""
_MEASURING = ("corpus.py", "grid.py", "quality.py", "subjects.py")
_KEYS_PER_TASK = 64
_Row = dict[str, Any]


def attack_id(attack: Attack | None) -> str:
    """Name and strength, such as ``image.jpeg@0.5``."""
    return NONE if attack is None else f"{attack.name}@{attack.strength:.6g}"


@dataclass(frozen=True)
class Plan:
    """Everything that the results of a grid depend on, but for the code.

    Attributes:
        subjects: What is evaluated.
        corpus: Where items are read from.
        splits: Items by what they serve.
        attacks: The grid.
        seed: Of messages, marks, attacks and keys.
        metrics: Names of quality metrics.
        models: What model-based attacks get.
    """

    subjects: tuple[Subject, ...]
    corpus: Corpus
    splits: Mapping[str, tuple[Item, ...]]
    attacks: tuple[Attack, ...]
    seed: int
    metrics: tuple[str, ...]
    models: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def depends(self) -> Mapping[str, list[Any]]:
        """What results depend on besides subject and item, by attack."""
        references = [item.digest for item in self.splits["attacker"]]
        models = {name: identity(model) for name, model in self.models.items()}
        given = {
            attack_id(attack): [
                identity(attack),
                references if _informed(attack) else [],
                models if "model" in attack.needs else {},
            ]
            for attack in self.attacks
        }
        return {NONE: [], **given}

    @cached_property
    def grid(self) -> tuple[Attack | None, ...]:
        """The attacks by number; 0 is none."""
        return None, *self.attacks

    def cells(self, split: str) -> list[Cells]:
        """What is measured on the items of a split: one task per subject and item."""
        return [
            Cells(number, split, place, self._applied(split, subject))
            for number, subject in enumerate(self.subjects)
            for place in range(len(self.splits[split]))
        ]

    def _applied(self, split: str, subject: Subject) -> tuple[int, ...]:
        if split == "calibration":
            return (0,)
        # A forgery is done to covers. Where a message has to be known, none is that of a cover.
        forged = split == "negative" and subject.null != KNOWN_MESSAGE
        return tuple(i for i, attack in enumerate(self.grid) if attack is None or attack.goal == "removal" or forged)

    def null(self, trials: int) -> list[Null]:
        """Trials with fresh keys on media without a mark, as evenly over the items as can be."""
        places = [(split, place) for split in ("calibration", "negative") for place in range(len(self.splits[split]))]
        able = [number for number, subject in enumerate(self.subjects) if subject.changes_keys]
        tasks: list[Null] = []
        for i, (split, place) in enumerate(places):
            first, last = trials * i // len(places), trials * (i + 1) // len(places)
            for begin in range(first, last, _KEYS_PER_TASK):
                keys = range(begin, min(begin + _KEYS_PER_TASK, last))
                tasks += [Null(number, split, place, keys) for number in able]
        return tasks

    def clean(self, subject: Subject, item: Item) -> Any:
        """Media of an item without a mark."""
        return subject.clean(self.corpus.read(item), item.seed("mark", self.seed))

    def marked(self, subject: Subject, item: Item) -> Any:
        """Media of an item with its mark."""
        return subject.mark(self.corpus.read(item), self.message(subject, item), item.seed("mark", self.seed))

    def message(self, subject: Subject, item: Item) -> bytes | None:
        """The message that an item carries, or would."""
        return subject.message(np.random.default_rng(item.seed("message", self.seed)))

    def given(self, subject: Subject) -> Given:
        """What an attacker of a subject holds that knows other media; those that cannot be read are left out."""
        needy = any(attack.knowledge != "blind" for attack in self.attacks)
        marked, clean = [], []
        for item in self.splits["attacker"]:
            try:
                clean.append(self.clean(subject, item))
                if needy:
                    marked.append(self.marked(subject, item))
            except (WatermarkError, OSError):
                continue
        return Given(marked, clean, None, self.models)


@dataclass(frozen=True)
class Task(ABC):
    """What a process does at a time: numbers that say where in the plan it is.

    Processes have the plan, with all items and attacks, so that nothing of these is sent again.

    Attributes:
        subject: Which of the plan's subjects.
        split: Which of its splits.
        place: Which item of the split.
    """

    subject: int
    split: str
    place: int

    def item(self, plan: Plan) -> Item:
        """The item."""
        return plan.splits[self.split][self.place]

    @abstractmethod
    def parts(self, plan: Plan) -> list[tuple[str, Self]]:
        """The tasks that it could be split into, one per row, and the key under which each row is kept."""

    @abstractmethod
    def join(self, parts: list[Self]) -> Self:
        """One task that does some of its parts."""

    @abstractmethod
    def run(self, worker: Worker) -> list[_Row]:
        """The rows."""


@dataclass(frozen=True)
class Cells(Task):
    """One item of one subject under several attacks of the grid."""

    attacks: tuple[int, ...]

    def parts(self, plan: Plan) -> list[tuple[str, Self]]:
        """Key of each attack's result, and the task that gives it alone."""
        subject = plan.subjects[self.subject]
        digest = self.item(plan).digest
        base = ["cells", subject.fingerprint, self.split == "positive", digest, plan.corpus.size, plan.seed]
        named = [(number, attack_id(plan.grid[number])) for number in self.attacks]
        return [
            (_digest([*base, name, plan.depends[name], plan.metrics]), replace(self, attacks=(number,)))
            for number, name in named
        ]

    def join(self, parts: list[Self]) -> Self:
        """One task for several attacks on this item."""
        return replace(self, attacks=tuple(part.attacks[0] for part in parts))

    def __len__(self) -> int:
        return len(self.attacks)

    def run(self, worker: Worker) -> list[_Row]:
        """One row per attack."""
        plan, subject = worker.plan, worker.plan.subjects[self.subject]
        item, marks = self.item(plan), self.split == "positive"
        start = time.process_time()
        try:
            content = plan.corpus.read(item)
            read = time.process_time()
            seed = item.seed("mark", plan.seed)
            message = plan.message(subject, item)
            with _noted(subject, item):
                base = subject.mark(content, message, seed) if marks else subject.clean(content, seed)
            marking = time.process_time() - read
            measured = quality.Reference(base) if marks and plan.metrics else None
        except (WatermarkError, OSError) as error:
            return [_failure(error) for _ in self.attacks]
        rows = []
        for attack in (plan.grid[number] for number in self.attacks):
            row: _Row = {"cost": {"read": read - start, "mark": marking}} if attack is None else {"cost": {}}
            oracle = _Oracle(lambda media: subject.detect(media, content, message))
            begin = time.process_time()
            try:
                with _noted(subject, item, attack):
                    media = base if attack is None else worker.attack(self.subject, attack, item, base, oracle)
                    attacked = time.process_time()
                    row |= _verdict(subject, media, content, message, checks=marks and message is not None)
                    detected = time.process_time()
                if attack is not None:
                    row["queries"] = oracle.queries
                    row["cost"]["attack"] = attacked - begin
                row["cost"]["detect"] = detected - attacked
                if measured is not None and (attack is not None or subject.source == "media"):
                    # Before any attack: what the mark costs; after it: what the attack does.
                    original = measured if attack else quality.Reference(subject.clean(content, seed))
                    row["quality"] = original.measure(media, plan.metrics)
                    row["cost"]["quality"] = time.process_time() - detected
                rows.append(row)
            except WatermarkError as error:
                rows.append(_failure(error))
        return rows


@dataclass(frozen=True)
class Null(Task):
    """Fresh keys on one item that carries no mark."""

    keys: range

    def parts(self, plan: Plan) -> list[tuple[str, Self]]:
        """The key of the result, and this task."""
        subject = plan.subjects[self.subject]
        base = ["null", subject.fingerprint, self.item(plan).digest, plan.corpus.size, plan.seed]
        return [(_digest([*base, self.keys.start, self.keys.stop]), self)]

    def join(self, parts: list[Self]) -> Self:
        """The task itself, which is never split."""
        return self

    def run(self, worker: Worker) -> list[_Row]:
        """How many keys pass at each of `NULL_LEVELS`."""
        plan, subject, item = worker.plan, worker.plan.subjects[self.subject], self.item(worker.plan)
        start = time.process_time()
        try:
            content = plan.corpus.read(item)
            media = subject.clean(content, item.seed("mark", plan.seed))
            keys = [_key(plan.seed, item.digest, number) for number in self.keys]
            with _noted(subject, item):
                found = np.fromiter(subject.fresh_keys(media, content, keys), float, len(keys))
        except (WatermarkError, OSError) as error:
            return [{"trials": 0, **_failure(error)}]
        counts = (found[:, None] <= np.log10(NULL_LEVELS)).sum(axis=0)
        return [{"trials": len(keys), "counts": counts.tolist(), "cost": {"null": time.process_time() - start}}]


class Worker:
    """A process of its own, or this one: holds the plan, and what attackers hold of each subject."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._given: dict[int, Given] = {}

    def given(self, subject: int) -> Given:
        """What the attacker of a subject holds."""
        if subject not in self._given:
            self._given = {subject: self.plan.given(self.plan.subjects[subject])}  # tasks come subject by subject
        return self._given[subject]

    def attack(self, subject: int, attack: Attack, item: Item, media: Any, oracle: Callable[[Any], Any]) -> Any:
        """Media after an attack, which is the same for an item every time.

        Raises:
            WatermarkError: The attack is none for these media.
        """
        given = self.given(subject) if _informed(attack) else Given(models=self.plan.models)
        if "oracle" in attack.needs:
            given = Given(given.marked, given.clean, oracle, given.models)
        return attack(media, item.seed("attack", attack.name, self.plan.seed), given)


class _Oracle:
    """A detector that counts how often it is asked."""

    def __init__(self, detect: Callable[[Any], Any]) -> None:
        self._detect = detect
        self.queries = 0

    def __call__(self, media: Any) -> Any:
        self.queries += 1
        return self._detect(media)


@contextmanager
def _noted(subject: Subject, item: Item, attack: Attack | None = None) -> Iterator[None]:
    """Says in errors that nobody expects, such as those of other packages, where they happened."""
    try:
        yield
    except WatermarkError:
        raise
    except Exception as error:
        error.add_note(f"when {subject.label} was evaluated: item {item.name}, attack {attack_id(attack)}")
        raise


def _failure(error: Exception) -> _Row:
    return {"error": f"{type(error).__name__}: {error}"}


def _verdict(subject: Subject, media: Any, content: Any, message: bytes | None, *, checks: bool) -> _Row:
    try:
        found = subject.detect(media, content, message)
    except MediaError:  # what cannot be read is not detected
        return {"log10_p": 0.0, "score": 0.0, "n": 0, "exact": False if checks else None}
    exact = bool(found.payload_ok and found.payload == message) if checks else None
    wrong = bool(found.payload_ok and found.payload != message) if checks else None
    return {"log10_p": found.log10_p, "score": found.score, "n": found.n, "exact": exact, "wrong": wrong}


def _informed(attack: Attack) -> bool:
    """Whether an attacker knows other media: one that says to know nothing gets none."""
    return attack.knowledge != "blind" or "references" in attack.needs


def _key(seed: int, digest: str, number: int) -> Key:
    return Key.from_bytes(hashlib.sha256(f"evaluation/{seed}/{digest}/{number}".encode()).digest())


def _digest(facts: list[Any]) -> str:
    text = json.dumps([code_digest(), *facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 of all code and data that measure: results of others are not taken up."""
    package = Path(watermark.__file__).parent
    measuring = {package / "evaluation" / name for name in _MEASURING}
    presenting = {package / "cli", package / "evaluation"}
    found = [
        path
        for path in package.rglob("*")
        if path.suffix in (".py", ".npz") and (path in measuring or presenting.isdisjoint(path.parents))
    ]
    codecs = [PIL.features.version(name) for name in ("jpg", "webp", "avif", "jpg_2000")]
    total = hashlib.sha256(f"{np.__version__} {PIL.__version__} {codecs}".encode())
    for path in [*sorted(found), Path(core.__file__)]:
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]
