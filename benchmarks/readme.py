"""Copies the tables of the recorded results into README.md and docs/.

A spot ``<!-- figures:NAME -->...<!-- /figures -->`` takes the table of ``benchmarks/results/NAME.json``, and
``<!-- figures:NAME/PART -->`` one of several tables. A spot whose record or table is missing is reported and left
alone. ``--check`` changes nothing and exits 1 if a page is out of date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys

from _record import RESULTS

ROOT = RESULTS.parent.parent
SPOT = re.compile(r"(<!-- figures:([\w.-]+)(?:/([\w.-]+))? -->\n).*?(<!-- /figures -->)", re.DOTALL)


def main() -> int:
    """Updates the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is out of date")
    options = parser.parse_args()
    changed = 0
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        updated = SPOT.sub(fill, text)
        if updated != text:
            changed += 1
            print(f"{'out of date' if options.check else 'updated'}: {page.relative_to(ROOT)}")
            if not options.check:
                page.write_text(updated, encoding="utf-8")
    return int(options.check and changed > 0)


def fill(spot: re.Match[str]) -> str:
    """The spot with its table and where that comes from."""
    start, name, part, end = spot.groups()
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        print(f"no record yet: {path.relative_to(ROOT)}", file=sys.stderr)
        return spot[0]
    record = json.loads(path.read_text(encoding="utf-8"))
    markdown = record["markdown"]
    if part and part not in markdown:  # recorded by an earlier command, or with a choice of rows
        print(f"no table {part!r} in {path.relative_to(ROOT)}, but {', '.join(markdown)}", file=sys.stderr)
        return spot[0]
    body = markdown[part] if part else markdown if isinstance(markdown, str) else "\n\n".join(markdown.values())
    if "|" not in body:  # a sentence beside the tables, which name their origin
        return f"{start}{body}\n{end}"
    cpu, cores = record["machine"]["cpu"], record["machine"]["cores"]
    origin = f"Measured on {record['date']} at commit {record['commit']} ({cpu}, {cores} cores): `{record['command']}`"
    return f"{start}{body}\n\n<sub>{origin}</sub>\n{end}"


if __name__ == "__main__":
    sys.exit(main())
