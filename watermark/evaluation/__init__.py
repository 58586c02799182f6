"""How much of a mark is left, and may the answer be believed? Runs schemes under attacks and writes a report.

::

    report = evaluation.run([image], attacks.suite("image.standard"), "photos/", "runs/1")
    report.write_html("report.html")
"""

from __future__ import annotations

from watermark.evaluation.protocol import run
from watermark.evaluation.results import Report

__all__ = ["Report", "run"]
