"""Dishonest evaluations must be found out: each test breaks one rule, and one check, no other, must say so."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

import watermark
from watermark import attacks, evaluation
from watermark.evaluation import protocol
from watermark.evaluation.audit import thresholds
from watermark.evaluation.subjects import subject
from watermark.latent.gaussian_shading import GaussianShading


def failed(report: Any) -> set[str]:
    return {check["check"] for check in report.to_dict()["audit"] if check["passed"] is False}


class Generous(GaussianShading):
    """Its p-values are half of what they should be."""

    def detect(self, media: Any) -> watermark.Detection:
        found = super().detect(media)
        return dataclasses.replace(found, log10_p=found.log10_p - np.log10(2))


def test_an_honest_evaluation_passes(evaluate):
    report = evaluate(null_trials=2000)
    assert failed(report) == set()
    assert report.faults == []


def test_halved_p_values_are_caught(evaluate, key, shading):
    report = evaluate(Generous(key, shading.parameters), null_trials=2000)
    assert failed(report) == {"calibration"}
    assert "too small on media without a mark" in report.faults[0]
    (found,) = report.to_dict()["calibration"]
    tenth = next(level for level in found["levels"] if level["nominal"] == 0.1)
    assert tenth["rate"]["value"] == pytest.approx(0.2, abs=0.03)


def test_p_values_are_tested_as_the_scheme_gives_them(evaluate, photos, key):
    """Also where finished media take a shorter way to the verdicts of many keys."""
    scheme = watermark.load("image.spectral", key, payload_bits=16)

    class Inflated(type(scheme)):
        def detect(self, media: Any) -> watermark.Detection:
            found = super().detect(media)
            return dataclasses.replace(found, log10_p=found.log10_p - 1)

    report = evaluate(Inflated(key, scheme.parameters), [], photos(16), null_trials=40)
    assert "calibration" in failed(report)


def test_a_test_of_p_values_that_fails_is_no_pass(evaluate, key, shading):
    class Bound(GaussianShading):
        """Knows one key."""

        def detect(self, media: Any) -> watermark.Detection:
            if self.key != key:
                raise watermark.ParameterError("another key")
            return super().detect(media)

    report = evaluate(Bound(key, shading.parameters))
    assert failed(report) == {"calibration"}
    assert "another key" in report.faults[0]


@pytest.mark.parametrize("name", ["image.spectral", "latent.gaussian_shading"])
def test_p_values_of_rings_are_tested_as_rings(name, photos, key):
    """Several keys are tried at once, and p pays for them: fresh keys are too."""
    own = {"payload_bits": 16} | ({} if name.startswith("image") else {"shape": (4, 16, 16)})
    mark = watermark.load(name, watermark.Keyring([key, key.child("old")]), **own)
    fresh = watermark.Key.generate()
    other = watermark.load(name, fresh.child("1"), **own)
    media = other.embed(photos(1, 256)[0]) if name.startswith("image") else other.sample(rng=1)
    (found,) = subject(mark).fresh_keys(media, 0, [fresh])
    assert found == watermark.load(name, watermark.Keyring([fresh, fresh.child("1")]), **own).detect(media).log10_p
    assert other.detect(media).log10_p < found < -3


def test_a_threshold_that_was_tuned_on_test_media_is_caught(evaluate, monkeypatch, tmp_path):
    def tuned(log10_p: Any, levels: Any) -> Any:
        # Above every calibration negative: what an evaluator finds that looks for the best figure.
        return {f"{level:g}": -0.001 for level in levels}

    monkeypatch.setattr(protocol, "thresholds", tuned)
    report = evaluate(corpus=40)
    assert failed(report) == {"thresholds"}
    monkeypatch.undo()
    assert failed(evaluate(corpus=40)) == set()
    # ... and so is one that is changed when the run is over.
    path = tmp_path / "run" / "thresholds.json"
    frozen = json.loads(path.read_text())
    frozen["latent.gaussian_shading"]["0.01"] = -0.5
    path.write_text(json.dumps(frozen))
    assert failed(evaluation.Report.load(tmp_path / "run")) == {"thresholds"}


def test_marked_media_among_the_negatives_are_caught(evaluate, photos, key):
    image = watermark.load("image.spectral", key, payload_bits=16)
    pictures = photos(20, 256)
    poisoned = [image.embed(p, b"\0") if number % 2 == 0 else p for number, p in enumerate(pictures)]
    report = evaluate(image, [attacks.load("image.jpeg", quality=60)], poisoned, null_trials=0)
    assert failed(report) == {"negatives", "attacked negatives", "messages"}
    assert any("carry the mark" in fault for fault in report.faults)


def test_an_item_that_serves_two_ends_is_caught(evaluate, monkeypatch):
    honest = protocol.Corpus.split

    def careless(self: Any, *arguments: Any) -> Any:
        splits = dict(honest(self, *arguments))
        return splits | {"negative": splits["calibration"][:2] + splits["negative"]}

    monkeypatch.setattr(protocol.Corpus, "split", careless)
    assert failed(evaluate()) == {"splits"}


def test_copies_of_an_item_are_left_out(evaluate, photos, key):
    image = watermark.load("image.spectral", key, payload_bits=16)
    pictures = photos(16)
    report = evaluate(image, [], [*pictures, *pictures[:5]], null_trials=0)
    assert sum(report.to_dict()["protocol"]["split"].values()) == 16
    assert "5 copies" in report.to_dict()["audit"][0]["message"]


def test_an_attack_that_plants_the_mark_is_caught(evaluate, shading):
    class Plants(attacks.Attack):
        name = "latent.plants"

        def _attack(self, media: Any, rng: Any, given: Any) -> Any:
            return shading.sample(b"\1", rng=1)

    assert failed(evaluate(grid=[Plants()])) == {"attacked negatives", "messages"}


def test_too_many_errors_are_caught(evaluate):
    class Fails(attacks.Attack):
        name = "latent.fails"

        def _attack(self, media: Any, rng: Any, given: Any) -> Any:
            raise watermark.MediaError("no")

    report = evaluate(grid=[Fails()])
    assert failed(report) == {"errors"}
    cell = next(cell for cell in report.to_dict()["cells"] if cell["attack"] == "latent.fails@0.5")
    assert (cell["trials"], cell["errors"], cell["detected"]["0.01"]["value"]) == (0, 22, None)


def test_an_attack_that_mostly_fails_is_caught_in_a_large_grid(evaluate):
    """What is left of it need not be like the rest, though it is few of all cells."""

    class Fails(attacks.Attack):
        name = "latent.fails"

        def _attack(self, media: Any, rng: Any, given: Any) -> Any:
            if media[0, 0, 0] > -0.8:
                raise watermark.MediaError("not this one")
            return media

    grid = [Fails(), *(attacks.load("latent.noise", strength=step / 40) for step in range(40))]
    report = evaluate(grid=grid, null_trials=0)
    assert failed(report) == {"errors"}
    assert "latent.fails" in report.faults[0]
    assert "not this one" in report.faults[0]


def test_a_detector_that_gives_no_probabilities_is_caught(evaluate, key, shading):
    class Broken(GaussianShading):
        def detect(self, media: Any) -> watermark.Detection:
            return dataclasses.replace(super().detect(media), log10_p=float("nan"))

    report = evaluate(Broken(key, shading.parameters), null_trials=0)
    assert failed(report) == {"errors"}
    assert "ParameterError" in report.faults[0]


def test_thresholds_keep_their_rate():
    """Over draws of calibration sets, a fresh negative passes with the nominal probability, ties included."""
    rng = np.random.default_rng(1)
    for law in (lambda n: np.log10(rng.random(n)), lambda n: np.log10(rng.integers(1, 30, n) / 30)):
        passed = [law(1)[0] < thresholds(law(99), [0.05])["0.05"] for _ in range(4000)]
        assert np.mean(passed) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert (
        np.mean([np.log10(rng.random()) < thresholds(np.log10(rng.random(99)), [0.05])["0.05"] for _ in range(4000)])
        > 0.04
    )


def test_thresholds_need_enough_negatives():
    assert thresholds(np.zeros(98), [0.01]) == {"0.01": None}
    assert thresholds(np.zeros(99), [0.01]) == {"0.01": 0.0}
    assert thresholds(np.array([-3.0, -1.0, -2.0] * 66 + [-4.0]), [0.01]) == {"0.01": -3.0}


def test_what_was_not_tested_is_no_pass(evaluate):
    report = evaluate(null_trials=0, shares=(0, 0, 1))
    outcomes = {check["check"]: check["passed"] for check in report.to_dict()["audit"]}
    assert outcomes["calibration"] is outcomes["negatives"] is outcomes["attacked negatives"] is None
    assert report.faults == []


def test_wrong_messages_that_are_vouched_for_are_caught(evaluate, key, shading):
    class Sure(GaussianShading):
        """Vouches for whatever it read."""

        def detect(self, media: Any) -> watermark.Detection:
            return dataclasses.replace(super().detect(media), payload=b"\7\7", payload_ok=True)

    report = evaluate(Sure(key, shading.parameters))
    assert failed(report) == {"messages"}
    assert report.to_dict()["cells"][0]["wrong"]["value"] == 1


def test_keys_of_the_users_objects_are_changed_if_they_can_be(evaluate, photos):
    class Odd:
        """Every p-value is .05, whatever the key."""

        fingerprint = "odd"

        def mark(self, item: Any, payload: Any, rng: int) -> Any:
            return item

        def detect_batch(self, media: Any) -> list[watermark.Detection]:
            return [watermark.Detection("odd", "", -1.3, 0.0, 1) for _ in media]

        def with_key(self, key: watermark.Key) -> Any:
            return self

    assert failed(evaluate(Odd(), [], photos(16))) == {"calibration"}
