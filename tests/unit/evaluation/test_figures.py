"""Rates, intervals, curves and scores: against values that were computed otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from watermark.evaluation import summary
from watermark.evaluation.rates import auc, limit, rate
from watermark.evaluation.summary import _crossing


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Of the specification: 95 of 100, 950 of 1,000, and none of 1,000 or 3,000.
    [(95, 100, 0.887, 0.984), (950, 1000, 0.935, 0.963), (0, 1000, 0, 3.7e-3), (0, 3000, 0, 1.2e-3), (7, 7, 0.590, 1)],
)
def test_intervals_are_exact(successes, trials, low, high):
    found = rate(successes, trials)
    assert (found["count"], found["trials"], found["value"]) == (successes, trials, successes / trials)
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


def test_nothing_has_no_rate():
    assert rate(0, 0) == {"count": 0, "trials": 0, "value": None, "low": None, "high": None}


def test_limits_are_passed_once_in_a_thousand():
    rng = np.random.default_rng(1)
    for trials, nominal in ((2000, 0.1), (2000, 1e-3), (50, 0.5), (10, 1e-6)):
        over = (rng.binomial(trials, nominal, 200_000) > limit(trials, nominal)).mean()
        assert over <= 1.2e-3
        # ... and one less would be too few.
        assert (
            limit(trials, nominal) == 0
            or (rng.binomial(trials, nominal, 200_000) >= limit(trials, nominal)).mean() > 8e-4
        )
    assert limit(2000, 0.1, tests=7) > limit(2000, 0.1)
    assert limit(100, 2.0) == 100


def test_the_area_under_the_curve_is_that_of_pairs():
    rng = np.random.default_rng(2)
    positive, negative = rng.integers(0, 9, 40) + 2.0, rng.integers(0, 9, 30) + 0.0
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    found = auc(positive, negative)
    assert found["value"] == pytest.approx(np.mean(pairs))
    assert found["low"] < found["value"] < found["high"]
    assert auc(positive, np.empty(0)) is None
    assert auc(np.ones(5), np.zeros(5)) == {"value": 1, "low": pytest.approx(0.643, abs=1e-3), "high": 1}
    assert auc(np.zeros(5), np.ones(5)) == {"value": 0, "low": 0, "high": pytest.approx(0.357, abs=1e-3)}
    assert auc(np.ones(500), np.zeros(500))["low"] > 0.99


@pytest.mark.parametrize(("distance", "sizes"), [(1, (60, 60)), (1, (7, 15)), (3, (7, 15)), (4, (60, 60))])
def test_intervals_of_the_area_cover(distance, sizes):
    """95 % of the time for normal scores, whose area is Phi(distance / sqrt 2); near 1 too, where resampling fails."""
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        found = auc(rng.standard_normal(sizes[0]) + distance, rng.standard_normal(sizes[1]))
        covered += found["low"] <= norm.cdf(distance / np.sqrt(2)) <= found["high"]
    assert covered >= 300 * 0.90


@pytest.mark.parametrize(
    ("q", "p", "level", "found"),
    [
        ([0.1, 0.2, 0.4], [1.0, 0.9, 0.5], 0.95, 0.15),
        ([0.1, 0.2, 0.4], [1.0, 0.9, 0.5], 0.7, 0.3),
        ([0.1, 0.2], [1.0, 0.96], 0.95, "inf"),
        ([0.1, 0.2], [0.9, 0.3], 0.95, "-inf"),
        ([0.3], [1.0], 0.95, "inf"),
        ([0.3], [0.2], 0.95, "-inf"),
        ([0.1, 0.2, 0.3], [1.0, 0.4, 0.8], 0.7, 0.15),  # the first time counts
    ],
)
def test_the_degradation_at_which_detection_falls(q, p, level, found):
    assert _crossing(np.array(q), np.array(p), level) == (found if isinstance(found, str) else pytest.approx(found))


def test_a_message_of_nobody_is_no_false_attribution(evaluate, photos, monkeypatch):
    """One user is never taken for another; with as many users as messages, every wrong one is somebody's."""
    from watermark import Detection

    class Errs:
        label = fingerprint = "errs"
        payload_bits = 8

        def mark(self, item, payload, rng):
            marked = item.copy()
            marked[0, 0, 0] = payload[0] ^ 1
            return marked

        def detect_batch(self, media):
            return [Detection("errs", "", -9.0, 0, 1, bytes([m[0, 0, 0]]), True) for m in media]

    monkeypatch.setattr(summary, "USERS", (1, 256, 1000))
    report = evaluate(Errs(), [], photos(16), null_trials=0)
    wrong = {row["users"]: row["wrong"]["value"] for row in report.to_dict()["attribution"]}
    assert wrong == {1: 0, 256: 1, 1000: None}


def test_scores_of_a_whole_evaluation(evaluate, photos, key):
    """Worst case, WAVES ranking, attribution and protection, redone from the rows."""
    import watermark
    from watermark import attacks

    image = watermark.load("image.spectral", key, payload_bits=16)
    grid = [attacks.load("image.gaussian_noise", sigma=s) for s in (0.02, 0.1)] + [
        attacks.load("image.jpeg", quality=30)
    ]
    report = evaluate(image, grid, photos(24, 128), null_trials=0)
    summary, rows = report.to_dict(), report.tables.cells.to_pylist()
    cells = {cell["attack"]: cell for cell in summary["cells"]}
    for attack, cell in cells.items():
        marked = [row for row in rows if row["split"] == "positive" and row["attack"] == attack]
        assert cell["trials"] == len(marked) == 9
        for level in (1e-2, 1e-3, 1e-6):
            expected = sum(row["log10_p"] <= np.log10(level) for row in marked)
            assert cell["detected"][f"{level:g}"]["count"] == expected
        assert cell["exact"]["count"] == sum(row["exact"] for row in marked)
        if attack != "none":
            assert cell["quality"]["psnr"] == pytest.approx(np.median([row["psnr"] for row in marked]))
            assert 0 < cell["degradation"] < 1
    (worst,) = summary["worst"]
    usable = [cell for name, cell in cells.items() if name != "none" and cell["degradation"] <= 0.3]
    assert worst["detected"]["value"] == min(cell["detected"]["1e-06"]["value"] for cell in usable)
    assert [row["attack"] for row in summary["waves"]].count("image.gaussian_noise") == 1
    noise = next(row for row in summary["waves"] if row["attack"] == "image.gaussian_noise")
    assert len(noise["strengths"]) == 2
    users = {(row["attack"], row["users"]): row for row in summary["attribution"]}
    assert users["none", 1000]["correct"]["count"] == cells["none"]["exact"]["count"]
    assert users["none", 10**6]["correct"]["count"] == 0, "16 bits do not name a million users"
    (protection,) = summary["protection"]
    assert protection["efficacy"] == cells["none"]["detected"]["1e-06"]["value"]
    assert protection["resilience"] == pytest.approx(
        np.mean([cell["detected"]["1e-06"]["value"] for name, cell in cells.items() if name != "none"])
    )
    curve = next(curve for curve in summary["roc"] if curve["attack"] == "none")
    assert curve["tpr"] == sorted(curve["tpr"], reverse=True)
    assert curve["tpr"][0] == 1
