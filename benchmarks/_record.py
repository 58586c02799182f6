"""Results of benchmarks as JSON: what was measured, on which machine, with which versions, by which command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESULTS = Path(__file__).resolve().parent / "results"


def save(
    name: str,
    results: Any,
    *,
    markdown: str | Mapping[str, str] = "",
    packages: Iterable[str] = (),
    out: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes one record.

    Args:
        name: File name without suffix.
        results: What was measured; must go into JSON.
        markdown: The results as a table, or several by name; ``benchmarks/readme.py`` copies them into the pages.
        packages: Distributions whose versions matter, beside this library, NumPy and Pillow.
        out: Where to write; default: ``benchmarks/results/<name>.json``.
    """
    path = Path(out) if out else RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"name": name, **environment(packages), "markdown": markdown, "results": results}
    path.write_text(json.dumps(record, indent=1, sort_keys=False) + "\n", encoding="utf-8")
    return path


def environment(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Machine, versions, commit, date and command. Paths of the machine are left out."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": _command(),
        "commit": _commit(),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in ("watermarking", "numpy", "pillow", *packages)},
        },
    }


def _command() -> str:
    """The command line with "DIR" for absolute paths, so that records do not name a machine's places."""
    script = Path(sys.argv[0]).resolve()
    root = RESULTS.parent.parent
    shown = script.relative_to(root) if script.is_relative_to(root) else Path(script.name)
    arguments = ["DIR" if os.path.isabs(a) else a for a in sys.argv[1:]]
    return shlex.join(["python", str(shown), *arguments])


def _commit() -> str:
    """Commit of the checkout; "+" marks changes that are not committed."""
    try:
        folder = RESULTS.parent
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        paths = [":/watermark", ":/csrc", ":/benchmarks/*.py"]
        status = ["git", "status", "--porcelain", "--untracked-files=no", "--", *paths]
        changed = subprocess.run(status, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()[:12] + ("+" if changed.stdout.strip() else "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
