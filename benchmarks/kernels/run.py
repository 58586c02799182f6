"""Measures the kernels' CPU time with pytest-benchmark and records the medians.

    python benchmarks/kernels/run.py

Prints a Markdown table and writes ``benchmarks/results/kernels.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _record


def main() -> int:
    """Runs the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time spent on each kernel")
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        arguments = ["-q", "-o", "addopts=--import-mode=importlib", f"--benchmark-max-time={options.seconds}"]
        arguments.append("--benchmark-timer=time.process_time")
        code = pytest.main([str(Path(__file__).parent), *arguments, "--benchmark-quiet", f"--benchmark-json={report}"])
        if code:
            return int(code)
        rows = [row(b) for b in json.loads(report.read_text(encoding="utf-8"))["benchmarks"]]
    markdown = table(rows)
    print(markdown)
    if not options.no_record:
        path = _record.save("kernels", rows, markdown=markdown, packages=["pytest-benchmark"], out=options.out)
        print(f"\nwritten: {path.name}")
    return 0


def row(benchmark: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one benchmark."""
    stats = benchmark["stats"]
    return {
        "kernel": benchmark["name"].removeprefix("test_"),
        "median_us": 1e6 * stats["median"],
        "fastest_us": 1e6 * stats["min"],
        "runs": stats["rounds"],
        "floor": benchmark["extra_info"]["floor"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The results in Markdown, with the rate at which the floor's work is done."""
    lines = ["| kernel | median, us | work that cannot be avoided | done at |", "| --- | --- | --- | --- |"]
    for r in rows:
        amount, _, unit = r["floor"].partition(" ")
        rate = int(amount) / r["median_us"] / 1e3
        lines.append(f"| {r['kernel']} | {r['median_us']:.3g} | {r['floor']} | {rate:.2f} G {unit} / s |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
