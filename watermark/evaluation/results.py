"""A finished evaluation: figures, and pages to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watermark._cache import cached_property
from watermark.errors import MediaError
from watermark.evaluation import report
from watermark.evaluation.summary import Summary
from watermark.evaluation.tables import Tables

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


class Report:
    """A finished evaluation: figures, and pages to look at.

    Args:
        tables: What was measured.
        run: Environment and costs.
        thumbnails: An example before and after each attack: WebP by name.
    """

    def __init__(self, tables: Tables, run: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> None:
        self.tables = tables
        self._run, self._thumbnails = run, thumbnails

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Report:
        """The report of an evaluation's folder. Thresholds are those of ``thresholds.json``.

        Raises:
            MediaError: The folder holds no finished evaluation.
            OSError: It cannot be read.
        """
        root = Path(folder)
        tables = Tables.read(root)
        try:
            run = json.loads((root / "run.json").read_text(encoding="utf-8"))
            frozen = json.loads((root / "thresholds.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise MediaError(f"{root} holds a damaged file: {error}") from None
        tables.facts["thresholds"] = frozen
        thumbnails = {path.stem: path.read_bytes() for path in sorted((root / "thumbnails").glob("*.webp"))}
        return cls(tables, run, thumbnails)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return Summary(self.tables, self._run).to_dict()

    def to_dict(self) -> dict[str, Any]:
        """All figures, versioned and ready for JSON (docs/evaluation.md)."""
        return self._summary

    @property
    def faults(self) -> list[str]:
        """Why the figures may not be believed; empty if they may."""
        return [check["message"] for check in self._summary["audit"] if check["passed"] is False]

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Writes one page that needs no network."""
        Path(path).write_text(report.html(self._summary, self._thumbnails), encoding="utf-8")

    def write_markdown(self, path: str | os.PathLike[str]) -> None:
        """Writes the tables for a paper or a README."""
        Path(path).write_text(report.markdown(self._summary), encoding="utf-8")

    def write_leaderboard(self, path: str | os.PathLike[str]) -> None:
        """Writes a CSV with one line per scheme and attack."""
        Path(path).write_text(report.leaderboard(self._summary), encoding="utf-8", newline="")

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Writes ``report.html``, ``report.md``, ``leaderboard.csv`` and ``summary.json`` into a folder."""
        root = Path(folder)
        self.write_html(root / "report.html")
        self.write_markdown(root / "report.md")
        self.write_leaderboard(root / "leaderboard.csv")
        (root / "summary.json").write_text(json.dumps(self._summary, indent=1) + "\n", encoding="utf-8")
