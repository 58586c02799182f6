"""Power of all latent marks in one picture and one table.

It measures nothing: the curves come from the records of ``latents.py`` and ``seal.py``::

    python benchmarks/curves.py

draws ``docs/images/latents.webp``, prints Markdown tables and writes ``benchmarks/results/curves.json``. Points are
what was measured, with their 95 % intervals; lines only join them.
"""

from __future__ import annotations

import itertools
import json
import re

import _plot
import _record
from _plot import Point

import watermark

PICTURE = _record.RESULTS.parent.parent / "docs" / "images" / "latents.webp"
SEAL = "Content drift of 15 degrees, shape (4, 64, 64)"
RECORDS = {
    "latents_latent_gaussian_shading": ("latent.gaussian_shading, 256 bits", "#0072b2"),
    "latents_latent_prc": ("latent.prc, 512 bits", "#d55e00"),
    "latents_latent_prc_t4": ("latent.prc, t = 4, 512 bits", "#e69f00"),
    "latents_latent_prc_hardened": ("latent.prc, hardened, 256 bits", "#7f3b08"),
    "latents_latent_ring_id": ("latent.ring_id, 11 bits", "#009e73"),
    "latents_latent_tree_ring": ("latent.tree_ring", "#56b4e9"),
    "seal": ("latent.seal, content at 15 degrees", "#aa4499"),
}
PANELS = {"detected": "detected at 1e-6", "exact": "exact message"}
TICKS, ENOUGH = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 0.95


def main() -> None:
    """Reads, draws and tabulates."""
    curves = {name: read(name) for name in RECORDS}
    draw(curves)
    markdown = {"schemes": schemes(), "reach": reach(curves)}
    print("\n\n".join(markdown.values()))
    results = {
        name: {what: [p._asdict() for p in line] for what, line in both.items()} for name, both in curves.items()
    }
    path = _record.save("curves", results, markdown=markdown)
    print(f"\nwritten: {path.name}, {PICTURE.name}")


def read(name: str) -> dict[str, list[Point]]:
    """Curves of one record without rotation; no exact messages where the scheme has none."""
    results = json.loads((_record.RESULTS / f"{name}.json").read_text(encoding="utf-8"))["results"]
    if name == "seal":  # its table holds shares as text: "99.00% (97.45% to 99.73%)"
        shares = {row["s"]: re.findall(r"[\d.]+", row["accepted at 1e-06"]) for row in results["tables"][SEAL]}
        return {"detected": [Point(s, *(float(share) / 100 for share in three)) for s, three in shares.items()]}
    kinds = [what for what in PANELS if what == "detected" or results["profile"].get("payload_bits")]
    rows = [row for row in results["rows"] if not row["degrees"]]
    return {what: [Point(r["s"], r[what] / r["trials"], *r[f"{what}_interval"]) for r in rows] for what in kinds}


def schemes() -> str:
    """What the schemes state of themselves."""
    heads = ["scheme", "message", "null", "fixed_key at 1e-3, 1e-6", "distortion_free", "security_bits"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for info in watermark.schemes():
        if info.modality == "latent":
            factors = f"{info.fixed_key.at_1e3:g}, {info.fixed_key.at_1e6:g}"
            cells = [f"[{info.name}]({info.name.removeprefix('latent.')}.md)", info.payload, info.null, factors]
            lines.append(f"| {' | '.join([*cells, str(info.distortion_free), str(info.security_bits)])} |")
    return "\n".join(lines)


def reach(curves: dict[str, dict[str, list[Point]]]) -> str:
    """The last measured noise level at which enough trials succeed, and the share at the next."""
    heads = ["mark", *(f"{title}: {100 * ENOUGH:g} % or more up to s = (then)" for title in PANELS.values())]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, both in curves.items():
        cells = [level(both[what]) if what in both else "-" for what in PANELS]
        lines.append(f"| {RECORDS[name][0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def level(points: list[Point]) -> str:
    """Where the curve falls below enough; every record goes that far."""
    last, then = next(pair for pair in itertools.pairwise(points) if pair[1].share < ENOUGH)
    return f"{last.x:g} ({then.x:g}: {100 * then.share:.0f} %)"


def draw(curves: dict[str, dict[str, list[Point]]]) -> None:
    """One panel for detection, one for exact messages."""
    panels = {
        title: {
            label: (colour, curves[name][what]) for name, (label, colour) in RECORDS.items() if what in curves[name]
        }
        for what, title in PANELS.items()
    }
    _plot.draw(PICTURE, panels, "noise level s", TICKS)


if __name__ == "__main__":
    main()
