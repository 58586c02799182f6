"""Runs the tasks of a grid, in other processes or in this one; every finished cell is kept."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import watermark
from watermark.errors import MissingExtraError, ParameterError
from watermark.evaluation.grid import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from watermark.evaluation.grid import Plan, Task

_AHEAD = 4
_PATIENCE = 60.0
"""Seconds that a run waits for another that writes into the same folder."""
_Row = dict[str, Any]


class Results:
    """Finished cells in a file: a killed run loses at most the items that were in work.

    A cell is found by the digest of all that it depends on, the library's code included; so the file may be kept when
    attacks, items or schemes are added.

    Raises:
        OSError: The file is none of an evaluation, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        with _as_os_error(path):
            self._file = sqlite3.connect(path, timeout=_PATIENCE)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, row TEXT NOT NULL) WITHOUT ROWID"
            )
        self._path = path

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, key: str) -> _Row | None:
        """The cell of this key."""
        found = self._file.execute("SELECT row FROM cells WHERE key = ?", (key,)).fetchone()
        return None if found is None else json.loads(found[0])

    def put(self, cells: Mapping[str, _Row]) -> None:
        """Keeps cells."""
        with _as_os_error(self._path), self._file:
            rows = [(key, json.dumps(row)) for key, row in cells.items()]
            self._file.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?)", rows)

    def all(self, tasks: Sequence[Task], workers: Workers, done: Callable[[int], None]) -> list[_Row]:
        """Rows of tasks, in their order; what is missing is run.

        Args:
            tasks: The tasks.
            workers: What runs them.
            done: Told how many cells are finished, as they are.
        """
        parts = [task.parts(workers.plan) for task in tasks]
        found = {key: row for part in parts for key, _ in part if (row := self.get(key)) is not None}
        done(len(found))
        missing: list[tuple[list[str], Task]] = []
        for task, part in zip(tasks, parts, strict=True):
            if left := [(key, one) for key, one in part if key not in found]:
                missing.append(([key for key, _ in left], task.join([one for _, one in left])))
        for keys, rows in workers.run(missing):
            cells = dict(zip(keys, rows, strict=True))
            self.put(cells)
            found |= cells
            done(len(cells))
        return [found[key] for part in parts for key, _ in part]


class Workers:
    """Processes that run tasks: this one alone, or some others, which start when they are needed.

    Args:
        plan: What all tasks belong to.
        count: Number of processes; 1 is this one.

    Raises:
        MissingExtraError: More than one is asked for, and loky is not installed.
        ParameterError: What is evaluated cannot be sent to other processes.
    """

    def __init__(self, plan: Plan, count: int) -> None:
        self.plan, self._count = plan, count
        self._here = Worker(plan)
        self._pool: Any = None
        if count > 1:
            try:
                from cloudpickle import dumps
                from loky import ProcessPoolExecutor
            except ImportError:
                raise MissingExtraError("loky", "evaluation") from None
            try:
                # Loky waits for ever for a process that dies of what it starts with: it gets bytes, which it can read.
                sent = dumps(plan)
            except Exception as error:
                raise _stays_here(error) from error
            # A worker that grew, as by importing torch, is replaced by a new one: nothing to be told.
            warnings.filterwarnings("ignore", "A worker (stopped|was restarted) while", module="loky")
            self._pool = ProcessPoolExecutor(count, initializer=_begin, initargs=(sent, os.getpid()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=failure is not None)

    def run(self, tasks: Sequence[tuple[list[str], Task]]) -> Iterator[tuple[list[str], list[_Row]]]:
        """Keys and rows of tasks, as they are finished."""
        if self._pool is None:
            yield from ((keys, task.run(self._here)) for keys, task in tasks)
            return
        waiting: dict[Future[list[_Row]], list[str]] = {}
        left = iter(tasks)
        while True:
            while len(waiting) < _AHEAD * self._count and (following := next(left, None)) is not None:
                waiting[self._pool.submit(_work, following[1])] = following[0]
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()


@contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """What SQLite says of a full disk, a folder that is read-only, or a file that is not its own."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error


_worker: Worker | ParameterError


def _begin(plan: bytes, parent: int) -> None:
    global _worker
    from cloudpickle import loads

    watermark.set_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        _worker = Worker(loads(plan))
    except Exception as error:  # such as a module that is found in the other process only
        _worker = _stays_here(error)


def _end_with(parent: int) -> None:
    """Ends this process soon after its parent, which may have been killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(task: Task) -> list[_Row]:
    if isinstance(_worker, ParameterError):
        raise _worker
    return task.run(_worker)


def _stays_here(error: Exception) -> ParameterError:
    return ParameterError(f"what is evaluated cannot be sent to other processes ({error}): pass workers=1")
