from __future__ import annotations

import math

import numpy as np
import pytest

from watermark.ops import parity
from watermark.ops._native import core
from watermark.ops.normal import pack_bits

RNG = np.random.default_rng(1)


def some_checks(n: int, base: int, degree: int, seed: int = 1) -> np.ndarray:
    """Checks of coordinates base..n-1, in a shuffled order of places."""
    rng = np.random.default_rng(seed)
    rows = [[*rng.choice(i, degree - 1, replace=False), i] for i in range(base, n)]
    return rng.permutation(n).astype(np.int32)[np.array(rows)]


def some_latents(rows: int, n: int, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((rows, n)).astype(np.float32)
    z[-1] *= np.float32(1e30)
    z[0, ::7] = -0.0
    return z


def tables() -> dict[str, np.ndarray]:
    bias = np.array([math.erf((m + 0.5) / 64 * 0.5) for m in range(parity.MAGNITUDES)])
    weights = np.round(-64 * np.log(bias)).astype(np.uint16)
    levels = np.minimum(63, 2 ** (np.linspace(6, 0, 8 * int(weights.max()) + 1))).astype(np.uint8)
    return {"weights": weights, "levels": levels, "odds": (2 * np.arctanh(bias)).astype(np.float32)}


@pytest.mark.parametrize("degree", [2, 3, 4, 7, 16])
@pytest.mark.parametrize("isa", core.instruction_sets())
def test_extending_a_code(degree, isa):
    checks = some_checks(500, 100, degree)
    planes = RNG.integers(0, 256, (3, 500), dtype=np.uint8)
    expected = planes.copy()
    core.extend_code(checks, planes, isa=isa)
    parity.extend_code_reference(checks, expected)
    assert np.array_equal(planes, expected)
    assert not np.bitwise_xor.reduce(planes[:, checks], axis=2).any()


@pytest.mark.parametrize(("rows", "count"), [(0, 40), (1, 1), (3, 31), (8, 32), (9, 33), (20, 500)])
@pytest.mark.parametrize("isa", core.instruction_sets())
def test_signs_of_code_words(rows, count, isa):
    bits = RNG.integers(0, 256, (-(-rows // 8), count + 1), dtype=np.uint8)
    flips = RNG.integers(0, 2**32, (rows, 7), np.uint32)
    flips[:, 1] = flips[:, 0]  # one that comes twice is undone
    flips[:, 2] = 2**32 - 1
    pad = RNG.integers(0, 2**32, -(-count // 32), np.uint32)
    signs = np.full((rows, pad.size), 77, np.uint32)
    core.code_signs(bits, flips, pad, count, signs, isa=isa)
    assert np.array_equal(signs, parity.code_signs_reference(bits, flips, pad, count))
    assert np.array_equal(signs, parity.code_signs(bits, flips, pad, count))


@pytest.mark.parametrize("degree", [2, 3, 6])
def test_layers_share_no_coordinate_and_keep_the_order_of_those_that_do(degree):
    n = 700
    checks = some_checks(n, 60, degree)
    members = parity.layers(checks, n)
    found = members.transpose(0, 2, 1).reshape(-1, degree)
    place = {tuple(check): i // parity.LANES for i, check in enumerate(found) if check[-1] < n}
    assert len(place) == len(checks)
    assert (found[[check[-1] == n for check in found]] == n).all()
    for layer in members:
        used = layer[layer < n]
        assert np.unique(used).size == used.size
    last = np.full(n, -1)
    for check in checks:
        layer = place[tuple(check)]
        assert (layer > last[check]).all()
        last[check] = layer


def test_layers_ignore_the_coordinate_that_stands_for_none():
    checks = np.array([[9, 0, 1], [9, 2, 3], [9, 9, 4]], np.int32)
    assert len(parity.layers(checks, 9)) == 1
    assert len(parity.layers(checks, 10)) == 3


@pytest.mark.parametrize("degree", [3, 4, 5])
@pytest.mark.parametrize("isa", core.instruction_sets())
def test_syndrome_against_numpy(degree, isa, set_threads):
    set_threads(2)
    checks, z = some_checks(1003, 200, degree), some_latents(4, 1003)
    pad, t = pack_bits(RNG.integers(0, 2, 1003, dtype=np.uint8)), tables()
    scales, counts = np.empty(4, np.float32), np.empty((4, 128), np.int32)
    core.syndrome(z, pad, checks, t["weights"], t["levels"], scales, counts, isa=isa)
    expected = parity.syndrome_reference(z, pad, checks, t["weights"], t["levels"])
    assert np.array_equal(scales, expected[0])
    assert np.array_equal(counts, expected[1])
    assert (counts.sum(axis=1) == len(checks)).all()


def test_syndrome_of_zeros_and_of_what_is_not_finite():
    checks, pad, t = some_checks(64, 10, 3), np.zeros(2, np.uint32), tables()
    z = np.zeros((4, 64), np.float32)
    z[1, 5], z[2, 5], z[3] = np.nan, np.inf, np.float32(1e-42)
    for function in (parity.syndrome, parity.syndrome_reference):
        scales, counts = function(z, pad, checks, t["weights"], t["levels"])
        assert scales[0] == 0
        assert np.isnan(scales[1:3]).all()
        assert scales[3] == np.float32(1e38)
        assert (counts.sum(axis=1) == len(checks)).all()


@pytest.mark.parametrize("degree", [3, 4, 6])
@pytest.mark.parametrize("isa", core.instruction_sets())
def test_beliefs_against_numpy(degree, isa, set_threads):
    set_threads(2)
    n = 800
    outer = parity.layers(some_checks(n, 780, 9, seed=5), n)
    inner = parity.layers(some_checks(n, 200, degree), n)
    z, pad, t = some_latents(3, n), pack_bits(RNG.integers(0, 2, n, dtype=np.uint8)), tables()
    scales = np.array([64, 40, 5e-29], np.float32)
    totals, unsatisfied = np.empty((3, n + 1), np.float32), np.zeros(3, np.int64)
    core.beliefs(z, pad, scales, t["odds"], outer, inner, 6, 3, totals, unsatisfied, isa=isa)
    expected = parity.beliefs_reference(z, pad, scales, t["odds"], outer, inner, 6, 3)
    assert np.array_equal(totals[:, :n], expected[0])
    assert np.array_equal(unsatisfied, expected[1])


def test_beliefs_are_posteriors_where_there_is_no_cycle():
    """Two checks on a tree of five coordinates, against the sum over all code words."""
    n, t = 5, tables()
    checks = np.array([[0, 1, 2], [2, 3, 4]], np.int32)
    z = np.array([[0.3, -1.2, 0.5, 0.1, 2.0]], np.float32)
    scales, none = np.float32([64]), np.empty((0, 3, 32), np.int32)
    totals, _ = parity.beliefs(z, np.zeros(1, np.uint32), scales, t["odds"], none, parity.layers(checks, n), 8, 8)
    words = np.array([[b >> i & 1 for i in range(n)] for b in range(2**n)])
    words = words[~np.bitwise_xor.reduce(words[:, checks], axis=2).any(axis=1)]
    prior = np.sign(z[0]) * t["odds"][(np.abs(z[0]) * 64).astype(int)]
    weight = np.exp((prior * (1 - 2 * words) / 2).sum(axis=1))
    expected = [math.log(weight[words[:, i] == 0].sum() / weight[words[:, i] == 1].sum()) for i in range(n)]
    assert totals[0] == pytest.approx(expected, abs=2e-5)


def counts_of(weights: list[int], plus: list[int], minus: list[int]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array(weights + [0] * (parity.LEVELS - len(weights)), np.int32)
    counts = np.zeros((1, 2 * parity.LEVELS), np.int32)
    counts[0, : len(plus)], counts[0, parity.LEVELS : parity.LEVELS + len(minus)] = plus, minus
    return counts, values


def exact_law(weights: list[int], count: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Points of the sum, and the probability of at least as much."""
    law = np.ones(1)
    for weight, n in zip(weights, count, strict=True):
        coins = np.zeros(2 * weight * n + 1)
        coins[:: 2 * weight] = [math.comb(n, k) / 2**n for k in range(n + 1)]
        law = np.convolve(law, coins)
    return np.arange(law.size) - law.size // 2, np.cumsum(law[::-1])[::-1]


@pytest.mark.parametrize(
    ("weights", "count"),
    [([52, 1096], [200, 5]), ([13, 820], [134, 3]), ([7, 640], [900, 9]), ([1, 300], [20, 200]), ([3, 100], [30, 9])],
)
def test_a_crowd_of_light_weights_does_not_fill_the_gaps_of_a_coarse_lattice(weights, count):
    points, exact = exact_law(weights, count)
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        for light in (0.4, 0.5, 0.6):
            plus = [round(count[0] * light), *(round(n * share) for n in count[1:])]
            minus = [n - p for n, p in zip(count, plus, strict=True)]
            total = sum(w * (p - m) for w, p, m in zip(weights, plus, minus, strict=True))
            for tail in (parity.rademacher_tail, parity.rademacher_tail_reference):
                _, log_p = tail(*counts_of(weights, plus, minus))
                true = exact[np.searchsorted(points, total)]
                assert true <= 1e-9 or true <= math.exp(log_p[0]) * 1.005, (share, light, true)


def exact_tail(weights: list[int], count: list[int], total: int) -> float:
    law = {0: 1.0}
    for weight, n in zip(weights, count, strict=True):
        for _ in range(n):
            law = {
                s: law.get(s - weight, 0) / 2 + law.get(s + weight, 0) / 2
                for s in {*law} | {s + d for s in law for d in (-weight, weight)}
            }
    return sum(p for s, p in law.items() if s >= total)


@pytest.mark.parametrize("tail", [parity.rademacher_tail, parity.rademacher_tail_reference])
@pytest.mark.parametrize(
    ("weights", "count"),
    [([1], [200]), ([6], [200]), ([2, 4], [90, 60]), ([1, 2, 5], [60, 60, 40]), ([1, 9], [150, 60])],
)
def test_tail_of_a_rademacher_sum_against_its_law(tail, weights, count):
    """Never below the truth; above it by a percent where that matters, by half of it at 1e-44 for equal weights."""
    for share in (0.35, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.95):
        plus = [round(n * share) for n in count]
        minus = [n - p for n, p in zip(count, plus, strict=True)]
        total = sum(w * (p - m) for w, p, m in zip(weights, plus, minus, strict=True))
        scores, log_p = tail(*counts_of(weights, plus, minus))
        exact = exact_tail(weights, count, total)
        assert exact <= math.exp(log_p[0]) * (1 + 1e-9)
        assert math.exp(log_p[0]) <= exact * (1.06 if exact > 0.5 else 1.012 if exact > 1e-3 else 1.5)
        variance = sum(w * w * n for w, n in zip(weights, count, strict=True))
        assert scores[0] == pytest.approx(total / math.sqrt(variance), abs=1e-12)


@pytest.mark.parametrize("tail", [parity.rademacher_tail, parity.rademacher_tail_reference])
def test_few_summands_get_a_bound(tail):
    for plus, minus in ([10], [0]), ([8], [2]), ([5], [5]), ([0], [10]):
        _, log_p = tail(*counts_of([3], plus, minus))
        exact = sum(math.comb(10, k) for k in range(plus[0], 11)) / 1024
        assert exact <= math.exp(log_p[0]) + 1e-12
        assert math.exp(log_p[0]) <= min(1, 8 * exact)


def test_tails_agree_with_numpy_far_out():
    rng = np.random.default_rng(3)
    values = np.arange(parity.LEVELS, dtype=np.int32) ** 2
    counts = np.stack(
        [
            np.concatenate([rng.poisson(q * 80, 64), rng.poisson((1 - q) * 80, 64)])
            for q in (0.0, 0.2, 0.45, 0.5, 0.51, 0.55, 0.6, 0.8, 0.95, 1.0)
        ]
    ).astype(np.int32)
    scores, log_p = parity.rademacher_tail(counts, values)
    expected = parity.rademacher_tail_reference(counts, values)
    assert scores == pytest.approx(expected[0], rel=1e-12)
    assert log_p == pytest.approx(expected[1], rel=1e-6, abs=1e-9)
    assert log_p[-1] >= -counts[-1].sum() * math.log(2)
    assert (np.diff(log_p) <= 0).all()


def test_an_empty_sum_says_nothing():
    counts, values = np.zeros((2, 128), np.int32), np.arange(64, dtype=np.int32)
    counts[1, 0] = 5  # level 0 weighs nothing
    scores, log_p = parity.rademacher_tail(counts, values)
    assert scores.tolist() == [0, 0]
    assert log_p.tolist() == [0, 0]


def test_bounds_are_checked():
    checks, z, pad, t = some_checks(64, 10, 3), np.zeros((1, 64), np.float32), np.zeros(2, np.uint32), tables()
    outside = checks.copy()
    outside[5, 1] = 64
    with pytest.raises(ValueError, match="coordinate"):
        parity.syndrome(z, pad, outside, t["weights"], t["levels"])
    with pytest.raises(ValueError, match="coordinate"):
        parity.extend_code(-checks, np.zeros((1, 64), np.uint8))
    with pytest.raises(ValueError, match="pad"):
        parity.syndrome(z, pad[:1], checks, t["weights"], t["levels"])
    with pytest.raises(ValueError, match="levels"):
        parity.syndrome(z, pad, checks, t["weights"], t["levels"][:20])
    with pytest.raises(ValueError, match="2 to 16"):
        parity.extend_code(np.zeros((1, 17), np.int32), np.zeros((1, 64), np.uint8))
    layers = parity.layers(checks, 64)
    with pytest.raises(ValueError, match="layers"):
        parity.beliefs(z, pad, np.float32([1]), t["odds"], layers[:, :, :8].copy(), layers, 1, 1)
