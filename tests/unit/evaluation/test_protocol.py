"""The runner: what it computes, that it repeats itself to the bit, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import watermark
from watermark import Detection, MediaError, ParameterError, attacks, evaluation
from watermark.evaluation.grid import attack_id

NOISE = (attacks.load("latent.noise", sigma=0.5), attacks.load("latent.sign_flip", probability=0.25))
JPEG = attacks.load("image.jpeg", quality=60)
PLAIN = [np.full((32, 32, 3), level, np.uint8) for level in range(16)]


def cells(report: Any, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in report.tables.cells.to_pylist() if all(row[k] == v for k, v in wanted.items())]


class Stamp:
    """Marks a picture by its first pixel; whoever looks for it finds nothing else."""

    label, payload_bits, fingerprint = "stamp", None, "stamp 1"

    def __init__(self) -> None:
        self.marks = 0

    def mark(self, item: np.ndarray, payload: bytes | None, rng: int) -> np.ndarray:
        self.marks += 1
        marked = item.copy()
        marked[0, 0] = (1, 2, 3)
        return marked

    def detect_batch(self, media: Any) -> list[Detection]:
        return [
            Detection("stamp", "", -9.0 if tuple(m[0, 0]) == (1, 2, 3) else -np.random.default_rng(m[0]).random(), 0, 1)
            for m in media
        ]


class Bits:
    """Reads 32 bits from the lowest bits of the first row, and knows no p-value."""

    label, payload_bits, known_message = "bits", 32, True

    def mark(self, item: np.ndarray, payload: bytes, rng: int) -> np.ndarray:
        marked = item.copy()
        marked[0, :32, 0] = marked[0, :32, 0] & 254 | np.unpackbits(np.frombuffer(payload, np.uint8))
        return marked

    def detect_batch(self, media: Any) -> list[Detection]:
        bits = [np.packbits(m[0, :32, 0] & 1).tobytes() for m in media]
        return [Detection("bits", "", 0.0, 0.0, 32, read) for read in bits]


def test_a_grid_has_a_row_per_scheme_item_and_attack(evaluate, shading):
    report = evaluate()
    split = report.to_dict()["protocol"]["split"]
    assert split == {"calibration": 8, "negative": 7, "positive": 15, "attacker": 10}
    assert len(cells(report, split="calibration")) == 8
    assert len(cells(report, split="negative")) == 7 * 3
    assert len(cells(report, split="positive")) == 15 * 3
    assert not cells(report, split="attacker")
    found = {cell["attack"]: cell for cell in report.to_dict()["cells"]}
    assert list(found) == ["none", *map(attack_id, NOISE)]
    assert found["none"]["detected"]["1e-06"]["value"] == 1
    assert found["none"]["exact"] == {
        "count": 15,
        "trials": 15,
        "value": 1,
        "low": pytest.approx(0.782, abs=1e-3),
        "high": 1,
    }
    assert found["none"]["false"]["0.01"]["trials"] == 7


def test_detection_is_what_the_scheme_says(evaluate, shading):
    """Rows are redone by hand, from the documented seeds."""
    report = evaluate(seed=3)
    plan_row = cells(report, split="positive", attack=attack_id(NOISE[0]))[0]
    from watermark.evaluation.corpus import Item
    from watermark.evaluation.subjects import random_message

    item = Item(plan_row["item"], plan_row["digest"], int(plan_row["item"]))
    message = random_message(16, np.random.default_rng(item.seed("message", 3)))
    z = shading.sample(message, rng=item.seed("mark", 3))
    found = shading.detect(NOISE[0](z, item.seed("attack", "latent.noise", 3)))
    assert (plan_row["log10_p"], plan_row["score"], plan_row["n"]) == (found.log10_p, found.score, found.n)
    assert plan_row["exact"] == (found.payload_ok and found.payload == message)


def test_pictures_are_marked_attacked_and_compared(photos, evaluate, tmp_path, key):
    image = watermark.load("image.spectral", key, payload_bits=32)
    pictures = photos(12)
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures):
        watermark.media.write(picture, tmp_path / "photos" / f"{number}.png")
    in_files = evaluate(image, [JPEG], tmp_path / "photos", out=tmp_path / "a", null_trials=12, seed=1)
    assert in_files.faults == []
    assert {cell["trials"] for cell in in_files.to_dict()["cells"]} == {5}
    row = cells(in_files, split="positive", attack=attack_id(JPEG))[0]
    assert 15 < row["psnr"] < 60
    assert 0.5 < row["ssim"] <= 1
    assert (tmp_path / "a" / "thumbnails" / f"{attack_id(JPEG)}.webp").is_file()
    for name in ("report.html", "report.md", "leaderboard.csv", "summary.json"):
        assert (tmp_path / "a" / name).stat().st_size > 100
    assert json.loads((tmp_path / "a" / "summary.json").read_text()) == in_files.to_dict()


def test_objects_of_the_user_are_evaluated(photos, evaluate):
    report = evaluate(Stamp(), [JPEG], photos(16))
    found = {cell["attack"]: cell for cell in report.to_dict()["cells"]}
    assert found["none"]["detected"]["1e-06"]["value"] == 1
    assert found[attack_id(JPEG)]["detected"]["1e-06"]["value"] == 0
    assert found["none"]["exact"] is None


def test_bits_without_a_p_value_get_one_from_the_known_message(photos, evaluate):
    report = evaluate(Bits(), [JPEG], photos(16), null_trials=4000)
    found = {cell["attack"]: cell for cell in report.to_dict()["cells"]}
    assert found["none"]["median_log10_p"] == pytest.approx(-32 * np.log10(2))
    assert found["none"]["exact"]["value"] == 1
    assert found[attack_id(JPEG)]["detected"]["1e-06"]["value"] == 0
    assert report.to_dict()["calibration"][0]["trials"] == 4000
    assert report.faults == []


def test_forgeries_are_counted_on_covers(photos, evaluate):
    forge = attacks.load("image.add_average", gain=1)
    report = evaluate(Stamp(), [forge], photos(16))
    rows = cells(report, attack=attack_id(forge))
    assert {row["split"] for row in rows} == {"negative"}
    found = next(cell for cell in report.to_dict()["cells"] if cell["attack"] == attack_id(forge))
    assert found["trials"] == found["detected"]["0.01"]["trials"] == 3


def test_forgeries_of_known_messages_are_not_counted(photos, evaluate):
    """There is no message that the cover should carry: a rate of 0 would say that nobody can forge the mark."""
    forge = attacks.load("image.add_average", gain=1)
    report = evaluate(Bits(), [forge, JPEG], photos(16), null_trials=0)
    found = {cell["attack"]: cell for cell in report.to_dict()["cells"]}
    assert (found[attack_id(forge)]["trials"], found[attack_id(forge)]["detected"]["0.01"]["value"]) == (0, None)
    assert found[attack_id(JPEG)]["false"]["0.01"]["trials"] == 3
    assert report.faults == []


def test_an_oracle_counts_its_queries(photos, evaluate):
    class Asks(attacks.Attack):
        name = "image.asks"
        needs = frozenset({"oracle"})
        knowledge = "scheme"

        def _attack(self, media, rng, given):
            assert len(given.marked) == 4
            for _ in range(3):
                given.detect(media)
            return media

    report = evaluate(Stamp(), [Asks()], photos(16))
    assert {row["queries"] for row in cells(report, attack="image.asks@0.5")} == {3}


def test_tables_do_not_depend_on_the_order_of_work(evaluate, tmp_path):
    evaluate(out=tmp_path / "a")
    evaluate(out=tmp_path / "b", grid=NOISE[:1])
    evaluate(out=tmp_path / "b")  # goes on from the first attack
    for name in ("results.parquet", "null.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_is_finished_is_not_done_again(photos, evaluate):
    stamp = Stamp()
    evaluate(stamp, [JPEG], photos(16))
    before, stamp.marks = stamp.marks, 0
    evaluate(stamp, [JPEG], photos(16))
    assert (before, stamp.marks) == (6 + 1, 1)  # the thumbnail's
    evaluate(stamp, [JPEG], photos(16), seed=9)
    assert stamp.marks > 1


class Sure:
    """Is as sure as it is told."""

    label = "sure"

    def __init__(self, log10_p: float) -> None:
        self.log10_p = log10_p

    def mark(self, item: np.ndarray, payload: bytes | None, rng: int) -> np.ndarray:
        return item

    def detect_batch(self, media: Any) -> list[Detection]:
        return [Detection("sure", "", self.log10_p, 0, 1) for _ in media]


def medians(report: Any) -> list[float]:
    return [cell["median_log10_p"] for cell in report.to_dict()["cells"]]


def test_objects_of_one_class_keep_their_results_apart(evaluate):
    assert medians(evaluate([Sure(-1.0), Sure(-2.0)], [], PLAIN)) == [-1.0, -2.0]
    assert medians(evaluate(Sure(-3.0), [], PLAIN)) == [-3.0]


def test_objects_that_hold_a_scheme_have_its_facts(evaluate, shading):
    bound = Sure(-1.0)
    bound.scheme = shading
    (facts,) = evaluate(bound, [], PLAIN).to_dict()["schemes"]
    assert facts["profile"] == shading.profile()
    assert (facts["null"], facts["fixed_key"]) == (shading.info.null, shading.info.fixed_key.at_1e3)


def test_results_depend_on_what_measures_and_not_on_what_shows(monkeypatch):
    from pathlib import Path

    from watermark.evaluation.grid import code_digest

    read, bytes_of = set(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.add(path.name) or bytes_of(path))
    code_digest.__wrapped__()
    assert {"spectral.py", "quality.py", "efficientnet_lite0.npz"} <= read
    assert read.isdisjoint({"protocol.py", "runner.py", "charts.py", "page.py", "demo.py"})


def test_objects_that_cannot_be_told_apart_are_refused(evaluate):
    class Model:
        """Whose weights nobody reads."""

    def with_model() -> Sure:
        mark = Sure(-1.0)
        mark.model = Model()
        return mark

    with pytest.raises(ParameterError, match="fingerprint"):
        evaluate([with_model(), with_model()], [], PLAIN)
    first, second = with_model(), with_model()
    second.model.fingerprint = "other weights"
    assert medians(evaluate([first, second], [], PLAIN)) == [-1.0, -1.0]


CODE = """
from dataclasses import dataclass
from typing import Any
import numpy as np
from watermark import attacks

@dataclass(frozen=True)
class Paint(attacks.Attack):
    name = "image.paint"
    level: Any = 7

    def _attack(self, media, rng, given):
        return np.full_like(media, {})
"""


def test_attacks_of_other_parameters_or_code_are_done_anew(evaluate, tmp_path, monkeypatch):
    class Level(Sure):
        fingerprint = "level"

        def detect_batch(self, media):
            return [Detection("level", "", -float(m[0, 0, 0]), 0, 1) for m in media]

    def painted(code: str, *level: int) -> float:
        import importlib.util

        name = f"paint_{len(list(tmp_path.glob('*.py')))}"
        (tmp_path / f"{name}.py").write_text(CODE.format(code))
        spec = importlib.util.spec_from_file_location("paint", tmp_path / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "paint", module)
        spec.loader.exec_module(module)
        return medians(evaluate(Level(-1.0), [module.Paint(0.5, *level)], PLAIN))[1]

    assert painted("self.level") == -7
    assert painted("self.level", 9) == -9
    assert painted("5", 9) == -5


def test_more_items_leave_blind_attacks_done(photos, evaluate):
    pictures = photos(24)
    calls = []

    class Counts(attacks.Attack):
        name = "image.counts"

        def _attack(self, media, rng, given):
            assert len(given.clean) == 0, "it says to know nothing"
            calls.append(1)
            return media

    evaluate(Stamp(), [Counts()], pictures[:23])
    before = len(calls)
    evaluate(Stamp(), [Counts()], pictures)
    assert before > 0
    assert len(calls) - before < before / 2


def test_workers_change_nothing(evaluate, tmp_path):
    evaluate(out=tmp_path / "a")
    evaluate(out=tmp_path / "b", workers=2)
    for name in ("results.parquet", "null.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            import watermark
            from watermark import attacks, evaluation
            from watermark.evaluation import grid

            slow = grid.Cells.run
            grid.Cells.run = lambda self, worker: (time.sleep(float(sys.argv[2])), slow(self, worker))[1]
            key = watermark.Key.from_bytes(bytes(32))
            mark = watermark.load("latent.gaussian_shading", key, shape=(4, 16, 16), payload_bits=16)
            evaluation.run(mark, [attacks.load("latent.noise")], 40, sys.argv[1], workers=1, null_trials=100)
            """
        )
    )
    command = [sys.executable, str(script)]
    subprocess.run([*command, str(tmp_path / "whole"), "0"], check=True)
    process = subprocess.Popen([*command, str(tmp_path / "cut"), "0.2"])
    while process.poll() is None and not list((tmp_path / "cut").glob("cells.sqlite-wal")):
        time.sleep(0.05)
    time.sleep(0.7)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    assert not (tmp_path / "cut" / "results.parquet").exists()
    subprocess.run([*command, str(tmp_path / "cut"), "0"], check=True)
    for name in ("results.parquet", "null.parquet", "thresholds.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_media_that_cannot_be_read_are_counted_and_named(photos, evaluate, tmp_path, key):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, picture in enumerate(photos(30)):
        watermark.media.write(picture, folder / f"{number}.png")
    (folder / "broken.png").write_bytes((folder / "3.png").read_bytes()[:300])
    report = evaluate(watermark.load("image.spectral", key, payload_bits=16), [JPEG], folder, null_trials=0)
    bad = [row for row in cells(report) if row["error"]]
    assert {row["item"] for row in bad} <= {"broken.png"}
    assert all("MediaError" in row["error"] for row in bad)
    assert all(row["log10_p"] is None for row in bad)


def test_marks_that_cannot_be_compared_are_counted_and_named(photos, evaluate):
    class Transparent(Stamp):
        label = fingerprint = "transparent"

        def mark(self, item, payload, rng):
            return np.dstack([item, item[:, :, 0]])

    bad = [row for row in cells(evaluate(Transparent(), [JPEG], photos(16))) if row["error"]]
    assert {row["split"] for row in bad} == {"positive"}
    assert "transparency" in bad[0]["error"]


def test_references_that_cannot_be_read_are_left_out(photos, evaluate, tmp_path, key):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, picture in enumerate(photos(20)):
        watermark.media.write(picture, folder / f"{number}.png")
        (folder / f"broken{number}.png").write_bytes((folder / f"{number}.png").read_bytes()[:300])
    mark = watermark.load("image.spectral", key, payload_bits=16)
    report = evaluate(mark, [attacks.load("image.subtract_average")], folder, null_trials=0)
    assert any(row["error"] is None for row in cells(report, attack="image.subtract_average@0.5"))
    assert all("broken" in row["item"] for row in cells(report) if row["error"])


@pytest.mark.parametrize("workers", [1, 2])
def test_unexpected_errors_say_where_they_happened(evaluate, workers):
    class Breaks(attacks.Attack):
        name = "latent.breaks"

        def _attack(self, media, rng, given):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        evaluate(grid=[Breaks()], workers=workers)
    (note,) = raised.value.__notes__
    assert "latent.gaussian_shading" in note
    assert "latent.breaks@0.5" in note


def test_what_other_processes_cannot_load_is_an_error_and_no_endless_wait(photos, evaluate, monkeypatch):
    # The class is found by name, in this process only; the pictures are more than a pipe holds.
    class Here(Stamp):
        __module__, __qualname__ = "only_here", "Here"

    module = types.ModuleType("only_here")
    module.Here = Here
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(ParameterError, match=r"No module named 'only_here'.*workers=1"):
        evaluate(Here(), [JPEG], photos(40), workers=2)


def test_what_cannot_be_sent_to_other_processes_is_an_error(photos, evaluate):
    class Locked(Stamp):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(ParameterError, match="workers=1"):
        evaluate(Locked(), [JPEG], photos(16), workers=2)


def test_a_verdict_that_is_refused_counts_as_not_detected(photos, evaluate):
    class Picky(Stamp):
        label = "picky"

        def detect_batch(self, media):
            if tuple(media[0][0, 0]) != (1, 2, 3):
                raise MediaError("not mine")
            return super().detect_batch(media)

    report = evaluate(Picky(), [JPEG], photos(16))
    found = {cell["attack"]: cell for cell in report.to_dict()["cells"]}
    assert found[attack_id(JPEG)]["trials"] == 6
    assert found[attack_id(JPEG)]["detected"]["0.01"]["value"] == 0


def test_reports_are_read_back(evaluate, tmp_path):
    report = evaluate()
    again = evaluation.Report.load(tmp_path / "run")
    assert again.to_dict() == report.to_dict()
    facts = json.loads(pq.read_metadata(tmp_path / "run" / "results.parquet").metadata[b"watermark"])
    assert facts["version"] == 1
    (tmp_path / "run" / "results.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(MediaError, match="no finished evaluation"):
        evaluation.Report.load(tmp_path / "run")
    with pytest.raises(OSError, match="results"):
        evaluation.Report.load(tmp_path)


def test_secrets_stay_out_of_the_results(evaluate, tmp_path, key):
    evaluate()
    secret = key.to_bytes()
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert secret not in content
            assert secret.hex().encode() not in content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": [JPEG]}, "no attack on latent"),
        ({"grid": ["latent.noise"]}, "Attack objects"),
        ({"grid": NOISE * 2}, "twice"),
        ({"corpus": "photos"}, "how many"),
        ({"corpus": 0}, "corpus"),
        ({"corpus": 1, "shares": (0.5, 0.5, 0)}, "shares"),
        ({"corpus": 2, "shares": (0.5, 0.4, 0.1)}, "too few"),
        ({"levels": [0.0]}, "levels"),
        ({"levels": []}, "levels"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"null_trials": -1}, "null_trials"),
        ({"schemes": []}, "one or more"),
        ({"schemes": [object()]}, "cannot be evaluated"),
        ({"schemes": Stamp(), "grid": [JPEG], "corpus": PLAIN, "metrics": ("lpips",)}, "no metric 'lpips'"),
        ({"schemes": Stamp(), "grid": [JPEG], "corpus": []}, "no images"),
        ({"schemes": Stamp(), "grid": [JPEG], "corpus": 3.5}, "corpus is a folder"),
        ({"schemes": Stamp(), "grid": [JPEG], "corpus": PLAIN, "size": 4}, "size"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(evaluate, tmp_path, change, message):
    with pytest.raises(ParameterError, match=message):
        evaluate(**change)
    assert not (tmp_path / "run").exists()


def test_kinds_of_media_do_not_mix(evaluate, shading):
    with pytest.raises(ParameterError, match="one kind of media"):
        evaluate([shading, Stamp()])


def test_the_same_scheme_twice_gets_two_labels(evaluate, shading):
    def other(bits: int) -> Any:
        return watermark.load("latent.gaussian_shading", watermark.Key.generate(), shape=(4, 16, 16), payload_bits=bits)

    report = evaluate([shading, other(32), other(16), other(32)])
    labels = [scheme["label"] for scheme in report.to_dict()["schemes"]]
    assert labels[0] == "latent.gaussian_shading"
    assert [label.removeprefix(labels[0]) for label in labels] == ["", " (payload_bits=32)", " (3)", " (4)"]


def test_a_run_that_goes_no_further_than_its_thresholds_leaves_no_tables_of_another(evaluate, tmp_path, monkeypatch):
    evaluate(corpus=40, levels=[0.2])
    monkeypatch.setattr("watermark.evaluation.protocol.tables.cells_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(corpus=60, levels=[0.2])
    with pytest.raises(OSError, match="results"):
        evaluation.Report.load(tmp_path / "run")


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"no database" * 99), lambda path: path.mkdir()])
def test_a_folder_that_keeps_no_results_is_an_error_with_its_name(evaluate, tmp_path, spoil):
    (tmp_path / "run").mkdir()
    spoil(tmp_path / "run" / "cells.sqlite")
    with pytest.raises(OSError, match=r"run/cells\.sqlite"):
        evaluate()
