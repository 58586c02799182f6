from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import watermark
from watermark.ops.chacha import chacha20

KEY, NONCE = np.arange(8, dtype=np.uint32), np.arange(3, dtype=np.uint32)


def test_set_and_restore(set_threads):
    set_threads(3)
    assert watermark.threads() == 3
    set_threads(np.int64(2))
    assert watermark.threads() == 2
    set_threads(0)
    assert 1 <= watermark.threads() <= max(os.cpu_count() or 1, 1)


@pytest.mark.parametrize("count", [-1, 1025, 1.0, "2", None, True, np.bool_(True)])
def test_what_is_no_number_of_threads(count):
    with pytest.raises(watermark.ParameterError):
        watermark.set_threads(count)
    with pytest.raises(watermark.ParameterError):
        watermark.set_threads(10**5000)  # Python writes no number of so many digits into a message


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


def test_fewer_threads_than_wished_for_do_the_work():
    """A system that gives no more threads (here for want of addresses for their stacks) ends no process."""
    code = """
import resource
import numpy as np
import watermark
from watermark.ops.chacha import chacha20
KEY, NONCE = np.arange(8, dtype=np.uint32), np.arange(3, dtype=np.uint32)
watermark.set_threads(1)
expected = chacha20(KEY, NONCE, 300_001)
watermark.set_threads(1024)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
assert np.array_equal(chacha20(KEY, NONCE, 300_001), expected)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/", timeout=60)
