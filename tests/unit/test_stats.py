from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.stats import (
    log_angular_tail,
    log_binomial_tail,
    log_fisher,
    log_majority_tail,
    log_of_draws,
    log_rademacher_energy,
    log_rademacher_message,
    log_sidak,
    log_two_binomials_tail,
)

log_ps = st.floats(-5000, 0)


def decimal_sidak(log_p: float, count: int) -> float:
    with localcontext() as context:
        context.prec = 60
        p = Decimal(log_p).exp()
        if p < Decimal("1e-25"):  # beyond the digits of 1 - p: the second-order series is exact to 1e-40
            return float((count * p * (1 - (count - 1) * p / 2)).ln())
        return float((1 - (1 - p) ** count).ln())


def decimal_fisher(log_ps: list[float]) -> float:
    with localcontext() as context:
        context.prec = 60
        x = -sum(map(Decimal, log_ps))
        total = Decimal(1) + sum(x**i / math.factorial(i) for i in range(1, len(log_ps)))
        return float(-x + total.ln())


@pytest.mark.parametrize("count", [1, 2, 3, 17, 1000])
@pytest.mark.parametrize("p", [0.9999, 0.5, 0.1, 1e-3, 1e-6, 1.1e-9, 0.9e-9, 1e-12, 1e-30, 1e-300])
def test_sidak_against_60_digits(p, count):
    log_p = math.log(p)
    assert log_sidak(log_p, count) == pytest.approx(decimal_sidak(log_p, count), rel=1e-6, abs=1e-15)


def test_sidak_at_the_ends():
    assert log_sidak(0.0, 5) == 0.0
    assert log_sidak(-math.inf, 5) == -math.inf
    assert log_sidak(-3000.0, 5) == pytest.approx(-3000 + math.log(5))


@given(log_ps, st.integers(1, 10_000))
def test_sidak_lies_between_one_p_and_bonferroni(log_p, count):
    paid = log_sidak(log_p, count)
    assert log_p - 1e-12 <= paid <= min(0.0, log_p + math.log(count)) + 1e-12


@given(st.lists(st.floats(-700, 0), min_size=1, max_size=30))
def test_fisher_against_60_digits(log_ps):
    assert log_fisher(log_ps) == pytest.approx(decimal_fisher(log_ps), rel=1e-9, abs=1e-9)


def test_fisher_at_the_ends():
    assert log_fisher([-5.0]) == pytest.approx(-5.0)
    assert log_fisher([0.0, 0.0]) == 0.0
    assert log_fisher([-3.0, -math.inf]) == -math.inf
    assert log_fisher([-4000.0] * 3) == pytest.approx(-12000 + math.log(1 + 12000 + 12000**2 / 2))


def majority_tail_by_enumeration(count: int, symbols: int) -> list[Fraction]:
    """P(S >= s) for s = 0..count from all 2^count outcomes of the signs."""
    ways = [0] * (count + 1)
    for signs in itertools.product((0, 1), repeat=count):
        votes = [signs[g::symbols] for g in range(symbols)]
        ways[sum(max(sum(v), len(v) - sum(v)) for v in votes)] += 1
    return [Fraction(sum(ways[s:]), 2**count) for s in range(count + 1)]


@pytest.mark.parametrize(
    ("count", "symbols"), [(1, 1), (2, 1), (5, 1), (6, 2), (7, 3), (9, 4), (10, 10), (11, 3), (12, 5), (13, 2)]
)
def test_majority_tail_against_all_outcomes(count, symbols):
    expected = majority_tail_by_enumeration(count, symbols)
    found = np.exp(log_majority_tail(count, symbols))
    assert found.shape == (count + 1,)
    assert found == pytest.approx([float(p) for p in expected], rel=1e-12)


@pytest.mark.parametrize(("count", "symbols"), [(1000, 37), (16384, 273), (4096, 512)])
def test_majority_tail_against_simulation(count, symbols):
    rng = np.random.default_rng(5)
    trials = 20_000
    repeats = np.array([len(range(g, count, symbols)) for g in range(symbols)])
    ones = rng.binomial(repeats, 0.5, (trials, symbols))
    agreement = np.maximum(ones, repeats - ones).sum(axis=1)
    p = np.exp(log_majority_tail(count, symbols)[agreement])
    for alpha in (0.5, 0.1, 0.01, 0.001):
        # The law is discrete: the rate is that of the largest attainable level below alpha.
        attained = np.exp(log_majority_tail(count, symbols))
        level = attained[attained <= alpha].max()
        assert abs((p <= alpha).mean() - level) <= 3.3 * math.sqrt(level / trials) + 1 / trials
        assert level > 0.8 * alpha


@pytest.mark.parametrize(("count", "symbols"), [(16384, 273), (40_000, 1)])
def test_the_far_tail_is_finite_decreasing_and_no_underestimate(count, symbols):
    tail = log_majority_tail(count, symbols)
    assert np.isfinite(tail).all()
    assert (np.diff(tail) <= 1e-12).all()
    # The last value is known in closed form: every symbol unanimous.
    exact = symbols * math.log(2) - count * math.log(2)
    assert exact - 1e-9 * abs(exact) <= tail[-1] <= exact + 1e-3 * abs(exact)
    assert tail[0] == 0.0


def test_the_bound_takes_over_without_falling_below_the_exact_law():
    """Where 1e-280 ends the exact branch, integer arithmetic knows the truth: one symbol, B ~ Bin(3000, 1/2)."""
    count = 3000
    tail = log_majority_tail(count, 1)
    ways = 0
    for s in range(count, 2600, -1):
        ways += 2 * math.comb(count, s)
        exact = math.log(ways) - count * math.log(2)
        assert tail[s] >= exact - 1e-9
        assert tail[s] <= exact + 0.02 * abs(exact)


def test_the_table_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        log_majority_tail(100, 10)[0] = -1


def energies(weights: np.ndarray) -> np.ndarray:
    """All values of sum t_j^2, where t_j = sum_i s_ij w_i with unit w and all signs (rows: j)."""
    signs = np.array(list(itertools.product((-1, 1), repeat=weights.shape[1])))
    squares = [(signs @ (w / np.linalg.norm(w))) ** 2 for w in weights]
    return np.add.outer(squares[0], squares[1]).ravel() if len(squares) == 2 else squares[0]


@pytest.mark.parametrize("weights", [[[1, 1, 1, 1, 1]], [[1, 2, 4, 8, 16, 3]], [[1, 1, 1, 1, 1], [5, 1, 1, 1, 1]]])
def test_energy_bound_holds_for_all_signs(weights):
    values = energies(np.array(weights, float))
    for energy in np.unique(values):
        truth = (values >= energy - 1e-12).mean()
        assert log_rademacher_energy(energy, len(weights)) >= math.log(truth)


def test_energy_bound_in_closed_form():
    assert log_rademacher_energy(20.0, 20) == 0.0
    assert log_rademacher_energy(0.0, 20) == 0.0
    assert log_rademacher_energy(100.0, 20) == pytest.approx(10 * math.log(5) - 40)
    assert log_rademacher_energy(1e6, 10) < -4e5


def test_message_bound_holds_for_all_signs():
    """The best of 4 orthogonal patterns on 8 equal weights."""
    signs = np.array(list(itertools.product((-1, 1), repeat=8)))
    patterns = np.array([[(-1) ** bin(i & row).count("1") for i in range(8)] for row in range(4)])
    best = (signs @ patterns.T / math.sqrt(8)).max(axis=1)
    for z in np.unique(best[best > 0]):
        assert log_rademacher_message(z**2 / 2, math.log(4)) >= math.log((best >= z - 1e-12).mean())
    assert log_rademacher_message(0.0, math.log(4)) == 0.0
    assert log_rademacher_message(100.0, math.log(4)) == pytest.approx(math.log(4) - 100)


@pytest.mark.parametrize(("trials", "rate"), [(1, 0.5), (7, 0.3), (100, 0.0097), (400, 0.062), (300, 0.9)])
def test_binomial_tail_against_exact_sums(trials, rate):
    q = Fraction(rate)
    terms = [math.comb(trials, k) * q**k * (1 - q) ** (trials - k) for k in range(trials + 1)]
    tail = list(itertools.accumulate(reversed(terms)))[::-1]
    for k in {0, 1, trials // 3, trials // 2, trials - 1, trials}:
        with localcontext() as context:
            context.prec = 50
            exact = float((Decimal(tail[k].numerator) / Decimal(tail[k].denominator)).ln()) if k else 0.0
        assert log_binomial_tail(k, trials, rate) == pytest.approx(exact, rel=1e-9, abs=1e-12), k


@pytest.mark.parametrize("cosine", [-1.0, -0.999, -0.3, 0.0, 1e-9, 0.01, 0.5, 0.9, 0.9999, 1 - 1e-12])
def test_angular_tail_against_closed_forms(cosine):
    angle = math.acos(cosine)
    forms = {2: angle / math.pi, 3: (1 - cosine) / 2, 4: (angle - cosine * math.sin(angle)) / math.pi}
    for dimension, p in forms.items():
        assert math.exp(log_angular_tail(cosine, dimension)) == pytest.approx(p, rel=1e-3 if p < 1e-9 else 1e-7)


def test_angular_tail_is_normal_in_many_dimensions():
    for z in (-2.0, 0.5, 3.0, 6.0):
        normal = math.log(math.erfc(z / math.sqrt(2)) / 2)
        assert log_angular_tail(z / 1e4, 10**8) == pytest.approx(normal, rel=1e-4)
    assert log_angular_tail(0.9, 16_384) < -13_000
    assert log_angular_tail(1.0, 16) == -math.inf


@pytest.mark.parametrize("trials", [(0, 0), (0, 9), (7, 0), (7, 9), (30, 1)])
def test_the_sum_of_two_binomials(trials):
    rates = (0.625, 0.875)
    law = np.ones(1)
    for n, rate in zip(trials, rates, strict=True):
        law = np.convolve(law, [math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)])
    for count in range(-1, sum(trials) + 1):
        expected = math.log(law[max(count, 0) :].sum())
        assert log_two_binomials_tail(count, trials, rates) == pytest.approx(expected, abs=1e-9)
    assert log_two_binomials_tail(sum(trials) + 1, (7, 9), rates) <= 0
    assert log_two_binomials_tail(17, (7, 9), rates) == -math.inf


def test_random_draws_stop_early():
    hits = np.zeros(200, bool)
    hits[[0, 3, 19, 40, 41, 120, 150]] = True
    asked: list[int] = []

    def reached(numbers: range) -> np.ndarray:
        asked.extend(numbers)
        return hits[numbers.start : numbers.stop]

    assert log_of_draws(reached, 200, 5) == (math.log(5 / 42), 42)
    assert asked == list(range(64))
    assert log_of_draws(reached, 200, 7) == (math.log(7 / 151), 151)
    assert log_of_draws(reached, 200, 8) == (math.log(8 / 201), 200)
    assert log_of_draws(reached, 41, 4) == (math.log(4 / 41), 41)
    assert log_of_draws(reached, 40, 4) == (math.log(4 / 41), 40)


def test_p_values_of_random_draws_are_valid():
    """Uniform statistics against uniform draws: 20,000 tests, 99.9 % limits."""
    rng = np.random.default_rng(1)
    hits = rng.random((20_000, 99)) >= rng.random((20_000, 1))
    p = [math.exp(log_of_draws(lambda numbers, row=row: row[numbers.start : numbers.stop], 99)[0]) for row in hits]
    for alpha, low, high in ((0.5, 9782, 10218), (0.1, 1870, 2131), (0.02, 341, 463)):
        assert low <= (np.array(p) <= alpha + 1e-12).sum() <= high
