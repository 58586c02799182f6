from __future__ import annotations

import os
import threading

import numpy as np
import pytest

import watermark
from watermark.ops.chacha import chacha20

KEY, NONCE = np.arange(8, dtype=np.uint32), np.arange(3, dtype=np.uint32)


def test_set_and_restore(set_threads):
    set_threads(3)
    assert watermark.threads() == 3
    set_threads(0)
    assert 1 <= watermark.threads() <= max(os.cpu_count() or 1, 1)


@pytest.mark.parametrize("count", [-1, 1025, 1.0, "2", None, True])
def test_what_is_no_number_of_threads(count):
    with pytest.raises(watermark.ParameterError):
        watermark.set_threads(count)


def test_results_do_not_depend_on_the_number(set_threads):
    results = set()
    for count in (1, 2, 3, 4, 7):
        set_threads(count)
        results.add(chacha20(KEY, NONCE, 300_001).tobytes())
    assert len(results) == 1


def test_many_callers_while_the_number_changes(set_threads):
    expected = chacha20(KEY, NONCE, 200_000)
    wrong: list[int] = []

    def call(number: int) -> None:
        for _ in range(10):
            if not np.array_equal(chacha20(KEY, NONCE, 200_000), expected):
                wrong.append(number)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for caller in callers:
        caller.start()
    for count in (2, 1, 4, 3, 2, 1, 0):
        set_threads(count)
    for caller in callers:
        caller.join()
    assert wrong == []
