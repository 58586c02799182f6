"""The table in docs/attacks.md is the registry's. After a change that is meant, run this file as a script."""

from __future__ import annotations

from pathlib import Path

from watermark import attacks

PAGE = Path(__file__).parents[3] / "docs" / "attacks.md"
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


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(START)
    PAGE.write_text(before + START + generated() + END + rest.split(END)[1])
