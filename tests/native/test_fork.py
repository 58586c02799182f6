"""The thread pool after fork(): OpenMP and torch hang there, this one must not."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import watermark
from watermark.ops.chacha import chacha20

KEY, NONCE = np.arange(8, dtype=np.uint32), np.arange(3, dtype=np.uint32)
WORDS = 1_000_000  # many ranges for the pool


def checksum() -> int:
    return int(chacha20(KEY, NONCE, WORDS).sum(dtype=np.uint64))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_child_can_use_the_pool_of_its_parent(set_threads, in_child, threads):
    set_threads(threads)
    expected = checksum()
    assert in_child(checksum) == expected
    assert checksum() == expected


def test_a_child_may_change_the_number_of_threads(set_threads, in_child):
    set_threads(2)
    expected = checksum()

    def work() -> list[int]:
        watermark.set_threads(3)
        return [watermark.threads(), checksum()]

    assert in_child(work) == [3, expected]
    assert watermark.threads() == 2


def test_grandchildren(set_threads, in_child):
    set_threads(3)
    expected = checksum()
    assert in_child(lambda: [checksum(), in_child(checksum), checksum()]) == [expected] * 3


def test_fork_while_the_pool_is_at_work(set_threads, in_child):
    """The child is made while another thread of the parent runs kernels."""
    set_threads(3)
    expected = checksum()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            checksum()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert [in_child(checksum) for _ in range(5)] == [expected] * 5
    finally:
        stop.set()
        worker.join()
