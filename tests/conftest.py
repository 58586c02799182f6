"""What every test may use. Random data comes from fixed seeds: a test that fails, fails again."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

import watermark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHILD_SECONDS = 60

# The same examples in every run, and no deadlines: a slow machine is no failure.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and (why_not := watermark.cuda.why_not()):
        if os.environ.get("WATERMARK_REQUIRE_CUDA") == "1":
            pytest.fail(f"WATERMARK_REQUIRE_CUDA=1, but CUDA cannot be used: {why_not}", pytrace=False)
        pytest.skip(f"no CUDA: {why_not}")


@pytest.fixture
def key() -> watermark.Key:
    return watermark.Key.from_bytes(bytes(range(32)))


@pytest.fixture
def keys() -> Callable[[int], watermark.Key]:
    """Numbered keys, as good as random ones."""
    return lambda number: watermark.Key.from_bytes(bytes(32)).child(f"test/{number}")


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """`watermark.set_threads`, undone after the test."""
    yield watermark.set_threads
    watermark.set_threads(0)


@pytest.fixture
def in_child() -> Callable[[Callable[[], Any]], Any]:
    """Runs a function in a forked child and returns its JSON-ready result; a child that hangs fails the test."""
    return _in_child


def _in_child(function: Callable[[], Any]) -> Any:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork while threads run: that it works all the same is what these tests are about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as out:
                json.dump(function(), out)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writer)
    timer = threading.Timer(_CHILD_SECONDS, os.kill, (child, signal.SIGKILL))
    timer.start()
    started = time.monotonic()
    try:
        with os.fdopen(reader) as result:
            text = result.read()
        _, status = os.waitpid(child, 0)
    finally:
        timer.cancel()
    assert status == 0, f"the child ended with status {status} after {time.monotonic() - started:.0f} s"
    return json.loads(text)
