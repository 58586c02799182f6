"""The report says what its summary says, shows nothing else, and breaks on no summary."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from watermark.evaluation import report
from watermark.evaluation.report import charts, tables
from watermark.evaluation.report.markup import Markup, element
from watermark.evaluation.report.view import View, number, percent, power

LEVELS = ("0.01", "0.001", "1e-06")
SCHEMES = {"image.spectral": (64, 0.9, "exact"), "peer": (32, 0.6, "known message"), "zero-bit": (None, 0.75, "bound")}
ATTACKS = {
    "none": (0, None), "image.jpeg": (4, "quality"), "image.resize": (2, "scale"), "image.crop": (3, "area"),
    "image.rotate": (4, "angle"), "image.noise": (2, "deviation"), "image.blur": (2, "radius"),
    "image.brightness": (1, "factor"), "image.contrast": (1, "factor"), "image.median": (1, None),
    "image.average": (1, None), "image.copy": (1, None),
}  # fmt: skip


def rate(count: int, trials: int) -> dict[str, Any]:
    """A rate with Wilson's interval, which is near enough here."""
    if not trials:
        return {"count": count, "trials": trials, "value": None, "low": None, "high": None}
    middle, whole = count + 1.92, trials + 3.84
    half = 1.96 * math.sqrt(count * (1 - count / trials) + 0.96)
    low, high = max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)
    return {"count": count, "trials": trials, "value": count / trials, "low": low, "high": high}


# fmt: off
def synthetic(seed: int = 1, positives: int = 100, negatives: int = 50) -> dict[str, Any]:
    """A summary of three schemes and twelve attacks at one to four strengths, as a run would write it."""
    source = random.Random(seed)
    attacks = [
        {
            "id": name if steps < 2 else f"{name}@{step / steps:g}", "name": name, "strength": step / max(steps, 1),
            "parameters": {parameter: round(100 - 80 * step / steps)} if parameter else {},
            "goal": "forgery" if name == "image.copy" else "removal", "knowledge": "blind", "source": "WAVES",
        }
        for name, (steps, parameter) in ATTACKS.items() for step in range(min(steps, 1), steps + 1)
    ]
    cells, roc = [], []
    for scheme, (bits, power_, _) in SCHEMES.items():
        for attack in attacks:
            harm, none = attack["strength"] * source.uniform(0.1, 1.0), attack["id"] == "none"
            log_p = [-30 * power_ * max(0.0, 1 - harm + source.gauss(0, 0.3)) for _ in range(positives)]
            hits = {level: rate(sum(p <= math.log10(float(level)) for p in log_p), positives) for level in LEVELS}
            false = {
                level: rate(sum(source.random() < float(level) for _ in range(negatives)), negatives)
                for level in LEVELS
            }
            few = {"0.001": None, "1e-06": None}
            cells.append({
                "scheme": scheme, "attack": attack["id"], "trials": positives, "errors": 0, "detected": hits,
                "calibrated": hits | few, "false": false, "false_calibrated": false | few,
                "exact": rate(hits["1e-06"]["count"] * 9 // 10, positives) if bits else None,
                "auc": {"value": 1 - harm / 3, "low": 0.95 - harm / 3, "high": 1.0},
                "median_log10_p": sorted(log_p)[len(log_p) // 2],
                "quality": {"psnr": 100.0 if none else 45 - 25 * harm, "ssim": 1 - harm / 4},
                "degradation": 0.0 if none else min(1.0, 0.08 + attack["strength"] * source.uniform(0.2, 0.9)),
            })
            fpr = [10.0**-k for k in range(13)]
            tpr = [sum(p <= math.log10(f) for p in log_p) / positives for f in fpr]
            roc.append({"scheme": scheme, "attack": attack["id"], "fpr": fpr, "tpr": tpr})
    worst = []
    for scheme in SCHEMES:
        usable = [c for c in cells if c["scheme"] == scheme and c["degradation"] <= 0.3
                  and c["attack"] not in ("none", "image.copy")]
        cell = min(usable, key=lambda c: c["detected"]["1e-06"]["count"])
        worst.append({key: cell[key] for key in ("scheme", "attack", "degradation")}
                     | {"detected": cell["detected"]["1e-06"], "level": "1e-06"})
    under_fresh_keys = [
        {"nominal": float(level), "rate": rate(round(10000 * float(level)), 10000), "passed": True,
         "limit": round(13000 * float(level)) + 2}
        for level in LEVELS
    ]
    return json.loads(json.dumps({
        "version": 1, "title": f"3 schemes, 12 attacks, {positives} images", "modality": "image",
        "environment": {"date": "2026-11-22", "watermarking": "0.1.0", "python": "3.11.7", "cpu": "x86-64", "cores": 2},
        "protocol": {
            "seed": seed, "corpus": "9f2c51aa", "levels": [0.01, 0.001, 1e-6], "metrics": ["psnr", "ssim"],
            "split": {"calibration": 50, "negative": negatives, "positive": positives}, "quantiles": "1",
        },
        "schemes": [
            {"label": label, "name": label, "modality": "image", "null": null, "payload_bits": bits, "key_id": "c0ffee"}
            for label, (bits, _, null) in SCHEMES.items()
        ],
        "attacks": attacks, "cells": cells, "roc": roc, "worst": worst,
        "fidelity": [{"scheme": scheme, "quality": {"psnr": 42.1, "ssim": 0.991}} for scheme in SCHEMES],
        "thresholds": [
            {"scheme": scheme, "level": level, "score": 2.31 if level == "0.01" else None, "negatives": 50}
            for scheme in SCHEMES for level in LEVELS
        ],
        "calibration": [
            {"scheme": scheme, "items": 50, "keys": 200, "trials": 10000, "passed": True, "levels": under_fresh_keys}
            for scheme in SCHEMES
        ],
        "waves": [
            {"scheme": scheme, "attack": name, "strengths": [0.5, 1.0], "q95": "inf" if i > 6 else 0.1 * i,
             "q70": 0.15 * i if i else "-inf", "avg_p": 0.4 + 0.05 * i, "avg_q": 0.3}
            for scheme in SCHEMES for i, name in enumerate(list(ATTACKS)[1:-1])
        ],
        "attribution": [
            {"scheme": scheme, "attack": "none", "users": 1000**k, "correct": rate(positives - 9 * k, positives),
             "wrong": rate(0, positives)}
            for scheme, (bits, _, _) in SCHEMES.items() if bits for k in range(4)
        ],
        "protection": [
            {"scheme": scheme, "fidelity": 0.97, "efficacy": 1.0, "resilience": power_}
            for scheme, (_, power_, _) in SCHEMES.items()
        ],
        "costs": [{"scheme": scheme, "mark_ms": 20.0, "detect_ms": 41.5} for scheme in SCHEMES],
        "attack_costs": [{"attack": attack["id"], "ms": 12.0} for attack in attacks],
        "audit": [
            {"check": "calibration", "passed": True, "message": "no rate beyond its limit"},
            {"check": "splits", "passed": True, "message": "no item is in two of them"},
        ],
    }))
# fmt: on


def smallest() -> dict[str, Any]:
    """One latent scheme under one attack, without negatives, quality, or anything that rests on them."""
    none, full = rate(0, 0), rate(3, 4)
    cell = {
        "scheme": "latent.prc", "attack": "none", "trials": 4, "errors": 0, "exact": None, "auc": None, "quality": {},
        "detected": {"0.01": full}, "calibrated": {"0.01": None}, "false": {"0.01": none}, "degradation": None,
        "false_calibrated": {"0.01": None}, "median_log10_p": None,
    }  # fmt: skip
    empty = ("fidelity", "thresholds", "roc", "calibration", "worst", "waves", "attribution", "protection", "costs")
    attack = {"id": "none", "name": "none", "strength": 0.0, "parameters": {}, "goal": "removal"}
    scheme = {"label": "latent.prc", "name": "latent.prc", "modality": "latent", "null": "bound", "payload_bits": None}
    return {
        "version": 1, "title": "1 scheme", "modality": "latent", "environment": {}, "protocol": {"levels": [0.01]},
        "schemes": [scheme], "attacks": [attack], "cells": [cell], "attack_costs": [], "audit": [],
        **{name: [] for name in empty},
    }  # fmt: skip


VOID = {"meta", "link", "img"}


class Reading(HTMLParser):
    """What a page is made of; a tag that is not closed, or closed twice, fails."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), attrs
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def webp(size: int, quality: int = 80) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(noise).save(file, "WEBP", quality=quality)
    return file.getvalue()


def test_the_page_is_whole_accessible_and_alone():
    summary = synthetic()
    found = Reading(report.html(summary, {"original": webp(64), "marked": webp(64), "image.jpeg@0.5": webp(64)}))
    tags = {name for name, _ in found.elements}
    assert not tags & {"script", "iframe", "object", "form", "base"}
    assert {"header", "nav", "main", "footer", "h1"} <= tags
    assert found.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [link["href"] for link in found.all("a")]
    assert len(links) > 10
    assert {link.removeprefix("#") for link in links} <= set(ids)
    sources = [value for _, a in found.elements for key, value in a.items() if key in ("src", "href", "xlink:href")]
    assert all(source.startswith(("#", "data:")) for source in sources)
    assert all(th["scope"] in ("row", "col", "colgroup") for th in found.all("th"))
    assert all(svg.get("aria-hidden") or (svg["role"] == "img" and svg["aria-label"]) for svg in found.all("svg"))
    assert all(image["alt"] for image in found.all("img"))
    scrolled = [div for div in found.all("div") if div.get("class") == "scroll"]
    assert all(div["tabindex"] == "0" and div["aria-label"] for div in scrolled)
    assert len(scrolled) == len(found.all("table")) > 15
    headings = [int(name[1]) for name, _ in found.elements if re.fullmatch("h[1-6]", name)]
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))


def test_every_rate_stands_on_the_page_with_its_interval():
    summary = synthetic()
    page_, paper = Reading(report.html(summary)).text, report.markdown(summary)
    for cell in summary["cells"]:
        for found in cell["detected"].values():
            interval = f"{percent(found['low'])}–{percent(found['high'])}"
            assert f"{percent(found['value'])} {interval}" in page_
            assert f"{percent(found['value'])} ({interval})" in paper


def test_the_verdict():
    summary = synthetic()
    summary["cells"][0]["detected"]["1e-06"] = {
        "count": 496,
        "trials": 500,
        "value": 0.992,
        "low": 0.981,
        "high": 0.998,
    }
    summary["worst"][0] |= {"attack": "image.rotate@0.5", "detected": rate(71, 100)}
    forged = next(a["id"] for a in summary["attacks"] if a["goal"] == "forgery")
    forgery = next(c for c in summary["cells"] if (c["scheme"], c["attack"]) == ("image.spectral", forged))
    forgery["detected"]["1e-06"] = rate(30, 100)
    rotate = next(a["parameters"]["angle"] for a in summary["attacks"] if a["id"] == "image.rotate@0.5")
    forger = View(summary).called(forged)
    expected = (
        "detects 99.2 % (98.1 to 99.8) of unattacked images at a false-positive rate of 10⁻⁶; "
        f"worst usable attack: rotate, angle {rotate}, 71.0 %; accepts 30.0 % of forgeries by {forger}."
    )
    assert expected in Reading(report.html(summary)).text
    paper = report.markdown(summary).replace("\u00a0", " ").replace("**", "")
    assert f"- image.spectral {expected}" in paper


def test_a_failed_check_comes_first():
    summary = synthetic()
    calm = Reading(report.html(summary))
    assert "All 2 checks passed" in calm.text
    summary["audit"][1] |= {"passed": None, "message": "keys cannot be changed"}
    unsure = Reading(report.html(summary))
    assert "1 of 2 checks passed, 1 had nothing to go by" in unsure.text
    assert unsure.text.index("○ not tested") < unsure.text.index("✓ passed")
    assert not any("alarm" in (a.get("class") or "") for _, a in calm.elements)
    summary["audit"][1] |= {"passed": False, "message": "7 items are in two of them"}
    found = Reading(report.html(summary))
    assert (
        found.text.index("1 of 2 checks failed") < found.text.index("7 items are in two") < found.text.index("detects")
    )
    assert found.text.index("✗ FAILED") < found.text.index("✓ passed")
    assert any("alarm" in (a.get("class") or "") for _, a in found.elements)
    paper = report.markdown(summary)
    assert paper.index("✗ FAILED") < paper.index("✓ passed")
    summary["audit"] += [{**summary["audit"][0], "passed": True} for _ in range(9)]
    many = Reading(report.html(summary))
    assert many.text.index("✗ FAILED") < many.text.index("What passed") < many.text.index("✓ passed")
    summary["audit"] = []
    assert "No checks were made" in Reading(report.html(summary)).text


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>' & | `x` [a](javascript:b) \n<!-- ]]>"


def hostile(value: Any) -> Any:
    """Every text of a summary, but those with a meaning of their own, made hostile."""
    kept = {"none", "inf", "-inf", "image", "removal", "forgery", *LEVELS}
    if isinstance(value, dict):
        return {key: entry if key == "level" else hostile(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [hostile(entry) for entry in value]
    return value + HOSTILE if isinstance(value, str) and value not in kept else value


def test_hostile_text_stays_text():
    summary = synthetic()
    innocent = Reading(report.html(summary, {"image.jpeg@0.5": b"x"}))
    bad = hostile(summary)
    bad["environment"][HOSTILE] = {HOSTILE: [HOSTILE]}
    bad["cells"][0]["quality"][HOSTILE] = 1.0
    bad["attacks"][1]["parameters"] = {HOSTILE: HOSTILE}
    found = Reading(report.html(bad, {"image.jpeg@0.5" + HOSTILE: b"x", HOSTILE: b"x"}))
    assert "<script>alert(1)" in found.text
    assert {(tag, *a) for tag, a in found.elements} <= {(tag, *a) for tag, a in innocent.elements}
    assert all(image["src"].startswith("data:image/webp;base64,") for image in found.all("img"))
    paper = report.markdown(bad)
    assert "<script" not in paper
    assert "<img" not in paper
    assert not re.search(r"(?<!\\)\]\(", paper)
    for block in re.findall(r"(?:^\|.*\n)+", paper, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_markup_is_escaped_unless_it_is_markup():
    assert element("p", "<b>", Markup("<i></i>"), title='"&') == '<p title="&quot;&amp;">&lt;b&gt;<i></i></p>'


def test_the_leaderboard_has_a_row_for_each_cell():
    summary = synthetic()
    text = report.leaderboard(summary)
    assert text.count("\r\n") == text.count("\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(summary["cells"])
    for row, cell in zip(rows, summary["cells"], strict=True):
        assert (row["scheme"], row["attack"]) == (cell["scheme"], cell["attack"])
        assert float(row["detected@1e-06"]) == cell["detected"]["1e-06"]["value"]
        assert float(row["detected@1e-06_high"]) == cell["detected"]["1e-06"]["high"]
        assert row["calibrated@1e-06"] == ""
        assert float(row["median_log10_p"]) == cell["median_log10_p"]


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", " =1", "＝1"])
def test_the_leaderboard_holds_no_formula(start):
    summary = synthetic()
    for cell in summary["cells"]:
        cell["scheme"] = start + cell["scheme"]
    rows = list(csv.DictReader(io.StringIO(report.leaderboard(summary), newline="")))
    assert {row["scheme"] for row in rows} == {f"'{start}{label}" for label in SCHEMES}
    assert all(float(row["median_log10_p"]) <= 0 for row in rows), "numbers stay numbers"


def test_what_a_run_lacks_is_left_out():
    summary = smallest()
    found = Reading(report.html(summary))
    assert "detects 75.0 %" in found.text
    assert "No unmarked latents were tested" in found.text
    headings = {link["href"] for link in found.all("a")}
    assert headings == {"#robustness", "#protocol", "#definitions"}
    assert "| no attack | 75.0 (" in report.markdown(summary)
    assert len(report.leaderboard(summary).splitlines()) == 2


@pytest.mark.parametrize("make", [synthetic, smallest])
def test_any_list_may_be_empty_and_any_measure_null(make):
    for name in [key for key, value in make().items() if isinstance(value, list)]:
        summary = make() | {name: []}
        Reading(report.html(summary))
        report.markdown(summary)
        report.leaderboard(summary)
    for name in ("exact", "auc", "median_log10_p", "degradation", "quality"):
        summary = make()
        for cell in summary["cells"]:
            cell[name] = None
        assert "None" not in Reading(report.html(summary)).text + report.markdown(summary)
        report.leaderboard(summary)
    summary = make()
    for cell in summary["cells"]:
        cell["detected"] = dict.fromkeys(cell["detected"], rate(0, 0))
    assert "was not tried on unattacked" in Reading(report.html(summary)).text


def test_twenty_pictures_fit_and_too_many_are_named():
    summary = synthetic()
    names = ["original", "marked", *(attack["id"] for attack in summary["attacks"])]
    picture = webp(256)
    text = report.html(summary, dict.fromkeys(names[:20], picture))
    assert len(Reading(text).all("img")) == 20
    assert len(text.encode()) < 5_000_000
    large = bytes(700_000)
    text = report.html(summary, dict.fromkeys(reversed(names), large))
    shown = Reading(text)
    assert [image["alt"] for image in shown.all("img")][:2] == ["The example, original", "The example, marked"]
    assert f"{len(names) - 4} more were left out" in shown.text
    assert len(text.encode()) < 5_000_000


def test_forgeries_are_no_removals():
    view = View(synthetic())
    removal, forgery = tables.robustness(view)
    assert [row[0].text for row in forgery.rows] == ["copy"]
    assert "copy" not in {row[0].text for row in removal.rows}
    assert "copy" not in charts.tradeoff(view)


def test_the_lower_hull():
    points = {"a": (0.0, 1.0), "b": (0.2, 0.4), "c": (0.3, 0.6), "d": (0.5, 0.35), "e": (0.8, 0.1), "f": (0.9, 0.1)}
    assert charts._hull(points) == ["a", "b", "e"]


def test_false_positives_are_added_up():
    summary = synthetic()
    for index, cell in enumerate(cell for cell in summary["cells"] if cell["scheme"] == "peer"):
        cell["false"]["0.01"] = rate(3 if index == 2 else 1 if index == 0 else 0, 50)
    overall, each = tables.false_positives(View(summary))
    row = next(row for row in overall.rows if (row[0].text, row[1].text) == ("peer", "10⁻²"))
    others = len(summary["attacks"]) - 1
    label = View(summary).called(summary["attacks"][2]["id"])
    assert [value.text for value in row[2:]] == ["1 / 50", f"3 / {50 * others}", f"{0.5 * others:.1f}", label]
    assert row[-1].detail == "3 / 50"
    assert each.folded
    assert len(each.rows) == len(summary["cells"])


def test_a_failed_rate_is_never_folded():
    summary = synthetic()
    tried = [entry | {"nominal": entry["nominal"] / 2} for entry in summary["calibration"][0]["levels"]]
    tried[0]["passed"] = False
    summary["calibration"][0]["levels"] += tried
    short, whole = tables.calibration(View(summary))
    assert whole.folded
    assert not short.folded
    assert (len(short.rows), len(whole.rows)) == (10, 12)
    assert [row[1].text for row in short.rows if row[-1].text == "FAILED"] == ["0.005"]


def test_attacks_of_one_name_are_told_apart():
    summary = synthetic()
    for attack in summary["attacks"]:
        attack["parameters"] = {}
    labels = [View(summary).called(attack["id"]) for attack in summary["attacks"]]
    assert len(set(labels)) == len(labels)
    assert labels[:3] == ["no attack", "jpeg, strength 0.25", "jpeg, strength 0.5"]
    summary["attacks"][1]["strength"] = 0.5
    assert View(summary).called("image.jpeg@0.25") == "image.jpeg@0.25"


def test_numbers():
    assert [percent(x) for x in (0, 1e-5, 0.5, 0.9123, 0.9999, 1)] == ["0.0", "<0.1", "50.0", "91.2", "99.9", "100"]
    assert [power(x) for x in (1e-6, 0.01, 1.0, 0.5, 2.34e-5, 0)] == ["10⁻⁶", "10⁻²", "1", "0.5", "2.3 × 10⁻⁵", "0"]
    assert [power(x) for x in (1000, 1_000_000)] == ["10³", "10⁶"]
    assert [number(x) for x in (None, math.nan, "inf", "-inf", -1.5)] == ["–", "–", "∞", "−∞", "−1.50"]
    assert number(12345, 0) == "12\u202f345", "a narrow space that does not break"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(scheme):
    style = resources.files(report).joinpath("page.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\n *\}", style, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))
    pairs = [("ink", f"h{step}") for step in range(11)]
    pairs += [(text, ground) for text in ("ink", "muted", "accent", "good", "alarm") for ground in ("paper", "card")]
    pairs += [
        ("ink", "alarm-paper"),
        ("alarm", "alarm-paper"),
        ("good", "alarm-paper"),
        ("ink", "band"),
        ("muted", "band"),
    ]
    for text, ground in pairs:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for number_ in range(charts.COLOURS):  # lines and marks: WCAG 1.4.11
        assert contrast(colours[f"c{number_}"], colours["paper"]) >= 3, number_


def contrast(*colours: str) -> float:
    """The contrast ratio of WCAG 2."""
    found = []
    for colour in colours:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        found.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(found) + 0.05) / (min(found) + 0.05)
