"""The table in docs/attacks.md is the registry's, and docs/coverage.md names what exists.

After a change that is meant, run this file as a script.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import watermark
from watermark import attacks

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "attacks.md"
COVERAGE = ROOT / "docs" / "coverage.md"
START, END = "<!-- table of watermark.attacks -->\n", "<!-- end of the table -->\n"


def number(value):
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def row(cls):
    at = [", ".join(f"{n} {number(span.value(s))}" for n, span in cls.spans().items()) or "–" for s in (0, 0.5, 1)]
    lines = cls.__doc__.strip().splitlines()
    what = " ".join(line.strip() for line in lines[: lines.index("")] if line) if "" in lines else lines[0]
    needs = ", ".join(sorted(cls.needs)) or "–"
    cells = [f"`{cls.name}`", what, *at, cls.knowledge, needs, cls.goal, cls.source]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def table():
    titles = ["name", "what", "strength 0", "0.5", "1", "knowledge", "needs", "goal", "source"]
    head = f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}\n"
    return head + "".join(row(cls) for cls in attacks.TABLE.values())


def suites():
    lines = []
    for name, members in attacks.SUITES.items():
        types = dict.fromkeys(f"`{attack.name}`" for attack in members)
        lines.append(f"- **`{name}`** ({len(members)}): {', '.join(types)}.\n")
    return "".join(lines)


def generated():
    return f"\n{table()}\n## Suites\n\n{suites()}\n"


def test_the_page_is_the_registry():
    text = PAGE.read_text()
    assert text[text.index(START) + len(START) : text.index(END)] == generated()


def rows(page):
    """Cells of all table rows but the heads."""
    lines = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[1:] != ["offline", "with your model", "not built"]]


def test_coverage_names_every_attack_and_no_other():
    named = [
        name
        for row in rows(COVERAGE.read_text())
        for name in re.findall(r"`((?:image|latent|text)\.\w+)`", " ".join(row))
    ]
    assert set(named) - {scheme.name for scheme in watermark.schemes()} == set(attacks.TABLE)


def test_coverage_says_something_in_every_row():
    found = rows(COVERAGE.read_text())
    assert len(found) > 90
    for row in found:
        assert len(row) == 4, row
        assert set(row[1:]) != {"-"}, row
    assert len({row[0] for row in found}) == len(found)


def test_commands_and_adapters_of_coverage_exist():
    text = COVERAGE.read_text()
    commands = set(re.findall(r"`(benchmarks/[\w/]+\.py)", text))
    assert len(commands) > 8
    for command in commands:
        assert (ROOT / command).is_file(), command
    adapters = set(re.findall(r"`integrations\.(\w+)(?:\.(\w+))?`", text))
    assert len(adapters) > 4
    for module, name in adapters:
        spec = importlib.util.find_spec(f"watermark.integrations.{module}")
        assert spec is not None, module
        assert f"class {name}" in Path(spec.origin).read_text(), name
    for choice in re.findall(r"benchmarks/security\.py --attacks (\w+)", text):
        assert f'"{choice}"' in (ROOT / "benchmarks" / "security.py").read_text()


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(START)
    PAGE.write_text(before + START + generated() + END + rest.split(END)[1])
