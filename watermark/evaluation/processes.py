"""Runs tasks in other processes, or in this one."""

from __future__ import annotations

import os
import threading
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any, Self

import watermark
from watermark.errors import MissingExtraError, ParameterError
from watermark.evaluation.runner import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from watermark.evaluation.runner import Plan, Task

_AHEAD = 4
_Row = dict[str, Any]


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
